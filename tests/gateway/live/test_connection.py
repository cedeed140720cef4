from __future__ import annotations

import logging
from typing import Any

import pytest

from gateway.errors import Ending
from gateway.store.database import Database
from tests.support.node_rig import START_MS, Peer, Rig
from tests.support.people import add_token, run, token_text
from tests.support.waiting import eventually

ADA, BOB, EVE, ROOT = (token_text(name) for name in ("ada", "bob", "eve", "root"))


async def told(peer: Peer, op: str) -> dict[str, Any]:
    """The next message of that kind, as soon as it is there."""
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        found.extend(message for message in peer.take() if message["op"] == op)
        return bool(found)

    await eventually(arrived)
    return found[0]


# --- auth in a message -----------------------------------------------------------------------------------------------


async def test_a_token_in_the_first_message_opens_the_session(rig: Rig) -> None:
    ada = await rig.connect()
    assert ada.one("hello")["auth_timeout_s"] == 10.0
    ada.say(op="auth", token=ADA, id="1", client={"name": "test", "version": "1"}, last_end="timeout")
    await rig.settle()
    ready, snapshot = ada.take()
    assert (ready["op"], ready["principal"], ready["id"]) == ("ready", "user:ada", "1")
    assert (snapshot["op"], snapshot["doc"]) == ("snapshot", "user:ada")


async def test_a_token_in_the_first_message_may_bring_what_is_held(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    rev = ada.take()[-1]["rev"]
    again = await rig.connect()
    again.say(op="auth", token=ADA, watch=[f"self@{rev}", "org:acme"])
    await rig.settle()
    assert again.ops() == ["hello", "ready", "current", "snapshot"]
    none = await rig.connect()
    none.say(op="auth", token=ADA, watch=[])
    await rig.settle()
    assert none.ops() == ["hello", "ready"]


@pytest.mark.parametrize("token", [token_text(), "nonsense", ""])
async def test_a_bad_token_ends_the_connection(rig: Rig, token: str) -> None:
    peer = await rig.connect()
    peer.say(op="auth", token=token)
    await eventually(lambda: peer.ended)
    assert peer.transport.closed_with == (4102, "auth_failed", 5.0)
    assert peer.take()[-1]["reconnect"] == "new_credential"
    assert rig.node.sessions == {}


async def test_a_store_that_is_away_asks_to_come_back_later(rig: Rig) -> None:
    peer = await rig.connect()
    rig.store.fail()
    peer.say(op="auth", token=ADA)
    await eventually(lambda: peer.ended)
    ended = peer.take()[-1]
    assert (ended["code"], ended["reconnect"], ended["retry_after_s"]) == ("overloaded", "later", 1.0)


async def test_a_stranger_is_cut_off_in_time(rig: Rig) -> None:
    peer = await rig.connect()
    await rig.tick()
    rig.clock.advance(9.9)
    await run(rig.database, "UPDATE users SET name = 'x'")
    await rig.settle()
    assert peer.ended is None
    rig.clock.advance(0.1)
    await eventually(lambda: peer.ended == "auth_timeout")


async def test_a_verdict_that_comes_after_the_end_changes_nothing(rig: Rig) -> None:
    peer = await rig.connect()
    peer.say(op="auth", token=ADA)
    peer.hang_up()
    await rig.settle()
    assert rig.hub.entries == {}
    assert peer.ops() == ["hello"]


# --- renewal ---------------------------------------------------------------------------------------------------------


async def test_renewal_outlives_the_first_credential(rig: Rig) -> None:
    other = token_text()
    await rig.database.write(add_token("ada", other, id="t_2", expires_at=START_MS + 900_000))
    await run(rig.database, "UPDATE api_tokens SET expires_at = ? WHERE id = 't_ada'", START_MS + 100_000)
    ada = await rig.connect(ADA)
    session = ada.take()[1]["session"]
    ada.say(op="auth", token=other, id="1")
    ready = await told(ada, "ready")
    assert (ready["session"], ready["id"], ready["expires_at"]) == (session, "1", "2026-11-21T19:25:00.000Z")
    await run(rig.database, "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_ada'")
    await rig.settle()
    await rig.tick()
    rig.clock.advance(101)
    ada.connection.pong_received()
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.ended is None
    assert ada.one("update")["patch"]["identity"]["name"] == "New"
    await run(rig.database, "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_2'")
    await eventually(lambda: ada.ended == "revoked")


async def test_renewal_with_a_token_that_is_not_good_changes_nothing(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.say(op="auth", token=token_text(), id="1")
    assert (await told(ada, "error"))["code"] == "auth_failed"
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.ops() == ["update"]


async def test_renewal_with_another_users_token_ends_the_session(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.say(op="auth", token=BOB, id="1")
    await eventually(lambda: ada.ended)
    assert ada.transport.closed_with == (4501, "principal_changed", 5.0)
    rig.let_rested_go()
    assert rig.hub.entries == {}


async def test_renewal_may_watch_more(rig: Rig) -> None:
    root = await rig.connect(ROOT)
    root.take()
    root.say(op="auth", id="1", watch=["user:ada"])
    await rig.settle()
    assert root.ops() == ["ready", "snapshot"]


async def test_a_renewed_credential_with_fewer_scopes_sees_less(rig: Rig) -> None:
    narrow = token_text()
    await rig.database.write(add_token("root", narrow, id="t_2", scopes={"permissions": ["orgs.read"]}))
    root = await rig.connect(ROOT, watch=["self", "user:ada", "org:acme"])
    root.take()
    root.say(op="auth", token=narrow, id="1")
    await told(root, "gone")
    await rig.run("UPDATE users SET name = 'Secret' WHERE id = 'ada'")
    assert "Secret" not in str(root.take())
    assert root.documents.keys() == {"user:root", "org:acme"}


# --- the end of the credential ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_message", [True, False])
async def test_the_end_is_announced_and_comes_in_time(rig: Rig, by_message: bool) -> None:
    await run(rig.database, "UPDATE api_tokens SET expires_at = ? WHERE id = 't_ada'", START_MS + 65_000)
    if by_message:
        ada = await rig.connect()
        ada.say(op="auth", token=ADA)
        await rig.settle()
    else:
        ada = await rig.connect(ADA)
    ada.take()
    await rig.tick()
    rig.clock.advance(5)
    assert (await told(ada, "expiring"))["expires_at"] == "2026-11-21T19:11:05.000Z"
    rig.clock.advance(23)
    await eventually(lambda: ada.transport.pings == 1)
    ada.connection.pong_received()
    rig.clock.advance(37)
    await eventually(lambda: ada.ended)
    assert ada.transport.closed_with == (4100, "token_expired", 5.0)


# --- heartbeat -------------------------------------------------------------------------------------------------------


async def test_who_answers_pings_stays_and_who_does_not_goes(rig: Rig) -> None:
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    await rig.tick()
    for beat in range(1, 4):
        rig.clock.advance(28)
        await eventually(lambda beat=beat: ada.transport.pings == beat)
        ada.connection.pong_received()
        if beat == 1:
            await eventually(lambda: bob.transport.pings == 1)
    assert ada.ended is None
    assert bob.transport.closed_with == (4001, "timeout", 5.0)


# --- a socket that takes nothing -------------------------------------------------------------------------------------


async def test_a_slow_reader_gets_fewer_and_larger_steps(rig: Rig) -> None:
    ada, root = await rig.connect(ADA), await rig.connect(ROOT, watch=["user:ada", "org:acme"])
    ada.take(), root.take()
    ada.pause()
    for change in (
        "UPDATE users SET name = 'One' WHERE id = 'ada'",
        "INSERT INTO plan_permissions VALUES ('free', 'z')",
        "UPDATE users SET name = 'Two' WHERE id = 'ada'",
        "INSERT INTO user_roles(user_id, role) VALUES ('ada', 'r1')",
    ):
        await rig.run(change)
    assert ada.take() == []
    assert root.ops() == ["update"] * 4
    ada.resume()
    update = ada.one("update")
    assert update["causes"] == ["permissions", "profile", "roles"]
    assert update["patch"]["permissions"] == {"z": True, "c": True}
    assert update["patch"]["identity"]["name"] == "Two"
    assert ada.documents["user:ada"] == root.documents["user:ada"]
    assert rig.hub.counters.conflated >= 4
    ada.resume()
    assert ada.take() == []


async def test_what_comes_back_to_what_it_was_while_nobody_read_is_not_sent(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.pause()
    await rig.run("INSERT INTO plan_permissions VALUES ('free', 'z')")
    await rig.run("DELETE FROM plan_permissions WHERE permission = 'z'")
    ada.resume()
    assert ada.take() == []


async def test_what_is_asked_for_while_nothing_is_taken_comes_later(rig: Rig) -> None:
    root = await rig.connect(ROOT)
    root.take()
    root.pause()
    root.say(op="watch", id="1", docs=["user:ada", "user:bob"])
    root.say(op="sync", id="2", doc="self")
    await rig.settle()
    root.say(op="unwatch", id="3", docs=["user:bob"])
    await rig.run("UPDATE users SET name = 'New' WHERE id IN ('ada', 'bob')")
    messages = root.take()
    assert [(message["op"], message["id"]) for message in messages] == [("reply", "2"), ("reply", "3")]
    root.resume()
    *messages, reply = root.take()
    assert reply == {"op": "reply", "id": "1", "docs": ["user:bob", "user:ada"]}
    assert {message["op"] for message in messages} == {"snapshot"}
    snapshots = {message["doc"]: message for message in messages}
    assert snapshots.keys() == {"user:ada", "user:root"}
    assert snapshots["user:ada"]["data"]["identity"]["name"] == "New"


async def test_what_is_gone_meanwhile_is_not_sent_later(rig: Rig) -> None:
    root = await rig.connect(ROOT, watch=["user:ada"])
    root.take()
    root.pause()
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    await rig.run("DELETE FROM users WHERE id = 'ada'")
    root.resume()
    assert [message["op"] for message in root.take()] == ["gone"]


async def test_who_takes_nothing_for_too_long_is_cut_off(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.pause(unsent=100_000)
    await rig.tick()
    rig.clock.advance(9.9)
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert ada.ended is None
    rig.clock.advance(0.1)
    await eventually(lambda: ada.ended)
    assert ada.transport.closed_with == (4002, "too_slow", 5.0)


async def test_who_takes_a_little_is_given_more_time(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.pause(unsent=100_000)
    await rig.tick()
    for unsent in (99_999, 50_000, 10):
        ada.transport.waiting = unsent
        ada.connection.pong_received()
        rig.clock.advance(10)
        await rig.run("UPDATE users SET name = name || 'x' WHERE id = 'ada'")
        await eventually(lambda: ada.connection.scheduled_at > rig.clock.mono)
        assert ada.ended is None
    rig.clock.advance(10)
    await eventually(lambda: ada.ended == "too_slow")


async def test_revocation_passes_a_full_socket(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.pause()
    await rig.run("UPDATE users SET name = 'Secret' WHERE id = 'ada'")
    await rig.run("UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_ada'")
    assert ada.one("ended")["code"] == "revoked"
    ada.resume()
    assert ada.take() == []


# --- faults, and what is left behind ---------------------------------------------------------------------------------


async def test_a_fault_of_one_socket_disturbs_no_other(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    ada, other = await rig.connect(ADA), await rig.connect(ADA)
    ada.take(), other.take()

    def explode(payload: bytes, binary: bool) -> None:
        raise RuntimeError("who knows")

    ada.transport.send_message = explode  # type: ignore[method-assign]
    ada.transport.end = lambda *args: None  # type: ignore[method-assign]
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert other.ops() == ["update"]
    assert ada.connection.ending is Ending.INTERNAL
    assert ada.connection.session.id in [vars(record).get("session") for record in caplog.records]
    await rig.run("UPDATE users SET name = 'Newer' WHERE id = 'ada'")
    assert other.ops() == ["update"]
    assert rig.feed.resyncs == 0


@pytest.mark.parametrize(("how", "reason"), [("client", "client"), ("stop", "going_away"), ("token", "revoked")])
async def test_one_line_tells_how_a_session_ended(
    rig: Rig, caplog: pytest.LogCaptureFixture, how: str, reason: str
) -> None:
    caplog.set_level(logging.INFO, "gateway.session")
    ada = await rig.connect(ADA)
    rig.clock.advance(12)
    if how == "stop":
        ada.connection.stop()
    elif how == "token":
        await rig.run("UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_ada'")
    ada.hang_up()
    [record] = [record for record in caplog.records if record.message == "session ended"]
    line = vars(record)
    assert (line["reason"], line["principal"], line["seconds"]) == (reason, "user:ada", 12.0)
    assert (line["address"], line["session"]) == ("192.0.2.1", ada.connection.session.id)
    assert rig.node.ended_by == {reason: 1}
    assert ADA not in caplog.text


async def test_a_flood_ends_the_session(cast: Database) -> None:
    async with Rig(cast, messages_per_minute=5) as rig:
        ada = await rig.connect(ADA)
        ada.take()
        for _ in range(20):
            ada.say(op="ping")
        messages = ada.take()
        assert [message["op"] for message in messages] == ["pong"] * 5 + ["error"] * 5 + ["ended"]
        assert (messages[-1]["code"], ada.transport.closed_with) == ("rate_limited", (4005, "rate_limited", 5.0))


@pytest.mark.parametrize(("frame", "code"), [(b"\xff", 4502), (b"[]", 4502), (b" " * 16_385, 4503)])
async def test_a_frame_that_is_no_message_ends_the_session(rig: Rig, frame: bytes, code: int) -> None:
    ada = await rig.connect(ADA)
    ada.connection.frame_received(frame, True)
    assert ada.transport.closed_with is not None
    assert ada.transport.closed_with[0] == code
    rig.let_rested_go()
    assert rig.hub.entries == {}


async def test_the_transport_may_refuse_for_its_own_reasons(rig: Rig) -> None:
    for refuse, code in (("frame_too_large", 4503), ("frame_refused", 4502), ("stop", 1001)):
        ada = await rig.connect(ADA)
        getattr(ada.connection, refuse)()
        assert ada.transport.closed_with is not None
        assert ada.transport.closed_with[0] == code
        ada.say(op="ping")
        ada.connection.control_received()
        ada.connection.pong_received()
        ada.hang_up()
        assert ada.take()[-1]["op"] == "ended"
