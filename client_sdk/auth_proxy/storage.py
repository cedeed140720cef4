"""Where what is known outlives a process, or is shared by several: the protocol, and one in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from client_sdk.settings import checked_settings, count

FEW = 1_000
"""Of so many that are revoked it does not matter that some have ended."""


class StorageUnavailable(Exception):
    """The storage does not answer now. An `AuthProxy` counts it and goes on without."""


class StoredFact(msgspec.Struct, frozen=True):
    """A document, and when it was last known to be true: milliseconds since 1970 UTC. `gateway` says whose word it is:
    another gateway's says nothing here. `gone`: there is no such document any more, and `data` is empty.
    """

    data: Mapping[str, Any]
    known_at: int
    gateway: str = ""
    gone: bool = False


class StoredToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the gateway said of an API token at `good_at`; without `user`, that it stands for nothing. Times in
    milliseconds since 1970 UTC.
    """

    good_at: int
    user: str | None = None
    session: str = ""
    expires_at: int | None = None
    scopes: tuple[str, ...] | None = None
    gateway: str = ""


class Batch(msgspec.Struct):
    """What is written together. `facts` by the document's name, `tokens` by the SHA-256 of the token, `revoked` ids
    with the moment (milliseconds since 1970 UTC) after which nothing of them is alive.
    """

    facts: dict[str, StoredFact] = msgspec.field(default_factory=dict)
    tokens: dict[bytes, StoredToken] = msgspec.field(default_factory=dict)
    revoked: dict[str, int] = msgspec.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.facts or self.tokens or self.revoked)


class Storage(Protocol):
    """Every method may raise `StorageUnavailable`. Nothing that is read is trusted beyond the time that it names."""

    async def read(self, docs: Iterable[str]) -> dict[str, StoredFact]:
        """The documents of these names that are stored, but for those that are `gone`."""

    async def read_token(self, mark: bytes) -> StoredToken | None:
        """What is stored of a token; `mark` is its SHA-256."""

    async def read_revoked(self, now: int) -> set[str]:
        """Every id that is revoked, and may be alive yet at `now` (milliseconds since 1970 UTC)."""

    async def write(self, batch: Batch, *, fact_ttl_s: float, token_ttl_s: float) -> None:
        """Store facts and tokens for so long at most, and what is revoked until its time. A fact does not take the
        place of one of the same gateway that has a later `known_at`, be that a document or one that is `gone`.
        """

    async def close(self) -> None:
        """Let go of connections."""


class MemoryStorage:
    """In this process: for several `AuthProxy` in one, or none. At most `most` documents and as many tokens."""

    def __init__(self, most: int = 20_000, wall: Callable[[], float] = time.time) -> None:
        checked_settings({"most": count()}, most=most)
        self._most = most
        self._wall = wall
        self._facts: OrderedDict[str, tuple[StoredFact, float]] = OrderedDict()
        self._tokens: OrderedDict[bytes, tuple[StoredToken, float]] = OrderedDict()
        self._revoked: dict[str, int] = {}
        self._most_revoked = FEW

    async def read(self, docs: Iterable[str]) -> dict[str, StoredFact]:
        """The documents of these names that are stored."""
        now = self._wall()
        return {
            doc: found[0]
            for doc in docs
            if (found := self._facts.get(doc)) is not None and found[1] > now and not found[0].gone
        }

    async def read_token(self, mark: bytes) -> StoredToken | None:
        """What is stored of a token."""
        found = self._tokens.get(mark)
        return found[0] if found is not None and found[1] > self._wall() else None

    async def read_revoked(self, now: int) -> set[str]:
        """Every id that is revoked, and may be alive yet at `now`."""
        self._forget_ended(now)
        return set(self._revoked)

    def _forget_ended(self, now: int) -> None:
        self._revoked = {id: until for id, until in self._revoked.items() if until > now}
        self._most_revoked = max(FEW, 2 * len(self._revoked))

    async def write(self, batch: Batch, *, fact_ttl_s: float, token_ttl_s: float) -> None:
        """Store these for so long at most."""
        now = self._wall()
        for doc, fact in batch.facts.items():
            earlier = self._facts.get(doc)
            if earlier is not None and earlier[0].gateway == fact.gateway and earlier[0].known_at > fact.known_at:
                continue
            self._facts[doc] = (fact, now + fact_ttl_s)
            self._facts.move_to_end(doc)
        for mark, token in batch.tokens.items():
            self._tokens[mark] = (token, now + token_ttl_s)
            self._tokens.move_to_end(mark)
        for id, until in batch.revoked.items():
            self._revoked[id] = max(until, self._revoked.get(id, 0))
        if len(self._revoked) > self._most_revoked:
            self._forget_ended(int(now * 1000))
        for held in (self._facts, self._tokens):
            while len(held) > self._most:
                held.popitem(last=False)

    async def close(self) -> None:
        """There is nothing to let go of."""
