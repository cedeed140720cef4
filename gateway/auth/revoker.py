"""The one way in which this program revokes: whatever ends a credential ends it here.

What is revoked is a value (`SessionEnded`, `UserDisabled`, ...). It is written together with whatever else the caller
changes and with the audit entry, and when `revoke` returns this process refuses the credential. The change log carries
it to the sockets, here and on every other node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gateway.auth.void_logins import VoidLogins
from gateway.errors import NoRowChanged, NotFound
from gateway.store.accounts import user_exists
from gateway.store.audit import Entry, Store, record
from gateway.store.database import Statement, Written
from gateway.store.revocation import (
    IssuedBefore,
    IssuedEarlier,
    OtherSessions,
    SessionEnded,
    Target,
    TokenRevoked,
    UserDeleted,
    UserDisabled,
    revoking,
    revoking_group,
    voided,
)

__all__ = [
    "IssuedBefore",
    "OtherSessions",
    "Revoked",
    "Revoker",
    "SessionEnded",
    "Target",
    "TokenRevoked",
    "UserDeleted",
    "UserDisabled",
]

_MISSING = {
    SessionEnded: "There is no such session.",
    TokenRevoked: "There is no such token.",
    UserDisabled: "There is no such user.",
    UserDeleted: "There is no such user.",
    IssuedBefore: "There is no such user.",
}


class Revoked(msgspec.Struct, frozen=True):
    """What came of it: the last commit's `seq`, and how many credentials (or users) were named by it."""

    seq: int
    count: int


class Revoker:
    """Revokes. `revocations` is the set of this process, None where nobody asks it; `wall` gives the time in
    milliseconds since 1970 UTC."""

    def __init__(self, database: Store, revocations: VoidLogins | None, wall: Callable[[], int]) -> None:
        self._database = database
        self._revocations = revocations
        self._wall = wall

    async def revoke(self, target: Target | IssuedBefore, *others: Statement, entry: Entry | None = None) -> Revoked:
        """Void `target`, run `others` and write `entry` in one atomic write. The entry comes first, so that it finds
        the state before.

        What was issued before a moment is voided in groups, each atomic, the others and the entry with the first; a
        failure leaves the groups before it voided, and the call may be repeated.

        Raises NotFound where there is no such credential or user (or it is not the named user's), `NoRowChanged` with
        its place among `others` where one of these had to change a row, `StoreError`.
        """
        if isinstance(target, IssuedBefore):
            return await self._issued_before(target, others, entry)
        now = self._wall()
        before = [] if entry is None else [record(entry, now)]
        written = await self._write([*before, revoking(target, now)], others, _MISSING.get(type(target), ""))
        count = self._note(written, slice(len(before), len(before) + 1), gone=isinstance(target, _USERS))
        return Revoked(written.seq, count)

    async def _issued_before(self, target: IssuedBefore, others: Sequence[Statement], entry: Entry | None) -> Revoked:
        now, earlier = self._wall(), IssuedEarlier(self._database, target)
        first = [] if entry is None else [record(entry, now)]
        first += [] if target.user is None else [user_exists(target.user)]
        group = await earlier.next()
        voiding = [] if group is None else revoking_group(group, now)
        written = await self._write([*first, *voiding], others, _MISSING[IssuedBefore])
        count = self._note(written, slice(len(first), len(first) + len(voiding)))
        while group is not None and (group := await earlier.next()) is not None:
            written = await self._database.write(*revoking_group(group, now))
            count += self._note(written, slice(None))
        return Revoked(written.seq, count)

    async def _write(self, own: Sequence[Statement], others: Sequence[Statement], missing: str) -> Written:
        try:
            return await self._database.write(*own, *others)
        except NoRowChanged as refused:
            if refused.index < len(own):
                raise NotFound(missing) from None
            raise NoRowChanged(refused.index - len(own)) from None

    def _note(self, written: Written, place: slice, *, gone: bool = False) -> int:
        """Tell the set of this process, and count."""
        void = voided(written.rows[place])
        if self._revocations is not None:
            self._revocations.note(
                written.seq,
                sessions=[(user, session) for user, session in void if session is not None],
                users=[user for user, _ in void] if gone else (),
            )
        return len(void)


_USERS = (UserDisabled, UserDeleted)
