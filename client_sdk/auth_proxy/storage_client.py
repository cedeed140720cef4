"""What an `AuthProxy` tells its storage and hears from it; a storage that is away costs nothing but what it would have
known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from typing import Any, TypeVar

from client_sdk.auth_proxy.counters import Counters
from client_sdk.auth_proxy.facts import EVERYTHING, Fact, Rules, VerifiedToken, milliseconds
from client_sdk.auth_proxy.storage import Batch, Storage, StorageUnavailable, StoredFact, StoredToken

T = TypeVar("T")
logger = logging.getLogger("client_sdk.auth_proxy")

FUTURE_MS = 30_000
"""What claims to be known so much later than now is not believed: clocks differ, but not so."""
RETRY_S = 1.0
SETTLE_S = 5.0
"""A storage that is back may stand as it stood when it went: so long those who share it have to write to it what they
learned meanwhile, before it is believed that it names all that is revoked."""
MOST_WAITING = 50_000
FAR_MS = 253_402_300_799_000
"""As long as a credential of which no end is on record."""


def end_of(end: Any) -> int:
    """Until when an entry of ``revocations`` may be alive, in milliseconds since 1970 UTC."""
    return milliseconds(end) or FAR_MS


class StorageClient:
    """Writes behind, in batches, and reads. Times of the outside are milliseconds since 1970 UTC (`wall`), of the
    inside seconds of the monotonic `clock`. `resync` is called when a storage that was away is back, which is tried
    every `retry_s` seconds; it is a witness of what is revoked `settle_s` after it failed last, as far as this
    process saw: one that begins saw nothing, and believes it at once rather than refuse everybody for so long.
    """

    def __init__(
        self,
        storage: Storage,
        rules: Rules,
        gateway: str,
        counters: Counters,
        wall: Callable[[], int],
        clock: Callable[[], float],
        resync: Callable[[], None],
        *,
        retry_s: float = RETRY_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._storage = storage
        self._rules = rules
        self.gateway = f"{gateway} {rules.issuer} {rules.audience}"
        """Whose word is stored and believed."""
        self._counters = counters
        self._wall = wall
        self._clock = clock
        self._resync = resync
        self._retry_s = retry_s
        self._settle_s = settle_s
        self._failed_at = -float("inf")
        self.witness_at = -float("inf")
        self._witness = f"* {self.gateway}"  # among the ids, and none: whoever stored it stored all
        self._batch = Batch()
        self._failing: set[str] = set()
        self._filled = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write from now on."""
        self._writing = asyncio.ensure_future(self._write())

    async def close(self) -> None:
        """Write what waits, once, and let go."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        if self._batch:
            await self._try("written", self._put(self._batch))
        await self._storage.close()

    # --- writing ---

    def keep_fact(self, doc: str, data: Mapping[str, Any], known_at: float) -> None:
        """A document as it was known at a moment of the clock."""
        self._batch.facts[doc] = StoredFact(data, self._outside(known_at), self.gateway)
        self._wake()

    def keep_token(self, mark: bytes, verified: VerifiedToken | None, good_at: float) -> None:
        """What the gateway said of a token; None: it stands for nothing."""
        at = self._outside(good_at)
        if verified is None:
            self._batch.tokens[mark] = StoredToken(at, gateway=self.gateway)
        else:
            scopes = None if verified.scopes is None else tuple(sorted(verified.scopes))
            self._batch.tokens[mark] = StoredToken(
                at, verified.user, verified.session, verified.expires_at, scopes, self.gateway
            )
        self._wake()

    def keep_revoked(self, revoked: Mapping[str, Any], *, whole: bool) -> None:
        """These ids are revoked: as in the document ``revocations``, with the moment until which each may be alive.
        `whole`: they are all that there are.
        """
        self._batch.revoked.update((id, end_of(end)) for id, end in revoked.items() if id != EVERYTHING)
        if whole:
            self._batch.revoked[self._witness] = FAR_MS
        self._wake()

    def keep_gone(self, doc: str, known_at: float) -> None:
        """There is no such document any more."""
        self._batch.facts[doc] = StoredFact({}, self._outside(known_at), self.gateway, gone=True)
        self._wake()

    def _wake(self) -> None:
        if len(self._batch.facts) + len(self._batch.tokens) > MOST_WAITING:
            self._batch.facts = {doc: fact for doc, fact in self._batch.facts.items() if fact.gone}
            self._batch.tokens.clear()
        self._filled.set()

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            batch, self._batch = self._batch, Batch()
            self._filled.clear()
            try:
                await self._put(batch)
            except Exception as error:  # a storage is anybody's
                self._failed("written", error)
                self._batch = _merged(batch, self._batch)
                await self._until_back()
                self._resync()
                self._filled.set()
            else:
                self._well("written")

    async def _until_back(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            self._forget_ended()
            try:
                await self._storage.read([])
                await self._storage.read(["keys"])
            except Exception as error:
                self._failed("read", error)
            else:
                self._well("read")
                return

    def _forget_ended(self) -> None:
        """Of what waits leave out what would be of no use any more: a storage may be away for days."""
        batch, now = self._batch, self._wall()
        oldest = now - int(self._rules.max_stale_s * 1000)
        batch.revoked = {id: until for id, until in batch.revoked.items() if until > now}
        batch.facts = {doc: fact for doc, fact in batch.facts.items() if fact.known_at > oldest}

    async def _put(self, batch: Batch) -> None:
        rules = self._rules
        await self._storage.write(
            batch, fact_ttl_s=rules.max_stale_s, token_ttl_s=max(rules.recheck_s, rules.max_stale_s)
        )

    # --- reading ---

    async def read_facts(self, docs: Iterable[str]) -> dict[str, Fact]:
        """What is stored of these documents, and was true not too long ago."""
        found = await self._try("read", self._storage.read(docs))
        facts = {
            doc: Fact(fact.data, self._inside(fact.known_at))
            for doc, fact in (found or {}).items()
            if fact.gateway == self.gateway
        }
        now = self._clock()
        return {doc: fact for doc, fact in facts.items() if fact.known_at >= now - self._rules.max_stale_s}

    async def read_token(self, mark: bytes) -> tuple[VerifiedToken | None, float] | None:
        """What the gateway said of a token, and when; the verified is None for one that stands for nothing."""
        stored = await self._try("read", self._storage.read_token(mark))
        if stored is None or stored.gateway != self.gateway or stored.good_at > self._wall() + FUTURE_MS:
            return None
        good_at = self._inside(stored.good_at)
        if stored.user is None:
            return (None, good_at) if good_at >= self._clock() - self._rules.negative_s else None
        scopes = None if stored.scopes is None else frozenset(stored.scopes)
        recheck_at = good_at + self._rules.recheck_s
        return VerifiedToken(
            stored.user, f"user:{stored.user}", stored.session, stored.expires_at, None, scopes, good_at, recheck_at
        ), good_at

    async def read_revoked(self) -> set[str]:
        """Ids that are revoked, as many as are to be had; `witness_at` is when it last was all of them."""
        asked_at = self._clock()
        revoked = await self._try("read", self._storage.read_revoked(self._wall())) or set()
        if self._witness in revoked and asked_at - self._failed_at >= self._settle_s:
            self.witness_at = asked_at
        return revoked

    @property
    def answers(self) -> bool:
        """Whether it could be read the last time."""
        return "read" not in self._failing

    def lacks(self, stored: Set[str], revoked: Mapping[str, Any]) -> bool:
        """Whether what is stored of what is revoked lacks some of these ids, or does not say that they are all."""
        now = self._wall()
        missing = revoked.keys() - stored - {EVERYTHING}
        return self._witness not in stored or any(end_of(revoked[id]) > now for id in missing)

    async def _try(self, what: str, work: Awaitable[T]) -> T | None:
        try:
            done = await work
        except Exception as error:
            self._failed(what, error)
            return None
        self._well(what)
        return done

    def _failed(self, what: str, error: Exception) -> None:
        """It could not be read, or written; the first time after it could be that is said."""
        self._failed_at = self._clock()
        if what not in self._failing:
            self._failing.add(what)
            fault = None if isinstance(error, StorageUnavailable) else error
            logger.warning("the storage can not be %s: %s", what, error, exc_info=fault)
        self._counters.add("storage_errors")

    def _well(self, what: str) -> None:
        if what in self._failing:
            self._failing.discard(what)
            logger.warning("the storage can be %s again", what)

    def _outside(self, moment: float) -> int:
        return self._wall() - int((self._clock() - moment) * 1000)

    def _inside(self, known_at: int) -> float:
        behind_ms = self._wall() - known_at
        return -float("inf") if behind_ms < -FUTURE_MS else self._clock() - max(0, behind_ms) / 1000


def _merged(earlier: Batch, later: Batch) -> Batch:
    return Batch(
        {**earlier.facts, **later.facts}, {**earlier.tokens, **later.tokens}, {**earlier.revoked, **later.revoked}
    )
