"""What a decision cache says, against what was true: random lives of users, tokens, a channel that comes and goes,
questions whose answers come late, and a storage that remembers.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from client_sdk.auth_proxy.decision import Decision, Reason, Source
from client_sdk.auth_proxy.decision_cache import DecisionCache
from client_sdk.auth_proxy.facts import Fact, Rules, VerifiedToken, Want
from client_sdk.replica import Held, Standing
from tests.client_sdk.support.tokens import access_token, api_token, jwks

START_MS = 1_780_000_000_000
MAX_STALE_S = 60.0
MOMENT_S = 1e-6
"""No two things happen at one time."""
USERS = ("u_ada", "u_bob")
TOKENS = {  # token: user, session, end in seconds after the start (None: none)
    api_token(bytes(32)): ("u_ada", "t_ada", None),
    api_token(bytes([1] * 32)): ("u_bob", "t_bob", 60),
    access_token("u_ada", "s_ada", START_MS // 1000 + 40): ("u_ada", "s_ada", 40),
    access_token("u_bob", "s_bob", START_MS // 1000 + 150): ("u_bob", "s_bob", 150),
}
SESSIONS = [session for _, session, _ in TOKENS.values()]
tokens = st.sampled_from(list(TOKENS))
users = st.sampled_from(USERS)


class FakeWorld:
    """A channel: what it holds, whether it is connected, and whether the gateway vouches for it."""

    def __init__(self) -> None:
        self.live = False
        self.stale_since: float | None = None
        self.heard_at: float | None = None
        self.documents: dict[str, Held] = {}

    def known_at(self, now: float) -> float | None:
        if self.live:
            return now if self.stale_since is None else self.stale_since
        return self.heard_at

    @property
    def copies(self) -> dict[str, Held]:
        return self.documents


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.wall = START_MS
        self.world = FakeWorld()
        self.cache = DecisionCache(self.world, Rules(max_stale_s=MAX_STALE_S, negative_s=5.0, recheck_s=100.0))
        self.status: dict[str, str | None] = dict.fromkeys(USERS, "active")
        self.revoked: set[str] = set()
        self.told: set[str] = set()
        self.times: list[tuple[float, dict[str, bool]]] = []
        self.asked: list[tuple[str, float, bool, dict[str, Any] | None]] = []
        self.stored: dict[str, Fact] = {}
        self.note()
        self.recover()
        for token in TOKENS:
            if token.startswith("gw_"):
                self.ask_and_hear(token)

    # --- what is true ---

    def good(self, token: str) -> bool:
        user, session, _ = TOKENS[token]
        return self.status[user] == "active" and session not in self.revoked

    def note(self) -> None:
        """Remember what is true from now on."""
        self.times.append((self.now, {token: self.good(token) for token in TOKENS}))
        if self.world.live and self.world.stale_since is None:
            for doc, held in self.world.documents.items():
                if held.exact:
                    self.fill(doc, held)

    def document(self, user: str) -> dict[str, Any]:
        return {"identity": {"id": user, "status": self.status[user]}, "permissions": {}}

    def fill(self, doc: str, held: Held) -> None:
        if doc == "revocations":
            data: dict[str, Any] = dict.fromkeys(self.revoked, "2026-12-01T00:00:00.000Z")
        elif doc == "keys":
            data = jwks()
        else:
            data = self.document(doc.removeprefix("user:"))
        if held.rev is None or held.data != data:  # what has not changed is the same object, as with a channel
            held.data, held.rev = data, str(data)

    def was_good_since(self, token: str, since: float) -> bool:
        """Whether the token was good at any moment from then on."""
        before = [good for at, good in self.times if at <= since]
        return any(good[token] for good in [*before[-1:], *(good for at, good in self.times if at > since)])

    @rule(session=st.sampled_from(SESSIONS), back=st.booleans())
    def revoke(self, session: str, back: bool) -> None:
        (self.revoked.discard if back else self.revoked.add)(session)
        self.note()

    @rule()
    def mend(self) -> None:
        """Everybody is good again."""
        self.revoked.clear()
        self.status = dict.fromkeys(USERS, "active")
        self.note()

    @rule(user=users, status=st.sampled_from(["active", "disabled"]))
    def set_status(self, user: str, status: str) -> None:
        self.status[user] = status
        self.note()

    @rule(user=users)
    def delete(self, user: str) -> None:
        self.status[user] = None
        held = self.world.documents.get(f"user:{user}")
        vouched_for = self.world.live and self.world.stale_since is None
        if held is not None and held.exact and vouched_for:
            del self.world.documents[f"user:{user}"]
            self.cache.doubt(user)
        self.note()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.5, 7.0, 20.0, 45.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += int(seconds * 1000)
        self.note()

    # --- the channel ---

    @precondition(lambda self: not self.world.live)
    @rule()
    def connect(self) -> None:
        self.world.live, self.world.stale_since = True, None
        for doc in ("revocations", "keys"):
            self.world.documents.setdefault(doc, Held())

    @precondition(lambda self: self.world.live)
    @rule()
    def lose(self) -> None:
        known_at = self.world.known_at(self.now)
        self.world.live, self.world.heard_at = False, self.now
        self.now += MOMENT_S
        for held in self.world.documents.values():
            if held.exact:
                held.known_at = known_at
            held.standing = Standing.AWAITED

    @precondition(lambda self: self.world.live)
    @rule()
    def the_database_goes_or_comes(self) -> None:
        self.world.stale_since = self.now if self.world.stale_since is None else None
        self.now += MOMENT_S
        self.note()

    @precondition(lambda self: self.world.live and self.world.stale_since is None)
    @rule(doc=st.sampled_from(["revocations", "keys", *(f"user:{user}" for user in USERS)]))
    def arrive(self, doc: str) -> None:
        """What is on its way comes, or is refused."""
        held = self.world.documents.get(doc)
        if held is None:
            return
        user = doc.removeprefix("user:")
        if self.status.get(user, "") is None:
            del self.world.documents[doc]
            self.cache.doubt(user)
            self.cache.lose_user(user, self.now)
            return
        held.standing = Standing.EXACT
        self.fill(doc, held)
        if doc == "revocations":
            self.told.clear()
            self.cache.caught_up()
        elif doc.startswith("user:"):
            self.cache.find_user(user)

    @rule(user=users)
    def watch(self, user: str) -> None:
        if self.world.live:
            self.world.documents.setdefault(f"user:{user}", Held())

    @rule(user=users)
    def unwatch(self, user: str) -> None:
        if self.world.documents.pop(f"user:{user}", None) is not None:
            self.cache.doubt(user)

    @rule()
    def recover(self) -> None:
        """The channel is there, and everything comes."""
        if not self.world.live:
            self.connect()
        self.world.stale_since = None
        for user in USERS:
            self.watch(user)
        for doc in list(self.world.documents):
            self.arrive(doc)

    # --- questions and storage ---

    @rule(token=tokens)
    def ask_and_hear(self, token: str) -> None:
        self.ask(token)
        self.hear(len(self.asked) - 1)

    @rule(token=tokens)
    def ask(self, token: str) -> None:
        user, _, end = TOKENS[token]
        ended = end is not None and self.wall >= START_MS + end * 1000
        good = self.good(token) and not ended
        self.asked.append((token, self.now, good, self.document(user) if good else None))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.integers(0, len(self.asked) - 1)))

    def hear(self, number: int) -> None:
        token, asked_at, good, document = self.asked.pop(number)
        user, session, end = TOKENS[token]
        mark = self.mark(token)
        if not good or document is None:
            self.cache.refuse(mark, self.now)
            return
        expires_at = None if end is None else START_MS + end * 1000
        kid = "k_first" if token.startswith("eyJ") else None
        verified = VerifiedToken(user, f"user:{user}", session, expires_at, kid, None, asked_at, asked_at + 100.0)
        self.cache.learn(mark, verified, Fact(document, asked_at))
        self.stored[user] = Fact(document, asked_at)

    @rule(user=users)
    def recall(self, user: str) -> None:
        if user in self.stored:
            self.cache.remember_user(user, self.stored[user], self.now)

    @rule()
    def recall_revocations(self) -> None:
        self.cache.revoke(set(self.revoked))
        self.told |= self.revoked
        self.cache.remember("revocations", Fact({}, self.now))
        self.cache.remember("keys", Fact(jwks(), self.now))

    @staticmethod
    def mark(token: str) -> bytes:
        from hashlib import sha256

        return sha256(token.encode()).digest()

    # --- what has to hold ---

    @rule(token=tokens, impatient=st.booleans())
    def decide(self, token: str, impatient: bool) -> None:
        self.check(token, self.cache.decide(token, self.now, self.wall, impatient=impatient))

    @invariant()
    def every_decision_is_right(self) -> None:
        for token in TOKENS:
            self.check(token, self.cache.decide(token, self.now, self.wall, impatient=True))

    def check(self, token: str, outcome: Decision | Want) -> None:
        if isinstance(outcome, Want):
            return
        _, session, end = TOKENS[token]
        held = self.world.documents.get("revocations")
        if outcome.allowed:
            assert end is None or self.wall < START_MS + end * 1000, "yes past the token's end"
            assert held is None or session not in held.data, "yes after a known revocation"
            vouched_for = held is not None and held.exact and self.world.known_at(self.now) == self.now
            assert vouched_for or session not in self.told, "yes after a revocation that somebody else knew"
            assert outcome.age_s <= MAX_STALE_S
            assert self.was_good_since(token, self.now - MAX_STALE_S), "yes from an answer that is too old"
            if outcome.source is Source.LIVE:
                assert self.good(token), "live, and not true"
            if not self.world.live:
                assert outcome.source is Source.OFFLINE
        elif outcome.reason is Reason.EXPIRED:
            assert end is not None
            assert self.wall >= START_MS + end * 1000
        else:
            ended = end is not None and self.wall >= START_MS + end * 1000
            assert ended or not all(good[token] for _, good in self.times), "no, without anybody having said so"


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
