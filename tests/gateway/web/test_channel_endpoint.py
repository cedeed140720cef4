"""The channel under Starlette's test client, that is over plain ASGI."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from gateway.core.document import apply, canonical, revision
from gateway.live.transport import AsgiTransport
from tests.gateway.web.conftest import Json, Site, StartSite, one, opened, take
from tests.support.foreign_writer import ForeignWriter
from tests.support.people import token_text

JSON = "gateway.v1+json"
MESSAGEPACK = "gateway.v1+msgpack"


@pytest.fixture
def foreign(site: Site, tmp_path: Path) -> Iterator[ForeignWriter]:
    with ForeignWriter(tmp_path / "gateway.db") as writer:
        yield writer


def ended(socket: WebSocketTestSession) -> tuple[str, str, int]:
    """Code and advice of the end, which is next, and the close code after it."""
    message = one(socket, "ended")
    with pytest.raises(WebSocketDisconnect) as closing:
        socket.receive_text()
    assert closing.value.reason == message["code"]
    return message["code"], message["reconnect"], closing.value.code


def selection(socket: WebSocketTestSession) -> str | None:
    """The subprotocol that the gateway selected."""
    return socket.accepted_subprotocol


# --- the beginning ---


def test_a_token_on_the_handshake_leads_to_the_document_at_once(site: Site) -> None:
    with site.connect(site.bearer(id="t_1")) as socket:
        hello, ready, snapshot = take(socket, "hello", "ready", "snapshot")
    assert (hello["protocol"], hello["node"], hello["max_frame_bytes"]) == (1, site.node.name, 16_384)
    assert set(hello) >= {"epoch", "server_time", "heartbeat_s", "auth_timeout_s", "features"}
    assert ready["principal"] == snapshot["doc"] == "user:u_ada"
    assert snapshot["data"]["identity"]["username"] == "ada"
    assert snapshot["rev"] == revision(canonical(snapshot["data"]))


def test_a_token_in_the_first_message_does_the_same(site: Site) -> None:
    with site.connect() as socket:
        one(socket, "hello")
        socket.send_json({"op": "auth", "id": "a", "token": site.token(), "watch": ["self", "org:o_acme"]})
        ready = one(socket, "ready")
        assert (ready["principal"], ready["id"]) == ("user:u_ada", "a")
        documents = {message["doc"]: message for message in take(socket, "snapshot", "snapshot")}
    assert set(documents) == {"user:u_ada", "org:o_acme"}
    assert set(documents["org:o_acme"]["data"]["members"]) == {"u_ada", "u_alan", "u_grace"}


@pytest.mark.parametrize(
    ("offered", "selected"),
    [(None, None), ([JSON], JSON), (["unheard", JSON], JSON), ([JSON, MESSAGEPACK], JSON)],
)
def test_json_unless_another_is_preferred(site: Site, offered: list[str] | None, selected: str | None) -> None:
    with site.connect(site.bearer(), subprotocols=offered) as socket:
        assert selection(socket) == selected
        assert opened(socket)["data"]["identity"]["id"] == "u_ada"


def test_messagepack(site: Site) -> None:
    with site.connect(site.bearer(), subprotocols=[MESSAGEPACK, JSON]) as socket:
        assert selection(socket) == MESSAGEPACK
        hello, _, snapshot = [msgspec.msgpack.decode(socket.receive_bytes()) for _ in range(3)]
        assert (hello["op"], snapshot["data"]["identity"]["name"]) == ("hello", "Ada Lovelace")
        socket.send_bytes(msgspec.msgpack.encode({"op": "ping", "t": 1.5}))
        pong = msgspec.msgpack.decode(socket.receive_bytes())
        assert (pong["op"], pong["t"], pong["revs"]) == ("pong", 1.5, {"user:u_ada": snapshot["rev"]})
        socket.send_text('{"op":"ping"}')
        assert msgspec.msgpack.decode(socket.receive_bytes())["code"] == "bad_frame"


def test_the_revision_that_the_client_holds_is_not_sent_again(site: Site) -> None:
    bearer = site.bearer()
    with site.connect(bearer) as socket:
        held = opened(socket)
    with site.connect(bearer, path=f"/ws?unknown=1&watch=self@{held['rev']}&watch=org:o_acme") as socket:
        take(socket, "hello", "ready")
        answers = {message["op"]: message for message in (socket.receive_json(), socket.receive_json())}
    assert answers["current"] | {"seq": 0} == {"op": "current", "doc": "user:u_ada", "rev": held["rev"], "seq": 0}
    assert answers["snapshot"]["doc"] == "org:o_acme"
    with site.connect(bearer, path=f"/ws?watch=self@{'0' * 16}") as socket:
        assert opened(socket)["rev"] == held["rev"]


def test_no_credential_in_time(start_site: StartSite) -> None:
    site = start_site(channel={"auth_timeout_s": 0.05})
    with site.connect() as socket:
        assert one(socket, "hello")["auth_timeout_s"] == 0.05
        assert ended(socket) == ("auth_timeout", "now", 4101)


def test_a_bad_token_in_the_first_message(site: Site) -> None:
    for token in ("nonsense", token_text("never issued")):
        with site.connect() as socket:
            one(socket, "hello")
            socket.send_json({"op": "auth", "token": token})
            assert ended(socket) == ("auth_failed", "new_credential", 4102)


@pytest.mark.parametrize("message", [{"op": "ping"}, {"op": "watch", "id": "1", "docs": ["self"]}, {"op": "x"}, {}])
def test_nothing_but_auth_before_ready(site: Site, message: Json) -> None:
    with site.connect() as socket:
        one(socket, "hello")
        socket.send_json(message)
        assert ended(socket) == ("not_authenticated", "never", 4504)


def test_heartbeats_are_the_servers_matter(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASGI has no pings: a session does not end because nobody could answer one."""
    pinged = threading.Semaphore(0)
    ping = AsgiTransport.ping

    def counting(transport: AsgiTransport) -> None:
        ping(transport)
        pinged.release()

    monkeypatch.setattr(AsgiTransport, "ping", counting)
    site = start_site(channel={"heartbeat_s": 0.05, "pong_timeout_s": 0.05})
    with site.connect(site.bearer()) as socket:
        opened(socket)
        for _ in range(3):
            assert pinged.acquire(timeout=10)
        socket.send_json({"op": "ping"})
        one(socket, "pong")


# --- what changes ---


def test_a_write_of_the_application_and_one_of_somebody_else(site: Site, foreign: ForeignWriter) -> None:
    with site.connect(site.bearer()) as socket:
        held = opened(socket)
        seq = site.run("UPDATE users SET name = 'Countess' WHERE id = 'u_ada'")
        first = one(socket, "update")
        assert (first["from"], first["causes"]) == (held["rev"], ["profile"])
        assert first["seq"] >= seq
        document = apply(held["data"], first["patch"])
        assert (revision(canonical(document)), document["identity"]["name"]) == (first["rev"], "Countess")
        foreign.execute("UPDATE users SET plan = 'free' WHERE id = 'u_ada'")
        second = one(socket, "update")
        assert (second["from"], "plan" in second["causes"]) == (first["rev"], True)
        document = apply(document, second["patch"])
    assert revision(canonical(document)) == second["rev"]
    assert set(document["permissions"]) == {"can_use_email"}


def test_revoked_is_the_end(site: Site, foreign: ForeignWriter) -> None:
    sql = ["DELETE FROM api_tokens WHERE id = 't_0'", "UPDATE users SET status = 'disabled' WHERE id = 'u_ada'"]
    for number, statement in enumerate(sql):
        with site.connect(site.bearer(id=f"t_{number}")) as socket:
            opened(socket)
            foreign.execute(statement)
            assert ended(socket) == ("revoked", "never", 4500)


# --- requests ---


def test_watch_unwatch_sync_and_ping(site: Site) -> None:
    with site.connect(site.bearer()) as socket:
        own = opened(socket)
        socket.send_json({"op": "watch", "id": "w", "docs": ["org:o_acme", "user:u_alan", "user:u_none"]})
        messages = [socket.receive_json() for _ in range(4)]
        assert sorted(message["op"] for message in messages) == ["error", "error", "reply", "snapshot"]
        errors = [message for message in messages if message["op"] == "error"]
        assert {(error["id"], error["code"], error["message"]) for error in errors} == {
            ("w", "not_found", errors[0]["message"])
        }, "one answer for what is not there and what may not be seen"
        [reply] = [message for message in messages if message["op"] == "reply"]
        assert (reply["id"], reply["docs"]) == ("w", ["org:o_acme"])
        socket.send_json({"op": "unwatch", "id": "u", "docs": ["org:o_acme"]})
        assert one(socket, "reply")["id"] == "u"
        site.run("UPDATE organizations SET attributes = '{\"unseen\":1}' WHERE id = 'o_acme'")
        socket.send_json({"op": "sync", "id": "s", "doc": "self"})
        answers = {message["op"]: message for message in (socket.receive_json(), socket.receive_json())}
        assert (answers["reply"]["id"], answers["snapshot"]["data"]) == ("s", own["data"])
        socket.send_json({"op": "ping", "id": "p", "t": "mark"})
        pong = one(socket, "pong")
    assert (pong["id"], pong["t"], pong["revs"]) == ("p", "mark", {"user:u_ada": own["rev"]})


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"op": "unheard"}, "unknown_op"),
        ({"op": "spend", "quota": "voice_minutes", "amount": 1, "key": "k"}, "unknown_op"),
        ({"op": "consume", "quota": "voice_minutes", "amount": 1}, "bad_request"),
        ({"op": "consume", "quota": "calls", "amount": 1, "key": "k"}, "not_found"),
        ({"op": "consume", "quota": "voice_minutes", "amount": 501, "key": "k"}, "quota_exceeded"),
        ({"op": "commit", "lease": "call", "amount": 1}, "lease_not_found"),
        ({"op": "watch"}, "bad_request"),
        ({"op": "watch", "docs": "self"}, "bad_request"),
        ({"op": "sync", "doc": "org:o_acme"}, "not_found"),
        ({"no": "op"}, "bad_request"),
        ({"op": 7}, "bad_request"),
    ],
)
def test_a_request_that_fails_is_answered_and_the_session_lives_on(site: Site, message: Json, code: str) -> None:
    with site.connect(site.bearer()) as socket:
        opened(socket)
        socket.send_json(message | {"id": "r"})
        error = one(socket, "error")
        assert (error["code"], error["id"]) == (code, "r")
        socket.send_json({"op": "ping", "unknown_field": 1})
        one(socket, "pong")


@pytest.mark.parametrize(
    ("frame", "code", "close"),
    [
        (b'{"op":"ping"}', "bad_frame", 4502),
        ("not JSON", "bad_frame", 4502),
        ("", "bad_frame", 4502),
        ('["op","ping"]', "bad_frame", 4502),
        ('{"op":"ping","x":' + "[" * 5000 + "]" * 5000 + "}", "bad_frame", 4502),
        ('{"op":"ping","t":"\ud800"}', "bad_frame", 4502),
        (json.dumps({"op": "ping", "x": "y" * 16_384}), "too_large", 4503),
    ],
)
def test_a_frame_that_ends_the_session(site: Site, frame: str | bytes, code: str, close: int) -> None:
    with site.connect(site.bearer()) as socket:
        opened(socket)
        if isinstance(frame, bytes):
            socket.send_bytes(frame)
        else:
            socket.send_text(frame)
        assert ended(socket) == (code, "never", close)
        assert not site.node.sessions


def test_a_frame_may_be_as_large_as_it_is_said(site: Site) -> None:
    with site.connect(site.bearer()) as socket:
        opened(socket)
        socket.send_text(json.dumps({"op": "ping", "t": 1}).ljust(16_384))
        assert one(socket, "pong")["t"] == 1
