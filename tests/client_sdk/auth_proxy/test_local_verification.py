"""Tokens that are none: verified without asking anybody, so nothing may slip through."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client_sdk.auth_proxy.access_token import (
    BadToken,
    Claims,
    is_access_token,
    is_api_token,
    key_id,
    read_keys,
    verify,
)
from gateway.core.tokens import new_api_token
from tests.client_sdk.support.tokens import AUDIENCE, ISSUER, KEY, KID, access_token, api_token, jwks, segment

NOW_S = 1_780_000_000
END_S = NOW_S + 600


def check(token: str, now_ms: int = NOW_S * 1000) -> Claims:
    if not is_access_token(token):
        raise BadToken("form")
    kid = key_id(token)
    key = read_keys(jwks()).get(kid)
    if key is None:
        raise BadToken("key")
    return verify(token, kid, key, issuer=ISSUER, audience=AUDIENCE, now_ms=now_ms)


def test_a_good_one_is_read() -> None:
    assert check(access_token("u_ada", "s_1", END_S)) == Claims("u_ada", "s_1", END_S * 1000, KID)


def test_it_ends_to_the_millisecond() -> None:
    token = access_token("u_ada", "s_1", END_S)
    check(token, END_S * 1000 - 1)
    with pytest.raises(BadToken) as bad:
        check(token, END_S * 1000)
    assert bad.value.expired


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://elsewhere"},
        {"iat": END_S - 86_401},
        {"iss": ...},
        {"aud": "other"},
        {"aud": [AUDIENCE]},
        {"aud": ...},
        {"exp": ...},
        {"exp": float(END_S)},
        {"exp": str(END_S)},
        {"exp": True},
        {"exp": -1},
        {"exp": 10**30},
        {"iat": ...},
        {"iat": NOW_S + 61},
        {"sub": ...},
        {"sub": ""},
        {"sub": 7},
        {"sid": ...},
        {"sid": None},
        {"jti": ...},
        {"client_id": ...},
    ],
)
def test_every_claim_is_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(BadToken) as bad:
        check(access_token("u_ada", "s_1", END_S, **changes))
    assert not bad.value.expired


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "Ed25519"},
        {"typ": "JWT"},
        {"typ": "rt+jwt"},
        {"kid": "k_other"},
        {"kid": "../k_first"},
        {"kid": ["k_first"]},
        {"kid": None},
        {"jku": "http://elsewhere/keys"},
        {"jwk": jwks()[KID]},
        {"x5u": "http://elsewhere"},
        {"crit": ["exp"]},
        {"b64": False},
    ],
)
def test_every_member_of_the_header_is_checked(header: dict[str, Any]) -> None:
    with pytest.raises(BadToken):
        check(access_token("u_ada", "s_1", END_S, header=header))


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    head, payload, _ = access_token("u_ada", "s_1", END_S, header={"alg": "HS256"}).split(".")
    mac = hmac.digest(KEY.public_key().public_bytes_raw(), f"{head}.{payload}".encode(), hashlib.sha512)
    with pytest.raises(BadToken):
        check(f"{head}.{payload}.{segment(mac)}")


def test_another_key_under_the_same_id_signs_nothing() -> None:
    with pytest.raises(BadToken):
        check(access_token("u_ada", "s_1", END_S, key=Ed25519PrivateKey.generate()))


def test_one_spelling_alone_is_read() -> None:
    head, payload, signature = access_token("u_ada", "s_1", END_S).split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = signature[:-1] + last[last.index(signature[-1]) ^ 1]
    for token in (f"{head}.{payload}.{signature}=", f" {head}.{payload}.{signature}", f"{head}.{payload}..{signature}"):
        with pytest.raises(BadToken):
            check(token)
    # Another spelling of the same signature is the same token to nobody but a verifier: revocation goes by `sid`.
    with contextlib.suppress(BadToken):
        assert check(f"{head}.{payload}.{other}").session == "s_1"


def test_a_name_that_occurs_twice_is_refused() -> None:
    names = b'"sub":"u_ada","sub":"u_root","jti":"a","client_id":"g","sid":"s"'
    body = b'{"iss":"%b","aud":"gateway","iat":%d,"exp":%d,' + names + b"}"
    head = segment(msgspec.json.encode({"alg": "EdDSA", "typ": "at+jwt", "kid": KID}))
    text = f"{head}.{segment(body % (ISSUER.encode(), NOW_S, END_S))}"
    with pytest.raises(BadToken):
        check(f"{text}.{segment(KEY.sign(text.encode()))}")


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "eyJ." * 3, "x" * 1_000_000, "eyJ" + "\ud800" * 50])
def test_what_is_no_token_at_all(text: str) -> None:
    with pytest.raises(BadToken):
        check(text)


def test_keys_that_are_none_are_left_out() -> None:
    good = jwks()[KID]
    document = {
        "rsa": {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        "short": {**good, "x": "AAAA"},
        "none": {},
        "text": "key",
        "x448": {**good, "crv": "X448"},
        KID: good,
    }
    assert list(read_keys(document)) == [KID]


def test_api_tokens_are_told_by_their_checksum() -> None:
    assert is_api_token(new_api_token(bytes(range(32))))
    assert api_token(bytes(range(32))) == new_api_token(bytes(range(32)))
    token = api_token()
    for position in range(3, len(token)):
        assert not is_api_token(token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :])
    for text in (token + "A", token[:-1], token.replace("gw_", "gr_"), "", "gw_"):
        assert not is_api_token(text)
