from __future__ import annotations

import base64
import datetime
import time
from collections.abc import Mapping
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from http_message_signatures import (  # type: ignore[import-untyped]
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.signatures import (
    AGE_MS,
    SKEW_MS,
    Message,
    SignatureRefused,
    read_signature,
)
from tests.support.signing import Key, content_digest, new_nonce, sign

SECRET = bytes(range(32))
KEY = Key("k_test", base64.urlsafe_b64encode(SECRET).decode().rstrip("="))
URL = "http://gateway.example.org/auth/validate?a=1&b=%20"


def message(method: str, url: str, headers: Mapping[str, str]) -> Message:
    parts = urlsplit(url)
    fields = {name.lower(): [value] for name, value in headers.items()}
    return Message(method, parts.netloc, parts.path or "/", f"?{parts.query}", lambda name: fields.get(name, []))


class Keys(HTTPSignatureKeyResolver):  # type: ignore[misc]
    def resolve_private_key(self, key_id: str) -> bytes:
        return SECRET

    def resolve_public_key(self, key_id: str) -> bytes:
        return SECRET


@pytest.mark.parametrize(
    "url", [URL, "http://gateway.example.org/", "http://gateway.example.org/a%2Fb//c?", URL + "&é=1"]
)
@pytest.mark.parametrize("body", [b"", b'{"amount": 1}'])
def test_another_implementation_signs(url: str, body: bytes) -> None:
    url = url.replace("é", "%C3%A9")
    request = SimpleNamespace(method="POST", url=url, headers={"Authorization": "Bearer gw_x"})
    covered = ["@method", "@authority", "@path", "@query", "authorization"]
    signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Keys())
    signer.sign(
        request,
        key_id=KEY.kid,
        covered_component_ids=covered,
        created=datetime.datetime.now(datetime.UTC),
        nonce=new_nonce(),
        tag="gateway",
        label="sig-1",
        include_alg=True,
        **({"body": body} if body else {}),
    )
    found = read_signature(message("POST", url, request.headers))
    assert found.keyid == KEY.kid
    assert found.made_by(SECRET)
    assert not found.made_by(bytes(32))
    assert found.is_timely(time.time_ns() // 1_000_000)
    assert (found.digest is not None) is bool(body)
    assert found.digest is None or (found.digest.matches(body) and not found.digest.matches(body + b" "))


def test_another_implementation_verifies_what_the_tests_sign() -> None:
    """So that the attacks are on signatures that would be good."""
    request = SimpleNamespace(method="GET", url=URL, headers=sign(KEY, "GET", URL))
    [result] = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Keys()).verify(
        request, expect_tag="gateway", max_age=datetime.timedelta(seconds=60)
    )
    assert set(result.covered_components) == {'"@method"', '"@authority"', '"@path"', '"@query"', '"@signature-params"'}
    assert read_signature(message("GET", URL, request.headers)).made_by(SECRET)


@pytest.mark.parametrize("size", ["sha-256", "sha-512"])
def test_digests(size: str) -> None:
    headers = sign(KEY, "POST", URL, headers={"content-digest": content_digest(b"x", size)})
    digest = read_signature(message("POST", URL, headers)).digest
    assert digest is not None
    assert digest.matches(b"x")
    assert not digest.matches(b"y")


def test_moments() -> None:
    created = 1_795_288_200
    signature = read_signature(message("GET", URL, sign(KEY, "GET", URL, created=created)))
    for offset, good in ((0, 1), (AGE_MS, 1), (AGE_MS + 1, 0), (-SKEW_MS, 1), (-SKEW_MS - 1, 0)):
        assert signature.is_timely(created * 1000 + offset) is bool(good)
    ending = read_signature(message("GET", URL, sign(KEY, "GET", URL, created=created, expires=created + 5)))
    assert ending.is_timely(created * 1000 + 4_999)
    assert not ending.is_timely(created * 1000 + 5_000)


def test_every_form_but_the_one_that_is_serialized_is_refused() -> None:
    good = sign(KEY, "GET", URL)
    assert read_signature(message("GET", URL, good))
    written = good["signature-input"]
    variants = [
        written.replace(";", "; ", 1),
        written.replace('"@method" ', '"@method"  '),
        written.replace("(", "( "),
        written + ";x",
        written + ";created=1",
        written.replace('"@query"', '"@query";req'),
        written.replace("gw=", "GW="),
        written.replace("gw=", ""),
        written + ", ",
        "x;y=1, " + written,
        written.replace("(", "").replace(")", ""),
        "",
    ]
    for variant in variants:
        with pytest.raises(SignatureRefused):
            read_signature(message("GET", URL, good | {"signature-input": variant}))
    value = good["signature"]
    for variant in (value + ", a=:AAAA:", value.replace("=:", "="), value[:-3] + ":", value.replace("gw", "sig"), ""):
        with pytest.raises(SignatureRefused):
            read_signature(message("GET", URL, good | {"signature": variant}))
    with pytest.raises(SignatureRefused):
        read_signature(message("GET", "http://gateway.example.org/ü", good))


TEXTS = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=300)


@given(TEXTS, TEXTS, TEXTS)
def test_whatever_comes_is_refused_or_read(given_input: str, value: str, digest: str) -> None:
    found = message("GET", URL, {"signature-input": given_input, "signature": value, "content-digest": digest})
    with pytest.raises(SignatureRefused):
        read_signature(found)


@given(st.data())
def test_one_changed_character_is_noticed(data: st.DataObject) -> None:
    """Of whatever is signed: the headers, the path, the query."""
    fixed = {"created": 1_795_288_200, "nonce": "n" * 32}
    headers = sign(KEY, "GET", URL, headers={"authorization": "Bearer gw_x"}, **fixed)
    name = data.draw(st.sampled_from([*headers, "url"]))
    text = URL if name == "url" else headers[name]
    place = data.draw(st.integers(len("http://") if name == "url" else 0, len(text) - 1))
    other = data.draw(st.sampled_from([c for c in 'abcXYZ019-_=:;"()' if c != text[place]]))
    changed = text[:place] + other + text[place + 1 :]
    url = changed if name == "url" else URL
    shown = headers if name == "url" else headers | {name: changed}
    try:
        signature = read_signature(message("GET", url, shown))
    except (SignatureRefused, ValueError):
        return
    assert not signature.made_by(SECRET)
