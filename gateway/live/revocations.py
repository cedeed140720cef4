"""The document `revocations` of a node, kept in memory: a change costs what was noted since, not what is revoked.

What the log tells of it is no more than that something was noted, or taken back. So whatever is read since is counted:
where that are not as many as rows of the log, something else happened, and all is read again; as it is at first, at a
sweep and where the log is not followed on.
"""

from __future__ import annotations

import asyncio

from gateway.auth.authenticator import Authenticator
from gateway.core.instance_documents import STEP_MS, RevocationList, Timed
from gateway.live.clock import Clock
from gateway.live.entry import REVOCATIONS
from gateway.live.hub import Hub
from gateway.live.task import READ_AGAIN, Task
from gateway.store.database import Snapshot
from gateway.store.instance_documents import MAX_REVOCATIONS, Newest, load_noted, load_revocations, newest_of
from gateway.store.logins import longest_life

REST_SHARE = 4
"""After a reading it rests for so many times what that took of the processor: a fifth of it at the most goes into
changes, and a fifth into reading all, however much is revoked at once. What it only waited for, on a busy machine or
for a database, keeps nobody waiting."""


class NodeRevocations:
    """What this node knows of what is revoked, while somebody watches it."""

    def __init__(self, hub: Hub, authenticator: Authenticator, clock: Clock) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._clock = clock
        self._list: RevocationList | None = None
        self._newest = Newest(0, frozenset())
        self._life_ms = 0
        self._rests_until = {False: 0.0, True: 0.0}
        self.readings = {False: 0, True: 0}
        """How often what was noted since was read, and all (True)."""

    def forget_unwatched(self) -> None:
        """Free the memory where nobody watches any more."""
        if REVOCATIONS not in self._hub.entries:
            self._list = None

    async def read(self, snapshot: Snapshot, task: Task, now: int) -> Timed | None:
        """The document at `now` (milliseconds since 1970 UTC); None: it is put off for a moment.

        Raises `StoreError`, and ValueError for a moment that RFC 3339 has no words for.
        """
        before, own_ms = self._life_ms, self._authenticator.token_life_ms
        self._life_ms = await longest_life(snapshot, now, own_ms)
        whole = bool(task.parts) or self._list is None or before != self._life_ms
        try:
            if self._rests(whole):
                return None
            if not whole and not await self._go_on(snapshot, now):
                self._list, whole = None, True
                if self._rests(whole):
                    return None
            if whole:
                await self._read_all(snapshot, now)
        except BaseException:
            self._list = None
            raise
        self._hub.work.noted = 0
        assert self._list is not None
        return Timed(self._list.document, self._list.changes_at)

    def told(self, spent_s: float, *, whole: bool) -> None:
        """It was read, and told to all who watch it, which took `spent_s` seconds of the processor."""
        self._rests_until[whole] = self._clock.now().mono + REST_SHARE * spent_s

    def _rests(self, whole: bool) -> bool:
        """Whether the last one was a moment ago; then it is put off."""
        work, left_s = self._hub.work, self._rests_until[whole] - self._clock.now().mono
        if left_s <= 0:
            return False
        if REVOCATIONS in self._hub.entries:  # the last who watches may go while it is read
            if whole:
                work.share(REVOCATIONS, READ_AGAIN)
            work.postpone(REVOCATIONS)
            asyncio.get_running_loop().call_later(left_s, work.resume, REVOCATIONS)
        return True

    async def _go_on(self, snapshot: Snapshot, now: int) -> bool:
        """Take in what was noted since; False where that is not what the log tells of, or is not enough."""
        assert self._list is not None
        before = self._newest
        rows = await load_noted(snapshot, before.at, self._life_ms)
        if rows is None:
            return False
        noted = [each for each in rows if each.noted_at > before.at or each.id not in before.ids]
        if len(noted) != self._hub.work.noted or not self._list.go_on(noted, now):
            return False
        self._newest = newest_of(rows, before)
        self.readings[False] += 1
        return True

    async def _read_all(self, snapshot: Snapshot, now: int) -> None:
        known = await load_revocations(snapshot, now - now % STEP_MS, self._life_ms)
        self._list, self._newest = RevocationList(known.revoked, MAX_REVOCATIONS), known.newest
        self.readings[True] += 1
