"""No client ever sees a state that never was; when the noise stops, everybody holds what the database gives."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.conftest import Connect, ConnectRaw, StartGateway
from tests.support.client import Client, Refused
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import fresh_document, user_document
from tests.support.raw_websocket import RawWebSocket
from tests.support.seed import Person, Seed, now_ms
from tests.support.waiting import eventually

pytestmark = pytest.mark.storages("file", "server", "replica")


def _numbers(data: dict[str, Any]) -> set[str]:
    """All numbers that one commit wrote into the different parts of a document."""
    [organization] = data["organizations"].values()
    texts = [*data["permissions"], data["identity"]["name"], organization["name"], *organization["permissions"]]
    numbers = {number for text in texts for number in re.findall(r"number (\d+)", text)}
    return numbers | {str(data["quotas"]["minutes"]["limit"]), str(data["quotas"]["calls"]["limit"])}


async def test_what_is_committed_together_is_seen_together(
    foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    """More documents than one round of the feed takes, each of them made of rows of every table."""
    plan = seed.plan(["number 0 of the plan"], {"minutes": (0, "month")})
    role = seed.role(["number 0 of the role"])
    foreign.execute("INSERT INTO org_role_permissions VALUES ('owner', 'number 0 of the membership')")
    people = seed.people(130, plan, name="number 0")
    organization = seed.organization(plan, {person.id: "owner" for person in people})
    foreign.execute("UPDATE organizations SET name = 'number 0' WHERE id = ?", organization)
    with seed.transaction():
        for person in people:
            seed.insert("user_roles", user_id=person.id, role=role)
            seed.insert("user_permissions", user_id=person.id, permission="number 0 of the user")
            seed.insert("user_quotas", user_id=person.id, quota="calls", limit_value=0)
    clients = [await connect(person.token) for person in people]
    for client in clients:
        await client.until(lambda client=client: client.data)
    for number in range(1, 13):
        with seed.transaction():
            for sql in (
                "UPDATE users SET name = 'number ' || :n",
                "UPDATE user_quotas SET limit_value = :n",
                "UPDATE plan_permissions SET permission = 'number ' || :n || ' of the plan'",
                "UPDATE role_permissions SET permission = 'number ' || :n || ' of the role'",
                "UPDATE user_permissions SET permission = 'number ' || :n || ' of the user'",
                "UPDATE org_role_permissions SET permission = 'number ' || :n || ' of the membership'",
                "UPDATE organizations SET name = 'number ' || :n",
                "UPDATE plan_quotas SET limit_value = :n",
            ):
                foreign.execute(sql.replace(":n", str(number)))
        await asyncio.sleep(random.random() / 20)
    for client in clients:
        await client.until(lambda client=client: _numbers(client.data) == {"12"})
        for data in client.states:
            assert len(_numbers(data)) == 1, f"parts of several commits: {data}"
    assert sum(len(client.states) for client in clients) > 5 * len(clients)


async def test_names_of_every_kind_lead_to_the_same_revision(
    foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    names = [
        "with space",
        "a:b",
        "x@0123456789abcdef",
        '"quoted"',
        "back\\slash",
        "ü",
        "\U0001f600",
        "\ue000",
        "\uffff",
    ]
    names += ["\u2028", "a\0b", "..", "%41", "' OR 1=1 --", "self", "user:self", "\x7f\x80", "x" * 500]
    for name in names:
        plan = seed.plan([f"p {name}"], {f"q {name}": (5, "month")})
        seed.insert("users", id=name, username=name, plan=plan)
        token = seed.token(name)
        seed.insert("user_permissions", user_id=name, permission=name)
        organization = f"o {name}"
        seed.insert("organizations", id=organization, name=name, plan=plan)
        seed.insert("memberships", org_id=organization, user_id=name)
        client = await connect(token.text)
        await client.until(lambda client=client: client.data)
        foreign.execute("UPDATE users SET name = ? WHERE id = ?", name, name)
        await client.until(lambda client=client, name=name: client.held == user_document(foreign, name))


CHANGES: tuple[tuple[str, Callable[[Person, int], tuple[Any, ...]]], ...] = (
    ("UPDATE users SET name = ? WHERE id = ?", lambda p, n: (f"Name {n}", p.id)),
    ("UPDATE users SET attributes = json_object('n', ?) WHERE id = ?", lambda p, n: (n, p.id)),
    ("INSERT INTO user_permissions(user_id, permission) VALUES (?, ?)", lambda p, n: (p.id, f"can_{n}")),
    ("DELETE FROM user_permissions WHERE user_id = ?", lambda p, n: (p.id,)),
    ("UPDATE plan_quotas SET limit_value = ? WHERE plan = ?", lambda p, n: (n, p.plan)),
    (
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES (?, 'minutes', ?, ?)",
        lambda p, n: (p.doc, now_ms(), n),
    ),
    (
        "INSERT OR IGNORE INTO user_quotas(user_id, quota, limit_value, expires_at) VALUES (?, 'minutes', ?, ?)",
        lambda p, n: (p.id, n, now_ms() + 300),
    ),
    ("DELETE FROM user_quotas WHERE user_id = ?", lambda p, n: (p.id,)),
)


class Noise:
    """Somebody writes all the time."""

    def __init__(self, gateway: GatewayProcess, people: list[Person], chance: random.Random) -> None:
        self._gateway = gateway
        self._people = people
        self._chance = chance
        self._task = asyncio.create_task(self._write())
        self._stopping = False

    async def _write(self) -> None:
        with self._gateway.foreign_writer() as writer:
            number = 0
            while not self._stopping:
                number += 1
                sql, arguments = self._chance.choice(CHANGES)
                person = self._chance.choice(self._people)
                await writer.run(sql, *arguments(person, number))
                await asyncio.sleep(self._chance.random() / 200)

    async def stop(self) -> None:
        self._stopping = True
        await self._task


async def _back(connect: Connect, gateway: GatewayProcess, person: Person, before: Client) -> Client:
    """Connect again until it succeeds, with what the last connection held."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await connect(person.token, at=gateway, held=before.replica.documents)
            except (Refused, OSError):
                await asyncio.sleep(0.02)


@pytest.mark.storages("file", "server", "websocket", "replica")
async def test_cuts_kills_and_pauses_under_load_end_in_the_truth(
    own_gateway: StartGateway, connect: Connect, connect_raw: ConnectRaw
) -> None:
    chance = random.Random(20261121)
    own = own_gateway(channel_send_buffer_bytes=4096)
    people = own.seed.people(10, own.seed.plan(["can_use_voice"], {"minutes": (500, "month")}))
    clients = {person: await connect(person.token, at=own.process) for person in people}
    slow = [await connect_raw(person.token, at=own.process, receive_buffer=2304) for person in people[:3]]
    noise = Noise(own.process, people, chance)
    for disturbance in ("cut", "kill", "cut", "pause", "cut", "stop"):
        for _ in range(10):
            await asyncio.sleep(0.05)
            _drip(slow, chance)
        match disturbance:
            case "kill":
                await asyncio.to_thread(own.process.restart)
                for person in people:
                    clients[person] = await _back(connect, own.process, person, clients[person])
            case "pause":
                own.process.pause()
                await asyncio.sleep(0.7)
                own.process.resume()
            case "stop":
                await asyncio.to_thread(own.process.terminate)
                own.process.start()
                for person in people:
                    clients[person] = await _back(connect, own.process, person, clients[person])
            case _:
                for person in chance.sample(people, 5):
                    clients[person].cut()
                    clients[person] = await _back(connect, own.process, person, clients[person])
    await noise.stop()
    for person, client in clients.items():
        await client.until(lambda client=client, person=person: _agrees(client, own.foreign, person))
    expected = await asyncio.to_thread(fresh_document, own.process, people[0])
    # An override may have ended meanwhile, by the clock.
    await clients[people[0]].until(lambda: clients[people[0]].held[:2] == expected[:2])


def _agrees(client: Client, foreign: ForeignWriter, person: Person) -> bool:
    return client.held is not None and client.held[:2] == user_document(foreign, person.id)[:2]


def _drip(slow: list[RawWebSocket], chance: random.Random) -> None:
    for raw in slow:
        if not raw.eof:
            try:
                raw.read_now(chance.randrange(1, 2000))
            except ConnectionResetError:
                raw.eof = True


async def test_two_nodes_share_a_database_and_one_may_stop_for_a_while(
    own_gateway: StartGateway, connect: Connect
) -> None:
    own = own_gateway()
    person, other = own.seed.people(2)
    with own.process.sibling() as second:
        first_client, second_client = (
            await connect(person.token, at=own.process),
            await connect(person.token, at=second),
        )
        revoked = await connect(other.token, at=own.process)
        for client in (first_client, second_client, revoked):
            await client.until(lambda client=client: client.data)
        own.process.pause()
        for number in range(100):
            await own.foreign.run("UPDATE users SET name = ? WHERE id = ?", f"Name {number}", person.id)
        await own.foreign.run("DELETE FROM api_tokens WHERE id = ?", other.token_id)
        await second_client.until(lambda: second_client.data["identity"]["name"] == "Name 99", timeout_s=2)
        assert first_client.data["identity"]["name"] == person.id.title()
        own.process.resume()
        await first_client.until(lambda: first_client.data["identity"]["name"] == "Name 99", timeout_s=2)
        assert (await revoked.end())["code"] == "revoked"
        assert first_client.held[:2] == second_client.held[:2]
        assert first_client.messages("hello")[0]["node"] != second_client.messages("hello")[0]["node"]
        await eventually(lambda: second.request("GET", "/ready").status == 200)
    second.check_log()


async def test_a_rolling_restart_costs_each_session_one_reconnect(own_gateway: StartGateway, connect: Connect) -> None:
    own = own_gateway(server_drain_s=0.5)
    people = own.seed.people(6, own.seed.plan([], {"minutes": (500, "month")}))
    with own.process.sibling(server_drain_s=0.5) as second:
        nodes = [own.process, second]
        place = {person: nodes[number % 2] for number, person in enumerate(people)}
        clients = {person: await connect(person.token, at=place[person]) for person in people}
        noise = Noise(own.process, people, random.Random(5))
        for index, node in enumerate(nodes):
            leaving = [person for person in people if place[person] is node]
            ends = asyncio.gather(*(clients[person].end() for person in leaving))
            assert await asyncio.to_thread(node.terminate) == 0
            assert {ended["code"] for ended in await ends} == {"going_away"}
            for person in leaving:
                place[person] = nodes[1 - index]
                clients[person] = await _back(connect, place[person], person, clients[person])
            node.start()
        await noise.stop()
        for person, client in clients.items():
            await client.until(lambda client=client, person=person: _agrees(client, own.foreign, person))
    second.check_log()
