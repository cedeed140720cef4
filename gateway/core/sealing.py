"""Master keys: what the database must not show is sealed with one, and other keys are derived from them.

A master key is 32 random bytes. Several may be in use: the newest seals, each of them opens, so that one can be
replaced while nodes run. Keys of different purposes are never the same: each is derived from the master key by HKDF
(RFC 5869).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12

_VERSION = b"\x01"
_ID_BYTES = 4
_TAG_BYTES = 16
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?")
_STANDARD = str.maketrans("-_", "+/")


def parse_master_keys(text: str) -> tuple[bytes, ...]:
    """The master keys in `text`, the newest first: each 32 bytes in base64 (RFC 4648 §4 or §5, padded or not),
    separated by lines or commas.

    Raises ValueError with one sentence that repeats nothing of the text.
    """
    keys = []
    for item in filter(None, map(str.strip, text.replace(",", "\n").splitlines())):
        if _BASE64.fullmatch(item) is None:
            raise ValueError("every key must be 32 bytes in base64 (openssl rand -base64 32)")
        keys.append(base64.b64decode(item.rstrip("=").translate(_STANDARD) + "="))
    if not keys:
        raise ValueError("there is no key in it")
    return tuple(dict.fromkeys(keys))


class Sealer:
    """Seals with the newest of `keys`, opens with any of them; ValueError for keys that are not of 32 bytes each."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"there must be a master key, and each must have {KEY_BYTES} bytes")
        self._masters = tuple(keys)
        self._seals = tuple((_derive(key, "seal.id")[:_ID_BYTES], AESGCM(_derive(key, "seal"))) for key in keys)

    def __repr__(self) -> str:
        """Without the keys: it stands in tracebacks and logs."""
        return f"Sealer({len(self._masters)} keys)"

    def seal(self, plain: bytes, context: str, nonce: bytes) -> bytes:
        """`plain` by AES-256-GCM under the newest key: a version byte, 4 bytes that tell the key, the nonce, the
        ciphertext with its tag.

        `context` says what it is and to whom it belongs: it opens with the same one only. `nonce` is 12 bytes from the
        system's random generator, new for every call; ValueError for another number.
        """
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
        key_id, cipher = self._seals[0]
        return _VERSION + key_id + nonce + cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed for `context`; ValueError when none of the keys opens it."""
        start = len(_VERSION) + _ID_BYTES
        head, nonce, rest = sealed[:start], sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
        if head[:1] != _VERSION or len(rest) < _TAG_BYTES:
            raise ValueError("this was not sealed here")
        for key_id, cipher in self._seals:
            if key_id == head[1:]:
                try:
                    return cipher.decrypt(nonce, rest, context.encode())
                except InvalidTag:
                    continue
        raise ValueError("no master key opens this")

    def is_newest(self, sealed: bytes) -> bool:
        """Whether it was sealed under the newest key."""
        return sealed[: len(_VERSION) + _ID_BYTES] == _VERSION + self._seals[0][0]

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """A key of 32 bytes for `purpose` from each master key, the newest first. No purpose's key tells another's."""
        return tuple(_derive(key, f"derived.{purpose}") for key in self._masters)


def _derive(master: bytes, info: str) -> bytes:
    """HKDF-SHA256 (RFC 5869); without a salt, which a random key does not need (§3.1)."""
    return HKDF(SHA256(), KEY_BYTES, None, f"gateway.{info}".encode()).derive(master)
