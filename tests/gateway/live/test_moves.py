"""An organization changes hands in one commit: its last members here leave it and somebody else joins it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.store.database import Statement
from tests.support.node_rig import Peer, Rig
from tests.support.people import insert, token_text

ADA, BOB, EVE = (token_text(name) for name in ("ada", "bob", "eve"))
LEAVE = Statement("DELETE FROM memberships WHERE org_id = 'acme'")
JOIN = insert("memberships", org_id="acme", user_id="eve", role="member")


def organizations(peer: Peer) -> dict[str, Any]:
    peer.take()
    shown: dict[str, Any] = peer.documents[peer.connection.session.principal.document]["organizations"]  # type: ignore[union-attr]
    return shown


@pytest.mark.parametrize("together", [[LEAVE, JOIN], [LEAVE, Statement("UPDATE users SET name = 'E'"), JOIN]])
async def test_who_joins_sees_what_the_others_leave(rig: Rig, together: list[Statement]) -> None:
    ada, bob, eve = [await rig.connect(token) for token in (ADA, BOB, EVE)]
    await rig.write(*together)
    assert organizations(ada) == organizations(bob) == {}
    assert organizations(eve)["acme"]["role"] == "member"
    eve.hang_up()
    assert rig.hub.catalog.organizations == {}


async def test_who_joins_sees_it_although_the_last_member_hangs_up_meanwhile(rig: Rig) -> None:
    """The round has read the newcomer, and is asked to forget the organization before it publishes."""
    ada, eve = await rig.connect(ADA), await rig.connect(EVE)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        if "user:eve" in rig.hub.work.taken:
            reading.set()
            await go_on.wait()

    rig.store.gate = gate
    await rig.database.write(JOIN)
    async with asyncio.timeout(10):
        await reading.wait()
    ada.hang_up()
    go_on.set()
    await rig.settle()
    assert organizations(eve)["acme"]["role"] == "member"
