"""Rows that many documents are made of: a plan reaches everybody on it, an organization everybody who watches it."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.foreign_writer import ForeignWriter
from tests.support.seed import Seed

pytestmark = pytest.mark.storages("file", "server", "websocket")

PROMPT_S = 2.0


async def test_a_plan_row_reaches_everybody_on_the_plan_and_is_logged_once(
    foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    plan = seed.plan(["can_use_voice"])
    people = seed.people(20, plan)
    stranger = await connect(seed.person().token)
    clients = [await connect(person.token) for person in people]
    for client in (stranger, *clients):
        await client.until(lambda client=client: client.data)
    before = seed.last_seq()
    mark = stranger.mark()
    foreign.execute("INSERT INTO plan_permissions(plan, permission) VALUES (?, 'can_dance')", plan)
    assert seed.last_seq() == before + 1
    for client in clients:
        update = await client.message("update", timeout_s=PROMPT_S)
        assert update["patch"] == {"permissions": {"can_dance": True}}
        assert update["causes"] == ["permissions"]
    await stranger.barrier()
    assert not stranger.messages("update", since=mark)


async def test_other_documents_follow_their_rows(foreign: ForeignWriter, seed: Seed, connect: Connect) -> None:
    plan = seed.plan([], {"minutes": (100, "month")})
    admin, member, other = seed.people(3, plan)
    foreign.execute("INSERT OR IGNORE INTO org_role_permissions VALUES ('owner', 'manage_members')")
    organization = seed.organization(plan, {admin.id: "owner", member.id: "member"})
    doc = f"org:{organization}"
    whole = await connect(admin.token, watch=["self", doc])
    partial = await connect(member.token, watch=["self", doc])
    stranger = await connect(other.token, watch=["self", doc])
    await whole.until(lambda: doc in whole.replica.confirmed)
    await partial.until(lambda: doc in partial.replica.confirmed)
    refusal = await stranger.message("error")
    assert (refusal["code"], refusal["doc"]) == ("not_found", doc)
    assert set(whole.replica.documents[doc].data["members"]) == {admin.id, member.id}
    assert "members" not in partial.replica.documents[doc].data

    foreign.execute("INSERT INTO memberships(org_id, user_id) VALUES (?, ?)", organization, other.id)
    await whole.until(lambda: other.id in whole.replica.documents[doc].data["members"])
    await stranger.until(lambda: organization in stranger.data["organizations"])
    await stranger.request("watch", docs=[doc])
    await stranger.until(lambda: doc in stranger.replica.confirmed)
    assert stranger.replica.documents[doc].rev == partial.replica.documents[doc].rev

    foreign.execute("UPDATE memberships SET role = 'owner' WHERE user_id = ?", member.id)
    await partial.until(lambda: "members" in partial.replica.documents[doc].data)
    foreign.execute("DELETE FROM memberships WHERE user_id = ?", member.id)
    gone = await partial.message("gone")
    assert (gone["doc"], gone["reason"]) == (doc, "forbidden")
    foreign.execute("DELETE FROM organizations WHERE id = ?", organization)
    await whole.until(lambda: doc not in whole.replica.documents)
