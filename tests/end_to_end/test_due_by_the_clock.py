"""What changes by the clock is sent when it is due although nobody writes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.end_to_end.conftest import Connect
from tests.support.client import Client
from tests.support.foreign_writer import ForeignWriter
from tests.support.oracle import user_document
from tests.support.seed import Person, Seed, now_ms
from tests.support.waiting import eventually

AHEAD_MS = 1200
LATE_MS = 1000


class Case(NamedTuple):
    """Rows with a date (`at`) ahead, and what holds before and after it."""

    write: Callable[[Seed, Person, int], None]
    before: Callable[[dict[str, Any]], object]
    after: Callable[[dict[str, Any]], object]


def _role(seed: Seed, person: Person, at: int) -> None:
    seed.insert("user_roles", user_id=person.id, role=seed.role(["can_sing"]), expires_at=at)


CASES = {
    "a grant ends": Case(
        lambda s, p, at: s.insert("user_permissions", user_id=p.id, permission="can_fly", expires_at=at),
        lambda d: d["permissions"].get("can_fly"),
        lambda d: "can_fly" not in d["permissions"],
    ),
    "a grant begins": Case(
        lambda s, p, at: s.insert("user_permissions", user_id=p.id, permission="can_fly", starts_at=at),
        lambda d: "can_fly" not in d["permissions"],
        lambda d: d["permissions"].get("can_fly"),
    ),
    "a denial ends": Case(
        lambda s, p, at: s.insert(
            "user_permissions", user_id=p.id, permission="can_use_voice", effect="deny", expires_at=at
        ),
        lambda d: "can_use_voice" not in d["permissions"],
        lambda d: d["permissions"].get("can_use_voice"),
    ),
    "a role ends": Case(
        _role, lambda d: d["permissions"].get("can_sing"), lambda d: "can_sing" not in d["permissions"]
    ),
    "an override ends": Case(
        lambda s, p, at: s.insert("user_quotas", user_id=p.id, quota="minutes", limit_value=1, expires_at=at),
        lambda d: d["quotas"]["minutes"]["limit"] == 1,
        lambda d: d["quotas"]["minutes"]["limit"] == 500,
    ),
    "an override begins": Case(
        lambda s, p, at: s.insert("user_quotas", user_id=p.id, quota="stamps", limit_value=9, starts_at=at),
        lambda d: "stamps" not in d["quotas"],
        lambda d: d["quotas"]["stamps"]["limit"] == 9,
    ),
}


async def test_what_is_due_comes_at_its_time_and_says_clock(
    seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    plan = seed.plan(["can_use_voice"], {"minutes": (500, "month")})
    people = dict(zip(CASES, seed.people(len(CASES), plan), strict=True))
    clients = {name: await connect(person.token) for name, person in people.items()}
    at = now_ms() + AHEAD_MS
    for name, case in CASES.items():
        case.write(seed, people[name], at)
    for name, client in clients.items():
        await client.until(lambda client=client, name=name: client.data and CASES[name].before(client.data))
        await client.barrier()
    assert now_ms() < at
    last_seq = seed.last_seq()
    marks = {name: client.mark() for name, client in clients.items()}
    for name, client in clients.items():
        update = await client.message("update", since=marks[name])
        assert 0 <= now_ms() - at < LATE_MS, name
        assert update["causes"] == ["clock"], name
        assert CASES[name].after(client.data), name
        assert client.held[:2] == user_document(foreign, people[name].id)[:2], name
    assert seed.last_seq() == last_seq, "nobody wrote"


async def test_a_date_that_is_moved_counts_where_it_is_now(
    seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    seed.insert("user_permissions", user_id=person.id, permission="can_fly", expires_at=now_ms() + 500)
    await client.until(lambda: client.data.get("permissions"))
    later = now_ms() + 2000
    foreign.execute("UPDATE user_permissions SET expires_at = ? WHERE user_id = ?", later, person.id)
    await client.until(lambda: not client.data["permissions"])
    assert 0 <= now_ms() - later < LATE_MS


async def test_everybody_on_a_shared_date_is_told(seed: Seed, connect: Connect) -> None:
    people = seed.people(20)
    at = now_ms() + AHEAD_MS
    with seed.transaction():
        for person in people:
            seed.insert("user_permissions", user_id=person.id, permission="can_fly", starts_at=at)
    clients = [await connect(person.token) for person in people]
    for client in clients:
        await client.until(lambda client=client: client.data and client.data["permissions"])
    assert now_ms() - at < LATE_MS


class TestCredentials:
    """The end of a token, and its renewal."""

    async def test_the_end_of_a_token_is_announced_and_kept(
        self, seed: Seed, foreign: ForeignWriter, connect: Connect
    ) -> None:
        ends = now_ms() + AHEAD_MS
        person = seed.person(expires_at=ends)
        client = await connect(person.token)
        await client.message("expiring")
        rows = [(f"Name {number}", person.id) for number in range(400)]
        foreign.send_each("UPDATE users SET name = ? WHERE id = ?", rows, pause_s=0.005)
        writing = asyncio.create_task(asyncio.to_thread(foreign.receive))
        try:
            ended = await client.end()
            late_ms = now_ms() - ends
        finally:
            await writing
        assert (ended["code"], ended["reconnect"], client.replica.close_code) == (
            "token_expired",
            "new_credential",
            4100,
        )
        assert 0 <= late_ms < LATE_MS
        assert client.messages("update")

    async def test_a_token_with_time_left_is_announced_later(self, seed: Seed, connect: Connect) -> None:
        client = await connect(seed.person(expires_at=now_ms() + 3_600_000).token)
        await client.until(lambda: client.data)
        await client.barrier()
        assert not client.messages("expiring")

    async def test_a_new_token_renews_without_sending_documents_again(self, seed: Seed, connect: Connect) -> None:
        ends = now_ms() + AHEAD_MS
        person = seed.person(expires_at=ends)
        client = await connect(person.token)
        await client.message("expiring")
        await client.until(lambda: client.data)
        mark = client.mark()
        ready = await client.request("auth", token=seed.token(person.id).text)
        assert ready["op"] == "ready"
        assert ready["session"] == client.messages("ready")[0]["session"]
        assert "expires_at" not in ready
        await _pass(client, ends + LATE_MS)
        assert {message["op"] for message in client.messages(since=mark)} <= {"ready", "pong"}

    async def test_somebody_elses_token_ends_the_session(self, seed: Seed, connect: Connect) -> None:
        person, other = seed.people(2)
        client = await connect(person.token)
        await client.send(op="auth", token=other.token)
        ended = await client.end()
        assert (ended["code"], ended["reconnect"], client.replica.close_code) == ("principal_changed", "never", 4501)
        assert other.doc not in client.replica.documents

    async def test_a_bad_token_leaves_the_session_as_it_was(
        self, seed: Seed, foreign: ForeignWriter, connect: Connect
    ) -> None:
        ends = now_ms() + AHEAD_MS
        person = seed.person(expires_at=ends)
        client = await connect(person.token)
        await client.until(lambda: client.data)
        for token in ("", "nonsense", "gw_" + "0" * 49, seed.unknown_token(), "x\0y", "\U0001f600" * 1000):
            answer = await client.request("auth", token=token)
            assert (answer["op"], answer["code"]) == ("error", "auth_failed")
        foreign.execute("UPDATE users SET name = 'Goes on' WHERE id = ?", person.id)
        await client.until(lambda: client.data["identity"]["name"] == "Goes on")
        assert (await client.end())["code"] == "token_expired"
        assert 0 <= now_ms() - ends < LATE_MS

    async def test_the_token_replaced_by_a_renewal_may_be_revoked(
        self, seed: Seed, foreign: ForeignWriter, connect: Connect
    ) -> None:
        person = seed.person()
        second = seed.token(person.id)
        client = await connect(person.token)
        await client.request("auth", token=second.text)
        foreign.execute("DELETE FROM api_tokens WHERE id = ?", person.token_id)
        foreign.execute("UPDATE users SET name = 'Goes on' WHERE id = ?", person.id)
        await client.until(lambda: client.data.get("identity", {}).get("name") == "Goes on")
        foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", second.id)
        assert (await client.end())["code"] == "revoked"

    async def test_an_expired_token_opens_nothing(self, seed: Seed, connect: Connect) -> None:
        person = seed.person(expires_at=now_ms() - 1)
        client = await connect(person.token, by="message")
        ended = await client.end()
        assert (ended["code"], client.replica.close_code) == ("auth_failed", 4102)


async def _pass(client: Client, moment_ms: int) -> None:
    """Let time go by until the moment, and make sure that the connection outlived it."""
    await eventually(lambda: now_ms() >= moment_ms)
    await client.barrier()
