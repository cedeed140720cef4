"""Changes that end credentials and hang on conditions: the last administrator stays, what is over stays as it was."""

from __future__ import annotations

from gateway.auth.revoker import Revoker, Target
from gateway.auth.void_logins import VoidLogins
from gateway.errors import NoRowChanged
from gateway.store.audit import Audited, Entry, Store
from gateway.store.database import Statement, Written


class RevokingStore(Audited):
    """A database whose write revokes `target` too, last and in the same atomic write: what a store function changes,
    under its conditions, and the end of credentials come together or not at all. For one write.
    """

    def __init__(self, db: Store, revocations: VoidLogins | None, target: Target, entry: Entry) -> None:
        super().__init__(_Ending(db, revocations, target), entry)


class _Ending(Audited):
    def __init__(self, db: Store, revocations: VoidLogins | None, target: Target) -> None:
        super().__init__(db)
        self._revocations = revocations
        self._target = target

    async def write(self, *statements: Statement) -> Written:
        """`statements`, then what revoking takes."""
        ahead = _Ahead(self._db, statements)
        revoker = Revoker(ahead, self._revocations, self._db.clock)
        try:
            seq = (await revoker.revoke(self._target)).seq
        except _RefusedAhead as refused:
            raise NoRowChanged(refused.index) from None
        return Written(seq, ahead.rows)


class _Ahead(Audited):
    """Puts statements ahead of the ones that are written, and keeps what they returned."""

    def __init__(self, db: Store, statements: tuple[Statement, ...]) -> None:
        super().__init__(db)
        self._statements = statements
        self.rows: list[list[tuple[object, ...]]] = []

    async def write(self, *statements: Statement) -> Written:
        """All in one atomic write; the rows are those of `statements`."""
        count = len(self._statements)
        try:
            written = await self._db.write(*self._statements, *statements)
        except NoRowChanged as refused:
            if refused.index < count:
                raise _RefusedAhead(refused.index) from None
            raise NoRowChanged(refused.index - count) from None
        self.rows = written.rows[:count]
        return Written(written.seq, written.rows[count:])


class _RefusedAhead(Exception):
    """A statement ahead changed no row; `index` is its place among those."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index
