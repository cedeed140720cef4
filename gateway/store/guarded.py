"""Writes that come only while what allowed them stands."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.audit import Audited, Store
from gateway.store.driver import Statement, Written
from gateway.store.guards import Guard, guarded_write


class Guarded(Audited):
    """A database whose writes hang on these guards as well, in the same atomic write: the refusal of the first that
    does not hold is raised. For conditions of the caller's, beside those of the function that writes.
    """

    def __init__(self, db: Store, guards: Sequence[Guard]) -> None:
        super().__init__(db)
        self._guards = guards

    async def write(self, *statements: Statement) -> Written:
        """As `Database.write`; raises what `guarded_write` does."""
        return await guarded_write(self._db, self._guards, *statements)
