"""Every workload, tiny, against the real gateway: what is tested is the measuring, not the figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.bench import processes

ROOT = Path(gateway.__file__).resolve().parent.parent
LIMIT_S = 50


@contextmanager
def bench(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "bench", *arguments],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def measured(directory: Path, *arguments: str) -> list[dict[str, Any]]:
    with bench(directory, *arguments) as process:
        lines, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    results: list[dict[str, Any]] = [json.loads(line) for line in lines.splitlines()]
    assert list(directory.iterdir()) == []
    assert arguments[0] in errors
    for result in results:
        assert result["workload"] == arguments[0]
        assert result["faults"] == []
        assert result["met"] in (True, False)
        assert set(result["cpu"]) == {"server", "load", "writer", "floor", "others"}
    return results


def test_idle(tmp_path: Path) -> None:
    small, large = measured(tmp_path, "idle", "--sessions", "10", "--sessions", "30", "--seconds", "1")
    assert [small["parameters"]["sessions"], large["parameters"]["sessions"]] == [10, 30]
    assert large["values"]["rss_mib"] > 10
    assert large["floor"]["rss_mib"] > 10
    assert {target["value"] for target in large["targets"]} == {"rss_kib_per_session", "server_cpu_percent"}


def test_connect(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "connect", "--sessions", "20", "--rounds", "2")
    assert result["values"]["connect_samples"] == 40
    assert result["values"]["connects_per_s"] > 1
    assert result["ratio"] == pytest.approx(
        result["values"]["connects_per_s"] / result["floor"]["accepts_per_s"], abs=0.01
    )


def test_push(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "push", "--sessions", "20", "--rate", "50", "--seconds", "2")
    values = result["values"]
    assert values["changes"] == 100
    assert values["commit_to_frame_samples"] + values["conflated"] == 100
    assert values["commit_to_frame_p50_ms"] <= values["commit_to_frame_p99_ms"] <= values["commit_to_frame_max_ms"]
    assert values["commit_to_frame_p50_ms"] < values["start_to_frame_p50_ms"]


def test_push_max(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "push_max", "--sessions", "60", "--batch", "20", "--seconds", "1")
    assert result["values"]["delivered"] > 20
    assert result["floor"]["sends_per_s"] > 1
    assert 0 < result["ratio"] < 5
    assert 100 < result["parameters"]["frame_bytes"] < 1000


def test_fanout(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "fanout", "--sessions", "20", "--rounds", "2")
    assert 0 < result["values"]["commit_to_last_frame_ms"] <= result["values"]["worst_ms"]
    assert 0 < result["floor"]["start_to_last_frame_ms"] <= result["floor"]["worst_ms"]


def test_storm(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "storm", "--sessions", "20", "--rounds", "2")
    assert result["values"]["reconnect_samples"] == 40
    assert 0 < result["values"]["back_s"] <= result["values"]["worst_s"]
    assert result["values"]["database_reads_per_user"] >= 0


def test_slow(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "slow", "--sessions", "20", "--rate", "50", "--seconds", "2", "--share", "0.1")
    assert result["parameters"]["slow"] == 2
    assert result["values"]["everybody_samples"] == result["values"]["others_samples"] == 50
    assert len(result["values"]["rss_kib_by_second"]) >= 3


def test_revoke(tmp_path: Path) -> None:
    (result,) = measured(
        tmp_path, "revoke", "--sessions", "40", "--rate", "50", "--seconds", "2", "--revocations", "20"
    )
    values = result["values"]
    assert values["commit_to_ended_samples"] == values["commit_to_closed_samples"] == 18
    assert values["mute_commit_to_closed_samples"] == 2
    assert 0 < values["commit_to_ended_p50_ms"] <= values["commit_to_closed_p50_ms"]


def running(found: Callable[[list[int]], bool], pid: int) -> list[int]:
    deadline = time.monotonic() + 30
    while not found(pids := processes.tree(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return pids


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_no_process_and_no_file(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with bench(tmp_path, "push", "--sessions", "10", "--rate", "10", "--seconds", "40") as process:
        pids = running(lambda pids: len(pids) >= 5, process.pid)  # itself, writer, gateway, load generator, floor
        process.send_signal(number)
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == status
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_can_not_start_says_why_in_one_line(tmp_path: Path) -> None:
    with bench(tmp_path, "push", "--sessions", "1000000") as process:
        lines, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert lines == ""
    assert errors.startswith("bench: a process may open ")
    assert errors.count("\n") == 1


def test_a_batch_that_would_be_conflated_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path, "push_max", "--sessions", "20", "--batch", "10") as process:
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert "--batch must be at most a third of --sessions" in errors
