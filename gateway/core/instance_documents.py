"""What server instances watch beside users and organizations: their own document, what is revoked, and the public keys.

The last two have a section for each credential or key: a change of one compares the others and decodes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from gateway.core.clock import rfc3339
from gateway.core.document import Document, canonical
from gateway.core.wide_document import WideDocument

EVERYTHING = "*"
"""Stands for those that are not named, where too many were revoked."""
STEP_MS = 10_000
"""Moments at which entries leave are whole multiples of this: they leave together."""

SPARE = 100
"""So many entries of before, and as many as are named, are kept before they are looked through."""


class Revoked(NamedTuple):
    """A credential that was revoked: when that became known, and until when somebody may believe it (milliseconds since
    1970 UTC)."""

    id: str
    noted_at: int
    until: int


class KeyFacts(NamedTuple):
    """A key of an instance; times in milliseconds since 1970 UTC, `expires_at` None: no end."""

    kid: str
    created_at: int
    expires_at: int | None


class InstanceFacts(NamedTuple):
    """What an instance's document is made of. `networks` None: the list can not be read."""

    id: str
    name: str
    status: str
    networks: list[str] | None
    requests_per_minute: int
    created_at: int
    updated_at: int
    keys: tuple[KeyFacts, ...]

    @property
    def active(self) -> bool:
        """Whether it may do anything."""
        return self.status == "active"


class Timed(NamedTuple):
    """A document, and when it changes by the clock (milliseconds since 1970 UTC; None: never)."""

    document: Document
    changes_at: int | None = None


def instance_document(facts: InstanceFacts) -> Timed:
    """An instance's own document. Raises ValueError for a moment that RFC 3339 has no words for."""
    identity = {
        "id": facts.id,
        "name": facts.name,
        "status": facts.status,
        "created_at": rfc3339(facts.created_at),
        "updated_at": rfc3339(facts.updated_at),
    }
    limits: dict[str, Any] = {"requests_per_minute": facts.requests_per_minute}
    if facts.networks is not None:
        limits["networks"] = facts.networks
    keys = {key.kid: _key(key) for key in facts.keys}
    sections = (("identity", identity), ("keys", keys), ("limits", limits))
    return Timed(Document((name, canonical(value)) for name, value in sections))


class RevocationList:
    """What is revoked, held in memory: the document `revocations`, which names by the id of each credential until when
    somebody may believe it, and what the next one is made of.

    Where there are more than `most`, the newest `most` are named, and `EVERYTHING` is the moment from which on
    everything that was revoked is named. `revoked` are the newest first, one more than `most` where there are more.
    Raises ValueError for a moment that RFC 3339 has no words for.
    """

    __slots__ = ("_most", "_named", "_oldest", "_unnamed", "changes_at", "document")

    def __init__(self, revoked: Sequence[Revoked], most: int) -> None:
        self._most = most
        self._named = {each.id: each for each in revoked[:most]}
        self._unnamed = revoked[most] if len(revoked) > most else None
        self._oldest = self._by_age()
        leaving = {each.id: leaves_at(each.until) for each in self._named.values()}
        moments = {moment: _shown(moment) for moment in set(leaving.values())}
        entries = {id: moments[moment] for id, moment in leaving.items()}
        self.document = WideDocument((entries | self._everything()).items())
        self.changes_at = self._next_leaving()

    def go_on(self, noted: Iterable[Revoked], now: int) -> bool:
        """Take in what was noted since, of which some may have ended, and let go of what has ended at `now`
        (milliseconds since 1970 UTC). False: there is room for others, who are not known here, and all has to be read.
        """
        ended = now - now % STEP_MS
        changes: dict[str, bytes | None] = {}
        for each in noted:
            if each.until > ended or each.id in self._named:
                self._named[each.id] = each
                heappush(self._oldest, (each.noted_at, each.id))
                changes[each.id] = _shown(leaves_at(each.until))
                self._look_at(each.until)
        if self.changes_at is not None and self.changes_at <= now:
            gone = [id for id, each in self._named.items() if each.until <= ended]
            if self._unnamed is not None and (gone or self._unnamed.until <= ended):
                return False
            for id in gone:
                del self._named[id]
            changes |= dict.fromkeys(gone)
            self.changes_at = self._next_leaving()
        changes |= dict.fromkeys(self._push_out())
        if len(self._oldest) > 2 * len(self._named) + SPARE:
            self._oldest = self._by_age()
        self.document = self.document.changed(changes | self._everything())
        return True

    def _by_age(self) -> list[tuple[int, str]]:
        """Those that are named, the oldest first (a heap); one that ended or was noted again stays in it a while."""
        oldest = [(each.noted_at, each.id) for each in self._named.values()]
        heapify(oldest)
        return oldest

    def _push_out(self) -> list[str]:
        """The oldest, where too many are named."""
        gone: list[str] = []
        while len(self._named) > self._most:
            noted_at, id = heappop(self._oldest)
            each = self._named.get(id)
            if each is not None and each.noted_at == noted_at:
                del self._named[id]
                gone.append(id)
                self._unnamed = each
                self._look_at(each.until)
        return gone

    def _look_at(self, until: int) -> None:
        at = leaves_at(until)
        self.changes_at = at if self.changes_at is None else min(self.changes_at, at)

    def _everything(self) -> dict[str, bytes]:
        return {} if self._unnamed is None else {EVERYTHING: _shown(self._unnamed.noted_at + 1)}

    def _next_leaving(self) -> int | None:
        untils = [each.until for each in self._named.values()]
        if self._unnamed is not None:
            untils.append(self._unnamed.until)
        return leaves_at(min(untils)) if untils else None


def leaves_at(until: int) -> int:
    """When an entry leaves that may be believed until then."""
    return -(-until // STEP_MS) * STEP_MS


def _shown(moment: int) -> bytes:
    return b'"%b"' % rfc3339(moment).encode()


def keys_document(jwks: Mapping[str, Any], changes_at: int | None) -> Timed:
    """The public keys that verify access tokens, of a key set (RFC 7517), each by its `kid`."""
    return Timed(WideDocument((key["kid"], canonical(key)) for key in jwks["keys"]), changes_at)


def _key(key: KeyFacts) -> dict[str, str]:
    dates = {"created_at": rfc3339(key.created_at)}
    return dates if key.expires_at is None else {**dates, "expires_at": rfc3339(key.expires_at)}
