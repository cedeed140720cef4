"""Refresh tokens: used once, the same successor for everybody within the grace, the end of the session after it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.logins import SessionTokens
from gateway.core.tokens import hash_token, is_refresh_token, new_refresh_token
from gateway.errors import AuthFailed, NoRowChanged, StoreUnavailable, StoreUncertain, Unavailable
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from gateway.store.logins import GRACE_MS, NewSession, begin_session, prune_logins
from gateway.store.migrate import migrate
from tests.conftest import Place
from tests.support.flaky_store import FlakyStore
from tests.support.login_rig import CHEAP, HERE, NOW, Clock, LoginRig
from tests.support.people import run

TTL_MS = CHEAP.refresh_ttl_s * 1000


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[LoginRig]:
    """With ada, whose id is u1."""
    opened = await LoginRig.open(database)
    await opened.add_user("u1", username="ada")
    yield opened
    opened.close()


async def passes(rig: LoginRig, ms: int) -> None:
    """Let time pass: on the node's clock, and since tokens were used, which the database's clock tells."""
    rig.clock.now += ms
    await run(rig.database, "UPDATE refresh_tokens SET used_at = used_at - ?", ms)


async def in_force(rig: LoginRig) -> bool:
    return bool(await rig.rows("SELECT 1 FROM login_sessions WHERE revoked_at IS NULL"))


async def test_a_refresh_gives_a_new_pair_and_prolongs_the_session(rig: LoginRig) -> None:
    first = await rig.login()
    rig.clock.pass_s(600)
    second = await rig.refresh(first.refresh_token, address="192.0.2.99", user_agent="Browser/2")
    now = NOW + 600_000
    assert is_refresh_token(second.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert (second.user.id, second.session, second.device) == ("u1", first.session, "")
    assert (second.access_expires_at, second.refresh_expires_at) == (now + CHEAP.access_ttl_s * 1000, now + TTL_MS)
    assert second.seq == await last_seq(rig.database)
    claims = rig.access_tokens.check(second.access_token)
    assert (claims.user, claims.session) == ("u1", first.session)
    assert await rig.rows("SELECT expires_at, last_seen_at, ip, user_agent FROM login_sessions") == [
        (now + TTL_MS, now, "192.0.2.99", "Browser/2")
    ]


async def test_a_session_lives_from_use_to_use(rig: LoginRig) -> None:
    tokens = await rig.login()
    for _ in range(5):
        rig.clock.now += TTL_MS - 1
        tokens = await rig.refresh(tokens.refresh_token)
    rig.clock.now += TTL_MS
    with pytest.raises(AuthFailed):
        await rig.refresh(tokens.refresh_token)
    assert await in_force(rig)  # it ended; nobody ended it


async def test_a_lost_answer_is_given_again(rig: LoginRig) -> None:
    first = await rig.login()
    second = await rig.refresh(first.refresh_token)
    await passes(rig, GRACE_MS - 2_000)
    again = await rig.refresh(first.refresh_token)
    assert (again.refresh_token, again.session) == (second.refresh_token, second.session)
    assert again.refresh_expires_at == second.refresh_expires_at
    assert rig.access_tokens.check(again.access_token)
    assert await rig.rows("SELECT count(*) FROM refresh_tokens") == [(2,)]


async def test_a_successor_that_was_used_is_still_the_successor(rig: LoginRig) -> None:
    first = await rig.login()
    second = await rig.refresh(first.refresh_token)
    await passes(rig, 5_000)
    third = await rig.refresh(second.refresh_token)
    assert (await rig.refresh(first.refresh_token)).refresh_token == second.refresh_token
    assert (await rig.refresh(second.refresh_token)).refresh_token == third.refresh_token


async def test_reuse_after_the_grace_ends_the_whole_session(rig: LoginRig) -> None:
    first = await rig.login()
    other = await rig.login()
    second = await rig.refresh(first.refresh_token)
    await passes(rig, GRACE_MS)
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token, address="198.51.100.66")
    for token in (first.access_token, second.access_token):
        with pytest.raises(AuthFailed):
            rig.access_tokens.check(token)
    with pytest.raises(AuthFailed):
        await rig.refresh(second.refresh_token)
    assert rig.access_tokens.check(other.access_token).session == other.session
    await rig.refresh(other.refresh_token)
    [entry] = await rig.audited("session.refresh_reused")
    assert (entry.actor, entry.target, entry.address, entry.outcome) == (
        *("stranger", "user:u1", "198.51.100.66", "revoked"),
    )
    assert entry.after == {"id": first.session}
    [(cause,)] = await rig.rows("SELECT DISTINCT cause FROM change_log WHERE doc = 'revocations'")
    assert cause == "revocation"
    # Whoever shows it once more finds nothing left to end.
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    assert len(await rig.audited("session.refresh_reused")) == 1


async def test_an_older_token_of_the_chain_ends_it_too(rig: LoginRig) -> None:
    first = await rig.login()
    tokens = first
    for _ in range(5):
        await passes(rig, 60_000)
        tokens = await rig.refresh(tokens.refresh_token)
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    with pytest.raises(AuthFailed):
        await rig.refresh(tokens.refresh_token)


async def test_fifty_at_once_get_one_successor(rig: LoginRig) -> None:
    first = await rig.login()
    answers = await asyncio.gather(*(rig.refresh(first.refresh_token) for _ in range(50)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert await rig.rows("SELECT count(*) FROM refresh_tokens") == [(2,)]
    assert await in_force(rig)


async def test_fifty_at_once_on_two_nodes_get_one_successor(rig: LoginRig, database_place: Place) -> None:
    first = await rig.login()
    async with await Database.open(database_place.url) as database:
        other = await LoginRig.open(database, rig.clock)
        calls = [node.refresh(first.refresh_token) for _ in range(25) for node in (rig, other)]
        answers = await asyncio.gather(*calls)
        assert len({answer.refresh_token for answer in answers}) == 1
        assert await rig.rows("SELECT count(*) FROM refresh_tokens") == [(2,)]
        [successor] = {answer.refresh_token for answer in answers}
        third = await other.refresh(successor)
        assert (await rig.refresh(successor)).refresh_token == third.refresh_token
        other.close()


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3600, -60, -1, 11, 60, 3600])
async def test_nodes_agree_on_the_grace_whatever_their_clocks_say(rig: LoginRig, seconds: int) -> None:
    first = await rig.login()
    second = await rig.refresh(first.refresh_token)
    other = await LoginRig.open(rig.database, Clock(NOW + 1000 * seconds))
    assert (await other.refresh(first.refresh_token)).refresh_token == second.refresh_token
    await passes(rig, GRACE_MS)
    with pytest.raises(AuthFailed):
        await other.refresh(first.refresh_token)
    assert not await in_force(rig)
    other.close()


@pytest.mark.parametrize("seconds", [1, 30])
async def test_a_database_clock_that_is_set_a_little_keeps_the_grace(rig: LoginRig, seconds: int) -> None:
    first = await rig.login()
    second = await rig.refresh(first.refresh_token)
    await passes(rig, -1000 * seconds)
    assert (await rig.refresh(first.refresh_token)).refresh_token == second.refresh_token


async def test_a_clock_that_goes_back_an_hour_ends_nobody_s_session_and_opens_no_door(rig: LoginRig) -> None:
    first = await rig.login()
    second = await rig.refresh(first.refresh_token)
    await passes(rig, -3_600_000)
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    assert await in_force(rig)
    await rig.refresh(second.refresh_token)


async def test_a_salt_that_was_erased_early_ends_nobody_s_session(rig: LoginRig) -> None:
    first = await rig.login()
    second = await rig.refresh(first.refresh_token)
    await run(rig.database, "UPDATE refresh_tokens SET salt = NULL")
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    assert (await rig.refresh(second.refresh_token)).session == first.session


async def test_after_the_grace_nothing_leads_to_the_successor(rig: LoginRig) -> None:
    first = await rig.login()
    await rig.refresh(first.refresh_token)
    assert (await rig.rows("SELECT count(salt) FROM refresh_tokens")) == [(1,)]
    await prune_logins(rig.database, rig.clock() + 3_600_000)  # the clock of the node that does it does not matter
    assert (await rig.rows("SELECT count(salt) FROM refresh_tokens")) == [(1,)]
    await passes(rig, 120_000)
    await prune_logins(rig.database, rig.clock())
    assert (await rig.rows("SELECT count(salt) FROM refresh_tokens")) == [(0,)]
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    assert not await in_force(rig)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["", "gr_", "x" * 10_000_000, "gr_\ud800", new_refresh_token(b"x" * 32), "gw_" + new_refresh_token(b"y" * 32)[3:]],
)
async def test_what_is_no_token_of_ours(rig: LoginRig, token: str) -> None:
    with pytest.raises(AuthFailed):
        await rig.refresh(token)


NOT_IN_FORCE = {
    "logged out": "UPDATE login_sessions SET revoked_at = 1",
    "ended": f"UPDATE login_sessions SET expires_at = {NOW}",
    "deleted": "DELETE FROM login_sessions",
    "user disabled": "UPDATE users SET status = 'disabled'",
    "user deleted": "DELETE FROM users",
}


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("why", NOT_IN_FORCE)
async def test_a_session_that_is_over_is_over(rig: LoginRig, why: str, used: bool) -> None:
    first = await rig.login()
    if used:
        await rig.refresh(first.refresh_token)
    await run(rig.database, NOT_IN_FORCE[why])
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    assert await rig.audited("session.refresh_reused") == []


async def test_a_user_who_is_enabled_again_goes_on(rig: LoginRig) -> None:
    first = await rig.login()
    await run(rig.database, "UPDATE users SET status = 'disabled'")
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    await run(rig.database, "UPDATE users SET status = 'active'")
    assert (await rig.refresh(first.refresh_token)).session == first.session


# --- faults -----------------------------------------------------------------------------------------------------------


class Unsure(FlakyStore):
    """A server whose answers to writes are lost: `outcomes` says of each whether it was made."""

    def __init__(self, database: Database, *outcomes: bool) -> None:
        super().__init__(database)
        self.outcomes = list(outcomes)

    async def write(self, *statements: Statement) -> Any:
        if not self.outcomes:
            return await super().write(*statements)
        if self.outcomes.pop(0):
            await super().write(*statements)
        raise StoreUncertain("the answer was lost")


@pytest.mark.parametrize("outcomes", [(True,), (False,), (False, True), (False, False)])
async def test_a_write_of_which_nobody_knows_is_looked_up(rig: LoginRig, outcomes: tuple[bool, ...]) -> None:
    first = await rig.login()
    logins = rig.new_logins(database=Unsure(rig.database, *outcomes))
    second = await logins.refresh(first.refresh_token, address=HERE)
    assert (await rig.refresh(first.refresh_token)).refresh_token == second.refresh_token
    assert await rig.rows("SELECT count(*) FROM refresh_tokens") == [(2,)]


async def test_a_server_that_never_answers_uses_no_token_up(rig: LoginRig) -> None:
    first = await rig.login()
    logins = rig.new_logins(database=Unsure(rig.database, *[False] * 10))
    with pytest.raises(Unavailable) as refused:
        await logins.refresh(first.refresh_token, address=HERE)
    assert refused.value.retry_after_s
    await passes(rig, 3_600_000)
    assert (await rig.refresh(first.refresh_token)).session == first.session


async def test_a_database_that_is_away_uses_no_token_up(rig: LoginRig) -> None:
    first = await rig.login()
    store = FlakyStore(rig.database)
    store.fail()
    with pytest.raises(StoreUnavailable):
        await rig.new_logins(database=store).refresh(first.refresh_token, address=HERE)
    await passes(rig, 3_600_000)
    assert (await rig.refresh(first.refresh_token)).session == first.session


async def test_without_a_key_to_sign_with_no_token_is_used_up(rig: LoginRig) -> None:
    """Else the client, who tries again with it, would look like a thief."""
    first = await rig.login()
    issue: Callable[..., Any] = rig.access_tokens.issue

    def fail(*arguments: Any, **others: Any) -> Any:
        raise Unavailable("No key signs.")

    rig.access_tokens.issue = fail  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await rig.refresh(first.refresh_token)
    rig.access_tokens.issue = issue  # type: ignore[method-assign]
    await passes(rig, 3_600_000)
    assert (await rig.refresh(first.refresh_token)).session == first.session


async def test_a_row_that_is_always_changed_by_others_is_unavailable(rig: LoginRig) -> None:
    class Losing(FlakyStore):
        async def write(self, *statements: Statement) -> Any:
            raise NoRowChanged(0)

    first = await rig.login()
    with pytest.raises(Unavailable):
        await rig.new_logins(database=Losing(rig.database)).refresh(first.refresh_token, address=HERE)


# --- any history ------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([0, 0, 3_000, 10_000, 30_000, -5_000, -70_000])),
    min_size=1,
    max_size=25,
)


class Model:
    """What a chain of tokens does by the rules."""

    def __init__(self, first: str) -> None:
        self.chain = [first]
        self.used: dict[int, int] = {}
        self.over = False

    def expected(self, place: int, now: int) -> str:
        """``new``, ``same``, ``refused``; ends the session where that must be."""
        if self.over:
            return "refused"
        if place not in self.used:
            return "new"
        age = now - self.used[place]
        self.over = age >= 10_000
        return "same" if -60_000 <= age < 10_000 else "refused"


async def play(path: Path, steps: list[tuple[int, int]]) -> None:
    async with await Database.open(str(path / "gateway.db")) as database:
        await migrate(database)
        rig = await LoginRig.open(database, Clock())
        await rig.add_user("u1", None)
        first = new_refresh_token(b"1" * 32)
        row = NewSession("s1", "u1", hash_token(first), NOW, NOW + TTL_MS, HERE, "")
        await run(database, "UPDATE users SET password_hash = 'h'")
        await database.write(*begin_session(row, "h"))
        model = Model(first)
        for back, passed in steps:
            await passes(rig, passed)
            place = max(0, len(model.chain) - 1 - back)
            await check(rig, model, place)
        assert await in_force(rig) == (not model.over)
        rig.close()


async def check(rig: LoginRig, model: Model, place: int) -> None:
    expected = model.expected(place, rig.clock())
    if expected == "refused":
        with pytest.raises(AuthFailed):
            await rig.refresh(model.chain[place])
        return
    answer: SessionTokens = await rig.refresh(model.chain[place])
    if expected == "new":
        assert place == len(model.chain) - 1
        model.used[place] = rig.clock()
        model.chain.append(answer.refresh_token)
    assert answer.refresh_token == model.chain[place + 1]


@settings(max_examples=30)
@given(STEPS)
def test_any_history_follows_the_rules(steps: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as path:
        asyncio.run(play(Path(path), steps))
