"""kill -9 of a gateway in the middle of thousands of consumptions: what was answered is in the ledger, once; nothing is
there twice; and who asks again under the same key is told the same.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack

import pytest

from tests.end_to_end.conftest import StartGateway
from tests.support.fault_rig import SCALE, report, scaled
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.quota_books import charges, check_books, taken
from tests.support.remembering_spender import RememberingSpender
from tests.support.seed import Person

pytestmark = pytest.mark.timeout(240 * SCALE)

ROUNDS = {"file": int(scaled(20, 100)), "server": int(scaled(3, 50))}
QUOTA = "units"
LIMIT = 1_000
"""Of the user who is not to have enough; the others' is far away."""


def charges_of(foreign: ForeignWriter, people: list[Person]) -> dict[str, dict[str, int]]:
    return {person.doc: charges(foreign, person.doc, QUOTA) for person in {*people}}


async def _rush(gateway: GatewayProcess, spenders: list[RememberingSpender], enough: int) -> float:
    """Push until so many were answered, and kill; how long the answers took."""
    before = sum(len(spender.answers) for spender in spenders)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        pushers = [await stack.enter_async_context(spender.push(gateway)) for spender in spenders]
        async with asyncio.timeout(30):
            while sum(len(spender.answers) for spender in spenders) < before + enough:
                assert not any(pusher.lost.done() for pusher in pushers), pushers[0].others[-1]
                await asyncio.sleep(0.001)
        took_s = time.monotonic() - began
        assert any(pusher.open for pusher in pushers), "nothing is in flight"
        gateway.kill()
        await asyncio.gather(*(pusher.lost for pusher in pushers))
    return took_s


async def test_what_was_answered_is_charged_once_whenever_the_gateway_dies(
    storage: str, own_gateway: StartGateway, request: pytest.FixtureRequest
) -> None:
    own = own_gateway(channel_messages_per_minute=10_000_000)
    gateway, foreign, seed = own.process, own.foreign, own.seed
    rich = seed.people(2, seed.plan(quotas={QUOTA: (10**12, "year")}))
    poor = seed.person(seed.plan(quotas={QUOTA: (LIMIT, "year")}))
    people = [rich[0], rich[0], rich[1], poor]
    spenders = [RememberingSpender(person, QUOTA, f"s{number}") for number, person in enumerate(people)]
    chance = random.Random(11)
    answered = took_s = 0.0
    for number in range(ROUNDS[storage]):
        if number:
            gateway.start()
        enough = chance.randrange(200, 3_000)
        took_s += await _rush(gateway, spenders, enough)
        answered += enough
        booked = charges_of(foreign, people)
        for spender in spenders:
            charged = spender.charged().items()
            assert charged <= booked[spender.person.doc].items(), "answered, and not in the ledger"
    gateway.start()
    for spender in spenders:
        assert not spender.failed
        await spender.ask_again(gateway, chance)
    check_books(foreign)
    booked = charges_of(foreign, people)
    for person in {*people}:
        charged = {key: amount for s in spenders if s.person == person for key, amount in s.charged().items()}
        assert charged == booked[person.doc], "each is charged once, or was refused"
        assert taken(foreign, person.doc, QUOTA) == (sum(charged.values()), 0)
    assert LIMIT - 2 <= taken(foreign, poor.doc, QUOTA)[0] <= LIMIT, "all of it, and no more"
    report(request, rounds=ROUNDS[storage], answered=answered, per_s=answered / took_s)
