"""WebSocket to a libSQL server: what its transport alone can do wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from gateway.errors import NoRowChanged, StoreConflict, StoreError, StoreUnavailable, StoreUncertain
from gateway.store.address import ServerAddress, parse_address
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate
from gateway.store.server import ServerDriver
from gateway.store.stream import IN_TRANSACTION, Step, TimedOut, Unanswered, succeeded
from gateway.store.ws_streams import CONNECT_TIMEOUT_S, WsServer
from tests.support.sqld import JwtKey, SqldServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

T = 5.0
ONE = [Step("SELECT 1")]
ROW = {"step_results": [{"rows": [[{"type": "integer", "value": "1"}]]}], "step_errors": [None]}


@pytest.fixture(autouse=True)
async def no_noise() -> AsyncIterator[None]:
    """Nothing is left, and nothing was, that the loop complains about."""
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert noise == []


@pytest.fixture
def sqld(tmp_path: Path) -> Iterator[SqldServer]:
    with SqldServer(tmp_path / "own") as server:
        yield server


@contextlib.asynccontextmanager
async def connected(url: str, token: str | None = None) -> AsyncIterator[WsServer]:
    server = WsServer(url, token)
    try:
        yield server
    finally:
        await server.close()


async def one(server: WsServer, *, timeout_s: float = T) -> None:
    stream = server.stream()
    try:
        [outcome] = await stream.batch(ONE, timeout_s=timeout_s)
        assert outcome.rows == [(1,)]
    finally:
        await stream.close()


# --- a server that says what a test wants ---

Behaviour = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def behaving(behaviour: Behaviour, protocol: str = "hrana3") -> AsyncIterator[WsServer]:
    async with (
        serve(behaviour, "127.0.0.1", 0, subprotocols=[Subprotocol(protocol)]) as fake,
        connected(f"ws://127.0.0.1:{next(iter(fake.sockets)).getsockname()[1]}", "tok") as server,
    ):
        yield server


async def say(connection: ServerConnection, **message: Any) -> None:
    await connection.send(json.dumps(message))


async def hear(connection: ServerConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await connection.recv())
    return message


async def greet(connection: ServerConnection) -> None:
    assert await hear(connection) == {"type": "hello", "jwt": "tok"}
    await say(connection, type="hello_ok")


async def open_stream(connection: ServerConnection) -> None:
    await greet(connection)
    asked = await hear(connection)
    assert asked["request"]["type"] == "open_stream"
    await say(connection, type="response_ok", request_id=asked["request_id"], response={"type": "open_stream"})


def answering(result: Any) -> Behaviour:
    async def behave(connection: ServerConnection) -> None:
        await open_stream(connection)
        asked = await hear(connection)
        response = {"type": asked["request"]["type"], "result": result}
        await say(connection, type="response_ok", request_id=asked["request_id"], response=response)
        await connection.wait_closed()

    return behave


async def test_the_fake_can_answer() -> None:
    async with behaving(answering(ROW)) as server:
        stream = server.stream()
        [outcome] = await stream.batch(ONE, timeout_s=T)
        assert outcome.rows == [(1,)]


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"step_results": [], "step_errors": []},
        {"step_results": [{"rows": [[{"type": "integer", "value": "one"}]]}], "step_errors": [None]},
        {"step_results": [{"rows": [[{"type": "date", "value": "1"}]]}], "step_errors": [None]},
    ],
)
async def test_an_answer_without_sense_is_none(result: Any) -> None:
    async with behaving(answering(result)) as server:
        stream = server.stream()
        with pytest.raises(Unanswered, match="not Hrana"):
            await stream.batch(ONE, timeout_s=T)
        assert stream.broken


@pytest.mark.parametrize("said", ["", "{", "[]", '{"type": "no"}', '{"type": "hello_ok"}', b"\x00", '{"type": 7}'])
async def test_a_message_without_sense_ends_the_socket(said: str | bytes) -> None:
    async def behave(connection: ServerConnection) -> None:
        await open_stream(connection)
        await hear(connection)
        await connection.send(said)
        await connection.wait_closed()

    async with behaving(behave) as server:
        with pytest.raises(Unanswered):
            await server.stream().batch(ONE, timeout_s=T)


async def test_a_stream_that_is_not_opened_was_not_asked() -> None:
    async def behave(connection: ServerConnection) -> None:
        await greet(connection)
        asked = await hear(connection)
        await say(connection, type="response_error", request_id=asked["request_id"], error={"message": "128 are open"})
        await connection.wait_closed()

    async with behaving(behave) as server:
        with pytest.raises(StoreUnavailable, match="128 are open") as refused:
            await server.stream().batch(ONE, timeout_s=T)
        assert not isinstance(refused.value, Unanswered)


@pytest.mark.parametrize("code", ["SQLITE_BUSY", "SQLITE_ERROR"])
async def test_a_refused_batch_ends_its_stream_and_no_other(code: str) -> None:
    closed = asyncio.Event()

    async def behave(connection: ServerConnection) -> None:
        await open_stream(connection)
        asked = await hear(connection)
        error = {"message": "no", "code": code}
        await say(connection, type="response_error", request_id=asked["request_id"], error=error)
        closing = await hear(connection)
        assert closing["request"] == {"type": "close_stream", "stream_id": asked["request"]["stream_id"]}
        closed.set()
        await connection.wait_closed()

    async with behaving(behave) as server:
        stream = server.stream()
        with pytest.raises(StoreError) as refused:
            await stream.batch(ONE, timeout_s=T)
        assert isinstance(refused.value, Unanswered) == (code == "SQLITE_BUSY")
        assert stream.broken
        async with asyncio.timeout(T):
            await closed.wait()


@pytest.mark.parametrize(("error", "said"), [("AUTH_JWT_EXPIRED", "the token is"), ("OTHER", "can not be reached")])
async def test_a_greeting_that_is_refused(error: str, said: str) -> None:
    async def behave(connection: ServerConnection) -> None:
        await hear(connection)
        await say(connection, type="hello_error", error={"message": "no", "code": error})
        await connection.recv()  # what comes now would be a request of somebody who was refused
        raise AssertionError

    async with behaving(behave) as server:
        with pytest.raises(StoreUnavailable, match=said) as refused:
            await one(server)
        assert not isinstance(refused.value, Unanswered)


async def test_a_greeting_that_does_not_come() -> None:
    async with behaving(lambda connection: connection.wait_closed()) as server:
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.2 s") as silent:
            await one(server, timeout_s=0.2)
        assert not isinstance(silent.value, Unanswered)
    assert CONNECT_TIMEOUT_S < T


async def test_another_protocol() -> None:
    async with behaving(answering(ROW), protocol="hrana1") as server:
        with pytest.raises(StoreUnavailable, match="400"):
            await one(server)


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "401 Unauthorized", "503 Service Unavailable"])
async def test_no_websocket_there(status: str) -> None:
    elsewhere: list[bool] = []

    async def stranger(connection: ServerConnection) -> None:
        elsewhere.append(True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with serve(stranger, "127.0.0.1", 0, subprotocols=[Subprotocol("hrana3")]) as other:
        port = next(iter(other.sockets)).getsockname()[1]
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, connected(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", "tok") as asked:
            with pytest.raises(StoreUnavailable, match=status[:3]) as refused:
                await one(asked)
        assert not isinstance(refused.value, Unanswered)
        assert not elsewhere


# --- one socket for all streams ---


async def test_streams_share_a_socket_and_a_late_one_is_replaced(sqld: SqldServer) -> None:
    with TcpProxy(sqld.port) as wire:
        async with connected(f"ws://127.0.0.1:{wire.port}") as server:
            kept, hasty = server.stream(), server.stream()
            await asyncio.gather(kept.batch(ONE, timeout_s=T), hasty.batch(ONE, timeout_s=T))
            await asyncio.gather(*(one(server) for _ in range(16)))
            assert wire.accepted == 1
            sqld.freeze()
            patient = asyncio.create_task(kept.batch(ONE, timeout_s=20.0))
            with pytest.raises(TimedOut, match=r"within 0\.\d s"):
                await hasty.batch(ONE, timeout_s=0.2)
            sqld.resume()
            # Who still waits on the old socket is answered there; then it is closed.
            [outcome] = await patient
            assert outcome.ok
            assert kept.broken
            await one(server)
            assert wire.accepted == 2
            await eventually(lambda: wire.open == 1)


async def test_a_silent_wire_is_noticed_by_pings(sqld: SqldServer) -> None:
    with TcpProxy(sqld.port) as wire:
        server = WsServer(f"ws://127.0.0.1:{wire.port}", None, heartbeat_s=1.0)
        stream = server.stream()
        await stream.batch(ONE, timeout_s=T)
        slow = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000000) SELECT count(*) FROM n"
        )
        await stream.batch([Step(slow)], timeout_s=30.0)  # one that is busy answers its pings all the same
        assert not stream.expired
        wire.cut(silent=True)
        await eventually(lambda: stream.expired)
        wire.restore()
        await one(server)
        await server.close()


async def test_a_request_that_is_too_long_is_not_sent(sqld: SqldServer) -> None:
    async with connected(sqld.websocket_url) as server:
        stream = server.stream()
        text = "\x01" * 2_700_000
        with pytest.raises(StoreError, match="16,776,192 bytes") as refused:
            await stream.batch([Step("SELECT length(?)", (text,)), Step("SELECT ?", (text[:100_000],))], timeout_s=T)
        assert not isinstance(refused.value, StoreUnavailable)
        [outcome] = await stream.batch([Step("SELECT length(?)", (text,))], timeout_s=T)
        assert outcome.rows == [(2_700_000,)]


NOT_TEXT = "SELECT CAST(x'6aff' AS TEXT)"


async def test_a_text_that_is_none_is_told_from_a_lost_connection(sqld: SqldServer) -> None:
    server = WsServer(sqld.websocket_url, None, only_reads=True)
    for steps in ([Step(NOT_TEXT)], [Step("BEGIN"), Step(NOT_TEXT, (), succeeded(0))]):
        stream = server.stream()
        with pytest.raises(UnicodeDecodeError):
            await stream.batch(steps, timeout_s=T)
        assert stream.broken
    stream = server.stream()
    await stream.batch([Step("BEGIN")], timeout_s=T)
    with pytest.raises(UnicodeDecodeError):
        await stream.batch([Step(NOT_TEXT, (), IN_TRANSACTION)], timeout_s=T)
    await one(server)
    await server.close()


async def test_a_text_that_is_none_ends_a_writing_socket(sqld: SqldServer) -> None:
    async with connected(sqld.websocket_url) as server:
        with pytest.raises(Unanswered):
            await server.stream().batch([Step(NOT_TEXT)], timeout_s=T)
        await one(server)


async def test_a_token_is_asked_for_again_at_each_connection(tmp_path: Path) -> None:
    key = JwtKey(tmp_path)
    with SqldServer(tmp_path / "server", jwt_key=key) as sqld:
        async with connected(sqld.websocket_url, key.token()) as server:
            await one(server)
            sqld.restart()
            with contextlib.suppress(StoreUnavailable):
                await one(server)
            await one(server)


@pytest.mark.parametrize(
    ("token", "read_only"),
    [
        (None, False),
        ("", False),
        ("gibberish", False),
        ("a.%%.c", False),
        ("a." + base64.urlsafe_b64encode(b"[1]").decode() + ".c", False),
        ("a." + base64.urlsafe_b64encode(b'{"a": "rw"}').decode() + ".c", False),
        ("a." + base64.urlsafe_b64encode(b'{"a":"ro"}').decode().rstrip("=") + ".c", True),
    ],
)
async def test_a_token_that_may_only_read_is_known_by_what_it_says(token: str | None, read_only: bool) -> None:
    assert WsServer("ws://127.0.0.1:1", token).read_only is read_only


# --- a database by WebSocket ---


@pytest.fixture
async def database(sqld: SqldServer) -> AsyncIterator[Database]:
    async with await Database.open(sqld.websocket_url, poll_ms=25) as opened:
        await migrate(opened)
        yield opened


INSERT = "INSERT INTO meta(key, value) VALUES (?, ?)"
COUNT = Statement("SELECT count(*) FROM meta WHERE value = 'v'")


async def test_a_group_with_failures(database: Database) -> None:
    results = await asyncio.gather(
        database.write(Statement(INSERT, ("a", "v"))),
        database.write(Statement(INSERT, ("a", "v"))),
        database.write(Statement(INSERT, ("b", "v")), Statement(INSERT, ("a", "v"))),
        database.write(Statement("UPDATE meta SET value = 'v' WHERE key = 'nobody'", must_change=True)),
        database.write(
            Statement(INSERT, ("c", "v")), Statement("DELETE FROM meta WHERE key = 'nobody'", must_change=True)
        ),
        database.write(Statement(INSERT + " RETURNING key", ("d", "v")), Statement(INSERT, ("e", "v"))),
        return_exceptions=True,
    )
    kinds = [type(result).__name__ for result in results]
    assert kinds == ["Written", *(["StoreConflict"] * 2), *(["NoRowChanged"] * 2), "Written"]
    assert isinstance(results[1], StoreConflict)
    assert isinstance(results[4], NoRowChanged)
    found = await database.read(Statement("SELECT key FROM meta WHERE value = 'v' ORDER BY key"), COUNT)
    assert found == [[("a",), ("d",), ("e",)], [(3,)]]


async def test_a_snapshot_stays_at_its_moment(database: Database) -> None:
    async with database.snapshot() as snapshot:
        assert await snapshot.read(COUNT) == [[(0,)]]
        await database.write(Statement(INSERT, ("a", "v")))
        assert await snapshot.read(COUNT, COUNT) == [[(0,)], [(0,)]]
    assert await database.read(COUNT) == [[(1,)]]


async def test_a_snapshot_whose_server_died_says_so(database: Database, sqld: SqldServer) -> None:
    async with database.snapshot() as snapshot:
        assert await snapshot.read(COUNT) == [[(0,)]]
        await asyncio.to_thread(sqld.restart)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await snapshot.read(COUNT)
    assert await database.read(COUNT) == [[(0,)]]


async def test_changes_and_copies_come_by_http(database: Database, sqld: SqldServer, tmp_path: Path) -> None:
    address = parse_address(sqld.websocket_url)
    assert isinstance(address, ServerAddress)
    driver = await ServerDriver.open(address, replica=None, auth_token=None, poll_ms=60_000, clock=lambda: 0)
    await eventually(lambda: driver._wakeup.streaming)
    while driver._wakeup.streaming:
        await driver.wait_for_change()
        if await driver.read((COUNT,)) == [[(1,)]]:
            break
        await asyncio.to_thread(sqld.execute, INSERT, "a", "v")
        await asyncio.to_thread(sqld.execute, "INSERT INTO plans(id, name) VALUES ('p', 'P')")
    await driver.close()
    await database.backup(tmp_path / "copy.db")
    async with await Database.open(str(tmp_path / "copy.db")) as copy:
        assert await copy.read(COUNT) == [[(1,)]]


async def test_writes_outlive_the_server(database: Database, sqld: SqldServer) -> None:
    made, unknown = set(), set()

    async def write(i: int) -> None:
        try:
            await database.write(Statement(INSERT, (f"k{i}", "v")))
            made.add(f"k{i}")
        except StoreUncertain:
            unknown.add(f"k{i}")
        except StoreUnavailable:
            pass

    for i in range(3):
        writes = [asyncio.create_task(write(20 * i + j)) for j in range(20)]
        await asyncio.sleep(0.002 * i)
        await asyncio.to_thread(sqld.restart)
        await asyncio.gather(*writes)
    await write(999)
    assert "k999" in made
    [found] = await database.read(Statement("SELECT key FROM meta WHERE value = 'v'"))
    keys = {key for (key,) in found}
    assert made <= keys <= made | unknown


async def test_a_frozen_server_is_waited_for_and_used_again(database: Database, sqld: SqldServer) -> None:
    await database.read(COUNT)
    sqld.freeze()
    reading = asyncio.create_task(database.read(COUNT))
    writing = asyncio.create_task(database.write(Statement(INSERT, ("a", "v"))))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    sqld.resume()
    await writing
    assert await database.read(COUNT) == [[(1,)]]


async def test_a_reading_token_reads_on_after_it_could_not_write(tmp_path: Path) -> None:
    key = JwtKey(tmp_path)
    with SqldServer(tmp_path / "server", jwt_key=key) as sqld:
        async with await Database.open(sqld.websocket_url, auth_token=key.token()) as opened:
            await migrate(opened)
        async with await Database.open(sqld.websocket_url, auth_token=key.token(access="ro")) as database:
            async with database.snapshot() as snapshot:
                await snapshot.read(COUNT)
                with pytest.raises(StoreUnavailable, match="does not allow it"):
                    await database.write(Statement(INSERT, ("a", "v")))
                assert await snapshot.read(COUNT) == [[(0,)]]
            assert await database.read(COUNT) == [[(0,)]]
        with pytest.raises(StoreUnavailable, match="the token is missing, bad or expired"):
            await Database.open(sqld.websocket_url, auth_token=key.token(lives_s=-600))


async def test_in_transaction_holds_on_a_stream_that_was_used_before(sqld: SqldServer) -> None:
    async with connected(sqld.websocket_url) as server:
        stream = server.stream()
        outcomes = await stream.batch([Step("SELECT 1", (), IN_TRANSACTION), Step("BEGIN")], timeout_s=T)
        assert [outcome.ran for outcome in outcomes] == [False, True]
        outcomes = await stream.batch([Step("SELECT 1", (), IN_TRANSACTION)], timeout_s=T)
        assert [outcome.ran for outcome in outcomes] == [True]
        await stream.close()
