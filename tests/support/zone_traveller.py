"""Somebody who changes the own time zone, with rows of a quota in a dictionary, moved as those of the database are."""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.spending import Basis
from gateway.store.zone_changes import Moves, plan_moves

LIMIT = 10


class Taken(NamedTuple):
    """So many units, at a moment, in the period that ends then."""

    at: int
    amount: int
    end: int


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

    def overlapping(self) -> int:
        """What was taken in periods that overlap the present one."""
        start, _ = self.bounds()
        return sum(taken.amount for taken in self.taken if taken.end > start)

    def take(self, amount: int, *, held: bool = False) -> None:
        """As much of it as there is."""
        start, end = self.bounds()
        amount = min(amount, LIMIT - self.counted())
        if amount > 0:
            self.rows.setdefault(start, [0, 0])[held] += amount
            self.taken.append(Taken(self.now, amount, end))

    def settle(self) -> None:
        """All that is reserved is used."""
        for row in self.rows.values():
            row[:] = [sum(row), 0]

    def move(self, zone: str) -> None:
        after = self.basis._replace(timezone=zone)
        amounts = {start: sum(row) for start, row in self.rows.items()}
        carry_out(plan_moves(self.basis, after, amounts, self.now), self.rows)
        self.basis = after


def carry_out(plan: Moves, rows: dict[int, list[int]]) -> None:
    """What the statements do."""
    for origin, target in plan.taken_back:
        if origin in rows and target in rows:
            rows[target][0] = max(0, rows[target][0] - rows[origin][0])
    for start in plan.dropped:
        if start in rows:
            rows[start][0] = 0
            if rows[start] == [0, 0]:
                del rows[start]
    for origin, target in plan.debits:
        if amount := sum(rows.get(origin, [])):
            rows.setdefault(target, [0, 0])[0] += amount
    for origin, mark in plan.marks:
        if any(rows.get(origin, [])):
            rows.setdefault(mark, [0, 0])
    before = {origin: list(rows[origin]) for origin, *_ in plan.moves if origin in rows}
    for origin, target, held, _ in plan.moves:
        for place, to in enumerate((target, held)):
            if origin in before and to != origin and before[origin][place]:
                rows.setdefault(to, [0, 0])[place] += before[origin][place]
                rows[origin][place] -= before[origin][place]
    for origin in before:
        if rows[origin] == [0, 0]:
            del rows[origin]
