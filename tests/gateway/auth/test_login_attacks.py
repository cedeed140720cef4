"""What people try at the door, each with its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.auth.lockout import name_key
from gateway.auth.logins import FAILURE_FLOOR_S
from gateway.errors import AuthFailed, GatewayError, RateLimited, Unavailable
from gateway.store.database import Database, Statement
from tests.support.flaky_store import FlakyStore
from tests.support.login_rig import HERE, PASSWORD, LoginRig, Witness
from tests.support.waiting import eventually


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[LoginRig]:
    """With ada, whose id is u1."""
    opened = await LoginRig.open(database)
    await opened.add_user("u1", username="ada", email="ada@example.org")
    yield opened
    opened.close()


# --- guessing ---------------------------------------------------------------------------------------------------------


async def test_the_sixth_attempt_is_refused_even_with_the_right_password(rig: LoginRig) -> None:
    for _ in range(5):
        await rig.fails()
    await rig.fails(password=PASSWORD)
    rig.clock.pass_s(299)
    await rig.fails(password=PASSWORD)
    rig.clock.pass_s(1)
    await rig.login()


async def test_attempts_while_locked_do_not_prolong_the_lock(rig: LoginRig) -> None:
    for _ in range(5):
        await rig.fails()
    for _ in range(29):
        rig.clock.pass_s(10)
        await rig.fails()
    rig.clock.pass_s(10)
    await rig.login()


async def test_guesses_at_once_are_no_more_guesses(rig: LoginRig) -> None:
    guesses = [rig.login(password=f"wrong password {number}") for number in range(8)]
    outcomes = await asyncio.gather(*guesses, rig.login(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [AuthFailed] * 9
    assert (await rig.counts())["account:u1"] == 5
    outcome = [entry.outcome for entry in await rig.audited("session.login_failed")]
    assert (outcome.count("wrong_password"), outcome.count("locked")) == (5, 1)


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_attempts_at_once_on_one_name_leave_room_for_others(rig: LoginRig, name: str) -> None:
    """Whether somebody has it or not; the others are asked to come back, before anything is counted."""
    await rig.add_user("u2", username="bob")
    attempts = [asyncio.create_task(rig.login(name, "wrong password 1")) for _ in range(200)]
    await asyncio.sleep(0)
    assert rig.passwords.waiting + rig.passwords.running <= 1
    assert (await rig.login("bob")).user.id == "u2"
    outcomes = [type(outcome) for outcome in await asyncio.gather(*attempts, return_exceptions=True)]
    waited = rig.config.argon2_queue // 2
    assert (outcomes.count(AuthFailed), outcomes.count(Unavailable)) == (1 + waited, 199 - waited)


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_who_has_to_wait_learns_nothing_of_who_has_an_account(rig: LoginRig, name: str) -> None:
    """The two names of an account are not one to those who wait, as those of nobody are not."""
    other = f"{name}@example.org"
    attempts = [rig.login(one, "wrong password 1") for _ in range(9) for one in (name, other)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {AuthFailed}


async def test_a_known_browser_that_fails_a_thousand_times_stops_nobody_else(database: Database) -> None:
    rig = await LoginRig.open(database, max_address_failures=40, max_failures=40)
    for user, name in (("u1", "ada"), ("u2", "eve")):
        await rig.add_user(user, username=name)
    known = (await rig.login("eve")).device
    passwords = Witness(rig.config)
    logins = rig.new_logins(passwords)
    before = database.counts.operations
    for _ in range(1000):
        with pytest.raises(AuthFailed):
            await logins.login("eve", "wrong password 1", address=HERE, device=known)
    assert {key: count for key, count in (await rig.counts()).items() if not key.startswith("device:")} == {}
    assert len(passwords.work) == 5
    assert database.counts.operations - before == 5  # a failure each
    assert len(await rig.audited("session.login_failed")) == 6
    assert (await rig.login("ada")).user.id == "u1"
    assert (await rig.login("eve")).user.id == "u2"
    passwords.close()
    rig.close()


async def all_log_in(nodes: list[LoginRig], times: int) -> None:
    tokens = await asyncio.gather(*(node.login() for _ in range(times) for node in nodes))
    assert len({one.session for one in tokens}) == times * len(nodes)
    assert await nodes[0].rows("SELECT * FROM login_failures") == []
    assert await nodes[0].audited("session.login_failed") == []
    for node in nodes:
        assert node.lockout._alone == {}
        node.close()


async def test_the_owner_who_logs_in_on_thirty_devices_at_once_gets_in_on_all(rig: LoginRig) -> None:
    await all_log_in([rig], 30)


async def test_the_owner_who_logs_in_at_four_nodes_at_once_gets_in_at_all(rig: LoginRig, database: Database) -> None:
    await all_log_in([rig, *[await LoginRig.open(database) for _ in range(3)]], 10)


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_right_password_begins_the_count_anew(rig: LoginRig, is_known: bool) -> None:
    """Of the account, or of the browser that is known; who mistypes now and then is not locked out in the end."""
    device = (await rig.login()).device if is_known else None
    for _ in range(3):
        for _ in range(4):
            await rig.fails(device=device)
        await rig.login(device=device)
        assert {key for key in await rig.counts() if not key.startswith("address:")} <= {"all"}
    for _ in range(5):
        await rig.fails(device=device)
    await rig.fails(password=PASSWORD, device=device)


async def test_a_right_password_forgives_an_address_nothing(database: Database) -> None:
    rig = await LoginRig.open(database, max_address_failures=6)
    await rig.add_user("u1", username="ada")
    for _ in range(3):
        await rig.fails()
    await rig.login()
    for _ in range(3):
        await rig.fails()
    with pytest.raises(RateLimited):
        await rig.login()
    rig.close()


async def test_five_wrong_and_a_right_one_at_once_lock_or_let_in_and_a_lock_stays(database: Database) -> None:
    """Each at a node of its own: what failed before the right one is forgotten, unless that made five."""
    nodes = [await LoginRig.open(database) for _ in range(6)]
    for right in range(6):
        user = f"u{right}"
        await nodes[0].add_user(user, username=user)
        passwords = [PASSWORD if place == right else f"wrong password {place}" for place in range(6)]
        tried = [node.login(user, password) for node, password in zip(nodes, passwords, strict=True)]
        outcomes = await asyncio.gather(*tried, return_exceptions=True)
        newest_first = [(row.action, row.outcome) for row in await nodes[0].audited() if row.target == f"user:{user}"]
        login, wrong = ("session.login", "ok"), ("session.login_failed", "wrong_password")
        assert (login in newest_first) is not isinstance(outcomes[right], AuthFailed)
        since = newest_first[: newest_first.index(login)] if login in newest_first else newest_first
        assert newest_first.count(wrong) == 5
        assert (await nodes[0].counts()).get(f"account:{user}", 0) == since.count(wrong)
        if since.count(wrong) == 5:
            await nodes[0].fails(user, PASSWORD)
    for node in nodes:
        node.close()


class Overtaken(FlakyStore):
    """Guesses of somebody else fail before the first write, all at another node."""

    def __init__(self, database: Database, other: LoginRig, guesses: int = 5) -> None:
        super().__init__(database)
        self._other: LoginRig | None = other
        self._guesses = guesses

    async def write(self, *statements: Statement) -> Any:
        other, self._other = self._other, None
        if other is not None:
            for _ in range(self._guesses):
                await other.fails(address="198.51.100.9")
        return await super().write(*statements)


async def test_a_right_guess_opens_nothing_once_five_have_failed(rig: LoginRig, database: Database) -> None:
    """Though it was let through before, and looked at."""
    wrong = await rig.fails("nobody")
    logins = rig.new_logins(database=Overtaken(database, await LoginRig.open(database)))
    with pytest.raises(AuthFailed) as failed:
        await logins.login("ada", PASSWORD, address=HERE)
    assert failed.value.message == wrong
    assert await rig.rows("SELECT 1 FROM login_sessions") == []
    assert (await rig.counts())["account:u1"] == 5
    assert len(await rig.audited("session.login_failed")) == 1 + 5 + 1
    assert rig.slept == [FAILURE_FLOOR_S] * 2


async def test_what_failed_while_a_right_password_was_looked_at_is_forgotten(rig: LoginRig, database: Database) -> None:
    other = await LoginRig.open(database)
    await rig.new_logins(database=Overtaken(database, other, guesses=4)).login("ada", PASSWORD, address=HERE)
    assert "account:u1" not in await rig.counts()
    other.close()


async def test_guesses_at_once_at_many_nodes_gain_one_for_each(database: Database) -> None:
    """And nothing at all once five are counted."""
    nodes = [await LoginRig.open(database) for _ in range(4)]
    await nodes[0].add_user("u1", username="ada")
    guesses = [node.login(password=f"wrong password {n}") for n in range(8) for node in nodes]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {AuthFailed}
    assert 5 <= (await nodes[0].counts())["account:u1"] <= 5 + 3
    written = [entry.outcome for entry in await nodes[0].audited("session.login_failed")]
    assert written.count("locked") == 1
    assert written.count("wrong_password") == (await nodes[0].counts())["account:u1"]
    for node in nodes:
        await node.fails(password=PASSWORD)
        node.close()


async def test_a_known_browser_does_not_wait_behind_strangers(rig: LoginRig) -> None:
    known = (await rig.login()).device
    async with rig.lockout.alone(name_key("ada")):
        stranger = asyncio.create_task(rig.login())
        assert (await rig.login(device=known)).user.id == "u1"
        assert not stranger.done()
    await stranger


async def test_many_who_log_in_at_once_behind_one_address_are_no_attack(database: Database) -> None:
    """Who did not fail counts for nothing."""
    rig = await LoginRig.open(database, max_address_failures=5)
    for number in range(40):
        await rig.add_user(f"u{number}")
    tokens = await asyncio.gather(*(rig.login(f"u{number}") for number in range(40)))
    assert {one.user.id for one in tokens} == {f"u{number}" for number in range(40)}
    rig.close()


async def test_a_guess_whose_caller_is_gone_is_counted(rig: LoginRig) -> None:
    """Once its password was looked at."""
    turn = rig.passwords.turn
    async with turn(), turn(), turn(), turn():
        guess = asyncio.create_task(rig.login(password="wrong password 1"))
        await eventually(lambda: rig.passwords.waiting == 5)
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)
    assert await rig.counts() == {}  # it had not begun
    entered, go, made = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(FlakyStore):
        async def write(self, *statements: Statement) -> Any:
            entered.set()
            await go.wait()
            written = await super().write(*statements)
            made.set()
            return written

    rig.lockout._database = Slow(rig.database)  # type: ignore[assignment]
    guess = asyncio.create_task(rig.login(password="wrong password 1"))
    await entered.wait()
    guess.cancel()
    await asyncio.gather(guess, return_exceptions=True)
    go.set()
    await asyncio.wait_for(made.wait(), 10)
    assert (await rig.counts())["account:u1"] == 1


# --- spraying ---------------------------------------------------------------------------------------------------------


async def test_one_password_over_many_accounts_from_one_address_is_stopped(database: Database) -> None:
    rig = await LoginRig.open(database, max_address_failures=10)
    for number in range(30):
        await rig.add_user(f"u{number}")
    outcomes = []
    for number in range(30):
        try:
            await rig.login(f"u{number}", "Summer2026!Summer")
        except GatewayError as error:
            outcomes.append(type(error))
    assert outcomes == [AuthFailed] * 10 + [RateLimited] * 20
    assert len(await rig.counts()) == 10 + 2
    with pytest.raises(RateLimited) as refused:
        await rig.login("u20")
    assert refused.value.retry_after_s == 300
    assert (await rig.login("u20", address="192.0.2.99")).user.id == "u20"
    rig.close()


async def test_one_password_over_many_accounts_from_many_addresses_is_stopped(database: Database) -> None:
    rig = await LoginRig.open(database, max_failures=10)
    for number in range(20):
        await rig.add_user(f"u{number}")
    known = (await rig.login("u0")).device
    for number in range(10):
        await rig.fails(f"u{number}", "Summer2026!Summer", address=f"198.51.100.{number}")
    with pytest.raises(RateLimited):
        await rig.login("u15", address="203.0.113.5")
    # Who signed in before in this browser still can.
    assert (await rig.login("u0", address="203.0.113.5", device=known)).user.id == "u0"
    rig.clock.pass_s(300)
    await rig.login("u15", address="203.0.113.5")
    rig.close()


async def test_names_that_nobody_has_are_limited_all_the_same(database: Database) -> None:
    rig = await LoginRig.open(database, max_address_failures=10)
    for number in range(10):
        await rig.fails(f"nobody{number}")
    with pytest.raises(RateLimited):
        await rig.login("nobody10")
    rig.close()


# --- floods -----------------------------------------------------------------------------------------------------------


async def test_five_hundred_logins_at_once(database: Database) -> None:
    """As many are hashed at once as there are workers, a hundred wait for that, a hundred for another of their own
    user, the others are asked to come back; the event loop answers everybody else meanwhile."""
    rig = await LoginRig.open(database, argon2_workers=2, argon2_queue=100, max_address_failures=100_000)
    for number in range(100):
        await rig.add_user(f"u{number}")
    most_running = most_waiting = 0
    longest, before = 0.0, time.perf_counter()
    logins = [asyncio.create_task(rig.login(f"u{number % 100}")) for number in range(500)]
    while not all(task.done() for task in logins):
        most_running = max(most_running, rig.passwords.running)
        most_waiting = max(most_waiting, rig.passwords.waiting)
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    outcomes = [task.exception() for task in logins]
    refused = [error for error in outcomes if error is not None]
    assert len(refused) == 500 - 100 - 100
    for error in refused:
        assert isinstance(error, Unavailable)
        assert error.retry_after_s is not None
        assert error.retry_after_s >= 1
    assert 0 < most_running <= 2
    assert most_waiting <= 102
    assert longest < 2.0
    assert await rig.counts() == {}
    rig.close()


async def test_a_flood_of_refused_logins_hashes_nothing(database: Database) -> None:
    rig = await LoginRig.open(database, max_address_failures=1)
    await rig.add_user("u1")
    await rig.fails("u1")
    before = database.counts.operations
    passwords = Witness(rig.config)
    logins = rig.new_logins(passwords)
    for _ in range(50):
        with pytest.raises(RateLimited):
            await logins.login("u1", PASSWORD, address=HERE)
    assert passwords.work == []
    assert database.counts.operations == before
    passwords.close()
    rig.close()
