"""What only a libSQL server can have wrong: writes that stall, a stream of changes that is missing, a replica that does
not follow."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.address import ServerAddress
from gateway.store.driver import Statement
from gateway.store.http_streams import HttpServer, NotOffered
from gateway.store.inspection import Finding, Note
from gateway.store.server_streams import Streams
from gateway.store.stream import Server, Step

SLOW_WRITE_S = 1.0
FOLLOW_S = 5.0
TIMEOUT_S = 8.0
"""For a write: a server that answers none within 6 s has stalled."""

_MARK = Statement("INSERT INTO writers(id, batch, at) VALUES (?, 1, 0) ON CONFLICT DO NOTHING")
_SEEN = Statement("SELECT count(*) FROM writers WHERE id = ?")
_UNMARK = Statement("DELETE FROM writers WHERE id = ?")


async def inspect_server(
    primary: ServerAddress,
    replica: ServerAddress | None,
    token: str | None,
    *,
    connect: Callable[[str, str | None], HttpServer] = HttpServer,
) -> AsyncIterator[Finding | Note]:
    """What is wrong with the server, and what it is. `token` is for addresses that carry none; `connect` makes a server
    of an address and its token."""
    server = connect(primary.http_url, primary.token or token)
    streams = Streams(server)
    mark = f"doctor-{secrets.token_hex(8)}"
    try:
        [[(version,)]] = await streams.read([Statement("SELECT sqlite_version()")], TIMEOUT_S)
        yield Note("server", f"{primary}, SQLite {version}")
        yield await _changes(server)
        begun = time.monotonic()
        try:
            await _write(server, _MARK, mark)
        except StoreError as error:
            if "no such table" not in str(error):  # which is found elsewhere
                yield Finding("writes", f"the server does not write: {error}")
            return
        seconds = time.monotonic() - begun
        text = f"a write took {seconds * 1000:.0f} ms"
        yield Finding("writes", f"{text}: the server is slow") if seconds > SLOW_WRITE_S else Note("writes", text)
        try:
            if replica is not None:
                yield await _followed(replica, primary.token or token, mark)
        finally:
            await _write(server, _UNMARK, mark)
        yield Note(
            "durability", "a server syncs at checkpoints only unless its durability_mode is strong (see the docs)"
        )
    finally:
        await streams.close()
        await server.close()


async def _changes(server: HttpServer) -> Finding | Note:
    try:
        async with asyncio.timeout(TIMEOUT_S), server.changes("change_log"):
            return Note("changes", "the server tells of changes as they happen")
    except NotOffered as error:
        return Note("changes", f"they are polled for: {error}")
    except (StoreUnavailable, TimeoutError) as error:
        return Finding("changes", f"the stream of changes can not be opened: {str(error) or 'no answer'}")


async def _write(server: Server, statement: Statement, mark: str) -> None:
    """On a stream of its own, once: what is read is asked for again when an answer is lost, and a write must not be."""
    stream = server.stream()
    try:
        [outcome] = await stream.batch([Step(statement.sql, (mark,))], timeout_s=TIMEOUT_S)
    finally:
        await stream.close()
    if outcome.error is not None:
        raise outcome.error


async def _followed(replica: ServerAddress, token: str | None, mark: str) -> Finding | Note:
    """How long the replica takes to have what was just written."""
    server = HttpServer(replica.http_url, replica.token or token)
    streams = Streams(server)
    begun = time.monotonic()
    try:
        while time.monotonic() < begun + FOLLOW_S:
            [[(seen,)]] = await streams.read([_SEEN._replace(args=(mark,))], TIMEOUT_S)
            if seen:
                return Note("replica", f"{replica} follows, {(time.monotonic() - begun) * 1000:.0f} ms behind")
            await asyncio.sleep(0.001)
    except StoreError as error:
        return Finding("replica", f"it can not be read: {error}")
    finally:
        await streams.close()
        await server.close()
    return Finding("replica", f"{replica} does not follow: a write is not there after {FOLLOW_S:.0f} s")
