"""What the rows of the change log ask for: put on the hub's list, if anybody on this node is concerned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.live.entry import KEYS, REVOCATIONS, InstanceEntry, SharedEntry, UserEntry
from gateway.live.task import Task, causes_of, shared_task, user_task
from gateway.store.changes import Change
from gateway.store.documents import Part

if TYPE_CHECKING:
    from gateway.live.credentials import CredentialCheck
    from gateway.live.hub import Hub

USE = "use"
"""That a credential was used: after a storm of reconnects, a row for each user, and nothing that anybody is shown."""
QUOTA_USAGE = "quota_usage"


class Notes:
    """`usage_seen`: balances were moved since somebody last set it to False."""

    def __init__(self, hub: Hub, credentials: CredentialCheck) -> None:
        self._hub = hub
        self._credentials = credentials
        self.usage_seen = True

    def take(self, changes: Iterable[Change]) -> None:
        """Rows of the log, in their order."""
        entries = self._hub.entries
        for _, doc, cause, at in changes:
            if cause == USE:
                continue
            if cause == QUOTA_USAGE:
                self._usage(doc, cause, at)
            elif doc[:5] != "user:":
                self._shared(doc, cause, at)
            else:
                credentials = self._credentials.note(doc, cause)
                if isinstance(entry := entries.get(doc), UserEntry):
                    self.read_user(entry, user_task(cause, at), credentials=credentials)

    def _usage(self, doc: str, cause: str, at: int) -> None:
        self.usage_seen = True
        hub = self._hub
        if doc[:5] != "user:":
            if self._knows(doc):
                hub.work.balance(doc, shared_task(cause, at))
        elif isinstance(entry := hub.entries.get(doc), UserEntry) and not hub.resting.end(doc):
            hub.work.balance(doc, user_task(cause, at), entry.pools())

    def read_user(self, entry: UserEntry, task: Task, *, credentials: bool) -> None:
        """Read a user's document again; with `credentials`, those of the user's sessions too."""
        work, doc = self._hub.work, entry.doc
        if self._hub.resting.end(doc):
            return
        if credentials and entry.sessions:
            work.credentials.setdefault(doc, task.since)
        if task.parts:
            work.user(doc, task)

    def _shared(self, doc: str, cause: str, at: int) -> None:
        hub, work = self._hub, self._hub.work
        if doc.startswith("org:"):
            if self._knows(doc):
                work.organization(doc[4:], shared_task(cause, at))
        elif doc.startswith(("plan:", "role:")):
            work.plan_or_role(doc, shared_task(cause, at))
        elif doc.startswith("sessions:"):
            hub.presence.heard(doc[9:])
        elif doc.startswith("instance:"):
            self._credentials.note_instance(doc, cause, at)
            self._read_shared(doc, shared_task(cause, at))
        elif doc == REVOCATIONS:
            if doc in hub.entries:
                work.noted += 1
                work.share(doc, Task(Part.NONE, causes_of(cause), at))
        else:
            if doc == KEYS:
                self._credentials.note_keys()
            self._read_shared(doc, shared_task(cause, at))

    def _read_shared(self, doc: str, task: Task) -> None:
        if isinstance(self._hub.entries.get(doc), InstanceEntry | SharedEntry):
            self._hub.work.share(doc, task)

    def _knows(self, doc: str) -> bool:
        """Whether an organization is in a document that somebody on this node watches."""
        catalog = self._hub.catalog
        return doc[4:] in catalog.organizations or doc in self._hub.entries or doc[4:] in catalog.bad_organizations
