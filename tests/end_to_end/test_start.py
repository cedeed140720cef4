"""What keeps a gateway from starting is said in one line, and the exit code is not 0."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess


def _refusal(process: GatewayProcess) -> str:
    """The one line with which the gateway refuses to start."""
    process.start(ready=False)
    try:
        code = process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"it started:\n{process.log()}") from None
    assert code not in (0, -6, -11)
    lines = [line for line in process.log().splitlines() if " INFO " not in line and "Listening" not in line]
    assert len(lines) == 1, process.log()
    assert "Traceback" not in lines[0]
    return lines[0]


def _newer(path: Path) -> None:
    with GatewayProcess(path.parent, database=path), ForeignWriter(path) as foreign:
        foreign.execute("INSERT INTO migrations VALUES (99, 'from the future', 'x', 0)")


FAULTY = {
    "no database": lambda path: path.write_bytes(b"This is no database, but it is long enough to be looked at." * 100),
    "a directory": lambda path: path.mkdir(),
    "a newer database": _newer,
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("make", FAULTY.values(), ids=list(FAULTY))
def test_a_database_that_can_not_be_used(make: object, workers: int, tmp_path: Path) -> None:
    database = tmp_path / "faulty.db"
    make(database)  # type: ignore[operator]
    line = _refusal(GatewayProcess(tmp_path, database=database, server_workers=workers))
    assert "faulty.db" in line or "database" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken(workers: int, tmp_path: Path) -> None:
    process = GatewayProcess(tmp_path, server_workers=workers)
    with socket.create_server(("127.0.0.1", process.port)):
        assert "server.port" in _refusal(process)


def test_settings_that_can_not_be_used(tmp_path: Path) -> None:
    assert "server.drain_s" in _refusal(GatewayProcess(tmp_path, server_drain_s="soon"))
    assert "GATEWAY_SERVER_PROT" in _refusal(GatewayProcess(tmp_path, server_prot="1"))
    assert "database.url" in _refusal(GatewayProcess(tmp_path, database_url="postgres://127.0.0.1:1"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_master_key_that_can_not_be_used(workers: int, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path):
        pass
    # Not the one of before, and none at all.
    for key in ("A" * 43 + "=", "abc"):
        process = GatewayProcess(tmp_path, auth_master_key=key, server_workers=workers)
        line = _refusal(process)
        assert "auth.master_key" in line
        assert key not in line
        assert "Listening" not in process.log()
