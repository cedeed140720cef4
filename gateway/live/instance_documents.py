"""Reads and publishes what instances watch beside users and organizations: `instance:ID`, `revocations` and `keys`.

They come first in a round, behind the revocation lane: what is revoked is what an instance waits for most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeAlias

from gateway.auth.authenticator import Authenticator
from gateway.core.instance_documents import (
    InstanceFacts,
    Timed,
    instance_document,
    keys_document,
    revocations_document,
)
from gateway.core.networks import lets_in
from gateway.errors import Ending, StoreError
from gateway.live.clock import Clock
from gateway.live.entry import KEYS, REVOCATIONS, InstanceEntry, SharedEntry
from gateway.live.hub import Hub, described
from gateway.live.task import Task
from gateway.store.database import Database, Snapshot
from gateway.store.documents import BadDocument
from gateway.store.instance_documents import MAX_REVOCATIONS, load_instances, load_revocations

Made: TypeAlias = Timed | InstanceFacts | BadDocument | None
"""What was read of one of them, None: it is not there."""
REST_SHARE = 4
"""After a reading of all that is revoked it rests for so many times as long: a fifth of the time at the most goes into
that, however many are revoked."""


class InstanceDocuments:
    """Those that somebody on this node watches."""

    def __init__(self, database: Database, hub: Hub, authenticator: Authenticator, clock: Clock) -> None:
        self._database = database
        self._hub = hub
        self._authenticator = authenticator
        self._clock = clock
        self._rests_until = 0.0

    async def publish(self, snapshot: Snapshot, seq: int) -> list[str]:
        """Read what is on the hub's list, of the moment `seq`; which of them a sweep found changed without a word of
        the log. Raises `StoreError`, and all stays on the list."""
        work = self._hub.work
        if not work.shared:
            return []
        self._rest()
        tasks = dict(work.shared)
        now = self._clock.now().wall
        made = await self._made(snapshot, tasks, now)
        drift = []
        with self._hub.outbox.collecting():
            for doc, document in made.items():
                task = tasks[doc]
                work.shared.pop(doc, None)
                if self._publish(doc, document, seq, task.causes, now) and task.swept and not task.causes:
                    drift.append(doc)
        return drift

    def _publish(self, doc: str, made: Made, seq: int, causes: frozenset[str], now: int) -> bool:
        """True when somebody's document changed."""
        hub, entry = self._hub, self._hub.entries.get(doc)
        if not isinstance(entry, InstanceEntry | SharedEntry):
            return False
        if made is None:
            hub.remove(entry)
            return True
        try:
            if isinstance(made, BadDocument):
                raise ValueError(made.reason)
            changed = entry.take(made if isinstance(made, Timed) else instance_document(made), seq, causes)
        except Exception as exc:
            hub.fault(entry, described(exc), seq, now)
            return False
        hub.counters.built += 1
        if entry.fault is not None:
            hub.mend(entry)
        if isinstance(made, InstanceFacts) and isinstance(entry, InstanceEntry):
            for connection in tuple(entry.sessions):
                if not made.active or not lets_in(made.networks, connection.address):
                    connection.end(Ending.REVOKED)
        hub.schedule(entry)
        hub.deliver(entry, changed)
        return changed

    def _rest(self) -> None:
        """Put off the reading of all that is revoked when the last one was a moment ago."""
        work, now = self._hub.work, self._clock.now().mono
        if REVOCATIONS in work.shared and now < self._rests_until:
            work.postpone(REVOCATIONS)
            asyncio.get_running_loop().call_later(self._rests_until - now, work.resume, REVOCATIONS)

    async def _made(self, snapshot: Snapshot, tasks: Mapping[str, Task], now: int) -> dict[str, Made]:
        made: dict[str, Made] = {}
        ids = [doc[9:] for doc in tasks if doc.startswith("instance:")]
        if ids:
            loaded = await load_instances(snapshot, ids)
            made |= {f"instance:{id}": facts for id, facts in (await self._newer(loaded)).items()}
        if KEYS in tasks:
            made[KEYS] = keys_document(*self._authenticator.published_keys(now))
        if REVOCATIONS in tasks:
            began = self._clock.now().mono
            revoked = await load_revocations(snapshot, now, self._authenticator.token_life_ms)
            made[REVOCATIONS] = revocations_document(revoked, MAX_REVOCATIONS)
            ended = self._clock.now().mono
            self._rests_until = ended + REST_SHARE * (ended - began)
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
