"""Looks again at the credentials of sessions whose users changed: the revocation lane of a round."""

from __future__ import annotations

from gateway.auth.authenticator import Authenticator
from gateway.errors import Ending
from gateway.live.clock import Clock
from gateway.live.connection import Connection
from gateway.live.entry import UserEntry
from gateway.live.hub import Hub
from gateway.metrics import Metrics
from gateway.store.database import Snapshot


class CredentialCheck:
    """Ends sessions whose credential no longer holds, and tells the others what changed about theirs."""

    def __init__(self, hub: Hub, authenticator: Authenticator, clock: Clock, metrics: Metrics) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._clock = clock
        self._metrics = metrics

    async def check(self, snapshot: Snapshot) -> None:
        """Check those on the hub's list, before anything else of the round is read."""
        docs = dict(self._hub.work.credentials)
        if not docs:
            return
        connections: dict[Connection, int | None] = {}
        for doc, since in docs.items():
            entry = self._hub.entries.get(doc)
            if isinstance(entry, UserEntry):
                connections.update(dict.fromkeys(entry.sessions, since))
        asked = {c: c.session.principal for c in connections if c.session.principal is not None}
        verdicts = await self._authenticator.recheck(snapshot, asked.values())
        for doc in docs:
            self._hub.work.credentials.pop(doc, None)
        for connection, before in asked.items():
            since, after = connections[connection], verdicts.get(before.credential_id)
            if connection.session.principal is not before:
                self._hub.work.credentials.setdefault(before.document, since)
            elif after is None or not after.same_credential(before):
                connection.end(Ending.REVOKED)
                if since is not None:
                    self._metrics.observe_closed(max(0, self._clock.now().wall - since))
            elif after != before:
                connection.amend(after)
