"""Connections to a gateway whose public key is known in advance, besides the chain of certificates."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Iterable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client_sdk.config import ConfigError

LEAST = 2
"""Pins: the key in use, and one that is kept elsewhere for the day on which that is lost."""

_PIN = re.compile(r"(?:sha256/)?([A-Za-z0-9+/]{43}=)")


def spki_pin(certificate: bytes) -> str:
    """The pin of a certificate in DER: base64 of the SHA-256 of its SubjectPublicKeyInfo (as in RFC 7469 §2.4).

    With OpenSSL: ``openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary |
    base64``.
    """
    key = x509.load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def pinned(pins: Iterable[str], cafile: str | None = None) -> ssl.SSLContext:
    """A context for `ssl` of a `Channel` or an `InstanceClient`: TLS 1.3, the chain is checked as always (against the
    system's authorities, or those in `cafile`), and the certificate's public key has to be one of `pins` besides,
    before anything is sent.

    Each pin is what `spki_pin` gives, with or without ``sha256/`` before it. Raises `ConfigError` for fewer than two,
    and for what is none. A handshake with another key fails with `ssl.SSLCertVerificationError`.
    """
    known = set()
    for pin in pins:
        match = _PIN.fullmatch(pin)
        if match is None:
            raise ConfigError(f"pins: {pin!r} is not the base64 of a SHA-256")
        known.add(match[1])
    if len(known) < LEAST:
        raise ConfigError("pins: give at least two, so that the gateway can change its key")
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslobject_class = _checking(frozenset(known), ssl.SSLObject)
    context.sslsocket_class = _checking(frozenset(known), ssl.SSLSocket)
    return context


def _checking(pins: frozenset[str], kind: Any) -> Any:
    class Checking(kind):  # type: ignore[misc]
        """Its handshake is not done before the key of the other side was compared."""

        def do_handshake(self, *args: Any) -> None:
            super().do_handshake(*args)
            certificate = self.getpeercert(binary_form=True)
            if certificate is None or spki_pin(certificate) not in pins:
                raise ssl.SSLCertVerificationError("the gateway's public key is none of those that are pinned")

    return Checking
