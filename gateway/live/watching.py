"""What sessions ask to watch: decided by what they may see, and decided again when that changes.

Rights come from the session's own document. Until that is known, requests for other documents wait for it. While it is
on the list of what changed, other documents are held back: what was written together with the loss of a right, or
after it, must not be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gateway.core.access import Access, access_of_instance, access_to_organization, access_to_user
from gateway.core.effects import DocumentRequest
from gateway.core.principal import Principal, PrincipalKind
from gateway.core.publication import Publication
from gateway.core.wire import Reply
from gateway.errors import NotFound, TooManyDocuments
from gateway.live.connection import NO_DOCUMENT, Connection
from gateway.live.entry import PrincipalEntry, UserEntry
from gateway.live.watcher import Pending, Watcher

if TYPE_CHECKING:
    from gateway.live.hub import Hub


INSTANCE_DOCUMENTS = 10_000
"""Of one session of an instance."""


class Watching:
    """The requests of a hub's sessions."""

    def __init__(self, hub: Hub, max_documents: int) -> None:
        """`max_documents`: of one session of a user."""
        self._hub = hub
        self._max_documents = max_documents
        self._deferred: dict[str, list[tuple[Connection, DocumentRequest, Pending]]] = {}
        self._held: dict[str, dict[Watcher, None]] = {}

    # --- requests ---

    def watch(self, connection: Connection, documents: Sequence[DocumentRequest], request_id: str | None) -> None:
        """Start watching. Each document is answered by `snapshot`, `current` or an error, now or when it can be; then
        the request by a reply.
        """
        principal = principal_of(connection)
        own = principal.document
        named = {own if request.name == "self" else request.name: request for request in documents}
        waiting = {request.name for waiter, request, _ in self._deferred.get(own, ()) if waiter is connection}
        most = self._max_documents if principal.kind is PrincipalKind.USER else INSTANCE_DOCUMENTS
        new = sum(name not in connection.watchers for name in named.keys() | waiting)
        if new and len(connection.watchers) + new > most:
            connection.fail(TooManyDocuments(f"At most {most} documents a session."), request_id)
            return
        if not named and request_id is not None:
            connection.tell(Reply(request_id, docs=()))
        pending = Pending(request_id, len(named))
        for name, request in named.items():
            self._watch_one(connection, request._replace(name=name), pending)

    def _watch_one(self, connection: Connection, request: DocumentRequest, pending: Pending) -> None:
        entry = self._hub.entry_of(connection)
        if entry is None:
            return
        own = request.name == entry.doc
        if not own and isinstance(entry, UserEntry) and entry.facts is None:
            self._deferred.setdefault(entry.doc, []).append((connection, request, pending))
            return
        access = Access.FULL if own else self._access(connection, entry, request.name)
        if access is Access.NONE:
            self._refuse(connection, request, pending)
            return
        watcher = connection.watchers.get(request.name)
        if watcher is None:
            watcher = Watcher(connection, self._hub.entry(request.name), own=own)
            connection.watchers[request.name] = watcher
            watcher.entry.watchers[watcher] = None
        watcher.ask(request.rev, pending)
        watcher.partial = access is Access.PARTIAL
        self._hub.hurry(watcher.entry)
        self._hub.confirm(watcher.entry)
        publication = watcher.entry.publication_for(watcher)
        if publication is not None:
            connection.deliver(watcher, publication)
        if watcher.entry.fault is not None:
            connection.tell_status("stale", watcher.entry.fault_since, watcher.entry.doc)
            if publication is None:
                connection.decided(watcher, accepted=True)

    def _refuse(self, connection: Connection, request: DocumentRequest, pending: Pending) -> None:
        connection.fail(NotFound(NO_DOCUMENT), pending.request_id, request.name)
        connection.settle(pending, None)

    def leave(self, entry: PrincipalEntry, connection: Connection) -> None:
        """A session is gone: what it asked for is not decided any more."""
        deferred = self._deferred.get(entry.doc)
        if deferred:
            self._deferred[entry.doc] = [waiting for waiting in deferred if waiting[0] is not connection]

    def unwatch(self, connection: Connection, names: Iterable[str]) -> list[str]:
        """Stop watching; answers which of the documents were watched."""
        own = principal_of(connection).document
        unwanted = dict.fromkeys(own if name == "self" else name for name in names)
        for deferred in tuple(self._deferred.get(own, ())):
            waiter, request, pending = deferred
            if waiter is connection and request.name in unwanted:
                self._deferred[own].remove(deferred)
                self._refuse(connection, request, pending)
        dropped = []
        for name in unwanted:
            watcher = connection.watchers.get(name)
            if watcher is not None:
                connection.decided(watcher, accepted=True)
                del connection.watchers[name]
                watcher.entry.watchers.pop(watcher, None)
                self._hub.forget_if_idle(watcher.entry)
                dropped.append(name)
        return dropped

    # --- rights ---

    def published(self, entry: UserEntry, *, changed: bool) -> None:
        """A user's document was published, or can not be: its sessions' rights are known, as well as they can be."""
        self._hub.work.taken.discard(entry.doc)
        if self._deferred and entry.facts is not None:
            for connection, request, pending in self._deferred.pop(entry.doc, ()):
                if connection in entry.sessions:
                    self._watch_one(connection, request, pending)
        if changed:
            for connection in tuple(entry.sessions):
                if len(connection.watchers) > 1 or entry.doc not in connection.watchers:
                    self.check_access(connection)
        if self._held and not self._hub.work.reaches(entry.doc):
            for watcher in self._held.pop(entry.doc, ()):
                publication = watcher.entry.publication_for(watcher)
                if publication is not None and watcher.connection.watchers.get(watcher.entry.doc) is watcher:
                    watcher.connection.deliver(watcher, publication)

    def check_access(self, connection: Connection) -> None:
        """The principal's rights may have changed: what it may no longer see is gone, what it may see more or less of
        is sent anew.
        """
        entry = self._hub.entry_of(connection)
        if not isinstance(entry, UserEntry) or entry.facts is None:
            return
        for watcher in tuple(connection.watchers.values()):
            if watcher.own:
                continue
            access = self._access(connection, entry, watcher.entry.doc)
            if access is Access.NONE:
                watcher.entry.watchers.pop(watcher, None)
                if watcher.pending:
                    connection.refuse(watcher, "forbidden")
                else:
                    connection.drop(watcher, "forbidden")
                self._hub.forget_if_idle(watcher.entry)
            elif watcher.partial is not (access is Access.PARTIAL):
                watcher.partial = access is Access.PARTIAL
                publication = watcher.entry.publication_for(watcher)
                if publication is not None:
                    watcher.reset()
                    connection.deliver(watcher, publication)

    def holds(self, watcher: Watcher, publication: Publication) -> bool:
        """Whether another one's document has to wait until the session's own one is published; remembers it then. What
        an instance may see hangs on nothing that its own one says."""
        principal = principal_of(watcher.connection)
        own = principal.document
        if principal.kind is not PrincipalKind.USER or not self._hub.work.reaches(own):
            return False
        watcher.skip(publication.causes)
        self._held.setdefault(own, {})[watcher] = None
        return True

    def forget(self, doc: str) -> None:
        """The last session of this user has gone, or nobody watches the document any more."""
        self._deferred.pop(doc, None)
        self._held.pop(doc, None)

    def _access(self, connection: Connection, entry: PrincipalEntry, doc: str) -> Access:
        if not isinstance(entry, UserEntry):
            return access_of_instance(doc)
        kind, _, id = doc.partition(":")
        principal, facts = principal_of(connection), entry.facts
        if facts is None or not id:
            return Access.NONE
        if kind == "user":
            return access_to_user(principal, facts, entry.permissions, id)
        if kind == "org":
            return access_to_organization(principal, facts, entry.permissions, id, self._hub.catalog)
        return Access.NONE


def principal_of(connection: Connection) -> Principal:
    """Whose session it is; there is one from `ready` on."""
    principal = connection.session.principal
    assert principal is not None
    return principal
