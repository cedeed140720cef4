"""kill -9 of a gateway in the middle of thousands of consumptions: what was answered is in the ledger, once; nothing is
there twice; and who asks again under the same key is told the same.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest

from tests.end_to_end.conftest import StartGateway
from tests.support.fault_rig import SCALE, report, scaled
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.pusher import Message, Pusher, pushing
from tests.support.quota_books import charges, check_books, taken
from tests.support.seed import Person

pytestmark = pytest.mark.timeout(240 * SCALE)

ROUNDS = {"file": int(scaled(20, 100)), "server": int(scaled(3, 50))}
SOCKETS = 4
QUOTA = "units"
LIMIT = 1_000
"""Of the user who is not to have enough; the others' is far away."""


class Spender:
    """Somebody who asks for units without end, over one connection after the other, and remembers every answer."""

    def __init__(self, person: Person, name: str) -> None:
        self.person = person
        self.answers: dict[str, Message] = {}
        self.asked: dict[str, Message] = {}
        self._name = name
        self._numbers = itertools.count(1)

    def orders(self) -> Iterator[Message]:
        for number in self._numbers:
            key = f"{self._name}-{number}"
            order = {"op": "consume", "id": key, "quota": QUOTA, "amount": 1 + number % 3, "key": key}
            self.asked[key] = order
            yield order

    def answered(self, order: Message, answer: Message) -> None:
        """The same key is answered alike, whenever."""
        said = {name: value for name, value in answer.items() if name != "retry_after_s"}
        assert answer["op"] == "reply" or answer["code"] == "quota_exceeded", answer
        before = self.answers.setdefault(order["key"], said)
        if before["op"] == "reply":
            assert said == before

    def push(self, gateway: GatewayProcess) -> AbstractAsyncContextManager[Pusher]:
        return pushing(gateway, self.person.token, self.orders(), self.answered)

    async def ask_again(self, gateway: GatewayProcess, chance: random.Random) -> None:
        """Whatever was not answered, and some of what was."""
        known = [key for key in self.answers if self.answers[key]["op"] == "reply"]
        again = [key for key in self.asked if key not in self.answers] + chance.sample(known, min(50, len(known)))
        orders = [self.asked[key] for key in dict.fromkeys(again)]
        async with pushing(gateway, self.person.token, iter(orders), self.answered) as pusher:
            await pusher.until_answered()

    def charged(self) -> dict[str, int]:
        """What was answered with yes."""
        return {key: self.asked[key]["amount"] for key, answer in self.answers.items() if answer["op"] == "reply"}


def charges_of(foreign: ForeignWriter, people: list[Person]) -> dict[str, dict[str, int]]:
    return {person.doc: charges(foreign, person.doc, QUOTA) for person in {*people}}


async def _rush(gateway: GatewayProcess, spenders: list[Spender], enough: int) -> float:
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
    spenders = [Spender(person, f"s{number}") for number, person in enumerate(people)]
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
        await spender.ask_again(gateway, chance)
    check_books(foreign)
    booked = charges_of(foreign, people)
    for person in {*people}:
        charged = {key: amount for s in spenders if s.person == person for key, amount in s.charged().items()}
        assert charged == booked[person.doc], "each is charged once, or was refused"
        assert taken(foreign, person.doc, QUOTA) == (sum(charged.values()), 0)
    assert LIMIT - 2 <= taken(foreign, poor.doc, QUOTA)[0] <= LIMIT, "all of it, and no more"
    report(request, rounds=ROUNDS[storage], answered=answered, per_s=answered / took_s)
