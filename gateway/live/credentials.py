"""Looks again at the credentials of users whom the log has news of: the revocation lane of a round.

    rows of the log ──▶ what is revoked, in memory ──▶ sessions whose credential no longer holds end

A round without such rows reads nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.auth.authenticator import Authenticator
from gateway.errors import Ending
from gateway.live.clock import Clock
from gateway.live.connection import Connection
from gateway.live.entry import PrincipalEntry
from gateway.live.hub import Hub
from gateway.metrics import Metrics
from gateway.store.database import Reader, Snapshot

CAUSES = frozenset(("revocation", "status"))
"""The causes of rows that are about what a user's credentials are worth."""


class CredentialCheck:
    """Ends sessions whose credential no longer holds, and tells the others what changed about theirs."""

    def __init__(self, hub: Hub, authenticator: Authenticator, clock: Clock, metrics: Metrics) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._clock = clock
        self._metrics = metrics
        self._users: set[str] = set()
        self._keys = False
        self._all = False
        self._anew = False

    # --- what the log says ---

    def note(self, doc: str, cause: str) -> bool:
        """A row about a user; answers whether it is about credentials."""
        if cause not in CAUSES:
            return False
        self._hub.work.recent.add(doc)
        self._users.add(doc[5:])
        return True

    def note_instance(self, doc: str, cause: str, at: int) -> None:
        """A row about an instance, committed `at` (milliseconds since 1970 UTC)."""
        if cause not in CAUSES:
            return
        self._hub.work.recent.add(doc)
        entry = self._hub.entries.get(doc)
        if isinstance(entry, PrincipalEntry) and entry.sessions:
            self._hub.work.credentials.setdefault(doc, at)

    def note_keys(self) -> None:
        """The keys that sign access tokens changed."""
        self._keys = True

    def note_all(self, *, anew: bool) -> None:
        """The log can not be followed on. `anew`: it is another database than before."""
        self._all = True
        self._anew = self._anew or anew

    # --- what is read then ---

    async def load(self, snapshot: Snapshot) -> None:
        """Read all that is revoked and the keys, before the first round."""
        await self._authenticator.load(snapshot)

    async def look_for_lost(self, reader: Reader) -> None:
        """Read all that is revoked again, whatever the log says, beside the rounds: it may be much. The keys are read
        by a round alone, so that of two readings the older one never comes last.
        """
        self.note_keys()
        self._hub.work.wake()
        await self._authenticator.load_voids(reader)

    async def check(self, snapshot: Snapshot, seq: int) -> None:
        """Catch up with what was noted, then check the sessions on the hub's list, before anything else of the round is
        read. The snapshot is of the moment `seq`.
        """
        if self._all:
            await self._authenticator.load(snapshot, anew=self._anew)
            self._all = self._anew = self._keys = False
            self._users.clear()
            self._end_unsigned()
        if self._users:
            await self._authenticator.update(snapshot, self._users, seq)
            self._users.clear()
        if self._keys:
            await self._authenticator.load_keys(snapshot)
            self._keys = False
            self._end_unsigned()
        if self._hub.work.credentials:
            await self._check_sessions(snapshot)

    def _end_unsigned(self) -> None:
        for connection in tuple(self._connections()):
            principal = connection.session.principal
            if principal is not None and not self._authenticator.signed(principal):
                # The login session goes on: its client renews with a token of another key, and comes back.
                connection.end(Ending.TOKEN_EXPIRED, message="The key of the credential was withdrawn.")

    def _connections(self) -> Iterator[Connection]:
        for entry in self._hub.entries.values():
            if isinstance(entry, PrincipalEntry):
                yield from entry.sessions

    async def _check_sessions(self, snapshot: Snapshot) -> None:
        docs = dict(self._hub.work.credentials)
        connections: dict[Connection, int | None] = {}
        for doc, since in docs.items():
            entry = self._hub.entries.get(doc)
            if isinstance(entry, PrincipalEntry):
                connections.update(dict.fromkeys(entry.sessions, since))
        asked = {c: c.session.principal for c in connections if c.session.principal is not None}
        verdicts = await self._authenticator.recheck(snapshot, asked.values())
        for doc in docs:
            self._hub.work.credentials.pop(doc, None)
        for connection, before in asked.items():
            since, after = connections[connection], verdicts[before]
            if connection.session.principal is not before:
                self._hub.work.credentials.setdefault(before.document, since)
            elif after is None or not after.same_credential(before):
                connection.end(Ending.REVOKED)
                if since is not None:
                    self._metrics.observe_closed(max(0, self._clock.now().wall - since))
            elif after != before:
                connection.amend(after)
