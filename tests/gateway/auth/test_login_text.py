"""Names and passwords that nobody should type, at the door."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.auth.logins import FAILURE_FLOOR_S
from gateway.auth.passwords import Passwords
from gateway.errors import AuthFailed
from gateway.store.database import Database
from tests.support.login_rig import HERE, PASSWORD, LoginRig


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[LoginRig]:
    """With ada, whose id is u1."""
    opened = await LoginRig.open(database)
    await opened.add_user("u1", username="ada", email="ada@example.org")
    yield opened
    opened.close()


class Witness(Passwords):
    """Counts the pieces of work on the threads."""

    work = 0

    async def _run(self, work: Any) -> Any:
        self.work += 1
        return await super()._run(work)


NO_PASSWORD = {
    "empty": "",
    "10 MB": "x" * 10_000_000,
    "10 MB that grow": "\ufdfa" * 10_000_000,
    "NUL": PASSWORD + "\0",
    "NUL and more": PASSWORD + "\0x",
    "lone surrogate": PASSWORD + "\ud800",
    "too long by NFKC": "\ufdfa" * 100,
}


@pytest.mark.parametrize("what", NO_PASSWORD)
async def test_what_can_be_no_password_is_a_wrong_one_and_costs_nothing(rig: LoginRig, what: str) -> None:
    wrong = await rig.fails()
    before, started = await rig.counts(), time.perf_counter()
    passwords = Witness(rig.config, timer=lambda: 0.0)
    for identifier in ("ada", "nobody"):
        with pytest.raises(AuthFailed) as failed:
            await rig.new_logins(passwords).login(identifier, NO_PASSWORD[what], address=HERE)
        assert failed.value.message == wrong
    assert rig.slept == [FAILURE_FLOOR_S] * 3
    assert passwords.work == 0
    assert await rig.counts() == before
    assert time.perf_counter() - started < 5
    passwords.close()


NO_NAME = ["", "x" * 255, "x" * 10_000_000, "ada\0", "ada\ud800", "\ufdfa" * 100]
ODD_NAMES = ["ada' OR '1'='1", "ada\n", " ada", "%", "ada\u200b", "u1", "\U000e0001ada", "🦦"]


@pytest.mark.parametrize("identifier", [*NO_NAME, *ODD_NAMES])
async def test_a_name_with_odd_characters_is_nobody_s(rig: LoginRig, identifier: str) -> None:
    assert await rig.fails(identifier, PASSWORD) == await rig.fails("nobody")
    assert rig.slept == [FAILURE_FLOOR_S] * 2


async def test_two_spellings_of_a_password_and_of_a_name_log_in_the_same(rig: LoginRig) -> None:
    await rig.add_user("u2", "Zo\u00eb fine otters ok", username="zo\u00eb")
    for name in ("zo\u00eb", "zoe\u0308"):
        for password in ("Zo\u00eb fine otters ok", "Zoe\u0308 \ufb01ne otters ok"):
            assert (await rig.login(name, password)).user.id == "u2"
    await rig.fails("zoe", "Zo\u00eb fine otters ok")


async def test_a_password_is_not_cut(rig: LoginRig) -> None:
    long = "a lamp " * 140
    await rig.add_user("u2", long, username="long")
    await rig.login("long", long)
    await rig.fails("long", long[:-1])
    await rig.fails("long", long[:72])


async def test_the_words_that_mark_a_stored_hash_are_no_password(rig: LoginRig) -> None:
    [[stored]] = await rig.rows("SELECT password_hash FROM users")
    await rig.fails(password=stored)
