"""Two hundred who want the last unit at once, over sockets of two nodes and over HTTP: exactly one gets it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.client import MESSAGEPACK, Client
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.http_spender import consume
from tests.support.quota_books import charges, check_books, taken
from tests.support.seed import Person, Seed

SETTINGS = {"channel_messages_per_minute": 100_000}
TAKERS = 200
BY_HTTP = 40
SOCKETS = 8


@pytest.fixture(scope="module")
def neighbour(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """A second node on the same database."""
    process = gateway.sibling(**SETTINGS)
    process.secrets = gateway.secrets
    with process:
        yield process
    process.check_log()


class Crowd:
    """Eight sockets of one person, four at each node, and HTTP at both."""

    def __init__(self, person: Person, nodes: list[GatewayProcess], clients: list[Client]) -> None:
        self.person = person
        self.nodes = nodes
        self.clients = clients

    async def take(self, fields: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        """All at once; the answers, by the number of the request."""
        return await asyncio.gather(*(self.take_one(number, fields(number)) for number in range(TAKERS)))

    async def take_one(self, number: int, fields: dict[str, Any]) -> dict[str, Any]:
        if number >= BY_HTTP:
            return await self.clients[number % SOCKETS].request("consume", **fields)
        wanted = dict(fields)
        quota, amount, key = wanted.pop("quota"), wanted.pop("amount"), wanted.pop("key")
        answer = await consume(self.nodes[number % 2], self.person.token, quota, amount, key, **wanted)
        body: dict[str, Any] = answer.json()
        return {"op": "reply" if answer.status == 200 else "error", **body}


@pytest.fixture
def crowd_of(
    gateway: GatewayProcess, neighbour: GatewayProcess, connect: Connect
) -> Callable[[Person], Awaitable[Crowd]]:
    nodes = [gateway, neighbour]

    async def gather(person: Person) -> Crowd:
        clients = [
            await connect(person.token, at=nodes[number % 2], **({} if number % 3 else {"subprotocol": MESSAGEPACK}))
            for number in range(SOCKETS)
        ]
        return Crowd(person, nodes, clients)

    return gather


async def test_one_of_two_hundred_gets_the_last_unit(
    seed: Seed, foreign: ForeignWriter, crowd_of: Callable[[Person], Awaitable[Crowd]]
) -> None:
    person = seed.person(seed.plan(quotas={"units": (7, "year")}))
    crowd = await crowd_of(person)
    assert (await crowd.clients[0].request("consume", quota="units", amount=6, key="before"))["remaining"] == 1
    answers = await crowd.take(lambda number: {"quota": "units", "amount": 1, "key": f"k{number}"})
    won = [number for number, answer in enumerate(answers) if answer["op"] == "reply"]
    assert len(won) == 1
    assert (answers[won[0]]["used"], answers[won[0]]["remaining"], answers[won[0]]["level"]) == (7, 0, "exhausted")
    for answer in answers:
        if answer["op"] == "error":
            assert (answer["code"], answer["quota"], answer["remaining"]) == ("quota_exceeded", "units", 0)
            assert answer["resets_at"].endswith("-01-01T00:00:00.000Z")
    assert charges(foreign, person.doc, "units") == {"before": 6, f"k{won[0]}": 1}
    for client in crowd.clients:
        await client.until(lambda c=client: c.data["quotas"]["units"]["used"] == 7)
    check_books(foreign)


async def test_two_hundred_who_ask_under_one_key_are_one(
    seed: Seed, foreign: ForeignWriter, crowd_of: Callable[[Person], Awaitable[Crowd]]
) -> None:
    person = seed.person(seed.plan(quotas={"units": (1000, "year")}))
    crowd = await crowd_of(person)
    answers = await crowd.take(lambda number: {"quota": "units", "amount": 5, "key": "the only one"})
    told = [{name: value for name, value in answer.items() if name != "id"} for answer in answers]
    assert all(answer == told[0] for answer in told)
    assert (told[0]["op"], told[0]["used"]) == ("reply", 5)
    assert charges(foreign, person.doc, "units") == {"the only one": 5}


async def test_of_a_soft_limit_all_get_theirs(
    seed: Seed, foreign: ForeignWriter, crowd_of: Callable[[Person], Awaitable[Crowd]]
) -> None:
    person = seed.person(seed.plan(quotas={"units": (7, "year")}))
    foreign.execute("UPDATE plan_quotas SET hard = 0 WHERE plan = ?", person.plan)
    crowd = await crowd_of(person)
    answers = await crowd.take(lambda number: {"quota": "units", "amount": 1, "key": f"k{number}"})
    assert sorted(answer["used"] for answer in answers) == list(range(1, TAKERS + 1))
    assert {answer["level"] for answer in answers if answer["used"] >= 7} == {"exhausted"}


async def test_of_a_pool_members_get_what_the_pool_and_their_caps_leave(
    seed: Seed, foreign: ForeignWriter, crowd_of: Callable[[Person], Awaitable[Crowd]]
) -> None:
    """Two members, one of them capped, want 200 units each of a pool that has 205."""
    plan = seed.plan(quotas={"units": (205, "year")})
    free, capped = seed.people(2)
    organization = seed.organization(plan, {free.id: "owner", capped.id: "member"})
    seed.insert("member_caps", org_id=organization, user_id=capped.id, quota="units", limit_value=13)
    crowds = [await crowd_of(free), await crowd_of(capped)]
    order = lambda number: {"quota": "units", "amount": 1, "key": f"k{number}", "org": organization}  # noqa: E731
    capped_first = asyncio.create_task(crowds[1].take(order))
    all_answers = [await crowds[0].take(order), await capped_first]
    won = [sum(answer["op"] == "reply" for answer in answers) for answers in all_answers]
    assert 5 <= won[1] <= 13
    assert sum(won) == 205
    refusals = {a["code"] for answers in all_answers for a in answers if a["op"] == "error"}
    assert refusals == {"quota_exceeded"}
    assert taken(foreign, f"org:{organization}", "units") == (205, 0)
    [(used,)] = foreign.execute("SELECT sum(used) FROM member_usage WHERE user_id = ?", capped.id)
    assert used == won[1]
    check_books(foreign)


async def test_leases_and_consumptions_share_what_there_is(
    seed: Seed, foreign: ForeignWriter, crowd_of: Callable[[Person], Awaitable[Crowd]]
) -> None:
    """Whoever holds a unit has it: commits, releases and consumptions under way together never make one more."""
    person = seed.person(seed.plan(quotas={"units": (10, "year")}))
    crowd = await crowd_of(person)
    numbers = itertools.count()

    async def call(client: Client) -> int:
        """Hold three, use two; how many were used."""
        name = f"l{next(numbers)}"
        held = await client.request("reserve", quota="units", amount=3, ttl_s=60, lease=name)
        if held["op"] == "error":
            assert held["code"] == "quota_exceeded"
            return 0
        assert held["used"] + held["reserved"] <= 10
        if int(name[1:]) % 2:
            assert (await client.request("release", lease=name))["state"] == "released"
            return 0
        done = await client.request("commit", lease=name, amount=2)
        assert (done["state"], done["committed"]) == ("committed", 2)
        return 2

    async def spend(client: Client) -> int:
        answer = await client.request("consume", quota="units", amount=1, key=f"c{next(numbers)}")
        return 1 if answer["op"] == "reply" else 0

    spent = await asyncio.gather(*(work(client) for work in (call, spend) for client in crowd.clients * 6))
    assert taken(foreign, person.doc, "units") == (sum(spent), 0)
    assert 0 < sum(spent) <= 10
    check_books(foreign)
