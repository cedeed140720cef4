from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child
from gateway.bench.server import free_port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def floor(tmp_path: Path, port: int) -> Iterator[Child]:
    child = Child("gateway.bench.floor", str(port), directory=tmp_path)
    yield child
    child.close()


def test_the_floor_greets_and_broadcasts(floor: Child, port: int) -> None:
    floor.call("greet", frames=["one", "two"])
    with connect(f"ws://127.0.0.1:{port}/ws") as first, connect(f"ws://127.0.0.1:{port}/ws") as second:
        for client in (first, second):
            assert [client.recv(timeout=10), client.recv(timeout=10)] == ["one", "two"]
            assert client.protocol.extensions == []
        assert floor.call("sockets") == {"sockets": 2}
        answer = floor.call("broadcast", payload="news")
        assert answer["sent"] == 2
        assert answer["started"] < answer["finished"]
        assert [client.recv(timeout=10) for client in (first, second)] == ["news", "news"]


def test_the_floor_streams_to_one_socket_after_the_other(floor: Child, port: int) -> None:
    floor.call("greet", frames=[])
    with connect(f"ws://127.0.0.1:{port}/ws", max_queue=None) as client:
        sent = floor.call("stream", payload="x", seconds=0.05)["sent"]
        assert sent > 1
        assert [client.recv(timeout=10) for _ in range(sent)] == ["x"] * sent


def test_a_failing_command_breaks_the_run_and_not_the_child(floor: Child) -> None:
    with pytest.raises(BenchBroken, match="floor: TypeError"):
        floor.call("broadcast")
    assert floor.call("sockets") == {"sockets": 0}


def test_a_closed_child_has_ended_by_itself(tmp_path: Path) -> None:
    child = Child("gateway.bench.floor", str(free_port()), directory=tmp_path)
    assert child.call("sockets") == {"sockets": 0}
    child.close()
    assert not Path(f"/proc/{child.pid}").exists()


def test_the_last_words_of_a_child_that_can_not_start_are_told(tmp_path: Path) -> None:
    child = Child("gateway.bench.floor", "no port", directory=tmp_path)
    try:
        with pytest.raises(BenchBroken, match="invalid literal for int"):
            child.call("sockets")
    finally:
        child.close()


def test_a_late_answer_breaks_the_run_and_the_child_is_ended_all_the_same(tmp_path: Path, port: int) -> None:
    floor = Child("gateway.bench.floor", str(port), directory=tmp_path)
    floor.call("greet", frames=[])
    ticks: list[None] = []
    with connect(f"ws://127.0.0.1:{port}/ws", close_timeout=0.1):
        with pytest.raises(BenchBroken, match="did not answer in time"):
            floor.call("stream", payload="x", seconds=45, within_s=0.3, on_tick=lambda: ticks.append(None))
        assert ticks
        floor.close()
    assert not Path(f"/proc/{floor.pid}").exists()
