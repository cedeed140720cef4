"""Tells a libSQL server to answer a commit only when it is on disk, by its admin interface, and checks that it will.

It keeps this through restarts when it was started with ``--enable-namespaces``.
"""

from __future__ import annotations

import http.client
import json
import sys
from typing import Any

ADMIN = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9090"


def ask(method: str, body: bytes | None = None) -> bytes:
    """The settings of the server's one database: GET reads them, POST sets them."""
    connection = http.client.HTTPConnection(ADMIN, timeout=10)
    connection.request(method, "/v1/namespaces/default/config", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        sys.exit(f"the server answered {answer.status}: {said[:200]!r}")
    return said


settings: dict[str, Any] = json.loads(ask("GET"))
# The size is shown in words and taken as a number: left out, it stays without a limit.
ask("POST", json.dumps({**settings, "durability_mode": "strong", "max_db_size": None}).encode())
if json.loads(ask("GET"))["durability_mode"] != "strong":
    sys.exit("the server did not take it")
print("every commit is on disk when it is answered")
