"""Where what is known outlives a process, or is shared by several: the protocol, and one in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec


class StorageUnavailable(Exception):
    """The storage does not answer now. An `AuthProxy` counts it and goes on without."""


class StoredFact(msgspec.Struct, frozen=True):
    """A document, and when it was last known to be true: milliseconds since 1970 UTC. `gateway` says whose word it is:
    another gateway's says nothing here.
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
    """What is written together. `facts` by the document's name, `tokens` by the hash of the token, `revoked` ids with
    the moment (milliseconds since 1970 UTC) after which nothing of them is alive, `gone` documents that are no more
    with the moment of which that is known.
    """

    facts: dict[str, StoredFact] = msgspec.field(default_factory=dict)
    tokens: dict[bytes, StoredToken] = msgspec.field(default_factory=dict)
    revoked: dict[str, int] = msgspec.field(default_factory=dict)
    gone: dict[str, StoredFact] = msgspec.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.facts or self.tokens or self.revoked or self.gone)


class Storage(Protocol):
    """Every method may raise `StorageUnavailable`. Nothing that is read is trusted beyond the time that it names."""

    async def read(self, docs: Iterable[str]) -> dict[str, StoredFact]:
        """The documents of these names that are stored."""

    async def read_token(self, mark: bytes) -> StoredToken | None:
        """What is stored of a token."""

    async def read_revoked(self, now: int) -> set[str]:
        """Every id that is revoked, and may be alive yet at `now` (milliseconds since 1970 UTC)."""

    async def write(self, batch: Batch, *, fact_ttl_s: float, token_ttl_s: float) -> None:
        """Store these for so long at most. A fact of an earlier time does not take the place of a later one, and what
        is `gone` stays so for facts of an earlier time than that.
        """

    async def close(self) -> None:
        """Let go of connections."""


class MemoryStorage:
    """In this process: for several `AuthProxy` in one, or none. At most `most` documents and as many tokens."""

    def __init__(self, most: int = 20_000, wall: Callable[[], float] = time.time) -> None:
        self._most = most
        self._wall = wall
        self._facts: OrderedDict[str, tuple[StoredFact, float]] = OrderedDict()
        self._tokens: OrderedDict[bytes, tuple[StoredToken, float]] = OrderedDict()
        self._revoked: dict[str, int] = {}

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
        self._revoked = {id: until for id, until in self._revoked.items() if until > now}
        return set(self._revoked)

    async def write(self, batch: Batch, *, fact_ttl_s: float, token_ttl_s: float) -> None:
        """Store these for so long at most."""
        now = self._wall()
        for doc, fact in (*batch.gone.items(), *batch.facts.items()):
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
        for held in (self._facts, self._tokens):
            while len(held) > self._most:
                held.popitem(last=False)

    async def close(self) -> None:
        """There is nothing to let go of."""
