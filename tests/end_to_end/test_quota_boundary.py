"""The boundary of a period while thousands spend: each unit is in exactly one period, and each period has its limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from gateway.core.clock import rfc3339
from tests.end_to_end.conftest import Connect, OwnGateway, StartGateway
from tests.support.pusher import Message, Pusher, pushing
from tests.support.quota_books import check_books
from tests.support.seed import Limit, Person, now_ms
from tests.support.waiting import eventually

SETTINGS = {"channel_messages_per_minute": 10_000_000}
HOUR = 3_600_000
AHEAD_MS = 3_000
"""How far ahead the boundary is when all is ready to begin but the connections."""
ENOUGH = 400
"""Units of the new period, until the load stops."""


class Load:
    """Orders of one person without end, one unit each, and what they were answered."""

    def __init__(self, boundary: int) -> None:
        self.after = rfc3339(boundary + HOUR)
        self.answers: dict[str, Message] = {}
        self.pushers: list[Pusher] = []
        self.stopped = False
        self.fresh = 0
        """Units of the period that begins at the boundary."""
        self._numbers = itertools.count(1)

    def orders(self) -> Iterator[Message]:
        while not self.stopped:
            key = f"k{next(self._numbers)}"
            yield {"op": "consume", "id": key, "quota": "units", "amount": 1, "key": key}

    def answered(self, order: Message, answer: Message) -> None:
        assert answer["op"] == "reply" or answer["code"] == "quota_exceeded", answer
        self.answers[order["key"]] = answer
        self.fresh += answer["op"] == "reply" and answer["resets_at"] == self.after

    def taken(self, resets_at: str) -> dict[str, int]:
        """By key, what was used of the period that ends then when that unit was taken."""
        return {
            key: answer["used"]
            for key, answer in self.answers.items()
            if answer["op"] == "reply" and answer["resets_at"] == resets_at
        }


def about_to_begin_anew(own: OwnGateway, limit: Limit) -> tuple[Person, int]:
    """A person whose hours begin at a moment that is just ahead."""
    boundary = now_ms() + AHEAD_MS
    return own.seed.person(own.seed.plan(quotas={"units": limit}), anchor_at=boundary), boundary


@pytest.mark.parametrize("limit", [10**9, 150], ids=["enough", "too little"])
async def test_each_unit_is_in_exactly_one_period(limit: int, own_gateway: StartGateway) -> None:
    own = own_gateway(**SETTINGS)
    with own.process.sibling(**SETTINGS) as neighbour:
        person, boundary = about_to_begin_anew(own, (limit, "hour"))
        before, after = rfc3339(boundary), rfc3339(boundary + HOUR)
        load = Load(boundary)
        async with AsyncExitStack() as stack:
            for node in (own.process, neighbour, own.process, neighbour):
                push = pushing(node, person.token, load.orders(), load.answered, window=15)
                load.pushers.append(await stack.enter_async_context(push))
            assert now_ms() < boundary, "too late to begin"
            await eventually(lambda: load.fresh >= min(ENOUGH, limit))
            load.stopped = True
            for pusher in load.pushers:
                await pusher.until_answered()
    rows = own.foreign.execute(
        "SELECT key, period_start, at FROM quota_ledger WHERE owner = ? AND kind = 'consume'", person.doc
    )
    for start_ms, resets_at in ((boundary - HOUR, before), (boundary, after)):
        taken = load.taken(resets_at)
        assert sorted(taken.values()) == list(range(1, len(taken) + 1)), "each unit is one more, in its period"
        assert {str(key) for key, period_start, _ in rows if period_start == start_ms} == taken.keys()
        assert 0 < len(taken) <= limit
    assert len(rows) == len(load.taken(before)) + len(load.taken(after)), "in one period, and no third"
    assert all((at >= boundary) == (period_start == boundary) for _, period_start, at in rows)
    if limit == 150:
        assert len(load.taken(before)) == len(load.taken(after)) == limit, "all of both periods"
        told = {answer["resets_at"] for answer in load.answers.values() if answer["op"] == "error"}
        assert before in told
    check_books(own.foreign)


async def test_a_lease_over_the_boundary_counts_where_it_was_reserved(
    own_gateway: StartGateway, connect: Connect
) -> None:
    own = own_gateway(**SETTINGS)
    person, boundary = about_to_begin_anew(own, (10, "hour"))
    client = await connect(person.token, at=own.process)
    for name in ("used", "given back", "kept"):
        held = await client.request("reserve", quota="units", amount=3, ttl_s=60, lease=name)
        assert (held["state"], held["resets_at"]) == ("open", rfc3339(boundary))
    assert (await client.request("reserve", quota="units", amount=2, ttl_s=60, lease="more"))["remaining"] == 1
    await client.until(lambda: client.data["quotas"]["units"]["reserved"] == 9)
    await eventually(lambda: now_ms() >= boundary)
    await client.until(lambda: client.data["quotas"]["units"]["reserved"] == 0)
    assert client.messages("update")[-1]["causes"] == ["clock"]
    fresh = await client.request("consume", quota="units", amount=10, key="all of the new one")
    assert (fresh["used"], fresh["remaining"], fresh["resets_at"]) == (10, 0, rfc3339(boundary + HOUR))
    refused = await client.request("extend", lease="kept", ttl_s=60, amount=1, key="one more")
    assert (refused["op"], refused["code"]) == ("error", "conflict")
    assert (await client.request("extend", lease="kept", ttl_s=120))["held"] == 3
    done = await client.request("commit", lease="used", amount=2)
    assert (done["state"], done["committed"], done["used"], done["reserved"]) == ("committed", 2, 2, 6)
    assert (await client.request("release", lease="given back"))["reserved"] == 3
    await client.barrier()
    assert client.data["quotas"]["units"]["used"] == 10, "the new period has nothing of it"
    rows = own.foreign.execute("SELECT period_start, used, reserved FROM quota_usage ORDER BY 1")
    assert rows == [(boundary - HOUR, 2, 3), (boundary, 10, 0)]
    check_books(own.foreign)
