"""Reads from a libSQL server: from the primary what is newest, from a replica what is near.

A replica lags by milliseconds, may be replaced by one that lags more, be cut off from its primary, and be away. What is
read near never goes back in time within this process all the same, nor behind this process's own writes: every near
read learns the position of the change log in its snapshot, is repeated while that is behind what was seen before, and
goes to the primary when that takes too long. Who asks the primary for its position now and then (`Near.confirm`) bounds
how old it can be; a replica that is not confirmed so is not believed at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.driver import Row, Statement, StoreCounts
from gateway.store.stream import IN_TRANSACTION, Outcome, Server, Step, Stream, TimedOut, Unanswered, succeeded

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 3.0
SCAN_TIMEOUT_S = 60.0
STREAMS = 16
"""Streams in use at once; a server holds 128 for all its clients."""

IDLE_S = 1.0
"""How long a stream that nobody uses is kept."""

LAG_PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Between the looks at a replica that is behind; its lag is 4 ms on a good day."""

TRUST_S = 5.0
"""So long after the primary was last heard of a replica is believed: it may be cut off, and revocations with it."""

NEAR_TIMEOUT_S = 1.0
"""A replica that takes longer hangs: everybody behind that read waits too, and the primary can be asked."""

REPLICA_REST_S = 2.0
"""How long a replica that failed is left alone."""

HANGING_REST_S = 30.0
"""The most, where each attempt hangs: the rest is doubled from one to the next."""

POSITION = Statement("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0)")

_BEGIN, _END = "BEGIN", "ROLLBACK"


class Streams:
    """The streams of one server for reading: kept while they are used, and let go of soon after, for a server holds few
    for all its clients together."""

    def __init__(self, server: Server, *, idle_s: float = IDLE_S) -> None:
        self._server = server
        self._idle: list[tuple[Stream, float]] = []
        self._idle_s = idle_s
        self._sweep: asyncio.TimerHandle | None = None
        self._free = asyncio.Semaphore(STREAMS)

    async def borrow(self) -> tuple[Stream, bool]:
        """A stream, and whether it is new; give it back."""
        await self._free.acquire()
        while self._idle:
            stream, _ = self._idle.pop()
            if not stream.expired:
                return stream, False
        return self._server.stream(), True

    def give_back(self, stream: Stream) -> None:
        """Keep the stream for the next reader for a while, unless it broke."""
        if not stream.broken:
            loop = asyncio.get_running_loop()
            self._idle.append((stream, loop.time()))
            if self._sweep is None:
                self._sweep = loop.call_later(self._idle_s, self._let_go)
        self._free.release()

    def _let_go(self) -> None:
        """Close the streams that nobody used for a while."""
        loop = asyncio.get_running_loop()
        before = loop.time() - self._idle_s
        old = [stream for stream, since in self._idle if since <= before]
        self._idle = [(stream, since) for stream, since in self._idle if since > before]
        self._sweep = loop.call_later(self._idle_s, self._let_go) if self._idle else None
        for stream in old:
            _behind(stream.close())

    async def first(self, steps: Sequence[Step], timeout_s: float) -> tuple[Stream, list[Outcome]]:
        """Run the first batch on a stream, on a new one when an old one fails: a read may be repeated. The stream is
        the caller's to give back; none is taken when this raises."""
        while True:
            stream, new = await self.borrow()
            try:
                return stream, await stream.batch(steps, timeout_s=timeout_s)
            except StoreUnavailable as error:
                stream.broken = True
                self.give_back(stream)
                if new or isinstance(error, TimedOut):
                    raise
            except BaseException:
                stream.broken = True
                self.give_back(stream)
                raise
            self._idle.clear()  # they are as old as the one that failed

    async def read(self, statements: Sequence[Statement], timeout_s: float) -> list[list[Row]]:
        """The rows of each statement, all of one moment."""
        steps = [Step(sql, args) for sql, args, _ in statements]
        if len(steps) == 1:
            return [rows_of(outcome) for outcome in await self._once(steps, timeout_s)]
        begun = [step._replace(condition=succeeded(i)) for i, step in enumerate(steps)]
        outcomes = await self._once([Step(_BEGIN), *begun, Step(_END, (), IN_TRANSACTION)], timeout_s)
        return [rows_of(outcome) for outcome in outcomes[:-1]][1:]

    async def _once(self, steps: Sequence[Step], timeout_s: float) -> list[Outcome]:
        if self._idle:
            stream, outcomes = await self.first(steps, timeout_s)
            self.give_back(stream)
            return outcomes
        async with self._free:
            try:
                return await self._server.once(steps, timeout_s=timeout_s)
            except TimedOut:
                raise
            except Unanswered:  # the connection was an old one: a read may be repeated
                return await self._server.once(steps, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close the streams that are idle."""
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(stream.close() for stream, _ in idle))


class Near:
    """Reads that may lag, from the replica where there is one; they never go back in time."""

    def __init__(
        self, primary: Streams, replica: Streams | None, *, counts: StoreCounts | None = None, trust_s: float = TRUST_S
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._trust_s = trust_s
        self._rest_until = 0.0
        self._rest_s = REPLICA_REST_S
        self._away = False
        self._confirmed_at = time.monotonic()
        self.floor = 0
        """The newest position of the change log that this process has seen: no read is behind it."""
        self.counts = counts if counts is not None else StoreCounts()

    async def read(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """All statements in one snapshot."""
        if self._replica is None:
            return await self._primary.read(statements, READ_TIMEOUT_S)
        streams, stream, rows = await self.begin(statements, Step(_END, (), IN_TRANSACTION))
        streams.give_back(stream)
        return rows

    async def confirm(self) -> int:
        """Ask the primary for the position of the change log: nothing older is read from now on."""
        before = self.floor
        [[(position,)]] = await self._primary.read([POSITION], READ_TIMEOUT_S)
        self._learn(int(position), before)
        return int(position)

    def _learn(self, position: int, before: int) -> None:
        """The primary said so, asked when the floor was `before`. It is right, also when its numbering went back."""
        self._confirmed_at = time.monotonic()
        self.floor = position if position < before else max(self.floor, position)

    def snapshot(self) -> ServerSnapshot:
        """A read transaction for the length of an ``async with`` block."""
        return ServerSnapshot(self)

    async def begin(self, statements: Sequence[Statement], *ending: Step) -> tuple[Streams, Stream, list[list[Row]]]:
        """Begin a transaction that is not behind the floor, and run the first statements in it, then `ending`.

        Answers the stream, to be given back, and the statements' rows.
        """
        steps = [Step(_BEGIN), Step(POSITION.sql)]
        before = 0
        for sql, args, _ in statements:
            steps.append(Step(sql, args, succeeded(before)))
            before = len(steps) - 1
        steps += ending
        if self._replica is not None:
            for pause_s in (0.0, *LAG_PAUSES_S):
                now = time.monotonic()
                if now < self._rest_until or now - self._confirmed_at > self._trust_s:
                    break
                await asyncio.sleep(pause_s)
                stream, outcomes = await self._ask(self._replica, steps)
                if stream is not None and _position(outcomes) >= self.floor:
                    return self._begun(self._replica, stream, outcomes, len(statements))
                if stream is not None:
                    await end(self._replica, stream)
            self.counts.past_replica += 1
        floor = self.floor
        stream, outcomes = await self._primary.first(steps, READ_TIMEOUT_S)
        self._learn(_position(outcomes), floor)
        return self._begun(self._primary, stream, outcomes, len(statements))

    async def _ask(self, replica: Streams, steps: Sequence[Step]) -> tuple[Stream | None, list[Outcome]]:
        try:
            stream, outcomes = await replica.first(steps, NEAR_TIMEOUT_S)
        except StoreUnavailable as error:
            self._rest(hung=isinstance(error, TimedOut))
            if not self._away:
                self._away = True
                log.warning("the replica can not be read; the primary is: %s", error)
            return None, []
        self._rest_s = REPLICA_REST_S
        if self._away:
            self._away = False
            log.warning("the replica can be read again")
        return stream, outcomes

    def _rest(self, *, hung: bool) -> None:
        """Leave the replica alone for a while. Who waited beside the one that hung does not make it longer."""
        now = time.monotonic()
        if now < self._rest_until:
            return
        self._rest_until = now + self._rest_s
        self._rest_s = min(HANGING_REST_S, self._rest_s * 2) if hung else REPLICA_REST_S

    def _begun(
        self, streams: Streams, stream: Stream, outcomes: list[Outcome], count: int
    ) -> tuple[Streams, Stream, list[list[Row]]]:
        try:
            rows = [rows_of(outcome) for outcome in outcomes[: count + 2] if outcome is not outcomes[1]][1:]
        except StoreError:
            stream.broken = True  # its transaction is of no use to anybody
            streams.give_back(stream)
            raise
        self.floor = max(self.floor, _position(outcomes))
        return streams, stream, rows


class ServerSnapshot:
    """One read transaction on a stream of its own: each `read` is a request, the first one begins the transaction."""

    __slots__ = ("_near", "_stream", "_streams")

    def __init__(self, near: Near) -> None:
        self._near = near
        self._stream: Stream | None = None

    async def __aenter__(self) -> ServerSnapshot:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._stream is not None:
            # Whoever read is not to pay for the good-bye.
            _behind(end(self._streams, self._stream))

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement; the first read fixes the moment."""
        if self._stream is None:
            self._streams, self._stream, rows = await self._near.begin(statements)
            return rows
        steps = [Step(sql, args, IN_TRANSACTION) for sql, args, _ in statements]
        try:
            outcomes = await self._stream.batch(steps, timeout_s=READ_TIMEOUT_S)
        except UnicodeDecodeError:
            # The server gave the stream up: who reads around that text does so in a new transaction, of a later moment.
            stream, self._stream = self._stream, None
            self._streams.give_back(stream)
            raise
        if not all(outcome.ran for outcome in outcomes):
            self._stream.broken = True
            raise StoreUnavailable("the server ended the snapshot")
        return [rows_of(outcome) for outcome in outcomes]


_tasks: set[asyncio.Task[None]] = set()


def _behind(work: Coroutine[Any, Any, None]) -> None:
    """Do this without waiting for it."""
    task = asyncio.create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def end(streams: Streams, stream: Stream) -> None:
    """End a read transaction and give the stream back."""
    try:
        if not stream.broken:
            [ended] = await stream.batch([Step(_END)], timeout_s=READ_TIMEOUT_S)
            stream.broken = stream.broken or not ended.ok
    except StoreError:
        stream.broken = True
    finally:
        streams.give_back(stream)


def rows_of(outcome: Outcome) -> list[Row]:
    """The rows of a step that had to be run. Raises what it was refused with."""
    if outcome.error is not None:
        raise outcome.error
    if not outcome.ran:
        raise StoreUnavailable("the server ended the transaction")
    return outcome.rows


def _position(outcomes: Sequence[Outcome]) -> int:
    """The position of the change log, step 1; 0 in a database without one."""
    return int(outcomes[1].rows[0][0]) if outcomes[1].ok else 0
