"""What the SDK signs, as another implementation of RFC 9421 sees it."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from http_message_signatures import HTTPMessageVerifier, InvalidSignature, MappingKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signatures import authority, content_digest, nonce_of, sign

SECRET = bytes(range(32))
NOW = 1_780_000_000


def signed(method: str, url: str, body: bytes = b"", authorization: str | None = None) -> Any:
    fields = sign(
        method,
        url,
        kid="ik_1",
        secret=SECRET,
        created=NOW,
        nonce=nonce_of(bytes(16)),
        authorization=authorization,
        body=body,
    )
    if authorization is not None:
        fields["Authorization"] = authorization
    return SimpleNamespace(method=method, url=url, headers=fields, body=body)


def verify(request: Any) -> Any:
    keys = MappingKeyResolver(public_keys={"ik_1": SECRET}, private_keys={})
    verifier = HTTPMessageVerifier(signature_algorithm=HMAC_SHA256, key_resolver=keys)
    age = timedelta(days=36500)
    [result] = verifier.verify(request, max_age=age, expect_tag="gateway")
    return result


PATHS = st.from_regex(r"\A(/([A-Za-z0-9._~:@!$&'()*+,;=-]|%[0-9A-F]{2}){0,8}){1,4}\Z")
QUERIES = st.one_of(st.just(""), st.from_regex(r"\A\?([A-Za-z0-9._~:@/?=&+-]|%[0-9A-F]{2}){1,30}\Z"))
TOKENS = st.one_of(st.none(), st.from_regex(r"\ABearer [!-~]{1,60}\Z"))


@given(st.sampled_from(["GET", "POST", "DELETE"]), PATHS, QUERIES, st.binary(max_size=40), TOKENS)
def test_another_implementation_verifies_what_is_signed(
    method: str, path: str, query: str, body: bytes, token: str | None
) -> None:
    request = signed(method, f"https://Gateway.example.org:443{path}{query}", body, token)
    covered = [str(component) for component in verify(request).covered_components]
    expected = ['"@method"', '"@authority"', '"@path"', '"@query"']
    expected += ['"content-digest"'] if body else []
    expected += ['"authorization"'] if token is not None else []
    assert covered == [*expected, '"@signature-params"']
    if body:
        assert request.headers["Content-Digest"] == content_digest(body)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "POST"},
        {"url": "https://gateway.example.org/auth/validate?x=1"},
        {"url": "https://gateway.example.org/auth/Validate"},
        {"url": "https://another.example.org/auth/validate"},
    ],
)
def test_a_changed_request_is_another(changes: dict[str, Any]) -> None:
    request = signed("GET", "https://gateway.example.org/auth/validate", b"", "Bearer a")
    vars(request).update(changes)
    with pytest.raises(InvalidSignature):
        verify(request)


def test_another_token_under_the_same_signature_is_refused() -> None:
    request = signed("GET", "https://gateway.example.org/auth/validate", b"", "Bearer a")
    request.headers["Authorization"] = "Bearer b"
    with pytest.raises(InvalidSignature):
        verify(request)


def test_the_authority_is_written_as_the_gateway_sees_it() -> None:
    assert authority("https://Gateway.Example.ORG:443/x") == "gateway.example.org"
    assert authority("wss://gateway.example.org:443/ws") == "gateway.example.org"
    assert authority("http://gateway.example.org:443/") == "gateway.example.org:443"
    assert authority("ws://[::1]:8787/ws") == "[::1]:8787"


def test_the_parameters_are_those_of_the_profile() -> None:
    fields = signed("GET", "http://h/p").headers
    assert fields["Signature-Input"] == (
        'gateway=("@method" "@authority" "@path" "@query");created=1780000000;keyid="ik_1";'
        'nonce="AAAAAAAAAAAAAAAAAAAAAA";alg="hmac-sha256";tag="gateway"'
    )
    assert "Content-Digest" not in fields


def test_a_digest_is_that_of_the_body() -> None:
    assert content_digest(b"{}") == f"sha-256=:{base64.b64encode(hashlib.sha256(b'{}').digest()).decode()}:"


@pytest.mark.parametrize("kid", ["", 'a"b', "a\\b", "a\nb", "é"])
def test_a_key_id_that_would_break_the_field_is_refused(kid: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        sign("GET", "http://h/", kid=kid, secret=SECRET, created=NOW, nonce="n" * 16)
