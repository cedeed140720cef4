"""Documents of users who may come back: kept for a while, exact as long, and bounded."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gateway.live.resting import REST_MS
from tests.support.node_rig import Rig
from tests.support.people import insert, run, token_text

ADA, BOB = token_text("ada"), token_text("bob")


async def held(rig: Rig, token: str) -> str:
    """Connect, take the own document and hang up; what the client holds then."""
    peer = await rig.connect(token)
    peer.take()
    peer.hang_up()
    return f"self@{peer.revs[peer.connection.session.principal.document]}"  # type: ignore[union-attr]


async def test_who_comes_back_needs_no_reading(rig: Rig) -> None:
    holds = await held(rig, ADA)
    read, asked = rig.feed.documents_read, rig.node.authenticator.looked_up
    ada = await rig.connect(ADA, watch=[holds], settle=False)
    assert ada.ops() == ["hello", "ready", "current"]
    assert (rig.feed.documents_read - read, rig.node.authenticator.looked_up - asked) == (0, 1)
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert json.loads(ada.transport.frames[-1])["patch"]["identity"]["name"] == "New"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET name = 'New' WHERE id = 'ada'",
        "UPDATE organizations SET name = 'New' WHERE id = 'acme'",
        "INSERT INTO plan_permissions VALUES ('free', 'z'), ('pro', 'z')",
        "INSERT INTO user_permissions(user_id, permission) VALUES ('ada', 'z')",
        "DELETE FROM memberships WHERE user_id = 'ada'",
        "UPDATE org_role_permissions SET permission = permission || '2'",
    ],
)
async def test_who_comes_back_after_a_change_holds_what_a_new_node_would_show(rig: Rig, change: str) -> None:
    holds = await held(rig, ADA)
    await rig.run(change)
    ada = await rig.connect(ADA, watch=[holds])
    snapshot = ada.take()[-1]
    async with Rig(rig.database) as other:
        assert (await other.connect(ADA)).take()[-1]["rev"] == snapshot["rev"] not in holds


async def test_a_change_that_comes_with_the_return_is_not_missed(rig: Rig) -> None:
    holds = await held(rig, ADA)
    await run(rig.database, "UPDATE users SET name = 'New' WHERE id = 'ada'")
    ada = await rig.connect(ADA, watch=[holds])
    await rig.settle()
    ada.take()
    assert (await rig.node.user("ada")).publication.document.rev == ada.revs["user:ada"]  # type: ignore[union-attr]


async def test_what_the_clock_changes_is_changed_for_who_comes_back(rig: Rig) -> None:
    end = rig.clock.wall + 5_000
    await rig.write(insert("user_permissions", user_id="ada", permission="x", expires_at=end))
    holds = await held(rig, ADA)
    rig.advance(5)
    await rig.settle()
    ada = await rig.connect(ADA, watch=[holds])
    assert "x" not in ada.take()[-1]["data"]["permissions"]


@pytest.mark.parametrize(
    "change",
    ["UPDATE users SET name = 'New' WHERE id = 'ada'", "UPDATE api_tokens SET revoked_at = 1 WHERE user_id = 'ada'"],
)
async def test_a_change_of_what_nobody_needs_lets_go_of_it_and_reads_nothing(rig: Rig, change: str) -> None:
    await held(rig, ADA)
    read = rig.feed.documents_read
    await rig.run(change)
    assert (rig.hub.entries, rig.feed.documents_read) == ({}, read)


@pytest.mark.parametrize("again", [lambda rig: rig.feed.sweep(rig.feed.to_sweep()), lambda rig: rig.feed._resync()])
async def test_what_is_read_again_is_not_read_for_nobody(rig: Rig, again: Callable[[Rig], None]) -> None:
    await held(rig, ADA)
    read = rig.feed.documents_read
    again(rig)
    await rig.settle()
    assert (rig.hub.entries, rig.feed.documents_read) == ({}, read)


async def test_a_deleted_user_does_not_rest(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    await rig.run("DELETE FROM users WHERE id = 'ada'")
    assert ada.ended == "revoked"
    assert rig.hub.entries == {}


async def test_it_rests_for_a_minute_at_least_and_two_at_most(rig: Rig) -> None:
    rig.advance(0)
    await held(rig, ADA)
    rig.advance(REST_MS / 1000 - 1)
    assert len(rig.hub.resting) == 1
    rig.advance(1)
    await held(rig, BOB)
    assert set(rig.hub.entries) == {"user:ada", "user:bob"}
    rig.advance(REST_MS / 1000 - 1)
    assert set(rig.hub.entries) == {"user:bob"}
    rig.let_rested_go()
    assert (rig.hub.entries, len(rig.hub.resting)) == ({}, 0)


async def test_who_came_back_is_kept(rig: Rig) -> None:
    await held(rig, ADA)
    ada = await rig.connect(ADA)
    rig.let_rested_go()
    ada.take()
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.one("update")["patch"]["identity"]["name"] == "New"


async def test_a_node_that_holds_too_many_keeps_none_for_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.resting.REST_LIMIT", 1)
    bob = await rig.connect(BOB)
    await held(rig, ADA)
    assert set(rig.hub.entries) == {"user:bob"}
    bob.hang_up()
    assert set(rig.hub.entries) == {"user:bob"}


async def test_the_use_of_tokens_is_written_down_without_reading_anybody_again(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    read, position = rig.feed.documents_read, rig.feed.position
    await rig.node.authenticator.record_use()
    await rig.settle()
    assert rig.feed.position > position
    assert rig.feed.documents_read == read
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.one("update")["patch"]["identity"]["name"] == "New"


async def test_what_else_is_done_to_a_token_that_is_used_is_not_passed_over(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    await rig.run("UPDATE api_tokens SET last_used_at = 5, revoked_at = 5 WHERE id = 't_ada'")
    assert ada.ended == "revoked"
