"""Tokens as somebody might forge them: any header, any payload, any spelling, signed or not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from gateway.core.access_token import key_id

NOW = 1_764_000_000_000
ISSUER, AUDIENCE = "https://gateway.example.org", "gateway"
PAYLOAD: Mapping[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "u_ada",
    "iat": NOW // 1000,
    "exp": NOW // 1000 + 900,
    "jti": "at_1",
    "client_id": "gateway",
    "sid": "s_1",
}

Sign = Callable[[bytes], bytes]


def encoded(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ed25519(key: OKPKey) -> Sign:
    """The honest signature of a private key."""
    raw = key.private_key
    assert isinstance(raw, Ed25519PrivateKey)
    return raw.sign


def header_of(key: OKPKey, **changes: Any) -> dict[str, Any]:
    """The header of an honest token, with members changed or added."""
    return {"alg": "EdDSA", "typ": "at+jwt", "kid": key_id(key)} | changes


def assembled(header: str | Mapping[str, Any], payload: str | Mapping[str, Any], sign: Sign) -> str:
    """A token of these two texts, or of the objects written as JSON, and whatever `sign` makes of them."""
    texts = [part if isinstance(part, str) else json.dumps(part) for part in (header, payload)]
    return signed(".".join(encoded(text.encode()) for text in texts), sign)


def signed(head: str, sign: Sign) -> str:
    """`head`, a point, and its signature."""
    return f"{head}.{encoded(sign(head.encode()))}"


def forged(key: OKPKey, *, header: Mapping[str, Any] | None = None, without: str | None = None, **claims: Any) -> str:
    """An honest token of `key` but for what is named: members of the header, claims, a claim that is missing."""
    payload = {name: value for name, value in {**PAYLOAD, **claims}.items() if name != without}
    return assembled(header_of(key, **(header or {})), payload, ed25519(key))
