"""New database files are for their owner alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.store.database import Database
from gateway.store.migrate import migrate


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_new_files_are_for_their_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        db = await Database.open(str(tmp_path / "a.db"))
    finally:
        os.umask(before)
    async with db:
        await migrate(db)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    modes.pop("a.db-lock")  # always empty
    assert modes == {"a.db": 0o600, "a.db-wal": 0o600, "a.db-shm": 0o600}


async def test_a_file_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "a.db").chmod(0o660)
    async with await Database.open(str(tmp_path / "a.db")):
        assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o660
