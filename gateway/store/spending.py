"""Takes units from quotas: orders that wait together are one statement, in one commit with one sync, and each gets an
answer of its own after it.

There is no collecting window: while batches are committed, the next one collects itself. Whether an order is carried
out is decided by the database, row by row (the triggers of the view `spending`), against the limits as they are in
that commit. The one thing that SQL can not work out is a period: each order says what its period was worked out from,
and one that is wrong about it is not carried out, but tried again with what the database says.

What is usual is short: the entries that a batch made are the newest ones of the ledger, in the order of the batch, and
come back as one text, because each row would be a turn of the writer's thread at the interpreter. An order without an
entry there was refused, or was carried out before under the same key: that is read afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from gateway.core.quotas import Limit
from gateway.core.spending import Balance, Basis, Order, Spent
from gateway.errors import (
    Conflict,
    GatewayError,
    NotFound,
    StoreError,
    StoreUnavailable,
    StoreUncertain,
    Unavailable,
    Uncertain,
)
from gateway.store.bases import UNKNOWN, Bases, period_of
from gateway.store.database import Database, Statement
from gateway.store.driver import Sizes
from gateway.store.standings import COLUMNS, TABLES, Standing, refusal

log = logging.getLogger(__name__)

BATCH_LIMIT = 250
"""Orders in one batch, at the most: what comes first must not wait for all that came after, and one batch is committed
while the next is made and the one before is answered."""
BATCHES = 2
"""Batches on their way at a time: one that is committed, and one that follows at once if it is full. What does not fill
one waits for the commit, because each has its price: a sync, and a look at the change log.
"""
QUEUE_LIMIT = 20_000
"""Orders that may wait; beyond, an order is refused at once."""
ATTEMPTS = 4
"""How often an order is tried whose period was worked out from what is not so any more."""
BUSY = 50
"""Orders without an answer, or in `LATELY_S` seconds, from which on what else there is to do comes second: one now and
then is no reason."""
LATELY_S = 0.05
RETRY_AFTER_S = 1.0

Done = Callable[["Spent | GatewayError"], None]
Waiting: TypeAlias = tuple[Order, Done, int]
"""An order, whom to tell, and which attempt it is."""
Entry: TypeAlias = tuple[
    str, str, str, int, str, str, int, int, int | None, str | None, int | None, int | None, int | None, int | None, int
]
"""The columns of `_ENTRY`."""

# ?1: the bases with their periods, and the orders with the place of their basis.
_SPEND = """
WITH bases AS MATERIALIZED (
  SELECT key AS place, value ->> 0 AS timezone, value ->> 1 AS anchor_at, value ->> 2 AS period,
    value ->> 3 AS period_start, value ->> 4 AS period_end
  FROM json_each(?1, '$[0]')
)
INSERT INTO spending(at, kind, spender, owner, quota, timezone, anchor_at, period, period_start, period_end, used,
  reserved, key)
SELECT ?2, 'consume', value ->> 0, value ->> 1, value ->> 2, b.timezone, b.anchor_at, b.period, b.period_start,
  b.period_end, value ->> 3, 0, value ->> 4
FROM json_each(?1, '$[1]') AS w CROSS JOIN bases AS b ON b.place = w.value ->> 5"""
_ENTRY = """spender, owner, quota, used, key, kind, used_after + carried_used, reserved_after + carried_reserved,
  limit_value, period, hard, period_end, cap, member_taken, seq"""
_NEWEST = f"""
SELECT json_group_array(json_array({_ENTRY}))
FROM (SELECT * FROM quota_ledger ORDER BY id DESC LIMIT ?1) WHERE kind = 'consume'"""  # noqa: S608 - no input in it
_KNOWN = f"""
SELECT w.key, l.*
FROM json_each(?1) AS w CROSS JOIN (SELECT {_ENTRY} FROM quota_ledger WHERE key IS NOT NULL) AS l
  ON l.key = w.value ->> 4 AND l.spender = w.value ->> 0"""  # noqa: S608 - no input in it
_STANDINGS = f"""
SELECT w.place, {COLUMNS}
FROM (
  SELECT key AS place, value ->> 0 AS spender, value ->> 1 AS owner, value ->> 2 AS quota, value ->> 5 AS period_start,
    ?2 AS at
  FROM json_each(?1)
  WHERE NOT EXISTS (SELECT 1 FROM quota_ledger WHERE key = value ->> 4 AND spender = value ->> 0)
) AS w {TABLES}"""  # noqa: S608 - no input in it
_entries = msgspec.json.Decoder(list[Entry])


class Spender:
    """Carries out orders on one database. `wall`: milliseconds since 1970 UTC; `monotonic`: seconds. Bound to the event
    loop that uses it.
    """

    def __init__(
        self,
        database: Database,
        bases: Bases,
        wall: Callable[[], int],
        *,
        batch_limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.orders = 0
        self.refused = 0
        """Orders that were submitted, and those of them that took nothing."""
        self.batches = 0
        self.attempts = 0
        self.sizes = Sizes()
        """Batches, the orders in them (one that is tried again is in several), and how many of them had up to 1, 2, 4,
        ..., 1,024."""
        self._database = database
        self._wall, self._monotonic = wall, monotonic
        self._batch_limit = batch_limit
        self._queue_limit = queue_limit
        self._queue: deque[Waiting] = deque()
        self._under_way = 0
        self._looked_at, self._orders_then, self._came = 0.0, 0, False
        self._bases = bases
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether many orders wait for their answer, or come, whoever sends them."""
        return len(self._queue) + self._under_way >= BUSY or self._many_come()

    def _many_come(self) -> bool:
        """Whether as many came in each `LATELY_S`, from one look to the next one that is so much later."""
        now = self._monotonic()
        passed_s = now - self._looked_at
        if passed_s >= LATELY_S:
            self._came = (self.orders - self._orders_then) * LATELY_S >= BUSY * passed_s
            self._looked_at, self._orders_then = now, self.orders
        return self._came

    async def consume(self, order: Order) -> Spent:
        """Take all of the amount or nothing. Durable when it returns.

        The same order under the same key is carried out once and answered alike. Raises `QuotaExceeded` (with `quota`,
        `remaining`, `resets_at`), `Conflict` for another order under a key that was used, `NotFound` for a quota that
        the owner does not have or the spender may not take from, `Unavailable` (nothing was taken by this sending; what
        an earlier one did it does not say) and `Uncertain` (it is not known: ask again with the same key).
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
        loop and never within this call.
        """
        self.orders += 1
        if len(self._queue) >= self._queue_limit:
            self.refused += 1
            busy = Unavailable("No more requests are taken now.", retry_after_s=RETRY_AFTER_S)
            asyncio.get_running_loop().call_soon(_tell, done, busy)
            return
        self._queue.append((order, done, 1))
        if not self._tasks or (len(self._tasks) < BATCHES and len(self._queue) >= self._batch_limit):
            self._tasks.add(asyncio.create_task(self._run()))

    async def close(self) -> None:
        """Take no more orders, and return when those that were taken are answered."""
        self._queue_limit = 0
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _run(self) -> None:
        queue = self._queue
        try:
            while queue and (len(self._tasks) == 1 or len(queue) >= self._batch_limit):
                batch = [queue.popleft() for _ in range(min(len(queue), self._batch_limit))]
                self._count(len(batch))
                self._under_way += len(batch)
                try:
                    await self._carry_out(batch)
                finally:
                    self._under_way -= len(batch)
        finally:
            # Here and not in a callback, which would come later than an order that relies on this task.
            if task := asyncio.current_task():
                self._tasks.discard(task)

    def _count(self, size: int) -> None:
        self.batches += 1
        self.attempts += size
        self.sizes.add(size)

    async def _carry_out(self, batch: list[Waiting]) -> None:
        """Answer each of them, now or after another attempt. Does not raise: what is worked out of the database's
        answer is worked out before anybody is told."""
        try:
            now = self._wall()
            bases, rows, unknown = self._rows(batch, now)
            if unknown and await self._bases.learn(self._database.near, unknown, now):
                bases, rows, _ = self._rows(batch, now)
            args = (msgspec.json.encode((bases, rows)).decode(), now)
            written = await self._database.write(Statement(_SPEND, args), Statement(_NEWEST, (len(batch),)))
        except Exception as error:
            await self._failed(batch, error)
            return
        try:
            entries = _entries.decode(written.rows[1][0][0])
            answers = [None if entry is None else _spent(entry) for entry in _matched(batch, entries)]
        except Exception as error:
            self._answer_unknown(batch, error)
            return
        others: list[tuple[Waiting, tuple[Any, ...]]] = []
        for place, answer in enumerate(answers):
            if answer is not None:
                _tell(batch[place][1], answer)
            else:
                others.append((batch[place], bases[rows[place][5]]))
        if others:
            await self._explain(others, now)

    def _rows(
        self, batch: Sequence[Waiting], now: int
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[str, str]]]:
        """The bases of a batch with their periods around `now`, the orders, each with the place of its basis, and the
        owners and quotas whose bases are not known.
        """
        bases: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        places: dict[Basis, int] = {}
        basis_of = self._bases.of
        for order, _, _ in batch:
            basis = basis_of(order[1], order[2])
            place = places.get(basis)
            if place is None:
                place = places[basis] = len(bases)
                bases.append((*basis, *period_of(basis, now)))
            rows.append((*order, place))
        strange = places.get(UNKNOWN)
        unknown = [] if strange is None else [row[1:3] for row in rows if row[5] == strange]
        return bases, rows, unknown

    async def _explain(self, others: list[tuple[Waiting, tuple[Any, ...]]], now: int) -> None:
        """Answer orders that were not carried out just now, each with its basis: what was answered before under the
        same key, or how the quota stands. Without either it is not known whether one was carried out before.
        """
        try:
            asked = msgspec.json.encode([(*waiting[0], basis[3]) for waiting, basis in others]).decode()
            found = await self._database.read(Statement(_KNOWN, (asked,)), Statement(_STANDINGS, (asked, now)))
            known: dict[int, Entry] = {row[0]: row[1:] for row in found[0]}
            standings = {row[0]: Standing.of(row[1:]) for row in found[1]}
            answers = [
                _answered_before(waiting[0], known[place])
                if place in known
                else self._not_carried_out(waiting, standings[place], basis)
                for place, (waiting, basis) in enumerate(others)
            ]
        except Exception as error:
            if len(others) > 1 and not isinstance(error, StoreUncertain | StoreUnavailable):
                half = len(others) // 2
                await self._explain(others[:half], now)
                await self._explain(others[half:], now)
            else:
                self._answer_unknown([waiting for waiting, _ in others], error)
            return
        for ((order, done, attempt), _), answer in zip(others, answers, strict=True):
            if answer is None:
                self._queue.append((order, done, attempt + 1))
            elif isinstance(answer, GatewayError):
                self._refuse(done, answer)
            else:
                _tell(done, answer)

    def _not_carried_out(self, waiting: Waiting, standing: Standing, told: tuple[Any, ...]) -> GatewayError | None:
        """None: once more, for the order was wrong about its period or could be carried out by now; else why not."""
        order, _, attempt = waiting
        basis = standing.basis()
        answer = refusal(standing, order.quota, order.amount, told[4])
        changed = basis is not None and basis != told[:3]
        if (changed or isinstance(answer, Unavailable)) and attempt < ATTEMPTS:
            try:
                if basis is not None:
                    self._bases.remember(order.owner, order.quota, basis, self._wall())
            except NotFound as no_such_quota:
                return no_such_quota
            return None
        return answer

    async def _failed(self, batch: list[Waiting], error: Exception) -> None:
        """What is to blame may be one of them: then the others are carried out all the same."""
        if isinstance(error, StoreUncertain):
            self._answer_unknown(batch, error)
            return
        if len(batch) > 1 and not isinstance(error, StoreUnavailable):
            half = len(batch) // 2
            await self._carry_out(batch[:half])
            await self._carry_out(batch[half:])
            return
        if not isinstance(error, StoreError):
            log.error("a batch of orders failed", exc_info=error)
        for _, done, _ in batch:
            answer = Unavailable("The quota can not be spent now.", retry_after_s=RETRY_AFTER_S)
            answer.__cause__ = error
            self._refuse(done, answer)

    def _answer_unknown(self, batch: Sequence[Waiting], error: Exception) -> None:
        if not isinstance(error, StoreError):
            log.error("what became of a batch of orders is not known", exc_info=error)
        for _, done, _ in batch:
            answer = Uncertain("It is not known whether the units were taken: ask again with the same key.")
            answer.__cause__ = error
            self._refuse(done, answer)

    def _refuse(self, done: Done, answer: GatewayError) -> None:
        self.refused += 1
        _tell(done, answer)


def _tell(done: Done, outcome: Spent | GatewayError) -> None:
    """One who can not take the answer must not keep the others from theirs."""
    try:
        done(outcome)
    except Exception:
        log.exception("the answer to an order could not be given")


def _answered_before(order: Order, entry: Entry) -> Spent | GatewayError:
    if entry[:6] == (*order, "consume"):
        return _spent(entry)
    return Conflict("The key was used for another request.")


def _matched(batch: Sequence[Waiting], newest: Sequence[Entry]) -> list[Entry | None]:
    """The entry of each order among the newest ones, which are of this batch as far as it was carried out, in its
    order, the last one first; beyond are older ones.
    """
    found: list[Entry | None] = [None] * len(batch)
    entries = iter(newest)
    entry = next(entries, None)
    for place in range(len(batch) - 1, -1, -1):
        if entry is None:
            break
        if entry[:5] == batch[place][0]:
            found[place] = entry
            entry = next(entries, None)
    return found


def _spent(entry: Entry) -> Spent:
    """What the ledger has on an order, be it of now or of an earlier time."""
    _, _, _, _, _, _, used, reserved, limit, period, hard, period_end, cap, taken, seq = entry
    return Spent(Balance(Limit(limit, period or "never", bool(hard)), used, reserved, period_end, cap, taken or 0), seq)
