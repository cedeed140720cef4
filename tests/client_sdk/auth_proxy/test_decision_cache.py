"""What a decision cache says in the cases that have a name."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any

from client_sdk.auth_proxy.decision import Decision, Reason, Source
from client_sdk.auth_proxy.decision_cache import DecisionCache
from client_sdk.auth_proxy.facts import Fact, Need, Rules, VerifiedToken, Want, mark_of
from client_sdk.replica import Held, Standing
from tests.client_sdk.support.tokens import access_token, api_token, jwks

WALL = 1_780_000_000_000
TOKEN = api_token(bytes(32))
MARK = sha256(TOKEN.encode()).digest()


def exact(data: dict[str, Any]) -> Held:
    held = Held()
    held.data, held.rev, held.standing = data, "0" * 16, Standing.EXACT
    return held


def document(user: str = "u_ada", status: str = "active") -> dict[str, Any]:
    return {"identity": {"id": user, "status": status}, "permissions": {}}


class LiveWorld:
    def __init__(self) -> None:
        self.live = True
        self.copies = {"revocations": exact({}), "keys": exact(jwks()), "user:u_ada": exact(document())}

    def known_at(self, now: float) -> float | None:
        return now if self.live else 0.0

    def lose(self, at: float) -> None:
        self.live = False
        for held in self.copies.values():
            held.standing, held.known_at = Standing.AWAITED, at


def cache_of(world: LiveWorld, good_at: float = 100.0, **rules: Any) -> DecisionCache:
    cache = DecisionCache(world, Rules(**rules))
    cache.learn(
        MARK,
        VerifiedToken("u_ada", "user:u_ada", "t_1", None, None, None, good_at, good_at + 300),
        Fact(document(), good_at),
    )
    return cache


def decide(cache: DecisionCache, now: float, token: str = TOKEN) -> Decision | Want:
    return cache.decide(token, now, WALL)


def test_a_live_decision_is_the_same_object_until_something_changes() -> None:
    world = LiveWorld()
    cache = cache_of(world)
    first = decide(cache, 100.0)
    assert isinstance(first, Decision)
    assert (first.allowed, first.source, first.age_s) == (True, Source.LIVE, 0.0)
    assert decide(cache, 100.5) is first
    world.copies["user:u_ada"].data = document() | {"permissions": {"can_fly": True}}
    second = decide(cache, 100.6)
    assert isinstance(second, Decision)
    assert second.document["permissions"] == {"can_fly": True}
    world.copies["revocations"].data = {"t_1": "2030-01-01T00:00:00.000Z"}
    assert decide(cache, 100.7) == Decision(Reason.REVOKED)


def test_while_everything_may_be_revoked_only_the_gateways_own_word_counts() -> None:
    world = LiveWorld()
    cache = cache_of(world)
    assert isinstance(decide(cache, 100.0), Decision)
    world.copies["revocations"].data = {"*": "2030-01-01T00:00:00.000Z"}
    want = decide(cache, 101.0)
    assert isinstance(want, Want)
    assert want.need is Need.VALIDATE
    verified = VerifiedToken("u_ada", "user:u_ada", "t_1", None, None, None, 102.0, 402.0)
    cache.learn(MARK, verified, Fact(document(), 102.0))
    answers = [decide(cache, now) for now in (102.0, 150.0, 250.0)]
    assert all(isinstance(answer, Decision) and answer.allowed for answer in answers)
    other = access_token("u_ada", "s_1", WALL // 1000 + 600)
    assert isinstance(decide(cache, 250.0, other), Want)


def test_what_the_list_does_not_name_concerns_older_answers_alone() -> None:
    """20,000 are named, and the moment before which there are more goes on with each that comes."""
    world = LiveWorld()
    cache = cache_of(world, good_at=100.0)
    for now, behind_s, believed in ((200.0, 200, True), (201.0, 161, True), (202.0, 90, False)):
        world.copies["revocations"].data = {"*": rfc3339(WALL - behind_s * 1000), f"t_{now}": rfc3339(WALL)}
        assert isinstance(decide(cache, now), Decision) is believed, now
    # What was asked for after the moment was seen is true, although the clocks may be apart.
    verified = VerifiedToken("u_ada", "user:u_ada", "t_1", None, None, None, 202.0, 502.0)
    cache.learn(MARK, verified, Fact(document(), 202.0))
    assert isinstance(decide(cache, 203.0), Decision)
    world.copies["revocations"].data = {"*": rfc3339(WALL - 90_000), "t_1": rfc3339(WALL)}
    assert decide(cache, 204.0) == Decision(Reason.REVOKED)


def rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_the_gateways_word_on_an_api_token_is_not_believed_for_ever() -> None:
    cache = cache_of(LiveWorld())
    assert isinstance(decide(cache, 100.0 + 11 * 3600), Decision)
    assert isinstance(decide(cache, 100.0 + 13 * 3600), Want)


def test_a_token_in_use_is_asked_about_again_now_and_then() -> None:
    cache = cache_of(LiveWorld())
    decide(cache, 100.0)
    assert cache.due == []
    assert isinstance(decide(cache, 401.0), Decision)
    assert cache.due == [(TOKEN, MARK)]
    decide(cache, 402.5)
    assert cache.due == [(TOKEN, MARK)]


def test_of_many_tokens_no_more_is_asked_again_than_the_gateway_takes() -> None:
    """2,400 API tokens, each looked at all the time: about 20 a second, and every one of them within two minutes."""
    cache = DecisionCache(LiveWorld(), Rules())
    marks = {mark_of(token): token for token in (api_token(number.to_bytes(32, "big")) for number in range(2_400))}
    for number, mark in enumerate(marks):
        # They came a hundred a second.
        verified = VerifiedToken(
            "u_ada", "user:u_ada", f"t_{number}", None, good_at=0.0, recheck_at=100.0 + number / 100
        )
        cache.learn(mark, verified, Fact(document(), 0.0))
    asked: dict[bytes, list[float]] = {mark: [] for mark in marks}
    for step in range(50):
        cache.reckon()
        for token in marks.values():
            decide(cache, 100.0 + 10 * step, token)
        asking, cache.due = cache.due, []
        for _, mark in asking:
            asked[mark].append(100.0 + 10 * step)
    gaps = [later - earlier for moments in asked.values() for earlier, later in pairwise(moments)]
    assert min(gaps) >= 90
    assert max(gaps) <= 130
    assert {len(moments) for moments in asked.values()} <= {4, 5, 6}


def test_few_tokens_are_asked_about_each_minute() -> None:
    cache = cache_of(LiveWorld())
    cache.reckon()
    for now in (400.0, 445.0, 460.0):
        decide(cache, now)
    assert cache.due == [(TOKEN, MARK)] * 2
    moments = [cache.recheck_at(bytes([first]), 100.0) for first in range(256)]
    assert (min(moments), max(moments) < 160.0) == (145.0, True)
    assert len(set(moments)) == 256, "what was asked at once is not asked at once again"


def test_a_key_that_is_withdrawn_verifies_nothing_any_more() -> None:
    world = LiveWorld()
    cache = DecisionCache(world, Rules())
    token = access_token("u_ada", "s_1", WALL // 1000 + 600)
    assert isinstance(decide(cache, 100.0, token), Decision)
    world.copies["keys"].data = {}
    refused = decide(cache, 100.1, token)
    assert isinstance(refused, Want)
    assert decide(cache, 100.2, token) == Decision(Reason.INVALID)


def test_users_with_a_socket_are_not_forgotten_for_others() -> None:
    world = LiveWorld()
    cache = cache_of(world, max_users=3)
    cache.hold("u_ada", 100.0)
    for number in range(10):
        cache.remember_user(f"u_{number}", Fact(document(f"u_{number}"), 100.0), 100.0)
    assert cache.users == 3
    assert cache.knows("u_ada")
    assert len(cache.evicted) == 8
    assert all(cache.hold(f"u_{number}", 100.0) for number in range(5))
    assert cache.users == 6
    cache.remember_user("u_bob", Fact(document("u_bob"), 100.0), 100.0)
    assert (cache.users, cache.knows("u_bob")) == (7, True)
    for number in range(5):
        cache.release(f"u_{number}")
    cache.forget_idle(200.0)
    assert (cache.users, cache.knows("u_ada")) == (1, True)
    cache.release("u_ada")
    cache.forget_idle(200.0)
    assert cache.users == 0


def test_a_flood_of_tokens_costs_bounded_memory() -> None:
    world = LiveWorld()
    cache = cache_of(world, max_tokens=50, max_negatives=20)
    for number in range(200):
        cache.refuse(number.to_bytes(32, "big"), 100.0)
        cache.remember_token(
            number.to_bytes(32, "little"), VerifiedToken("u_ada", "user:u_ada", f"t_{number}", None, good_at=100.0)
        )
    assert cache.tokens == 50
    assert len(cache._negatives) == 20


def test_a_disabled_user_is_not_forgotten_when_a_copy_is_in_doubt() -> None:
    world = LiveWorld()
    cache = cache_of(world)
    world.lose(101.0)
    held = world.copies["user:u_ada"]
    held.data, held.known_at = document(status="disabled"), None
    assert decide(cache, 110.0) == Decision(Reason.REVOKED)


def test_a_remembered_decision_ends_with_its_token() -> None:
    cache = DecisionCache(LiveWorld(), Rules())
    token = access_token("u_ada", "s_1", WALL // 1000 + 1)
    assert cache.decide(token, 100.0, WALL + 999) == cache.decide(token, 100.0005, WALL + 999)
    assert cache.decide(token, 100.001, WALL + 1000) == Decision(Reason.EXPIRED)


def test_a_true_document_does_not_make_up_for_an_old_list_of_revocations() -> None:
    world = LiveWorld()
    cache = DecisionCache(world, Rules())
    token = access_token("u_ada", "s_1", WALL // 1000 + 600)
    assert isinstance(decide(cache, 100.0, token), Decision)
    for doc in ("revocations", "keys"):
        world.copies[doc].standing, world.copies[doc].known_at = Standing.AWAITED, 100.0
        late = cache.decide(token, 350.0, WALL, impatient=True)
        assert isinstance(late, Decision)
        assert (late.allowed, late.source, late.age_s) == (True, Source.CACHE, 250.0)
        assert isinstance(cache.decide(token, 401.0, WALL, impatient=True), Want)
        world.copies[doc].standing = Standing.EXACT


def test_a_user_who_is_there_again_is_asked_for_again() -> None:
    world = LiveWorld()
    cache = cache_of(world)
    del world.copies["user:u_ada"]
    cache.lose_user("u_ada", 101.0)
    assert decide(cache, 102.0) == Decision(Reason.REVOKED)
    want = decide(cache, 107.0)
    assert isinstance(want, Want)
    assert want.need is Need.WATCH
    world.lose(108.0)
    assert decide(cache, 109.0) == Decision(Reason.REVOKED)


def test_an_answer_from_before_a_user_was_deleted_says_nothing() -> None:
    world = LiveWorld()
    cache = cache_of(world)
    del world.copies["user:u_ada"]
    cache.lose_user("u_ada", 101.0)
    cache.remember_user("u_ada", Fact(document(), 100.5), 102.0)
    cache.find_user("u_ada")
    assert isinstance(cache.decide(TOKEN, 102.0, WALL, impatient=True), Want)


def test_without_keys_no_token_is_called_bad() -> None:
    world = LiveWorld()
    world.copies["keys"] = Held()
    cache = DecisionCache(world, Rules())
    token = access_token("u_ada", "s_1", WALL // 1000 + 600)
    assert isinstance(decide(cache, 100.0, token), Want)
    world.copies["keys"] = exact({})
    assert decide(cache, 100.0, token) == Decision(Reason.INVALID)
