"""kill -9 of who writes, of the server, and of the wire between them, in the middle of writes: every write that was
acknowledged is there exactly once, one that is said not to be made is not there, and no other is there twice or half.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_rig import SCALE, Site, a_site, report, scaled
from tests.support.gateway_process import ROOT, wait_for
from tests.support.interrupted_writer import InterruptedWriter, check_rows

pytestmark = pytest.mark.timeout(60 * SCALE)

TABLE = "CREATE TABLE marks(id TEXT, part INTEGER)"
"""Without a key: what is made twice is there twice."""

ROUNDS = int(scaled(6, 100))


@pytest.fixture
def server_site(tmp_path: Path, migrated_server: Path) -> Iterator[Site]:
    with a_site(tmp_path, migrated_server) as site:
        site.server.execute(TABLE)
        yield site


def test_who_writes_is_killed(storage: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    template = request.getfixturevalue("migrated_server") if storage == "server" else None
    with a_site(tmp_path, template) as site:
        if storage == "file":
            assert site.command("migrate").returncode == 0, "the file is made by its own program"
        with site.writer() as foreign:
            foreign.execute(TABLE)
        chance = random.Random(3)
        told: dict[str, list[str]] = {}
        acknowledged = []
        for number in range(ROUNDS):
            writer = InterruptedWriter(site.url, f"round{number}", str(ROOT))
            try:
                wait_for(lambda w=writer: w.made or w.process.poll() is not None, 20.0)
                time.sleep(chance.uniform(0, 0.1))  # the moment of the kill is any one
            finally:
                writer.kill()
            acknowledged.append(writer.made)
            for outcome, ids in writer.told.items():
                told.setdefault(outcome, []).extend(ids)
        assert all(acknowledged)
        with site.writer() as foreign:
            undecided = check_rows(foreign.execute("SELECT id, part FROM marks"), told)
        report(request, rounds=ROUNDS, acknowledged=sum(acknowledged), made_without_a_word=undecided)


@pytest.mark.parametrize("victim", ["server", "wire"])
def test_the_server_is_killed_or_the_wire_is_cut(
    victim: str, server_site: Site, request: pytest.FixtureRequest
) -> None:
    site = server_site
    chance = random.Random(4)
    writer = InterruptedWriter(site.url, "writer", str(ROOT))
    slowest = 0.0
    try:
        for _ in range(ROUNDS):
            made = writer.made
            wait_for(lambda m=made: writer.made > m + 20, 40.0, "it writes again")
            time.sleep(chance.uniform(0, 0.05))  # the moment of the kill is any one
            if victim == "server":
                site.server.kill()
                site.server.start()
            else:
                site.wire.cut()
                time.sleep(chance.uniform(0, 0.1))  # how long it is cut
                site.wire.restore()
            began, made = time.monotonic(), writer.made
            wait_for(lambda m=made: writer.made > m, 40.0, "it writes again")
            slowest = max(slowest, time.monotonic() - began)
    finally:
        writer.close()
    undecided = check_rows(
        [(str(id), int(p)) for id, p in site.server.execute("SELECT id, part FROM marks")], writer.told
    )
    figures = {outcome: len(ids) for outcome, ids in writer.told.items()}
    report(request, rounds=ROUNDS, **figures, made_without_a_word=undecided, slowest_recovery_ms=slowest * 1000)
    assert writer.process.returncode == 0


def _start_command(site: Site, name: str) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GATEWAY_DATABASE_URL": site.server.url}
    command = ("user", "add", name, "--id", name, "--plan", "free")
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("victim", ["command", "server"])
def test_commands_are_interrupted(victim: str, server_site: Site, request: pytest.FixtureRequest) -> None:
    """Exit code 0 says that the user is there; whatever else, a user is whole, or not there at all."""
    site = server_site
    site.server.execute("INSERT INTO plans(id, name) VALUES ('free', 'Free')")
    chance = random.Random(5)
    codes: dict[str, int] = {}
    together = 3
    for number in range(0, int(scaled(6, 60)), together):
        running = {f"u{number + i}": _start_command(site, f"u{number + i}") for i in range(together)}
        time.sleep(chance.uniform(0.3, 1.2))  # a command takes about as long
        if victim == "server":
            site.server.restart()
        else:
            for process in running.values():
                process.kill()
        for name, process in running.items():
            _, said = process.communicate(timeout=40)
            codes[name] = process.returncode
            assert process.returncode in (0, 7, -9), said
            assert "Traceback" not in said
    there = {str(id) for (id,) in site.server.execute("SELECT id FROM users")}
    assert {name for name, code in codes.items() if code == 0} <= there
    logged = [str(doc)[5:] for (doc,) in site.server.execute("SELECT doc FROM change_log WHERE doc LIKE 'user:%'")]
    assert sorted(logged) == sorted(there), "the log tells of each, once"
    done = sum(code == 0 for code in codes.values())
    report(request, commands=len(codes), done=done, there=len(there), said=sorted(set(codes.values())))
