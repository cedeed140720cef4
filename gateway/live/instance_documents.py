"""Reads and publishes what instances watch beside users and organizations: `instance:ID`, `revocations` and `keys`.

They come first in a round, behind the revocation lane: what is revoked is what an instance waits for most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from gateway.auth.authenticator import Authenticator
from gateway.core.instance_documents import (
    InstanceFacts,
    Timed,
    instance_document,
    keys_document,
)
from gateway.core.networks import lets_in
from gateway.errors import Ending, StoreError
from gateway.live.clock import Clock
from gateway.live.entry import KEYS, REVOCATIONS, InstanceEntry, SharedEntry
from gateway.live.hub import Hub, described
from gateway.live.revocations import NodeRevocations
from gateway.live.task import Task
from gateway.store.database import Database, Snapshot
from gateway.store.documents import BadDocument
from gateway.store.instance_documents import load_instances

Made: TypeAlias = Timed | InstanceFacts | BadDocument | None
"""What was read of one of them, None: it is not there."""


class InstanceDocuments:
    """Those that somebody on this node watches."""

    def __init__(self, database: Database, hub: Hub, authenticator: Authenticator, clock: Clock) -> None:
        self._database = database
        self._hub = hub
        self._authenticator = authenticator
        self._clock = clock
        self.revocations = NodeRevocations(hub, authenticator, clock)

    async def publish(self, snapshot: Snapshot, seq: int) -> list[str]:
        """Read what is on the hub's list, of the moment `seq`; which of them a sweep found changed without a word of
        the log. Raises `StoreError`, and all stays on the list."""
        work = self._hub.work
        self.revocations.forget_unwatched()
        if not work.shared:
            return []
        now, began_s, readings = self._clock.now().wall, self._clock.cpu_s(), self.revocations.readings[True]
        tasks = dict(work.shared)
        made = await self._made(snapshot, tasks, now)
        drift = []
        with self._hub.outbox.collecting():
            for doc, document in made.items():
                task = tasks[doc]
                if work.shared.get(doc) is task:  # else it came onto the list once more
                    del work.shared[doc]
                if self._publish(doc, document, seq, task.causes, now) and task.swept and not task.causes:
                    drift.append(doc)
        if REVOCATIONS in made:
            spent_s = self._clock.cpu_s() - began_s
            self.revocations.told(spent_s, whole=self.revocations.readings[True] > readings)
        return drift

    def _publish(self, doc: str, made: Made, seq: int, causes: frozenset[str], now: int) -> bool:
        """True when somebody's document changed."""
        hub, entry = self._hub, self._hub.entries.get(doc)
        if not isinstance(entry, InstanceEntry | SharedEntry):
            return False
        if made is None:
            hub.remove(entry)
            return True
        if isinstance(made, BadDocument):
            hub.fault(entry, made.reason, seq, now)
            return False

        def take() -> bool:
            return entry.take(made if isinstance(made, Timed) else instance_document(made), seq, causes)

        changed = hub.rebuild(entry, take, seq, now)
        if changed is None:
            return False
        if isinstance(made, InstanceFacts) and isinstance(entry, InstanceEntry):
            for connection in tuple(entry.sessions):
                if not made.active or not lets_in(made.networks, connection.address):
                    connection.end(Ending.REVOKED)
        hub.deliver(entry, changed)
        return changed

    async def _made(self, snapshot: Snapshot, tasks: Mapping[str, Task], now: int) -> dict[str, Made]:
        made: dict[str, Made] = {}
        ids = [doc[9:] for doc in tasks if doc.startswith("instance:")]
        if ids:
            loaded = await load_instances(snapshot, ids)
            made |= {f"instance:{id}": facts for id, facts in (await self._newer(loaded)).items()}
        if KEYS in tasks:
            made[KEYS] = keys_document(*self._authenticator.published_keys(now))
        if REVOCATIONS in tasks:
            try:
                revoked: Made = await self.revocations.read(snapshot, tasks[REVOCATIONS], now)
            except (ValueError, OverflowError) as exc:
                revoked = BadDocument(described(exc))
            if revoked is not None:
                made[REVOCATIONS] = revoked
        return made

    async def _newer(
        self, loaded: Mapping[str, InstanceFacts | BadDocument | None]
    ) -> dict[str, InstanceFacts | BadDocument | None]:
        """Of instances that were read as deleted or disabled those are left out that the database has, or has as
        active, by now: the log brings what the snapshot does not have yet."""
        gone = [id for id, facts in loaded.items() if not _is_there(facts)]
        if not gone:
            return dict(loaded)
        try:
            present = await load_instances(self._database, gone)
        except StoreError:  # a database that can not be asked saves nobody
            return dict(loaded)
        newer = {id for id, facts in present.items() if _is_there(facts)}
        for id in newer:
            self._hub.work.shared.pop(f"instance:{id}", None)
        return {id: facts for id, facts in loaded.items() if id not in newer}


def _is_there(facts: InstanceFacts | BadDocument | None) -> bool:
    return isinstance(facts, BadDocument) or (facts is not None and facts.active)
