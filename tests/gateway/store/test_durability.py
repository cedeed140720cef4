"""What was acknowledged is there after the process was killed, whatever it was doing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import apsw

VICTIM = """
import asyncio, sys
from gateway.store.database import Database, Statement

def insert(table, key):
    return Statement(f"INSERT INTO {table} VALUES (?)", (key,))

async def main():
    async with await Database.open(sys.argv[1]) as db:
        async def caller(number):
            for key in range(number, 10**9, 40):
                await db.write(insert("a", key), insert("b", key))
                print(key, flush=True)
        first = (await db.read(Statement("SELECT coalesce(max(k), 0) FROM a")))[0][0][0] + 1
        await asyncio.gather(*(caller(first + number) for number in range(40)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    apsw.Connection(str(path)).execute("CREATE TABLE a(k INTEGER PRIMARY KEY); CREATE TABLE b(k INTEGER PRIMARY KEY)")
    chance = random.Random(5)
    acknowledged: set[int] = set()
    for _ in range(20):
        victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(path)], stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        for _ in range(chance.randint(1, 400)):
            acknowledged.add(int(victim.stdout.readline()))
        victim.send_signal(signal.SIGKILL)
        lines = victim.stdout.read().split("\n")
        acknowledged.update(int(line) for line in lines[:-1])  # the last one may be torn
        victim.wait()
        victim.stdout.close()
    connection = apsw.Connection(str(path))
    stored = {key for (key,) in connection.execute("SELECT k FROM a")}
    assert acknowledged <= stored
    assert {key for (key,) in connection.execute("SELECT k FROM b")} == stored, "no operation is torn"
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
