"""Backups of a running libSQL server, and putting one in place of what a server holds."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.errors import StoreError, StoreUnavailable, StoreUncertain
from gateway.store import backup as files
from gateway.store.backup import DatabaseInUse, NotABackup
from gateway.store.changes import read_changes, read_position
from gateway.store.copies import TargetNotReplaceable
from gateway.store.database import Database, Statement
from gateway.store.http_streams import HttpServer
from gateway.store.server_copies import NotCopied, copy_server
from gateway.store.server_restore import Backup, restore_server
from gateway.store.stream import Outcome, Server, Step, Stream, Unanswered
from tests.conftest import StartServer
from tests.support.sqld import JwtKey, SqldServer

ODD = """
CREATE TABLE numbered(k INTEGER PRIMARY KEY AUTOINCREMENT, v);
CREATE TABLE "odd ""name; x"("a key" TEXT, v ANY, n INTEGER DEFAULT 1,
  whole INTEGER AS (length("a key")) STORED, twice TEXT AS ("a key" || "a key"),
  PRIMARY KEY("a key", n DESC)) STRICT, WITHOUT ROWID;
CREATE TABLE loose(rowid TEXT, v);
CREATE TABLE parent(id TEXT PRIMARY KEY REFERENCES child(id)) STRICT;
CREATE TABLE child(id TEXT PRIMARY KEY REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED) STRICT;
CREATE INDEX some ON numbered(v) WHERE v IS NOT NULL;
CREATE UNIQUE INDEX lowered ON loose(lower(rowid));
CREATE VIEW seen AS SELECT k FROM numbered;
CREATE TRIGGER noted AFTER INSERT ON loose BEGIN
  INSERT INTO numbered(v) VALUES ('a;
b'); -- and more;
END;
INSERT INTO numbered(v) VALUES (9223372036854775807), (-9223372036854775807 - 1), (0.1), (1.0), (-0.0), (1e308),
  (5e-324), (0.1 + 0.2), (123456789012345678.0), (9e999), (-9e999), (x''), (x'00ff27'), (NULL), (''),
  ('a' || char(0) || 'b'), (char(0)), ('l1;' || char(13, 10) || 'it''s \\n \\r "x"; COMMIT;'),
  ('é€😀' || char(0x2028, 0xfeff, 0xfffd)), (CAST(x'ff80' AS TEXT)), (CAST(x'61ff00' AS TEXT)), ('last');
DELETE FROM numbered WHERE v = 'last';
INSERT INTO "odd ""name; x"("a key", v) VALUES ('k', 1), ('k2', 1.0), ('é', x'00'), (CAST(x'ff' AS TEXT), 'bad key'),
  (CAST(x'ffff' AS TEXT), 'worse'), ('z' || char(0), NULL);
INSERT INTO loose(_rowid_, rowid, v) VALUES (77, 'x', 1), (-5, NULL, 2);
BEGIN;
INSERT INTO child VALUES ('c');
INSERT INTO parent VALUES ('c');
COMMIT;
"""
SHOWN = ("numbered", '"odd ""name; x"', "loose", "parent", "child", "sqlite_sequence", "meta", "plans", "change_log")


def content(path: Path) -> dict[str, Any]:
    """Whatever the file holds, each value as its type and its bytes; the epoch apart."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        found: dict[str, Any] = {"": connection.execute(schema).fetchall()}
        for name in SHOWN:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_xinfo({name})")]
            if not columns:
                continue
            real = "CASE typeof({0}) WHEN 'real' THEN quote({0}) END"
            exact = ", ".join(
                f'typeof("{each}"), hex("{each}"), {real.format(chr(34) + each + chr(34))}' for each in columns
            )
            try:
                rows = connection.execute(f"SELECT _rowid_, {exact} FROM {name} ORDER BY 1").fetchall()
            except apsw.SQLError:
                rows = connection.execute(f"SELECT {exact} FROM {name} ORDER BY 1, 2").fetchall()
            found[name] = [row for row in rows if name != "meta" or b"epoch".hex().upper() not in row]
        return found
    finally:
        connection.close()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def server(start_server: StartServer) -> SqldServer:
    return start_server()


@pytest.fixture
async def db(server: SqldServer) -> AsyncIterator[Database]:
    async with await Database.open(server.url) as database:
        yield database


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "a.db"


@pytest.fixture
async def filled(server: SqldServer, db: Database) -> Database:
    server.script(ODD)
    await db.write(Statement("INSERT INTO plans(id) VALUES ('old')"))
    return db


class LosingServer:
    """A server whose answer to a ``COMMIT`` is lost, or that never hears of it; `then` is called at that moment."""

    def __init__(self, server: Server, *, arrives: bool, then: Callable[[], None] = lambda: None) -> None:
        self._server = server
        self._arrives = arrives
        self._then = then

    def stream(self) -> Stream:
        stream = self._server.stream()
        batch = stream.batch

        async def losing(steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
            lost = steps[-1].sql == "COMMIT"
            if not lost or self._arrives:
                outcomes = await batch(steps, timeout_s=timeout_s)
            if lost:
                await stream.close()
                self._then()
                raise Unanswered("the wire was cut")
            return outcomes

        stream.batch = losing  # type: ignore[method-assign]
        return stream

    async def once(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        return await self._server.once(steps, timeout_s=timeout_s)

    async def close(self) -> None:
        """It is closed by whoever opened it."""


class WatchedServer:
    """A server that every batch is told of before it is sent, and waits for who was told."""

    def __init__(self, server: Server, told: Callable[[Sequence[Step]], Awaitable[None]]) -> None:
        self._server = server
        self._told = told

    def stream(self) -> Stream:
        return WatchedStream(self._server.stream(), self._told)

    async def once(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        await self._told(steps)
        return await self._server.once(steps, timeout_s=timeout_s)

    async def close(self) -> None:
        await self._server.close()


class WatchedStream:
    def __init__(self, stream: Stream, told: Callable[[Sequence[Step]], Awaitable[None]]) -> None:
        self._stream = stream
        self._told = told
        self.broken = False
        self.expired = False

    async def batch(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        await self._told(steps)
        return await self._stream.batch(steps, timeout_s=timeout_s)

    async def close(self) -> None:
        await self._stream.close()


async def restored(server: SqldServer, file: Path, **options: Any) -> str:
    http = HttpServer(server.url, server.token)
    try:
        with Backup(file) as backup:
            return await restore_server(backup, http, lambda rows: None, **options)
    finally:
        await http.close()


async def plans(db: Database) -> list[str]:
    return [id for (id,) in (await db.read(Statement("SELECT id FROM plans ORDER BY id")))[0]]


class TestBackup:
    async def test_takes_every_value_and_definition_over(
        self, server: SqldServer, filled: Database, target: Path
    ) -> None:
        """Against SQLite itself: the same script run on a file."""
        await filled.backup(target)
        expected = target.with_name("expected.db")
        async with await Database.open(str(expected)) as reference:
            from gateway.store.migrate import migrate

            await migrate(reference)
        connection = apsw.Connection(str(expected))
        connection.execute(f"{ODD}; INSERT INTO plans(id) VALUES ('old')").fetchall()
        connection.close()
        found, wanted = content(target), content(expected)
        found["change_log"] = [row[:-3] for row in found["change_log"]]
        wanted["change_log"] = [row[:-3] for row in wanted["change_log"]]
        for name in wanted:
            assert found[name] == wanted[name], name
        assert len(found["numbered"]) == 23

    async def test_is_a_file_as_any_other_backup(self, db: Database, target: Path) -> None:
        await db.backup(target)
        assert names(target.parent) == {"a.db"}
        assert target.stat().st_mode & 0o777 == 0o600
        connection = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
        assert connection.pragma("journal_mode") == "delete"
        assert connection.pragma("integrity_check") == "ok"
        connection.close()
        into = target.with_name("into.db")
        await files.restore(target, into)
        async with await Database.open(str(into), create=False) as opened:
            await opened.write(Statement("INSERT INTO plans(id) VALUES ('x')"))
            assert (await read_changes(opened, 0))[-1][1:3] == ("plan:x", "plan")

    async def test_is_of_one_moment_while_others_write(self, server: SqldServer, db: Database, target: Path) -> None:
        server.script("CREATE TABLE a(k INTEGER PRIMARY KEY, v); CREATE TABLE z(k INTEGER PRIMARY KEY)")
        begun = asyncio.Event()

        async def writing() -> None:
            for key in range(10**9):
                await db.write(
                    Statement("INSERT INTO a VALUES (?, randomblob(3000))", (key,)),
                    Statement("INSERT INTO z VALUES (?)", (key,)),
                )
                if key == 200:
                    begun.set()

        writer = asyncio.create_task(writing())
        await begun.wait()
        await db.backup(target)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        connection = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
        kept = connection.execute("SELECT k FROM a").fetchall()
        assert kept == connection.execute("SELECT k FROM z").fetchall()
        assert len(kept) > 200
        connection.close()

    async def test_reads_what_does_not_go_into_one_reply(self, server: SqldServer, db: Database, target: Path) -> None:
        server.script("CREATE TABLE big(v)")
        for size in (4_500_000, 10, 4_500_000, 4_500_000, 4_500_000):
            server.execute("INSERT INTO big VALUES (randomblob(?))", size)
        await db.backup(target)
        connection = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
        assert connection.execute("SELECT sum(length(v)) FROM big").get == 18_000_010
        connection.close()

    async def test_replaces_a_file_only_when_told(self, db: Database, target: Path) -> None:
        target.write_text("precious")
        with pytest.raises(FileExistsError, match="is there already"):
            await db.backup(target)
        assert target.read_text() == "precious"
        await db.backup(target, overwrite=True)
        assert target.read_bytes()[:6] == b"SQLite"
        with pytest.raises(TargetNotReplaceable):
            await db.backup(target.parent, overwrite=True)
        with pytest.raises(StoreUnavailable, match="No such file"):
            await db.backup(target.parent / "absent" / "a.db")
        assert names(target.parent) == {"a.db"}

    async def test_leaves_nothing_behind_when_it_is_broken_off(self, server: SqldServer, target: Path) -> None:
        """By whoever asked for it, and by the server's end in the middle."""
        server.script("CREATE TABLE many(v)")
        server.execute("INSERT INTO many SELECT value FROM json_each(?)", str(list(range(20_000))))
        halfway, pages = asyncio.Event(), 0

        async def counting(steps: Sequence[Step]) -> None:
            nonlocal pages
            pages += 'FROM "many"' in steps[-1].sql
            if pages == 4:
                halfway.set()

        async def killing(steps: Sequence[Step]) -> None:
            await counting(steps)
            if halfway.is_set():
                assert len(names(target.parent)) == 1
                server.kill()

        http = HttpServer(server.url, None)
        copying = asyncio.create_task(copy_server(WatchedServer(http, counting), target, overwrite=False))
        await halfway.wait()
        assert len(names(target.parent)) == 1
        copying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await copying
        assert copying.cancelled()
        assert names(target.parent) == set()
        halfway, pages = asyncio.Event(), 0
        with pytest.raises(StoreUnavailable):
            await copy_server(WatchedServer(http, killing), target, overwrite=False)
        assert pages == 4
        assert names(target.parent) == set()
        await http.close()

    async def test_what_is_no_ordinary_table_is_said(self, server: SqldServer, db: Database, target: Path) -> None:
        server.script("CREATE VIRTUAL TABLE found USING fts5(text)")
        with pytest.raises(NotCopied, match=r"table found .* gateway export"):
            await db.backup(target)
        assert names(target.parent) == set()

    async def test_needs_no_more_than_to_read(self, tmp_path: Path, migrated_server: Path, target: Path) -> None:
        key = JwtKey(tmp_path)
        with SqldServer(tmp_path / "locked", jwt_key=key, template=migrated_server) as server:
            async with await Database.open(server.url, auth_token=key.token(access="ro")) as db:
                await db.backup(target)
            assert content(target)["plans"] == []


class TestRestore:
    async def test_puts_everything_in_place(self, server: SqldServer, filled: Database, target: Path) -> None:
        await filled.backup(target)
        before = content(target)
        server.script("DROP TRIGGER noted; DROP TABLE loose; CREATE TABLE loose(other); INSERT INTO loose VALUES (1)")
        server.script("CREATE TABLE later(k PRIMARY KEY REFERENCES plans(id)); INSERT INTO later VALUES ('old')")
        await filled.write(Statement("INSERT INTO plans(id) VALUES ('new')"))
        first = await read_position(filled)
        epoch = await restored(server, target)
        assert await plans(filled) == ["old"]
        position = await read_position(filled)
        assert epoch == position.epoch != first.epoch
        assert position.last < first.last
        again = target.with_name("again.db")
        await filled.backup(again)
        found = content(again)
        for name in before:
            assert found[name] == before[name], name
        await filled.write(Statement("INSERT INTO plans(id) VALUES ('next')"))
        assert (await read_changes(filled, position.last))[0][:2] == (position.last + 1, "plan:next")

    async def test_takes_a_backup_of_a_file(self, server: SqldServer, db: Database, tmp_path: Path) -> None:
        from gateway.store.migrate import migrate

        async with await Database.open(str(tmp_path / "file.db")) as local:
            await migrate(local)
            await local.write(Statement("INSERT INTO plans(id) VALUES ('local')"))
            await local.backup(tmp_path / "copy.db")
        await restored(server, tmp_path / "copy.db", epoch="e5")
        assert await plans(db) == ["local"]
        assert (await read_position(db)).epoch == "e5"

    async def test_tells_how_far_it_is(self, server: SqldServer, filled: Database, target: Path) -> None:
        await filled.backup(target)
        told: list[int] = []
        http = HttpServer(server.url, None)
        with Backup(target) as backup:
            await restore_server(backup, http, told.append)
            assert sum(told) == backup.rows > 30
        await http.close()

    async def test_on_an_empty_server(self, tmp_path: Path, filled: Database, target: Path) -> None:
        await filled.backup(target)
        with SqldServer(tmp_path / "empty") as empty:
            await restored(empty, target)
            async with await Database.open(empty.url) as db:
                assert await plans(db) == ["old"]

    async def test_large_values(self, server: SqldServer, db: Database, target: Path) -> None:
        server.script("CREATE TABLE big(v)")
        for _ in range(4):
            server.execute("INSERT INTO big VALUES (randomblob(4500000))")
        before = server.execute("SELECT rowid, length(v), substr(v, -8) FROM big")
        await db.backup(target)
        server.script("DELETE FROM big")
        await restored(server, target)
        assert server.execute("SELECT rowid, length(v), substr(v, -8) FROM big") == before

    async def test_changes_nothing_when_the_server_takes_the_lock_away(
        self, server: SqldServer, filled: Database, target: Path
    ) -> None:
        """Another writer waits for as long as a server lets a transaction live then."""
        await filled.backup(target)
        await filled.write(Statement("INSERT INTO plans(id) VALUES ('new')"))
        epoch = (await read_position(filled)).epoch

        async def after_the_other(steps: Sequence[Step]) -> None:
            if any(step.sql.startswith("UPDATE meta") for step in steps):
                await filled.write(Statement("INSERT INTO plans(id) VALUES ('waited')"))

        http = HttpServer(server.url, None)
        with Backup(target) as backup, pytest.raises(DatabaseInUse, match="stop every gateway"):
            await restore_server(backup, WatchedServer(http, after_the_other), lambda rows: None)
        await http.close()
        assert await plans(filled) == ["new", "old", "waited"]
        assert (await read_position(filled)).epoch == epoch

    async def test_a_backup_that_the_server_refuses_changes_nothing(
        self, server: SqldServer, filled: Database, target: Path
    ) -> None:
        await filled.backup(target)
        connection = apsw.Connection(str(target))
        connection.execute("CREATE TABLE heavy(v); INSERT INTO heavy VALUES (zeroblob(12000000))").fetchall()
        connection.close()
        epoch = (await read_position(filled)).epoch
        with pytest.raises(StoreError):
            await restored(server, target)
        assert await plans(filled) == ["old"]
        assert (await read_position(filled)).epoch == epoch
        await filled.write(Statement("INSERT INTO plans(id) VALUES ('goes on')"))

    async def test_when_the_server_dies_nothing_was_changed(
        self, server: SqldServer, filled: Database, target: Path
    ) -> None:
        await filled.backup(target)
        await filled.write(Statement("INSERT INTO plans(id) VALUES ('new')"))
        http = HttpServer(server.url, None)
        with Backup(target) as backup, pytest.raises(StoreUnavailable):
            await restore_server(backup, http, lambda rows: server.kill() if rows else None)
        await http.close()
        server.start()
        assert server.execute("SELECT id FROM plans ORDER BY id") == [("new",), ("old",)]

    async def test_tables_that_are_not_ordinary_go_and_do_not_come(
        self, server: SqldServer, filled: Database, target: Path
    ) -> None:
        await filled.backup(target)
        server.script("CREATE VIRTUAL TABLE found USING fts5(text); INSERT INTO found VALUES ('words')")
        await restored(server, target)
        assert server.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'found%'") == []
        connection = apsw.Connection(str(target))
        connection.execute("CREATE VIRTUAL TABLE found USING fts5(text)").fetchall()
        connection.close()
        with pytest.raises(NotABackup, match="table found is not an ordinary one"):
            await restored(server, target)

    @pytest.mark.parametrize("arrives", [True, False])
    async def test_finds_out_what_became_of_a_commit_without_an_answer(
        self, server: SqldServer, filled: Database, target: Path, arrives: bool
    ) -> None:
        await filled.backup(target)
        await filled.write(Statement("INSERT INTO plans(id) VALUES ('new')"))
        http = HttpServer(server.url, None)
        with Backup(target) as backup:
            restoring = restore_server(backup, LosingServer(http, arrives=arrives), lambda rows: None, epoch="e9")
            if arrives:
                assert await restoring == "e9"
            else:
                with pytest.raises(Unanswered):
                    await restoring
        await http.close()
        assert await plans(filled) == (["old"] if arrives else ["new", "old"])

    async def test_says_so_when_nobody_knows(self, server: SqldServer, filled: Database, target: Path) -> None:
        await filled.backup(target)
        http = HttpServer(server.url, None)
        with Backup(target) as backup, pytest.raises(StoreUncertain, match="not known whether"):
            await restore_server(backup, LosingServer(http, arrives=True, then=server.kill), lambda rows: None)
        await http.close()

    async def test_rows_that_name_nothing_are_refused_before(
        self, server: SqldServer, filled: Database, target: Path
    ) -> None:
        await filled.backup(target)
        connection = apsw.Connection(str(target))
        connection.execute("DELETE FROM child").fetchall()
        connection.close()
        with pytest.raises(NotABackup, match="one of parent names one of child"):
            await restored(server, target)

    async def test_what_is_no_backup_is_refused_before(self, server: SqldServer, db: Database, target: Path) -> None:
        with pytest.raises(NotABackup, match="no such file"):
            await restored(server, target)
        target.write_bytes(b"noise" * 1000)
        with pytest.raises(NotABackup, match="damaged or not a database"):
            await restored(server, target)
        target.unlink()
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE x(y)')"
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(target)], check=True, timeout=30)
        with pytest.raises(NotABackup, match="not a database of this program"):
            await restored(server, target)
        assert (await read_position(db)).epoch
