"""A web server of parts of the source tree, for modules that a browser loads as they lie there."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.chromium import served
from tests.support.gateway_process import ROOT

SERVED = ("/client_sdk/js/", "/tests/client_sdk/js/", "/tests/transcripts/")
KINDS = {"js": "text/javascript", "mjs": "text/javascript", "json": "application/json", "jsonl": "text/plain"}
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class _Tree(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = ROOT / self.path.lstrip("/")
        if self.path == "/":
            self._answer(200, "text/html", b"<!doctype html><title>modules</title>")
        elif self.path.startswith(SERVED) and ".." not in self.path and path.is_file():
            self._answer(200, KINDS.get(path.suffix[1:], "application/octet-stream"), path.read_bytes())
        else:
            self._answer(404, "text/plain", b"")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served_tree() -> Iterator[str]:
    """The origin of a server whose ``/`` is an empty page with the content security policy of the dashboard."""
    with served(_Tree) as port:
        yield f"http://127.0.0.1:{port}"
