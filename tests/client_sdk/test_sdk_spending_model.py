from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from client_sdk import events, wire
from client_sdk.errors import QuotaExceeded
from client_sdk.options import make_options
from client_sdk.session import Session
from tests.client_sdk.support.bank import Bank
from tests.client_sdk.support.driver import HELLO, SELF, snapshot

LIMIT = 6
QUOTA = "voice_minutes"
REFUSALS: list[dict[str, Any]] = [
    {"code": "unavailable", "retry_after_s": 2.0},
    {"code": "unavailable"},
    {"code": "rate_limited", "retry_after_s": 5.0},
]


class SpendingAgainstModel(RuleBasedStateMachine):
    """Messages are lost, late and answered in vain, connections are cut, the gateway refuses and forgets to answer.

    Each key is charged once at the most; what was answered was charged; what failed without a key was not, and never
    will be; what failed with one can be asked for until it is known.
    """

    @initialize()
    def begin(self) -> None:
        options = {"ping_interval_s": 1e6, "request_timeout_s": 10.0, "backoff_base_s": 0.1, "backoff_cap_s": 1.0}
        self.session = Session(make_options(options))  # type: ignore[arg-type]
        self.now = 0.0
        self.chance = 0.5
        self.limit = LIMIT
        self.bank = Bank({QUOTA: LIMIT})
        self.connected = False
        self.connecting = False
        self.to_gateway: deque[dict[str, Any]] = deque()  # of this connection
        self.delayed: list[dict[str, Any]] = []  # of connections that were cut: the gateway may read them yet
        self.to_client: deque[dict[str, Any]] = deque()
        self.orders: dict[str, tuple[str, int]] = {}  # by id: key and amount
        self.waiting: set[str] = set()
        self.answered: dict[str, wire.Reply] = {}
        self.uncharged: set[str] = set()
        self.unknown: set[str] = set()
        self.number = 0
        self.feed(events.Start())
        self.let_in()

    # --- the session ---

    def feed(self, event: events.Event) -> None:
        for effect in self.session.handle(event, self.now, self.chance):
            match effect:
                case events.AskToken():
                    self.feed(events.TokenGiven("token"))
                case events.Connect():
                    self.connecting = True
                case events.Send(frame):
                    assert self.connected
                    self.to_gateway.append(msgspec.json.decode(frame))
                case events.Resolve(id, reply):
                    self.waiting.remove(id)
                    self.answered[id] = reply
                case events.Reject(id, error):
                    self.waiting.remove(id)
                    key, _ = self.orders[id]
                    assert error.key in (None, key)
                    if error.key is None and id == key.removeprefix("key "):
                        self.uncharged.add(id)
                        assert isinstance(error, QuotaExceeded) or error.code in (
                            "unavailable",
                            "rate_limited",
                            "disconnected",
                        )
                    else:  # or this time it was not, and before that nobody knew
                        self.unknown.add(id)

    def deliver(self, message: dict[str, Any]) -> None:
        self.feed(events.Received(msgspec.json.encode(message).decode()))

    def pass_time_until(self, when: float) -> None:
        while self.session.deadline <= when:
            self.now = max(self.now, self.session.deadline)
            self.feed(events.Tick())
        self.now = when

    def ask(self, key: str, amount: int, timeout_s: float) -> None:
        self.number += 1
        id = str(self.number)
        self.orders[id] = (key, amount)
        self.waiting.add(id)
        self.feed(events.Spend(id, wire.Consume(id=id, quota=QUOTA, amount=amount, key=key), timeout_s))

    # --- what may happen ---

    @rule(amount=st.integers(1, 5), timeout_s=st.sampled_from([3.0, 30.0]))
    def consume(self, amount: int, timeout_s: float) -> None:
        self.ask(f"key {self.number + 1}", amount, timeout_s)

    @precondition(lambda self: self.unknown)
    @rule(data=st.data())
    def ask_what_became_of_it(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.unknown)))
        self.unknown.remove(id)
        self.ask(*self.orders[id], 30.0)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.remove(id)
        self.feed(events.Forget(id))

    @precondition(lambda self: self.to_gateway)
    @rule(refusal=st.none() | st.sampled_from(REFUSALS), repeated=st.booleans())
    def the_gateway_reads(self, refusal: dict[str, Any] | None, repeated: bool) -> None:
        message = self.to_gateway.popleft()
        if message["op"] != "consume":
            return
        if refusal is not None:
            self.bank.refusals.append(refusal)
        answer = self.bank.answer(message)
        self.to_client.extend([answer] * (1 + repeated))

    @precondition(lambda self: self.to_gateway)
    @rule(code=st.sampled_from(["uncertain", "internal"]), carried_out=st.booleans())
    def the_gateway_does_not_know(self, code: str, carried_out: bool) -> None:
        message = self.to_gateway.popleft()
        if carried_out and message["op"] == "consume":
            self.bank.answer(message)
        self.to_client.append({"op": "error", "id": message["id"], "code": code, "message": "?"})

    @precondition(lambda self: self.delayed)
    @rule()
    def the_gateway_reads_what_is_left_of_an_old_connection(self) -> None:
        self.bank.answer(self.delayed.pop(0))

    @rule()
    def units_become_free(self) -> None:
        self.limit += 3
        self.bank.limits[QUOTA] = self.limit

    @precondition(lambda self: self.to_gateway)
    @rule()
    def a_message_is_lost(self) -> None:
        self.to_gateway.popleft()

    @precondition(lambda self: self.to_client)
    @rule(lost=st.booleans())
    def an_answer_comes_or_is_lost(self, lost: bool) -> None:
        message = self.to_client.popleft()
        if not lost:
            self.deliver(message)

    @precondition(lambda self: self.connected)
    @rule(late=st.booleans())
    def the_connection_is_cut(self, late: bool) -> None:
        self.connected = False
        if late:
            self.delayed += [message for message in self.to_gateway if message["op"] == "consume"]
        self.to_gateway.clear()
        self.to_client.clear()
        self.feed(events.Lost(None, ""))

    @precondition(lambda self: self.connecting)
    @rule()
    def let_in(self) -> None:
        self.connecting = False
        self.connected = True
        self.feed(events.Opened("gateway.v1+json"))
        self.deliver(HELLO)
        self.deliver({"op": "ready", "session": "s", "principal": SELF})
        self.deliver(snapshot(SELF, {}, self.bank.seq))

    @rule(seconds=st.sampled_from([0.3, 2.0, 11.0]), chance=st.floats(0, 1, exclude_max=True))
    def time_passes(self, seconds: float, chance: float) -> None:
        self.chance = chance
        self.pass_time_until(self.now + seconds)

    # --- what must be true ---

    @invariant()
    def nothing_is_charged_that_was_said_not_to_be(self) -> None:
        if not hasattr(self, "session"):
            return
        assert self.bank.used(QUOTA) <= self.limit
        charged = {key: amount for key, (_, amount) in self.bank.charges.items()}
        for id in self.answered:
            key, amount = self.orders[id]
            assert charged[key] == amount
        for id in self.uncharged:
            assert self.orders[id][0] not in charged
        assert self.session.deadline > self.now

    def teardown(self) -> None:
        """The noise stops: every question that is open is answered."""
        if not hasattr(self, "session"):
            return
        for _ in range(200):
            for id in sorted(self.unknown):
                self.ask(*self.orders[id], 60.0)
            self.unknown.clear()
            if not self.waiting:
                break
            if self.connecting:
                self.let_in()
            while self.to_gateway:
                self.the_gateway_reads(None, False)
            while self.to_client:
                self.deliver(self.to_client.popleft())
            self.pass_time_until(self.now + 1.0)
        assert not self.waiting
        self.nothing_is_charged_that_was_said_not_to_be()


SpendingAgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestSpendingAgainstModel = SpendingAgainstModel.TestCase


def test_an_attempt_that_waits_on_another_node_may_be_carried_out_after_a_refusal() -> None:
    run = SpendingAgainstModel()
    run.begin()
    run.consume(LIMIT, 30.0)
    run.the_gateway_reads(None, False)
    run.an_answer_comes_or_is_lost(lost=False)
    run.consume(2, 30.0)
    run.the_connection_is_cut(late=True)
    run.time_passes(2.0, 0.5)
    run.let_in()
    run.the_gateway_reads(None, False)
    run.an_answer_comes_or_is_lost(lost=False)
    assert run.unknown == {"2"}
    run.units_become_free()
    run.the_gateway_reads_what_is_left_of_an_old_connection()
    run.nothing_is_charged_that_was_said_not_to_be()
    run.teardown()
    assert run.bank.used(QUOTA) == LIMIT + 2
