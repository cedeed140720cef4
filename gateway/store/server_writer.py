"""The one writer of a process to a libSQL server: whatever waits is committed together, in one request.

There is no collecting window: while one group is on its way, the next one collects itself. A server takes very few
writers at once, so a process is one, and keeps its stream.

Nothing is made twice. Each group carries a number that is one higher than the last, and is refused by the server
unless its number is higher than the one that the process's row in `writers` holds. When no answer came, a fence with a
higher number is put there: it tells whether the group was committed, and a group that arrives after it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

from gateway.errors import StoreError, StoreUnavailable, StoreUncertain
from gateway.store.driver import Statement, StoreCounts, Written
from gateway.store.hrana import value_size
from gateway.store.server_groups import Group, Operation
from gateway.store.sqlite import split_script
from gateway.store.stream import IN_TRANSACTION, Outcome, Step, Stream, Unanswered, both, succeeded

log = logging.getLogger(__name__)

GROUP_LIMIT = 200
"""Operations in one request: more would not be faster, and all wait for the last."""

GROUP_BYTES = 4 * 1024 * 1024
"""Of texts and blobs in one request: by WebSocket a server takes 16 MiB, in which they grow by a third or more."""

QUEUE_LIMIT = 20_000
"""Operations that may wait; beyond, a write is refused at once."""

TIMEOUT_S = 8.0
"""For one request. A server takes the write lock from a stream that held it for 5 s, so an honest wait is shorter."""

FENCE_TIMEOUT_S = 6.0
"""How long is tried to find out what became of a group that was not answered."""

SCRIPT_TIMEOUT_S = 60.0
IDLE_S = 1.0
"""How long a stream is kept that nothing is written on: a server holds few for all its clients together."""

BUSY_RETRIES = 3
BUSY_PAUSE_S = 0.02
FENCE_PAUSE_S = (0.05, 1.0)

_NUMBER = (
    "INSERT INTO writers(id, batch, at) VALUES (?, ?, ?) ON CONFLICT(id) DO UPDATE"
    " SET batch = excluded.batch, at = excluded.at WHERE batch < excluded.batch"
)
_FENCE = (
    "INSERT INTO writers(id, batch, at) VALUES (?, ?, ?) ON CONFLICT(id) DO UPDATE"
    " SET found = batch, batch = excluded.batch, at = excluded.at WHERE batch < excluded.batch"
)
_FOUND = "SELECT found FROM writers WHERE id = ?"


class ServerWriter:
    """Takes operations and commits them, group by group.

    `open_stream` makes a stream; again after one broke. `committed` is called with the newest position after each
    commit, when its futures are resolved; with 0 when answers were lost. `clock` gives milliseconds since 1970 UTC.
    """

    def __init__(
        self,
        open_stream: Callable[[], Stream],
        committed: Callable[[int], None],
        *,
        clock: Callable[[], int],
        counts: StoreCounts | None = None,
        timeout_s: float = TIMEOUT_S,
        fence_timeout_s: float = FENCE_TIMEOUT_S,
        idle_s: float = IDLE_S,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self.counts = counts if counts is not None else StoreCounts()
        self._open_stream = open_stream
        self._committed = committed
        self._clock = clock
        self._timeout_s = timeout_s
        self._fence_timeout_s = fence_timeout_s
        self._idle_s = idle_s
        self._queue_limit = queue_limit
        self._id = secrets.token_hex(8)
        self._number = 0
        self._stream: Stream | None = None
        self._queue: deque[Operation] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._refusing = False
        self._turn = asyncio.Lock()
        self._task = asyncio.create_task(self._run())

    def submit(self, statements: Sequence[Statement]) -> asyncio.Future[Written]:
        """Queue an operation; the future has its result after the commit. Raises `StoreUnavailable` when closed or when
        too many wait, `TypeError`, `ValueError` or `OverflowError` for a value that no column holds."""
        self._check_open()
        if len(self._queue) >= self._queue_limit:
            raise StoreUnavailable(f"{self._queue_limit} writes are waiting already")
        # What can not be sent fails here, and not the group that it would be in.
        size = sum(len(sql) + sum(map(value_size, args)) for sql, args, _ in statements)
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._queue.append(Operation(future, statements, size))
        self._wake.set()
        return future

    async def script(self, sql: str, statements: Sequence[Statement]) -> None:
        """A script, then statements, in one transaction of its own."""
        self._check_open()
        # Statement by statement: what a server makes of a whole script may end at the first that it can not read.
        steps = [Step("BEGIN IMMEDIATE")]
        for text, args in (*((text, ()) for text in split_script(sql)), *((s.sql, s.args) for s in statements)):
            steps.append(Step(text, args, succeeded(len(steps) - 1)))
        steps.append(Step("COMMIT", (), both(succeeded(len(steps) - 1), IN_TRANSACTION)))
        steps.append(Step("ROLLBACK", (), IN_TRANSACTION))
        async with self._turn:
            stream = self._open_stream()
            try:
                outcomes = await stream.batch(steps, timeout_s=SCRIPT_TIMEOUT_S)
            except Unanswered as error:
                raise StoreUncertain(f"it is not known whether a script was run: {error}") from error
            finally:
                await stream.close()
        for outcome in outcomes:
            _raise(outcome)
        if not outcomes[-2].ok:
            raise StoreUnavailable("the server ended the transaction")
        self._committed(0)

    async def close(self) -> None:
        """Commit what was accepted, then end the stream."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._drop()

    def _check_open(self) -> None:
        if self._closing:
            raise StoreUnavailable("the database is closed")

    # --- groups ---

    async def _run(self) -> None:
        while self._queue or not self._closing:
            try:
                await self._woken()
                while self._queue:
                    async with self._turn:
                        await self._commit_next()
            except Exception:  # without this task no write would ever be answered again
                log.exception("the writer failed")

    async def _woken(self) -> None:
        """Until there is something to do; a stream that is not used is not kept."""
        if self._stream is not None:
            try:
                async with asyncio.timeout(self._idle_s):
                    await self._wake.wait()
            except TimeoutError:
                async with self._turn:
                    await self._drop()
        await self._wake.wait()
        self._wake.clear()

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _commit_next(self) -> None:
        if not (operations := self._take()):
            return
        started = time.perf_counter()
        results = await self._settled(operations)
        self._resolve(operations, results, time.perf_counter() - started)
        last = results[-1]
        if isinstance(last, StoreUnavailable | _NotKnown):
            # The next group would wait as long: what was never sent can be refused for sure.
            waiting, self._queue = list(self._queue), deque()
            refusal = StoreUnavailable(f"not sent: {last}")
            self._resolve([each for each in waiting if not each.future.cancelled()], [refusal] * len(waiting), 0.0)

    def _take(self) -> list[Operation]:
        """The first that wait: not too many, and not too many bytes, but one in any case."""
        queue, taken, size = self._queue, list[Operation](), 0
        while queue and len(taken) < GROUP_LIMIT and (not taken or size + queue[0].size <= GROUP_BYTES):
            operation = queue.popleft()
            if not operation.future.cancelled():
                taken.append(operation)
                size += operation.size
        return taken

    async def _settled(self, operations: list[Operation]) -> list[Written | Exception]:
        """The results of a group, whatever happens: the writer must outlive every failure."""
        try:
            results = await self._commit(Group(operations))
            self._refusing = False
            return results
        except Exception as error:
            if not isinstance(error, StoreError | UnicodeDecodeError):
                log.exception("a group of writes failed")
                return [StoreUncertain(f"it is not known whether the write was made: {error!r}")] * len(operations)
            if len(operations) > 1 and not isinstance(error, StoreUnavailable | StoreUncertain):
                # One of them is to blame: what the server can not read, or answers that it can not send.
                return await self._one_by_one(operations)
            if not isinstance(error, StoreUncertain) and not self._refusing:
                self._refusing = isinstance(error, StoreUnavailable)  # one line for an outage
                log.warning("a group of %d writes was not made: %s", len(operations), error)
            return [error] * len(operations)

    async def _one_by_one(self, operations: list[Operation]) -> list[Written | Exception]:
        results: list[Written | Exception] = []
        for operation in operations:
            if results and isinstance(results[-1], StoreUnavailable | _NotKnown):
                results.append(StoreUnavailable(f"not sent: {results[-1]}"))
            else:
                results += await self._settled([operation])
        return results

    async def _commit(self, group: Group) -> list[Written | Exception]:
        for attempt in range(BUSY_RETRIES + 1):
            fresh = self._stream is None or self._stream.broken
            try:
                outcomes = await self._send(group)
            except Unanswered as error:
                await self._resolve_doubt(self._number, error)
                continue
            except StoreUnavailable:
                if fresh or attempt == BUSY_RETRIES:
                    raise
                continue  # the server had forgotten the stream
            except (StoreError, UnicodeDecodeError) as error:
                await self._resolve_doubt(self._number, error)
                raise  # refused as a whole
            refused = group.refusal(outcomes)
            if refused is None:
                return group.results(outcomes)
            await self._drop()
            if not isinstance(refused, StoreUnavailable) or attempt == BUSY_RETRIES:
                raise refused
            await asyncio.sleep(BUSY_PAUSE_S * (attempt + random.random()))
        raise StoreUnavailable("the server broke off each attempt")

    async def _send(self, group: Group) -> list[Outcome]:
        self._number += 1
        number = Step(_NUMBER, (self._id, self._number, self._clock()), succeeded(0))
        return await self._kept().batch(group.steps(number), timeout_s=self._timeout_s)

    async def _resolve_doubt(self, number: int, doubt: Exception) -> None:
        """Find out that the group with this number was not committed and never will be. Raises `StoreUncertain` when it
        was, for its answers are lost, or when that can not be found out."""
        try:
            async with asyncio.timeout(self._fence_timeout_s):
                found = await self._fence()
        except TimeoutError:
            log.warning("it is not known whether a group of writes was committed: %s", doubt)
            raise _NotKnown(f"it is not known whether the write was made: {doubt}") from doubt
        if found >= number:
            log.warning("a group of writes was committed and its answers were lost: %s", doubt)
            self._committed(0)
            raise StoreUncertain("the write was settled with its group, and the answer was lost") from doubt

    async def _fence(self) -> int:
        """Put a number into the row that no earlier group passes; the number that it found there first."""
        pause_s, most_s = FENCE_PAUSE_S
        self._number += 1
        values = (self._id, self._number, self._clock())
        begin, end = Step("BEGIN IMMEDIATE"), Step("COMMIT", (), succeeded(2))
        fence = Step(_FENCE, values, succeeded(0))
        while True:
            stream, self._stream = self._open_stream(), None
            with contextlib.suppress(StoreError):
                steps = [begin, fence, Step(_FOUND, (self._id,), succeeded(1)), end]
                outcomes = await stream.batch(steps, timeout_s=self._timeout_s)
                if outcomes[3].ok:
                    self._stream = stream
                    return int(outcomes[2].rows[0][0])
            await stream.close()
            await asyncio.sleep(pause_s * (0.5 + random.random() / 2))
            pause_s = min(most_s, pause_s * 2)

    def _kept(self) -> Stream:
        if self._stream is None or self._stream.broken:
            self._stream = self._open_stream()
        return self._stream

    def _resolve(self, operations: Sequence[Operation], results: Sequence[Written | Exception], seconds: float) -> None:
        if not operations:
            return
        failed = sum(isinstance(result, Exception) for result in results)
        self.counts.add(len(operations), failed, seconds)
        newest = -1
        for operation, result in zip(operations, results, strict=False):
            future = operation.future
            if isinstance(result, Written):
                newest = max(newest, result.seq)
            if future.done():  # cancelled by its caller
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        if newest >= 0:
            self._committed(newest)


class _NotKnown(StoreUncertain):
    """The server says nothing at all."""


def _raise(outcome: Outcome) -> None:
    if outcome.error is not None:
        raise outcome.error
