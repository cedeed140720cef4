"""What the periods of quotas are worked out from, remembered: whoever is wrong about it is told by the database."""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Collection

import msgspec

from gateway.core.spending import Basis
from gateway.errors import NotFound, StoreError
from gateway.store.driver import Reader, Statement
from gateway.store.standings import TABLES

log = logging.getLogger(__name__)

REMEMBERED = 65_536
"""Owners and quotas."""
TOLD = 1_024
"""Of those that are as good as none: who asks again and again is not logged each time."""
UNKNOWN = Basis("", None, "")
"""What is nobody's basis, so that the database says which one is."""

_PRESENT = f"""
SELECT w.owner, w.quota, coalesce(u.timezone, o.timezone), iif(u.id IS NULL, o.anchor_at, u.anchor_at),
  coalesce(q.period, p.period)
FROM (
  SELECT value ->> 0 AS owner, value ->> 1 AS quota, '' AS spender, ?2 AS at FROM json_each(?1)
) AS w {TABLES}
WHERE coalesce(u.timezone, o.timezone) IS NOT NULL AND coalesce(q.period, p.period) IS NOT NULL"""  # noqa: S608


def period_of(basis: Basis, now: int) -> tuple[int, int | None]:
    """The period around `now`; of a basis that is not known, one that nothing is taken in."""
    return basis.bounds(now) if basis != UNKNOWN else (0, None)


class Bases:
    """The basis that each owner and quota had last; what was not asked for the longest time is forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Basis] = OrderedDict()
        self._told: set[tuple[str, str]] = set()

    def of(self, owner: str, quota: str) -> Basis:
        """As the database said last, or `UNKNOWN`."""
        known = self._known
        found = known.get((owner, quota))
        if found is None:
            return UNKNOWN
        known.move_to_end((owner, quota))
        return found

    async def learn(self, near: Reader, names: Collection[tuple[str, str]], now: int) -> bool:
        """Ask for the bases of these owners and quotas; whether one of them is known now. What is read may be late, or
        not be read at all: who goes by it is told by the database.
        """
        asked = msgspec.json.encode(list(dict.fromkeys(names))).decode()
        try:
            [rows] = await near.read(Statement(_PRESENT, (asked, now)))
        except StoreError:
            return False
        for owner, quota, *basis in rows:
            if (owner, quota) not in self._known:
                with contextlib.suppress(NotFound):
                    self.remember(owner, quota, Basis(*basis), now)
        return any(name in self._known for name in names)

    def remember(self, owner: str, quota: str, basis: Basis, now: int) -> None:
        """What the database says. Raises `NotFound` for one that no period can be worked out from at `now`
        (milliseconds since 1970 UTC): it is as good as none.
        """
        try:
            basis.bounds(now)
        except ValueError:
            self._tell(owner, quota)
            raise NotFound("No such quota.") from None
        if (owner, quota) not in self._known and len(self._known) >= REMEMBERED:
            self._known.popitem(last=False)
        self._known[owner, quota] = basis
        self._known.move_to_end((owner, quota))

    def _tell(self, owner: str, quota: str) -> None:
        if len(self._told) >= TOLD:
            self._told.clear()
        if (owner, quota) not in self._told:
            self._told.add((owner, quota))
            log.warning("a quota has no period that can be worked out", extra={"owner": owner, "quota": quota})
