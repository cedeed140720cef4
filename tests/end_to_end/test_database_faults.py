"""Dropped triggers, locks, a log that was cut, backups put back: every client ends at what the database gives."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Connect, StartGateway
from tests.support.client import Refused
from tests.support.database_lock import DatabaseLock
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import ROOT, GatewayProcess
from tests.support.oracle import fresh_document, user_document
from tests.support.seed import Seed, now_ms
from tests.support.waiting import eventually

pytestmark = pytest.mark.storages("file")

SETTINGS = {"changes_sweep_s": 1}


async def test_the_sweep_finds_what_was_written_past_dropped_triggers(
    own_gateway: StartGateway, connect: Connect
) -> None:
    own = own_gateway(changes_sweep_s=1)
    seed, foreign = own.seed, own.foreign
    plan = seed.plan(["can_use_voice"], {"minutes": (100, "month")})
    role = seed.role(["can_sing"])
    person, removed = seed.people(2, plan)
    seed.insert("user_roles", user_id=person.id, role=role)
    foreign.execute("INSERT INTO org_role_permissions(role, permission) VALUES ('member', 'can_join')")
    organization = seed.organization(plan, {person.id: "member"})
    client = await connect(person.token, at=own.process)
    other = await connect(removed.token, at=own.process)
    watcher = await connect(person.token, at=own.process, watch=[f"org:{organization}"])
    await client.until(lambda: client.data)
    await watcher.until(lambda: watcher.replica.confirmed)
    for (trigger,) in foreign.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        foreign.execute(f"DROP TRIGGER {trigger}")
    position = seed.last_seq()
    writes = (
        f"UPDATE users SET name = 'Unseen' WHERE id = '{person.id}'",
        f"INSERT INTO plan_permissions(plan, permission) VALUES ('{plan}', 'can_dance')",
        f"UPDATE plan_quotas SET limit_value = 7 WHERE plan = '{plan}'",
        f"INSERT INTO role_permissions(role, permission) VALUES ('{role}', 'can_whistle')",
        "UPDATE org_role_permissions SET permission = 'can_leave'",
        f"UPDATE organizations SET name = 'Unseen' WHERE id = '{organization}'",
        f"UPDATE api_tokens SET revoked_at = 1 WHERE id = '{removed.token_id}'",
    )
    for sql in writes:
        foreign.execute(sql)
        if sql.startswith("UPDATE api_tokens"):
            assert (await other.end())["code"] == "revoked"
        else:
            await client.until(lambda: client.held[:2] == user_document(foreign, person.id)[:2], timeout_s=5)
    await watcher.until(
        lambda: watcher.replica.documents[f"org:{organization}"].data["organization"]["name"] == "Unseen"
    )
    assert seed.last_seq() == position
    assert own.process.metric("gateway_drift_found_total") >= 4


async def test_the_sweep_finds_nothing_where_nothing_is_amiss(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    await client.until(lambda: client.data)
    read = gateway.metric("gateway_documents_read_total")
    rows = [(f"Name {number}", person.id) for number in range(100)]
    await asyncio.to_thread(foreign.each, "UPDATE users SET name = ? WHERE id = ?", rows, pause_s=0.02)
    await client.until(lambda: client.data["identity"]["name"] == "Name 99")
    await eventually(lambda: gateway.metric("gateway_documents_read_total") > read + 100)  # swept besides
    assert gateway.metric("gateway_drift_found_total") == 0


async def test_reads_and_pushes_go_on_while_somebody_holds_the_write_lock(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person, late = seed.people(2)
    client = await connect(person.token)
    await client.until(lambda: client.data)
    due = now_ms() + 1500
    seed.insert("user_permissions", user_id=person.id, permission="can_fly", starts_at=due)
    with seed.transaction():
        foreign.execute("UPDATE users SET name = 'Locked' WHERE id = ?", person.id)
        released = now_ms() + 3000
        newcomer = await connect(late.token)
        await newcomer.until(lambda: newcomer.data)
        update = await client.message("update")
        assert update["causes"] == ["clock"]
        while now_ms() < released:
            answer = await gateway.fetch("GET", "/api/document", person.token, timeout_s=1.0)
            assert answer.status == 200
            assert answer.json()["data"]["identity"]["name"] != "Locked"
            assert (await gateway.fetch("GET", "/ready", timeout_s=1.0)).status == 200
        await client.barrier()
    await client.until(lambda: client.data["identity"]["name"] == "Locked", timeout_s=2)


async def test_a_database_that_can_not_be_read_is_said_and_what_was_missed_is_caught_up(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person, late = seed.people(2)
    client = await connect(person.token)
    await client.until(lambda: client.data)
    ends = now_ms() + 2000
    seed.insert("user_permissions", user_id=person.id, permission="can_fly", expires_at=ends)
    await client.until(lambda: client.data["permissions"])
    with DatabaseLock(gateway.database):
        refused = asyncio.create_task(_refusal(connect, late.token))
        status = await client.message("status", timeout_s=10)
        assert status["store"] == "stale"
        assert "doc" not in status
        ready = await gateway.fetch("GET", "/ready")
        # Nor can it be written: whether that was noticed yet is a matter of time.
        reasons = set(ready.json()["reasons"]) - {"database_writes_stalled"}
        assert (ready.status, reasons) == (503, {"database_unreachable"})
        assert (await gateway.fetch("GET", "/health")).status == 200
        await client.barrier()
        await client.until(lambda: not client.data["permissions"])
        assert now_ms() >= ends
        assert await refused == 503
    fresh = await client.message("status", store="fresh")
    assert fresh["age_s"] >= 0
    foreign.execute("UPDATE users SET name = 'Afterwards' WHERE id = ?", person.id)
    await client.until(lambda: client.data["identity"]["name"] == "Afterwards")
    assert client.held[:2] == user_document(foreign, person.id)[:2]
    await eventually(lambda: gateway.request("GET", "/ready").status == 200)


async def _refusal(connect: Connect, token: str) -> int:
    try:
        await connect(token)
    except Refused as refusal:
        return refusal.answer.status
    return 101


async def test_a_log_that_was_cut_off_below_the_position_is_no_loss(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person, removed = seed.people(2)
    client, other = await connect(person.token), await connect(removed.token)
    await client.until(lambda: client.data)
    await other.until(lambda: other.data)
    resyncs = gateway.metric("gateway_feed_resyncs_total")
    gateway.pause()
    foreign.execute("UPDATE users SET name = 'Lost' WHERE id = ?", person.id)
    foreign.execute("INSERT INTO plan_permissions(plan, permission) VALUES (?, 'can_dance')", person.plan)
    foreign.execute("DELETE FROM api_tokens WHERE id = ?", removed.token_id)
    foreign.execute("INSERT INTO roles(id) VALUES ('the newest row')")
    foreign.execute("DELETE FROM change_log WHERE seq < (SELECT max(seq) FROM change_log)")
    gateway.resume()
    await client.until(lambda: client.data["identity"]["name"] == "Lost" and client.data["permissions"])
    assert (await other.end())["code"] == "revoked"
    assert gateway.metric("gateway_feed_resyncs_total") > resyncs
    foreign.execute("DELETE FROM change_log")
    foreign.execute("UPDATE users SET name = 'And on' WHERE id = ?", person.id)
    await client.until(lambda: client.data["identity"]["name"] == "And on")
    assert fresh_document(gateway, person)[:2] == client.held[:2]


def _command(
    gateway: GatewayProcess, *arguments: str, database: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "GATEWAY_DATABASE_URL": f"file:{database or gateway.database}",
    }
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], env=environment, capture_output=True, text=True, timeout=30
    )


def _put_in_place(file: Path, database: Path) -> None:
    """What an operator does who forgets to stop the gateway."""
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    os.replace(file, database)


async def test_a_backup_put_back_begins_a_new_epoch(
    own_gateway: StartGateway, connect: Connect, tmp_path: Path
) -> None:
    own = own_gateway()
    process, foreign = own.process, own.foreign
    person, quiet = own.seed.people(2)
    clients = [await connect(someone.token, at=process) for someone in (person, quiet)]
    for client in clients:
        await client.until(lambda client=client: client.data)
    before = user_document(foreign, person.id)
    backup = tmp_path / "backup.db"
    assert _command(process, "backup", str(backup)).returncode == 0
    foreign.execute("UPDATE users SET name = 'Too new' WHERE id = ?", person.id)
    newer = own.seed.person()
    await clients[0].until(lambda: clients[0].data["identity"]["name"] == "Too new")

    refused = _command(process, "restore", str(backup), "--yes")
    assert refused.returncode != 0
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    await clients[0].barrier()

    foreign.close()
    assert process.terminate() == 0
    assert _command(process, "restore", str(backup), "--yes").returncode == 0
    process.start()
    back = [
        await connect(someone.token, at=process, held=client.replica.documents)
        for someone, client in zip((person, quiet), clients, strict=True)
    ]
    for client in back:
        await client.until(lambda client=client: client.data)
    assert back[0].held[:2] == before[:2]
    assert [client.messages()[2]["op"] for client in back] == ["snapshot", "current"]
    assert back[0].messages("hello")[0]["epoch"] != clients[0].messages("hello")[0]["epoch"]
    assert await _refusal(lambda token: connect(token, at=process), newer.token) == 401


async def test_a_backup_put_in_place_under_a_running_gateway_is_followed(
    own_gateway: StartGateway, connect: Connect, tmp_path: Path
) -> None:
    own = own_gateway()
    process, foreign = own.process, own.foreign
    person = own.seed.person()
    before = user_document(foreign, person.id)
    backup, restored = tmp_path / "backup.db", tmp_path / "restored.db"
    assert _command(process, "backup", str(backup)).returncode == 0
    assert _command(process, "restore", str(backup), "--yes", database=restored).returncode == 0
    newer = own.seed.person()
    foreign.execute("UPDATE users SET name = 'Too new' WHERE id = ?", person.id)
    client, other = await connect(person.token, at=process), await connect(newer.token, at=process)
    await client.until(lambda: client.data)
    foreign.close()
    _put_in_place(restored, process.database)
    for each in (client, other):
        ended = await each.end()
        assert (ended["code"], ended["reconnect"], ended["message"]) == (
            "going_away",
            "now",
            "The database was restored.",
        )
    assert await _refusal(lambda token: connect(token, at=process), newer.token) == 401
    back = await connect(person.token, at=process, held=client.replica.documents)
    await back.until(lambda: back.data)
    assert back.held[:2] == before[:2]
    assert back.messages("hello")[0]["epoch"] != client.messages("hello")[0]["epoch"]
    with ForeignWriter(process.database) as somebody:
        somebody.execute("UPDATE users SET name = 'And on' WHERE id = ?", person.id)
    await back.until(lambda: back.data["identity"]["name"] == "And on")
