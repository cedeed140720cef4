"""The cache: what is decided about a token from what is known. No clock, no network, no storage.

Known are the documents that the instance's channel holds (`World`), facts of an earlier time (from storage, or from an
answer of the gateway), the tokens that were verified, and those that the gateway called void a moment ago. Where that
does not do, `DecisionCache.decide` says what has to be fetched (`Want`); whoever fetches it tells, and asks again.

    yes      the token was verified, has not ended and is not revoked, its user is active, and all of that was true at
             most `max_stale_s` ago
    no, 401  the token ended, is revoked, is none, or the gateway said so: never because the gateway is away
    Want     everything else; when it can not be fetched, 503
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Set
from typing import Any, TypeVar

import msgspec

from client_sdk.auth_proxy.access_token import BadToken, is_access_token, is_api_token, key_id, verify
from client_sdk.auth_proxy.decision import Decision, Source
from client_sdk.auth_proxy.evidence import Evidence
from client_sdk.auth_proxy.facts import (
    EVERYTHING,
    EXPIRED,
    INFINITE,
    INVALID,
    KEYS,
    REVOCATIONS,
    REVOKED,
    Fact,
    Need,
    Rules,
    VerifiedToken,
    Want,
    World,
    mark_of,
)
from client_sdk.replica import Held, Standing

FRESH_S = 1.0
"""Nobody waits for a newer answer than this."""
LOOK_S = 1.0
"""How often a token in use is looked at whole, for what is forgotten when it is not used."""
RECHECKS_PER_S = 20.0
"""How often API tokens in use are asked about again, all of them together: an instance has a rate, and copies."""
EXACT = Standing.EXACT

K = TypeVar("K")
V = TypeVar("V")


class _Known(msgspec.Struct):
    """A user of whom something is known or about to be. `sockets` are open and keep it from being forgotten."""

    used_at: float
    fact: Fact | None = None
    wished: bool = False
    sockets: int = 0


class DecisionCache(Evidence):
    """Decides. Times are `now`, seconds of a monotonic clock, and `wall`, milliseconds since 1970 UTC.

    `wishes` are users whose document should be watched, `due` tokens to ask about again, each with its hash, `evicted`
    users that were forgotten: whoever drives it takes them from there. `foreign`: a token was signed by a key in force
    and has another issuer or audience than the rules say.
    """

    def __init__(self, world: World, rules: Rules) -> None:
        super().__init__(world)
        self.rules = rules
        self.wishes: list[str] = []
        self.due: list[tuple[str, bytes]] = []
        self.evicted: list[str] = []
        self.foreign = False
        self._verified: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._negatives: OrderedDict[bytes, float] = OrderedDict()
        self._users: OrderedDict[str, _Known] = OrderedDict()
        self._holding: dict[str, _Known] = {}  # those with a socket
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._recheck_s = rules.recheck_s

    @property
    def users(self) -> int:
        """How many are remembered."""
        return len(self._users) + len(self._holding)

    @property
    def tokens(self) -> int:
        """How many are remembered."""
        return len(self._verified)

    # --- decisions ---

    def decide(self, token: str, now: float, wall: int, *, impatient: bool = False) -> Decision | Want:
        """What is known of a token, or what has to be known. `impatient`: what is on its way took too long, so what is
        held has to do, if it may.
        """
        mark = mark_of(token)
        verified = self._verified.get(mark)
        if verified is None:
            met = self._meet(token, mark, now, wall)
            if not isinstance(met, VerifiedToken):
                return met
            verified = met
        elif wall < verified.good_until and now < verified.look_at and self._is_unchanged(verified, now):
            return verified.decision
        return self._weigh(token, mark, verified, now, wall, impatient=impatient)

    def _is_unchanged(self, verified: VerifiedToken, now: float) -> bool:
        """Whether the last decision, which was live, rests on what is still held, exact and vouched for."""
        copies = self._copies
        held, revocations = copies.get(verified.doc), copies.get(REVOCATIONS)
        if held is None or revocations is None or held.data is not verified.document:
            return False
        if held.standing is not EXACT or revocations.standing is not EXACT or held.stale or revocations.stale:
            return False
        revoked = revocations.data
        if revoked is not verified.revoked and (verified.session in revoked or EVERYTHING in revoked):
            return False
        if verified.kid is not None:
            keys = copies.get(KEYS)
            if keys is None or keys.data is not verified.keys or keys.standing is not EXACT or keys.stale:
                return False
        return self.world.known_at(now) == now

    def _meet(self, token: str, mark: bytes, now: float, wall: int) -> VerifiedToken | Decision | Want:
        """A token that was not verified, or too long ago to be remembered."""
        until = self._negatives.get(mark)
        if until is not None and until > now:
            return INVALID
        if is_api_token(token):
            return Want(Need.VALIDATE, mark, None)
        if not is_access_token(token):
            return INVALID
        try:
            kid = key_id(token)
            keys = self._read_keys()
            if kid not in keys:
                exact = self._age(KEYS, now) == 0
                return INVALID if exact else Want(Need.VALIDATE, mark, None)
            rules = self.rules
            claims = verify(token, kid, keys[kid], issuer=rules.issuer, audience=rules.audience, now_ms=wall)
        except BadToken as bad:
            self.foreign = self.foreign or bad.foreign
            return EXPIRED if bad.expired else INVALID
        verified = VerifiedToken(claims.user, f"user:{claims.user}", claims.session, claims.expires_at, kid)
        _put(self._verified, mark, verified, self.rules.max_tokens)
        return verified

    def _weigh(
        self, token: str, mark: bytes, verified: VerifiedToken, now: float, wall: int, *, impatient: bool
    ) -> Decision | Want:
        """Whether the token is good."""
        if verified.expires_at is not None and verified.expires_at <= wall:
            return EXPIRED
        revocations = self._copies.get(REVOCATIONS)
        if self._is_revoked(verified, revocations, now):
            return REVOKED
        if verified.good_at < self._believed_since(revocations, verified, now, wall):
            return Want(Need.VALIDATE, mark, verified.user)
        if self._is_withdrawn(verified, now):
            del self._verified[mark]
            return Want(Need.VALIDATE, mark, None)
        self._verified.move_to_end(mark)
        if now >= verified.recheck_at and self.world.live:
            verified.recheck_at = self.recheck_at(mark, now)
            self.due.append((token, mark))
        return self._weigh_user(mark, verified, revocations, now, impatient=impatient)

    def recheck_at(self, mark: bytes, asked_at: float) -> float:
        """When to ask again about a token that was asked about then: what is asked at once is spread by its hash."""
        return asked_at + self._recheck_s * (0.75 + mark[0] / 1024)

    def reckon(self) -> None:
        """See how many API tokens there are to ask about again."""
        known = sum(verified.kid is None for verified in self._verified.values())
        self._recheck_s = max(self.rules.recheck_s, known / RECHECKS_PER_S)

    def _weigh_user(
        self, mark: bytes, verified: VerifiedToken, revocations: Held | None, now: float, *, impatient: bool
    ) -> Decision | Want:
        """Whether its user is, and how sure all of that is."""
        world, held, known = self.world, self._copies.get(verified.doc), self._touch(verified.user, now)
        if verified.user in self._gone and not (held is not None and held.rev is not None):
            asked_lately = now - self._gone[verified.user] <= self.rules.negative_s
            return REVOKED if asked_lately or not world.live else Want(Need.WATCH, mark, verified.user)
        data, age = self._document(held, known.fact, now)
        if held is None and not known.wished:
            known.wished = True
            self.wishes.append(verified.user)
        if data is None:
            return Want(Need.WATCH if world.live else Need.VALIDATE, mark, verified.user)
        if _status(data) != "active":
            return REVOKED
        age = max(age, self._token_age(verified, revocations, now))
        held_exactly = world.live and _exact(held, revocations)
        if age > FRESH_S and world.live and not held_exactly and not impatient:
            return Want(Need.WATCH, mark, verified.user)  # the truth is on its way
        if age > self.rules.max_stale_s:
            return Want(Need.VALIDATE, mark, verified.user)
        kept_true = held_exactly and age == 0 and world.known_at(now) == now
        source = Source.LIVE if kept_true else Source.CACHE if world.live else Source.OFFLINE
        decision = Decision(None, data, source, age, verified.session, verified.expires_at, verified.scopes)
        verified.look_at = -INFINITE
        if source is Source.LIVE and held is not None and revocations is not None:
            self._note(verified, decision, revocations, now)
        return decision

    def _note(self, verified: VerifiedToken, decision: Decision, revocations: Held, now: float) -> None:
        """Remember what a live decision rests on; it is looked at again when that changed, and now and then."""
        keys = self._copies.get(KEYS)
        verified.decision, verified.document = decision, decision.document
        verified.revoked, verified.keys = revocations.data, None if keys is None else keys.data
        verified.good_until = INFINITE if verified.expires_at is None else verified.expires_at
        verified.look_at = min(now + LOOK_S, verified.recheck_at)

    def _is_withdrawn(self, verified: VerifiedToken, now: float) -> bool:
        """Whether the key that signed it is in force no more; unless the gateway just said that the token is good."""
        if verified.kid is None or now - verified.good_at <= self.rules.negative_s:
            return False
        return verified.kid not in self._read_keys()

    def _document(self, held: Held | None, fact: Fact | None, now: float) -> tuple[Mapping[str, Any] | None, float]:
        """The newest that is known of a user, and its age."""
        if held is not None and held.rev is not None:
            age = self._age_of(held, now)
            # A copy of an unknown time is used for one thing: that the user was disabled is not forgotten.
            if fact is None or age <= now - fact.known_at or (age == INFINITE and _status(held.data) != "active"):
                return held.data, age
        return (None, INFINITE) if fact is None else (fact.data, max(0.0, now - fact.known_at))

    # --- users ---

    def _touch(self, user: str, now: float) -> _Known:
        known = self._known(user)
        if known is None:
            known = self._users[user] = _Known(now)
            while self.users > self.rules.max_users and len(self._users) > 1:
                self._evict(next(iter(self._users)))
        known.used_at = now
        if not known.sockets:
            self._users.move_to_end(user)
        return known

    def _known(self, user: str) -> _Known | None:
        return self._users.get(user) or self._holding.get(user)

    def _evict(self, user: str) -> None:
        del self._users[user]
        self.evicted.append(user)

    def forget_idle(self, before: float) -> None:
        """Forget users whom nobody asked about since `before`, and who have no socket open."""
        for user, known in list(self._users.items()):
            if known.used_at >= before:
                break
            self._evict(user)

    def hold(self, user: str, now: float) -> bool:
        """A socket of this user opened: remember the user until it closes. False: there are too many with one."""
        if user not in self._holding and len(self._holding) >= self.rules.max_socket_users:
            return False
        known = self._touch(user, now)
        known.sockets += 1
        self._users.pop(user, None)
        self._holding[user] = known
        return True

    def release(self, user: str) -> None:
        """A socket of this user closed."""
        if (known := self._holding.get(user)) is not None:
            known.sockets -= 1
            if not known.sockets:
                del self._holding[user]
                self._users[user] = known

    def unwatched(self, user: str) -> None:
        """The document could not be watched; the next request may wish for it again."""
        if (known := self._known(user)) is not None:
            known.wished = False

    # --- what is told ---

    def learn(self, mark: bytes, verified: VerifiedToken, fact: Fact) -> None:
        """The gateway said that a token is good, and what its user is; both as of the moment at which it was asked."""
        self._negatives.pop(mark, None)
        if self._gone.get(verified.user, -INFINITE) < fact.known_at:
            self._gone.pop(verified.user, None)
        _put(self._verified, mark, verified, self.rules.max_tokens)
        self.remember_user(verified.user, fact, fact.known_at)

    def refuse(self, mark: bytes, now: float) -> None:
        """The gateway said that a token stands for nothing."""
        self._verified.pop(mark, None)
        _put(self._negatives, mark, now + self.rules.negative_s, self.rules.max_negatives)

    def unsay(self, sessions: Set[str]) -> None:
        """What the gateway said of tokens of these before does not count: they were revoked, and have no name now."""
        for verified in self._verified.values() if sessions else ():
            if verified.session in sessions:
                verified.good_at = -INFINITE

    def lose_user(self, user: str, now: float) -> None:
        """There is no such user any more."""
        self.doubt(user)
        _put(self._gone, user, now, self.rules.max_negatives)

    def doubt(self, user: str) -> None:
        """What was known of a user is no answer any more."""
        if (known := self._known(user)) is not None:
            known.fact, known.wished = None, False

    def knows(self, user: str) -> bool:
        """Whether this user is remembered."""
        return self._known(user) is not None

    def find_user(self, user: str) -> None:
        """The channel holds this user's document."""
        self._gone.pop(user, None)

    def session(self, mark: bytes) -> str | None:
        """By which credential a token that is remembered is good."""
        verified = self._verified.get(mark)
        return None if verified is None else verified.session

    def remember_token(self, mark: bytes, verified: VerifiedToken) -> None:
        """A token that somebody verified earlier."""
        if mark not in self._verified:
            _put(self._verified, mark, verified, self.rules.max_tokens)

    def remember_user(self, user: str, fact: Fact, now: float) -> None:
        """A user as they were known earlier; what is known of a later moment stays."""
        known = self._touch(user, now)
        if fact.known_at > self._gone.get(user, -INFINITE) and (
            known.fact is None or known.fact.known_at <= fact.known_at
        ):
            known.fact = fact

    def distrust(self) -> None:
        """The gateway takes this instance for none of its own any more: nothing that it said may be used."""
        for known in (*self._users.values(), *self._holding.values()):
            known.fact, known.wished = None, False
        self._verified.clear()
        self._facts.clear()


def _exact(*documents: Held | None) -> bool:
    return all(held is not None and held.exact for held in documents)


def _status(document: Mapping[str, Any]) -> Any:
    identity = document.get("identity")
    return identity.get("status") if isinstance(identity, dict) else None


def _put(held: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    held[key] = value
    held.move_to_end(key)
    if len(held) > most:
        held.popitem(last=False)
