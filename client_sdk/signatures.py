"""Requests signed for the gateway: HTTP Message Signatures (RFC 9421) with ``hmac-sha256``, one profile of them.

Covered are the method, the authority, the path and the query (RFC 9421 §2.2), the digest of the body when there is one
(RFC 9530), and the Authorization field when there is one; nothing else, and nothing less. Each signature has a nonce
and is good once, for about a minute. Everything here is a function of its arguments.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlsplit

LABEL = "gateway"
TAG = "gateway"
ALGORITHM = "hmac-sha256"
NONCE_BYTES = 16
"""A nonce is so many random bytes, in base64url without padding."""

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def nonce_of(entropy: bytes) -> str:
    """The nonce made of random bytes: 12 or more, which no other signature of the same key was made with."""
    return base64.urlsafe_b64encode(entropy).rstrip(b"=").decode()


def content_digest(body: bytes) -> str:
    """The Content-Digest field of a body (RFC 9530 §2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def authority(url: str) -> str:
    """The authority of a URL as it is signed (RFC 9421 §2.2.3): in lower case, without the scheme's own port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    return host if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{parts.port}"


def sign(
    method: str,
    url: str,
    *,
    kid: str,
    secret: bytes,
    created: int,
    nonce: str,
    authorization: str | None = None,
    body: bytes = b"",
) -> dict[str, str]:
    """The header fields that sign a request: ``Signature-Input``, ``Signature``, and ``Content-Digest`` with a body.

    `url` is the whole address as it is asked for: its path and query go onto the wire exactly so. `authorization` is
    the field's value, if the request has one. `created` is in seconds since 1970 UTC. `kid` and `nonce` are visible
    ASCII without quotes and backslashes, else ValueError.
    """
    for text in (kid, nonce):
        if not text or not all("!" <= character <= "~" and character not in '"\\' for character in text):
            raise ValueError("a key's id and a nonce are visible ASCII without quotes and backslashes")
    parts = urlsplit(url)
    covered = {
        "@method": method,
        "@authority": authority(url),
        "@path": parts.path or "/",
        "@query": f"?{parts.query}",
    }
    fields: dict[str, str] = {}
    if body:
        fields["Content-Digest"] = covered["content-digest"] = content_digest(body)
    if authorization is not None:
        covered["authorization"] = authorization.strip(" \t")
    names = " ".join(f'"{name}"' for name in covered)
    parameters = f'({names});created={created};keyid="{kid}";nonce="{nonce}";alg="{ALGORITHM}";tag="{TAG}"'
    lines = [f'"{name}": {value}' for name, value in covered.items()]
    signed = "\n".join([*lines, f'"@signature-params": {parameters}'])
    signature = base64.b64encode(hmac.digest(secret, signed.encode("ascii"), "sha256")).decode()
    return {**fields, "Signature-Input": f"{LABEL}={parameters}", "Signature": f"{LABEL}=:{signature}:"}
