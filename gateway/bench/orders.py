"""The load generator's requests for units of a quota: who waits for which answer, and what all of them came to."""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import Sequence

from gateway.bench.client import Client, Recording
from gateway.bench.population import QUOTAS

QUOTA = QUOTAS[0][0]
TICK_S = 0.001
ANSWERS_S = 20.0
"""How long the last answers may take, in seconds."""
TRUTH_S = 5.0
"""How long a watcher may be without the true balance after the last unit was taken, in seconds."""
_ID = b'"id":"'
_USED = b'"used":'


def _number_after(key: bytes, payload: bytes) -> int:
    at = payload.find(key) + len(key)
    end = at
    while payload[end : end + 1].isdigit():
        end += 1
    return int(payload[at:end] or b"-1")


class Consumer:
    """What one session asked for. `answered` and `used` are over its whole life: a unit a request, so they are equal
    whenever nothing is on its way.
    """

    def __init__(self, client: Client, orders: Orders) -> None:
        self.client = client
        self.answered = self.used = 0
        self.pending: dict[int, int] = {}
        """The requests on their way, and when they were due, in monotonic ns."""
        self.orders = orders
        client.on_answer = self._answered

    def _answered(self, payload: bytes, now: int) -> None:
        number = _number_after(_ID, payload)
        if number not in self.pending:
            number = next(iter(self.pending), -1)  # the floor says the same all the time
        due = self.pending.pop(number, 0)
        used = _number_after(_USED, payload)
        if used >= 0:
            self.answered += 1
            self.used = max(self.used, used)
            self.orders.replied(due, now, payload)
        self.orders.over(self, now)


class Orders:
    """The requests of all sessions of a load generator at one target. With `checked`, each session's balance has to
    be what was answered to it."""

    def __init__(self, recording: Recording, *, checked: bool) -> None:
        self.last_reply = ""
        self._recording = recording
        self._checked = checked
        self._consumers: dict[Client, Consumer] = {}
        self._salt = os.urandom(8).hex()
        self._number = 0
        self._waiting = 0
        self._again_until = 0
        self._idle = asyncio.Event()
        self._clear()

    def _clear(self) -> None:
        self._due, self._answered = array("q"), array("q")

    async def closed_loop(self, clients: Sequence[Client], seconds: float, outstanding: int) -> list[array[int]]:
        """Each session has so many requests on their way at any time. See `_columns`."""
        self._clear()
        started = time.monotonic_ns()
        self._again_until = started + round(seconds * 1e9)
        for client in clients:
            for _ in range(outstanding):
                self._ask(self._consumer(client), time.monotonic_ns())
        await asyncio.sleep(seconds)
        return await self._columns(clients)

    async def paced(self, clients: Sequence[Client], seconds: float, rate: float) -> list[array[int]]:
        """`rate` requests a second, evenly spaced, of one session after the other, whether or not answers come; a time
        counts from when the request was due. See `_columns`."""
        self._clear()
        self._again_until = 0
        started = time.monotonic_ns()
        consumers = [self._consumer(client) for client in clients]
        asked, count = 0, round(seconds * rate)
        while asked < count:
            due = min(count, int((time.monotonic_ns() - started) * rate / 1e9) + 1)
            for number in range(asked, due):
                self._ask(consumers[number % len(consumers)], started + round(number * 1e9 / rate))
            asked = max(asked, due)
            await asyncio.sleep(TICK_S)
        return await self._columns(clients)

    def answered_by(self, client: Client) -> int:
        """How much a session has taken up to now."""
        return self._consumer(client).answered

    def replied(self, due: int, now: int, payload: bytes) -> None:
        """Units were taken."""
        self._due.append(due)
        self._answered.append(now)
        if not self.last_reply:
            self.last_reply = payload.decode()

    def over(self, consumer: Consumer, now: int) -> None:
        """A request was answered, or refused."""
        if now < self._again_until:
            self._ask(consumer, now)
            self._waiting -= 1
            return
        self._waiting -= 1
        if not self._waiting:
            self._idle.set()

    def _consumer(self, client: Client) -> Consumer:
        found = self._consumers.get(client)
        if found is None:
            found = self._consumers[client] = Consumer(client, self)
        return found

    def _ask(self, consumer: Consumer, due: int) -> None:
        self._number += 1
        self._waiting += 1
        self._idle.clear()
        consumer.pending[self._number] = due
        request = (
            f'{{"op":"consume","id":"{self._number}","quota":"{QUOTA}","amount":1,'
            f'"key":"{self._number:012x}-{self._salt}"}}'
        )
        consumer.client.send(request.encode())

    async def _columns(self, clients: Sequence[Client]) -> list[array[int]]:
        """Once all is answered: when each request was due, and when its answer came, in monotonic ns."""
        try:
            await asyncio.wait_for(self._idle.wait(), ANSWERS_S)
        except TimeoutError:
            self._recording.fault("runs with requests that were not answered")
        if self._checked and any(c.used != c.answered for c in map(self._consumer, clients)):
            self._recording.fault("balances that are not what was answered")
        return [self._due, self._answered]


async def watch_balance(
    orders: Orders, client: Client, watcher: Client, seconds: float, outstanding: int
) -> dict[str, float]:
    """`client` takes units with `outstanding` requests on their way while `watcher`, another session of the same user,
    follows the balance. Answers how long, how many units, how many frames the watcher got until the last answer, and
    how many ms later it had the true balance.
    """
    before = orders.answered_by(client)
    recording = watcher.recording
    recording.clear()
    started = time.monotonic_ns()
    await orders.closed_loop([client], seconds, outstanding)
    finished = time.monotonic_ns()
    frames = len(recording.times)
    total = orders.answered_by(client)
    while watcher.document["quotas"][QUOTA]["used"] != total:
        if not await recording.wait_for(len(recording.times) + 1, TRUTH_S):
            recording.fault("balances that are not the true one at the end")
            break
    last = recording.times[-1] if recording.times else finished
    return {
        "seconds": (finished - started) / 1e9,
        "taken": total - before,
        "frames": frames,
        "settled_ms": max(0.0, (last - finished) / 1e6),
    }
