"""Somebody watches a balance that moves thousands of times a second: few frames, and always the truth in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.fault_rig import report
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import user_document
from tests.support.pusher import Message, pushing
from tests.support.quota_books import check_books
from tests.support.seed import Seed
from tests.support.waiting import eventually

SETTINGS = {"channel_messages_per_minute": 10_000_000}
UNITS = 4_000
FRAMES_PER_S = 25
"""A gateway paces them to 20; the machine is no stopwatch."""


def orders(count: int, name: str, **more: object) -> Iterator[Message]:
    for number in range(count):
        key = f"{name}{number}"
        yield {"op": "consume", "id": key, "quota": "units", "amount": 1, "key": key, **more}


@pytest.mark.parametrize("whose", ["own", "pool"])
async def test_a_fast_balance_is_few_frames_and_ends_at_the_truth(
    whose: str,
    gateway: GatewayProcess,
    seed: Seed,
    foreign: ForeignWriter,
    connect: Connect,
    request: pytest.FixtureRequest,
) -> None:
    plan = seed.plan(quotas={"units": (10**9, "year")})
    person = seed.person(plan)
    organization = seed.organization(plan, {person.id: "owner"})
    doc, more = (person.doc, {}) if whose == "own" else (f"org:{organization}", {"org": organization})
    watcher = await connect(person.token, watch=["self", doc])
    await watcher.until(lambda: doc in watcher.replica.confirmed)
    mark, began = watcher.mark(), time.monotonic()
    answers: list[Message] = []
    async with AsyncExitStack() as stack:
        for name in ("a", "b"):
            some = orders(UNITS // 2, name, **more)
            push = pushing(gateway, person.token, some, lambda _, answer: answers.append(answer), window=50)
            await stack.enter_async_context(push)
        await eventually(lambda: len(answers) == UNITS, 30)
        took_s = time.monotonic() - began
    assert {answer["op"] for answer in answers} == {"reply"}
    await watcher.until(lambda: watcher.replica.documents[doc].data["quotas"]["units"]["used"] == UNITS)
    await watcher.barrier()
    ended_s = time.monotonic() - began
    frames = watcher.messages("update", since=mark, doc=doc)
    assert {cause for frame in frames for cause in frame["causes"]} == {"quota_usage"}
    assert 2 <= len(frames) <= FRAMES_PER_S * ended_s + 2
    seen = [held.data["quotas"]["units"]["used"] for held in watcher.replica.states if "quotas" in held.data]
    assert seen[-1] == UNITS
    truth = user_document(foreign, person.id).data
    await watcher.until(lambda: watcher.data == truth)  # the pool is in it too
    check_books(foreign)
    report(request, units_per_s=UNITS / took_s, frames=len(frames), frames_per_s=len(frames) / ended_s)
