"""Near reads from a libSQL server: from the replica beside this process where there is one.

A replica lags by milliseconds, may be replaced by one that lags more, be cut off from its primary, and be away. What is
read near never goes back in time within this process all the same, nor behind this process's own writes: every near
read learns in its snapshot where the change log stands, is repeated while that is behind what was seen before, or of
another epoch, and goes to the primary when that takes too long. Who asks the primary where it stands now and then
(`Near.confirm`) bounds how old it can be; a replica that is not confirmed so is not believed at all.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from gateway.errors import SnapshotLost, StoreError, StoreUnavailable
from gateway.store.driver import Row, Statement, StoreCounts
from gateway.store.server_streams import BEGIN, END, READ_TIMEOUT_S, Streams, rows_of
from gateway.store.stream import IN_TRANSACTION, Outcome, Step, Stream, TimedOut, succeeded

log = logging.getLogger(__name__)

LAG_PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Between the looks at a replica that is behind; its lag is 4 ms on a good day."""

TRUST_S = 5.0
"""So long after the primary was last heard of a replica is believed: it may be cut off, and revocations with it."""

NEAR_TIMEOUT_S = 1.0
"""A replica that takes longer hangs: everybody behind that read waits too, and the primary can be asked."""

REPLICA_REST_S = 2.0
"""How long a replica that failed is left alone."""

LONG_REST_S = 30.0
"""The most, where it hangs or stays behind: the rest is doubled from one attempt to the next."""

_STANDING = Statement(
    "SELECT coalesce((SELECT value FROM meta WHERE key = 'epoch'), ''),"
    " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0)"
)


class Standing(NamedTuple):
    """Where a change log stands."""

    epoch: str
    position: int


NOWHERE = Standing("", 0)
"""Of a database that has no change log yet."""


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
        self._epoch = ""
        self._confirmed_at = -math.inf
        self.floor = 0
        """The newest position of the change log that this process has seen: no read is behind it."""
        self.counts = counts if counts is not None else StoreCounts()

    async def read(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """All statements in one snapshot."""
        if self._replica is None:
            return await self._primary.read(statements, READ_TIMEOUT_S)
        streams, stream, rows = await self.begin(statements, Step(END, (), IN_TRANSACTION))
        streams.give_back(stream)
        return rows

    async def confirm(self) -> Standing:
        """Ask the primary where its change log stands: nothing older is read from now on."""
        asked_at, floor = time.monotonic(), self.floor
        try:
            [[row]] = await self._primary.read([_STANDING], READ_TIMEOUT_S)
            standing = Standing(*row)
        except StoreUnavailable:
            raise
        except StoreError:  # there are no tables yet
            standing = NOWHERE
        self._learn(standing, asked_at, floor)
        return standing

    def snapshot(self) -> ServerSnapshot:
        """A read transaction for the length of an ``async with`` block."""
        return ServerSnapshot(self)

    async def begin(self, statements: Sequence[Statement], *ending: Step) -> tuple[Streams, Stream, list[list[Row]]]:
        """Begin a transaction that is not behind the floor, and run the first statements in it, then `ending`.

        Answers the stream, to be given back, and the statements' rows.
        """
        steps = [Step(BEGIN), Step(_STANDING.sql)]
        before = 0
        for sql, args, _ in statements:
            steps.append(Step(sql, args, succeeded(before)))
            before = len(steps) - 1
        steps += ending
        if self._replica is not None:
            begun = await self._begin_near(self._replica, steps)
            if begun is not None:
                return self._replica, begun[0], self._rows(self._replica, *begun, len(statements))
            self.counts.past_replica += 1
        asked_at, floor = time.monotonic(), self.floor
        stream, outcomes = await self._primary.first(steps, READ_TIMEOUT_S)
        self._learn(_standing(outcomes), asked_at, floor)
        return self._primary, stream, self._rows(self._primary, stream, outcomes, len(statements))

    def _learn(self, standing: Standing, asked_at: float, floor: int) -> None:
        """The primary said so, asked at that time, when the floor was that. It is right, also when its numbering went
        back or began anew; only an answer that was overtaken by another is not.
        """
        if standing.epoch != self._epoch and asked_at < self._confirmed_at:
            return
        self._confirmed_at = max(self._confirmed_at, asked_at)
        if standing.epoch != self._epoch or standing.position < floor:
            self._epoch, self.floor = standing
        else:
            self.floor = max(self.floor, standing.position)

    # --- the replica ---

    def is_replica(self, streams: Streams) -> bool:
        """Whether these lead to the replica."""
        return streams is self._replica

    async def _begin_near(self, replica: Streams, steps: Sequence[Step]) -> tuple[Stream, list[Outcome]] | None:
        """Begin at the replica; None when it is not to be asked, or does not catch up in time."""
        if not self._believed():
            return None
        begun = await self._try(replica, steps)
        if begun is not None or not self._believed() or not await self._caught_up(replica):
            return begun
        return await self._try(replica, steps)

    def _believed(self) -> bool:
        now = time.monotonic()
        return now >= self._rest_until and now - self._confirmed_at <= self._trust_s

    async def _try(self, replica: Streams, steps: Sequence[Step]) -> tuple[Stream, list[Outcome]] | None:
        try:
            stream, outcomes = await replica.first(steps, NEAR_TIMEOUT_S)
        except StoreUnavailable as error:
            self.failed(error)
            return None
        if self._away:
            self._away = False
            log.warning("the replica can be read again")
        if self._reached(_standing(outcomes)):
            self._rest_s = REPLICA_REST_S
            return stream, outcomes
        replica.behind(replica.end(stream))
        return None

    async def _caught_up(self, replica: Streams) -> bool:
        """Look at where the replica stands until it is where this process is; not for long."""
        for pause_s in LAG_PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                [[row]] = await replica.read([_STANDING], NEAR_TIMEOUT_S)
            except StoreError as error:
                self.failed(error)
                return False
            if self._reached(Standing(*row)):
                return True
        self._rest(longer=True)
        return False

    def _reached(self, standing: Standing) -> bool:
        return standing.epoch == self._epoch and standing.position >= self.floor

    def failed(self, error: StoreError) -> None:
        """The replica did not answer, or broke off a snapshot."""
        self._rest(longer=isinstance(error, TimedOut))
        if not self._away:
            self._away = True
            log.warning("the replica can not be read; the primary is: %s", error)

    def _rest(self, *, longer: bool) -> None:
        """Leave the replica alone for a while, and next time for longer where each attempt holds readers up. Who waited
        beside the first does not make it longer."""
        now = time.monotonic()
        if now >= self._rest_until:
            self._rest_until = now + self._rest_s
            self._rest_s = min(LONG_REST_S, self._rest_s * 2) if longer else REPLICA_REST_S

    def _rows(self, streams: Streams, stream: Stream, outcomes: list[Outcome], count: int) -> list[list[Row]]:
        """The rows of the statements, which follow BEGIN and the standing."""
        try:
            rows_of(outcomes[0])
            rows = [rows_of(outcome) for outcome in outcomes[2 : 2 + count]]
        except StoreError:
            stream.broken = True  # its transaction is of no use to anybody
            streams.give_back(stream)
            raise
        self.floor = max(self.floor, _standing(outcomes).position)
        return rows


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
            self._streams.behind(self._streams.end(self._stream))

    def _lost(self, error: StoreUnavailable) -> NoReturn:
        """Its moment is gone. A replica that broke it off (it does at a text that is not UTF-8) is not asked next."""
        if self._near.is_replica(self._streams):
            self._near.failed(error)
            raise SnapshotLost(str(error)) from error
        raise error

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement; the first read fixes the moment. Raises `SnapshotLost` where a new one will be
        better off."""
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
        except StoreUnavailable as error:
            self._lost(error)
        if not all(outcome.ran for outcome in outcomes):
            self._stream.broken = True
            self._lost(StoreUnavailable("the server ended the snapshot"))
        return [rows_of(outcome) for outcome in outcomes]


def _standing(outcomes: Sequence[Outcome]) -> Standing:
    """Where the change log stands: step 1 of a transaction that was begun here."""
    return Standing(*outcomes[1].rows[0]) if outcomes[1].ok else NOWHERE
