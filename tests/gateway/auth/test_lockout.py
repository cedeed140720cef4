"""Counting failed logins: who is refused, for how long, and what it costs."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.auth.lockout import REMEMBERED, Attempt, Lockout, account_key, known_key, name_key
from gateway.errors import NoRowChanged, RateLimited, StoreUnavailable, Unavailable
from gateway.store.audit import Entry, list_audit
from gateway.store.database import Database, Row, Statement
from tests.support.flaky_store import FlakyStore
from tests.support.login_rig import CHEAP, Clock
from tests.support.people import add_plan, add_user

HERE, THERE = "192.0.2.7", "192.0.2.8"


def lockout(database: Any, clock: Clock | None = None, **settings: Any) -> Lockout:
    return Lockout(database, msgspec.structs.replace(CHEAP, **settings), clock or Clock())


async def counts(database: Database) -> dict[str, int]:
    found: list[list[Row]] = await database.read(Statement("SELECT counted, failures FROM login_failures"))
    return dict(found[0])


WRONG = Entry("stranger", "session.login_failed", "user:a", HERE, "wrong_password")


async def fails(
    tried: Lockout,
    account: str,
    address: str | None = HERE,
    device: str | None = None,
    instance: str | None = None,
) -> Attempt:
    """An attempt whose password is wrong."""
    attempt = await tried.begin(account, address, device, instance)
    await tried.failed(attempt, WRONG)
    return attempt


async def outcomes(database: Database) -> list[str]:
    """What the trail has, the oldest first."""
    return [entry.outcome for entry in reversed(await list_audit(database))]


async def test_five_failures_lock_an_account_and_time_opens_it(database: Database) -> None:
    clock = Clock()
    tried = lockout(database, clock)
    assert [(await fails(tried, "account:a")).allowed for _ in range(7)] == [True] * 5 + [False] * 2
    assert (await tried.begin("account:b", HERE)).allowed
    clock.pass_s(299.999)
    locked = await tried.begin("account:a", HERE)
    assert not locked.allowed
    assert 0 < locked.wait_s < 0.1
    clock.pass_s(0.001)
    assert (await tried.begin("account:a", HERE)).allowed


async def test_what_did_not_fail_is_not_counted(database: Database) -> None:
    tried = lockout(database)
    await fails(tried, "account:a")
    for _ in range(100):
        assert (await tried.begin("account:a", HERE)).allowed
    assert await counts(database) == {"account:a": 1, f"address:{HERE}": 1, "all": 1}


async def test_the_count_holds_across_nodes_and_restarts(database: Database) -> None:
    attempts = [await fails(lockout(database), "account:a") for _ in range(6)]
    assert [attempt.allowed for attempt in attempts] == [True] * 5 + [False]


async def test_each_failure_is_written_down_once_and_the_lock_once(database: Database) -> None:
    """Of attempts that were let through together, too: each was a guess."""
    tried = lockout(database)
    attempts = [await tried.begin("account:a", HERE) for _ in range(8)]
    await asyncio.gather(*(tried.failed(attempt, WRONG) for attempt in attempts))
    assert await outcomes(database) == ["wrong_password"] * 5 + ["locked"] + ["wrong_password"] * 3
    assert await counts(database) == {"account:a": 8, f"address:{HERE}": 8, "all": 8}
    for _ in range(3):
        assert not (await fails(tried, "account:a")).allowed
    assert await counts(database) == {"account:a": 8, f"address:{HERE}": 8, "all": 8}
    assert len(await outcomes(database)) == 9


async def test_failures_that_were_let_through_do_not_prolong_the_lock(database: Database) -> None:
    clock = Clock()
    tried = lockout(database, clock)
    attempts = [await tried.begin("account:a", HERE) for _ in range(6)]
    for attempt in attempts:
        await tried.failed(attempt, WRONG)
        clock.pass_s(10)
    assert (await tried.begin("account:a", HERE)).wait_s == 280


async def test_a_right_password_is_held_to_the_count_of_its_own_moment(database: Database) -> None:
    await database.write(*add_plan("free"), add_user("a"), add_user("b"))
    clock = Clock()
    tried = lockout(database, clock)
    attempt = await tried.begin("account:a", HERE)
    other = await tried.begin("account:b", HERE)
    for _ in range(4):
        await fails(lockout(database, clock), "account:a")
    await database.write(tried.passed(attempt, "a")[0])
    await fails(lockout(database, clock), "account:a")
    with pytest.raises(NoRowChanged):
        await database.write(*tried.passed(attempt, "a"))
    assert (await counts(database))["account:a"] == 5
    await database.write(*tried.passed(other, "b"))
    clock.pass_s(300)
    await database.write(*tried.passed(attempt, "a"))


async def test_a_right_password_begins_the_own_count_anew_and_no_other(database: Database) -> None:
    await database.write(*add_plan("free"), add_user("a"))
    tried = lockout(database)
    for _ in range(3):
        await fails(tried, "account:a")
        await fails(tried, "account:a", device="d_1")
    await fails(tried, "account:b")
    rest = {"account:b": 1, f"address:{HERE}": 4, "all": 4}
    assert await counts(database) == rest | {"account:a": 3, "device:d_1": 3}
    await database.write(*tried.passed(await tried.begin("account:a", HERE, "d_1"), "a"))
    assert await counts(database) == rest | {"account:a": 3}
    await database.write(*tried.passed(await tried.begin("account:a", HERE), "a"))
    assert await counts(database) == rest


async def test_a_known_browser_has_a_count_of_its_own_which_is_bounded(database: Database) -> None:
    clock = Clock()
    tried = lockout(database, clock)
    for _ in range(6):
        await fails(tried, "account:a")
    attempts = [await fails(tried, "account:a", device="d_1") for _ in range(7)]
    assert [attempt.allowed for attempt in attempts] == [True] * 5 + [False] * 2
    assert await outcomes(database) == (["wrong_password"] * 5 + ["locked"]) * 2
    assert (await tried.begin("account:a", HERE, "d_2")).allowed
    clock.pass_s(299)
    assert (await tried.begin("account:a", HERE, "d_1")).wait_s == 1
    clock.pass_s(1)
    assert (await tried.begin("account:a", HERE, "d_1")).allowed


async def test_a_known_browser_counts_for_nobody_else(database: Database) -> None:
    tried = lockout(database)
    await fails(tried, "account:a")
    await fails(tried, "account:a", device="d_1")
    assert await counts(database) == {"account:a": 1, f"address:{HERE}": 1, "all": 1, "device:d_1": 1}


async def test_a_known_browser_is_let_through_until_it_had_its_number(database: Database) -> None:
    """Then it is a stranger: here, one at an address that may not try."""
    tried = lockout(database, max_address_failures=6)
    for number in range(6):
        await fails(tried, f"account:{number}")
    for _ in range(5):
        assert (await fails(tried, "account:a", device="d_1")).allowed
    before = await counts(database)
    for _ in range(3):
        with pytest.raises(RateLimited):
            await tried.begin("account:a", HERE, "d_1")
    assert not (await fails(tried, "account:a", THERE, "d_1")).allowed
    with pytest.raises(RateLimited):
        await tried.begin("account:a", HERE, "d_1")
    assert await counts(database) == before


async def test_a_known_browser_that_had_its_number_costs_no_look_at_the_database(database: Database) -> None:
    store = FlakyStore(database)
    tried = lockout(store)
    for _ in range(6):
        await fails(tried, "account:a", device="d_1")
    accesses = store.reads
    for _ in range(100):
        assert not (await tried.begin("account:a", HERE, "d_1")).allowed
    assert store.reads == accesses


async def test_an_address_that_failed_too_often_waits_and_locks_no_account_meanwhile(database: Database) -> None:
    clock = Clock()
    tried = lockout(database, clock, max_address_failures=10)
    for number in range(10):
        await fails(tried, f"account:{number}")
    clock.pass_s(100)
    before = await counts(database)
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            await tried.begin("account:victim", HERE)
        assert refused.value.retry_after_s == 200
    assert await counts(database) == before
    assert (await tried.begin("account:victim", THERE)).allowed
    clock.pass_s(200)
    assert (await tried.begin("account:victim", HERE)).allowed


async def test_all_together_have_a_limit(database: Database) -> None:
    clock = Clock()
    tried = lockout(database, clock, max_failures=10)
    for number in range(10):
        await fails(tried, f"account:{number}", f"192.0.2.{number}")
    with pytest.raises(RateLimited) as refused:
        await tried.begin("account:a", "198.51.100.1")
    assert refused.value.retry_after_s == 300
    # Another node finds it out by itself, and another address knows without asking.
    with pytest.raises(RateLimited):
        await lockout(database, clock, max_failures=10).begin("account:a", "198.51.100.2")
    with pytest.raises(RateLimited):
        tried.check("198.51.100.3")
    clock.pass_s(300)
    tried.check("198.51.100.3")
    assert (await tried.begin("account:a", "198.51.100.1")).allowed


async def test_what_an_instance_names_counts_under_the_instance(database: Database) -> None:
    tried = lockout(database, max_address_failures=2)
    for number in range(2):
        await fails(tried, f"account:{number}", instance="i_a")
    assert await counts(database) == {
        **{"account:0": 1, "account:1": 1},
        **{f"instance_address:{HERE} i_a": 2, "instance:i_a": 2},
    }
    with pytest.raises(RateLimited):
        await tried.begin("account:a", HERE, None, "i_a")
    with pytest.raises(RateLimited):
        tried.check(HERE, "i_a")
    assert (await tried.begin("account:a", THERE, None, "i_a")).allowed
    for other in (None, "i_b"):
        tried.check(HERE, other)
        assert (await tried.begin("account:a", HERE, None, other)).allowed


async def test_an_instance_has_a_limit_of_its_own_and_stops_nobody_else(database: Database) -> None:
    """And nobody else stops it."""
    clock = Clock()
    tried = lockout(database, clock, max_failures=10)
    for number in range(10):
        await fails(tried, f"account:{number}", f"192.0.2.{number}", instance="i_a")
    with pytest.raises(RateLimited) as refused:
        await tried.begin("account:a", "198.51.100.1", None, "i_a")
    assert refused.value.retry_after_s == 300
    for other in (None, "i_b"):
        assert (await tried.begin("account:a", "198.51.100.1", None, other)).allowed
    for number in range(10):
        await fails(tried, f"account:{number + 10}", f"192.0.2.{number}")
    with pytest.raises(RateLimited):
        await tried.begin("account:a", "198.51.100.1")
    assert (await tried.begin("account:a", "198.51.100.1", None, "i_b")).allowed


async def test_a_flood_costs_no_look_at_the_database(database: Database) -> None:
    store = FlakyStore(database)
    clock = Clock()
    tried = lockout(store, clock, max_address_failures=1)
    await fails(tried, "account:a")
    with pytest.raises(RateLimited):
        await tried.begin("account:a", HERE)
    accesses = store.reads
    for _ in range(100):
        with pytest.raises(RateLimited):
            tried.check(HERE)
        with pytest.raises(RateLimited):
            await tried.begin("account:a", HERE)
    assert store.reads == accesses
    clock.now -= 3_600_000  # a clock that was an hour ahead
    tried.check(HERE)


async def test_what_is_remembered_is_bounded(database: Database) -> None:
    tried = lockout(database)
    for number in range(REMEMBERED + 10):
        tried._remember(f"address:{number}", 1)
    assert len(tried._refused) == REMEMBERED
    assert "address:9" not in tried._refused


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:DB8:0:0:1::", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "testclient", False),
    ],
)
async def test_what_one_address_is(database: Database, first: str, second: str, same: bool) -> None:
    tried = lockout(database, max_address_failures=1)
    await fails(tried, "account:a", first)
    if same:
        with pytest.raises(RateLimited):
            await tried.begin("account:b", second)
    else:
        assert (await tried.begin("account:b", second)).allowed


async def test_what_no_address_looks_like_makes_no_long_row(database: Database) -> None:
    await fails(lockout(database), "account:a", "x" * 100_000)
    assert max(map(len, await counts(database))) < 100


async def test_without_an_address_the_account_alone_counts(database: Database) -> None:
    tried = lockout(database, max_failures=1)
    for _ in range(3):
        assert (await fails(tried, "password:u1", None)).allowed
    assert await counts(database) == {"password:u1": 3}


async def test_a_database_that_is_away_lets_nobody_try(database: Database) -> None:
    store = FlakyStore(database)
    store.fail()
    with pytest.raises(StoreUnavailable):
        await lockout(store).begin("account:a", HERE)


async def test_one_attempt_at_a_time_for_an_account_and_nothing_stays_behind(database: Database) -> None:
    tried = lockout(database)
    order: list[str] = []

    async def attempt(account: str, name: str) -> None:
        async with tried.alone(account):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    tasks = [asyncio.create_task(attempt("a", name)) for name in ("one", "two", "three")]
    await asyncio.sleep(0)
    await attempt("b", "other")
    assert "other ends" in order
    assert "three begins" not in order
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    a = [event for event in order if not event.startswith("other")]
    assert a == ["one begins", "one ends", "two begins", "two ends"]
    assert tried._alone == {}


async def test_half_of_those_who_may_wait_are_of_one_name_and_all_who_wait_are_bounded(database: Database) -> None:
    tried = lockout(database, argon2_queue=10)
    release = asyncio.Event()
    entered: list[str] = []

    async def attempt(lane: str) -> None:
        async with tried.alone(lane):
            entered.append(lane)
            await release.wait()

    tasks = [asyncio.create_task(attempt("a")) for _ in range(1 + 5)]
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(Unavailable) as refused:
            await attempt("a")
        assert refused.value.retry_after_s == 1
    tasks += [asyncio.create_task(attempt(lane)) for lane in "bbbbbcc"]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):  # four wait here, and ten in all
        await attempt("b")
    tasks.append(asyncio.create_task(attempt("d")))  # who need not wait is not asked
    await asyncio.sleep(0)
    assert entered == ["a", "b", "c", "d"]
    tasks[1].cancel()  # gives the place up
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(attempt("b")))
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered.count("a") == 5
    assert entered.count("b") == 6
    assert (tried._alone, tried._inside) == ({}, 0)


def test_keys_tell_nothing_of_a_name_that_nobody_has() -> None:
    assert (account_key("u1"), known_key("u1")) == ("account:u1", "known:u1")
    assert name_key("my secret password") == name_key("My Secret Password")
    assert "secret" not in name_key("my secret password")
    assert name_key("a") != name_key("b")
