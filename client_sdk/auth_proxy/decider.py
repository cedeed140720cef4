"""Decides about tokens: the cache, and around it all that feeds it. No ASGI here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self

from client_sdk.auth_proxy.counters import Counters
from client_sdk.auth_proxy.decision import Decision
from client_sdk.auth_proxy.decision_cache import DecisionCache
from client_sdk.auth_proxy.facts import EVERYTHING, KEYS, NO_TOKEN, NOWHERE, REVOCATIONS, Rules, Want, unnamed
from client_sdk.auth_proxy.fetcher import USER, Fetcher
from client_sdk.auth_proxy.link import Link
from client_sdk.auth_proxy.link_report import LinkReport
from client_sdk.auth_proxy.socket_watch import SocketWatch
from client_sdk.auth_proxy.storage import Storage
from client_sdk.auth_proxy.storage_client import StorageClient
from client_sdk.config import ServerConfig, http_url
from client_sdk.errors import AuthFailed, ChannelError, Forbidden, NotFound
from client_sdk.events import Change
from client_sdk.freshness import Freshness, FreshnessState
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKeys, KeySource

logger = logging.getLogger("client_sdk.auth_proxy")
TICK_S = 1.0
SWEEP_S = 10.0
STAMP_S = 15.0
"""How often the storage is told that the list of revocations is up to date."""
AGAIN_S = 30.0
"""How long after the gateway sent this instance away to try once more."""
SOON_S = 1.0
"""The same for the first time: only the key may have been meant, and a file of keys may be read again by then."""


class Decider:
    """Whose a token is, and whether it is good: `decide`. Use it as an async context manager, or `start` and `stop`.

    A request waits at most `fetch_s` seconds for the gateway. A user is forgotten after `idle_s` without a request.
    `instance` is the id that the keys are thought to be of. `wall` gives seconds since 1970 UTC, `clock` is monotonic.
    """

    def __init__(
        self,
        server: str | ServerConfig | None,
        keys: InstanceKeys | KeySource,
        rules: Rules,
        *,
        storage: Storage | None = None,
        fetch_s: float = 2.0,
        idle_s: float = 900.0,
        ssl: ssl.SSLContext | None = None,
        instance: str | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        link_options: dict[str, Any] | None = None,
    ) -> None:
        self.keys = keys if isinstance(keys, InstanceKeys) else InstanceKeys(keys, wall=wall)
        self.rules, self.counters = rules, Counters()
        self.cache = DecisionCache(NOWHERE, rules)
        self.sockets = SocketWatch(
            self.cache, self.decide, self._tend, self.counters, clock=clock, wall_ms=self._wall_ms
        )
        self.link: Link | None = None
        self._new_client = partial(InstanceClient, server, self.keys, timeout_s=fetch_s, attempts=2, ssl=ssl, wall=wall)
        self._fetcher = Fetcher(
            self.cache,
            self._new_client(),
            self.counters,
            fetch_s=fetch_s,
            wall_ms=self._wall_ms,
            clock=clock,
            chance=chance,
        )
        self._report = LinkReport(self.counters, rules, instance)
        self._server, self._ssl, self._link_options = server, ssl, link_options or {}
        self._idle_s, self._storage, self._wall, self._clock = idle_s, storage, wall, clock
        self._begun = False
        self._beginning = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._swept_at = self._stamped_at = self._again_at = clock()

    # --- life ---

    async def start(self) -> None:
        """Connect, and go on without waiting for the gateway; a second time does nothing, before `stop`."""
        if self._begun:
            return
        async with self._beginning:
            if not self._begun:
                await self._begin()
                self._begun = True

    async def _begin(self) -> None:
        if self._fetcher.client.closed:
            self._fetcher.client = self._new_client()
        self._fetcher.on_refused = self._distrust
        self._again_at = self._clock() + AGAIN_S
        self._connect()
        if self._storage is not None:
            self._fetcher.shared = shared = StorageClient(
                self._storage,
                self.rules,
                http_url(self._server)[0],
                self.counters,
                self._wall_ms,
                self._clock,
                self._store_everything,
            )
            shared.start()
            await self._recall(shared)
        self._spawn(self._tend_always())

    async def stop(self) -> None:
        """Close every connection; `start` begins anew."""
        self._begun = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.sockets.close()
        await self._fetcher.close()
        if self.link is not None:
            await self.link.close()
            self.link = None
        if self._shared is not None:
            await self._shared.close()
        await self._fetcher.client.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _shared(self) -> StorageClient | None:
        return self._fetcher.shared

    def _wall_ms(self) -> int:
        return int(self._wall() * 1000)

    def _connect(self) -> None:
        # The clock of the channel is that of the cache, so that their times can be compared.
        self.link = link = Link(self._server, self.keys, ssl=self._ssl, **self._link_options)
        self._fetcher.link = link
        self.cache.enter(link)
        link.on_change(self._changed)
        link.on_freshness(self._freshness_changed)
        link.on_trouble = self._troubled
        link.start()

    async def _recall(self, shared: StorageClient) -> set[str]:
        """What every decision rests on, as the storage knows it; the ids that are revoked."""
        revoked = await shared.read_revoked()
        self.cache.revoke(revoked)
        facts = await shared.read_facts([REVOCATIONS, KEYS])
        for doc, fact in facts.items():
            self.cache.remember(doc, fact)
        known_at, oldest = self._known_at(REVOCATIONS), self._clock() - self.rules.max_stale_s
        knows = shared.answers and known_at is not None and known_at > oldest
        known = {} if self.link is None else self.link.documents.get(REVOCATIONS, {})
        if knows and (KEYS not in facts or shared.lacks(revoked, known)):
            self._store_everything()  # it lost what it had
        return revoked

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def now(self) -> float:
        """Seconds of its clock."""
        return self._clock()

    def sizes(self) -> dict[str, float]:
        """How much is held, and whether the channel is live."""
        return {
            "users": self.cache.users,
            "tokens": self.cache.tokens,
            "sockets": len(self.sockets),
            "live": float(self.link is not None and self.link.live),
        }

    # --- decisions ---

    async def decide(self, token: str | None) -> Decision:
        """What is known of a token; what is not is fetched."""
        outcome = NO_TOKEN if token is None else self.cache.decide(token, self._clock(), self._wall_ms())
        decision = await self._fetcher.fetch(str(token)) if isinstance(outcome, Want) else outcome
        self._tend()
        self.counters.add("decisions", decision.reason or decision.source or "")
        return decision

    def _tend(self) -> None:
        """What decisions left to be done afterwards; not only this one's."""
        cache, link = self.cache, self.link
        if cache.foreign:
            self._report.foreign()
        if not (cache.wishes or cache.due or cache.evicted):
            return
        wishes, cache.wishes = cache.wishes, []
        evicted, cache.evicted = cache.evicted, []
        due, cache.due = cache.due, []
        for token, mark in due:
            self._spawn(self._ask_again(token, mark))
        if evicted:
            self.counters.add("evicted", amount=len(evicted))
        if link is None or not link.live:
            for user in wishes:
                cache.unwatched(user)
            return
        for user in wishes:
            if not link.keep(USER + user):
                link.want(USER + user).add_done_callback(partial(self._wished, user))
        link.unwant(USER + user for user in evicted)

    async def _ask_again(self, token: str, mark: bytes) -> None:
        session = self.cache.session(mark)
        await self._fetcher.ask_again(token, mark)
        if session is not None and self.cache.session(mark) is None:
            self.sockets.recheck(self.sockets.of_sessions([session]))

    def _wished(self, user: str, done: asyncio.Future[None]) -> None:
        if done.cancelled() or done.exception() is not None:
            self.cache.unwatched(user)
            if not done.cancelled() and isinstance(done.exception(), NotFound):
                self.cache.lose_user(user, self._clock())
                self.sockets.recheck(self.sockets.of_user(user))

    # --- what happens ---

    def _changed(self, change: Change) -> None:
        link, shared, now = self.link, self._shared, self._clock()
        if link is None or link.ended:  # what is held is dropped then; that is no news of any document
            if change.doc == REVOCATIONS:
                self.cache.revoke(change.before)
        elif change.doc == REVOCATIONS:
            added = change.data.keys() - change.before.keys()
            if EVERYTHING in change.data:
                self.cache.unsay(change.before.keys() - change.data.keys())
            self.sockets.recheck(self.sockets.of_sessions(added))
            if change.data.get(EVERYTHING) != change.before.get(EVERYTHING):
                self.sockets.look_at_all()
            if shared is not None:
                shared.keep_revoked({id: change.data[id] for id in added}, whole=not change.before)
                shared.keep_fact(REVOCATIONS, unnamed(change.data), now)
        elif change.kind != "gone":
            if shared is not None:
                shared.keep_fact(change.doc, change.data, now)
            if change.doc == KEYS and change.before.keys() - change.data.keys():
                self.sockets.look_at_all()  # a key was withdrawn
            if change.doc.startswith(USER):
                self.cache.find_user(change.doc.removeprefix(USER))
                self.sockets.recheck(self.sockets.of_user(change.doc.removeprefix(USER)))
        elif change.doc in link.dropping:
            self.cache.unwatched(change.doc.removeprefix(USER))
            self.sockets.recheck(self.sockets.of_user(change.doc.removeprefix(USER)))
        elif change.doc.startswith(USER):
            # Deleted, most likely. What was known is no answer any more; the gateway says what is.
            self.cache.doubt(change.doc.removeprefix(USER))
            if shared is not None:
                shared.keep_gone(change.doc, now)
            self.sockets.recheck(self.sockets.of_user(change.doc.removeprefix(USER)))

    def _freshness_changed(self, freshness: Freshness) -> None:
        self._report.freshness(freshness)
        if self.link is None:
            return
        if freshness.state is not FreshnessState.OFFLINE:
            self.cache.enter(self.link)
            self._fetcher.gateway_is_back()
            self._report.connected(self.link.principal)
        else:
            self._store_everything()

    def _troubled(self, error: ChannelError) -> None:
        """There is no session, and this is why. Of keys that the gateway does not take the next one is tried."""
        link = self.link
        if link is None:
            return
        refused = isinstance(error, AuthFailed | Forbidden)
        self.counters.add("links", "refused" if link.ended or refused else "failed")
        if not (link.ended or refused):
            return
        soon, key_is_meant = not self._fetcher.sent_away, not isinstance(error, Forbidden)
        another = key_is_meant and self.keys.refuse(link.kid)
        if link.ended or not another:
            self._distrust(error)
        if soon and not another:
            self.sockets.look_at_all()  # before it may be taken back
        if link.ended and key_is_meant and (another or soon):
            self._again_at = self._clock() + (0.0 if another else SOON_S)
            self._spawn(self._come_back())

    def _distrust(self, error: ChannelError) -> None:
        """The gateway takes this instance for none of its own: nothing that it said counts before it says otherwise."""
        self._report.refused(error, self._clock())
        self._fetcher.sent_away = True
        if self.link is not None and (revocations := self.link.held(REVOCATIONS)) is not None:
            self.cache.revoke(revocations.data)
        self.cache.enter(NOWHERE)
        self.cache.distrust()

    def _store_everything(self) -> None:
        """All that is held, as it is known now: what another worker needs when the gateway is away."""
        link, shared = self.link, self._shared
        if link is None or shared is None or self._fetcher.is_unwelcome:
            return
        for doc, data in link.documents.items():
            known_at = self._known_at(doc)
            if known_at is not None:
                shared.keep_fact(doc, unnamed(data) if doc == REVOCATIONS else data, known_at)
            if doc == REVOCATIONS:
                shared.keep_revoked(data, whole=known_at is not None)

    def _known_at(self, doc: str) -> float | None:
        """When what is held of a document was last known to be true."""
        held = None if self.link is None else self.link.held(doc)
        if self.link is None or held is None:
            return None
        return self.link.known_at(self._clock()) if held.exact else held.known_at

    # --- time ---

    async def _tend_always(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick()
            except Exception:
                self.counters.add("faults")
                logger.exception("looking after what is known failed")

    async def tick(self) -> None:
        """Do what is due by the clock; while it runs that is done each second."""
        await self._come_back()
        now, link = self._clock(), self.link
        if link is None:
            return
        self._report.look(link, now)
        await self._tend_storage(link, now)
        if link.known_at(now) != now:  # while the gateway vouches for nothing, what is known gets old
            await self.sockets.look()
        if now - self._swept_at >= SWEEP_S:
            self._sweep(link, now)

    async def _come_back(self) -> None:
        """Try once more, now and then, after the gateway sent this instance away."""
        link, now = self.link, self._clock()
        if link is not None and link.ended and now >= self._again_at:
            self.counters.add("links", "again")
            self._again_at = now + AGAIN_S
            await link.close()
            self._connect()

    async def _tend_storage(self, link: Link, now: float) -> None:
        revocations = link.held(REVOCATIONS)
        if revocations is not None and revocations.exact and link.known_at(now) == now:
            self.cache.caught_up()
            if self._shared is not None and now - self._stamped_at >= STAMP_S:
                self._stamped_at = now
                self._shared.keep_fact(REVOCATIONS, unnamed(revocations.data), now)
        elif self._shared is not None and not self._fetcher.is_unwelcome:
            self.sockets.recheck(self.sockets.of_sessions(await self._recall(self._shared)))

    def _sweep(self, link: Link, now: float) -> None:
        self._swept_at = now
        self.cache.forget_idle(now - self._idle_s)
        self.cache.reckon()
        with contextlib.suppress(RuntimeError):
            stray = [doc for doc in link.documents if doc.startswith(USER)]
            link.unwant(doc for doc in stray if not self.cache.knows(doc.removeprefix(USER)))
        self.sockets.look_at_all()
        self._tend()
