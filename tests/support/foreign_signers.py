"""Other people's implementations of RFC 9421, as instances that ask a real gateway and as judges of what was sent."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)
from websockets.sync.client import connect

from tests.support.deployment import send_to
from tests.support.gateway_process import ROOT, Answer
from tests.support.node import message_signatures, run_node
from tests.support.signing import Key, content_digest, new_nonce

PROGRAM = ROOT / "tests" / "support" / "message_signer.mjs"
ALWAYS = ("@method", "@authority", "@path", "@query")
OPTIONAL = ("content-digest", "authorization")


class Sent(NamedTuple):
    """A request as it was on the wire; the names of `headers` are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class Signer(Protocol):
    """Another implementation. Addresses are whole, ``http://…``, those of the channel too."""

    def ask(self, key: Key, method: str, url: str, headers: Mapping[str, str] = {}, body: bytes = b"") -> Answer:
        """Sign a request, make it, and give the answer."""

    def principal(self, key: Key, url: str) -> str:
        """Open a channel by a signed handshake; whose it is, as ``ready`` says."""

    def verifies(self, key: Key, sent: Sent) -> bool:
        """Whether this key signed what was sent, all of it."""


class PythonSigner:
    """http-message-signatures of PyPI; requests are made by the standard library."""

    def _signed(self, key: Key, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        request = SimpleNamespace(method=method, url=url, headers=dict(headers))
        covered = [*ALWAYS, *(["authorization"] if "authorization" in headers else [])]
        signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=_Keys(key))
        signer.sign(
            request,
            key_id=key.kid,
            covered_component_ids=covered,
            created=datetime.datetime.now(datetime.UTC),
            nonce=new_nonce(),
            tag="gateway",
            label="pypi",
            include_alg=True,
            **({"body": body} if body else {}),
        )
        made: dict[str, str] = request.headers
        return made

    def ask(self, key: Key, method: str, url: str, headers: Mapping[str, str] = {}, body: bytes = b"") -> Answer:
        """Sign a request, make it, and give the answer."""
        parts = urlsplit(url)
        made = self._signed(key, method, url, headers, body)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return send_to(parts.port or 80, parts.netloc, method, target, body, made.items())

    def principal(self, key: Key, url: str) -> str:
        """Open a channel by a signed handshake; whose it is, as ``ready`` says."""
        made = self._signed(key, "GET", url, {}, b"")
        with connect(url.replace("http", "ws", 1), additional_headers=made, proxy=None) as socket:
            while True:
                message = json.loads(socket.recv(10))
                if message["op"] == "ready":
                    return str(message["principal"])

    def verifies(self, key: Key, sent: Sent) -> bool:
        """Whether this key signed what was sent, all of it."""
        verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=_Keys(key))
        try:
            [result] = verifier.verify(sent, expect_tag="gateway", max_age=datetime.timedelta(seconds=60))
        except InvalidSignature:
            return False
        covered = {str(name).strip('"') for name in result.covered_components}
        wanted = {*ALWAYS, *(name for name in OPTIONAL if name in sent.headers)}
        return wanted <= covered and (not sent.body or sent.headers["content-digest"] == content_digest(sent.body))


class NodeSigner:
    """http-message-signatures of npm, in Node."""

    def _do(self, what: str, key: Key, sent: Sent) -> Any:
        told = {
            "do": what,
            "kid": key.kid,
            "secret": key.secret,
            "nonce": new_nonce(),
            **sent._replace(body=sent.body.decode())._asdict(),  # type: ignore[arg-type]
        }
        return json.loads(run_node(PROGRAM, message_signatures(), told=json.dumps(told)).stdout)

    def ask(self, key: Key, method: str, url: str, headers: Mapping[str, str] = {}, body: bytes = b"") -> Answer:
        """Sign a request, make it, and give the answer."""
        made = self._do("ask", key, Sent(method, url, dict(headers), body))
        return Answer(made["status"], made["headers"], made["body"].encode("latin-1"))

    def principal(self, key: Key, url: str) -> str:
        """Open a channel by a signed handshake; whose it is, as ``ready`` says."""
        made = self._do("handshake", key, Sent("GET", url, {}))
        assert made["status"] == 101, made
        came: str = made["body"]
        start = came.rindex("{", 0, came.index('"op":"ready"') + 1)
        return str(json.JSONDecoder().raw_decode(came[start:])[0]["principal"])

    def verifies(self, key: Key, sent: Sent) -> bool:
        """Whether this key signed what was sent, all of it."""
        return bool(self._do("verify", key, sent._replace(headers=dict(sent.headers)))["verified"])


class _Keys(HTTPSignatureKeyResolver):  # type: ignore[misc]
    def __init__(self, key: Key) -> None:
        self._key = key

    def resolve_private_key(self, key_id: str) -> bytes:
        return self.resolve_public_key(key_id)

    def resolve_public_key(self, key_id: str) -> bytes:
        assert key_id == self._key.kid
        return self._key.raw


SIGNERS: Mapping[str, Signer] = {"pypi": PythonSigner(), "npm": NodeSigner()}
