"""Who watches what on this node, and what changed but was not published yet.

The hub does no I/O. The feed tells it what the change log says (`note`), asks what has to be read (`take`), and
hands back what it read (`publish_user`, `publish_organization`, ...). Everything between an await of the feed and
the next is atomic for sessions: they join before anything is read for them, so no change can fall between the two.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.core.facts import Catalog, OrganizationFacts, UserFacts
from gateway.core.principal import Principal
from gateway.errors import Ending
from gateway.live.connection import Connection
from gateway.live.counters import HubCounters
from gateway.live.entry import (
    Entry,
    InstanceEntry,
    OrganizationEntry,
    PrincipalEntry,
    SharedEntry,
    UserEntry,
    unbuildable,
)
from gateway.live.followers import Followers
from gateway.live.outbox import Outbox
from gateway.live.pending import PendingWork
from gateway.live.presence import Presence
from gateway.live.related import Related
from gateway.live.resting import Resting
from gateway.live.task import READ_AGAIN, USAGE, Task
from gateway.live.watching import Watching, principal_of
from gateway.store.documents import BadDocument, LoadedUser, Part

log = logging.getLogger("gateway.hub")

DUE_SPARE = 1_000
INSTANCE_SESSIONS = 100
"""Of one instance on one node: a process of the application has one."""


class Hub:
    """Documents by name, the sessions that watch them, and the catalog that they share."""

    def __init__(self, work: PendingWork, *, max_documents: int, max_sessions_per_user: int) -> None:
        self.epoch = ""
        self.position = 0
        self.catalog = Catalog()
        self.entries: dict[str, Entry] = {}
        self.work = work
        self.related = Related()
        self.counters = HubCounters()
        self.outbox = Outbox()
        self.followers = Followers()
        self.watching = Watching(self, max_documents)
        self.resting = Resting(self.forget_if_idle)
        self.presence = Presence(self.entries, max_sessions_per_user)
        self._in_round, self._unneeded = False, set[str]()

    # --- sessions come and go ---

    def join(self, connection: Connection) -> PrincipalEntry:
        """Bind a live session to its principal's entry, which is loaded and kept as long as it lives."""
        entry = self.entry(principal_of(connection).document)
        assert isinstance(entry, PrincipalEntry)
        entry.sessions[connection] = None
        self.recheck(connection)
        if isinstance(entry, UserEntry):
            self.presence.joined(entry)
        return entry

    def has_room(self, principal: Principal) -> bool:
        """Whether one more session of this principal may begin. A user's oldest session makes room; an instance's
        would come back at once, and end the next."""
        entry = self.entries.get(principal.document)
        return not isinstance(entry, InstanceEntry) or len(entry.sessions) < INSTANCE_SESSIONS

    def recheck(self, connection: Connection) -> None:
        """A session took a credential that was read a moment ago: read it again if it may have changed since."""
        doc = principal_of(connection).document
        if doc in self.work.recent:
            self.work.credentials.setdefault(doc, None)
            self.work.wake()

    def leave(self, connection: Connection) -> None:
        """Forget a session and all that it watched."""
        for watcher in connection.watchers.values():
            watcher.entry.watchers.pop(watcher, None)
            self.forget_if_idle(watcher.entry)
        entry = self.entry_of(connection)
        if entry is not None:
            self.presence.left(connection.session.id)
            self.watching.leave(entry, connection)
            entry.sessions.pop(connection, None)
            if self.work.concerns(entry.doc) or not (
                isinstance(entry, UserEntry) and self.resting.add(entry, len(self.entries))
            ):
                self.forget_if_idle(entry)

    def entry_of(self, connection: Connection) -> PrincipalEntry | None:
        """The entry of the session's principal, if it has joined."""
        principal = connection.session.principal
        entry = self.entries.get(principal.document) if principal is not None else None
        return entry if isinstance(entry, PrincipalEntry) and connection in entry.sessions else None

    # --- entries ---

    def confirm(self, entry: Entry) -> None:
        """Let what an entry publishes be exact up to the feed's position, unless something that may change it is on its
        way: most commits are about other documents.
        """
        concerns = self.work.concerns
        if entry.fault is None and not concerns(entry.doc) and not any(map(concerns, entry.pools())):
            entry.confirm(self.position)

    def hurry(self, entry: Entry) -> bool:
        """Let what waits of the balances that a document shows be read at once; True when there was something."""
        hurried = self.work.hurry((entry.doc, *entry.pools()))
        if hurried and isinstance(entry, UserEntry):
            self.work.user(entry.doc, Task(Part.NONE, USAGE))
        return hurried

    def entry(self, doc: str) -> Entry:
        """A document that somebody begins to watch: ``user:ID``, ``org:ID``, ``instance:ID``, or one of all."""
        self.resting.discard(doc)
        entry = self.entries.get(doc)
        if entry is not None:
            return entry
        if doc.startswith("user:"):
            return self._user_entry(doc)
        if doc.startswith("org:"):
            self.entries[doc] = entry = OrganizationEntry(doc, doc[4:])
            self.work.organization(entry.id, READ_AGAIN)
            return entry
        instance = doc.startswith("instance:")
        self.entries[doc] = entry = InstanceEntry(doc, doc[9:]) if instance else SharedEntry(doc, "")
        self.work.share(doc, READ_AGAIN)
        return entry

    def _user_entry(self, doc: str) -> UserEntry:
        entry = self.entries.get(doc)
        if not isinstance(entry, UserEntry):
            self.entries[doc] = entry = UserEntry(doc, doc[5:])
            self.work.user(doc, READ_AGAIN)
        return entry

    def forget_if_idle(self, entry: Entry) -> None:
        """Let go of a document that nobody needs any more."""
        if not entry.idle() or self.entries.get(entry.doc) is not entry:
            return
        del self.entries[entry.doc]
        self.resting.discard(entry.doc)
        self.work.forget(entry.doc)
        self.watching.forget(entry.doc)
        if isinstance(entry, UserEntry):
            self.related.update(entry, entry.facts, None)
            for membership in entry.facts.memberships if entry.facts else ():
                self._forget_organization(membership.organization)
        elif isinstance(entry, OrganizationEntry):
            self._forget_organization(entry.id)

    @contextmanager
    def round(self) -> Iterator[None]:
        """A round of the feed: organizations that were known when it read are known until it has published."""
        self._in_round = True
        try:
            yield
        finally:
            self._in_round = False
            while self._unneeded:
                self._forget_organization(self._unneeded.pop())

    def _forget_organization(self, organization: str) -> None:
        if self._in_round:
            self._unneeded.add(organization)
        elif f"org:{organization}" not in self.entries and not self.related.members(organization):
            self.catalog.organizations.pop(organization, None)
            self.catalog.bad_organizations.discard(organization)
            self.work.pacing.take(f"org:{organization}")

    async def fetch(self, doc: str) -> UserEntry | None:
        """A user's entry with its present document, loaded for this call if need be; None: there is no such user.

        Raises `Unavailable` when it can not be built.
        """
        entry = self._user_entry(doc)
        if entry.fault is not None:
            self.forget_if_idle(entry)
            raise unbuildable()
        if entry.publication is not None and not self.hurry(entry):
            self.confirm(entry)
            return entry
        self.resting.discard(doc)
        future: asyncio.Future[UserEntry | None] = asyncio.get_running_loop().create_future()
        if entry.readers is None:
            entry.readers = []
        entry.readers.append(future)
        try:
            return await future
        finally:
            if entry.readers:
                entry.readers.remove(future)
            self.forget_if_idle(entry)

    # --- what the feed read ---

    def publish_user(
        self,
        doc: str,
        loaded: LoadedUser | BadDocument | None,
        seq: int,
        causes: frozenset[str],
        now: int,
        *,
        catalog: Catalog | None = None,
    ) -> bool:
        """A user was read, or has to be built again from facts. True when somebody's document changed."""
        entry = self.entries.get(doc)
        if not isinstance(entry, UserEntry):
            return False
        if loaded is None:
            self.remove(entry)
            return True
        if isinstance(loaded, BadDocument):
            self.fault(entry, loaded.reason, seq, now)
            self.watching.published(entry, changed=False)
            return False
        if loaded.identity is None and entry.publication is None:
            self.work.user(doc, Task(Part.ALL, causes))
            return False
        before = entry.facts
        changed = self.rebuild(entry, lambda: entry.build(loaded, catalog or self.catalog, seq, causes, now), seq, now)
        if changed is None:
            self.watching.published(entry, changed=False)
            return False
        self._settle(entry, before)
        self.deliver(entry, changed)
        if entry.sessions:
            self.watching.published(entry, changed=changed)
        return changed

    def rebuild(self, entry: Entry, build: Callable[[], bool], seq: int, now: int) -> bool | None:
        """Let an entry take over what was read: whether it changed; None: it can not be built. `deliver` is next."""
        try:
            changed = build()
        except Exception as exc:
            self.fault(entry, described(exc), seq, now)
            return None
        self.counters.built += 1
        if entry.fault is not None:
            self._mend(entry)
        self._schedule(entry)
        return changed

    def _settle(self, entry: UserEntry, before: UserFacts | None) -> None:
        """A user's document was built: whatever hangs on its facts follows."""
        facts = entry.facts
        if before is not facts and facts is not None:
            self.related.update(entry, before, facts)
            if before is not None and before.memberships != facts.memberships:
                for membership in before.memberships:
                    self._forget_organization(membership.organization)
            if not facts.active:
                for connection in tuple(entry.sessions):
                    connection.end(Ending.REVOKED)
        if entry.readers:
            entry.answer(entry)

    def touch_members(self, organization: str, loaded: OrganizationFacts | BadDocument | None, task: Task) -> None:
        """An organization was read: its members' documents are put on the list if it differs from before."""
        before = self.catalog.organizations.get(organization)
        if not isinstance(loaded, BadDocument) and loaded != before:
            on_other_plan = loaded is not None and (before is None or loaded.plan != before.plan)
            task = Task(Part.USAGES if on_other_plan else Part.NONE, task.causes, task.since)
            self.work.all_of((member.doc for member in self.related.members(organization)), task)

    def publish_organization(
        self,
        organization: str,
        loaded: OrganizationFacts | BadDocument | None,
        seq: int,
        causes: frozenset[str],
        now: int,
    ) -> bool:
        """An organization was read. True when its own document changed."""
        entry = self.entries.get(f"org:{organization}")
        if isinstance(loaded, BadDocument):
            if organization not in self.catalog.organizations:
                self.catalog.bad_organizations.add(organization)
            if isinstance(entry, OrganizationEntry):
                self.fault(entry, loaded.reason, seq, now)
            return False
        self._know_organization(organization, loaded)
        if not isinstance(entry, OrganizationEntry):
            return False
        if loaded is None:
            self.remove(entry)
            return True
        if loaded.members is None:
            # Somebody began to watch it while it was read for others.
            self.work.organization(organization, READ_AGAIN)
            return False
        changed = self.rebuild(entry, lambda: entry.build(loaded, self.catalog, seq, causes, now), seq, now)
        if changed is not None:
            self.deliver(entry, changed)
        return bool(changed)

    def _know_organization(self, organization: str, loaded: OrganizationFacts | None) -> None:
        if loaded is None:
            self.catalog.organizations.pop(organization, None)
        else:
            self.catalog.organizations[organization] = loaded
        if organization in self.catalog.bad_organizations:
            self.catalog.bad_organizations.discard(organization)
            for user in self.entries.values():
                if isinstance(user, UserEntry) and user.fault is not None:
                    self.work.user(user.doc, READ_AGAIN)

    # --- telling watchers ---

    def deliver(self, entry: Entry, changed: bool) -> None:
        """Send watchers what leads them to what is published."""
        if not changed:
            self.counters.suppressed += 1
        watchers = tuple(entry.watchers)
        shared = len(watchers) > 1
        for watcher in watchers:
            publication = entry.publication_for(watcher)
            if publication is None:
                continue
            if (changed or watcher.pending or watcher.sent is None) and watcher.connection.deliver(
                watcher, publication, shared=shared
            ):
                self.counters.pushed += 1
        if shared:
            entry.forget_frames()

    def _schedule(self, entry: Entry) -> None:
        """Have the entry built again when the clock changes it."""
        if entry.changes_at is not None and entry.changes_at != entry.scheduled_at:
            entry.scheduled_at = entry.changes_at
            self.work.due(entry.doc, entry.changes_at)
            if self.work.due_count() > 2 * len(self.entries) + DUE_SPARE:
                held = self.entries.values()
                self.work.replace_due((e.scheduled_at, e.doc) for e in held if e.scheduled_at is not None)

    def remove(self, entry: Entry) -> None:
        """What the entry shows is deleted: watchers are told, and sessions of a principal end."""
        for watcher in tuple(entry.watchers):
            entry.watchers.pop(watcher, None)
            if entry.publication is None or watcher.pending:
                watcher.connection.refuse(watcher, "deleted")
            else:
                watcher.connection.drop(watcher, "deleted")
        if isinstance(entry, UserEntry):
            entry.answer(None)
        if isinstance(entry, PrincipalEntry):
            for connection in tuple(entry.sessions):
                connection.end(Ending.REVOKED)
        self.forget_if_idle(entry)

    def fault(self, entry: Entry, reason: str, seq: int, now: int) -> None:
        """The entry can not be built: watchers keep what they hold, and are told."""
        self.counters.faults += 1
        log.error("document can not be built", extra={"doc": entry.doc, "seq": seq, "error": reason})
        if entry.fault is None:
            entry.fault_since = now
        entry.fault = reason
        if isinstance(entry, UserEntry):
            entry.refuse(unbuildable)
        for watcher in tuple(entry.watchers):
            watcher.connection.tell_status("stale", entry.fault_since, entry.doc)
            if entry.publication_for(watcher) is None:
                watcher.connection.decided(watcher, accepted=True)

    def _mend(self, entry: Entry) -> None:
        """The entry can be built again."""
        entry.fault = None
        for watcher in tuple(entry.watchers):
            watcher.connection.tell_status("fresh", entry.fault_since, entry.doc)

    def facts_of(self, doc: str) -> UserFacts | None:
        """The facts of a user's document that is loaded. None while it can not be built: some of what was read since
        is lost, so that the next reading has to be a whole one.
        """
        entry = self.entries.get(doc)
        return entry.facts if isinstance(entry, UserEntry) and entry.fault is None else None


def described(exc: Exception) -> str:
    """For the log: a value that a document can not hold, or, where it is our fault, what failed where."""
    ours = not isinstance(exc, ValueError | OverflowError)
    return "".join(traceback.format_exception(exc)) if ours else f"{type(exc).__name__}: {exc}"
