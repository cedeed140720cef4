"""Two nodes on one database, in two processes: a commit reaches the sessions on both, and limits hold for both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Place, StartServer
from tests.end_to_end.conftest import Connect, StartGateway
from tests.support.client import Client
from tests.support.foreign_writer import ForeignServerWriter, ForeignWriter
from tests.support.gateway_process import GatewayProcess, wait_for
from tests.support.seed import Seed
from tests.support.waiting import eventually

MAXIMUM = 20


class Nodes(NamedTuple):
    """Two processes and somebody who writes SQL to their database."""

    one: GatewayProcess
    two: GatewayProcess
    seed: Seed

    def sql(self, sql: str, *args: object) -> list[tuple[object, ...]]:
        return self.seed.foreign.execute(sql, *args)

    def registered(self) -> int:
        return len(self.sql("SELECT 1 FROM node_sessions"))

    def signs(self) -> int:
        [(count,)] = self.seed.foreign.execute("SELECT sum(beat) FROM nodes")
        return int(count)


def see_each_other(*processes: GatewayProcess) -> None:
    for process in processes:
        wait_for(lambda p=process: p.metric("gateway_nodes") == len(processes), 30, what="the nodes see each other")


@pytest.fixture
def nodes(database_place: Place, tmp_path: Path) -> Iterator[Nodes]:
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    one, two = (GatewayProcess(directory, **database_place.settings()) for directory in directories)
    try:
        one.start()
        two.start()
        with _foreign_writer(database_place) as foreign:
            see_each_other(one, two)
            yield Nodes(one, two, Seed(foreign, one.secrets))
    finally:
        one.end()
        two.end()
    one.check_log()
    two.check_log()


def _foreign_writer(place: Place) -> ForeignWriter:
    file = place.url.removeprefix("file:")
    return ForeignWriter(file) if file != place.url else ForeignServerWriter(place.url)


async def many(connect: Connect, token: str, count: int, at: GatewayProcess) -> list[Client]:
    return [await connect(token, at=at) for _ in range(count)]


def open_ones(clients: list[Client]) -> list[Client]:
    return [client for client in clients if client.replica.ended is None]


async def test_a_revocation_by_sql_closes_the_sockets_on_both(nodes: Nodes, connect: Connect) -> None:
    person, other = nodes.seed.people(2)
    clients = [await connect(person.token, at=node) for node in (nodes.one, nodes.two) for _ in range(3)]
    bystanders = [await connect(other.token, at=node) for node in (nodes.one, nodes.two)]
    nodes.sql("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", person.token_id)
    began = time.monotonic()
    ends = [await client.end() for client in clients]
    assert time.monotonic() - began < 2
    assert {(end["code"], end["reconnect"]) for end in ends} == {("revoked", "never")}
    for client in bystanders:
        await client.barrier()


async def test_a_change_reaches_the_sessions_on_both(nodes: Nodes, connect: Connect) -> None:
    person = nodes.seed.person()
    clients = [await connect(person.token, at=node) for node in (nodes.one, nodes.two)]
    for client in clients:
        await client.until(lambda c=client: c.data)
    nodes.sql("UPDATE users SET name = 'Both' WHERE id = ?", person.id)
    for client in clients:
        await client.until(lambda c=client: c.data["identity"]["name"] == "Both")
    assert clients[0].held == clients[1].held


async def test_of_twenty_one_sessions_on_two_nodes_the_oldest_goes(nodes: Nodes, connect: Connect) -> None:
    person = nodes.seed.person()
    first = await many(connect, person.token, 11, nodes.one)
    second = await many(connect, person.token, 9, nodes.two)
    await asyncio.to_thread(wait_for, lambda: nodes.registered() == MAXIMUM)
    assert len(open_ones(first + second)) == MAXIMUM
    second += await many(connect, person.token, 1, nodes.two)
    ended = await first[0].end()
    assert (ended["code"], ended["reconnect"], first[0].replica.close_code) == ("replaced", "later", 4003)
    for client in first[1:] + second:
        await client.barrier()
    await asyncio.to_thread(wait_for, lambda: nodes.registered() == MAXIMUM)


async def test_the_clients_of_a_killed_node_come_back_and_nobody_is_replaced(nodes: Nodes, connect: Connect) -> None:
    person = nodes.seed.person()
    first = await many(connect, person.token, 9, nodes.one)
    await many(connect, person.token, 11, nodes.two)
    await asyncio.to_thread(wait_for, lambda: nodes.registered() == MAXIMUM)
    nodes.two.kill()
    back = await many(connect, person.token, 11, nodes.one)
    await asyncio.to_thread(wait_for, lambda: nodes.registered() == MAXIMUM + 11)
    # Whoever suspects too many gives signs of life often: by then it has judged several times.
    signs = nodes.signs()
    await asyncio.to_thread(wait_for, lambda: nodes.signs() > signs + 5)
    for client in first + back:
        await client.barrier()


async def test_a_node_that_stood_still_and_was_removed_comes_back(nodes: Nodes, connect: Connect) -> None:
    """As after 30 s of standing still: the others have removed it with its sessions."""
    person = nodes.seed.person()
    first = await many(connect, person.token, 11, nodes.one)
    await asyncio.to_thread(wait_for, lambda: nodes.registered() == 11)
    [(name,)] = nodes.sql("SELECT DISTINCT node FROM node_sessions")
    nodes.one.pause()
    nodes.sql("DELETE FROM nodes WHERE name = ?", name)
    assert nodes.registered() == 0
    nodes.one.resume()
    await asyncio.to_thread(wait_for, lambda: nodes.registered() == 11)
    await many(connect, person.token, 10, nodes.two)
    ended = await first[0].end()
    assert ended["code"] == "replaced"
    assert "this node was off the list of nodes and is on it again" in nodes.one.log()


async def test_who_stops_properly_is_off_the_list_at_once(nodes: Nodes) -> None:
    assert len(nodes.sql("SELECT 1 FROM nodes")) == 2
    assert await asyncio.to_thread(nodes.two.terminate) == 0
    assert len(nodes.sql("SELECT 1 FROM nodes")) == 1
    await asyncio.to_thread(wait_for, lambda: nodes.one.metric("gateway_nodes") == 1)


async def test_workers_are_nodes_too(own_gateway: StartGateway, connect: Connect) -> None:
    own = own_gateway(server_workers=2, channel_max_sessions_per_user=4)
    await eventually(lambda: own.foreign.execute("SELECT count(*) FROM nodes") == [(2,)])
    for worker in ("0", "1"):
        await asyncio.to_thread(wait_for, lambda w=worker: own.process.metric("gateway_nodes", worker=w) == 2)
    person = own.seed.person()
    clients = await many(connect, person.token, 12, own.process)
    await eventually(lambda: len(open_ones(clients)) == 4)
    assert await asyncio.to_thread(own.process.terminate) == 0
    assert own.foreign.execute("SELECT count(*) FROM nodes") == [(0,)]


async def test_a_lock_that_somebody_keeps_makes_a_node_unready(tmp_path: Path, connect: Connect) -> None:
    """A file: a server takes the lock away after 5 s."""
    with GatewayProcess(tmp_path) as process, ForeignWriter(process.database) as foreign:
        client = await connect(Seed(foreign, process.secrets).person().token, at=process)
        foreign.execute("BEGIN IMMEDIATE")
        await asyncio.to_thread(wait_for, lambda: process.request("GET", "/ready").status == 503, 25.0)
        assert process.request("GET", "/ready").json()["reasons"] == ["database_writes_stalled"]
        await client.barrier()
        foreign.execute("ROLLBACK")
        await asyncio.to_thread(wait_for, lambda: process.request("GET", "/ready").status == 200)
        for told in ("the database takes no writes", "the database takes writes again"):
            assert process.log().count(told) == 1
        process.check_log()


def test_a_server_that_stands_still_makes_nodes_unready_and_takes_none_off_the_list(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    one, two = (GatewayProcess(directory, database_url=server.url) for directory in directories)
    with one, two:
        see_each_other(one, two)
        server.freeze()
        for node in (one, two):
            wait_for(lambda n=node: "database_writes_stalled" in _reasons(n), 20.0, "the stall is noticed")
        server.resume()
        for node in (one, two):
            wait_for(lambda n=node: _reasons(n) == [], 20.0, "the node is ready again")
        assert len(server.execute("SELECT 1 FROM nodes")) == 2
        server.restart()
        [(signs,)] = server.execute("SELECT min(beat) FROM nodes")
        wait_for(
            lambda: server.execute("SELECT min(beat) FROM nodes")[0][0] >= signs + 2, 20.0, "signs after a restart"
        )
    for node in (one, two):
        assert "off the list" not in node.log()
        node.check_log()


def _reasons(node: GatewayProcess) -> list[str]:
    reasons: list[str] = node.request("GET", "/ready").json().get("reasons", [])
    return reasons
