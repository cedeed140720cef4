from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.wire import MESSAGEPACK
from gateway.store.database import Database, Statement
from tests.support.node_rig import Peer, Rig
from tests.support.people import add_plan, add_token, add_user, insert, run, token_text
from tests.support.waiting import eventually

ADA, BOB, EVE, ROOT = (token_text(name) for name in ("ada", "bob", "eve", "root"))


async def test_a_session_begins_with_hello_ready_and_its_own_document(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    hello, ready, snapshot = ada.take()
    assert (hello["op"], hello["epoch"], hello["node"]) == ("hello", rig.hub.epoch, "n1")
    assert (ready["op"], ready["principal"]) == ("ready", "user:ada")
    assert (snapshot["op"], snapshot["doc"], snapshot["seq"]) == ("snapshot", "user:ada", rig.feed.position)
    assert snapshot["data"]["permissions"] == {"a": True}
    assert snapshot["data"]["organizations"]["acme"]["permissions"] == {"manage_members": True}
    assert snapshot["data"]["quotas"]["minutes"]["remaining"] == 10


async def test_a_commit_reaches_who_watches_and_nobody_else(rig: Rig) -> None:
    ada, bob, root = await rig.connect(ADA), await rig.connect(BOB), await rig.connect(ROOT, watch=["user:ada"])
    before = ada.take()[-1]["rev"]
    root.take(), bob.take()
    seq = await run(rig.database, "UPDATE users SET name = 'Ada L' WHERE id = 'ada'")
    await rig.settle()
    update = ada.one("update")
    assert (update["doc"], update["from"], update["seq"], update["causes"]) == ("user:ada", before, seq, ["profile"])
    assert update["patch"]["identity"]["name"] == "Ada L"
    assert root.one("update") == update
    assert bob.take() == []


async def test_the_revision_that_a_client_holds_is_confirmed(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    rev = ada.take()[-1]["rev"]
    again = await rig.connect(ADA, watch=[f"self@{rev}"])
    assert again.take()[-1] == {"op": "current", "doc": "user:ada", "rev": rev, "seq": rig.feed.position}
    other = await rig.connect(ADA, watch=["self@" + "0" * 16])
    assert other.take()[-1]["op"] == "snapshot"


# --- never a state that never was ------------------------------------------------------------------------------------


def both(plan: str, name: str) -> list[Statement]:
    return [
        Statement("UPDATE users SET plan = ?, name = ? WHERE id = 'ada'", (plan, name)),
        Statement("UPDATE organizations SET name = ? WHERE id = 'acme'", (name,)),
        Statement("UPDATE plan_quotas SET limit_value = ? WHERE plan = 'pro'", (len(name),)),
    ]


async def test_one_transaction_is_seen_whole_or_not_at_all(rig: Rig) -> None:
    """Also when the next one is committed between any two reads of a round."""
    ada, root = await rig.connect(ADA), await rig.connect(ROOT, watch=["user:ada", "org:acme"])
    names = [("pro", "x"), ("free", "xx"), ("pro", "xxx"), ("free", "xxxx"), ("pro", "xxxxx"), ("pro", "xxxxxx")]
    left = list(names)
    reads = written = 0

    async def gate() -> None:
        nonlocal reads, written
        reads += 1
        if reads % 3 == 0 and left:
            await rig.database.write(*both(*left.pop(0)))
            written += 1

    rig.store.gate = gate
    await rig.database.write(*both("pro", ""))
    await eventually(lambda: written == len(names))
    await rig.settle()
    for peer in (ada, root):
        peer.take()
        for state in peer.history["user:ada"][1:]:
            name, plan = state["identity"]["name"], state["identity"]["plan"]
            assert (plan, name) in [("pro", ""), *names]
            assert state["permissions"].keys() == ({"a", "b"} if plan == "pro" else {"a"})
            assert state["quotas"]["minutes"]["limit"] == (len(name) if plan == "pro" else 10)
            assert state["organizations"]["acme"]["name"] == name
            assert state["organizations"]["acme"]["quotas"]["minutes"]["limit"] == len(name)
        assert peer.documents["user:ada"]["identity"]["name"] == "xxxxxx"
    for state in root.history["org:acme"][1:]:
        assert state["quotas"]["minutes"]["limit"] == len(state["organization"]["name"])


@pytest.mark.parametrize("failing", range(2, 7))
async def test_a_failure_in_the_middle_of_a_round_shows_no_mixture(rig: Rig, failing: int) -> None:
    """The plan is read, the store fails, and then the clock changes the document: it must not show the plan alone."""
    await run(
        rig.database,
        "INSERT INTO user_permissions(user_id, permission, expires_at) VALUES ('ada', 'x', ?)",
        rig.clock.wall + 60_000,
    )
    ada = await rig.connect(ADA)
    ada.take()
    rounds = rig.feed.rounds
    reads = 0

    async def gate() -> None:
        nonlocal reads
        reads += 1
        if reads >= failing:
            rig.store.fail()

    rig.store.gate = gate
    await rig.database.write(
        Statement("UPDATE plan_quotas SET limit_value = 99 WHERE plan = 'free'"),
        Statement("UPDATE users SET name = 'New' WHERE id = 'ada'"),
    )
    await eventually(lambda: rig.feed.failures > 0)
    rig.advance(61)
    await eventually(lambda: "x" not in _seen(ada, "user:ada")["permissions"])
    assert rig.feed.rounds > rounds
    rig.store.gate = None
    rig.store.recover()
    await rig.settle()
    ada.take()
    for state in ada.history["user:ada"]:
        assert (state["identity"]["name"], state["quotas"]["minutes"]["limit"]) in [("", 10), ("New", 99)]
    assert ada.documents["user:ada"]["identity"]["name"] == "New"


def _seen(peer: Peer, doc: str) -> dict[str, Any]:
    peer.take()
    return peer.documents[doc]


# --- fan-out ---------------------------------------------------------------------------------------------------------


async def everybody(rig: Rig) -> dict[str, Peer]:
    peers = {name: await rig.connect(token) for name, token in (("ada", ADA), ("bob", BOB), ("eve", EVE))}
    for peer in peers.values():
        peer.take()
    return peers


@pytest.mark.parametrize(
    ("change", "touched", "causes"),
    [
        ("INSERT INTO plan_permissions VALUES ('free', 'z')", {"ada", "bob"}, ["permissions"]),
        ("DELETE FROM plan_permissions WHERE plan = 'pro' AND permission = 'b'", {"eve"}, ["permissions"]),
        ("UPDATE plan_quotas SET limit_value = 7 WHERE plan = 'free'", {"ada", "bob"}, ["quota_limit"]),
        ("UPDATE plan_quotas SET limit_value = NULL WHERE plan = 'pro'", {"ada", "bob", "eve"}, ["quota_limit"]),
        ("UPDATE plan_quotas SET period = 'day' WHERE plan = 'pro'", {"ada", "bob", "eve"}, ["quota_limit"]),
        ("UPDATE organizations SET name = 'A' WHERE id = 'acme'", {"ada", "bob"}, ["organization"]),
        ("UPDATE organizations SET plan = 'free' WHERE id = 'acme'", {"ada", "bob"}, ["organization", "plan"]),
        ("UPDATE organizations SET status = 'disabled' WHERE id = 'acme'", {"ada", "bob"}, ["organization"]),
        ("DELETE FROM organizations WHERE id = 'acme'", {"ada", "bob"}, ["organization"]),
        ("INSERT INTO org_role_permissions VALUES ('member', 'speak')", {"bob"}, ["permissions"]),
        ("DELETE FROM org_role_permissions", {"ada"}, ["permissions"]),
        ("UPDATE memberships SET role = 'admin' WHERE user_id = 'bob'", {"bob"}, ["organization"]),
        ("INSERT INTO member_caps VALUES ('acme', 'bob', 'minutes', 3)", {"bob"}, ["quota_limit"]),
        ("INSERT INTO user_roles(user_id, role) VALUES ('eve', 'r1')", {"eve"}, ["roles"]),
        ("INSERT INTO user_permissions(user_id, permission) VALUES ('eve', 'q')", {"eve"}, ["permissions"]),
        ("INSERT INTO user_quotas(user_id, quota, limit_value) VALUES ('eve', 'minutes', 1)", {"eve"}, ["quota_limit"]),
        ("UPDATE users SET plan = 'free' WHERE id = 'eve'", {"eve"}, ["plan"]),
        ("UPDATE users SET is_admin = 1 WHERE id = 'eve'", {"eve"}, ["profile"]),
    ],
)
async def test_one_row_reaches_everybody_that_it_touches_and_nobody_else(
    rig: Rig, change: str, touched: set[str], causes: list[str]
) -> None:
    peers = await everybody(rig)
    await rig.run(change)
    updates = {name: messages for name, peer in peers.items() if (messages := peer.take())}
    assert updates.keys() == touched
    for messages in updates.values():
        [update] = messages
        assert (update["op"], update["causes"]) == ("update", causes)


async def test_a_role_reaches_all_who_have_it(rig: Rig) -> None:
    await run(rig.database, "INSERT INTO user_roles(user_id, role) VALUES ('ada', 'r1'), ('eve', 'r1')")
    peers = await everybody(rig)
    await rig.run("INSERT INTO role_permissions VALUES ('r1', 'd')")
    assert [peers["ada"].one("update")["patch"], peers["eve"].one("update")["patch"]] == [
        {"permissions": {"d": True}}
    ] * 2
    assert peers["bob"].take() == []
    await rig.run("DELETE FROM roles WHERE id = 'r1'")
    assert peers["ada"].one("update")["patch"] == {"permissions": {"c": None, "d": None}}


@pytest.mark.parametrize(("period", "used"), [("hour", 0), ("day", 0), ("year", 8), ("never", 8)])
async def test_a_plan_whose_periods_change_shows_what_was_used_in_the_new_ones(
    rig: Rig, period: str, used: int
) -> None:
    start = rig.clock.wall - 90 * 86_400_000
    await rig.database.write(
        insert("quota_usage", owner="user:ada", quota="minutes", period_start=start, used=8),
        insert("quota_usage", owner="org:acme", quota="minutes", period_start=start, used=8),
    )
    ada = await rig.connect(ADA)
    assert _seen(ada, "user:ada")["quotas"]["minutes"]["used"] == 0
    await rig.run("UPDATE plan_quotas SET period = ?", period)
    document = _seen(ada, "user:ada")
    assert document["quotas"]["minutes"]["used"] == used
    assert document["organizations"]["acme"]["quotas"]["minutes"]["used"] == used


async def test_a_pool_that_is_used_reaches_the_members(rig: Rig) -> None:
    peers = await everybody(rig)
    pool = insert("quota_usage", owner="org:acme", quota="minutes", period_start=rig.clock.wall - 5, used=3, reserved=1)
    await rig.write(pool)
    for name in ("ada", "bob"):
        update = peers[name].one("update")
        assert update["causes"] == ["quota_usage"]
        assert update["patch"] == {
            "organizations": {"acme": {"quotas": {"minutes": {"used": 3, "reserved": 1, "remaining": 496}}}}
        }
    assert peers["eve"].take() == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE api_tokens SET last_used_at = 5",
        "UPDATE plans SET name = 'Gratis' WHERE id = 'free'",
        "INSERT INTO plans(id) VALUES ('unused')",
        "INSERT INTO user_permissions(user_id, permission) VALUES ('ada', 'a')",
        "INSERT INTO user_permissions(user_id, permission, effect) VALUES ('ada', 'nothing', 'deny')",
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:ada', 'minutes', 5, 5)",
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:ada', 'unheard', 5, 5)",
        "INSERT INTO user_roles(user_id, role, expires_at) VALUES ('ada', 'r1', 5)",
        "INSERT INTO member_caps VALUES ('acme', 'ada', 'unheard', 3)",
        "INSERT INTO org_role_permissions VALUES ('admin', 'x')",
        "UPDATE organizations SET attributes = '{\"a\":1}'",
        "UPDATE users SET attributes = ' {  } ', updated_at = updated_at",
        "DELETE FROM users WHERE id = 'eve'",
    ],
)
async def test_a_change_that_nobody_can_see_sends_nothing(rig: Rig, change: str) -> None:
    if "updated_at" in change:
        await run(rig.database, "DROP TRIGGER users_update")
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    ada.take(), bob.take()
    await rig.run(change)
    assert ada.take() + bob.take() == []


async def test_a_patch_is_encoded_once_for_a_hundred_watchers(database: Database) -> None:
    await database.write(*add_plan("free", ["a"]), add_user("ada"), add_token("ada", ADA))
    written = 0

    class Counting:
        def __init__(self, codec: Any) -> None:
            self.subprotocol, self.binary = codec.subprotocol, codec.binary
            self.decode, self.encode, self.snapshot = codec.decode, codec.encode, codec.snapshot
            self._update = codec.update

        def update(self, *args: Any) -> bytes:
            nonlocal written
            written += 1
            return self._update(*args)  # type: ignore[no-any-return]

    codec = Counting(MESSAGEPACK)
    async with Rig(database, max_sessions_per_user=200) as rig:
        peers = [await rig.connect(ADA, codec=codec, settle=False) for _ in range(100)]
        await rig.settle()
        for peer in peers:
            peer.take()
        await rig.run("INSERT INTO plan_permissions VALUES ('free', 'b')")
        assert written == 1
        assert len({peer.transport.frames[-1] for peer in peers}) == 1
        assert all(peer.one("update")["patch"] == {"permissions": {"b": True}} for peer in peers)
        assert rig.hub.counters.pushed >= 100
        assert rig.feed.documents_read == 1


async def test_many_more_documents_than_a_round_takes(database: Database) -> None:
    tokens = [token_text() for _ in range(230)]
    await database.write(*add_plan("free", ["a"]))
    await database.write(*(add_user(f"u{number}") for number in range(230)))
    await database.write(*(add_token(f"u{number}", text) for number, text in enumerate(tokens)))
    async with Rig(database) as rig:
        peers = await asyncio.gather(*(rig.connect(text, settle=False) for text in tokens))
        await rig.settle()
        assert all(peer.ops() == ["hello", "ready", "snapshot"] for peer in peers)
        await rig.write(
            Statement("INSERT INTO plan_permissions VALUES ('free', 'b')"),
            Statement("UPDATE users SET name = 'x' WHERE id IN ('u3', 'u229')"),
        )
        for number, peer in enumerate(peers):
            update = peer.one("update")
            assert update["patch"]["permissions"] == {"b": True}
            assert ("identity" in update["patch"]) == (number in (3, 229))
