"""Which login sessions stand for nothing any more, held in memory: an access token is checked without a read.

The change log feeds it: whoever's credentials a round of the feed has news of is read again in that round's snapshot.
It is loaded whole when the feed begins or can not go on from where it was, and now and then, because triggers may have
been dropped. What this process revoked itself it knows from the moment of its commit, and a reading of an earlier
moment does not make it forget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from gateway.core.clock import CLOCK_SKEW_MS
from gateway.store.authentication import Voids, read_voids, users_with_voids
from gateway.store.changes import last_seq
from gateway.store.database import Reader

GROUP = 500
"""Users whose logins are read together."""


class Standing(NamedTuple):
    """What is void of one user's logins: all of them (`gone`), or the sessions, each from a moment on (milliseconds
    since 1970 UTC)."""

    gone: bool
    sessions: Mapping[str, int]


class _Noted(NamedTuple):
    """What this process revoked by its own commit, whose `seq` it is."""

    seq: int
    gone: bool
    sessions: frozenset[str]


_NOTHING = Standing(False, MappingProxyType({}))


class VoidLogins:
    """The set. `token_life_s`: seconds that the longest access token of this installation lives; what ended longer ago
    is not held. `wall` gives the time in milliseconds since 1970 UTC."""

    def __init__(self, wall: Callable[[], int], token_life_s: int) -> None:
        self._wall = wall
        self.life_ms = token_life_s * 1000 + CLOCK_SKEW_MS
        self._users: dict[str, Standing] = {}
        self._noted: dict[str, _Noted] = {}
        self._loading: list[set[str]] = []
        self._loads = 0

    def void(self, user: str, session: str) -> bool:
        """Whether this login session of this user stands for nothing: revoked, ended, deleted, another user's by now,
        or its user is disabled or deleted. No read: what was revoked a moment ago elsewhere is not known yet.
        """
        standing = self._users.get(user)
        if standing is None or standing.gone:
            return standing is not None
        since = standing.sessions.get(session)
        return since is not None and since <= self._wall()

    def __len__(self) -> int:
        """How many sessions are known as void, or end soon."""
        return sum(len(standing.sessions) for standing in self._users.values())

    # --- what this process did itself ---

    def note(self, seq: int, *, sessions: Iterable[tuple[str, str]] = (), users: Iterable[str] = ()) -> None:
        """The commit `seq` of this process revoked these ``(user, session)`` and disabled or deleted these users."""
        revoked: dict[str, set[str]] = {user: set() for user in users}
        gone = frozenset(revoked)
        for user, session in sessions:
            revoked.setdefault(user, set()).add(session)
        for user, ids in revoked.items():
            before = self._noted.get(user, _Noted(0, False, frozenset()))
            noted = _Noted(max(seq, before.seq), before.gone or user in gone, before.sessions | ids)
            self._noted[user] = noted
            self._users[user] = _joined(self._users.get(user, _NOTHING), noted)

    # --- what the log tells ---

    async def update(self, reader: Reader, users: Collection[str], seq: int) -> None:
        """Read these users again, whose credentials the log has news of. `reader` shows the moment `seq`."""
        names = list(users)
        for group in (names[start : start + GROUP] for start in range(0, len(names), GROUP)):
            voids = await read_voids(reader, group, self._wall(), self.life_ms)
            for user, standing in _standings(group, voids).items():
                self._install(user, standing, seq)
            for meanwhile in self._loading:
                meanwhile.update(group)
            if len(names) > GROUP:
                await asyncio.sleep(0)

    async def load(self, reader: Reader, *, anew: bool = False) -> None:
        """Read everything that is void, and forget what is not. `reader` may show one moment or, from call to call, a
        later one. `anew`: it is another database, whose numbering has nothing to do with the one before.
        """
        if anew:
            self._noted.clear()
        loads, meanwhile = self._loads, set[str]()
        self._loading.append(meanwhile)
        try:
            seq = await last_seq(reader)
            loaded = await self._read_all(reader)
        finally:
            self._loading.remove(meanwhile)
        if self._loads != loads:
            return  # one that began later is newer
        self._loads += 1
        users, self._users = self._users, {}
        for user in (loaded.keys() | self._noted.keys()) - meanwhile:
            self._install(user, loaded.get(user, _NOTHING), seq)
        for user in meanwhile & users.keys():
            self._users[user] = users[user]

    async def _read_all(self, reader: Reader) -> dict[str, Standing]:
        now = self._wall()
        found: set[str] = set()
        async for page in users_with_voids(reader, now, self.life_ms):
            found.update(page)
            await asyncio.sleep(0)
        wanted = list(found)
        loaded: dict[str, Standing] = {}
        for group in (wanted[start : start + GROUP] for start in range(0, len(wanted), GROUP)):
            loaded |= _standings(group, await read_voids(reader, group, now, self.life_ms))
            await asyncio.sleep(0)
        return loaded

    def _install(self, user: str, standing: Standing, seq: int) -> None:
        """What was read of a user at the moment `seq`, and what this process revoked since."""
        noted = self._noted.get(user)
        if noted is not None and noted.seq > seq:
            standing = _joined(standing, noted)
        elif noted is not None:
            del self._noted[user]
        if standing.gone or standing.sessions:
            self._users[user] = standing
        else:
            self._users.pop(user, None)


def _joined(standing: Standing, noted: _Noted) -> Standing:
    sessions = {**standing.sessions, **dict.fromkeys(noted.sessions, 0)}
    return Standing(standing.gone or noted.gone, sessions)


def _standings(users: Sequence[str], voids: Voids) -> dict[str, Standing]:
    sessions: dict[str, dict[str, int]] = {user: {} for user in users}
    for user, session, since in voids.sessions:
        if user in sessions:
            sessions[user][session] = since
    return {user: Standing(user in voids.users, sessions[user]) for user in users}
