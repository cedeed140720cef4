"""The streams to one libSQL server on which is read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.driver import Row, Statement
from gateway.store.stream import IN_TRANSACTION, Outcome, Server, Step, Stream, TimedOut, Unanswered, succeeded

READ_TIMEOUT_S = 3.0
STREAMS = 16
"""In use at once; a server holds 128 for all its clients."""

IDLE_S = 1.0
"""How long a stream that nobody uses is kept."""

BEGIN, END = "BEGIN", "ROLLBACK"


class Streams:
    """The streams of one server for reading: kept while they are used, and let go of soon after, for a server holds few
    for all its clients together."""

    def __init__(self, server: Server, *, idle_s: float = IDLE_S) -> None:
        self._server = server
        self._idle: list[tuple[Stream, float]] = []
        self._idle_s = idle_s
        self._sweep: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(STREAMS)
        self._read_at = -math.inf

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
        self._close_behind(old)

    def _close_behind(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            self.behind(stream.close())

    def behind(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this without anybody waiting for it but `close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
            old, self._idle = self._idle, []  # as old as the one that failed
            self._close_behind(stream for stream, _ in old)

    async def end(self, stream: Stream) -> None:
        """End a read transaction and give the stream back."""
        try:
            if not stream.broken:
                [ended] = await stream.batch([Step(END)], timeout_s=READ_TIMEOUT_S)
                stream.broken = stream.broken or not ended.ok
        except StoreError:
            stream.broken = True
        finally:
            self.give_back(stream)

    async def read(self, statements: Sequence[Statement], timeout_s: float) -> list[list[Row]]:
        """The rows of each statement, all of one moment."""
        steps = [Step(sql, args) for sql, args, _ in statements]
        if len(steps) == 1:
            return [rows_of(outcome) for outcome in await self._once(steps, timeout_s)]
        begun = [step._replace(condition=succeeded(i)) for i, step in enumerate(steps)]
        outcomes = await self._once([Step(BEGIN), *begun, Step(END, (), IN_TRANSACTION)], timeout_s)
        return [rows_of(outcome) for outcome in outcomes[:-1]][1:]

    async def _once(self, steps: Sequence[Step], timeout_s: float) -> list[Outcome]:
        now = asyncio.get_running_loop().time()
        often, self._read_at = now - self._read_at < self._idle_s, now
        if self._idle or often:
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
        """Close the streams that are idle, once what is done behind is done."""
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*self._tasks, *(stream.close() for stream, _ in idle))


def rows_of(outcome: Outcome) -> list[Row]:
    """The rows of a step that had to be run. Raises what it was refused with."""
    if outcome.error is not None:
        raise outcome.error
    if not outcome.ran:
        raise StoreUnavailable("the server ended the transaction")
    return outcome.rows
