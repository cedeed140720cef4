"""The lock between processes and threads, and SQLite's errors in the store's words."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import apsw
import pytest

from gateway.errors import StoreConflict, StoreCorrupt, StoreError, StoreUnavailable
from gateway.store.sqlite import file_identity, file_lock, split_script, store_error

HOLDER = """
import sys
from pathlib import Path
from gateway.store.sqlite import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (apsw.BusyError("database is locked"), StoreUnavailable),
        (apsw.LockedError("table is locked"), StoreUnavailable),
        (apsw.FullError("database or disk is full"), StoreUnavailable),
        (apsw.IOError("disk I/O error"), StoreUnavailable),
        (apsw.NoMemError("out of memory"), StoreUnavailable),
        (apsw.CantOpenError("unable to open database file"), StoreUnavailable),
        (apsw.ReadOnlyError("attempt to write a readonly database"), StoreUnavailable),
        (apsw.CorruptError("database disk image is malformed"), StoreCorrupt),
        (apsw.NotADBError("file is not a database"), StoreCorrupt),
        (apsw.ConstraintError("the trigger's own words"), StoreConflict),
        (apsw.SQLError("no such table: t"), StoreError),
        (apsw.TooBigError("string or blob too big"), StoreError),
    ],
)
def test_errors(error: apsw.Error, kind: type[StoreError]) -> None:
    found = store_error(error)
    assert type(found) is kind
    assert str(error) in str(found)


def test_errors_of_the_caller_stay() -> None:
    error = TypeError("Bad binding")
    assert store_error(error) is error


def test_the_lock_lets_one_thread_in(tmp_path: Path) -> None:
    inside, most, rounds = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, rounds
        for _ in range(5):
            with file_lock(tmp_path / "a.db"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                rounds += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, rounds) == (1, 20)


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(apsw.BusyError), file_lock(path, timeout_s=0.05):
            pass
        holder.kill()
        holder.wait()
        with file_lock(path, timeout_s=5):
            pass


def test_identity_tells_a_replaced_file(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    assert file_identity(path) is None
    path.write_bytes(b"")
    other.write_bytes(b"")
    first = file_identity(path)
    path.write_bytes(b"more")
    assert file_identity(path) == first
    other.rename(path)
    assert file_identity(path) not in (first, None)


def test_a_script_is_split_into_its_statements() -> None:
    script = "-- it's; a\nCREATE TABLE t(x); INSERT INTO t VALUES (';');\nCREATE TRIGGER a AFTER INSERT ON t BEGIN\n"
    script += "  DELETE FROM t; SELECT 1;\nEND;\n -- the end; of it\n"
    first, second, third = split_script(script)
    assert first.endswith("CREATE TABLE t(x);")
    assert second == "INSERT INTO t VALUES (';');"
    assert third.startswith("CREATE TRIGGER a")
    assert third.endswith("END;")


def test_its_last_statement_needs_no_end() -> None:
    assert split_script("SELECT 1; SELECT 2 -- two") == ["SELECT 1;", "SELECT 2 -- two"]
    assert split_script("") == split_script(" -- nothing\n") == []


@pytest.mark.parametrize("script", ["CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1;", "SELECT 1; SELECT ';"])
def test_a_script_that_breaks_off_is_refused(script: str) -> None:
    with pytest.raises(StoreError, match="in the middle of a statement"):
        split_script(script)
