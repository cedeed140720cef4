"""What both transports to a libSQL server promise, on real servers."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import StoreConflict, StoreError, StoreUnavailable
from gateway.store.http_streams import HttpServer
from gateway.store.stream import IN_TRANSACTION, Server, Step, Stream, TimedOut, Unanswered, both, failed, succeeded
from gateway.store.ws_streams import WsServer
from tests.support.certificates import self_signed
from tests.support.gateway_process import free_port
from tests.support.sqld import JwtKey, SqldServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

TABLES = """
CREATE TABLE things(
  id INTEGER PRIMARY KEY, name TEXT UNIQUE, at INTEGER NOT NULL DEFAULT 0 CHECK (at >= 0)
) STRICT
"""
T = 5.0


@pytest.fixture(scope="module")
def sqld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqldServer]:
    with SqldServer(tmp_path_factory.mktemp("streams")) as server:
        server.execute(TABLES)
        yield server


@pytest.fixture
def own_sqld(tmp_path: Path) -> Iterator[SqldServer]:
    """One that a test may kill."""
    with SqldServer(tmp_path / "own") as server:
        server.execute(TABLES)
        yield server


class Transport:
    """Makes servers of one kind, and closes them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.servers: list[Server] = []

    def to(self, port: int, token: str | None = None, *, host: str = "127.0.0.1", tls: bool = False) -> Server:
        url = f"{self.kind}{'s' if tls else ''}://{host}:{port}"
        server: Server = HttpServer(url, token) if self.kind == "http" else WsServer(url, token)
        self.servers.append(server)
        return server


@pytest.fixture(params=["http", "ws"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """Whatever happens: nothing is left that the loop would complain about."""
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    before = asyncio.all_tasks()
    made = Transport(request.param)
    yield made
    for server in made.servers:
        await server.close()
    current = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() - before if task is not current] == []
    gc.collect()
    await asyncio.sleep(0)
    assert noise == []


@pytest.fixture
def wire(own_sqld: SqldServer) -> Iterator[TcpProxy]:
    with TcpProxy(own_sqld.port) as proxy:
        yield proxy


@pytest.fixture
async def server(transport: Transport, sqld: SqldServer) -> Server:
    sqld.execute("DELETE FROM things")
    return transport.to(sqld.port)


async def rows(stream: Stream, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    [outcome] = await stream.batch([Step(sql, args)], timeout_s=T)
    assert outcome.ok, outcome
    return outcome.rows


async def open_question(wire: TcpProxy, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Work that has asked the server behind the wire something, which does not answer."""
    before = wire.asked
    task = asyncio.create_task(work)
    await eventually(lambda: wire.asked > before)
    assert not task.done()
    return task


async def works(server: Server) -> None:
    """A new stream answers, as soon as the server does."""
    deadline = time.monotonic() + 10
    while True:
        stream = server.stream()
        try:
            assert await rows(stream, "SELECT 7") == [(7,)]
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        else:
            return await stream.close()


# --- values ---


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    # With few digits: the server reads longer numbers without care for the last bit.
    st.integers(-(2**40), 2**40).map(lambda number: number / 8),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)


@given(values=st.lists(VALUES, min_size=1, max_size=20))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_values_come_back_as_they_went(server: Server, values: list[Any]) -> None:
    stream = server.stream()
    [found] = await rows(stream, f"SELECT {', '.join('?' * len(values))}", *values)
    await stream.close()
    assert list(found) == values
    assert [type(value) for value in found] == [type(value) for value in values]


async def test_what_sqlite_keeps_of_special_values(server: Server) -> None:
    stream = server.stream()
    query = "SELECT 9223372036854775807, -9223372036854775808, 'a' || char(0) || 'b', x'00ff', 1e999, NULL, 2.0"
    assert await rows(stream, query) == [(2**63 - 1, -(2**63), "a\0b", b"\x00\xff", float("inf"), None, 2.0)]
    await stream.close()


@pytest.mark.parametrize("value", [2**63, float("nan"), "\ud800", object()])
async def test_what_no_column_holds_is_not_sent(server: Server, value: Any) -> None:
    stream = server.stream()
    with pytest.raises((OverflowError, ValueError, TypeError)):
        await stream.batch([Step("SELECT ?", (value,))], timeout_s=T)
    assert await rows(stream, "SELECT 1") == [(1,)]
    await stream.close()


# --- batches ---


async def test_steps_depend_on_how_others_went(server: Server) -> None:
    stream = server.stream()
    insert = "INSERT INTO things(id, name) VALUES (?, ?)"
    outcomes = await stream.batch(
        [
            Step("BEGIN IMMEDIATE"),
            Step(insert, (1, "one"), succeeded(0)),
            Step(insert, (1, "again"), succeeded(1)),
            Step("SELECT 'refused'", (), failed(2)),
            Step("SELECT 'not run'", (), succeeded(2)),
            Step(insert, (2, "two"), both(succeeded(1), {"type": "not", "cond": succeeded(4)}, IN_TRANSACTION)),
            Step("COMMIT", (), IN_TRANSACTION),
            Step("SELECT 'in a transaction'", (), IN_TRANSACTION),
        ],
        timeout_s=T,
    )
    assert [outcome.ok for outcome in outcomes] == [True, True, False, True, False, True, True, False]
    assert [outcome.ran for outcome in outcomes] == [True, True, True, True, False, True, True, False]
    assert [outcomes[1].changed, outcomes[3].rows] == [1, [("refused",)]]
    refused = outcomes[2].error
    assert isinstance(refused, StoreConflict)
    assert (refused.kind, refused.what) == ("unique", "things.id")
    assert not stream.broken
    assert await rows(stream, "SELECT id, name FROM things ORDER BY id") == [(1, "one"), (2, "two")]
    await stream.close()


async def test_a_later_batch_knows_whether_the_transaction_is_open(server: Server) -> None:
    stream = server.stream()
    await rows(stream, "BEGIN")
    [inside] = await stream.batch([Step("SELECT 1", (), IN_TRANSACTION)], timeout_s=T)
    await rows(stream, "ROLLBACK")
    [outside] = await stream.batch([Step("SELECT 1", (), IN_TRANSACTION)], timeout_s=T)
    assert (inside.ran, outside.ran) == (True, False)
    await stream.close()


async def test_streams_are_apart_and_a_closed_one_has_lost_its_transaction(server: Server) -> None:
    one, other = server.stream(), server.stream()
    await rows(one, "BEGIN IMMEDIATE")
    await rows(one, "INSERT INTO things(id) VALUES (5)")
    assert await rows(other, "SELECT count(*) FROM things") == [(0,)]
    await one.close()
    await rows(other, "INSERT INTO things(id) VALUES (6)")
    assert await rows(other, "SELECT id FROM things") == [(6,)]
    await other.close()
    with pytest.raises(StoreUnavailable, match="has ended"):
        await rows(one, "SELECT 1")


async def test_many_streams_at_once(server: Server) -> None:
    streams = [server.stream() for _ in range(16)]
    found = await asyncio.gather(*(rows(stream, "SELECT ?", i) for i, stream in enumerate(streams)))
    assert found == [[(i,)] for i in range(16)]
    await asyncio.gather(*(stream.close() for stream in streams))


async def test_a_batch_that_can_not_be_read_is_refused_whole_and_ends_the_transaction(server: Server) -> None:
    stream, other = server.stream(), server.stream()
    await rows(stream, "BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="parsed") as refused:
        await stream.batch([Step("SELECT"), Step("SELECT 1")], timeout_s=T)
    assert not isinstance(refused.value, StoreUnavailable)
    assert stream.broken
    await rows(other, "INSERT INTO things(id) VALUES (1)")  # at once: nobody holds the lock
    await other.close()


# --- sizes ---


async def test_replies_of_megabytes(server: Server) -> None:
    stream = server.stream()
    outcomes = await stream.batch([Step("SELECT printf('%.*c', 4900000, 'x')")] * 2, timeout_s=T)
    assert [len(outcome.rows[0][0]) for outcome in outcomes] == [4_900_000] * 2
    # Six bytes of JSON for each of them.
    [[control]] = await rows(stream, "SELECT replace(printf('%.*c', 4900000, 'x'), 'x', char(1))")
    assert control == "\x01" * 4_900_000
    await stream.close()


async def test_a_reply_that_is_too_long_says_so_and_harms_nobody(server: Server) -> None:
    stream, other = server.stream(), server.stream()
    await rows(other, "BEGIN")
    with pytest.raises(StoreError, match="too large") as refused:
        await stream.batch([Step("SELECT printf('%.*c', 4900000, 'x')")] * 3, timeout_s=T)
    assert not isinstance(refused.value, StoreUnavailable)  # again would be no better
    assert stream.broken
    [still] = await other.batch([Step("SELECT 1", (), IN_TRANSACTION)], timeout_s=T)
    assert still.ran
    await other.close()


async def test_long_values_are_stored(server: Server) -> None:
    stream = server.stream()
    text = "ä" * 2_400_000
    await rows(stream, "INSERT INTO things(id, name) VALUES (1, ?)", text)
    assert await rows(stream, "SELECT name FROM things") == [(text,)]
    await stream.close()


# --- failures ---


async def test_nobody_there(transport: Transport) -> None:
    stream = transport.to(free_port()).stream()
    with pytest.raises(StoreUnavailable, match="can not be reached") as failure:
        await rows(stream, "SELECT 1")
    assert not isinstance(failure.value, Unanswered)


async def test_a_server_that_was_killed_is_found_again(transport: Transport, own_sqld: SqldServer) -> None:
    server = transport.to(own_sqld.port)
    old = server.stream()
    await rows(old, "SELECT 1")
    own_sqld.kill()
    with pytest.raises(StoreUnavailable):
        await rows(old, "SELECT 1")
    with pytest.raises(StoreUnavailable, match="can not be reached") as failure:
        await rows(server.stream(), "SELECT 1")
    assert not isinstance(failure.value, Unanswered)
    own_sqld.start()
    await works(server)
    with pytest.raises(StoreUnavailable):
        await rows(old, "SELECT 1")


async def test_killed_with_a_question_open(wire: TcpProxy, transport: Transport, own_sqld: SqldServer) -> None:
    server = transport.to(wire.port)
    stream = server.stream()
    await rows(stream, "SELECT 1")
    own_sqld.freeze()
    asked = await open_question(wire, stream.batch([Step("SELECT 1")], timeout_s=20.0))
    own_sqld.kill()
    with pytest.raises(Unanswered):
        await asked
    assert stream.broken
    own_sqld.start()
    await works(server)


async def test_a_frozen_server_costs_no_more_than_the_time_allowed(transport: Transport, own_sqld: SqldServer) -> None:
    server = transport.to(own_sqld.port)
    stream, other = server.stream(), server.stream()
    await rows(stream, "SELECT 1")
    await rows(other, "SELECT 1")
    own_sqld.freeze()
    started = time.monotonic()
    with pytest.raises(TimedOut):
        await stream.batch([Step("SELECT 1")], timeout_s=0.3)
    assert time.monotonic() - started < 2
    assert stream.broken
    own_sqld.resume()
    await works(server)


async def test_a_wire_that_is_cut(transport: Transport, sqld: SqldServer) -> None:
    with TcpProxy(sqld.port) as wire:
        server = transport.to(wire.port)
        stream = server.stream()
        await rows(stream, "SELECT 1")
        wire.cut(silent=True)
        with pytest.raises(Unanswered):
            await stream.batch([Step("SELECT 1")], timeout_s=0.2)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await server.stream().batch([Step("SELECT 1")], timeout_s=0.2)
        assert time.monotonic() - started < 2
        wire.cut()
        with pytest.raises(StoreUnavailable):
            await server.stream().batch([Step("SELECT 1")], timeout_s=0.2)
        wire.restore()
        await works(server)


async def test_cancelled_in_mid_call(wire: TcpProxy, transport: Transport, own_sqld: SqldServer) -> None:
    """The transport's fixture looks for what would be complained about."""
    server = transport.to(wire.port)
    stream, other = server.stream(), server.stream()
    await rows(other, "SELECT 1")
    await rows(stream, "BEGIN IMMEDIATE")
    own_sqld.freeze()
    asked = await open_question(wire, rows(stream, "INSERT INTO things(id) VALUES (1)"))
    new = await open_question(wire, rows(server.stream(), "SELECT 1"))
    for task in (asked, new):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert stream.broken
    own_sqld.resume()
    await works(server)


async def test_cancelled_while_it_connects(wire: TcpProxy, transport: Transport, own_sqld: SqldServer) -> None:
    own_sqld.freeze()
    server = transport.to(wire.port)
    asked = await open_question(wire, rows(server.stream(), "SELECT 1"))
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    own_sqld.resume()
    await works(server)


async def test_closed_with_questions_open(wire: TcpProxy, transport: Transport, own_sqld: SqldServer) -> None:
    server = transport.to(wire.port)
    stream = server.stream()
    await rows(stream, "SELECT 1")
    own_sqld.freeze()
    asked = await open_question(wire, rows(stream, "SELECT 1"))
    await server.close()
    with pytest.raises(StoreUnavailable):
        await asked


async def test_a_certificate_of_nobody_known(transport: Transport, tmp_path: Path) -> None:
    told: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(await reader.read(1))

    listener = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=self_signed(tmp_path).server_context())
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(StoreUnavailable, match="certificate") as refused:
            await rows(transport.to(port, "secret", host="localhost", tls=True).stream(), "SELECT 1")
    assert not isinstance(refused.value, Unanswered)
    assert told == []


# --- tokens ---


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqldServer]:
    directory = tmp_path_factory.mktemp("guarded")
    with SqldServer(directory / "server", jwt_key=JwtKey(directory)) as server:
        server.execute(TABLES)
        yield server


def token(server: SqldServer, **claims: Any) -> str:
    assert server.jwt_key is not None
    return server.jwt_key.token(**claims)


async def test_a_good_token(transport: Transport, guarded: SqldServer) -> None:
    stream = transport.to(guarded.port, token(guarded)).stream()
    await rows(stream, "INSERT INTO things(at) VALUES (1)")
    await stream.close()


@pytest.mark.parametrize("kind", ["none", "bad", "expired"])
async def test_a_token_that_is_refused(transport: Transport, guarded: SqldServer, kind: str) -> None:
    given = {"none": None, "bad": "nonsense", "expired": token(guarded, lives_s=-600)}[kind]
    server = transport.to(guarded.port, given)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="the token is missing, bad or expired") as refused:
            await rows(server.stream(), "SELECT 1")
        assert not isinstance(refused.value, Unanswered)
        assert "nonsense" not in str(refused.value)


async def test_a_token_that_may_only_read(transport: Transport, guarded: SqldServer) -> None:
    server = transport.to(guarded.port, token(guarded, access="ro"))
    reader = server.stream()
    await rows(reader, "BEGIN")
    with pytest.raises(StoreUnavailable, match="does not allow it") as refused:
        await server.stream().batch(
            [Step("BEGIN IMMEDIATE"), Step("DELETE FROM things", (), succeeded(0))], timeout_s=T
        )
    assert not isinstance(refused.value, Unanswered)
    [still] = await reader.batch([Step("SELECT 1", (), IN_TRANSACTION)], timeout_s=T)
    assert still.ran
    await reader.close()


async def test_what_a_reading_token_writes_all_the_same_ends_nothing_for_good(
    transport: Transport, guarded: SqldServer
) -> None:
    server = transport.to(guarded.port, token(guarded, access="ro"))
    await works(server)
    with pytest.raises(StoreUnavailable):
        await server.stream().batch([Step("DELETE FROM things")], timeout_s=T)
    await works(server)


async def test_idle_streams_are_noticed(transport: Transport, own_sqld: SqldServer) -> None:
    server = transport.to(own_sqld.port)
    stream = server.stream()
    assert not stream.expired
    await rows(stream, "SELECT 1")
    assert not stream.expired
    own_sqld.restart()
    if transport.kind == "ws":
        await eventually(lambda: stream.expired)
    with pytest.raises(StoreUnavailable):
        await rows(stream, "SELECT 1")
    assert stream.broken
    await works(server)
