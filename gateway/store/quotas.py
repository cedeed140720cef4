"""All that spends quotas on one database, built once for a process."""

from __future__ import annotations

from collections.abc import Callable

from gateway.store.bases import Bases
from gateway.store.database import Database
from gateway.store.leases import Leases
from gateway.store.spending import Spender


class Quotas:
    """`wall`: milliseconds since 1970 UTC."""

    def __init__(self, database: Database, wall: Callable[[], int]) -> None:
        self.bases = Bases()
        self.spender = Spender(database, self.bases, wall)
        self.leases = Leases(database, self.bases, wall)
