"""What is over is let go of, and what changed in between is not missed."""

from __future__ import annotations

from gateway.core.wire import JSON
from tests.support.node_rig import FrameList, Peer, Rig
from tests.support.people import token_text

ADA = token_text("ada")


async def test_moments_of_forgotten_documents_are_let_go(rig: Rig) -> None:
    for _ in range(1_200):
        await rig.node.user("ada")
    assert rig.hub.work.due_count() <= 1_010


async def test_organizations_that_nobody_mentions_any_more_are_let_go(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    before = set(rig.hub.catalog.organizations)
    for number in range(3):
        await rig.run("INSERT INTO organizations(id, name, plan) VALUES (?, 'X', 'free')", f"x{number}")
        await rig.run("INSERT INTO memberships(org_id, user_id) VALUES (?, 'ada')", f"x{number}")
        assert f"x{number}" in rig.hub.catalog.organizations
        await rig.run("DELETE FROM memberships WHERE org_id = ?", f"x{number}")
    assert set(rig.hub.catalog.organizations) == before
    ada.hang_up()
    await rig.settle()
    rig.let_rested_go()
    assert not rig.hub.catalog.organizations


async def test_a_token_revoked_between_its_check_and_the_session_opens_nothing(rig: Rig) -> None:
    principal = await rig.node.authenticator.authenticate(ADA)
    await rig.run("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = 'ada'")
    transport = FrameList()
    connection = rig.node.connection(JSON, transport, "127.0.0.1")
    connection.greet(principal, [])
    await rig.settle()
    peer = Peer(connection, transport, JSON)
    assert peer.ended == "revoked"


async def test_nothing_is_lost_in_the_moment_between_an_end_and_its_tick(rig: Rig) -> None:
    await rig.run("UPDATE api_tokens SET expires_at = ? WHERE user_id = 'ada'", rig.clock.wall + 5_000)
    ada = await rig.connect(ADA)
    ada.take()
    rig.clock.advance(5.05)
    await rig.run("UPDATE users SET name = 'Late' WHERE id = 'ada'")
    assert ada.ended == "token_expired"
    assert "update" not in ada.ops()
