"""API tokens and refresh tokens."""

from __future__ import annotations

import hashlib
import hmac
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens import (
    MAX_LENGTH,
    hash_token,
    is_api_token,
    is_refresh_token,
    new_api_token,
    new_refresh_token,
    refresh_successor,
)

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
entropies = st.binary(min_size=32, max_size=32)


def number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 62 + BASE62.index(digit)
    return value


@given(entropies)
def test_a_token_carries_its_entropy_and_its_checksum(entropy: bytes) -> None:
    token = new_api_token(entropy)
    assert is_api_token(token)
    assert len(token) == 52
    assert token[:3] == "gw_"
    assert number(token[3:46]).to_bytes(32, "big") == entropy
    assert number(token[46:]) == zlib.crc32(token[3:46].encode())


@given(entropies, st.integers(3, 51), st.sampled_from(BASE62))
def test_every_single_wrong_character_is_noticed(entropy: bytes, place: int, character: str) -> None:
    token = new_api_token(entropy)
    typo = token[:place] + character + token[place + 1 :]
    assert is_api_token(typo) == (typo == token)


@given(entropies, st.integers(3, 50))
def test_two_exchanged_characters_are_noticed(entropy: bytes, place: int) -> None:
    token = new_api_token(entropy)
    typo = token[:place] + token[place + 1] + token[place] + token[place + 2 :]
    assert is_api_token(typo) == (typo == token)


TOKEN = new_api_token(bytes(range(32)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gw_",
        TOKEN[3:],
        TOKEN[:-1],
        TOKEN + "0",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN.replace("gw_", "GW_"),
        TOKEN.replace("gw_", "gw-"),
        TOKEN[:10] + "é" + TOKEN[11:],
        TOKEN[:10] + "\ud800" + TOKEN[11:],
        TOKEN[:10] + "_" + TOKEN[11:],
        TOKEN[:10] + "٣" + TOKEN[11:],
        "gw_" + "0" * 49,
        TOKEN * 3,
        "gw_" + "a" * 1_000_000,
    ],
)
def test_anything_else_is_no_token(text: str) -> None:
    assert not is_api_token(text)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_token_is_made_of_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        new_api_token(bytes(length))


def test_the_hash_is_sha_256() -> None:
    assert hash_token(TOKEN) == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert hash_token("a" * MAX_LENGTH) == hashlib.sha256(b"a" * 128).hexdigest()


@pytest.mark.parametrize("text", ["a" * (MAX_LENGTH + 1), "a" * 1_000_000, "\ud800"])
def test_what_can_be_no_token_is_not_hashed(text: str) -> None:
    with pytest.raises(ValueError, match=r"128 characters|surrogates"):
        hash_token(text)


# --- refresh tokens ---------------------------------------------------------------------------------------------------


@given(entropies, st.integers(3, 51), st.sampled_from(BASE62))
def test_a_refresh_token_has_the_same_form_and_is_no_api_token(entropy: bytes, place: int, character: str) -> None:
    token = new_refresh_token(entropy)
    assert token[3:] == new_api_token(entropy)[3:]
    assert is_refresh_token(token)
    assert not is_api_token(token)
    assert not is_refresh_token(new_api_token(entropy))
    typo = token[:place] + character + token[place + 1 :]
    assert is_refresh_token(typo) == (typo == token)


@given(entropies, entropies, entropies)
def test_a_successor_needs_both_the_token_and_the_salt(entropy: bytes, salt: bytes, other: bytes) -> None:
    token = new_refresh_token(entropy)
    successor = refresh_successor(salt, token)
    assert is_refresh_token(successor)
    assert successor == refresh_successor(salt, token) == new_refresh_token(hmac.digest(salt, token.encode(), "sha256"))
    assert (refresh_successor(other, token) == successor) == (other == salt)
    assert (refresh_successor(salt, new_refresh_token(other)) == successor) == (other == entropy)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_salt_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        refresh_successor(bytes(length), new_refresh_token(bytes(32)))


@pytest.mark.parametrize("text", ["", "gr_", "gr_" + "a" * 1_000_000, "gx_" + TOKEN[3:], "gr_" + TOKEN[3:] + "\n"])
def test_anything_else_is_no_refresh_token(text: str) -> None:
    assert not is_refresh_token(text)
