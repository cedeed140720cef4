"""Whether a login that fails tells who has an account: by what is said, by what is done, by its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.auth.logins import FAILURE_FLOOR_S
from gateway.auth.passwords import Passwords
from gateway.errors import AuthFailed, GatewayError
from gateway.store.database import Database, Statement
from tests.support.flaky_store import FlakyStore
from tests.support.login_rig import CHEAP, HERE, PASSWORD, LoginRig, Witness
from tests.support.people import run


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[LoginRig]:
    """With ada, whose id is u1."""
    opened = await LoginRig.open(database)
    await opened.add_user("u1", username="ada", email="ada@example.org")
    yield opened
    opened.close()


class Watched(FlakyStore):
    """Notes the statements of every access."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.statements: list[str] = []

    async def read(self, *statements: Statement) -> Any:
        self.statements += ["read", *(one.sql for one in statements)]
        return await super().read(*statements)

    async def write(self, *statements: Statement) -> Any:
        self.statements += ["write", *(one.sql for one in statements)]
        return await super().write(*statements)


@pytest.fixture
async def crowd(rig: LoginRig) -> LoginRig:
    """With somebody of each kind who can not log in."""
    await rig.add_user("u2", username="locked")
    await rig.add_user("u3", username="disabled", status="disabled")
    await rig.add_user("u4", None, username="without")
    await rig.add_user("u5", username="unusable")
    await run(rig.database, "UPDATE users SET password_hash = '!' WHERE id = 'u5'")
    for _ in range(6):
        await rig.fails("locked")
    return rig


OTHERS = [
    *[(name, "wrong password 1") for name in ("nobody", "locked", "disabled", "without", "unusable")],
    *[(name, "Zoe\u0308 \ufb01ne otters") for name in ("nobody", "locked", "disabled", "without", "unusable")],
    ("locked", PASSWORD),
    ("disabled", PASSWORD),
]


async def failure(rig: LoginRig, name: str, password: str) -> tuple[Any, ...]:
    """What is said, with the hashing and the waiting before it; and the accesses to the database."""
    passwords, store = Witness(CHEAP), Watched(rig.database)
    rig.lockout._database = store  # type: ignore[assignment]
    rig.slept.clear()
    with pytest.raises(AuthFailed) as failed:
        await rig.new_logins(passwords, store).login(name, password, address=HERE)
    passwords.close()
    error: GatewayError = failed.value
    said = (error.code, error.status, error.message, error.retry_after_s, dict(error.details))
    return (said, passwords.work, list(rig.slept)), store.statements


@pytest.mark.parametrize(("name", "password"), OTHERS)
async def test_no_failure_can_be_told_from_another(crowd: LoginRig, name: str, password: str) -> None:
    """The same sentence, the same accesses to the database, the same hashing, held back until the same moment. But for
    the trail, which has the beginning of a lock and no more while it lasts, for names that nobody has too."""
    wrong, accesses = await failure(crowd, "ada", password if password != PASSWORD else "wrong password 1")
    assert (len(wrong[1]), wrong[2]) == (1, [FAILURE_FLOOR_S])
    write = accesses.index("write")
    assert ["INTO audit" in access for access in accesses[write + 1 :]] == [False, False, True, True]
    assert not any("INTO" in access for access in accesses[:write])
    same = accesses[:write] if name == "locked" else accesses
    assert await failure(crowd, name, password) == (wrong, same)


class Costly(Passwords):
    """As if stored hashes took some time, and what matches nobody's none."""

    def __init__(self, config: Any) -> None:
        self.seconds = self.passed = 0.0
        super().__init__(config, timer=lambda: self.passed)

    async def _run(self, work: Any) -> Any:
        def slow() -> Any:
            timer, moments = self._timer, iter([0.0, self.seconds])
            self._timer = lambda: next(moments, 0.0)
            try:
                return work()
            finally:
                self._timer = timer

        return await super()._run(slow)


@pytest.mark.parametrize(("cost_s", "floor_s"), [(0.05, 0.3), (0.9, 1.1), (1.5, 1.7), (60.0, 2.0)])
async def test_every_failure_waits_as_long_as_the_costliest_hash_takes(
    rig: LoginRig, cost_s: float, floor_s: float
) -> None:
    """Whoever is named next: nobody, somebody with a cheap hash, or a text that can be no password."""
    await rig.add_user("u2", username="bob")
    passwords = Costly(rig.config)
    logins = rig.new_logins(passwords)
    passwords.seconds = cost_s
    for name, password in (("ada", "wrong password 1"), ("nobody", "wrong password 1"), ("bob", "wrong password 1")):
        with pytest.raises(AuthFailed):
            await logins.login(name, password, address=HERE)
        passwords.seconds = 0.001
    assert rig.slept == [pytest.approx(floor_s)] * 3
    passwords.close()


async def test_a_right_password_of_a_costly_hash_makes_failures_wait_too(rig: LoginRig) -> None:
    passwords = Costly(rig.config)
    logins = rig.new_logins(passwords)
    passwords.seconds = 0.9
    assert (await logins.login("ada", PASSWORD, address=HERE)).user.id == "u1"
    assert rig.slept == []
    for name in ("nobody", "ada"):
        passwords.seconds = 0.001
        with pytest.raises(AuthFailed):
            await logins.login(name, "wrong password 1", address=HERE)
    assert rig.slept == [pytest.approx(1.1)] * 2
    passwords.close()


async def test_a_password_that_is_tried_in_two_spellings_waits_for_both(rig: LoginRig) -> None:
    passwords = Costly(rig.config)
    logins = rig.new_logins(passwords)
    passwords.seconds = 2 * 0.9
    for name in ("ada", "nobody"):
        with pytest.raises(AuthFailed):
            await logins.login(name, "Zoe\u0308 \ufb01ne otters", address=HERE)
    assert rig.slept == [pytest.approx(0.2 + 2 * 0.9)] * 2
    passwords.close()
