"""Every workload, tiny, against the real gateway: what is tested is the measuring, not the figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.bench import processes
from tests.support.sqld import SqldReplica, SqldServer

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


def measured(directory: Path, *arguments: str, more_cpu: Collection[str] = ()) -> list[dict[str, Any]]:
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
        assert set(result["cpu"]) == {"server", "load", "writer", "floor", "others", *more_cpu}
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


def test_consume(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "consume", "--sessions", "20", "--rate", "100", "--seconds", "2")
    values = result["values"]
    assert values["paced_samples"] == 200
    assert values["closed_samples"] > 20
    assert values["store_samples"] > 20
    assert 0 < values["closed_p50_ms"] <= values["closed_p99_ms"]
    assert values["watched_consumes_per_s"] > values["watched_frames_per_s"] > 0
    assert result["floor"]["answers_per_s"] > 20
    assert {target["value"] for target in result["targets"]} == {
        "consumes_per_s",
        "paced_p99_ms",
        "store_consumes_per_s",
    }


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


def test_renew(tmp_path: Path) -> None:
    (result,) = measured(
        tmp_path, "renew", "--sessions", "24", "--rate", "50", "--seconds", "2", "--logins", "12", more_cpu={"logins"}
    )
    values = result["values"]
    assert values["renewal_samples"] == values["refresh_samples"] == 24
    assert 0 < values["refresh_p50_ms"] <= values["renewal_p50_ms"]
    assert values["login_samples"] == 12
    assert values["logins_per_s"] > 0
    assert values["alone_changes"] == values["during_renewal_changes"] == 100
    for phase in ("alone", "during_logins", "during_renewal"):
        assert 0 < values[f"{phase}_commit_to_frame_samples"] <= values[f"{phase}_changes"]
        assert values[f"{phase}_server_cores"] > 0
    assert len(result["targets"]) == 6


COPIES = {"copies", "clients"}
FEW_REVOCATIONS = ("applications", "--sessions", "10", "--revocations", "8", "--rate", "20")


def check_applications(values: dict[str, Any]) -> None:
    assert values["asked"] == 0
    for what in ("refused", "closed"):
        # Two ways of four are commits of another program's; at three copies.
        assert values[f"commit_to_{what}_samples"] == values[f"start_to_{what}_samples"] == 12
        assert values[f"commit_to_{what}_p50_ms"] < values[f"start_to_{what}_p50_ms"]
        assert [values[f"{way}_{what}_samples"] for way in ("revoke", "disable", "logout", "password")] == [6] * 4
        assert [values[f"{way}_{what}_by_all_samples"] for way in ("logout", "password")] == [2, 2]
        assert values[f"commit_to_{what}_by_all_samples"] == 4, "the last copy's, of each revocation"
        assert values[f"commit_to_{what}_by_all_max_ms"] == values[f"commit_to_{what}_max_ms"]
        assert values[f"commit_to_{what}_by_all_p50_ms"] >= values[f"commit_to_{what}_p50_ms"]
    assert values["resolution_p50_ms"] > 1.9


def test_applications(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, *FEW_REVOCATIONS, more_cpu=COPIES)
    check_applications(result["values"])
    assert result["parameters"]["nodes"] == 2
    assert len(result["targets"]) == 5


def test_outage(tmp_path: Path) -> None:
    (result,) = measured(tmp_path, "outage", "--sessions", "40", "--changed", "6", "--copies", "2", more_cpu=COPIES)
    values = result["values"]
    assert 1 <= values["asked_per_copy"] <= 3
    assert values["requests_of_clients"] >= 2 * (6 + 4)
    assert max(values[f"copy_{copy}_ready_to_true_ms"] for copy in range(2)) == values["ready_to_true_max_ms"]
    assert 80 <= values["documents_read"] <= 120  # each node knows of each user once


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


def test_more_logins_than_users_are_refused(tmp_path: Path) -> None:
    with bench(tmp_path, "renew", "--sessions", "20", "--logins", "21") as process:
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert "--logins must be at most --sessions" in errors


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqldServer, SqldServer]]:
    with (
        SqldServer(tmp_path_factory.mktemp("primary")) as primary,
        SqldReplica(primary, tmp_path_factory.mktemp("replica")) as replica,
    ):
        yield primary, replica


def test_on_a_server_and_its_replica(tmp_path: Path, servers: tuple[SqldServer, SqldServer]) -> None:
    """Twice on the same database: the second run replaces what the first one left."""
    where = ("--database", servers[0].url, "--replica", servers[1].url)
    for workload, more in (("push", ()), ("revoke", ("--revocations", "5"))):
        (result,) = measured(tmp_path, workload, "--sessions", "20", "--rate", "40", "--seconds", "2", *more, *where)
        assert result["values"]["commit_to_frame_samples"] > 0
        assert {target["at_most"] for target in result["targets"]} & {6, 30, 100}
    (result,) = measured(tmp_path, "storm", "--sessions", "20", "--rounds", "2", *where)
    assert result["values"]["reconnect_samples"] == 40
    (result,) = measured(tmp_path, "push_max", "--sessions", "60", "--batch", "20", "--seconds", "1", *where)
    assert result["values"]["delivered"] > 20


def test_renew_on_a_server_and_its_replica(tmp_path: Path, servers: tuple[SqldServer, SqldServer]) -> None:
    for where in (("--database", servers[0].url), ("--database", servers[0].url, "--replica", servers[1].url)):
        few = ("--sessions", "20", "--logins", "5", "--rate", "40", "--seconds", "2")
        (result,) = measured(tmp_path, "renew", *few, *where, more_cpu={"logins"})
        assert result["values"]["renewal_samples"] == 20
        assert result["values"]["login_samples"] == 5
        assert {target["at_most"] for target in result["targets"]} == {6, 30}


def test_consume_on_a_server_and_its_replica(tmp_path: Path, servers: tuple[SqldServer, SqldServer]) -> None:
    where = ("--database", servers[0].url, "--replica", servers[1].url)
    (result,) = measured(tmp_path, "consume", "--sessions", "20", "--rate", "50", "--seconds", "2", *where)
    assert result["values"]["paced_samples"] == 100
    assert not any(name.startswith("store_") for name in result["values"])


def test_applications_on_a_server(tmp_path: Path, servers: tuple[SqldServer, SqldServer]) -> None:
    """Twice on the same database: what the first run revoked is not the second one's."""
    for _ in range(2):
        (result,) = measured(tmp_path, *FEW_REVOCATIONS, "--database", servers[0].url, more_cpu=COPIES)
        check_applications(result["values"])


def test_a_database_in_use_is_left_alone(tmp_path: Path, servers: tuple[SqldServer, SqldServer]) -> None:
    servers[0].script(
        "INSERT OR IGNORE INTO plans(id, name) VALUES ('real', 'Real');"
        "INSERT INTO users(id, username, name, plan) VALUES ('u_real', 'real', 'Real', 'real')"
    )
    with bench(tmp_path, "push", "--sessions", "20", "--database", servers[0].url) as process:
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "users that are not the benchmark's" in errors
    assert servers[0].execute("SELECT id FROM users WHERE id = 'u_real'") == [("u_real",)]


def test_a_replica_is_one_of_a_server(tmp_path: Path) -> None:
    with bench(tmp_path, "push", "--replica", "http://127.0.0.1:1") as process:
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert "--replica needs --database" in errors


def test_validate(tmp_path: Path) -> None:
    with bench(tmp_path, "validate", "--users", "50", "--seconds", "1") as process:
        lines, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    result = json.loads(lines)
    assert (result["workload"], result["parameters"]["users"], result["faults"]) == ("validate", 50, [])
    assert result["values"]["decisions_per_cpu_s"] > result["values"]["requests_per_cpu_s"] > 0
    assert "validate" in errors
