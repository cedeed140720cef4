"""Fetches what a decision needs: from the channel, from the storage, from the gateway; each thing once at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from client_sdk.auth_proxy.access_token import BadToken, is_access_token, key_id
from client_sdk.auth_proxy.complaint import PATIENCE_S, Complaint
from client_sdk.auth_proxy.counters import Counters
from client_sdk.auth_proxy.decision import Decision
from client_sdk.auth_proxy.decision_cache import DecisionCache
from client_sdk.auth_proxy.facts import (
    KEYS,
    REVOCATIONS,
    UNAVAILABLE,
    Fact,
    Need,
    VerifiedToken,
    Want,
    mark_of,
    milliseconds,
)
from client_sdk.auth_proxy.link import Link
from client_sdk.auth_proxy.reserve import Reserve
from client_sdk.auth_proxy.storage_client import StorageClient
from client_sdk.errors import (
    AuthFailed,
    ChannelError,
    Disconnected,
    Forbidden,
    MalformedMessage,
    NotFound,
    RateLimited,
    Unavailable,
)
from client_sdk.instance import InstanceClient, Validation
from client_sdk.reconnect import CLOCK_OFF

logger = logging.getLogger("client_sdk.auth_proxy")

ROUNDS = 4
"""What is fetched may lead to something else to fetch; so often at most."""
AT_ONCE = 32
"""Questions to the gateway under way."""
MOST_WAITING = 1_000
"""Questions under way, with those that wait for their turn; what comes on top of that is told to come later."""
WITNESS_S = 2.0
"""How old the storage's list of what is revoked may be where it has to do."""
USER = "user:"


class Away(Exception):
    """The gateway can not be asked now."""


class Fetcher:
    """Brings a decision cache what it wants. A request waits at most `fetch_s` seconds for it. `link` and `shared` are
    set by whoever makes them.
    """

    def __init__(
        self,
        cache: DecisionCache,
        client: InstanceClient,
        counters: Counters,
        *,
        fetch_s: float,
        wall_ms: Callable[[], int],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.link: Link | None = None
        self.shared: StorageClient | None = None
        self._cache = cache
        self.client = client
        self.sent_away = False
        """Whether the gateway took this instance for none of its own, and did not take it back since."""
        self._counters = counters
        self._fetch_s = fetch_s
        self._wall_ms = wall_ms
        self._clock = clock
        self._chance = chance
        self._flights: dict[tuple[Need, object], asyncio.Task[None]] = {}
        self._waiting: Counter[tuple[Need, object]] = Counter()
        self._asking: set[bytes] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._reserve = Reserve()
        self._away_until = 0.0
        self._complaint = Complaint("the gateway does not answer this instance")
        self.on_refused: Callable[[ChannelError], object] = _ignore
        """Called when the gateway takes this instance for none of its own, and no channel says otherwise."""

    @property
    def is_unwelcome(self) -> bool:
        """Whether nothing that is stored may be believed either: the gateway does not want this instance."""
        return self.sent_away or (self.link is not None and self.link.refused)

    def gateway_is_back(self) -> None:
        """There is a connection again: ask at once."""
        self.sent_away = False
        self._away_until = 0.0

    async def close(self) -> None:
        """Stop asking."""
        if flights := list(self._flights.values()):
            for flight in flights:
                flight.cancel()
            await asyncio.wait(flights)

    def _decide(self, token: str, *, impatient: bool = False) -> Decision | Want:
        return self._cache.decide(token, self._clock(), self._wall_ms(), impatient=impatient)

    async def fetch(self, token: str) -> Decision:
        """The decision, once what is wanted was fetched; or without it."""
        with contextlib.suppress(TimeoutError, Away):
            async with asyncio.timeout(self._fetch_s):
                if self.link is not None:
                    await self.link.first_word()
                for turn in range(ROUNDS):
                    outcome = self._decide(token)
                    if isinstance(outcome, Decision):
                        return outcome
                    await self._get(token, outcome, first=turn == 0)
        outcome = self._decide(token, impatient=True)
        return outcome if isinstance(outcome, Decision) else UNAVAILABLE

    async def _get(self, token: str, want: Want, *, first: bool) -> None:
        """Fetch what is wanted, together with whoever else wants it. Raises `Away`."""
        if want.need is Need.WATCH and want.user is not None:
            with contextlib.suppress(Away):
                await self._join((Need.WATCH, want.user), lambda: self._watch(str(want.user)))
                return
        if first and self.shared is not None and not self.is_unwelcome:
            before = self._decide(token)
            await self._recall(self.shared, want)
            if self._decide(token) != before:
                return
        unseen = want.user is None
        await self._join((Need.VALIDATE, want.mark), lambda: self._validate(token, want.mark, unseen=unseen))

    async def ask_again(self, token: str, mark: bytes) -> None:
        """Have the cache told what the gateway says of a token now, if it says anything."""
        with contextlib.suppress(Away):
            await self._join((Need.VALIDATE, mark), lambda: self._validate(token, mark))

    async def _join(self, key: tuple[Need, object], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= MOST_WAITING:
                raise Away
            flight = self._flights[key] = asyncio.ensure_future(work())
            flight.add_done_callback(lambda done: self._landed(key, done))
        else:
            self._counters.add("joined", key[0].name.lower())
        self._waiting[key] += 1
        try:
            await asyncio.shield(flight)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if flight.cancelled() and own is not None and not own.cancelling():
                raise Away from None  # nobody ends who waits because questions are ended
            raise
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if key[1] not in self._asking and self._flights.get(key) is flight:
                    del self._flights[key]  # nobody wants it any more, and it was not asked yet
                    flight.cancel()

    def _landed(self, key: tuple[Need, object], done: asyncio.Task[None]) -> None:
        if self._flights.get(key) is done:
            del self._flights[key]
        if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, Away):
            logger.error("a question to the gateway failed", exc_info=error)

    async def _watch(self, user: str) -> None:
        link = self.link
        if link is None or not link.live:
            raise Away
        try:
            await link.exact((REVOCATIONS, KEYS))
        except ChannelError as error:
            self._counters.add("watches", "failed")
            raise Away from error
        try:
            await link.exact((USER + user,))
        except NotFound:
            self._counters.add("watches", "unknown")
            self._cache.lose_user(user, self._clock())
        except ChannelError as error:
            self._counters.add("watches", "failed")
            self._cache.unwatched(user)
            raise Away from error
        else:
            self._counters.add("watches", "held")

    async def _validate(self, token: str, mark: bytes, *, unseen: bool = False) -> None:
        """Have the cache told what the gateway says of a token. Raises `Away`, of one that is `unseen` also while the
        gateway would answer no more than others need."""
        if mark_of(token) != mark:  # one user's answer would be another's
            raise AssertionError("this is the hash of another token")
        if self._clock() < self._away_until:
            raise Away
        async with self._slots:
            asked_at = self._clock()
            if asked_at < self._away_until:
                raise Away
            if unseen and not self._reserve.spares(len(self._asking), asked_at):
                self._counters.add("validations", "deferred")
                raise Away
            self._asking.add(mark)
            try:
                answer = await self.client.validate(token)
            except ChannelError as error:
                self._failed(error)
                raise Away from error
            finally:
                self._asking.discard(mark)
                self._reserve.note(self.client.rate_limit, self._clock())
        self._complaint.well()
        self.sent_away = False
        if not answer.active:
            self._counters.add("validations", "void")
            self._cache.refuse(mark, self._clock())
            if self.shared is not None:
                self.shared.keep_token(mark, None, asked_at)
            return
        self._counters.add("validations", "good")
        self._learn(token, mark, answer, asked_at)

    def _learn(self, token: str, mark: bytes, answer: Validation, asked_at: float) -> None:
        user = answer.document.get("identity", {}).get("id")
        if not isinstance(user, str) or answer.session is None:
            raise Away
        kid = None
        if is_access_token(token):
            with contextlib.suppress(BadToken):
                kid = key_id(token)
        recheck_at = self._cache.recheck_at(mark, asked_at)
        scopes = None if answer.scopes is None else frozenset(answer.scopes)
        verified = VerifiedToken(
            user, USER + user, answer.session, milliseconds(answer.expires_at), kid, scopes, asked_at, recheck_at
        )
        self._cache.learn(mark, verified, Fact(answer.document, asked_at))
        if self.shared is not None:
            if kid is None:
                self.shared.keep_token(mark, verified, asked_at)
            self.shared.keep_fact(USER + user, answer.document, asked_at)

    def _failed(self, error: ChannelError) -> None:
        """The gateway did not say anything of a token: not for long, or an operator has to know."""
        self._counters.add("validations", "failed")
        pause_s = max(error.retry_after_s or 0.0, 0.4 + 0.4 * self._chance())
        self._away_until = self._clock() + pause_s
        passing = isinstance(error, Disconnected | Unavailable | RateLimited | MalformedMessage)
        patience_s = PATIENCE_S if passing else 0.0
        self._complaint.amiss(f"{error.code}: {error.message}", self._clock(), patience_s=patience_s)
        refused = isinstance(error, AuthFailed | Forbidden) and error.code != CLOCK_OFF
        if refused and not (self.link is not None and self.link.live):
            self.on_refused(error)

    async def _recall(self, shared: StorageClient, want: Want) -> None:
        """What the storage knows of it; without a word on what is revoked, that is nothing."""
        if self.link is None or not self.link.live:
            if self._clock() - shared.witness_at >= WITNESS_S:
                self._cache.revoke(await shared.read_revoked())
            if self._clock() - shared.witness_at >= WITNESS_S:
                return
        stored = await shared.read_token(want.mark) if want.user is None else None
        verified, good_at = (None, 0.0) if stored is None else stored
        user = want.user if verified is None else verified.user
        facts = {} if user is None else await shared.read_facts([USER + user])
        if self.is_unwelcome:  # since it was asked
            return
        if verified is not None:
            self._cache.remember_token(want.mark, verified)
            self._counters.add("stored", "token")
        elif stored is not None:
            self._cache.refuse(want.mark, good_at)
            self._counters.add("stored", "void")
        for fact in facts.values():
            self._cache.remember_user(str(user), fact, self._clock())
            self._counters.add("stored", "user")


def _ignore(error: ChannelError) -> None:
    """Nobody asked."""
