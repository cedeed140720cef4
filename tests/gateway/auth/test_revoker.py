"""The one way to revoke: what it writes, what it leaves, and that this process refuses the credential afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.auth.revoker import (
    IssuedBefore,
    OtherSessions,
    Revoker,
    SessionEnded,
    Target,
    TokenRevoked,
    UserDeleted,
    UserDisabled,
)
from gateway.auth.void_logins import VoidLogins
from gateway.errors import NoRowChanged, NotFound
from gateway.store import revocation
from gateway.store.audit import Entry, Lookup
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database, Statement, Written
from tests.support.people import add_plan, add_token, add_user, insert, run

NOW = 1_795_288_200_000
HOUR = 3_600_000
SESSIONS = {"s_ada1": "ada", "s_ada2": "ada", "s_ada3": "ada", "s_bob": "bob"}


class Rig:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.revocations = VoidLogins(lambda: NOW, 900)
        self.revoker = Revoker(database, self.revocations, lambda: NOW)

    async def revoked(self) -> set[str]:
        """The ids of what is revoked or gone, by the table of revocations."""
        return {row[0] for row in await self.rows("SELECT id FROM revocations")}

    def void(self) -> set[str]:
        """The sessions that this process knows as void."""
        return {session for session, user in SESSIONS.items() if self.revocations.void(user, session)}

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return (await self.database.read(Statement(sql)))[0]


@pytest.fixture
async def rig(database: Database) -> Rig:
    await database.write(
        *add_plan("free"),
        add_user("ada"),
        add_user("bob"),
        add_token("ada", "one", id="t_ada", created_at=NOW - HOUR),
        add_token("bob", "two", id="t_bob", created_at=NOW - HOUR),
        *(
            insert(
                "login_sessions",
                id=session,
                user_id=user,
                created_at=NOW - HOUR,
                expires_at=NOW + HOUR,
                instance_id="web" if session == "s_ada2" else None,
            )
            for session, user in SESSIONS.items()
        ),
    )
    return Rig(database)


TARGETS = [
    (SessionEnded("s_ada1"), {"s_ada1"}, {"s_ada1"}),
    (SessionEnded("s_ada1", "ada"), {"s_ada1"}, {"s_ada1"}),
    (OtherSessions("ada", "s_ada2"), {"s_ada1", "s_ada3"}, {"s_ada1", "s_ada3"}),
    (OtherSessions("ada", None), {"s_ada1", "s_ada2", "s_ada3"}, {"s_ada1", "s_ada2", "s_ada3"}),
    (TokenRevoked("t_ada"), {"t_ada"}, set()),
    (TokenRevoked("t_ada", "ada"), {"t_ada"}, set()),
    (UserDisabled("ada"), set(), {"s_ada1", "s_ada2", "s_ada3"}),
    (UserDeleted("ada"), {"s_ada1", "s_ada2", "s_ada3", "t_ada"}, {"s_ada1", "s_ada2", "s_ada3"}),
    (IssuedBefore(NOW), {*SESSIONS, "t_ada", "t_bob"}, set(SESSIONS)),
    (IssuedBefore(NOW - HOUR), set(), set()),
    (IssuedBefore(NOW - HOUR + 1, user="bob"), {"s_bob", "t_bob"}, {"s_bob"}),
    (IssuedBefore(None, user="bob"), {"s_bob", "t_bob"}, {"s_bob"}),
    (IssuedBefore(NOW, instance="web"), {"s_ada2"}, {"s_ada2"}),
    (IssuedBefore(NOW, user="bob", instance="web"), set(), set()),
]


@pytest.mark.parametrize(
    ("target", "revoked", "void"),
    TARGETS,
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:60],
)
async def test_what_each_target_revokes_and_nothing_else(
    rig: Rig, target: Target | IssuedBefore, revoked: set[str], void: set[str]
) -> None:
    entry = Entry("user:root", "session.revoke", "user:ada", "192.0.2.1")
    done = await rig.revoker.revoke(
        target, Statement("UPDATE users SET name = 'changed' WHERE id = 'bob'"), entry=entry
    )
    assert await rig.revoked() == revoked
    assert rig.void() == void
    assert done.seq == await last_seq(rig.database)
    assert done.count == (1 if isinstance(target, UserDisabled | UserDeleted) else len(revoked))
    assert await rig.rows("SELECT name FROM users WHERE id = 'bob'") == [("changed",)]
    assert await rig.rows("SELECT at, actor, action FROM audit") == [(NOW, "user:root", "session.revoke")]


@pytest.mark.parametrize(
    "target",
    [
        SessionEnded("s_nobody"),
        SessionEnded("s_ada1", "bob"),
        TokenRevoked("t_nobody"),
        TokenRevoked("t_ada", "bob"),
        UserDisabled("nobody"),
        UserDeleted("nobody"),
        IssuedBefore(NOW, user="nobody"),
    ],
    ids=str,
)
async def test_what_is_not_there_or_somebody_elses_is_not_found_and_nothing_is_written(
    rig: Rig, target: Target | IssuedBefore
) -> None:
    before = await last_seq(rig.database)
    other = Statement("UPDATE users SET name = 'changed' WHERE id = 'bob'", must_change=True)
    with pytest.raises(NotFound):
        await rig.revoker.revoke(target, other, entry=Entry("gateway", "session.revoke", "user:ada"))
    assert await last_seq(rig.database) == before
    assert await rig.rows("SELECT * FROM audit") == []
    assert rig.void() == set()


@pytest.mark.parametrize("target", [SessionEnded("s_ada1"), IssuedBefore(NOW)], ids=str)
async def test_another_statement_that_changes_nothing_undoes_all(rig: Rig, target: Target | IssuedBefore) -> None:
    others = [Statement("UPDATE users SET name = name"), Statement("DELETE FROM roles", must_change=True)]
    with pytest.raises(NoRowChanged) as caught:
        await rig.revoker.revoke(target, *others, entry=Entry("gateway", "session.revoke", "user:ada"))
    assert caught.value.index == 1
    assert await rig.revoked() == set()
    assert rig.void() == set()


async def test_what_was_revoked_keeps_its_moment_and_is_logged_once(rig: Rig) -> None:
    await run(rig.database, "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_ada1'")
    before = await last_seq(rig.database)
    assert (await rig.revoker.revoke(SessionEnded("s_ada1"))).seq == before
    assert await rig.rows("SELECT revoked_at FROM login_sessions WHERE id = 's_ada1'") == [(5,)]
    assert rig.void() == {"s_ada1"}
    seq = (await rig.revoker.revoke(TokenRevoked("t_ada"))).seq
    assert {(change.doc, change.cause) for change in await read_changes(rig.database, before)} == {
        ("user:ada", "revocation"),
        ("revocations", "revocation"),
    }
    assert (await rig.revoker.revoke(TokenRevoked("t_ada"))).seq == seq


async def test_the_entry_finds_the_state_before(rig: Rig) -> None:
    before = Lookup("SELECT json_object('status', status) FROM users WHERE id = ?", ("ada",))
    entry = Entry("user:root", "user.update", "user:ada", before=before, after={"status": "disabled"})
    await rig.revoker.revoke(UserDisabled("ada"), entry=entry)
    assert await rig.rows("SELECT before ->> 'status', after ->> 'status' FROM audit") == [("active", "disabled")]


async def test_without_a_set_it_only_writes(rig: Rig) -> None:
    assert (await Revoker(rig.database, None, lambda: NOW).revoke(SessionEnded("s_bob"))).count == 1
    assert await rig.revoked() == {"s_bob"}


class Watched:
    """A database whose writes are looked at."""

    def __init__(self, database: Database, between: Callable[[], Awaitable[object]]) -> None:
        self._database = database
        self._between = between
        self.written: list[list[int]] = []

    async def write(self, *statements: Statement) -> Written:
        written = await self._database.write(*statements)
        self.written.append([len(rows) for rows in written.rows])
        await self._between()
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


async def test_everything_before_a_moment_goes_in_groups_between_which_others_write(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "GROUP", 10)
    monkeypatch.setattr(revocation, "_PAGE", 7)
    old, new = NOW - HOUR, NOW + 1
    await rig.database.write(
        *(
            insert("login_sessions", id=f"s{n}", user_id="ada", created_at=new if n % 3 else old, expires_at=NOW + HOUR)
            for n in range(100)
        ),
        *(add_token("bob", f"text {n}", id=f"t{n}", created_at=old) for n in range(25)),
    )
    others: list[int] = []

    async def between() -> None:
        others.append(await run(rig.database, "UPDATE users SET name = name || 'x' WHERE id = 'bob'"))

    watched = Watched(rig.database, between)
    revoker = Revoker(watched, rig.revocations, lambda: NOW)
    done = await revoker.revoke(IssuedBefore(NOW), entry=Entry("user:root", "revoke.before", "user:root"))
    assert done.count == 4 + 34 + 2 + 25
    assert len(watched.written) > 5
    assert all(sum(counts) <= 20 for counts in watched.written)
    assert done.seq == others[-1] - 1
    assert await rig.rows("SELECT count(*) FROM login_sessions WHERE revoked_at IS NULL") == [(66,)]
    assert await rig.rows("SELECT count(*) FROM api_tokens WHERE revoked_at IS NULL") == [(0,)]
    assert await rig.rows("SELECT count(*) FROM audit") == [(1,)]
    assert rig.revocations.void("ada", "s0")
    assert not rig.revocations.void("ada", "s1")


async def test_many_revoke_the_same_at_once(rig: Rig) -> None:
    revoke = rig.revoker.revoke
    await asyncio.gather(*(revoke(SessionEnded("s_ada1")) for _ in range(20)), revoke(OtherSessions("ada", None)))
    assert rig.void() == {"s_ada1", "s_ada2", "s_ada3"}
    assert await rig.rows("SELECT count(*) FROM change_log WHERE doc = 'revocations'") == [(3,)]
