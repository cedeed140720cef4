"""Leases end by themselves: at another node than the one that made them, after all nodes were away, and once only when
the end and a commit meet.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core.clock import parse_rfc3339
from tests.end_to_end.conftest import Connect, StartGateway
from tests.support.client import Client
from tests.support.gateway_process import GatewayProcess
from tests.support.quota_books import check_books, taken
from tests.support.seed import Person, now_ms
from tests.support.waiting import eventually

SETTINGS = {"channel_messages_per_minute": 100_000}
LATE_MS = 4_000
"""A second is promised; the machine is shared."""
QUOTA = {"units": (100, "year")}


async def reserve(client: Client, name: str, amount: int, ttl_s: float) -> int:
    """The moment of its end."""
    held = await client.request("reserve", quota="units", amount=amount, ttl_s=ttl_s, lease=name)
    assert (held["op"], held["state"], held["held"]) == ("reply", "open", amount)
    return parse_rfc3339(held["expires_at"])


def ends(rows: list[tuple[Any, ...]]) -> list[tuple[str, str, int, int]]:
    """Lease, how it ended, what was used and given back."""
    return sorted((str(lease), str(kind), int(used), int(reserved)) for lease, kind, used, reserved in rows)


LEDGER = "SELECT lease, kind, used, reserved FROM quota_ledger WHERE kind IN ('commit', 'release', 'expire')"


async def test_at_another_node_and_watchers_are_told(own_gateway: StartGateway, connect: Connect) -> None:
    own = own_gateway(**SETTINGS)
    person = own.seed.person(own.seed.plan(quotas=QUOTA))
    with own.process.sibling(**SETTINGS) as neighbour:
        watcher = await connect(person.token, at=neighbour)
        maker = await connect(person.token, at=own.process)
        ends_at = await reserve(maker, "left alone", 30, 1.5)
        await reserve(maker, "lives on", 7, 60)
        await watcher.until(lambda: watcher.data["quotas"]["units"]["reserved"] == 37)
        own.process.kill()
        await watcher.until(lambda: watcher.data["quotas"]["units"]["reserved"] == 7)
        assert 0 <= now_ms() - ends_at < LATE_MS
        assert watcher.messages("update")[-1]["causes"] == ["quota_usage"]
        assert (await watcher.request("commit", lease="left alone", amount=1))["code"] == "lease_expired"
        assert (await watcher.request("commit", lease="lives on", amount=5))["used"] == 5
        own.process.start()
    assert ends(own.foreign.execute(LEDGER)) == [("left alone", "expire", 0, -30), ("lives on", "commit", 5, -7)]
    check_books(own.foreign)


async def test_after_all_nodes_were_away(own_gateway: StartGateway, connect: Connect) -> None:
    """Nobody ran when they ended, and nobody asks."""
    own = own_gateway(**SETTINGS)
    people = own.seed.people(3, own.seed.plan(quotas=QUOTA))
    with own.process.sibling(**SETTINGS) as neighbour:
        moments = []
        for person in people:
            client = await connect(person.token, at=neighbour)
            moments += [await reserve(client, f"l{number}", 5, 1) for number in range(4)]
        own.process.kill()
        neighbour.kill()
    await eventually(lambda: now_ms() >= max(moments))
    assert [taken(own.foreign, person.doc, "units") for person in people] == [(0, 20)] * 3
    own.process.start()
    await eventually(lambda: [taken(own.foreign, p.doc, "units") for p in people] == [(0, 0)] * 3, LATE_MS / 1000)
    assert len(own.foreign.execute(LEDGER)) == 12
    check_books(own.foreign)


async def test_the_end_and_a_commit_meet(own_gateway: StartGateway, connect: Connect) -> None:
    """Commits that come just before, at and just after the end, at two nodes that both end leases: each lease ends in
    one way, and that is what was answered."""
    own = own_gateway(**SETTINGS)
    person = own.seed.person(own.seed.plan(quotas=QUOTA))
    with own.process.sibling(**SETTINGS) as neighbour:
        clients = [await connect(person.token, at=node) for node in (own.process, neighbour)]
        asked = [_commit_near_the_end(clients[number % 2], f"l{number}", number * 10 - 250) for number in range(40)]
        answers = dict(zip((f"l{number}" for number in range(40)), await asyncio.gather(*asked), strict=True))
        await eventually(lambda: taken(own.foreign, person.doc, "units")[1] == 0, LATE_MS / 1000)
    ways = {lease: (kind, used, given) for lease, kind, used, given in ends(own.foreign.execute(LEDGER))}
    for lease, answer in answers.items():
        if answer["op"] == "reply":
            assert (answer["state"], answer["committed"]) == ("committed", 1)
            assert ways[lease] == ("commit", 1, -2)
        else:
            assert answer["code"] == "lease_expired"
            assert ways[lease] == ("expire", 0, -2)
    committed = sum(answer["op"] == "reply" for answer in answers.values())
    assert 0 < committed < 40, "some came in time and some did not"
    assert len(own.foreign.execute(LEDGER)) == 40, "each ended once"
    assert taken(own.foreign, person.doc, "units") == (committed, 0)
    check_books(own.foreign)


async def _commit_near_the_end(client: Client, name: str, offset_ms: int) -> dict[str, Any]:
    ends_at = await reserve(client, name, 2, 1)
    await eventually(lambda: now_ms() >= ends_at + offset_ms, every_s=0.001)
    return await client.request("commit", lease=name, amount=1)


async def test_an_end_under_load_is_prompt(own_gateway: StartGateway, connect: Connect) -> None:
    """Five hundred leases of twenty people that end together."""
    own = own_gateway(**SETTINGS)
    people = own.seed.people(20, own.seed.plan(quotas=QUOTA))
    clients = [await connect(person.token, at=own.process) for person in people]
    held = [reserve(client, f"l{number}", 4, 2) for client in clients for number in range(25)]
    last = max(await asyncio.gather(*held))
    for client in clients:
        await client.until(lambda c=client: c.data["quotas"]["units"]["remaining"] in (0, 100))
    for client in clients:
        await client.until(lambda c=client: c.data["quotas"]["units"]["remaining"] == 100)
    assert now_ms() - last < LATE_MS
    assert own.foreign.execute("SELECT count(*) FROM leases WHERE state = 'expired'") == [(500,)]
    check_books(own.foreign)


def _quota(gateway: GatewayProcess, person: Person) -> dict[str, Any]:
    found: dict[str, Any] = gateway.request("GET", "/api/document", person.token).json()["data"]["quotas"]["units"]
    return found


async def test_a_session_that_is_gone_keeps_what_it_holds_for_no_longer_than_its_time(
    own_gateway: StartGateway, connect: Connect
) -> None:
    """A client that vanishes costs a lease until its end, not a unit more; one that comes back goes on with it."""
    own = own_gateway(**SETTINGS)
    person = own.seed.person(own.seed.plan(quotas=QUOTA))
    client = await connect(person.token, at=own.process)
    ends_at = await reserve(client, "vanished", 40, 1)
    await reserve(client, "resumed", 10, 60)
    client.cut()
    await eventually(lambda: _quota(own.process, person)["reserved"] == 50 or now_ms() >= ends_at)
    back = await connect(person.token, at=own.process)
    assert (await back.request("extend", lease="resumed", ttl_s=90))["held"] == 10
    assert (await back.request("commit", lease="resumed", amount=10))["used"] == 10
    await back.until(lambda: back.data["quotas"]["units"]["reserved"] == 0)
    assert now_ms() >= ends_at
    assert _quota(own.process, person)["remaining"] == 90
    check_books(own.foreign)
