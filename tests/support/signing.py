"""A server instance of the tests: it signs as the gateway's profile of RFC 9421 wants it, or in any way that it does
not. Written from the RFC, with nothing of the gateway's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Key(NamedTuple):
    """What an instance signs with; `secret` as the gateway shows it."""

    kid: str
    secret: str

    @property
    def raw(self) -> bytes:
        return base64.urlsafe_b64decode(self.secret + "=")


def content_digest(body: bytes, size: str = "sha-256") -> str:
    """RFC 9530 §2."""
    made = hashlib.new(size.replace("-", ""), body).digest()
    return f"{size}=:{base64.b64encode(made).decode()}:"


def new_nonce() -> str:
    return secrets.token_urlsafe(24)


def sign(
    key: Key,
    method: str,
    url: str,
    body: bytes = b"",
    headers: Mapping[str, str] = {},
    *,
    covered: Sequence[str] | None = None,
    label: str = "gw",
    values: Mapping[str, str] = {},
    drop: Sequence[str] = (),
    **parameters: Any,
) -> dict[str, str]:
    """The headers of a signed request, those given among them.

    `covered` stands for the components that the profile wants, `values` for what some of them are, `parameters` for
    the signature's own (integers or texts), without those to `drop`.
    """
    parts = urlsplit(url)
    sent = {name.lower(): value for name, value in headers.items()}
    if body and "content-digest" not in sent:
        sent["content-digest"] = content_digest(body)
    authority = parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, "\0"))
    found = {
        "@method": method,
        "@authority": authority,
        "@path": parts.path or "/",
        "@query": f"?{parts.query}",
        **sent,
        **values,
    }
    if covered is None:
        optional = [name for name in ("content-digest", "authorization") if name in sent]
        covered = ["@method", "@authority", "@path", "@query", *optional]
    told = {"created": int(time.time()), "keyid": key.kid, "nonce": new_nonce(), "tag": "gateway", **parameters}
    shown = (
        f';{name}="{value}"' if isinstance(value, str) else f";{name}={value}"
        for name, value in told.items()
        if name not in drop
    )
    names = " ".join(f'"{name}"' for name in covered)
    written = f"({names}){''.join(shown)}"
    lines = [f'"{name}": {found.get(name, "")}' for name in covered]
    base = "\n".join([*lines, f'"@signature-params": {written}'])
    made = base64.b64encode(hmac.digest(key.raw, base.encode(), "sha256")).decode()
    return {**sent, "signature-input": f"{label}={written}", "signature": f"{label}=:{made}:"}
