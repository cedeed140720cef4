"""An older backup is put in place while clients are connected: each ends at what it holds, and none goes back on a
connection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from client_sdk import Channel, Disconnected, EpochChanged
from tests.end_to_end.conftest import Connect, StartGateway
from tests.support.client import Refused
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import fresh_document
from tests.support.waiting import eventually

QUICK = {"backoff_base_s": 0.02, "backoff_cap_s": 0.2}


async def run(gateway: GatewayProcess, *arguments: str) -> None:
    command = [sys.executable, "-m", "gateway", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=gateway.environment, capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 0, done.stderr


async def restore(gateway: GatewayProcess, backup: Path) -> None:
    """On a server under the running gateway; a file's has to be stopped."""
    if gateway.database_url.startswith("file:"):
        assert gateway.terminate() == 0
        await run(gateway, "restore", str(backup), "--yes")
        gateway.start()
    else:
        await run(gateway, "restore", str(backup), "--yes")


@pytest.mark.storages("file", "server", "websocket", "replica")
async def test_an_older_backup_under_live_sessions(own_gateway: StartGateway, tmp_path: Path) -> None:
    """What the SDK shows is what the database gives, whatever it was before, and it waits for no position of old."""
    own = own_gateway()
    process, foreign = own.process, own.foreign
    changed, quiet = own.seed.people(2)
    backup = tmp_path / "backup.db"
    async with (
        Channel(f"http://{process.address}", changed.token, **QUICK) as one,
        Channel(f"http://{process.address}", quiet.token, **QUICK) as other,
    ):
        await eventually(lambda: one.document and other.document)
        before = dict(one.document)
        await run(process, "backup", str(backup))
        foreign.execute("UPDATE users SET name = 'Too new' WHERE id = ?", changed.id)
        await eventually(lambda: one.document["identity"]["name"] == "Too new")
        sessions = {one.session_id, other.session_id}
        seqs = one.seq, other.seq
        waiting = asyncio.create_task(one.wait_for(10**6))
        if process.database_url.startswith("file:"):
            foreign.close()
        await restore(process, backup)
        with pytest.raises((EpochChanged, Disconnected)):
            await waiting
        await eventually(lambda: one.document == before)
        await eventually(lambda: str(one.freshness.state) == str(other.freshness.state) == "live")
        assert not sessions & {one.session_id, other.session_id}
        assert one.seq < seqs[0]
        for channel, person in ((one, changed), (other, quiet)):
            held = await asyncio.to_thread(fresh_document, process, person)
            assert channel.document == held.data
        with process.foreign_writer() as writer:
            writer.execute("UPDATE users SET name = 'And on' WHERE id = ?", changed.id)
            await eventually(lambda: one.document["identity"]["name"] == "And on")
        assert (one.mismatches, other.mismatches) == (0, 0)


@pytest.mark.storages("server")
async def test_every_node_ends_its_sessions(own_gateway: StartGateway, connect: Connect, tmp_path: Path) -> None:
    """Not one frame of the restored database reaches a session of before; tokens that it does not have are refused."""
    own = own_gateway()
    person = own.seed.person()
    backup = tmp_path / "backup.db"
    await run(own.process, "backup", str(backup))
    newer = own.seed.person()
    sibling = own.process.sibling()
    sibling.start()
    try:
        clients = [
            await connect(someone.token, at=node) for node in (own.process, sibling) for someone in (person, newer)
        ]
        for client in clients:
            await client.until(lambda client=client: client.data)
        await run(own.process, "restore", str(backup), "--yes")
        for client in clients:
            ended = await client.end()
            assert (ended["code"], ended["message"]) == ("going_away", "The database was restored.")
        for node in (own.process, sibling):
            back = await connect(person.token, at=node)
            await back.until(lambda back=back: back.data)
            assert back.messages("hello")[0]["epoch"] != clients[0].messages("hello")[0]["epoch"]
            with pytest.raises(Refused):
                await connect(newer.token, at=node)
    finally:
        sibling.end()
    sibling.check_log()
