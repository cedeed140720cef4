"""A gateway that is stopped sends its sessions away first; several processes share one port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import pytest
from websockets.exceptions import InvalidMessage

from tests.end_to_end.conftest import Connect, ConnectRaw, StartGateway
from tests.support.client import Client, Refused
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import user_document
from tests.support.seed import GROW, growth
from tests.support.waiting import eventually

DRAIN_S = 2.0


async def test_sessions_are_sent_away_within_the_window_and_it_exits_with_0(
    own_gateway: StartGateway, connect: Connect
) -> None:
    own = own_gateway(server_drain_s=DRAIN_S)
    people = own.seed.people(20)
    clients = [await connect(person.token, at=own.process) for person in people]
    unauthenticated = await connect(at=own.process)
    own.process.signal(signal.SIGTERM)
    stopped = time.monotonic()
    await eventually(lambda: "draining" in own.process.log())
    answer = await own.process.fetch("GET", "/ready")
    assert (answer.status, answer.json()["reasons"]) == (503, ["draining"])
    ends = [await client.end() for client in (*clients, unauthenticated)]
    assert DRAIN_S * 0.8 < time.monotonic() - stopped < DRAIN_S + 2
    for client, ended in zip(clients, ends, strict=False):
        assert (ended["code"], ended["reconnect"], client.replica.close_code) == ("going_away", "now", 1001)
    delays = [ended["retry_after_s"] for ended in ends]
    assert all(0 <= delay <= DRAIN_S for delay in delays)
    assert len(set(delays)) > 10, "spread over the window"
    assert await asyncio.to_thread(own.process.wait) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_without_sessions_it_exits_with_0_at_once(number: int, own_gateway: StartGateway) -> None:
    own = own_gateway(server_drain_s=30)
    began = time.monotonic()
    own.process.signal(number)
    assert await asyncio.to_thread(own.process.wait) == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_interrupt_of_a_terminal_sends_all_away_at_once(
    workers: int, own_gateway: StartGateway, connect: Connect
) -> None:
    own = own_gateway(server_drain_s=30, server_workers=workers)
    clients = [await connect(person.token, at=own.process) for person in own.seed.people(6)]
    began = time.monotonic()
    own.process.signal(signal.SIGINT)
    assert {(await client.end())["code"] for client in clients} == {"going_away"}
    assert await asyncio.to_thread(own.process.wait) == 0
    assert time.monotonic() - began < 5


async def _crowd(own_process: GatewayProcess, token: str, connect_raw: ConnectRaw, count: int) -> None:
    for _ in range(count // 20):
        await asyncio.gather(*(connect_raw(token, at=own_process) for _ in range(20)))


async def test_a_draining_node_takes_nobody_new(
    own_gateway: StartGateway, connect: Connect, connect_raw: ConnectRaw
) -> None:
    own = own_gateway(server_drain_s=5, channel_max_sessions_per_user=1000)
    person = own.seed.person()
    await _crowd(own.process, person.token, connect_raw, 400)
    own.process.signal(signal.SIGTERM)
    ready: set[tuple[int, tuple[str, ...]]] = set()
    handshakes: set[int] = set()
    with contextlib.suppress(OSError, InvalidMessage):  # the process ends, perhaps in the middle of a handshake
        while True:
            answer = await own.process.fetch("GET", "/ready")
            ready.add((answer.status, tuple(answer.json().get("reasons", ()))))
            if answer.status == 503:
                with pytest.raises(Refused) as refusal:
                    await Client.connect(own.process, person.token)
                handshakes.add(refusal.value.answer.status)
                assert int(refusal.value.answer.headers["retry-after"]) > 0
    assert (503, ("draining",)) in ready
    assert handshakes == {503}
    assert await asyncio.to_thread(own.process.wait) == 0


async def test_a_second_signal_does_not_wait(
    own_gateway: StartGateway, connect: Connect, connect_raw: ConnectRaw
) -> None:
    own = own_gateway(server_drain_s=30, channel_max_sessions_per_user=1000)
    person = own.seed.person()
    await _crowd(own.process, person.token, connect_raw, 600)
    own.process.signal(signal.SIGTERM)
    await eventually(lambda: "draining" in own.process.log())
    own.process.signal(signal.SIGINT)
    began = time.monotonic()
    await asyncio.to_thread(own.process.wait)
    assert time.monotonic() - began < 3


async def test_readers_that_never_read_do_not_hold_up_the_end(
    own_gateway: StartGateway, connect_raw: ConnectRaw
) -> None:
    own = own_gateway(server_drain_s=1, channel_send_buffer_bytes=16384)
    person = own.seed.person()
    for _ in range(5):
        await connect_raw(person.token, at=own.process, receive_buffer=4096)
    own.foreign.each(GROW, growth(person, 20))
    began = time.monotonic()
    assert await asyncio.to_thread(own.process.terminate) == 0
    assert time.monotonic() - began < 8


async def test_two_processes_share_the_port_and_follow_the_same_changes(
    own_gateway: StartGateway, connect: Connect
) -> None:
    own = own_gateway(server_workers=2, server_drain_s=1)
    person = own.seed.person()
    clients = await _on_both(own.process, person.token, connect)
    own.foreign.execute("UPDATE users SET name = 'For all' WHERE id = ?", person.id)
    for client in clients:
        await client.until(lambda client=client: client.data.get("identity", {}).get("name") == "For all")
        assert client.held == user_document(own.foreign, person.id)

    [victim, survivor] = own.process.workers()
    os.kill(victim, signal.SIGKILL)
    lost = [client for client in clients if _process_of(client) == str(victim)]
    for client in lost:
        await client.until(lambda client=client: client.replica.close_code == 1006)
    await eventually(lambda: len(own.process.workers()) == 2 and victim not in own.process.workers())
    clients = await _on_both(own.process, person.token, connect)
    own.foreign.execute("UPDATE users SET name = 'Again' WHERE id = ?", person.id)
    for client in clients:
        await client.until(lambda client=client: client.data.get("identity", {}).get("name") == "Again")
    assert str(survivor) in {_process_of(client) for client in clients}

    own.foreign.execute("DELETE FROM api_tokens WHERE id = ?", person.token_id)
    for client in clients:
        assert (await client.end())["code"] == "revoked"
    other = own.seed.person()
    clients = await _on_both(own.process, other.token, connect)
    own.process.signal(signal.SIGTERM)
    for client in clients:
        assert (await client.end())["code"] == "going_away"
    assert await asyncio.to_thread(own.process.wait) == 0


def _process_of(client: Client) -> str:
    """The process id, which is a part of the node's name."""
    return str(client.messages("hello")[0]["node"]).rsplit("-", 2)[1]


async def _on_both(gateway: GatewayProcess, token: str, connect: Connect) -> list[Client]:
    """Sessions on both processes; the kernel decides which connection goes where."""
    clients: list[Client] = []
    async with asyncio.timeout(10):
        while len({_process_of(client) for client in clients}) < 2:
            with contextlib.suppress(OSError):
                clients.append(await connect(token, at=gateway))
                if len(clients) > 15:
                    await clients.pop(0).close()
    return clients


async def test_workers_do_not_outlive_a_killed_parent(own_gateway: StartGateway) -> None:
    own = own_gateway(server_workers=2, server_drain_s=1)
    await eventually(lambda: len(own.process.workers()) == 2)
    workers = own.process.workers()
    os.kill(own.process.pid, signal.SIGKILL)
    own.process.wait()
    try:
        await eventually(lambda: not any(map(_alive, workers)), timeout_s=10)
    finally:
        for worker in filter(_alive, workers):
            os.kill(worker, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
