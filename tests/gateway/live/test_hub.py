from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.wire import MESSAGEPACK
from gateway.errors import NotFound, Unavailable
from gateway.store.database import Database, Statement
from tests.support.node_rig import START_MS, Peer, Rig
from tests.support.people import add_token, add_user, insert, run, token_text
from tests.support.waiting import eventually

ADA, BOB, EVE, ROOT = (token_text(name) for name in ("ada", "bob", "eve", "root"))


async def ready(rig: Rig, token: str, *watch: str) -> Peer:
    """A client that has what it asked for."""
    peer = await rig.connect(token, watch=["self", *watch])
    peer.take()
    return peer


async def ask(rig: Rig, peer: Peer, **message: Any) -> list[dict[str, Any]]:
    """What a request brings, when all is settled."""
    peer.say(**message)
    await rig.settle()
    return peer.take()


# --- watch, unwatch, sync --------------------------------------------------------------------------------------------


async def test_watching_brings_each_document_and_then_the_reply(rig: Rig) -> None:
    root = await ready(rig, ROOT)
    messages = await ask(rig, root, op="watch", id="1", docs=["user:ada", "org:acme", "user:bob"])
    assert [message["op"] for message in messages] == ["snapshot"] * 3 + ["reply"]
    assert messages[-1]["id"] == "1"
    assert set(messages[-1]["docs"]) == {"user:ada", "org:acme", "user:bob"}
    again = await ask(rig, root, op="watch", id="2", docs=[f"user:ada@{root.revs['user:ada']}", "user:bob@" + "0" * 16])
    assert [message["op"] for message in again] == ["current", "snapshot", "reply"]


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "forbidden"])
async def test_who_holds_what_is_asked_for_again_and_refused_is_told_that_it_is_gone(rig: Rig, deleted: bool) -> None:
    root = await ready(rig, ROOT, "user:ada")
    root.pause()
    root.say(op="watch", id="again", docs=["user:ada", "user:bob"])
    await rig.run(
        "DELETE FROM users WHERE id = 'ada'" if deleted else "UPDATE users SET is_admin = 0 WHERE id = 'root'"
    )
    root.resume()
    await rig.settle()
    of_ada = [message for message in root.take() if message.get("doc") == "user:ada"]
    assert [message["op"] for message in of_ada] == ["error", "gone"]
    assert of_ada[1]["reason"] == ("deleted" if deleted else "forbidden")


async def test_what_does_not_exist_and_what_is_not_allowed_look_the_same(rig: Rig) -> None:
    eve = await ready(rig, EVE)
    strange = ["user:ada", "user:nobody", "org:acme", "org:nowhere", "keys", "revocations", "instance:i"]
    strange += [
        "plan:pro",
        "role:r1",
        "",
        "user:",
        "org:",
        "USER:eve",
        "user:eve ",
        "user:EVE",
        "self ",
        ":",
        "x" * 256,
    ]
    for doc in filter(None, strange):
        [error] = await ask(rig, eve, op="watch", id="1", docs=[doc])
        assert error.pop("doc") == doc
        assert error == {"op": "error", "id": "1", "code": "not_found", "message": "No such document."}
    root = await ready(rig, ROOT)
    for doc in ("user:nobody", "org:nowhere", "keys", "plan:pro", "user:", "org:"):
        [error] = await ask(rig, root, op="watch", id="1", docs=[doc])
        assert (error["code"], error["doc"]) == ("not_found", doc)
    assert set(rig.hub.entries) == {"user:eve", "user:root"}


async def test_a_request_that_is_partly_granted_is_answered_for_each_part(rig: Rig) -> None:
    root = await ready(rig, ROOT)
    messages = await ask(rig, root, op="watch", id="1", docs=["user:nobody", "user:ada", "keys"])
    assert sorted(message["op"] for message in messages) == ["error", "error", "reply", "snapshot"]
    assert messages[-1] == {"op": "reply", "id": "1", "docs": ["user:ada"]}


async def test_a_request_for_nothing_is_answered_too(rig: Rig) -> None:
    ada = await ready(rig, ADA)
    assert await ask(rig, ada, op="watch", id="1", docs=[]) == [{"op": "reply", "id": "1", "docs": []}]
    assert await ask(rig, ada, op="unwatch", id="2", docs=[]) == [{"op": "reply", "id": "2", "docs": []}]
    assert await ask(rig, ada, op="unwatch", id="3", docs=["org:x"]) == [{"op": "reply", "id": "3", "docs": []}]


@pytest.mark.parametrize("settle", [True, False], ids=["known", "not yet read"])
async def test_a_document_that_is_named_twice_comes_once(rig: Rig, settle: bool) -> None:
    ada = await rig.connect(ADA, watch=["org:acme"], settle=settle)
    ada.take()
    messages = await ask(rig, ada, op="watch", id="1", docs=["self", "user:ada", "self@" + "0" * 16])
    about_self = [message for message in messages if message.get("doc") == "user:ada"]
    assert [message["op"] for message in about_self] == ["snapshot"]
    assert [message for message in messages if message["op"] == "reply"] == [
        {"op": "reply", "id": "1", "docs": ["user:ada"]}
    ]


async def test_every_request_is_answered_although_another_one_comes_before_it_is_decided(rig: Rig) -> None:
    root = await ready(rig, ROOT)
    root.say(op="watch", id="1", docs=["user:ada", "user:bob"])
    root.say(op="watch", id="2", docs=["user:ada"])
    root.say(op="watch", id="3", docs=["user:eve", "user:nobody"])
    root.say(op="unwatch", id="4", docs=["user:eve"])
    await rig.settle()
    messages = root.take()
    answered = [message["id"] for message in messages if "id" in message]
    assert sorted(answered) == ["1", "2", "3", "3", "4"]
    assert root.documents.keys() == {"user:root", "user:ada", "user:bob"}


async def test_the_reply_comes_behind_a_document_that_nobody_watched_here_before(rig: Rig) -> None:
    """Reading it puts the member's own document on the list, which holds it back."""
    ada = await ready(rig, ADA)
    for number in range(3):
        messages = await ask(rig, ada, op="watch", id=str(number), docs=["org:acme"])
        assert [message["op"] for message in messages] == ["snapshot", "reply"]
        assert [message["op"] for message in await ask(rig, ada, op="unwatch", id="u", docs=["org:acme"])] == ["reply"]
    assert rig.hub.watching._held == {}


async def test_requests_for_one_document_are_all_answered_behind_it(rig: Rig) -> None:
    root = await ready(rig, ROOT)
    for number in range(3):
        root.say(op="watch", id=str(number), docs=["user:ada"])
    await rig.settle()
    snapshot, *replies = root.take()
    assert (snapshot["op"], snapshot["doc"]) == ("snapshot", "user:ada")
    assert replies == [{"op": "reply", "id": str(number), "docs": ["user:ada"]} for number in range(3)]


STALLED = {
    "nothing": ("UPDATE users SET name = 'New' WHERE id = 'ada'", [("reply", None)], ["snapshot"]),
    "deleted": ("DELETE FROM users WHERE id = 'ada'", [("error", "user:ada")], []),
    "no right": ("UPDATE users SET is_admin = 0 WHERE id = 'root'", [("error", "user:ada")], []),
    "no sense": ("UPDATE users SET timezone = 'Mars/Olympus' WHERE id = 'ada'", [("reply", None)], ["snapshot"]),
}


@pytest.mark.parametrize("what", STALLED)
async def test_a_request_is_answered_behind_its_document_although_the_socket_takes_nothing(rig: Rig, what: str) -> None:
    """Whatever becomes of the document meanwhile."""
    change, answer, told = STALLED[what]
    root, other = await ready(rig, ROOT), await ready(rig, ROOT, "user:ada")
    root.pause()
    assert await ask(rig, root, op="watch", id="1", docs=["user:ada"]) == []
    await rig.run(change)
    root.resume()
    messages = [message for message in root.take() if message["op"] != "status" and message.get("doc") != "user:root"]
    assert [message["op"] for message in messages] == told + [op for op, _ in answer]
    assert [(message["op"], message.get("doc")) for message in messages[len(told) :]] == answer
    assert messages[-1]["id"] == "1"
    assert root.watches.open == other.watches.open == {}


async def test_a_document_that_was_never_built_is_answered_by_that(rig: Rig) -> None:
    root = await ready(rig, ROOT)
    await rig.run("UPDATE users SET timezone = 'Mars/Olympus' WHERE id = 'ada'")
    root.pause()
    messages = await ask(rig, root, op="watch", id="1", docs=["user:ada"])
    assert [message["op"] for message in messages] == ["status", "reply"]


async def test_what_is_not_watched_any_more_is_not_sent(rig: Rig) -> None:
    root = await ready(rig, ROOT, "user:ada")
    [reply] = await ask(rig, root, op="unwatch", id="1", docs=["user:ada", "self", "user:nobody", "user:ada"])
    assert reply == {"op": "reply", "id": "1", "docs": ["user:ada", "user:root"]}
    await rig.run("UPDATE users SET name = 'New' WHERE id IN ('ada', 'root')")
    assert root.take() == []
    messages = await ask(rig, root, op="watch", id="2", docs=["self"])
    assert [message["op"] for message in messages] == ["snapshot", "reply"]
    assert messages[0]["data"]["identity"]["name"] == "New"


async def test_sync_sends_one_document_whole_again(rig: Rig) -> None:
    root = await ready(rig, ROOT, "user:ada")
    reply, snapshot = await ask(rig, root, op="sync", id="1", doc="self")
    assert reply == {"op": "reply", "id": "1", "doc": "user:root"}
    assert (snapshot["op"], snapshot["doc"]) == ("snapshot", "user:root")
    reply, snapshot = await ask(rig, root, op="sync", id="3", doc=f"user:ada@{root.revs['user:ada']}")
    assert (reply["doc"], snapshot["op"], snapshot["doc"]) == ("user:ada", "snapshot", "user:ada")
    [error] = await ask(rig, root, op="sync", id="2", doc="user:bob")
    assert (error["code"], error["id"], error["doc"]) == ("not_found", "2", "user:bob")


async def test_pong_tells_what_was_sent_last(rig: Rig) -> None:
    root = await ready(rig, ROOT, "user:ada")
    [pong] = await ask(rig, root, op="ping", id="1", t=7)
    assert (pong["op"], pong["id"], pong["t"], pong["revs"]) == ("pong", "1", 7, root.revs)
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    root.take()
    [pong] = await ask(rig, root, op="ping")
    assert pong["revs"] == root.revs
    assert "id" not in pong


async def test_both_forms_of_the_wire_hold_the_same(rig: Rig) -> None:
    json, packed = [
        await rig.connect(ADA, codec=codec, watch=["self", "org:acme"]) for codec in (MESSAGEPACK, MESSAGEPACK)
    ]
    plain = await rig.connect(ADA, watch=["self", "org:acme"])
    await rig.run('UPDATE users SET attributes = \'{"a":1.5,"b":["\u00e9"]}\' WHERE id = \'ada\'')
    for peer in (json, packed, plain):
        peer.take()
    assert json.documents == packed.documents == plain.documents
    assert json.revs == plain.revs


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_session_watches_at_most_so_many_documents(cast: Database) -> None:
    async with Rig(cast, max_documents=3) as rig:
        root = await ready(rig, ROOT)
        [error] = await ask(rig, root, op="watch", id="1", docs=["user:ada", "user:bob", "user:eve"])
        assert (error["code"], error["id"]) == ("too_many_documents", "1")
        await ask(rig, root, op="watch", id="2", docs=["user:ada", "user:bob"])
        assert len(root.documents) == 3
        await ask(rig, root, op="watch", id="3", docs=["user:ada", "self", "user:root"])
        [error] = await ask(rig, root, op="watch", id="4", docs=["user:eve"])
        assert error["code"] == "too_many_documents"
        await ask(rig, root, op="unwatch", id="5", docs=["user:ada"])
        await ask(rig, root, op="watch", id="6", docs=["user:eve"])
        assert "user:eve" in root.documents


async def test_the_limit_holds_before_the_own_document_is_read(cast: Database) -> None:
    async with Rig(cast, max_documents=3) as rig:
        root = await rig.connect(ROOT, settle=False)
        for number, docs in enumerate((["user:ada"], ["user:bob"], ["user:eve"], ["org:acme"])):
            root.say(op="watch", id=str(number), docs=docs)
        await rig.settle()
        messages = root.take()
        assert len(root.documents) == 3
        assert [m["id"] for m in messages if m.get("code") == "too_many_documents"] == ["2", "3"]


async def test_the_oldest_session_makes_room(cast: Database) -> None:
    async with Rig(cast, max_sessions_per_user=2) as rig:
        first, second, bob = await ready(rig, ADA), await ready(rig, ADA), await ready(rig, BOB)
        third = await ready(rig, ADA)
        assert first.one("ended")["code"] == "replaced"
        assert first.transport.closed_with == (4003, "replaced", 5.0)
        assert (second.ended, third.ended, bob.ended) == (None, None, None)
        second.hang_up()
        await ready(rig, ADA)
        assert third.ended is None
        await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
        assert third.ops() == ["update"]
        assert first.take() == []


# --- rights ----------------------------------------------------------------------------------------------------------


async def test_a_right_that_is_lost_takes_the_document_away(rig: Rig) -> None:
    await rig.run(
        "INSERT INTO user_permissions(user_id, permission) VALUES ('eve', 'users.read'), ('eve', 'orgs.read')"
    )
    eve = await ready(rig, EVE, "user:ada", "org:acme")
    assert eve.documents.keys() == {"user:eve", "user:ada", "org:acme"}
    await rig.run("DELETE FROM user_permissions WHERE permission = 'users.read'")
    assert [(message["op"], message["doc"]) for message in eve.take()] == [("update", "user:eve"), ("gone", "user:ada")]
    await rig.write(Statement("UPDATE users SET name = 'Secret' WHERE id = 'ada'"))
    assert eve.take() == []
    await rig.run("UPDATE organizations SET name = 'Seen'")
    assert eve.one("update")["doc"] == "org:acme"
    await rig.run("INSERT INTO user_permissions(user_id, permission, effect) VALUES ('eve', 'orgs.read', 'deny')")
    assert ("gone", "forbidden") in [(message["op"], message.get("reason")) for message in eve.take()]
    assert eve.documents.keys() == {"user:eve"}


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM user_permissions WHERE user_id = 'eve'",
        "UPDATE api_tokens SET scopes = '{\"permissions\":[]}' WHERE id = 't_eve'",
    ],
)
@pytest.mark.parametrize("order", [0, 1])
async def test_what_is_written_together_with_the_loss_of_the_right_is_not_seen(rig: Rig, loss: str, order: int) -> None:
    await rig.run(
        "INSERT INTO user_permissions(user_id, permission) VALUES ('eve', 'users.read'), ('eve', 'orgs.read')"
    )
    eve = await ready(rig, EVE, "user:ada", "org:acme")
    writes = [
        Statement("UPDATE users SET name = 'Secret' WHERE id = 'ada'"),
        Statement("UPDATE organizations SET name = 'Secret'"),
    ]
    await rig.write(*([Statement(loss), *writes] if order else [*writes, Statement(loss)]))
    messages = eve.take()
    assert "Secret" not in str(messages)
    assert sorted(message["doc"] for message in messages if message["op"] == "gone") == ["org:acme", "user:ada"]
    assert eve.documents.keys() == {"user:eve"}


async def test_who_leaves_an_organization_sees_nothing_of_it_after(rig: Rig) -> None:
    bob = await ready(rig, BOB, "org:acme")
    assert "members" not in bob.documents["org:acme"]
    await rig.write(
        Statement("DELETE FROM memberships WHERE user_id = 'bob'"),
        Statement("UPDATE organizations SET name = 'Secret'"),
    )
    messages = bob.take()
    assert "Secret" not in str(messages)
    assert [message["op"] for message in messages if message["doc"] == "org:acme"] == ["gone"]


async def test_who_may_manage_the_members_sees_them_from_then_on(rig: Rig) -> None:
    bob = await ready(rig, BOB, "org:acme")
    assert bob.documents["org:acme"].keys() == {"organization", "quotas"}
    await rig.run("UPDATE memberships SET role = 'owner' WHERE user_id = 'bob'")
    assert bob.take()[-1]["op"] == "snapshot"
    assert bob.documents["org:acme"]["members"].keys() == {"ada", "bob"}
    await rig.run("DELETE FROM org_role_permissions WHERE permission = 'manage_members'")
    assert bob.take()[-1]["op"] == "snapshot"
    assert "members" not in bob.documents["org:acme"]
    await rig.write(add_user("zoe"), insert("memberships", org_id="acme", user_id="zoe", role="member"))
    assert bob.take() == []


async def test_only_who_sees_the_members_hears_of_new_ones(rig: Rig) -> None:
    ada, bob = await ready(rig, ADA, "org:acme"), await ready(rig, BOB, "org:acme")
    await rig.run("INSERT INTO memberships(org_id, user_id, created_at) VALUES ('acme', 'eve', 5)")
    update = ada.one("update")
    assert update["patch"] == {"members": {"eve": {"role": "member", "since": "1970-01-01T00:00:00.005Z"}}}
    assert bob.take() == []
    await rig.run("UPDATE organizations SET name = 'New'")
    assert sorted(message["doc"] for message in bob.take()) == ["org:acme", "user:bob"]


async def test_a_disabled_organization_is_gone_for_its_members_and_not_for_who_sees_all(rig: Rig) -> None:
    bob, root = await ready(rig, BOB, "org:acme"), await ready(rig, ROOT, "org:acme")
    await rig.run("UPDATE organizations SET status = 'disabled'")
    assert "org:acme" not in bob.documents or bob.take()
    assert bob.documents.keys() == {"user:bob"}
    root.take()
    assert root.documents["org:acme"]["organization"]["status"] == "disabled"


# --- before the own document is known --------------------------------------------------------------------------------


async def test_what_is_asked_for_before_the_own_document_is_read_is_decided_by_it(rig: Rig) -> None:
    root = await rig.connect(ROOT, watch=["user:ada", "org:acme", "self", "user:nobody"])
    eve = await rig.connect(EVE, watch=["user:ada", "self"])
    assert sorted(root.ops()) == ["error", "hello", "ready", "snapshot", "snapshot", "snapshot"]
    assert sorted(eve.ops()) == ["error", "hello", "ready", "snapshot"]


async def test_what_was_taken_back_before_it_was_decided_is_not_watched(rig: Rig) -> None:
    root = await rig.connect(ROOT, settle=False)
    root.say(op="watch", id="1", docs=["user:ada"])
    root.say(op="unwatch", id="2", docs=["user:ada"])
    await rig.settle()
    root.take()
    assert "user:ada" not in root.documents
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert root.take() == []


async def test_who_goes_before_the_own_document_is_read_leaves_nothing_behind(rig: Rig) -> None:
    root = await rig.connect(ROOT, watch=["user:ada", "self"], settle=False)
    root.hang_up()
    await rig.settle()
    assert rig.hub.entries == {}
    assert root.ops() == ["hello", "ready"]


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_ada'",
        "DELETE FROM api_tokens WHERE id = 't_ada'",
        "UPDATE users SET status = 'disabled' WHERE id = 'ada'",
        "DELETE FROM users WHERE id = 'ada'",
        "UPDATE api_tokens SET user_id = 'bob' WHERE id = 't_ada'",
        "UPDATE api_tokens SET token_hash = 'another' WHERE id = 't_ada'",
        "UPDATE api_tokens SET token_hash = token_hash || 'x' WHERE id = 't_ada'",
        "UPDATE api_tokens SET token_hash = substr(token_hash, 1, 63) WHERE id = 't_ada'",
        "UPDATE api_tokens SET id = 't_other' WHERE id = 't_ada'",
        "UPDATE users SET id = 'ada2' WHERE id = 'ada'",
    ],
)
async def test_a_credential_that_is_taken_away_ends_its_sessions_before_anything_else(rig: Rig, change: str) -> None:
    ada, bob, root = await ready(rig, ADA), await ready(rig, BOB), await ready(rig, ROOT, "user:ada")
    await rig.write(
        Statement("UPDATE users SET name = 'Secret' WHERE id = 'ada'"),
        Statement("INSERT INTO plan_permissions VALUES ('free', 'z')"),
        Statement(change),
    )
    ended = ada.one("ended")
    assert (ended["code"], ended["reconnect"]) == ("revoked", "never")
    assert ada.transport.closed_with == (4500, "revoked", 1.0)
    assert bob.ended is None
    assert root.ended is None


async def test_only_the_sessions_of_that_token_end(rig: Rig) -> None:
    other = token_text()
    await rig.database.write(add_token("ada", other, id="t_2"))
    first, second = await ready(rig, ADA), await ready(rig, other)
    await rig.run("UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_2'")
    assert (first.ended, second.ended) == (None, "revoked")
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert first.ops() == ["update"]


async def test_a_deleted_user_is_gone_for_who_watched(rig: Rig) -> None:
    root = await ready(rig, ROOT, "user:ada", "org:acme")
    await rig.run("DELETE FROM users WHERE id = 'ada'")
    gone = [message for message in root.take() if message["op"] == "gone"]
    assert gone == [{"op": "gone", "doc": "user:ada", "reason": "deleted"}]
    assert root.documents["org:acme"]["members"].keys() == {"bob"}
    await rig.run("INSERT INTO users(id, username, plan) VALUES ('ada', 'ada', 'free')")
    assert root.take() == []
    messages = await ask(rig, root, op="watch", id="1", docs=["user:ada"])
    assert [message["op"] for message in messages] == ["snapshot", "reply"]


async def test_a_user_who_is_deleted_and_made_anew_in_one_commit_stays(rig: Rig) -> None:
    ada, root = await ready(rig, ADA), await ready(rig, ROOT, "user:ada")
    await rig.write(Statement("DELETE FROM users WHERE id = 'ada'"), add_user("ada", "pro", name="New"))
    assert ada.ended == "revoked"
    root.take()
    assert root.documents["user:ada"]["identity"]["name"] == "New"
    assert root.documents["user:ada"]["organizations"] == {}


async def test_a_credential_whose_end_is_moved_ends_then(rig: Rig) -> None:
    ada = await ready(rig, ADA)
    await rig.run("UPDATE api_tokens SET expires_at = ? WHERE id = 't_ada'", START_MS + 30_000)
    assert ada.one("expiring")["expires_at"] == "2026-11-21T19:10:30.000Z"
    await rig.tick()
    rig.clock.advance(29)
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.ops() == ["update"]
    rig.clock.advance(1)
    await eventually(lambda: ada.ended)
    assert ada.one("ended")["code"] == "token_expired"


async def test_no_data_after_the_end_of_the_credential_although_nobody_noticed_it_yet(rig: Rig) -> None:
    await rig.run("UPDATE api_tokens SET expires_at = ? WHERE id = 't_ada'", START_MS + 30_000)
    ada = await ready(rig, ADA)
    rig.clock.advance(30)
    await rig.run("UPDATE users SET name = 'Late' WHERE id = 'ada'")
    ada.say(op="sync", id="1", doc="self")
    ada.say(op="watch", id="2", docs=["self"])
    assert not any(message["op"] in ("update", "snapshot", "current") for message in ada.take())


# --- reading without a session ---------------------------------------------------------------------------------------


async def test_a_document_is_read_for_a_request_and_forgotten(rig: Rig) -> None:
    entries = await asyncio.gather(*(rig.node.user("ada") for _ in range(5)))
    assert {entry.publication.document.rev for entry in entries if entry.publication} != set()
    assert rig.feed.documents_read == 1
    assert rig.hub.entries == {}
    assert rig.hub.catalog.organizations == {}
    ada = await ready(rig, ADA)
    read = rig.feed.documents_read
    entry = await rig.node.user("ada")
    assert entry.publication is not None
    assert entry.publication.document.rev == ada.revs["user:ada"]
    assert rig.feed.documents_read == read


async def test_a_request_for_nobody_is_told_so(rig: Rig) -> None:
    for user in ("nobody", "", "ADA", "ada@x"):
        with pytest.raises(NotFound):
            await rig.node.user(user)
    assert rig.hub.entries == {}


async def test_a_request_for_what_can_not_be_built_is_told_to_come_back(rig: Rig) -> None:
    await rig.run("UPDATE users SET timezone = 'Mars/Olympus' WHERE id = 'ada'")
    with pytest.raises(Unavailable):
        await rig.node.user("ada")
    assert rig.hub.entries == {}


async def test_a_request_that_is_given_up_is_forgotten(rig: Rig) -> None:
    rig.store.fail()
    waiting = asyncio.create_task(rig.node.user("ada"))
    await eventually(lambda: "user:ada" in rig.hub.entries)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert rig.hub.entries == {}
    rig.store.recover()
    assert (await rig.node.user("ada")).id == "ada"


# --- memory ----------------------------------------------------------------------------------------------------------


async def test_nothing_stays_behind_when_everybody_has_gone(rig: Rig) -> None:
    peers = [
        await ready(rig, token, *watch)
        for token, watch in ((ADA, ["org:acme"]), (BOB, []), (EVE, []), (ROOT, ["user:ada", "user:eve", "org:acme"]))
    ]
    await run(rig.database, "UPDATE users SET name = 'New'")
    await rig.settle()
    for number, peer in enumerate(peers):
        if number % 2:
            peer.hang_up()
        else:
            peer.connection.stop()
            peer.hang_up()
    await rig.run("UPDATE users SET name = 'Newer'")
    hub = rig.hub
    assert (hub.entries, hub.catalog.organizations, hub.watching._deferred, rig.node.sessions) == ({}, {}, {}, {})
    assert hub.watching._held == {}
    assert not any((hub.related._plans, hub.related._roles, hub.related._organizations))
    assert not hub.work
