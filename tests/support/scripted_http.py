"""An HTTP server in a thread that answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A request: where it came from, its path and its body."""

    peer: tuple[str, int]
    path: str
    body: Any


class Told(NamedTuple):
    """An answer."""

    status: int
    body: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}


class ScriptedHttp:
    """What was asked, and the port; answers are those of `answer`. With `closes`, each connection is closed after its
    first answer without a word of warning.
    """

    def __init__(self, answer: Callable[[Asked], Told]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.closes = False
        self.port = 0

    @contextmanager
    def serving(self) -> Iterator[ScriptedHttp]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(self.client_address, self.path, body)
                script.asked.append(asked)
                told = script.answer(asked)
                content = json.dumps(told.body).encode()
                self.send_response(told.status)
                for name, value in {**told.headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = self.close_connection or script.closes

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            yield self
            server.shutdown()
            thread.join(10)
