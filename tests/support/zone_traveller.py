"""Somebody who changes the own time zone, with rows of a quota in a dictionary, moved as those of the database are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway.core.spending import Basis
from gateway.store.zone_changes import Move, plan_moves

LIMIT = 10


class Taken(NamedTuple):
    """So many units, at a moment."""

    at: int
    amount: int


class Traveller:
    """Somebody whose quota is `LIMIT` units each `period`. Rows by their starts have what is used, and reserved."""

    def __init__(self, period: str, zone: str, now: int, anchor: int | None = None) -> None:
        self.basis = Basis(zone, anchor, period)
        self.now = now
        self.rows: dict[int, list[int]] = {}
        self.taken: list[Taken] = []

    def bounds(self) -> tuple[int, int]:
        start, end = self.basis.bounds(self.now)
        assert end is not None
        return start, end

    def counted(self) -> int:
        start, _ = self.bounds()
        return sum(sum(row) for at, row in self.rows.items() if start <= at <= self.now)

    def take(self, amount: int) -> None:
        """As much of it as there is."""
        amount = min(amount, LIMIT - self.counted())
        if amount > 0:
            self.rows.setdefault(self.bounds()[0], [0, 0])[0] += amount
            self.taken.append(Taken(self.now, amount))

    def move(self, zone: str) -> None:
        after = self.basis._replace(timezone=zone)
        if after != self.basis:
            carry_out(plan_moves(self.basis, after, self.rows, self.now), self.rows)
        self.basis = after


def carry_out(plan: Iterable[Move], rows: dict[int, list[int]]) -> None:
    """What the statements do."""
    for target, row in [(move.target, rows.pop(move.origin)) for move in plan if move.origin in rows]:
        known = rows.setdefault(target, [0, 0])
        known[:] = [known[0] + row[0], known[1] + row[1]]
