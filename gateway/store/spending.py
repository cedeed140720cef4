"""Takes units from quotas: orders that wait together are one statement, in one commit with one sync, and each gets an
answer of its own after it.

There is no collecting window: while one batch is committed, the next one collects itself. Whether an order is carried
out is decided by the database, row by row (the triggers of the view `spending`), against the limits as they are in
that commit. The one thing that SQL can not work out is a period: each order says what its period was worked out from,
and one that is wrong about it is not carried out, but tried again with what the database says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.core.quotas import Limit
from gateway.core.spending import Balance, Order, Spent
from gateway.errors import Conflict, GatewayError, StoreError, StoreUnavailable, StoreUncertain, Unavailable, Uncertain
from gateway.store.bases import Bases
from gateway.store.database import Database, Row, Statement
from gateway.store.standings import COLUMNS, TABLES, Standing, refusal

log = logging.getLogger(__name__)

BATCH_LIMIT = 1_000
"""Orders in one batch, at the most: what comes first must not wait for all that came after."""
QUEUE_LIMIT = 20_000
"""Orders that may wait; beyond, an order is refused at once."""
ATTEMPTS = 4
"""How often an order is tried whose period was worked out from what is not so any more."""
RETRY_AFTER_S = 1.0

Done = Callable[["Spent | GatewayError"], None]

_SPEND = """
INSERT INTO spending(at, kind, spender, owner, quota, timezone, anchor_at, period, period_start, period_end, used,
  reserved, key)
SELECT ?2, 'consume', value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
  value ->> 7, value ->> 8, 0, value ->> 9
FROM json_each(?1)"""
_ENTRIES = """
SELECT w.key, l.owner, l.quota, l.kind, l.used, l.used_after + l.carried_used, l.reserved_after + l.carried_reserved,
  l.limit_value, l.period, l.hard, l.period_end, l.cap, l.member_taken, l.seq
FROM json_each(?1) AS w CROSS JOIN quota_ledger AS l ON l.key = w.value ->> 9 AND l.spender = w.value ->> 0"""
_STANDINGS = f"""
SELECT w.place, {COLUMNS}
FROM (
  SELECT key AS place, value ->> 0 AS spender, value ->> 1 AS owner, value ->> 2 AS quota, value ->> 6 AS period_start,
    ?2 AS at
  FROM json_each(?1)
  WHERE NOT EXISTS (SELECT 1 FROM quota_ledger WHERE key = value ->> 9 AND spender = value ->> 0)
) AS w {TABLES}"""  # noqa: S608 - no input in it


class _Waiting(NamedTuple):
    """An order, whom to tell, and how often it was tried."""

    order: Order
    done: Done
    attempt: int


class Spender:
    """Carries out orders on one database. `wall`: milliseconds since 1970 UTC. Bound to the event loop that uses it."""

    def __init__(
        self,
        database: Database,
        bases: Bases,
        wall: Callable[[], int],
        *,
        batch_limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self.batches = 0
        self.orders = 0
        self.refused = 0
        self.sizes = [0] * 11
        """How many batches had up to 1, 2, 4, ..., 1,024 orders."""
        self._database = database
        self._wall = wall
        self._batch_limit = batch_limit
        self._queue_limit = queue_limit
        self._queue: deque[_Waiting] = deque()
        self._bases = bases
        self._task: asyncio.Task[None] | None = None

    async def consume(self, order: Order) -> Spent:
        """Take all of the amount or nothing. Durable when it returns.

        The same order under the same key is carried out once and answered alike. Raises `QuotaExceeded` (with `quota`,
        `remaining`, `resets_at`), `Conflict` for another order under a key that was used, `NotFound` for a quota that
        the owner does not have or the spender may not take from, `Unavailable` (nothing was taken) and `Uncertain` (it
        is not known: ask again with the same key).
        """
        future: asyncio.Future[Spent | GatewayError] = asyncio.get_running_loop().create_future()

        def settle(outcome: Spent | GatewayError) -> None:
            if not future.done():
                future.set_result(outcome)

        self.submit(order, settle)
        outcome = await future
        if isinstance(outcome, GatewayError):
            raise outcome
        return outcome

    def submit(self, order: Order, done: Done) -> None:
        """As `consume`, for callers with no task of their own: `done` is called with the outcome, once, on the event
        loop and never within this call. It must not raise.
        """
        if len(self._queue) >= self._queue_limit:
            busy = Unavailable("Too many requests are waiting.", retry_after_s=RETRY_AFTER_S)
            asyncio.get_running_loop().call_soon(done, busy)
            return
        self._queue.append(_Waiting(order, done, 1))
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._queue:
                queue = self._queue
                batch = [queue.popleft() for _ in range(min(len(queue), self._batch_limit))]
                await self._carry_out(batch)
        finally:
            self._task = None

    async def _carry_out(self, batch: list[_Waiting]) -> None:
        now = self._wall()
        self._count(len(batch))
        try:
            rows, ends = self._rows(batch, now)
            args = (msgspec.json.encode(rows).decode(), now)
            written = await self._database.write(
                Statement(_SPEND, args), Statement(_ENTRIES, args[:1]), Statement(_STANDINGS, args)
            )
        except Exception as error:
            await self._failed(batch, error)
            return
        entries = {row[0]: row for row in written.rows[1]}
        standings = {row[0]: row for row in written.rows[2]}
        for place, waiting in enumerate(batch):
            entry = entries.get(place)
            if entry is not None:
                waiting.done(_answer(waiting.order, entry))
            else:
                self._not_carried_out(waiting, Standing.of(standings[place][1:]), rows[place], ends[place])

    def _count(self, size: int) -> None:
        self.batches += 1
        self.orders += size
        self.sizes[min((size - 1).bit_length(), len(self.sizes) - 1)] += 1

    def _rows(self, batch: Sequence[_Waiting], now: int) -> tuple[list[tuple[Any, ...]], list[int | None]]:
        rows: list[tuple[Any, ...]] = []
        ends: list[int | None] = []
        basis_of = self._bases.of
        for (spender, owner, quota, amount, key), _, _ in batch:
            timezone, anchor_at, period = basis = basis_of(owner, quota)
            start, end = basis.bounds(now) if period else (0, None)
            rows.append((spender, owner, quota, timezone, anchor_at, period, start, end, amount, key))
            ends.append(end)
        return rows, ends

    def _not_carried_out(
        self, waiting: _Waiting, standing: Standing, row: tuple[Any, ...], period_end: int | None
    ) -> None:
        order = waiting.order
        basis = standing.basis()
        if basis is not None and basis != row[3:6] and waiting.attempt < ATTEMPTS:
            self._bases.remember(order.owner, order.quota, basis, self._wall())
            self._queue.append(waiting._replace(attempt=waiting.attempt + 1))
            return
        self.refused += 1
        waiting.done(refusal(standing, order.quota, order.amount, period_end))

    async def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        """What is to blame may be one of them: then the others are carried out all the same."""
        if not isinstance(error, StoreError):
            log.exception("a batch of orders failed")
        elif len(batch) > 1 and not isinstance(error, StoreUncertain | StoreUnavailable):
            for waiting in batch:
                await self._carry_out([waiting])
            return
        answer: GatewayError
        if isinstance(error, StoreUncertain):
            answer = Uncertain("It is not known whether the units were taken: ask again with the same key.")
        else:
            answer = Unavailable("The quota can not be spent now.", retry_after_s=RETRY_AFTER_S)
        self.refused += len(batch)
        for waiting in batch:
            waiting.done(answer)


def _answer(order: Order, entry: Row) -> Spent | GatewayError:
    """What the ledger has under the order's key, be it of now or of an earlier time."""
    _, owner, quota, kind, amount, used, reserved, limit, period, hard, period_end, cap, taken, seq = entry
    if (owner, quota, kind, amount) != (order.owner, order.quota, "consume", order.amount):
        return Conflict("The key was used for another request.")
    return Spent(Balance(Limit(limit, period, bool(hard)), used, reserved, period_end, cap, taken or 0), seq)
