from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from client_sdk import events
from client_sdk.freshness import FreshnessState
from client_sdk.options import make_options
from client_sdk.session import Session
from client_sdk.wire import Problem
from tests.client_sdk.support.driver import revision_of
from tests.client_sdk.support.model import OWN, ModelGateway

OTHERS = ("user:u_a", "user:u_b")
ABSENT = "user:u_nobody"
leaves = (
    st.integers(0, 3) | st.booleans() | st.sampled_from([0.5, 1e21, "é", "x"]) | st.lists(st.integers(0, 1), max_size=2)
)
documents = st.dictionaries(
    st.sampled_from("abc"), leaves | st.dictionaries(st.sampled_from("xy"), leaves, max_size=2), max_size=3
)
patches = st.dictionaries(
    st.sampled_from("abc"),
    st.none() | leaves | st.dictionaries(st.sampled_from("xy"), st.none() | leaves, max_size=2),
    min_size=1,
    max_size=2,
)
chances = st.floats(0, 1, exclude_max=True)
documents_of_the_model = st.sampled_from((OWN, *OTHERS))
fates = st.sampled_from(
    ["all arrive", "all arrive", "one arrives", "the first is lost", "the last is lost", "all arrive twice", "later"]
)


class SessionAgainstModel(RuleBasedStateMachine):
    """Noise of every kind; when it stops, the client holds what the gateway has, and it never held what never was."""

    @initialize(own=documents, a=documents, b=documents)
    def begin(self, own: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> None:
        self.gateway = ModelGateway({OWN: own, "user:u_a": a, "user:u_b": b})
        self.session = Session(make_options({"watch": ("self", "user:u_a"), "ping_interval_s": 20.0}))
        self.now = 0.0
        self.chance = 0.5
        self.requests = 0
        self.open_requests: set[str] = set()
        self.position: dict[str, int] = {}  # on this connection
        self.restored = False
        self.connecting: events.Connect | None = None
        self.feed(events.Start())
        self.accept()
        self.meet("all arrive")
        assert self.session.freshness(self.now).state is FreshnessState.LIVE

    def feed(self, event: events.Event) -> None:
        for effect in self.session.handle(event, self.now, self.chance):
            match effect:
                case events.AskToken():
                    self.feed(events.TokenGiven("token"))
                case events.Connect():
                    self.connecting = effect
                case events.Close():
                    self.connecting = None
                    self.gateway.cut()
                case events.Send(frame):
                    assert self.gateway.connected
                    self.gateway.receive(frame)
                case events.Change():
                    self.check(effect)
                case events.Resolve(id) | events.Reject(id):
                    self.open_requests.remove(id)
                case events.Stopped():
                    raise AssertionError("stopped")

    def check(self, change: events.Change) -> None:
        if change.kind == "gone":
            return
        assert revision_of(change.data) == change.rev
        assert change.rev in self.gateway.history[change.doc]
        if not self.restored:
            assert change.seq >= self.position.get(change.doc, 0)
        self.position[change.doc] = change.seq

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.session.deadline <= until:
            self.now = max(self.now, self.session.deadline)
            self.feed(events.Tick())
        self.now = until

    def accept(self) -> None:
        assert self.connecting is not None
        connecting, self.connecting = self.connecting, None
        self.position.clear()
        self.restored = False
        self.feed(events.Opened("gateway.v1+json"))
        self.gateway.accept(connecting.watch)

    def deliver(self, frame: dict[str, Any]) -> None:
        self.feed(events.Received(msgspec.json.encode(frame).decode()))

    # --- what may happen ---

    @rule(doc=documents_of_the_model, patch=patches, by_clock=st.booleans(), fate=fates)
    def change(self, doc: str, patch: dict[str, Any], by_clock: bool, fate: str) -> None:
        self.gateway.change(doc, patch, by_clock=by_clock)
        self.meet(fate)

    @rule(doc=documents_of_the_model, data=documents, fate=fates)
    def restore(self, doc: str, data: dict[str, Any], fate: str) -> None:
        self.restored = True
        self.gateway.restore(doc, data)
        self.meet(fate)

    @precondition(lambda self: self.gateway.frames)
    @rule(fate=fates)
    def meet(self, fate: str) -> None:
        """What becomes of the frames on their way."""
        frames = self.gateway.frames
        if fate == "all arrive":
            while frames:
                self.deliver(frames.popleft())
        elif fate == "one arrives" and frames:
            self.deliver(frames.popleft())
        elif fate == "the first is lost" and frames:
            frames.popleft()
        elif fate == "the last is lost" and frames:
            frames.pop()
        elif fate == "all arrive twice":
            copies = [frame for frame in frames for _ in range(2)]
            frames.clear()
            while copies and self.gateway.connected:
                self.deliver(copies.pop(0))

    @precondition(lambda self: self.gateway.connected)
    @rule(how=st.sampled_from(["cut", "cut in mid frame", "closed", "going away"]), chance=chances)
    def lose_connection(self, how: str, chance: float) -> None:
        self.chance = chance
        if how == "cut in mid frame":
            self.feed(events.Received('{"op":"snap'))
        elif how == "going away":
            ended = {"op": "ended", "code": "going_away", "message": "", "reconnect": "now", "retry_after_s": 5.0}
            self.deliver(ended)
            assert self.session.deadline >= self.now + 5.0
        else:
            self.gateway.cut()
            self.feed(events.Lost(None if how == "cut" else 4000, ""))

    @precondition(lambda self: self.connecting is not None)
    @rule(fate=fates)
    def let_in(self, fate: str) -> None:
        self.accept()
        self.meet(fate)

    @precondition(lambda self: self.connecting is not None)
    @rule(status=st.sampled_from([503, 401, 403, 502]))
    def refuse(self, status: int) -> None:
        self.connecting = None
        self.feed(events.Refused(status, Problem(), 1.0))

    @rule(seconds=st.sampled_from([0.3, 3.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.wait(seconds)

    @rule(
        what=st.sampled_from(["watch", "unwatch", "sync", "wait"]),
        docs=st.lists(st.sampled_from((OWN, "self", *OTHERS, ABSENT)), min_size=1, max_size=3),
        fate=fates,
    )
    def ask(self, what: str, docs: list[str], fate: str) -> None:
        id = self.new_id()
        if what == "watch":
            self.request(events.WatchDocuments(id, tuple(docs)))
        elif what == "unwatch":
            self.request(events.UnwatchDocuments(id, tuple(doc for doc in docs if doc in OTHERS) or OTHERS))
        elif what == "sync":
            self.request(events.SyncDocument(id, docs[0]))
        else:
            self.request(events.AwaitSeq(id, self.gateway.seq))
        self.meet(fate)

    def new_id(self) -> str:
        self.requests += 1
        return str(self.requests)

    def request(self, request: events.Request) -> None:
        self.open_requests.add(request.id)
        self.feed(request)

    # --- what must be true ---

    @invariant()
    def live_means_exact(self) -> None:
        if not hasattr(self, "session"):
            return
        for change in self.session.replica.changes():
            assert revision_of(change.data) == change.rev
            assert change.rev in self.gateway.history[change.doc]
        if self.session.freshness(self.now).state is FreshnessState.LIVE:
            assert self.session.complete()

    def teardown(self) -> None:
        """The noise stops."""
        if not hasattr(self, "session"):
            return
        for _ in range(100):
            if self.connecting is not None:
                self.accept()
            while self.gateway.frames:
                self.deliver(self.gateway.frames.popleft())
            self.wait(3.0)
        assert self.session.freshness(self.now).state is FreshnessState.LIVE
        held = {change.doc: revision_of(change.data) for change in self.session.replica.changes()}
        assert held == {doc: revision_of(self.gateway.documents[doc]) for doc in self.session.replica}
        assert ABSENT not in held
        waiting_for_what_a_restore_took_away = self.open_requests and self.gateway.epoch > 1
        assert not self.open_requests or waiting_for_what_a_restore_took_away


SessionAgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=20)
TestSessionAgainstModel = SessionAgainstModel.TestCase
