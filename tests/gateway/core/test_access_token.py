"""Access tokens: what is signed is read again, by the profile of RFC 9068."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access_token import (
    MAX_TOKEN_LENGTH,
    Claims,
    check_library,
    key_id,
    looks_like,
    private_key,
    public_jwk,
    public_key,
    sign,
    verify,
)
from gateway.core.clock import CLOCK_SKEW_MS
from gateway.errors import AuthFailed, ConfigError
from tests.support.forged_token import AUDIENCE, ISSUER, NOW, PAYLOAD, forged

KEY = private_key(b"\x01" * 32)
KID = key_id(KEY)
KEYS = {KID: public_key(json.dumps(public_jwk(KEY)))}
CLAIMS = Claims("u_ada", "s_1", NOW + 900_000, NOW, "at_1", "gateway", KID)
TOKEN = sign(CLAIMS, KEY, issuer=ISSUER, audience=AUDIENCE)


def read(token: str, now: int = NOW) -> Claims:
    return verify(token, KEYS, issuer=ISSUER, audience=AUDIENCE, now_ms=now)


def part(token: str, number: int) -> Any:
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_a_token_has_the_form_of_rfc_9068() -> None:
    assert part(TOKEN, 0) == {"alg": "EdDSA", "typ": "at+jwt", "kid": KID}
    assert part(TOKEN, 1) == PAYLOAD
    assert PAYLOAD.keys() == {"iss", "aud", "sub", "iat", "exp", "jti", "client_id", "sid"}
    assert looks_like(TOKEN)
    assert read(TOKEN) == CLAIMS


def test_a_token_is_signed_as_rfc_8037_says() -> None:
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = private_key(seed)
    assert key.as_dict(private=False)["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key.thumbprint() == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert key_id(key) == "k_kPrK_qmxVWaYVA9wwBF6Iu"


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
moments = st.integers(0, 253_402_300_799).map(lambda seconds: seconds * 1000)


@given(texts, texts, texts, texts, moments, moments)
def test_what_is_signed_is_read_again(
    user: str, session: str, id: str, client: str, issued_at: int, expires_at: int
) -> None:
    claims = Claims(user, session, expires_at, issued_at, id, client, KID)
    token = sign(claims, KEY, issuer=ISSUER, audience=AUDIENCE)
    if issued_at < expires_at:
        assert read(token, issued_at) == claims
    assert looks_like(token)
    with pytest.raises(AuthFailed):
        read(token, expires_at)


def test_it_ends_to_the_millisecond() -> None:
    assert read(TOKEN, CLAIMS.expires_at - 1) == CLAIMS
    with pytest.raises(AuthFailed):
        read(TOKEN, CLAIMS.expires_at)


def test_a_neighbour_may_be_a_minute_ahead_and_no_more() -> None:
    assert read(TOKEN, NOW - CLOCK_SKEW_MS) == CLAIMS
    with pytest.raises(AuthFailed):
        read(TOKEN, NOW - CLOCK_SKEW_MS - 1)


def test_a_token_that_nobody_would_read_is_not_signed() -> None:
    with pytest.raises(ValueError, match="at most 4096 characters"):
        sign(CLAIMS._replace(user="u" * MAX_TOKEN_LENGTH), KEY, issuer=ISSUER, audience=AUDIENCE)


def test_claims_of_a_later_version_are_ignored() -> None:
    assert read(forged(KEY, scope="users.read", weight=0.5)) == CLAIMS


@pytest.mark.parametrize(
    "jwk",
    [
        "",
        "[]",
        "{}",
        "not JSON",
        '{"kty":"OKP","crv":"Ed25519"}',
        '{"kty":"OKP","crv":"Ed25519","x":1}',
        '{"kty":"OKP","crv":"Ed25519","x":"AAAA"}',
        '{"kty":"OKP","crv":"Ed25519","x":null}',
        '{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',
        '{"kty":"oct","k":"c2VjcmV0"}',
        '{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',
        "[" * 100_000,
    ],
)
def test_only_an_ed25519_key_is_a_key(jwk: str) -> None:
    with pytest.raises(ValueError, match="no public Ed25519 key"):
        public_key(jwk)


def test_a_published_key_has_no_private_part() -> None:
    assert public_jwk(KEY) == public_jwk(KEYS[KID])
    assert public_jwk(KEY).keys() == {"kty", "crv", "x", "kid", "use", "alg"}
    assert not public_key(json.dumps(KEY.as_dict(private=True))).is_private


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_is_made_of_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32"):
        private_key(bytes(length))


@pytest.mark.parametrize("version", ["1.8.0", "1.8", "1.10.2", "2.0.0rc1"])
def test_a_sound_library_is_accepted(version: str) -> None:
    check_library(version)


@pytest.mark.parametrize("version", ["1.7.9", "0.9", "1.0.0", "unknown"])
def test_a_library_with_known_holes_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=f"^joserfc {version} is installed, and access tokens need 1.8 or newer"):
        check_library(version)
