from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from gateway.config import ChangesConfig
from gateway.core.clock import parse_rfc3339, rfc3339
from gateway.errors import Unavailable
from gateway.live.feed import BACKOFF_MAX_S
from gateway.live.node import TICK_S
from gateway.store.changes import prune
from gateway.store.database import Database, Statement
from tests.support.node_rig import START_MS, Peer, Rig
from tests.support.people import insert, run, token_text
from tests.support.waiting import eventually

ADA, BOB, EVE, ROOT = (token_text(name) for name in ("ada", "bob", "eve", "root"))


async def statuses(peer: Peer, count: int) -> list[dict[str, Any]]:
    """Everything that came, once there are so many messages."""
    messages: list[dict[str, Any]] = []

    def enough() -> bool:
        messages.extend(peer.take())
        return len(messages) >= count

    await eventually(enough)
    return messages


# --- the store -------------------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_makes_stale_and_what_was_missed_comes_after_fresh_again(rig: Rig) -> None:
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    ada.take(), bob.take()
    rig.store.fail()
    await run(rig.database, "UPDATE users SET name = 'New' WHERE id = 'ada'")
    [stale] = await statuses(ada, 1)
    since = parse_rfc3339(stale["since"])  # beside a server: since the last poll that found nothing new
    assert START_MS - 1_500 <= since <= START_MS
    assert stale == {"op": "status", "store": "stale", "since": rfc3339(since), "age_s": (START_MS - since) / 1000}
    assert rig.node.not_ready() == ["database_unreachable"]
    failures = rig.feed.failures
    await eventually(lambda: rig.feed.failures > failures + 1)
    rig.clock.advance(7)
    rig.store.recover()
    update, fresh = await statuses(ada, 2)
    assert (update["op"], update["patch"]["identity"]["name"]) == ("update", "New")
    assert fresh == stale | {"store": "fresh", "age_s": round(7 + stale["age_s"], 3)}
    assert [message["op"] for message in bob.take()] == ["status", "status"]
    assert rig.node.not_ready() == []


@pytest.mark.parametrize("after", range(1, 8))
async def test_work_survives_a_failure_at_any_read(rig: Rig, after: int) -> None:
    ada, root = await rig.connect(ADA), await rig.connect(ROOT, watch=["user:ada", "user:eve", "org:acme"])
    reads = 0

    async def gate() -> None:
        nonlocal reads
        reads += 1
        if reads == after:
            rig.store.fail()
        elif reads > after:
            rig.store.recover()

    rig.store.gate = gate
    await rig.write(
        Statement("UPDATE users SET name = 'New' WHERE id IN ('ada', 'eve')"),
        Statement("UPDATE organizations SET name = 'New'"),
        Statement("INSERT INTO plan_permissions VALUES ('free', 'z'), ('pro', 'z')"),
        insert("memberships", org_id="acme", user_id="eve", role="admin"),
    )
    rig.store.gate = None
    await rig.settle(lambda: not rig.feed.stale)
    ada.take(), root.take()
    for document in (ada.documents["user:ada"], root.documents["user:ada"], root.documents["user:eve"]):
        assert document["identity"]["name"] == "New"
        assert "z" in document["permissions"]
        assert document["organizations"]["acme"]["name"] == "New"
    assert root.documents["org:acme"]["members"].keys() == {"ada", "bob", "eve"}


async def test_who_comes_while_the_store_is_away_is_served_when_it_is_back(rig: Rig) -> None:
    principal_of = rig.node.authenticator
    ada = await rig.connect(ADA)
    ada.hang_up()
    await principal_of.authenticate(EVE)
    reads = rig.store.reads
    rig.store.gate = lambda: asyncio.sleep(0, rig.store.fail() if rig.store.reads > reads + 1 else None)
    eve = await rig.connect(EVE, settle=False)
    await eventually(lambda: rig.feed.stale)
    assert eve.ops() == ["hello", "ready", "status"]
    rig.store.gate = None
    rig.store.recover()
    await rig.settle(lambda: not rig.feed.stale)
    assert eve.ops() == ["snapshot", "status"]


@pytest.mark.parametrize("failing", range(2, 16))
async def test_who_comes_is_served_although_the_store_fails_at_any_read(rig: Rig, failing: int) -> None:
    """Nothing in the log speaks of this: what was taken from the list and not read has to come back onto it."""
    reads = 0

    async def gate() -> None:
        nonlocal reads
        reads += 1
        if reads == failing:
            rig.store.fail()
        elif reads > failing:
            rig.store.recover()

    rig.store.gate = gate
    root = None
    while root is None:
        with contextlib.suppress(Unavailable):
            root = await rig.connect(ROOT, watch=["self", "user:eve", "org:acme"], settle=False)
    await rig.settle(lambda: not rig.feed.stale)
    rig.store.gate = None
    root.take()
    assert root.documents.keys() == {"user:root", "user:eve", "org:acme"}


async def test_a_revocation_is_not_forgotten_while_the_store_is_away(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    rig.store.fail()
    await run(rig.database, "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_ada'")
    await eventually(lambda: rig.feed.stale)
    assert ada.ended is None
    rig.store.recover()
    await eventually(lambda: ada.ended)
    assert ada.ended == "revoked"


async def test_an_unforeseen_failure_reads_everything_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    rig.store.broken = lambda: RuntimeError("who knows")
    await run(rig.database, "UPDATE users SET name = 'New' WHERE id = 'ada'")
    await eventually(lambda: "a round of the feed failed" in caplog.text)
    rig.store.recover()
    await rig.settle()
    assert ada.one("update")["patch"]["identity"]["name"] == "New"


# --- the clock -------------------------------------------------------------------------------------------------------


async def test_what_the_clock_changes_comes_when_it_is_due_although_nobody_wrote(rig: Rig) -> None:
    await rig.database.write(
        insert("user_permissions", user_id="ada", permission="soon", starts_at=START_MS + 10_000),
        insert("user_roles", user_id="ada", role="r1", expires_at=START_MS + 20_000),
        insert("user_quotas", user_id="ada", quota="minutes", limit_value=99, expires_at=START_MS + 30_000),
    )
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    ada.take(), bob.take()
    for patch in (
        {"permissions": {"soon": True}},
        {"permissions": {"c": None}},
        {"quotas": {"minutes": {"limit": 10, "remaining": 10}}},
    ):
        rig.advance(9.999)
        await rig.settle()
        assert ada.take() == []
        rig.advance(0.001)
        await rig.settle()
        update = ada.one("update")
        assert (update["patch"], update["causes"]) == (patch, ["clock"])
    assert bob.take() == []


async def test_a_new_period_begins_for_users_and_pools(rig: Rig) -> None:
    await rig.database.write(
        insert("quota_usage", owner="user:ada", quota="minutes", period_start=START_MS - 5, used=10),
        insert("quota_usage", owner="org:acme", quota="minutes", period_start=START_MS - 5, used=500),
        insert("quota_usage", owner="org:acme", quota="minutes", period_start=START_MS + 10 * 86_400_000, used=1),
    )
    ada, root = await rig.connect(ADA), await rig.connect(ROOT, watch=["org:acme"])
    ada.take(), root.take()
    rig.advance(9 * 86_400 + 4 * 3600 + 49 * 60 + 59.999)
    await rig.settle()
    assert ada.take() + root.take() == []
    rig.advance(0.001)
    await rig.settle()
    ada.take(), root.take()
    resets_at = "2027-01-01T00:00:00.000Z"
    own, pool = ada.documents["user:ada"]["quotas"], ada.documents["user:ada"]["organizations"]["acme"]["quotas"]
    assert (own["minutes"]["used"], own["minutes"]["level"], own["minutes"]["resets_at"]) == (0, "ok", resets_at)
    assert (pool["minutes"]["used"], pool["minutes"]["resets_at"]) == (0, resets_at)
    assert root.documents["org:acme"]["quotas"] == pool
    rig.advance(86_400)
    await rig.settle()
    ada.take(), root.take()
    assert ada.documents["user:ada"]["organizations"]["acme"]["quotas"]["minutes"]["used"] == 1
    assert root.documents["org:acme"]["quotas"]["minutes"]["used"] == 1


async def test_the_clock_goes_on_while_the_store_is_away(rig: Rig) -> None:
    await rig.database.write(
        insert("user_permissions", user_id="ada", permission="x", expires_at=START_MS + 10_000),
        insert("user_permissions", user_id="ada", permission="y", expires_at=START_MS + 20_000),
    )
    ada, root = await rig.connect(ADA), await rig.connect(ROOT, watch=["org:acme"])
    rig.store.fail()
    await run(rig.database, "UPDATE users SET name = 'New' WHERE id = 'ada'")
    await eventually(lambda: rig.feed.stale)
    ada.take(), root.take()
    for gone in ("x", "y"):
        rig.advance(10)
        [update] = await statuses(ada, 1)
        assert (update["patch"], update["causes"]) == ({"permissions": {gone: None}}, ["clock"])
    rig.advance(40 * 86_400)
    await statuses(ada, 1)
    await statuses(root, 1)
    assert ada.documents["user:ada"]["quotas"]["minutes"]["resets_at"] == "2027-01-01T00:00:00.000Z"
    assert root.documents["org:acme"]["quotas"]["minutes"]["resets_at"] == "2027-01-01T00:00:00.000Z"
    rig.store.recover()
    await rig.settle(lambda: not rig.feed.stale)
    ada.take()
    assert ada.documents["user:ada"]["identity"]["name"] == "New"


def test_what_the_clock_changes_waits_less_than_a_second_for_a_store_that_is_away() -> None:
    assert BACKOFF_MAX_S + TICK_S < 1


@pytest.mark.parametrize("by_ms", [40 * 86_400_000, -40 * 86_400_000])
async def test_a_wall_clock_that_is_set_builds_everything_again(rig: Rig, by_ms: int) -> None:
    await rig.database.write(
        insert("user_permissions", user_id="ada", permission="old", expires_at=START_MS - 86_400_000),
        insert("user_permissions", user_id="ada", permission="new", starts_at=START_MS + 86_400_000),
        insert("quota_usage", owner="user:ada", quota="minutes", period_start=START_MS - 41 * 86_400_000, used=4),
    )
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    root = await rig.connect(ROOT, watch=["org:acme"])
    before = {peer: dict(peer.documents) for peer in (ada, bob, root) if peer.take()}
    rig.clock.set_wall(by_ms)
    rig.feed.clock_jumped()
    await rig.settle()
    ada.take(), bob.take(), root.take()
    late = by_ms > 0
    assert ada.documents["user:ada"]["permissions"].keys() == {"a", "new" if late else "old"}
    assert ada.documents["user:ada"]["quotas"]["minutes"]["used"] == (0 if late else 4)
    resets_at = "2027-01-01T00:00:00.000Z" if late else "2026-11-01T00:00:00.000Z"
    for document in (ada.documents["user:ada"], bob.documents["user:bob"], root.documents["org:acme"]):
        assert document["quotas"]["minutes"]["resets_at"] == resets_at
    rig.clock.set_wall(-by_ms)
    rig.feed.clock_jumped()
    await rig.settle()
    for peer, documents in before.items():
        peer.take()
        assert peer.documents == documents
    rig.advance(86_400)
    await rig.settle()
    ada.take()
    assert ada.documents["user:ada"]["permissions"].keys() == {"a", "new"}


# --- the log ---------------------------------------------------------------------------------------------------------


async def drop_triggers(database: Database) -> None:
    """From now on the log has nothing of what is written."""
    [names] = await database.read(Statement("SELECT name FROM sqlite_schema WHERE type = 'trigger'"))
    await database.write(*(Statement(f"DROP TRIGGER {name}") for (name,) in names))


SILENT = (
    Statement("UPDATE users SET name = 'Silent' WHERE id = 'ada'"),
    Statement("INSERT INTO plan_permissions VALUES ('free', 'z')"),
    Statement("UPDATE organizations SET name = 'Silent'"),
    Statement("UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_bob'"),
)


async def test_a_log_that_was_cut_off_below_is_no_log(rig: Rig) -> None:
    """Everything is read again, credentials too, and what the log did not have is told by what differs."""
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    root = await rig.connect(ROOT, watch=["user:ada", "org:acme"])
    for peer in (ada, bob, root):
        peer.take()
    await drop_triggers(rig.database)
    await rig.write(*SILENT)
    assert ada.take() + bob.take() + root.take() == []
    await rig.write(
        Statement("INSERT INTO change_log(doc, cause) VALUES ('x', 'x'), ('x', 'x'), ('x', 'x')"),
        Statement("DELETE FROM change_log WHERE seq < (SELECT max(seq) FROM change_log)"),
    )
    await eventually(lambda: rig.feed.resyncs == 1)
    await rig.settle()
    update = ada.one("update")
    assert update["patch"]["identity"]["name"] == "Silent"
    assert update["patch"]["permissions"] == {"z": True}
    assert set(update["causes"]) >= {"profile", "permissions", "organization"}
    assert bob.ended == "revoked"
    root.take()
    assert root.documents["org:acme"]["organization"]["name"] == "Silent"
    assert root.documents["user:ada"] == ada.documents["user:ada"]
    [[(last,)]] = await rig.database.read(Statement("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'"))
    assert rig.feed.position == last
    assert rig.feed.resyncs == 1


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE meta SET value = 'e1' WHERE key = 'epoch'", "INSERT INTO change_log(doc, cause) VALUES ('x', 'x')"],
        ["DELETE FROM change_log WHERE seq > 5", "UPDATE sqlite_sequence SET seq = 5 WHERE name = 'change_log'"],
    ],
    ids=["another epoch", "backwards"],
)
async def test_nobody_goes_back_in_time_on_a_connection(rig: Rig, statements: list[str]) -> None:
    """Who is connected when the database is replaced is sent nothing of the new one, and comes back to it."""
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    for peer in (ada, bob):
        peer.take()
    await drop_triggers(rig.database)
    await rig.write(*SILENT)
    await rig.write(*map(Statement, statements))
    await eventually(lambda: rig.feed.resyncs == 1)
    await rig.settle()
    for peer in (ada, bob):
        [ended] = peer.take()
        assert (ended["op"], ended["code"], ended["reconnect"]) == ("ended", "going_away", "now")
        assert 0 <= ended["retry_after_s"] <= 0.1
    again = await rig.connect(ADA)
    await rig.settle()
    hello, _, snapshot = again.take()
    assert hello["epoch"] == rig.hub.epoch
    assert snapshot["data"]["identity"]["name"] == "Silent"
    [[(last,)]] = await rig.database.read(Statement("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'"))
    assert snapshot["seq"] == rig.feed.position == last
    assert rig.feed.resyncs == 1


async def test_after_a_restore_documents_that_did_not_change_carry_the_new_numbering(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    assert ada.take()[-1]["seq"] > 3
    await rig.write(
        Statement("UPDATE meta SET value = 'e1' WHERE key = 'epoch'"),
        Statement("DELETE FROM change_log WHERE seq > 3"),
        Statement("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'change_log'"),
    )
    await eventually(lambda: rig.feed.resyncs == 1)
    await rig.settle()
    again = await rig.connect(ADA)
    hello, _, snapshot = again.take()
    assert (hello["epoch"], snapshot["seq"]) == ("e1", 3)


async def test_a_log_that_is_pruned_behind_the_position_is_followed_on(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    await prune(rig.database, 0, START_MS * 2)
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.one("update")["causes"] == ["profile"]
    assert rig.feed.resyncs == 0


async def test_rows_of_the_log_that_mean_nothing_here_are_passed_over(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    odd = ["", ":", "user:", "org:", "plan:", "user", "keys", "revocations", "instance:i", "x" * 5000, "user:ada\x00"]
    await rig.write(*(insert("change_log", doc=doc, cause="profile") for doc in odd))
    await rig.write(*(insert("change_log", doc="user:ada", cause=cause) for cause in ("", "unheard of", "x" * 5000)))
    await rig.run("INSERT INTO change_log(doc, cause) VALUES (CAST(x'757365723aff' AS TEXT), CAST(x'ff' AS TEXT))")
    assert ada.take() == []
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.one("update")["causes"] == ["profile"]
    assert rig.feed.resyncs == 0


async def test_the_sweep_finds_what_the_log_does_not_have(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    root = await rig.connect(ROOT, watch=["org:acme"])
    for peer in (ada, bob, root):
        peer.take()
    rig.feed.sweep(list(rig.hub.entries))
    await rig.settle()
    assert ada.take() + bob.take() + root.take() == []
    assert rig.hub.counters.drift == 0
    await drop_triggers(rig.database)
    await rig.write(*SILENT)
    rig.feed.sweep(list(rig.hub.entries))
    await rig.settle()
    assert ada.take()[0]["patch"]["identity"]["name"] == "Silent"
    assert bob.ended == "revoked"
    root.take()
    assert root.documents["org:acme"]["organization"]["name"] == "Silent"
    assert rig.hub.counters.drift >= 1
    assert "the sweep found a change" in caplog.text


async def test_the_sweep_takes_each_document_once_in_its_time(cast: Database) -> None:
    async with Rig(cast, changes=ChangesConfig(sweep_s=100)) as rig:
        peers = [await rig.connect(token) for token in (ADA, BOB, EVE, ROOT)]
        assert len(peers) == 4
        read = rig.feed.documents_read
        for _ in range(100):
            rig.node.sweep.go_on(1.0)
            await rig.settle()
        assert rig.feed.documents_read == read + 4
        for _ in range(10):
            rig.node.sweep.go_on(10.0)
            await rig.settle()
        assert rig.feed.documents_read == read + 8


# --- rows that can not be read ---------------------------------------------------------------------------------------

BAD = {
    "attributes": "UPDATE users SET attributes = '{\"a\":1e999}' WHERE id = 'ada'",
    "not UTF-8": "UPDATE users SET name = CAST(x'ff' AS TEXT) WHERE id = 'ada'",
    "no such zone": "UPDATE users SET timezone = 'Mars/Olympus' WHERE id = 'ada'",
    "anchor": "UPDATE users SET anchor_at = 999999999999999999 WHERE id = 'ada'",
}
GOOD = "UPDATE users SET attributes = '{}', name = 'Good', timezone = 'UTC', anchor_at = NULL WHERE id = 'ada'"


@pytest.mark.parametrize("change", BAD.values(), ids=list(BAD))
async def test_a_bad_row_makes_its_own_document_stale_and_no_other(rig: Rig, change: str) -> None:
    ada, bob, root = await rig.connect(ADA), await rig.connect(BOB), await rig.connect(ROOT, watch=["user:ada"])
    for peer in (ada, bob, root):
        peer.take()
    await rig.write(Statement(change), Statement("UPDATE users SET name = 'New' WHERE id = 'bob'"))
    assert bob.one("update")["patch"]["identity"]["name"] == "New"
    for peer in (ada, root):
        status = peer.one("status")
        assert (status["store"], status["doc"], status["since"]) == ("stale", "user:ada", rfc3339(START_MS))
    assert rig.hub.counters.faults == 1
    rig.clock.advance(5)
    await rig.run(GOOD)
    for peer in (ada, root):
        update, fresh = peer.take()
        if update["op"] == "status":
            update, fresh = fresh, update
        assert (update["op"], update["patch"]["identity"]["name"]) == ("update", "Good")
        assert (fresh["store"], fresh["doc"], fresh["age_s"]) == ("fresh", "user:ada", 5.0)
    assert rig.feed.resyncs == 0


@pytest.mark.parametrize("change", BAD.values(), ids=list(BAD))
async def test_who_comes_to_a_bad_row_is_told_and_gets_the_document_later(rig: Rig, change: str) -> None:
    await rig.run(change)
    ada = await rig.connect(ADA)
    assert ada.ops() == ["hello", "ready", "status"]
    ada.say(op="ping", id="1")
    assert ada.one("pong")["revs"] == {}
    await rig.run(GOOD)
    assert sorted(ada.ops()) == ["snapshot", "status"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE organizations SET timezone = 'Mars/Olympus'",
        "UPDATE organizations SET name = CAST(x'ff' AS TEXT)",
        "UPDATE organizations SET anchor_at = 999999999999999999",
        "UPDATE memberships SET created_at = 999999999999999999 WHERE user_id = 'bob'",
    ],
)
async def test_a_bad_organization_stops_nobody(rig: Rig, change: str) -> None:
    ada, eve = await rig.connect(ADA), await rig.connect(EVE)
    root = await rig.connect(ROOT, watch=["org:acme", "self"])
    for peer in (ada, eve, root):
        peer.take()
    held = dict(ada.documents)
    await rig.write(Statement(change), Statement("UPDATE users SET name = 'New' WHERE id = 'eve'"))
    assert eve.one("update")["patch"]["identity"]["name"] == "New"
    status = root.one("status")
    assert (status["store"], status["doc"]) == ("stale", "org:acme")
    assert [message for message in ada.take() if message["op"] != "status"] == []
    assert ada.documents == held
    assert rig.feed.resyncs == 0
    await rig.write(
        Statement("UPDATE organizations SET timezone = 'UTC', name = 'Good', anchor_at = NULL"),
        Statement("UPDATE memberships SET created_at = 5"),
    )
    ada.take(), root.take()
    assert ada.documents["user:ada"]["organizations"]["acme"]["name"] == "Good"
    assert root.documents["org:acme"]["organization"]["name"] == "Good"


async def test_a_member_never_seems_to_have_left_because_the_organization_can_not_be_read(rig: Rig) -> None:
    await rig.run("UPDATE organizations SET timezone = 'Mars/Olympus'")
    ada = await rig.connect(ADA)
    assert ada.ops() == ["hello", "ready", "status"]
    await rig.run("UPDATE organizations SET timezone = 'UTC'")
    ada.take()
    assert "acme" in ada.documents["user:ada"]["organizations"]


async def test_a_doorbell_that_fails_is_told_and_changes_are_found_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ada = await rig.connect(ADA)
    ada.take()

    async def fail() -> None:
        raise OSError("out of order")

    monkeypatch.setattr(rig.store, "wait_for_change", fail)
    await rig.run("UPDATE users SET name = 'One' WHERE id = 'ada'")
    await eventually(lambda: "the doorbell failed; the log is looked at now and then" in caplog.messages)
    await rig.run("UPDATE users SET name = 'Two' WHERE id = 'ada'")
    await eventually(lambda: ada.take() and ada.documents["user:ada"]["identity"]["name"] == "Two")


async def test_a_name_that_is_not_text_keeps_no_other_from_being_read(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    await rig.write(
        Statement("INSERT INTO plan_permissions VALUES ('free', CAST(x'ff' AS TEXT))"),
        Statement("INSERT INTO plan_permissions VALUES ('free', 'z')"),
    )
    assert ada.one("update")["patch"] == {"permissions": {"z": True, "\ufffd": True}}
    await rig.run("DELETE FROM plan_permissions WHERE permission = CAST(x'ff' AS TEXT)")
    assert ada.one("update")["patch"] == {"permissions": {"\ufffd": None}}
    await rig.feed.start()
    assert rig.feed.resyncs == 0
