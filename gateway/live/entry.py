"""One document of the hub: the state that its watchers share, and the facts it was built from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.core.document import Document, canonical
from gateway.core.facts import NOBODY, Catalog, OrganizationFacts, Plan, UserFacts, UserSections
from gateway.core.instance_documents import Timed
from gateway.core.publication import Publication
from gateway.core.sections import members_section, pool_quotas, user_sections
from gateway.errors import Unavailable
from gateway.store.documents import LoadedUser

if TYPE_CHECKING:
    from gateway.live.connection import Connection
    from gateway.live.watcher import Watcher


FAULT_RETRY_AFTER_S = 5.0
USER_SECTIONS = ("identity", "organizations", "permissions", "quotas")


class Entry:
    """A document that somebody on this node watches, or whose principal is connected here.

    `publication` is None until it is read for the first time, and stays the last good one while `fault` says why it
    can not be built now. `changes_at` (milliseconds since 1970 UTC) is when it changes by the clock, `scheduled_at`
    the last such moment that was put on the list.
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

    def confirm(self, seq: int) -> None:
        """What is published is exact up to here."""
        if self.publication is not None:
            self.publication.seq = max(self.publication.seq, seq)

    def forget_frames(self) -> None:
        """Free the frames that watchers shared."""
        if self.publication is not None:
            self.publication.forget_frames()

    def idle(self) -> bool:
        """Whether nobody needs this entry any more."""
        return not self.watchers

    def pools(self) -> Sequence[str]:
        """The other documents whose balances this one shows."""
        return ()

    def _publish(self, document: Document, seq: int, causes: frozenset[str]) -> bool:
        """Take over a document; False when nobody can see a difference."""
        before = self.publication
        if before is not None and before.document.rev == document.rev:
            before.seq = seq
            return False
        if before is not None and not causes:
            causes = _causes_of(before.document, document)
        self.publication = Publication(self.doc, document, seq, causes)
        return True


class PrincipalEntry(Entry):
    """The document of somebody who may be connected; `sessions` are the connections, oldest first."""

    __slots__ = ("sessions",)

    def __init__(self, doc: str, id: str) -> None:
        super().__init__(doc, id)
        self.sessions: dict[Connection, None] = {}

    def idle(self) -> bool:
        return not self.watchers and not self.sessions


class UserEntry(PrincipalEntry):
    """A user's document; `readers` wait for the first state."""

    __slots__ = ("catalog", "facts", "plan", "readers", "sections")

    def __init__(self, doc: str, id: str) -> None:
        super().__init__(doc, id)
        self.facts: UserFacts | None = None
        self.catalog: Catalog | None = None
        self.plan: Plan | None = None
        self.sections: UserSections | None = None
        self.readers: list[asyncio.Future[UserEntry | None]] | None = None

    @property
    def permissions(self) -> frozenset[str]:
        """What the user may do now; nothing until it is known."""
        return self.sections.permissions if self.sections is not None else NOBODY

    def idle(self) -> bool:
        return super().idle() and not self.readers

    def pools(self) -> Sequence[str]:
        return self.facts.pools() if self.facts is not None else ()

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
        """Build the document from facts, keeping the identity section where it was not read again. True when it
        changed.
        """
        facts, identity = loaded
        before, plan, sections = self.publication, catalog.plan(facts.plan), self.sections
        if (
            sections is None
            or facts is not self.facts
            or plan is not self.plan
            or facts.roles
            or facts.memberships
            or not sections.holds(now)
        ):
            sections = user_sections(facts, catalog, now)
        if identity is None:
            assert before is not None
            identity = before.document.contents[0]
        contents = (identity, *sections.contents)
        self.catalog, self.facts, self.plan, self.sections = catalog, facts, plan, sections
        self.changes_at = sections.changes_at
        if before is not None and before.document.contents == contents:
            before.seq = seq
            return False
        return self._publish(Document.of(USER_SECTIONS, contents), seq, causes)


class OrganizationEntry(Entry):
    """An organization's document, in two forms: whole, and without the member list."""

    __slots__ = ("partial",)

    def __init__(self, doc: str, id: str) -> None:
        super().__init__(doc, id)
        self.partial: Publication | None = None

    def publication_for(self, watcher: Watcher) -> Publication | None:
        return self.partial if watcher.partial else self.publication

    def forget_frames(self) -> None:
        super().forget_frames()
        if self.partial is not None:
            self.partial.forget_frames()

    def confirm(self, seq: int) -> None:
        super().confirm(seq)
        if self.partial is not None:
            self.partial.seq = max(self.partial.seq, seq)

    def build(self, facts: OrganizationFacts, catalog: Catalog, seq: int, causes: frozenset[str], now: int) -> bool:
        """Build both forms. True when one of them changed."""
        quotas, self.changes_at = pool_quotas(facts, catalog, now)
        public = (("organization", facts.profile), ("quotas", canonical(quotas)))
        changed = False
        partial = Document(public)
        if self.partial is not None and self.partial.document.rev == partial.rev:
            self.partial.seq = seq
        else:
            told = causes or (_causes_of(self.partial.document, partial) if self.partial is not None else causes)
            self.partial = Publication(self.doc, partial, seq, told)
            changed = True
        whole = Document((*public[:1], ("members", members_section(facts)), *public[1:]))
        return self._publish(whole, seq, causes) or changed


class InstanceEntry(PrincipalEntry):
    """A server instance's document."""

    __slots__ = ()

    def take(self, made: Timed, seq: int, causes: frozenset[str]) -> bool:
        """Take over what was read. True when it changed."""
        self.changes_at = made.changes_at
        return self._publish(made.document, seq, causes)


class SharedEntry(Entry):
    """A document of instances that is about nobody: `revocations` or `keys`."""

    __slots__ = ()

    def take(self, made: Timed, seq: int, causes: frozenset[str]) -> bool:
        """Take over what was read. True when it changed; without a cause that is the document's own."""
        self.changes_at = made.changes_at
        return self._publish(made.document, seq, causes or _OWN_CAUSES[self.doc])


REVOCATIONS, KEYS = "revocations", "keys"
_OWN_CAUSES = {REVOCATIONS: frozenset(("revocation",)), KEYS: frozenset(("keys",))}
_SECTION_CAUSES = {
    "identity": "profile",
    "permissions": "permissions",
    "quotas": "quota_limit",
    "organizations": "organization",
    "organization": "organization",
    "members": "organization",
    "limits": "profile",
    "keys": "keys",
}


def _causes_of(before: Document, after: Document) -> frozenset[str]:
    """What changed, told by the sections that differ: for changes that no row of the log explains."""
    return frozenset(_SECTION_CAUSES[name] for name, content in after.sections if before.section(name) != content)


def unbuildable() -> Unavailable:
    """The failure of a request that needs a document which can not be built from its rows."""
    return Unavailable("The document can not be built now.", retry_after_s=FAULT_RETRY_AFTER_S)
