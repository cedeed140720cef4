"""Readers that are slow, or never read: bounded memory, nobody else delayed, and always the truth in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from tests.end_to_end.conftest import Connect, ConnectRaw, StartGateway
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import user_document
from tests.support.raw_websocket import RawWebSocket
from tests.support.seed import GROW, Person, Seed, growth
from tests.support.waiting import eventually

# Who never reads is to be held for as long as the writing takes, on a slow machine too.
SETTINGS = {"channel_send_buffer_bytes": 16384, "channel_send_timeout_s": 100, "channel_heartbeat_s": 100}
LISTEN = "0A"
"""As the kernel writes the state of a listening socket."""
SLOW = 4096
"""A receive buffer (bytes) that is full at once."""


def _grow(foreign: ForeignWriter, person: Person, rounds: int, pause_s: float = 0.0) -> None:
    """Many large changes of one user's document, one commit each; `foreign.receive` waits for the last."""
    foreign.send_each(GROW, growth(person, rounds), pause_s=pause_s)


async def _read_until_true(raw: RawWebSocket, foreign: ForeignWriter, person: Person) -> None:
    rev = user_document(foreign, person.id).rev
    async with asyncio.timeout(20):
        while person.doc not in raw.replica.documents or raw.replica.documents[person.doc].rev != rev:
            assert await raw.read_some()


async def test_a_reader_that_never_reads_costs_bounded_memory_and_delays_nobody(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect, connect_raw: ConnectRaw
) -> None:
    busy, quiet = seed.people(2)
    reader, bystander = await connect(busy.token), await connect(quiet.token)
    never = [await connect_raw(busy.token, receive_buffer=SLOW) for _ in range(10)]
    await bystander.until(lambda: bystander.data)
    _grow(foreign, busy, 100)
    await asyncio.to_thread(foreign.receive)
    before = gateway.resident_kib()
    _grow(foreign, busy, 1500)
    delays = []
    with gateway.foreign_writer() as somebody:
        for number in range(20):
            name = f"Quiet {number}"
            await somebody.run("UPDATE users SET name = ? WHERE id = ?", name, quiet.id)
            committed = time.monotonic()
            await bystander.until(lambda name=name: bystander.data["identity"]["name"] == name)
            delays.append(time.monotonic() - committed)
    await asyncio.to_thread(foreign.receive)
    await reader.until(lambda: reader.data["identity"]["attributes"].get("number") == 1499)
    assert sorted(delays)[len(delays) // 2] < 0.5
    assert gateway.resident_kib() - before < 30_000, "of 240 MB that nobody read"
    assert gateway.metric("gateway_updates_conflated_total") > 1000
    for raw in never:
        await _read_until_true(raw, foreign, busy)
        assert len(raw.replica.received) < 40


async def test_a_slow_reader_gets_fewer_larger_steps(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect_raw: ConnectRaw
) -> None:
    person = seed.person()
    raw = await connect_raw(person.token, receive_buffer=SLOW)
    _grow(foreign, person, 300, pause_s=0.002)
    answer = asyncio.create_task(asyncio.to_thread(foreign.receive))
    while not answer.done():
        raw.read_now(8192)
        await asyncio.wait((answer,), timeout=0.02)
    await _read_until_true(raw, foreign, person)
    updates = [message for message, _ in raw.replica.received if message["op"] in ("update", "snapshot")]
    assert 3 <= len(updates) < 200


async def test_causes_of_what_was_skipped_are_kept(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect_raw: ConnectRaw
) -> None:
    person = seed.person()
    raw = await connect_raw(person.token, receive_buffer=SLOW)
    _grow(foreign, person, 20)
    await asyncio.to_thread(foreign.receive)
    seed.insert("user_permissions", user_id=person.id, permission="can_fly")
    foreign.execute("UPDATE users SET name = 'Last' WHERE id = ?", person.id)
    position = seed.last_seq()
    await eventually(lambda: gateway.metric("gateway_feed_position") >= position)
    await _read_until_true(raw, foreign, person)
    last = raw.replica.received[-1].message
    assert last["op"] == "snapshot" or {"permissions", "profile"} <= set(last["causes"])


async def test_a_socket_that_takes_nothing_is_ended_and_reading_on_says_why(
    own_gateway: StartGateway, connect: Connect, connect_raw: ConnectRaw
) -> None:
    own = own_gateway(channel_send_timeout_s=1, channel_send_buffer_bytes=16384)
    person, other = own.seed.people(2)
    bystander = await connect(other.token, at=own.process)
    late = await connect_raw(person.token, at=own.process, receive_buffer=SLOW)
    never = await connect_raw(person.token, at=own.process, receive_buffer=SLOW)
    connections = _accepted(own.process)
    _grow(own.foreign, person, 20)
    await asyncio.to_thread(own.foreign.receive)
    await eventually(lambda: own.process.metric("gateway_sessions_ended_total", code="too_slow") == 2, timeout_s=5)
    await late.read_to_end()
    assert late.replica.ended is not None
    assert late.replica.ended["code"] == "too_slow"
    assert late.replica.close_code == 4002
    await eventually(never.was_cut, timeout_s=8)
    await eventually(lambda: _accepted(own.process) <= connections - 2)
    await bystander.barrier()


async def test_a_reader_that_takes_a_little_now_and_then_is_not_too_slow(
    own_gateway: StartGateway, connect: Connect, connect_raw: ConnectRaw
) -> None:
    own = own_gateway(channel_send_timeout_s=1, channel_send_buffer_bytes=4096)
    person = own.seed.person()
    raw = await connect_raw(person.token, at=own.process, receive_buffer=SLOW)
    _grow(own.foreign, person, 200, pause_s=0.02)
    answer = asyncio.create_task(asyncio.to_thread(own.foreign.receive))
    while not answer.done():
        raw.read_now(2048)
        await asyncio.wait((answer,), timeout=0.1)
    await _read_until_true(raw, own.foreign, person)
    assert own.process.metric("gateway_sessions_ended_total", code="too_slow") == 0


def _accepted(gateway: GatewayProcess) -> int:
    """How many connections of clients the process holds; those that it has to its database come and go as they like."""
    held = set()
    for descriptor in Path(f"/proc/{gateway.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.add(os.readlink(descriptor))
    _, *lines = Path("/proc/net/tcp").read_text().splitlines()
    sockets = [(int(fields[1].partition(":")[2], 16), fields[3], fields[9]) for fields in map(str.split, lines)]
    return sum(
        port == gateway.port and state != LISTEN and f"socket:[{inode}]" in held for port, state, inode in sockets
    )
