"""API tokens: ``gw_``, 43 characters of secret, 6 of checksum.

The prefix and the checksum let a secret scanner know a leaked token for certain and let the gateway refuse a mistyped
one without a look-up. Only the hash of a token is stored. A plain SHA-256 is enough: the secret has 256 random bits, so
there is nothing to guess that a slow hash would protect. Nor is a comparison in constant time needed: a token is found
by the hash in an index, and what the time of that look-up tells is about the hash, which nobody can steer towards a
stored one.
"""

from __future__ import annotations

import re
import zlib
from hashlib import sha256

PREFIX = "gw_"
MAX_LENGTH = 128
"""No credential of this form is longer: anything above is refused before it is worked on."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ENTROPY_BYTES = 32
_SECRET_LENGTH = 43  # 62^43 > 2^256
_CHECKSUM_LENGTH = 6  # 62^6 > 2^32
_FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})")


def new_api_token(entropy: bytes) -> str:
    """The API token made of 32 bytes from the system's random generator; ValueError for another number of bytes."""
    if len(entropy) != _ENTROPY_BYTES:
        raise ValueError(f"an API token is made of {_ENTROPY_BYTES} bytes")
    secret = _base62(int.from_bytes(entropy, "big"), _SECRET_LENGTH)
    return PREFIX + secret + _checksum(secret)


def is_api_token(text: str) -> bool:
    """Whether `text` has the form of an API token and the right checksum, which notices every single wrong character.

    It says nothing of whether the token was ever issued.
    """
    if len(text) > MAX_LENGTH:
        return False
    found = _FORM.fullmatch(text)
    return found is not None and found[2] == _checksum(found[1])


def hash_token(text: str) -> str:
    """What is stored of an opaque token: SHA-256 in hexadecimal.

    Raises ValueError for more than 128 characters and for lone surrogates.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a token has at most {MAX_LENGTH} characters")
    return sha256(text.encode()).hexdigest()


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
