"""The load generator's requests for units, against answers that the test makes up."""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections.abc import Callable
from typing import cast

import pytest

from gateway.bench import orders as module
from gateway.bench.client import Client, Recording
from gateway.bench.orders import QUOTA, Orders


class FakeClient:
    """A session whose requests are answered by `answer`, on the next turn of the loop."""

    def __init__(self, answer: Callable[[FakeClient, str], str | None]) -> None:
        self.on_answer: Callable[[bytes, int], None] | None = None
        self.requests: list[dict[str, object]] = []
        self._answer = answer

    def send(self, payload: bytes) -> None:
        request = json.loads(payload)
        self.requests.append(request)
        answer = self._answer(self, request["id"])
        if answer is not None:
            asyncio.get_running_loop().call_soon(self._give, answer.encode())

    def _give(self, answer: bytes) -> None:
        assert self.on_answer is not None
        self.on_answer(answer, time.monotonic_ns())


def honest(client: FakeClient, number: str) -> str:
    return f'{{"op":"reply","id":"{number}","used":{len(client.requests)},"seq":1}}'


def refusing_each_second(client: FakeClient, number: str) -> str:
    asked = len(client.requests)
    if asked % 2 == 0:
        return f'{{"op":"error","id":"{number}","code":"unavailable"}}'
    return f'{{"op":"reply","id":"{number}","used":{(asked + 1) // 2}}}'


def charging_twice(client: FakeClient, number: str) -> str:
    return f'{{"op":"reply","id":"{number}","used":{2 * len(client.requests)}}}'


def always_the_same(_client: FakeClient, _number: str) -> str:
    return '{"op":"reply","id":"1","used":7}'


def run(
    answer: Callable[[FakeClient, str], str | None], *, rate: float = 0.0, checked: bool = True
) -> tuple[list[FakeClient], list[array[int]], dict[str, int]]:
    """What three sessions asked for in 0.2 s, when it was due and answered, and the faults."""
    fakes = [FakeClient(answer) for _ in range(3)]
    clients = cast("list[Client]", fakes)
    recording = Recording.apart()

    async def ask() -> list[array[int]]:
        orders = Orders(recording, checked=checked)
        return await (orders.paced(clients, 0.2, rate) if rate else orders.closed_loop(clients, 0.2, 2))

    return fakes, asyncio.run(ask()), recording.faults


def test_each_session_has_two_requests_on_their_way() -> None:
    fakes, (due, answered), faults = run(honest)
    assert faults == {}
    assert len(due) == len(answered) == sum(len(fake.requests) for fake in fakes)
    assert all(len(fake.requests) > 2 for fake in fakes)
    assert all(then <= now for then, now in zip(due, answered, strict=True))


def test_a_steady_rate_is_dealt_out_in_turn() -> None:
    fakes, (due, _), faults = run(honest, rate=300)
    assert faults == {}
    assert [len(fake.requests) for fake in fakes] == [20, 20, 20]
    gaps = [later - earlier for earlier, later in zip(sorted(due), sorted(due)[1:], strict=False)]
    assert all(gap == pytest.approx(1e9 / 300, abs=2) for gap in gaps)


def test_a_request_names_a_key_of_its_own() -> None:
    fakes, _, _ = run(honest, rate=300)
    requests = [request for fake in fakes for request in fake.requests]
    assert len({request["key"] for request in requests}) == 60
    assert {(request["op"], request["quota"], request["amount"]) for request in requests} == {("consume", QUOTA, 1)}
    keys = [str(request["key"]) for request in sorted(requests, key=lambda request: int(str(request["id"])))]
    assert keys == sorted(keys)


def test_refused_requests_take_nothing() -> None:
    _, (due, _), faults = run(refusing_each_second, rate=300)
    assert faults == {}
    assert len(due) == 30


def test_a_balance_that_was_charged_twice_is_a_fault() -> None:
    assert run(charging_twice)[2] == {"balances that are not what was answered": 1}


def test_the_floor_says_the_same_all_the_time() -> None:
    fakes, (due, _), faults = run(always_the_same, rate=300, checked=False)
    assert faults == {}
    assert len(due) == sum(len(fake.requests) for fake in fakes) == 60


def test_requests_without_an_answer_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_S", 0.1)
    assert run(lambda _client, _number: None, rate=300)[2] == {"runs with requests that were not answered": 1}
