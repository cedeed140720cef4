from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from gateway.store.changes import read_position
from gateway.store.database import Database
from tests.gateway.cli.conftest import Cli


def epoch(cli: Cli) -> str:
    async def look() -> str:
        async with await Database.open(str(cli.database), create=False) as database:
            return (await read_position(database)).epoch

    return asyncio.run(look())


def test_a_new_file_is_migrated_once(cli: Cli) -> None:
    assert cli.json("migrate")["applied"][0] == 1
    before = epoch(cli)
    assert cli.json("migrate") == {"applied": []}
    assert epoch(cli) == before


def test_a_backup_is_restored_with_a_new_epoch(demo: Cli) -> None:
    assert demo("backup", "copy.db").out == "Wrote copy.db.\n"
    demo("user", "plan", "ada", "free")
    demo("user", "delete", "grace", "--yes")
    before = epoch(demo)
    restored = demo.json("restore", "copy.db", "--yes")
    assert demo.json("user", "show", "ada")["plan"] == "pro"
    assert demo.json("user", "show", "grace")["plan"] == "free"
    assert epoch(demo) == restored["epoch"] != before
    assert demo("doctor").out == "Nothing is wrong.\n"


def test_nothing_is_replaced_without_a_word(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    demo("backup", "copy.db")
    before = Path("copy.db").read_bytes()
    demo("user", "plan", "ada", "free")
    demo("backup", "copy.db", code=5)
    assert Path("copy.db").read_bytes() == before
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    demo("restore", "copy.db", code=130)
    assert demo.json("user", "show", "ada")["plan"] == "free"
    demo("backup", "copy.db", "--overwrite")
    demo("restore", "copy.db", "--yes")
    assert demo.json("user", "show", "ada")["plan"] == "free"


@pytest.mark.parametrize("suffix", ["", "-wal", "-lock"])
def test_a_backup_never_replaces_the_database_itself(demo: Cli, suffix: str) -> None:
    error = demo("backup", f"{demo.database}{suffix}", "--overwrite", code=5).err
    assert "belongs to the database" in error
    assert demo("doctor").out == "Nothing is wrong.\n"


def test_what_can_not_be_copied_or_restored_is_said(demo: Cli) -> None:
    demo("backup", "nowhere/copy.db", code=7)
    Path("noise.db").write_bytes(b"noise" * 1000)
    demo("restore", "noise.db", "--yes", code=6)
    demo("restore", "absent.db", "--yes", code=6)
    assert demo.json("user", "show", "ada")["plan"] == "pro"
