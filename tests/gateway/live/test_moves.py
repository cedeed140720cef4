"""An organization changes hands in one commit: its last members here leave it and somebody else joins it."""

from __future__ import annotations

import itertools
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
    rig.let_rested_go()
    assert rig.hub.catalog.organizations == {}


@pytest.mark.parametrize("access", range(6))
async def test_who_joins_sees_it_although_the_last_member_hangs_up_meanwhile(rig: Rig, access: int) -> None:
    """Whenever it is in the round that reads the newcomer; another organization has to be read for that one too."""
    await rig.write(insert("organizations", id="umbra", plan="pro"))
    ada, eve = await rig.connect(ADA), await rig.connect(EVE)
    accesses = itertools.count()

    async def hang_up() -> None:
        if "user:eve" in rig.hub.work.taken and next(accesses) == access:
            ada.hang_up()
            rig.hub.resting.end("user:ada")

    rig.store.gate = hang_up
    await rig.write(JOIN, insert("memberships", org_id="umbra", user_id="eve", role="member"))
    assert organizations(eve).keys() == {"acme", "umbra"}
    if access < 3:
        assert next(accesses) > access, "nobody hung up"
