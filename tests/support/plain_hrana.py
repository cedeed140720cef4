"""SQL on a libSQL server, spoken by hand: Hrana 3 over HTTP (``POST /v3/pipeline``) with nothing but the standard
library, so that what tests ask a server does not pass through the code under test.

Run as a program it is the other side of `ForeignServerWriter`: tasks and answers, a line of JSON each.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit


class Refused(Exception):
    """The server answered with an error: `code` is its own (``SQLITE_CONSTRAINT``), or ``HTTP 401``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class PlainHrana:
    """One client of the server at `url`. A statement is a transaction of its own, on a stream of its own, unless
    ``BEGIN`` was executed before: then the stream is kept until the transaction ends.

    Raises `OSError` when no answer comes, `Refused` for an error.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._baton: str | None = None

    def __enter__(self) -> PlainHrana:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def execute(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Run one statement; its rows."""
        statement = {"sql": sql, "args": [_value(arg) for arg in args]}
        results = self._pipeline(
            {"type": "execute", "stmt": statement}, {"type": "get_autocommit"} if self._baton or _begins(sql) else None
        )
        return [tuple(_plain(value) for value in row) for row in results[0]["result"]["rows"]]

    def script(self, sql: str) -> None:
        """Run several statements, up to the first that is refused."""
        self._pipeline({"type": "sequence", "sql": sql})

    def close(self) -> None:
        """Close the connection; a transaction that is open is rolled back when the server sees the stream end."""
        if self._baton is not None:
            try:
                self._pipeline({"type": "close"})
            except (OSError, Refused):
                self._baton = None
        self._connection.close()

    def _pipeline(self, request: dict[str, Any], after: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        requests = [request] if after is None else [request, after]
        if after is None and self._baton is None:
            requests.append({"type": "close"})
        answer = self._post({"baton": self._baton, "requests": requests})
        results = answer["results"]
        self._baton = answer.get("baton")
        if after is not None:
            autocommit = results[1]["type"] == "ok" and results[1]["response"]["is_autocommit"]
            if autocommit and self._baton is not None:
                self._post({"baton": self._baton, "requests": [{"type": "close"}]})
                self._baton = None
        if results[0]["type"] == "error":
            error = results[0]["error"]
            raise Refused(error.get("code") or "", error["message"])
        return [result["response"] for result in results if result["type"] == "ok"]

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            self._connection.request("POST", "/v3/pipeline", json.dumps(body).encode(), self._headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._baton = None
            raise OSError(f"no answer: {error!r}") from error
        if response.status != 200:
            self._baton = None
            raise Refused(f"HTTP {response.status}", text.decode(errors="replace"))
        answer: dict[str, Any] = json.loads(text)
        return answer


def _begins(sql: str) -> bool:
    return sql.lstrip()[:9].upper().startswith(("BEGIN", "SAVEPOINT"))


def _value(value: Any) -> dict[str, Any]:
    if value is None:
        return {"type": "null"}
    if isinstance(value, int):
        return {"type": "integer", "value": str(int(value))}
    if isinstance(value, float):
        return {"type": "float", "value": value}
    if isinstance(value, bytes):
        return {"type": "blob", "base64": base64.b64encode(value).decode()}
    return {"type": "text", "value": value}


def _plain(value: dict[str, Any]) -> Any:
    match value["type"]:
        case "null":
            return None
        case "integer":
            return int(value["value"])
        case "blob":
            return base64.b64decode(value["base64"] + "=" * (-len(value["base64"]) % 4))
        case _:
            return value["value"]


def _serve(server: PlainHrana) -> None:
    for line in sys.stdin:
        print(json.dumps(_answer(server, json.loads(line))), flush=True)
    server.close()


def _answer(server: PlainHrana, task: dict[str, Any]) -> dict[str, Any]:
    rows: list[tuple[Any, ...]] = []
    try:
        if task["kind"] == "script":
            server.script(task["sql"])
        elif task["kind"] == "each":
            for args in task["rows"]:
                server.execute(task["sql"], *args)
                time.sleep(task["pause_s"])
        else:
            rows = server.execute(task["sql"], *task["args"])
    except Refused as error:
        kind = "IntegrityError" if "CONSTRAINT" in error.code else "OperationalError"
        return {"error": kind, "message": error.message}
    except OSError as error:
        return {"error": "OSError", "message": str(error)}
    return {"rows": rows}


if __name__ == "__main__":
    _url, _token, _timeout_s = sys.argv[1:4]
    _server = PlainHrana(_url, _token or None, timeout_s=float(_timeout_s))
    print(json.dumps({"rows": _server.execute("SELECT sqlite_version()")}), flush=True)
    _serve(_server)
