"""Certificates and keys of the tests, made by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.required import missing


class Certificate(NamedTuple):
    """A certificate and its key."""

    path: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


def openssl(*arguments: str | Path, given: bytes | None = None) -> bytes:
    """What openssl prints; without it the test is skipped, or fails where everything is required."""
    program = shutil.which("openssl")
    if program is None:
        missing("openssl is not installed: neither keys nor certificates can be made")
    return subprocess.run([str(program), *arguments], input=given, check=True, capture_output=True, timeout=30).stdout


def self_signed(directory: Path) -> Certificate:
    """A new certificate for 127.0.0.1, localhost and gateway.example.org that only who is given it trusts."""
    certificate = Certificate(directory / "cert.pem", directory / "key.pem")
    names = ["-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:gateway.example.org"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *kind, *names, "-keyout", certificate.key, "-out", certificate.path)
    return certificate
