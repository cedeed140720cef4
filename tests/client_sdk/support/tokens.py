"""Access tokens and API tokens as the gateway makes them, made here."""

from __future__ import annotations

import base64
import secrets
import time
import zlib
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ISSUER, AUDIENCE = "http://127.0.0.1:8787", "gateway"
KEY = Ed25519PrivateKey.generate()
KID = "k_first"


def jwks(key: Ed25519PrivateKey = KEY, kid: str = KID) -> dict[str, Any]:
    """The document ``keys`` with this key."""
    x = segment(key.public_key().public_bytes_raw())
    return {kid: {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}}


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def soon(seconds: float = 600.0) -> int:
    """A moment from now, in seconds since 1970."""
    return int(time.time() + seconds)


def access_token(
    user: str,
    session: str,
    expires_at: int,
    *,
    key: Ed25519PrivateKey = KEY,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Good until `expires_at`, seconds since 1970."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "iat": expires_at - 900,
        "exp": expires_at,
        "jti": f"at_{secrets.token_hex(8)}",
        "client_id": "gateway",
        "sid": session,
    }
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
    head = {"alg": "EdDSA", "typ": "at+jwt", "kid": KID, **(header or {})}
    text = f"{segment(msgspec.json.encode(head))}.{segment(msgspec.json.encode(claims))}"
    return f"{text}.{segment(key.sign(text.encode()))}"


def base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    return digits


def api_token(entropy: bytes | None = None) -> str:
    secret = base62(int.from_bytes(entropy or secrets.token_bytes(32), "big"), 43)
    return f"gw_{secret}{base62(zlib.crc32(secret.encode()), 6)}"
