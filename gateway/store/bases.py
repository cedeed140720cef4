"""What the periods of quotas are worked out from, remembered: whoever is wrong about it is told by the database."""

from __future__ import annotations

import logging
from collections import OrderedDict

from gateway.core.spending import Basis

log = logging.getLogger(__name__)

REMEMBERED = 65_536
"""Owners and quotas."""
UNKNOWN = Basis("", None, "")
"""What is nobody's basis, so that the database says which one is."""


class Bases:
    """The basis that each owner and quota had last."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Basis] = OrderedDict()

    def of(self, owner: str, quota: str) -> Basis:
        """As the database said last, or `UNKNOWN`."""
        return self._known.get((owner, quota), UNKNOWN)

    def remember(self, owner: str, quota: str, basis: Basis, now: int) -> None:
        """What the database says; one that no period can be worked out from at `now` (milliseconds since 1970 UTC) is
        as good as none.
        """
        try:
            basis.bounds(now)
        except ValueError:
            log.warning("a quota has no period that can be worked out", extra={"owner": owner, "quota": quota})
            return
        if (owner, quota) not in self._known and len(self._known) >= REMEMBERED:
            self._known.popitem(last=False)
        self._known[owner, quota] = basis
