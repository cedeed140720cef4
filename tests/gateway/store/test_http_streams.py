"""HTTP to a libSQL server: what answers, good, bad and strange, are taken for. A real server where it can do it, else
one that says exactly what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.database import Database, Statement
from gateway.store.http_streams import HttpServer, NotOffered
from gateway.store.migrate import migrate
from gateway.store.stream import IN_TRANSACTION, Step, Unanswered
from tests.support.sqld import SqldServer

T = 5.0
ONE = [Step("SELECT 1")]
FOUND = {"step_results": [{"cols": [], "rows": [[{"type": "integer", "value": "1"}]]}], "step_errors": [None]}


def http(status: str = "200 OK", body: bytes | str = b"", *headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


def answer(result: Any = FOUND, *, baton: str | None = "b1", base_url: str | None = None, kind: str = "batch") -> bytes:
    results = [{"type": "ok", "response": {"type": kind, "result": result}}]
    return http("200 OK", json.dumps({"baton": baton, "base_url": base_url, "results": results}))


class Heard:
    """A request that came."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.line, *lines = head.decode().split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = body

    @property
    def baton(self) -> str | None:
        found: str | None = json.loads(self.body)["baton"]
        return found


class Scripted:
    """A server that gives these answers, one for each request; None: it closes the connection instead. With `hangs_up`
    it does so after each."""

    def __init__(self) -> None:
        self.answers: deque[bytes | None] = deque()
        self.heard: list[Heard] = []
        self.port = 0
        self.hangs_up = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                heard = Heard(head, b"")
                heard.body = await reader.readexactly(int(heard.headers.get("content-length", "0")))
                self.heard.append(heard)
                said = self.answers.popleft()
                if said is None:
                    break
                writer.write(said)
                await writer.drain()
                if self.hangs_up:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    async with server:
        yield scripted


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    async with listening() as found:
        yield found


class Seconds:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def server(scripted: Scripted, seconds: Seconds) -> AsyncIterator[HttpServer]:
    made = HttpServer(f"http://127.0.0.1:{scripted.port}", "tok", clock=seconds)
    yield made
    await made.close()


# --- answers ---


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("400 Bad Request", "answers 400"),
        ("401 Unauthorized", "the token is missing, bad or expired"),
        ("403 Forbidden", "the token does not allow it"),
        ("404 Not Found", "there is no such database"),
        ("413 Content Too Large", "answers 413"),
        ("429 Too Many Requests", "answers 429"),
        ("302 Found", "answers 302"),
        ("307 Temporary Redirect", "answers 307"),
    ],
)
async def test_what_was_surely_not_done(server: HttpServer, scripted: Scripted, status: str, said: str) -> None:
    scripted.answers.append(http(status, "why", "Location: http://127.0.0.2:1/"))
    stream = server.stream()
    with pytest.raises(StoreUnavailable, match=said) as refused:
        await stream.batch(ONE, timeout_s=T)
    assert not isinstance(refused.value, Unanswered)
    assert "tok" not in str(refused.value).split()
    assert stream.broken
    assert len(scripted.heard) == 1


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 G"])
async def test_behind_a_proxy_that_fails_the_work_may_be_done(
    server: HttpServer, scripted: Scripted, status: str
) -> None:
    scripted.answers.append(http(status, "<h1>sorry</h1>"))
    with pytest.raises(Unanswered, match=f"answers {status[:3]}: <h1>sorry"):
        await server.stream().batch(ONE, timeout_s=T)


def unlike(**changes: Any) -> bytes:
    return answer({**FOUND, **changes})


GARBAGE = [
    pytest.param(None, id="closed"),
    pytest.param(b"not HTTP at all\r\n\r\n", id="not HTTP"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}", id="cut short"),
    pytest.param(http("200 OK", ""), id="empty"),
    pytest.param(http("200 OK", "<html>"), id="not JSON"),
    pytest.param(http("200 OK", b"\xff\xfe"), id="not UTF-8"),
    pytest.param(http("200 OK", "[" * 100_000), id="deep"),
    pytest.param(http("200 OK", '{"results": []}'), id="no result"),
    pytest.param(http("200 OK", '{"results": [{"type": "ok"}]}'), id="no response"),
    pytest.param(answer({}), id="no rows"),
    pytest.param(answer(None), id="null"),
    pytest.param(unlike(step_results=[]), id="too few results"),
    pytest.param(unlike(step_errors=[]), id="too few errors"),
    pytest.param(unlike(step_results=[None, None], step_errors=[None, None]), id="too many"),
    pytest.param(unlike(step_results=[{"rows": [[{"type": "integer", "value": "one"}]]}]), id="no integer"),
    pytest.param(unlike(step_results=[{"rows": [[{"type": "blob", "base64": "A"}]]}]), id="no base64"),
    pytest.param(unlike(step_results=[{"rows": [[{"type": "date", "value": "1"}]]}]), id="strange type"),
]


@pytest.mark.parametrize("said", GARBAGE)
async def test_an_answer_without_sense_is_none(server: HttpServer, scripted: Scripted, said: bytes | None) -> None:
    scripted.answers.append(said)
    scripted.hangs_up = True
    stream = server.stream()
    with pytest.raises(Unanswered):
        await stream.batch(ONE, timeout_s=T)
    assert stream.broken


async def test_a_request_is_not_sent_twice(server: HttpServer, scripted: Scripted) -> None:
    """A kept connection that the server closes as the request comes."""
    scripted.answers.extend([answer(), None, answer()])
    stream = server.stream()
    await stream.batch(ONE, timeout_s=T)
    with pytest.raises(Unanswered):
        await stream.batch(ONE, timeout_s=T)
    assert len(scripted.heard) == 2


@pytest.mark.parametrize(("code", "kind"), [("SQLITE_BUSY", Unanswered), ("SQL_PARSE_ERROR", StoreError)])
async def test_a_refused_batch_ends_its_stream(
    server: HttpServer, scripted: Scripted, code: str, kind: type[Exception]
) -> None:
    refused = {"type": "error", "error": {"message": "no", "code": code}}
    scripted.answers.append(http("200 OK", json.dumps({"baton": "b7", "results": [refused]})))
    scripted.answers.append(http("200 OK", '{"results": [{"type": "ok", "response": {"type": "close"}}]}'))
    stream = server.stream()
    with pytest.raises(StoreError) as failure:
        await stream.batch(ONE, timeout_s=T)
    assert type(failure.value) is kind
    assert stream.broken
    assert json.loads(scripted.heard[1].body) == {"baton": "b7", "requests": [{"type": "close"}]}


# --- batons ---


async def test_each_answer_carries_the_next_baton(server: HttpServer, scripted: Scripted) -> None:
    scripted.answers.extend([answer(baton="b1"), answer(baton="b2"), answer(baton=None)])
    stream = server.stream()
    for _ in range(3):
        await stream.batch(ONE, timeout_s=T)
    assert [heard.baton for heard in scripted.heard] == [None, "b1", "b2"]
    assert stream.broken  # without a baton the server has closed it
    with pytest.raises(StoreUnavailable, match="has ended"):
        await stream.batch(ONE, timeout_s=T)


async def test_a_stream_that_was_idle_for_long_is_expired(
    server: HttpServer, scripted: Scripted, seconds: Seconds
) -> None:
    stream = server.stream()
    seconds.now += 3_600
    assert not stream.expired  # the server does not know it yet
    scripted.answers.append(answer())
    await stream.batch(ONE, timeout_s=T)
    seconds.now += 7.9
    assert not stream.expired
    seconds.now += 0.2
    assert stream.expired


@pytest.mark.parametrize("path", ["", "/db-7"])
async def test_a_stream_moves_where_the_server_says(server: HttpServer, scripted: Scripted, path: str) -> None:
    async with listening() as other:
        scripted.answers.append(answer(base_url=f"http://127.0.0.1:{other.port}{path}/"))
        other.answers.append(answer(baton=None))
        stream = server.stream()
        await stream.batch(ONE, timeout_s=T)
        await stream.batch(ONE, timeout_s=T)
        [heard] = other.heard
    assert heard.line == f"POST {path}/v3/pipeline HTTP/1.1"
    assert heard.headers["authorization"] == "Bearer tok"


async def test_the_token_goes_to_no_other_host(server: HttpServer, scripted: Scripted) -> None:
    async with listening() as stranger:
        scripted.answers.append(answer(base_url=f"http://localhost:{stranger.port}"))
        scripted.answers.append(http("307 Temporary Redirect", "", f"Location: http://127.0.0.1:{stranger.port}/"))
        stream = server.stream()
        await stream.batch(ONE, timeout_s=T)
        with pytest.raises(StoreUnavailable):
            await stream.batch(ONE, timeout_s=T)
        assert stranger.heard == []
    assert [heard.headers["authorization"] for heard in scripted.heard] == ["Bearer tok"] * 2


async def test_without_a_token_none_is_sent(scripted: Scripted) -> None:
    scripted.answers.append(answer())
    server = HttpServer(f"http://127.0.0.1:{scripted.port}", None)
    await server.stream().batch(ONE, timeout_s=T)
    await server.close()
    assert "authorization" not in scripted.heard[0].headers


async def test_a_cookie_is_not_kept(server: HttpServer, scripted: Scripted) -> None:
    said = answer().replace(b"\r\n", b"\r\nSet-Cookie: mark=1; Path=/\r\n", 1)
    scripted.answers.extend([said, answer()])
    stream = server.stream()
    await stream.batch(ONE, timeout_s=T)
    await stream.batch(ONE, timeout_s=T)
    assert "cookie" not in scripted.heard[1].headers


# --- the stream of changes, and copies ---


@pytest.mark.parametrize("status", ["401 U", "404 N", "307 Temporary Redirect", "200 OK"])
async def test_no_stream_of_changes(server: HttpServer, scripted: Scripted, status: str) -> None:
    scripted.answers.append(http(status, "{}", "Location: http://127.0.0.2:1/", "Content-Type: application/json"))
    with pytest.raises(NotOffered):
        async with server.changes("change_log"):
            pass


@pytest.mark.parametrize("said", [None, http("503 Service Unavailable"), b"garbage\r\n\r\n"])
async def test_a_stream_of_changes_that_fails(server: HttpServer, scripted: Scripted, said: bytes | None) -> None:
    scripted.answers.append(said)
    with pytest.raises(StoreUnavailable):
        async with server.changes("change_log"):
            pass


async def listen(server: HttpServer, rung: list[None]) -> None:
    async with server.changes("change_log") as events:
        async for _ in events:
            rung += [None]


async def test_what_a_stream_of_changes_says(server: HttpServer, scripted: Scripted) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\n"
    scripted.answers.append(head + b":keep-alive\n\nevent: changes\ndata: {}\n\n")
    scripted.hangs_up = True
    rung: list[None] = []
    with pytest.raises(StoreUnavailable, match="broke off"):
        await listen(server, rung)
    assert rung == [None]
    assert scripted.heard[0].line == "GET /beta/listen?table=change_log&action=insert HTTP/1.1"


# --- a real server that forgets streams ---


@pytest.fixture
def sqld(tmp_path: Path) -> Iterator[SqldServer]:
    with SqldServer(tmp_path / "own") as server:
        yield server


async def test_a_forgotten_stream_was_not_asked_anything(sqld: SqldServer) -> None:
    server = HttpServer(sqld.url, None)
    stream = server.stream()
    await stream.batch([Step("BEGIN")], timeout_s=T)
    sqld.restart()
    with pytest.raises(StoreUnavailable):
        await stream.batch([Step("SELECT 1", (), IN_TRANSACTION)], timeout_s=T)
    new = server.stream()
    [outside] = await new.batch([Step("SELECT 1", (), IN_TRANSACTION)], timeout_s=T)
    assert not outside.ran
    await new.close()
    await server.close()


async def test_reads_and_writes_go_on_when_the_server_forgot_their_streams(sqld: SqldServer) -> None:
    async with await Database.open(sqld.url) as database:
        await migrate(database)
        insert = "INSERT INTO meta(key, value) VALUES (?, 'v')"
        await database.write(Statement(insert, ("one",)))
        await database.read(Statement("SELECT 1"))
        sqld.restart()
        query = Statement("SELECT count(*) FROM meta WHERE value = 'v'")
        assert await database.read(query) == [[(1,)]]
        await database.write(Statement(insert, ("two",)))
        assert await database.read(query) == [[(2,)]]
