"""One document of the hub: the state that its watchers share, and the facts it was built from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.core.document import Document
from gateway.core.facts import Catalog, OrganizationFacts, Plan, Section, UserFacts
from gateway.core.publication import Publication
from gateway.core.sections import (
    EMPTY,
    members_section,
    organizations_section,
    permissions_section,
    pool_quotas,
    quotas_section,
    user_permissions,
)
from gateway.core.document import canonical
from gateway.store.documents import LoadedUser

if TYPE_CHECKING:
    from gateway.live.connection import Connection, Watcher


USER_SECTIONS = ("identity", "organizations", "permissions", "quotas")


class Entry:
    """A document that somebody on this node watches, or whose principal is connected here.

    `publication` is None until it is read for the first time, and stays the last good one while `fault` says why it can not be built now.
    `changes_at` (milliseconds since 1970 UTC) is when it changes by the clock, `scheduled_at` the last such moment that was put on the list.
    """

    __slots__ = ("changes_at", "doc", "fault", "fault_since", "id", "publication", "scheduled_at", "watchers")

    def __init__(self, doc: str, id: str) -> None:
        self.doc = doc
        self.id = id
        self.publication: Publication | None = None
        self.changes_at: int | None = None
        self.scheduled_at: int | None = None
        self.fault: str | None = None
        self.fault_since = 0
        self.watchers: dict[Watcher, None] = {}

    def publication_for(self, watcher: Watcher) -> Publication | None:
        """What this watcher is shown."""
        return self.publication

    def idle(self) -> bool:
        """Whether nobody needs this entry any more."""
        return not self.watchers

    def _publish(self, document: Document, seq: int, causes: frozenset[str]) -> bool:
        """Take over a document; False when nobody can see a difference."""
        before = self.publication
        if before is not None and before.document.rev == document.rev:
            before.seq = max(before.seq, seq)
            return False
        if before is not None and not causes:
            causes = _causes_of(before.document, document)
        self.publication = Publication(self.doc, document, seq, causes)
        return True


class UserEntry(Entry):
    """A user's document; `sessions` are the connections of that user, oldest first; `readers` wait for the first state."""

    __slots__ = ("facts", "permissions", "quotas", "quotas_of", "readers", "sessions")

    def __init__(self, doc: str, id: str) -> None:
        super().__init__(doc, id)
        self.facts: UserFacts | None = None
        self.permissions: frozenset[str] = frozenset()
        self.quotas = Section(EMPTY, None)
        self.quotas_of: Plan | None = None
        self.sessions: dict[Connection, None] = {}
        self.readers: list[asyncio.Future[UserEntry | None]] | None = None

    def idle(self) -> bool:
        return not self.watchers and not self.sessions and not self.readers

    def answer(self, entry: UserEntry | None) -> None:
        """Give the readers what they wait for; None: there is no such user."""
        readers, self.readers = self.readers, None
        for reader in readers or ():
            if not reader.done():
                reader.set_result(entry)

    def refuse(self, failure: Callable[[], Exception]) -> None:
        """Tell the readers that there is nothing to give them now."""
        readers, self.readers = self.readers, None
        for reader in readers or ():
            if not reader.done():
                reader.set_exception(failure())

    def build(self, loaded: LoadedUser, catalog: Catalog, seq: int, causes: frozenset[str], now: int) -> bool:
        """Build the document from facts, keeping the identity section where it was not read again. True when it changed."""
        facts = loaded.facts
        identity = loaded.identity
        if identity is None:
            assert self.publication is not None
            identity = self.publication.document.contents[0]
        permissions, permissions_change_at = user_permissions(facts, catalog, now)
        quotas = self._quotas_section(facts, catalog, now)
        organizations = organizations_section(facts, catalog, now)
        document = Document.of(
            USER_SECTIONS, (identity, organizations.content, permissions_section(permissions), quotas.content)
        )
        self.facts = facts
        self.permissions = permissions
        self.changes_at = _earliest(permissions_change_at, quotas.changes_at, organizations.changes_at)
        return self._publish(document, seq, causes)

    def _quotas_section(self, facts: UserFacts, catalog: Catalog, now: int) -> Section:
        """The quotas section, built again only if what it is made of is not the same as before."""
        before, plan = self.facts, catalog.plan(facts.plan)
        if (
            before is None
            or self.quotas_of is None
            or plan.quotas is not self.quotas_of.quotas
            or facts.overrides is not before.overrides
            or facts.usages is not before.usages
            or facts.anchor_at != before.anchor_at
            or facts.timezone != before.timezone
            or not self.quotas.holds(now)
        ):
            self.quotas, self.quotas_of = quotas_section(facts, catalog, now), plan
        return self.quotas


class OrganizationEntry(Entry):
    """An organization's document, in two forms: whole, and without the member list."""

    __slots__ = ("partial",)

    def __init__(self, doc: str, id: str) -> None:
        super().__init__(doc, id)
        self.partial: Publication | None = None

    def publication_for(self, watcher: Watcher) -> Publication | None:
        return self.partial if watcher.partial else self.publication

    def build(self, facts: OrganizationFacts, catalog: Catalog, seq: int, causes: frozenset[str], now: int) -> bool:
        """Build both forms. True when one of them changed."""
        quotas, self.changes_at = pool_quotas(facts, catalog, now)
        public = (("organization", facts.profile), ("quotas", canonical(quotas)))
        changed = False
        partial = Document(public)
        if self.partial is not None and self.partial.document.rev == partial.rev:
            self.partial.seq = max(self.partial.seq, seq)
        else:
            self.partial = Publication(self.doc, partial, seq, causes)
            changed = True
        whole = Document((*public[:1], ("members", members_section(facts)), *public[1:]))
        return self._publish(whole, seq, causes) or changed


_SECTION_CAUSES = {
    "identity": "profile",
    "permissions": "permissions",
    "quotas": "quota_limit",
    "organizations": "organization",
    "organization": "organization",
    "members": "organization",
}


def _causes_of(before: Document, after: Document) -> frozenset[str]:
    """What changed, told by the sections that differ: for changes that no row of the log explains."""
    return frozenset(_SECTION_CAUSES[name] for name, content in after.sections if before.section(name) != content)


def _earliest(*moments: int | None) -> int | None:
    return min((moment for moment in moments if moment is not None), default=None)
