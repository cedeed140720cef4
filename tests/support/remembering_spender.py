"""Somebody who asks for units without end, remembers every answer, and asks again for what was not answered."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

from tests.support.gateway_process import GatewayProcess
from tests.support.pusher import Message, Pusher, pushing
from tests.support.seed import Person


class RememberingSpender:
    """One to three units of `quota` under each key; `name` begins the keys. What is asked for again is what it was."""

    def __init__(self, person: Person, quota: str, name: str) -> None:
        self.person = person
        self.asked: dict[str, Message] = {}
        self.answers: dict[str, Message] = {}
        """The last words: how it stands, or that there is not enough."""
        self.failed: dict[str, str] = {}
        """The codes of other errors."""
        self._quota = quota
        self._name = name
        self._numbers = itertools.count(1)

    def orders(self) -> Iterator[Message]:
        for number in self._numbers:
            key = f"{self._name}-{number}"
            order = {"op": "consume", "id": key, "quota": self._quota, "amount": 1 + number % 3, "key": key}
            self.asked[key] = order
            yield order

    def answered(self, order: Message, answer: Message) -> None:
        """The same key is answered alike, whenever."""
        key = order["key"]
        if answer["op"] == "error" and answer["code"] != "quota_exceeded":
            self.failed[key] = answer["code"]
            return
        before = self.answers.setdefault(key, answer)
        if before["op"] == "reply":
            assert answer == before

    def push(self, gateway: GatewayProcess, *, window: int = 500) -> AbstractAsyncContextManager[Pusher]:
        """Ask for one after the other, so many at a time."""
        return pushing(gateway, self.person.token, self.orders(), self.answered, window=window)

    async def ask_again(self, gateway: GatewayProcess, chance: random.Random) -> None:
        """Whatever has no last word, and some of what has."""
        known = [key for key, answer in self.answers.items() if answer["op"] == "reply"]
        again = [key for key in self.asked if key not in self.answers] + chance.sample(known, min(50, len(known)))
        self.failed.clear()
        orders = iter([self.asked[key] for key in again])
        async with pushing(gateway, self.person.token, orders, self.answered) as pusher:
            await pusher.until_answered()
        assert not self.failed

    def charged(self) -> dict[str, int]:
        """What was answered with yes."""
        return {key: self.asked[key]["amount"] for key, answer in self.answers.items() if answer["op"] == "reply"}
