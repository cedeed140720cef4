from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from gateway.core import wire
from gateway.errors import Ending, GatewayError
from gateway.web.asyncapi import SECURITY_SCHEMES, asyncapi
from tests.gateway.web.conftest import Json, Site, StartSite
from tests.support.described import Description, schemas
from tests.support.gateway_replay import DIRECTORY, read
from tests.support.markdown import Markdown

CLIENT = {str(kind.__struct_config__.tag): kind for kind in get_args(wire.ClientMessage)}
SERVER = {str(kind.__struct_config__.tag): kind for kind in wire.ServerMessage.__subclasses__()}


@pytest.fixture
def description(site: Site) -> Description:
    return Description(site.client.get("/asyncapi.json").json())


@pytest.fixture(scope="module")
def made() -> Description:
    """The same without a gateway."""
    return Description(msgspec.json.decode(msgspec.json.encode(asyncapi("/ws", "https://id.example.org:8443"))))


def faults(description: Description, frame: Json, direction: str) -> list[str]:
    """What the document does not allow of a frame that goes this way: ``fromClient`` or ``toClient``."""
    named = {
        description.at(description.at(one["$ref"])["$ref"])["name"]: description.at(one["$ref"])["$ref"]
        for one in description.document["operations"][direction]["messages"]
    }
    if frame.get("op") not in named:
        return [f"{frame.get('op')} does not go this way"]
    payload = description.at(named[frame["op"]])["payload"]["$ref"]
    return description.faults(frame, *payload.removeprefix("#/").split("/"))


# --- the document ---


def test_everybody_may_read_and_keep_it(site: Site) -> None:
    answer = site.client.get("/asyncapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    again = site.client.get("/asyncapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_it_is_an_asyncapi_document(description: Description) -> None:
    """What AsyncAPI 3.0 asks for at each place that is used; its schemas are JSON Schema draft 7."""
    document = description.document
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(document["info"])
    for reference in description.references():
        assert description.at(reference)
    for schema in schemas(document):
        Draft7Validator.check_schema(schema)
    assert {operation["action"] for operation in document["operations"].values()} == {"send", "receive"}
    for operation in document["operations"].values():
        assert operation["channel"] == {"$ref": "#/channels/channel"}
        assert all(one["$ref"].startswith("#/channels/channel/messages/") for one in operation["messages"])
    for message in document["components"]["messages"].values():
        assert message["summary"].endswith((".", ".)")), message["name"]


def test_it_has_the_operations_of_the_code(made: Description) -> None:
    for direction, kinds in (("fromClient", CLIENT), ("toClient", SERVER)):
        named = [one["$ref"].rpartition("/")[2] for one in made.document["operations"][direction]["messages"]]
        assert named == list(kinds)
    assert set(made.document["channels"]["channel"]["messages"]) == set(CLIENT) | set(SERVER)
    assert set(made.document["components"]["messages"]) == set(CLIENT) | set(SERVER)


@pytest.mark.parametrize("op", [*CLIENT, *SERVER])
def test_every_message_has_the_fields_of_the_code(made: Description, op: str) -> None:
    payload = made.resolved(made.document["components"]["messages"][op]["payload"])
    fields = msgspec.structs.fields((CLIENT | SERVER)[op])
    assert list(payload["properties"]) == ["op", *(field.encode_name for field in fields)]
    assert payload["properties"]["op"] == {"enum": [op]}
    assert set(payload["required"]) == {"op", *(field.encode_name for field in fields if field.required)}


def test_it_has_the_ends_and_errors_of_the_code(made: Description) -> None:
    channel = made.document["channels"]["channel"]
    assert channel["x-close-codes"] == [
        {"close": end.close, "code": end.code, "reconnect": end.reconnect, "description": end.value.message}
        for end in Ending
    ]
    kinds = subclasses(GatewayError)
    assert sorted((one["code"], one["status"]) for one in channel["x-error-codes"]) == sorted(
        (kind.code, kind.status) for kind in kinds
    )
    assert all(one["description"] for one in channel["x-error-codes"])


def subclasses(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind for one in kind.__subclasses__() for kind in (one, *subclasses(one))]


def test_where_and_how_to_connect(made: Description) -> None:
    server, channel = made.document["servers"]["gateway"], made.document["channels"]["channel"]
    assert (server["host"], server["protocol"], channel["address"]) == ("id.example.org:8443", "wss", "/ws")
    assert asyncapi("/ws", "http://127.0.0.1:8787")["servers"]["gateway"]["protocol"] == "ws"
    assert channel["x-subprotocols"] == {
        "gateway.v1+json": "application/json",
        "gateway.v1+msgpack": "application/vnd.msgpack",
    }
    assert set(channel["x-subprotocols"]) == set(wire.CODECS)
    assert made.document["defaultContentType"] == "application/json"
    assert [made.at(one["$ref"]) for one in server["security"]] == list(SECURITY_SCHEMES.values())
    assert set(SECURITY_SCHEMES) == {"bearer", "signature", "ticket", "message"}


# --- frames are as described ---


def receive(socket: WebSocketTestSession, frames: list[Json], until: str) -> Json:
    """Take frames up to one of this op."""
    while True:
        frames.append(socket.receive_json())
        if frames[-1]["op"] == until:
            return frames[-1]


def live_frames(site: Site) -> list[Json]:
    """What a gateway says in a life with nearly everything in it."""
    frames: list[Json] = []
    with site.connect() as socket:
        receive(socket, frames, "hello")
        socket.send_json({"op": "auth", "token": site.token("u_admin", id="t_1"), "watch": ["self", "user:u_grace"]})
        receive(socket, frames, "snapshot")
        own = receive(socket, frames, "snapshot")
        site.run("UPDATE users SET name = 'Other' WHERE id = 'u_admin'")
        receive(socket, frames, "update")
        socket.send_json({"op": "watch", "id": "1", "docs": ["user:u_ada", "user:u_nobody"]})
        receive(socket, frames, "reply")
        socket.send_json({"op": "watch", "id": "2", "docs": [f"{own['doc']}@{own['rev']}"]})
        receive(socket, frames, "reply")
        socket.send_json({"op": "unwatch", "id": "3", "docs": ["user:u_ada"]})
        receive(socket, frames, "reply")
        socket.send_json({"op": "sync", "id": "4", "doc": "self"})
        receive(socket, frames, "snapshot")
        for message in ({"op": "ping"}, {"op": "ping", "id": "5", "t": 1.5}):
            socket.send_json(message)
            receive(socket, frames, "pong")
        for message in ({"op": "nonsense", "id": "6"}, {"op": "sync"}, {"op": "sync", "id": "7", "doc": "nothing"}):
            socket.send_json(message)
            receive(socket, frames, "error")
        site.run("DELETE FROM users WHERE id = 'u_grace'")
        receive(socket, frames, "gone")
        soon = site.node.clock.now().wall + 30_000
        socket.send_json({"op": "auth", "id": "8", "token": site.token("u_admin", id="t_2", expires_at=soon)})
        receive(socket, frames, "ready")
        receive(socket, frames, "expiring")
        site.run("DELETE FROM api_tokens")
        receive(socket, frames, "ended")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    return frames


def test_frames_of_a_live_channel_are_as_described(site: Site, description: Description) -> None:
    frames = live_frames(site)
    assert {frame["op"] for frame in frames} == set(SERVER) - {"status"}
    for frame in frames:
        assert faults(description, frame, "toClient") == [], frame


def test_overload_is_as_described(start_site: StartSite, made: Description) -> None:
    site = start_site(channel={"messages_per_minute": 1})
    frames: list[Json] = []
    with site.connect(site.bearer()) as socket:
        receive(socket, frames, "snapshot")
        for _ in range(4):
            socket.send_json({"op": "ping", "id": "1"})
        ended = receive(socket, frames, "ended")
    limited = [frame for frame in frames if frame["op"] == "error"]
    assert limited
    assert all(frame["retry_after_s"] > 0 for frame in [*limited, ended])
    for frame in frames:
        assert faults(made, frame, "toClient") == []


PLACEHOLDERS: Json = {"number": 1, "seq": 1, "any": []}
"""What stands in a transcript for a value that differs from run to run; all others stand for texts."""


def filled(value: Any) -> Any:
    """With a value in the place of each placeholder."""
    if isinstance(value, dict):
        return {filled(name): filled(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner) for inner in value]
    placeholder = re.fullmatch(r"<(\w+).*>", value) if isinstance(value, str) else None
    return PLACEHOLDERS.get(placeholder[1], "x") if placeholder else value


def transcribed(side: str) -> list[Json]:
    """Every message of this side, ``client`` or ``server``, in the transcripts that the gateway replays."""
    return [
        filled(line["message"])
        for path in sorted(DIRECTORY.glob("*.jsonl"))
        if not path.stem.startswith("sdk_")
        for line in read(path)[1]
        if line.get("from") == side and "message" in line
    ]


def test_what_the_gateway_says_in_the_transcripts_is_as_described(made: Description) -> None:
    frames = transcribed("server")
    assert {frame["op"] for frame in frames} == set(SERVER)
    for frame in frames:
        assert faults(made, frame, "toClient") == [], frame


def is_understood(frame: Json) -> bool:
    try:
        wire.JSON.decode(msgspec.json.encode(frame))
    except wire.RequestRefused:
        return False
    return True


def test_what_clients_say_in_the_transcripts_is_described_if_it_is_understood(made: Description) -> None:
    understood: dict[str, list[bool]] = {frame["op"]: [] for frame in transcribed("client")}
    for frame in transcribed("client"):
        understood[frame["op"]].append(is_understood(frame))
        assert (faults(made, frame, "fromClient") == []) == understood[frame["op"]][-1], frame
    assert {op for op, verdicts in understood.items() if any(verdicts)} == set(CLIENT)
    assert any(not all(verdicts) for verdicts in understood.values())


TEXTS = st.sampled_from(["", "x", "self", "x" * 64, "x" * 65, "x" * 256, "x" * 257])
VALUES = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-9, 9), st.floats(-1e300, 1e300), st.lists(TEXTS))
INFO = st.dictionaries(st.sampled_from(["name", "version", "more"]), VALUES)
NAMES = sorted({field.encode_name for kind in CLIENT.values() for field in msgspec.structs.fields(kind)})
MESSAGES = st.builds(
    lambda op, fields: {**fields, "op": op},
    st.sampled_from([*CLIENT, "hello", ""]),
    st.dictionaries(st.sampled_from([*NAMES, "more"]), VALUES | INFO),
)


@given(frame=MESSAGES)
def test_what_a_client_may_say_is_what_is_described(made: Description, frame: Json) -> None:
    """The decoder and the schema agree."""
    assert (faults(made, frame, "fromClient") == []) == is_understood(frame)


def test_examples_of_the_documentation_are_as_described(made: Description) -> None:
    frames = [value for value in Markdown("protocol.md").json_values() if "op" in value]
    assert len(frames) > 15
    for frame in frames:
        assert faults(made, frame, "fromClient" if frame["op"] in CLIENT else "toClient") == [], frame


def test_a_frame_that_is_not_as_described_is_noticed(made: Description) -> None:
    for frame in {frame["op"]: frame for frame in transcribed("server")}.values():
        payload = made.resolved(made.document["components"]["messages"][frame["op"]]["payload"])
        for name in set(payload["required"]) - {"op"}:
            less = {field: value for field, value in frame.items() if field != name}
            assert faults(made, less, "toClient") != [], (frame["op"], name)
        for name, schema in payload["properties"].items():
            if name in frame and schema and name != "op":
                assert faults(made, frame | {name: [[]]}, "toClient") != [], (frame["op"], name)
        assert faults(made, frame, "fromClient") != []
