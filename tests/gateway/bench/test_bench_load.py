"""The load generator against a scripted server that speaks just enough of the channel protocol."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from gateway.bench.board import Board, create_board
from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child
from gateway.bench.fleet import Fleet
from gateway.bench.marker import marked_name
from gateway.core.document import canonical, revision

Handler = Callable[[ServerConnection], None]


def document(index: int, name: str) -> dict[str, Any]:
    return {"identity": {"id": f"u_{index:06}", "name": name}, "permissions": {}}


def rev_of(data: dict[str, Any]) -> str:
    return revision(canonical(data))


def say(connection: ServerConnection, op: str, **fields: Any) -> None:
    connection.send(json.dumps({"op": op, **fields}, separators=(",", ":")))


class Scripted:
    """Greets every session with its document, then does what the test says to it."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: dict[int, ServerConnection] = {}
        self.requests: list[tuple[str, str]] = []

    def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        token = connection.request.headers["Authorization"].removeprefix("Bearer ")
        index = int(token.removeprefix("token"))
        self.requests.append((connection.request.path, token))
        self.connections[index] = connection
        data = document(index, "first")
        say(connection, "hello", protocol=1)
        say(connection, "ready", session="s", principal=f"user:u_{index:06}")
        if "@" in connection.request.path or "%40" in connection.request.path:
            say(connection, "current", doc=f"user:u_{index:06}", rev=rev_of(data), seq=1)
        else:
            say(connection, "snapshot", doc=f"user:u_{index:06}", rev=rev_of(data), seq=1, data=data)
        try:
            for _ in connection:
                pass
        except ConnectionClosed:
            pass

    def update(self, index: int, old: str, new: str, *, from_rev: str | None = None, rev: str | None = None) -> None:
        say(
            self.connections[index],
            "update",
            doc=f"user:u_{index:06}",
            **{"from": from_rev or rev_of(document(index, old))},
            rev=rev or rev_of(document(index, new)),
            seq=2,
            patch={"identity": {"name": new}},
            causes=["profile"],
        )


@contextmanager
def serving(handler: Handler) -> Iterator[int]:
    with serve(handler, "127.0.0.1", 0, compression=None, close_timeout=1) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port: int = server.socket.getsockname()[1]
        yield port
        server.shutdown()
        thread.join(10)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()
    with serving(script) as script.port:
        yield script


@pytest.fixture
def board(tmp_path: Path) -> Path:
    path = tmp_path / "board"
    create_board(path, 2)
    return path


@pytest.fixture
def fleet(tmp_path: Path, board: Path) -> Iterator[Fleet]:
    """Two load generators for users 0 to 19; the first has the even ones."""
    tokens = tmp_path / "tokens"
    tokens.write_text("\n".join(f"token{index}" for index in range(20)))
    paths = (str(tmp_path), str(tokens), str(board))
    loads = [Child("gateway.bench.load", *paths, str(slot), directory=tmp_path) for slot in range(2)]
    yield Fleet(loads, concurrency=8)
    for load in loads:
        load.close()


def fill(sock: socket.socket) -> None:
    """Send until the peer's window is shut and nothing more is taken."""
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 1000)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_session_has_its_own_token_and_address_and_waits_for_its_document(
    fleet: Fleet, scripted: Scripted
) -> None:
    done: list[int] = []
    opened = fleet.open("gateway", [scripted.port], range(20), on_progress=done.append)
    assert len(opened.times) == 20
    assert 0 < max(opened.times) <= opened.finished - opened.started
    assert sorted(scripted.requests) == sorted(("/ws", f"token{index}") for index in range(20))
    assert len({connection.remote_address[0] for connection in scripted.connections.values()}) == 8
    assert fleet.collect().faults == []


def test_updates_are_noted_with_their_commit_session_and_time(fleet: Fleet, scripted: Scripted, board: Path) -> None:
    fleet.open("gateway", [scripted.port], range(4))
    fleet.clear()
    before = time.monotonic_ns()
    for index in range(4):
        scripted.update(index, "first", marked_name(100 + index))
    last = fleet.await_one_each(range(4), within_s=10)
    assert before < last < time.monotonic_ns()
    collected = fleet.collect()
    rows = sorted(zip(collected.receipts.numbers, collected.receipts.sessions, strict=True))
    assert rows == [(100, 0), (101, 1), (102, 2), (103, 3)]
    assert max(collected.receipts.times) == last
    assert collected.bytes > 400
    assert collected.faults == []
    assert Board(board).least() == 102
    assert fleet.collect().receipts.times.tolist() == []


def test_a_missing_update_breaks_the_run(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    scripted.update(0, "first", marked_name(1))
    with pytest.raises(BenchBroken, match="1 of 2 updates arrived"):
        fleet.await_one_each(range(2), within_s=0.3)


def test_a_session_that_comes_back_names_the_revision_it_held(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    for index in range(2):
        scripted.update(index, "first", marked_name(1 + index))
    fleet.await_one_each(range(2), within_s=10)
    scripted.requests.clear()
    assert len(fleet.open("gateway", [scripted.port], range(2), resume=True, after_cut=True).times) == 2
    held = [rev_of(document(index, marked_name(1 + index))) for index in range(2)]
    assert {token: path for path, token in scripted.requests} == {
        f"token{index}": f"/ws?watch=self%40{rev}" for index, rev in enumerate(held)
    }
    assert fleet.collect().faults == []


def test_the_frames_of_a_greeting_can_be_had(fleet: Fleet, scripted: Scripted) -> None:
    frames = fleet.probe("gateway", [scripted.port], 3)
    assert [json.loads(frame)["op"] for frame in frames] == ["hello", "ready", "snapshot"]


def test_the_newest_update_can_be_had_to_repeat_it(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    with pytest.raises(BenchBroken, match="no update arrived"):
        fleet.last_update()
    scripted.update(0, "first", marked_name(1))
    fleet.await_one_each(range(1), within_s=10)
    assert json.loads(fleet.last_update())["patch"] == {"identity": {"name": marked_name(1)}}


def test_an_update_from_another_revision_is_a_fault(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    scripted.update(1, "first", "second", from_rev="0" * 16)
    fleet.await_one_each((1,), within_s=10)
    assert fleet.collect().faults == ["1 updates from another revision"]


def test_a_patch_that_does_not_lead_to_its_revision_is_a_fault(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    scripted.update(0, "first", "second", rev="0" * 16)
    fleet.await_one_each((0,), within_s=10)
    assert fleet.collect().faults == ["1 documents that do not have their revision"]


def test_a_lost_connection_is_a_fault_and_a_cut_one_is_not(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    fleet.cut("gateway", [0])
    until(lambda: scripted.connections[0].state.name == "CLOSED")
    scripted.connections[1].close()
    until(lambda: fleet.ends([1])[0].closed_at > 0)
    assert fleet.collect().faults == ["1 connections lost"]


def test_the_end_of_a_session_is_noted_in_its_steps(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    say(scripted.connections[1], "ended", code="revoked", message="", reconnect="never")
    scripted.connections[1].close(4500)
    until(lambda: fleet.ends([1])[0].closed_at > 0)
    living, ended = sorted(fleet.ends(range(2)))
    assert ended.code == "revoked"
    assert 0 < ended.ended_at <= ended.close_frame_at <= ended.closed_at
    assert (living.code, living.ended_at, living.closed_at) == ("", 0, 0)
    assert fleet.collect().faults == []


def test_data_after_the_end_and_unexpected_ends_are_faults(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], range(2))
    say(scripted.connections[1], "ended", code="internal", message="", reconnect="later")
    scripted.update(1, "first", "second")
    fleet.await_one_each((1,), within_s=10)
    assert sorted(fleet.collect().faults) == ["1 sessions ended: internal", "1 updates after the end"]


def test_a_session_that_is_refused_breaks_the_run(fleet: Fleet) -> None:
    def refuse(connection: ServerConnection) -> None:
        say(connection, "ended", code="overloaded", message="", reconnect="later")

    with serving(refuse) as port, pytest.raises(BenchBroken, match="load: ConnectionError: session 0 was closed"):
        fleet.open("gateway", [port], range(1))


def test_the_end_of_a_mute_session_is_seen_although_its_window_is_shut(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], [4], mute=True)
    sock = scripted.connections[4].socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    fill(sock)
    assert fleet.ends([4])[0].closed_at == 0
    before = time.monotonic_ns()
    sock.shutdown(socket.SHUT_RDWR)
    until(lambda: fleet.ends([4])[0].closed_at > 0)
    assert fleet.ends([4])[0].closed_at > before
    assert fleet.collect().faults == []


def test_a_mute_session_does_not_read(fleet: Fleet, scripted: Scripted) -> None:
    fleet.open("gateway", [scripted.port], [4], mute=True)
    fleet.open("gateway", [scripted.port], [6])
    for index in (4, 6):
        scripted.update(index, "first", marked_name(index))
    fleet.await_one_each((6,), within_s=10)
    assert fleet.collect(quiet_s=0.2).receipts.sessions.tolist() == [6]
