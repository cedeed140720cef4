"""API tokens and refresh tokens: ``gw_`` or ``gr_``, 43 characters of secret, 6 of checksum.

The prefix and the checksum let a secret scanner know a leaked token for certain and let the gateway refuse a mistyped
one without a look-up. Only the hash of a token is stored. A plain SHA-256 is enough: the secret has 256 random bits, so
there is nothing to guess that a slow hash would protect. Nor is a comparison in constant time needed: a token is found
by the hash in an index, and what the time of that look-up tells is about the hash, which nobody can steer towards a
stored one.
"""

from __future__ import annotations

import hmac
import re
import zlib
from hashlib import sha256

PREFIX = "gw_"
REFRESH_PREFIX = "gr_"
MAX_LENGTH = 128
"""No credential of this form is longer: anything above is refused before it is worked on."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ENTROPY_BYTES = 32
_SECRET_LENGTH = 43  # 62^43 > 2^256
_CHECKSUM_LENGTH = 6  # 62^6 > 2^32
_FORM = re.compile(rf"(g[wr]_)([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})")


def new_api_token(entropy: bytes) -> str:
    """The API token made of 32 bytes from the system's random generator; ValueError for another number of bytes."""
    return _token(PREFIX, entropy)


def is_api_token(text: str) -> bool:
    """Whether `text` has the form of an API token and the right checksum, which notices every single wrong character.

    It says nothing of whether the token was ever issued.
    """
    return _has_form(PREFIX, text)


def new_refresh_token(entropy: bytes) -> str:
    """The refresh token made of 32 bytes from the system's random generator; ValueError for another number of bytes."""
    return _token(REFRESH_PREFIX, entropy)


def is_refresh_token(text: str) -> bool:
    """As `is_api_token`, for a refresh token."""
    return _has_form(REFRESH_PREFIX, text)


def refresh_successor(salt: bytes, token: str) -> str:
    """The refresh token that takes the place of `token`: made of HMAC-SHA-256 (RFC 2104) of it with `salt` as the key.

    Whoever has both gets the same one, and neither helps without the other: the gateway keeps the salt and no token,
    the client its token and no salt. `salt` is 32 bytes from the system's random generator; ValueError for another
    number of bytes.
    """
    if len(salt) != _ENTROPY_BYTES:
        raise ValueError(f"a salt has {_ENTROPY_BYTES} bytes")
    return new_refresh_token(hmac.digest(salt, token.encode(), "sha256"))


def hash_token(text: str) -> str:
    """What is stored of an opaque token: SHA-256 in hexadecimal.

    Raises ValueError for more than 128 characters and for lone surrogates.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a token has at most {MAX_LENGTH} characters")
    return sha256(text.encode()).hexdigest()


def _token(prefix: str, entropy: bytes) -> str:
    if len(entropy) != _ENTROPY_BYTES:
        raise ValueError(f"a token is made of {_ENTROPY_BYTES} bytes")
    secret = _base62(int.from_bytes(entropy, "big"), _SECRET_LENGTH)
    return prefix + secret + _checksum(secret)


def _has_form(prefix: str, text: str) -> bool:
    if len(text) > MAX_LENGTH:
        return False
    found = _FORM.fullmatch(text)
    return found is not None and found[1] == prefix and found[3] == _checksum(found[2])


def _checksum(secret: str) -> str:
    """CRC-32 of the secret's characters, in base 62."""
    return _base62(zlib.crc32(secret.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    """`number` in `length` digits, the most significant first."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
