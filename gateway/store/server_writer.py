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
from typing import NamedTuple

from gateway.errors import NoRowChanged, StoreError, StoreUnavailable, StoreUncertain
from gateway.store.driver import Row, Statement, StoreCounts, Written
from gateway.store.hrana import Request
from gateway.store.sqlite import split_script
from gateway.store.stream import IN_TRANSACTION, Condition, Outcome, Step, Stream, Unanswered, both, succeeded

log = logging.getLogger(__name__)

GROUP_LIMIT = 200
"""Operations in one request: more would not be faster, and all wait for the last."""

QUEUE_LIMIT = 20_000
"""Operations that may wait; beyond, a write is refused at once."""

TIMEOUT_S = 8.0
"""For one request. A server takes the write lock from a stream that held it for 5 s, so an honest wait is shorter."""

FENCE_TIMEOUT_S = 10.0
"""How long is tried to find out what became of a group that was not answered."""

SCRIPT_TIMEOUT_S = 60.0
IDLE_S = 1.0
"""How long a stream is kept that nothing is written on: a server holds few for all its clients together."""

BUSY_RETRIES = 3
BUSY_PAUSE_S = 0.02
FENCE_PAUSE_S = (0.05, 1.0)

_SEQ = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0)"
_GUARD = "SELECT json(iif(changes() = 0, 'no row changed', '0'))"
"""Refused by the server when the statement before it changed no row."""

_NUMBER = (
    "INSERT INTO writers(id, batch, at) VALUES (?, ?, ?) ON CONFLICT(id) DO UPDATE"
    " SET batch = excluded.batch, at = excluded.at WHERE batch < excluded.batch"
)
_FENCE = (
    "INSERT INTO writers(id, batch, at) VALUES (?, ?, ?) ON CONFLICT(id) DO UPDATE"
    " SET found = batch, batch = excluded.batch, at = excluded.at WHERE batch < excluded.batch"
)
_FOUND = "SELECT found FROM writers WHERE id = ?"


class Operation(NamedTuple):
    """What is committed whole or not at all."""

    future: asyncio.Future[Written]
    statements: Sequence[Statement]


class ServerWriter:
    """Takes operations and commits them, group by group.

    `open_stream` makes a stream; again after one broke. `committed` is called after each commit, when its futures are
    resolved. `clock` gives milliseconds since 1970 UTC.
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
        self._turn = asyncio.Lock()
        self._task = asyncio.create_task(self._run())

    def submit(self, statements: Sequence[Statement]) -> asyncio.Future[Written]:
        """Queue an operation; the future has its result after the commit. Raises `StoreUnavailable` when closed or when
        too many wait, `TypeError`, `ValueError` or `OverflowError` for a value that no column holds."""
        self._check_open()
        if len(self._queue) >= self._queue_limit:
            raise StoreUnavailable(f"{self._queue_limit} writes are waiting already")
        # What can not be sent fails here, and not the group that it would be in.
        Request.batch(Step(statement.sql, statement.args) for statement in statements)
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._queue.append(Operation(future, statements))
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
            await self._woken()
            while self._queue:
                async with self._turn:
                    group = self._take()
                    if group:
                        started = time.perf_counter()
                        results = await self._settled(group)
                        self._resolve(group, results, time.perf_counter() - started)

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

    def _take(self) -> list[Operation]:
        queue = self._queue
        group = [queue.popleft() for _ in range(min(len(queue), GROUP_LIMIT))]
        return [operation for operation in group if not operation.future.cancelled()]

    async def _settled(self, group: list[Operation]) -> list[Written | Exception]:
        """The results of a group, whatever happens: the writer must outlive every failure."""
        try:
            return await self._commit(group)
        except Exception as error:
            if not isinstance(error, StoreError):
                log.exception("a group of writes failed")
                error = StoreUncertain(f"it is not known whether the write was made: {error!r}")
            elif not isinstance(error, StoreUncertain):
                log.warning("a group of %d writes was not made: %s", len(group), error)
            return [error for _ in group]

    async def _commit(self, group: list[Operation]) -> list[Written | Exception]:
        plan = _Plan(group)
        for attempt in range(BUSY_RETRIES + 1):
            fresh = self._stream is None or self._stream.broken
            try:
                outcomes = await self._send(plan)
            except Unanswered as error:
                await self._resolve_doubt(self._number, error)
                continue
            except StoreUnavailable:
                if fresh or attempt == BUSY_RETRIES:
                    raise
                continue  # the server had forgotten the stream
            except StoreError as error:
                await self._resolve_doubt(self._number, error)
                raise  # refused as a whole
            refused = plan.refusal(outcomes)
            if refused is None:
                return plan.results(outcomes)
            self._stream = None
            if not isinstance(refused, StoreUnavailable) or attempt == BUSY_RETRIES:
                raise refused
            await asyncio.sleep(BUSY_PAUSE_S * (attempt + random.random()))
        raise StoreUnavailable("the server broke off each attempt")

    async def _send(self, plan: _Plan) -> list[Outcome]:
        self._number += 1
        number = Step(_NUMBER, (self._id, self._number, self._clock()), succeeded(0))
        return await self._kept().batch(plan.steps(number), timeout_s=self._timeout_s)

    async def _resolve_doubt(self, number: int, doubt: StoreError) -> None:
        """Find out that the group with this number was not committed and never will be. Raises `StoreUncertain` when it
        was, for its answers are lost, or when that can not be found out."""
        try:
            async with asyncio.timeout(self._fence_timeout_s):
                found = await self._fence()
        except TimeoutError:
            log.warning("it is not known whether a group of writes was committed: %s", doubt)
            raise StoreUncertain(f"it is not known whether the write was made: {doubt}") from doubt
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

    def _resolve(self, group: list[Operation], results: list[Written | Exception], seconds: float) -> None:
        self.counts.add(len(group), sum(isinstance(result, Exception) for result in results), seconds)
        seq = 0
        for operation, result in zip(group, results, strict=True):
            if operation.future.done():  # cancelled by its caller
                continue
            if isinstance(result, Exception):
                operation.future.set_exception(result)
            else:
                seq = result.seq
                operation.future.set_result(result)
        self._committed(seq)


class _Plan:
    """A group as the steps of one batch: step 0 begins, 1 and 2 are the group's number, then come the operations, and
    the last three are the position, ``COMMIT``, and ``ROLLBACK`` where that was not possible."""

    def __init__(self, group: list[Operation]) -> None:
        self._group = group
        self._places: list[range] = []
        self._steps: list[Step] = []
        for operation in group:
            first = len(self._steps) + 3
            if len(operation.statements) == 1:
                self._single(operation.statements[0])
            else:
                self._savepoint(operation.statements)
            self._places.append(range(first, len(self._steps) + 3))

    def steps(self, number: Step) -> list[Step]:
        """The whole batch."""
        position = len(self._steps) + 3
        return [
            Step("BEGIN IMMEDIATE"),
            number,
            Step(_GUARD, (), succeeded(1)),
            *self._steps,
            Step(_SEQ, (), _STARTED),
            Step("COMMIT", (), both(succeeded(position), IN_TRANSACTION)),
            Step("ROLLBACK", (), both(succeeded(0), IN_TRANSACTION)),
        ]

    def refusal(self, outcomes: list[Outcome]) -> StoreError | None:
        """Why the group was not committed; None when it was."""
        if outcomes[-2].ok:
            return None
        errors = [outcome.error for outcome in outcomes[:3] if outcome.error]
        errors += [outcome.error for outcome in outcomes if isinstance(outcome.error, StoreUnavailable)]
        return errors[0] if errors else StoreUnavailable("the server ended the transaction")

    def results(self, outcomes: list[Outcome]) -> list[Written | Exception]:
        """Each operation's result, of a group that was committed."""
        seq = int(outcomes[-3].rows[0][0]) if outcomes[-3].ok else 0
        return [
            self._result(operation.statements, [outcomes[i] for i in place], seq)
            for operation, place in zip(self._group, self._places, strict=True)
        ]

    def _single(self, statement: Statement) -> None:
        """One statement that fails undoes itself."""
        self._steps.append(Step(statement.sql, statement.args, _STARTED))

    def _savepoint(self, statements: Sequence[Statement]) -> None:
        """Each step is run when the one before succeeded; when one did not, all of them are undone."""
        self._steps.append(Step("SAVEPOINT operation", (), _STARTED))
        first = before = len(self._steps) + 2
        for statement in statements:
            self._steps.append(Step(statement.sql, statement.args, succeeded(before)))
            before += 1
            if statement.must_change:
                self._steps.append(Step(_GUARD, (), succeeded(before)))
                before += 1
        undone: Condition = both(succeeded(first), {"type": "not", "cond": succeeded(before)}, IN_TRANSACTION)
        self._steps.append(Step("ROLLBACK TO operation", (), undone))
        self._steps.append(Step("RELEASE operation", (), both(succeeded(first), IN_TRANSACTION)))

    @staticmethod
    def _result(statements: Sequence[Statement], outcomes: list[Outcome], seq: int) -> Written | Exception:
        if len(statements) == 1:
            outcome = outcomes[0]
            if outcome.error is not None:
                return outcome.error
            if statements[0].must_change and not outcome.changed and not outcome.rows:
                return NoRowChanged(0)
            return Written(seq, [outcome.rows])
        rows: list[list[Row]] = []
        following = iter(outcomes[1:])
        for index, statement in enumerate(statements):
            outcome = next(following)
            if outcome.error is not None:
                return outcome.error
            rows.append(outcome.rows)
            if statement.must_change and next(following).error is not None:
                return NoRowChanged(index)
        return Written(seq, rows)


_STARTED: Condition = both(succeeded(2), IN_TRANSACTION)


def _raise(outcome: Outcome) -> None:
    if outcome.error is not None:
        raise outcome.error
