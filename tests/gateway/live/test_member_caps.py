"""What is left of a member's cap, in the documents of who is connected."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.spending import Order
from gateway.store.database import Database
from tests.support.node_rig import Peer, Rig
from tests.support.people import insert, run, token_text
from tests.support.waiting import eventually

DAY_MS = 86_400_000
ADA, BOB = token_text("ada"), token_text("bob")


def minutes(peer: Peer, user: str) -> dict[str, Any]:
    """What the own document shows of Acme's pool."""
    peer.take()
    return dict(peer.documents[f"user:{user}"]["organizations"]["acme"]["quotas"]["minutes"])


def order(user: str, amount: int, key: str) -> Order:
    return Order(f"user:{user}", "org:acme", "minutes", amount, key)


async def cap_bob(database: Database, limit: int | None = 20) -> None:
    await database.write(insert("member_caps", org_id="acme", user_id="bob", quota="minutes", limit_value=limit))


async def test_what_a_member_takes_is_taken_from_the_cap_in_the_same_moment(rig: Rig) -> None:
    await cap_bob(rig.database)
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    ada.take(), bob.take()
    await rig.node.quotas.spender.consume(order("bob", 3, "k"))
    await eventually(lambda: minutes(bob, "bob")["cap_remaining"] == 17 and minutes(ada, "ada")["used"] == 3)
    assert minutes(bob, "bob")["used"] == 3
    assert "cap" not in minutes(ada, "ada")
    await rig.node.quotas.spender.consume(order("ada", 4, "k"))
    await eventually(lambda: minutes(bob, "bob")["used"] == 7)
    assert minutes(bob, "bob")["cap_remaining"] == 17
    for state in bob.history["user:bob"]:
        shown = state["organizations"]["acme"]["quotas"]["minutes"]
        assert (shown["used"], shown["cap_remaining"]) in [(0, 20), (3, 17), (7, 17)]


async def test_what_a_cap_leaves_begins_anew_by_the_clock(rig: Rig) -> None:
    await cap_bob(rig.database)
    await rig.node.quotas.spender.consume(order("bob", 3, "k"))
    bob = await rig.connect(BOB)
    assert minutes(bob, "bob")["cap_remaining"] == 17
    rig.advance(10 * 86_400)
    await rig.settle()
    assert (minutes(bob, "bob")["cap_remaining"], minutes(bob, "bob")["used"]) == (20, 0)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE plan_quotas SET period = 'month' WHERE plan = 'pro'",
        "UPDATE organizations SET plan = 'free' WHERE id = 'acme'",
    ],
)
async def test_a_pool_with_longer_periods_counts_what_was_taken_in_them(rig: Rig, change: str) -> None:
    await run(rig.database, "UPDATE plan_quotas SET period = 'day' WHERE plan = 'pro'")
    await cap_bob(rig.database)
    taken = {"org_id": "acme", "user_id": "bob", "quota": "minutes"}
    for days in (3, 5, 40):
        await rig.database.write(
            insert("member_usage", **taken, period_start=rig.clock.wall - days * DAY_MS, used=days, reserved=1)
        )
    bob = await rig.connect(BOB)
    assert minutes(bob, "bob")["cap_remaining"] == 20
    await rig.run(change)
    assert minutes(bob, "bob")["cap_remaining"] == 20 - (3 + 1) - (5 + 1)


async def test_a_member_who_comes_back_is_shown_what_was_taken_before(rig: Rig) -> None:
    await run(rig.database, "UPDATE plan_quotas SET period = 'day' WHERE plan = 'pro'")
    await cap_bob(rig.database)
    await rig.node.quotas.spender.consume(order("bob", 3, "k"))
    rig.advance(5 * 86_400)
    bob = await rig.connect(BOB)
    assert minutes(bob, "bob")["cap_remaining"] == 20
    await rig.run("DELETE FROM memberships WHERE user_id = 'bob'")
    bob.take()
    assert bob.documents["user:bob"]["organizations"] == {}
    await rig.run("UPDATE plan_quotas SET period = 'month' WHERE plan = 'pro'")
    await rig.run("INSERT INTO memberships(org_id, user_id) VALUES ('acme', 'bob')")
    assert minutes(bob, "bob")["cap_remaining"] == 17


async def test_a_document_that_rests_is_not_given_out_with_an_old_remainder(rig: Rig) -> None:
    await cap_bob(rig.database)
    bob = await rig.connect(BOB)
    bob.take()
    bob.hang_up()
    await rig.node.quotas.spender.consume(order("bob", 3, "k"))
    await rig.settle()
    again = await rig.connect(BOB)
    await eventually(lambda: minutes(again, "bob")["cap_remaining"] == 17)
