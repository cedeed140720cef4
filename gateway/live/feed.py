"""Follows the change log from a position: one round reads what is new and publishes the next documents on the hub's
list.

    commit ─▶ wake ─▶ one snapshot: log rows, credentials, catalog, facts ─▶ hub publishes ─▶ position advances

A round works in one snapshot and reads the log to that snapshot's end, so every document it builds is exact at the
new position. It takes a bounded number of documents, so that a revocation never waits for more than one round.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gateway.auth.authenticator import Authenticator
from gateway.core.facts import OrganizationFacts, UserFacts
from gateway.errors import SnapshotLost, StoreError
from gateway.live.catalog_changes import replace_catalog
from gateway.live.clock import Clock
from gateway.live.credentials import CredentialCheck
from gateway.live.entry import REVOCATIONS, InstanceEntry, UserEntry
from gateway.live.hub import Hub
from gateway.live.instance_documents import InstanceDocuments
from gateway.live.newcomers import newer_than_read
from gateway.live.notes import Notes
from gateway.live.task import READ_AGAIN, Task, causes_of
from gateway.metrics import Metrics
from gateway.store.catalog import load_catalog
from gateway.store.changes import PAGE, Change, Position, read_news, read_pages, read_position
from gateway.store.database import Database, Snapshot
from gateway.store.documents import BadDocument, LoadedUser, Part, load_organizations, load_users

log = logging.getLogger("gateway.feed")

ROUND_LIMIT = 100
DUE_LIMIT = 10_000
BACKLOG_LIMIT = 100_000
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 0.8
"""Between attempts while the database is away. Below a second: what the clock changes is due in that time, then too."""
CLOCK = causes_of("clock")
SWEEP = READ_AGAIN._replace(swept=True)


class Taken(NamedTuple):
    """What one round took from the list."""

    organizations: list[tuple[str, Task]]
    users: list[tuple[str, Task]]


class Feed:
    """The follower. It tells when the database can not be read, when it can again, and when it is another one."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        authenticator: Authenticator,
        clock: Clock,
        *,
        on_stale: Callable[[float], None],
        on_fresh: Callable[[], None],
        on_replaced: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._hub = hub
        self.credentials = CredentialCheck(hub, authenticator, clock, metrics)
        self.shared = InstanceDocuments(database, hub, authenticator, clock)
        self.notes = Notes(hub, self.credentials)
        self._clock = clock
        self._on_stale, self._on_fresh, self._on_replaced = on_stale, on_fresh, on_replaced
        self._metrics = metrics
        self._wake = asyncio.Event()
        self.rounds = 0
        self.resyncs = 0
        self.failures = 0
        self.documents_read = 0
        self.stale = False
        hub.work.wake = self._wake.set

    @property
    def position(self) -> int:
        """The `seq` up to which the log was read."""
        return self._hub.position

    async def start(self) -> None:
        """Take the present end of the log as the position and load the catalog."""
        async with self._database.snapshot() as snapshot:
            end = await read_position(snapshot)
            self._hub.catalog = await load_catalog(snapshot)
            await self.credentials.load(snapshot)
        self._hub.epoch, self._hub.position = end.epoch, end.last

    async def run(self) -> None:
        """Follow until cancelled."""
        doorbell = asyncio.create_task(self._listen())
        backoff_s = BACKOFF_MIN_S
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if await self._guarded_round():
                    backoff_s = BACKOFF_MIN_S
                else:
                    await asyncio.sleep(backoff_s * (0.5 + random.random() / 2))
                    backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)
                    self._wake.set()
                if self._hub.work:
                    self._wake.set()
                await asyncio.sleep(0)
        finally:
            doorbell.cancel()

    async def _guarded_round(self) -> bool:
        """One round; False when it failed and is to be tried again after a while. Nothing ends the follower."""
        try:
            try:
                try:
                    await self._round()
                except SnapshotLost:
                    await self._round()  # of a newer moment, read elsewhere
            except StoreError as exc:
                self._failed(exc)
                return False
        except Exception:
            log.exception("a round of the feed failed; every watched document is read again")
            self._resync()
            return False
        return True

    async def _listen(self) -> None:
        while True:
            try:
                await self._database.wait_for_change()
            except Exception:
                log.exception("the doorbell failed; the log is looked at now and then")
                await asyncio.sleep(BACKOFF_MAX_S)
            self._wake.set()

    # --- one round ---

    async def _round(self) -> None:
        self.rounds += 1
        hub, work = self._hub, self._hub.work
        async with self._database.snapshot() as snapshot:
            end, news = await read_news(snapshot, self.position)
            await self._follow(snapshot, end, news)
            await self.credentials.check(snapshot, end.last)
            self._count_drift(await self.shared.publish(snapshot, end.last))
            before, tasks = hub.catalog, work.catalog
            if tasks:
                await self._read_catalog(snapshot, tasks)
                work.catalog = {}
            self._hurry_pools()
            taken = Taken(work.take_organizations(), [])
            try:
                with hub.round():
                    await self._load_and_publish(snapshot, taken, end.last)
            except BaseException:
                # With the new catalog and old facts, the clock would build a document that never was.
                hub.catalog, work.catalog = before, tasks | work.catalog
                work.put_back(taken.users, taken.organizations)
                raise
            finally:
                work.taken.clear()
        hub.position = end.last
        hub.followers.reached(end.last)
        if self.stale:
            self.stale = False
            self._on_fresh()

    async def _read_catalog(self, snapshot: Snapshot, tasks: Mapping[str, Task]) -> None:
        """Plans and roles as they are now."""
        differs = replace_catalog(self._hub, await load_catalog(snapshot), tasks)
        if tasks.get("") is SWEEP:
            self._count_drift(doc for doc in differs if doc not in tasks)

    async def _load_and_publish(self, snapshot: Snapshot, taken: Taken, seq: int) -> None:
        """Organizations first: a member's document is built in the same round, from the same state of both.

        The clock is read after the work was taken: when it is set later, that work is on the list again.
        """
        hub, tasks = self._hub, dict(taken.organizations)
        now = self._clock.now().wall
        loaded = await self._load_organizations(snapshot, tasks, now)
        for id, organization in loaded.items():
            hub.touch_members(id, organization, tasks[id])
        taken.users.extend(hub.work.take_users(ROUND_LIMIT))
        now = self._clock.now().wall
        wanted: dict[str, tuple[int, UserFacts | None]] = {}
        for doc, task in taken.users:
            facts = hub.facts_of(doc)
            wanted[doc[5:]] = (task.parts if facts is not None else Part.ALL, facts)
        read = {user: want for user, want in wanted.items() if want[0]}
        users = await load_users(snapshot, read, hub.catalog, now) if read else {}
        self.documents_read += len(read)
        if newer := await newer_than_read(self._database, users):
            # They stay as they are: the log brings what this snapshot does not have yet.
            taken.users[:] = [(doc, task) for doc, task in taken.users if doc[5:] not in newer]
        self._postpone(taken.users, users)
        while unknown := self._unknown_organizations(users.values()) - loaded.keys():
            loaded |= await self._load_organizations(snapshot, unknown, now)
        with hub.outbox.collecting():
            for id, organization in loaded.items():
                task = tasks.get(id, READ_AGAIN)
                if task is SWEEP and _differ(hub.catalog.organizations.get(id), organization):
                    self._count_drift((f"org:{id}",))
                hub.publish_organization(id, organization, seq, task.causes, now)
            self._publish_users(taken.users, wanted, users, seq, now)

    def _hurry_pools(self) -> None:
        """Whose turn it is, is built together with the pools that it shows: their balances may wait no longer."""
        work = self._hub.work
        for doc in work.next_users(ROUND_LIMIT) if work.pacing else ():
            if (entry := self._hub.entries.get(doc)) is not None:
                work.hurry(entry.pools())

    def _postpone(self, taken: list[tuple[str, Task]], read: Mapping[str, LoadedUser | BadDocument | None]) -> None:
        """Who shows a pool all the same whose balance waits (it became a member just now, or was not among the first)
        has the next turn, and the pool too.
        """
        work = self._hub.work
        if not work.pacing:
            return
        for doc, task in tuple(taken):
            user = read.get(doc[5:])
            facts = user.facts if isinstance(user, LoadedUser) else self._hub.facts_of(doc)
            if facts is not None and work.hurry(facts.pools()):
                taken.remove((doc, task))
                work.user(doc, task)
                work.users.move_to_end(doc, last=False)

    async def _load_organizations(
        self, snapshot: Snapshot, ids: Iterable[str], now: int
    ) -> dict[str, OrganizationFacts | BadDocument | None]:
        wanted = {id: f"org:{id}" in self._hub.entries for id in ids}
        return await load_organizations(snapshot, wanted, self._hub.catalog, now)

    def _publish_users(
        self,
        taken: Iterable[tuple[str, Task]],
        wanted: Mapping[str, tuple[int, UserFacts | None]],
        read: Mapping[str, LoadedUser | BadDocument | None],
        seq: int,
        now: int,
    ) -> None:
        publish = self._hub.publish_user
        reached: dict[int, int] = {}
        for doc, task in taken:
            user = doc[5:]
            facts = wanted[user][1]
            loaded = read[user] if user in read else LoadedUser(facts, None) if facts is not None else None
            if not publish(doc, loaded, seq, task.causes, now):
                continue
            if task.since is not None:
                reached[task.since] = reached.get(task.since, 0) + 1
            if task.swept and not task.causes:
                self._count_drift((doc,))
        done = self._clock.now().wall
        for since, count in reached.items():
            self._metrics.observe_push(max(0, done - since), count)

    def _count_drift(self, docs: Iterable[str]) -> None:
        for doc in docs:
            self._hub.counters.drift += 1
            log.warning("the sweep found a change that the log does not have", extra={"doc": doc})

    def _unknown_organizations(self, loaded: Iterable[LoadedUser | BadDocument | None]) -> set[str]:
        known = self._hub.catalog.organizations
        return {
            membership.organization
            for user in loaded
            if isinstance(user, LoadedUser)
            for membership in user.facts.memberships
            if membership.organization not in known
        }

    # --- the log ---

    async def _follow(self, snapshot: Snapshot, end: Position, news: list[Change]) -> None:
        """Put on the list what the log has beyond the position, `news` first, or everything where it breaks off."""
        replaced = end.epoch != self._hub.epoch or end.last < self.position
        if replaced:
            self._hub.epoch, self._hub.position = end.epoch, end.last
            self._on_replaced()
        if replaced or end.first > self.position + 1 or end.last - self.position > BACKLOG_LIMIT:
            log.warning(
                "the change log is not followed on; every watched document is read again", extra={"replaced": replaced}
            )
            self._resync(anew=replaced)
            return
        self.notes.take(news)
        if len(news) == PAGE:
            async for page in read_pages(snapshot, news[-1].seq):
                self.notes.take(page)

    def _resync(self, *, anew: bool = False) -> None:
        self.resyncs += 1
        self.credentials.note_all(anew=anew)
        self.notes.usage_seen = True
        self._hub.work.plan_or_role("", READ_AGAIN)
        self._read_again(self.to_sweep(), READ_AGAIN)

    # --- faults and time ---

    def _failed(self, exc: StoreError) -> None:
        self.failures += 1
        if not self.stale:
            self.stale = True
            log.error("the database can not be read", extra={"error": str(exc)})
            self._on_stale(self._database.calm_s())
        self._build_without_store()

    def _build_without_store(self) -> None:
        """What the clock changed needs no database: grants end and periods begin although it can not be reached.

        Where something else is to be read too, old facts go with the plans and roles they were built with: with newer
        ones they would make a document that never was.
        """
        hub, now = self._hub, self._clock.now().wall
        for doc, task in list(hub.work.users.items()):
            facts = hub.facts_of(doc)
            entry = hub.entries.get(doc)
            if facts is None or not isinstance(entry, UserEntry) or entry.publication is None or CLOCK - task.causes:
                continue
            alone = task.causes == CLOCK
            if alone and not task.parts:
                hub.work.forget(doc)
            catalog = hub.catalog if alone else entry.catalog
            seq = entry.publication.seq
            hub.publish_user(doc, LoadedUser(facts, None), seq, CLOCK, now, catalog=catalog)
        for id, task in list(hub.work.organizations.items()):
            organization = hub.catalog.organizations.get(id)
            entry = hub.entries.get(f"org:{id}")
            if organization is None or entry is None or entry.publication is None or task.causes != CLOCK:
                continue
            hub.publish_organization(id, organization, entry.publication.seq, CLOCK, now)

    def clock_moved(self, now: int) -> None:
        """Put what changes by the clock on the list; `now` in milliseconds since 1970 UTC."""
        hub = self._hub
        hub.resting.clock_moved(now)
        for at, doc in hub.work.take_due(now, DUE_LIMIT):
            entry = hub.entries.get(doc)
            if entry is None or entry.scheduled_at != at:
                continue
            entry.scheduled_at = None
            if isinstance(entry, UserEntry):
                hub.work.user(doc, Task(Part.NONE, CLOCK))
            else:
                self._read_again((doc,), Task(Part.NONE if doc == REVOCATIONS else Part.ALL, CLOCK))

    def clock_jumped(self) -> None:
        """The wall clock was set: everything that depends on it is built again."""
        for doc, entry in self._hub.entries.items():
            if isinstance(entry, UserEntry):
                self._hub.work.user(doc, Task(Part.USAGES, CLOCK))
            else:
                self._read_again((doc,), Task(Part.ALL, CLOCK))

    def to_sweep(self) -> list[str]:
        """What a sweep has to go through: the documents held, and the organizations that they mention."""
        hub = self._hub
        mentioned = (f"org:{id}" for id in hub.catalog.organizations)
        return [*hub.entries, *(doc for doc in mentioned if doc not in hub.entries)]

    def sweep_catalog(self) -> None:
        """Read plans and roles again, whatever the log says."""
        self._hub.work.plan_or_role("", SWEEP)

    def sweep(self, docs: Iterable[str]) -> None:
        """Read these documents and the credentials of their sessions again, whatever the log says."""
        self._read_again(docs, SWEEP)

    def _read_again(self, docs: Iterable[str], task: Task) -> None:
        for doc in docs:
            if isinstance(entry := self._hub.entries.get(doc), UserEntry):
                self.notes.read_user(entry, task, credentials=True)
            elif doc.startswith("org:"):
                self._hub.work.organization(doc[4:], task)
            elif entry is not None:
                self._hub.work.share(doc, task)
                if isinstance(entry, InstanceEntry) and entry.sessions:
                    self._hub.work.credentials.setdefault(doc, None)


def _differ(before: OrganizationFacts | None, after: OrganizationFacts | BadDocument | None) -> bool:
    """Whether an organization was changed between the two readings; the member list counts where both have it."""
    if before is None or isinstance(after, BadDocument):
        return False
    if after is None:
        return True
    if before.members is None or after.members is None:
        before, after = before._replace(members=None), after._replace(members=None)
    return before != after
