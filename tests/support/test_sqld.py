"""The servers that tests start do what tests rely on: they keep their data and their ports, stop and go on, ask for
tokens, and die with the process of the tests."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.gateway_process import ROOT, wait_for
from tests.support.plain_hrana import PlainHrana, Refused
from tests.support.sqld import JwtKey, SqldReplica, SqldServer


def _rows(server: SqldServer) -> list[tuple[object, ...]]:
    return server.execute("SELECT x FROM t ORDER BY x")


def test_what_was_written_outlives_kill_and_template(tmp_path: Path) -> None:
    with SqldServer(tmp_path / "one") as server:
        server.script("CREATE TABLE t(x); INSERT INTO t VALUES (9223372036854775807), (NULL)")
        url = server.url
        server.restart()
        assert server.url == url
        assert _rows(server) == [(None,), (2**63 - 1,)]
        server.terminate()
        assert not server.running
    with SqldServer(tmp_path / "two", template=server.data) as copy:
        assert _rows(copy) == [(None,), (2**63 - 1,)]


def test_a_transaction_is_of_one_client_until_it_ends(tmp_path: Path) -> None:
    with SqldServer(tmp_path) as server, server.client() as client:
        client.execute("CREATE TABLE t(x UNIQUE)")
        client.execute("BEGIN IMMEDIATE")
        client.execute("INSERT INTO t VALUES (?)", b"\0blob")
        assert _rows(server) == []
        client.execute("COMMIT")
        assert _rows(server) == [(b"\0blob",)]
        client.execute("BEGIN")
        client.execute("DELETE FROM t")
        client.execute("ROLLBACK")
        with pytest.raises(Refused, match="UNIQUE") as refused:
            client.execute("INSERT INTO t VALUES (?)", b"\0blob")
        assert refused.value.code == "SQLITE_CONSTRAINT"
        assert _rows(server) == [(b"\0blob",)]


def test_a_frozen_server_accepts_and_is_silent(tmp_path: Path) -> None:
    with SqldServer(tmp_path) as server:
        server.freeze()
        before = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            server.execute("SELECT 1", timeout_s=0.2)
        assert time.monotonic() - before >= 0.2
        server.resume()
        assert server.execute("SELECT 1") == [(1,)]


def test_a_replica_has_the_tables_and_passes_writes_on(tmp_path: Path) -> None:
    with SqldServer(tmp_path / "primary") as primary:
        primary.script("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
        with SqldReplica(primary, tmp_path / "replica") as replica:
            assert replica.execute("SELECT count(*) FROM sqlite_schema") == [(1,)]
            replica.execute("INSERT INTO t VALUES (2)")
            assert _rows(primary) == [(1,), (2,)]
            wait_for(lambda: _rows(replica) == [(1,), (2,)], what="the replica follows")


def test_tokens_are_asked_for(tmp_path: Path) -> None:
    key = JwtKey(tmp_path)
    with SqldServer(tmp_path / "one", jwt_key=key) as server:
        server.execute("CREATE TABLE t(x)")
        for token, code in [
            (None, "HTTP 401"),
            (key.token(lives_s=-1000), "HTTP 401"),
            (key.token(access="ro"), "HTTP 403"),
        ]:
            with PlainHrana(server.url, token) as client, pytest.raises(Refused) as refused:
                client.execute("INSERT INTO t VALUES (1)")
            assert refused.value.code == code
        with PlainHrana(server.url, key.token(access="ro")) as client:
            assert client.execute("SELECT x FROM t") == []


_TESTS = """
import sys
from pathlib import Path
from tests.support.sqld import SqldServer
server = SqldServer(Path(sys.argv[1]))
server.start()
server.freeze()
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_dies_with_killed_tests(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _TESTS, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert _lives(pid)
        tests.send_signal(signal.SIGKILL)
        wait_for(lambda: not _lives(pid), what="the server has died")


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
