from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.core.document import Document, apply, canonical, revision
from gateway.core.publication import Publication, View
from gateway.core.wire import JSON, MESSAGEPACK, Codec

CAUSES = ("profile", "plan", "roles", "quota_usage", "clock")
BOTH = pytest.mark.parametrize("codec", [JSON, MESSAGEPACK], ids=["json", "msgpack"])


def document(**sections: Any) -> Document:
    return Document((name, canonical(value)) for name, value in sections.items())


def publication(seq: int = 1, *causes: str, **sections: Any) -> Publication:
    return Publication("user:a", document(**sections), seq, causes)


def read(codec: Codec, frame: bytes | None) -> dict[str, Any]:
    assert frame is not None
    decoded: dict[str, Any] = (msgspec.msgpack if codec.binary else msgspec.json).decode(frame)
    return decoded


class Client:
    """What a client holds, by the frames alone."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.data: dict[str, Any] | None = None
        self.rev: str | None = None
        self.seq = -1

    def hold(self, document: Document) -> None:
        self.data, self.rev = document.data(), document.rev

    def take(self, frame: bytes) -> dict[str, Any]:
        """Apply a frame as the protocol says; returns the message."""
        message = read(self.codec, frame)
        assert message["doc"] == "user:a"
        assert message["seq"] >= self.seq, "back in time"
        self.seq = message["seq"]
        match message["op"]:
            case "snapshot":
                self.data = message["data"]
            case "update":
                assert message["from"] == self.rev
                assert message["patch"], "an update without a change"
                assert message["rev"] != self.rev
                assert self.data is not None
                self.data = apply(self.data, message["patch"])
            case "current":
                assert message["rev"] == self.rev
            case other:
                pytest.fail(f"{other} is not about a document")
        self.rev = message["rev"]
        assert revision(canonical(self.data)) == self.rev
        return message


# --- one view --------------------------------------------------------------------------------------------------------


@BOTH
def test_the_first_frame_is_the_whole_document(codec: Codec) -> None:
    now = publication(7, "plan", identity={"id": "a"})
    view = View()
    message = read(codec, view.next_frame(now, codec))
    rev = now.document.rev
    assert message == {"op": "snapshot", "doc": "user:a", "rev": rev, "seq": 7, "data": {"identity": {"id": "a"}}}
    assert view.next_frame(now, codec) is None


@BOTH
def test_who_names_the_right_revision_is_told_that_it_is_current(codec: Codec) -> None:
    now = publication(7, identity={"id": "a"})
    view = View(now.document.rev)
    message = read(codec, view.next_frame(now, codec))
    assert message == {"op": "current", "doc": "user:a", "rev": now.document.rev, "seq": 7}
    later = publication(8, "profile", identity={"id": "a", "name": "Ada"})
    update = read(codec, view.next_frame(later, codec))
    assert (update["from"], update["patch"]) == (now.document.rev, {"identity": {"name": "Ada"}})


@BOTH
def test_who_names_another_revision_gets_the_whole_document(codec: Codec) -> None:
    view = View("0" * 16)
    assert read(codec, view.next_frame(publication(identity={}), codec))["op"] == "snapshot"


def test_an_update_leads_from_what_was_sent_last_to_now() -> None:
    before, skipped, now = (
        publication(1, x={"a": 1}, y="the rest"),
        publication(2, "plan", x={"a": 2}, y="the rest"),
        publication(3, "roles", x={"b": 1}, y="the rest"),
    )
    view = View()
    view.next_frame(before, JSON)
    view.skip(skipped.causes)
    message = read(JSON, view.next_frame(now, JSON))
    assert message == {
        "op": "update",
        "doc": "user:a",
        "from": before.document.rev,
        "rev": now.document.rev,
        "seq": 3,
        "patch": {"x": {"a": None, "b": 1}},
        "causes": ["plan", "roles"],
    }


def test_there_and_back_again_sends_nothing_and_leaves_no_cause_behind() -> None:
    here, there = publication(1, x=1), publication(2, "plan", x=2)
    view = View()
    view.next_frame(here, JSON)
    view.skip(there.causes)
    assert view.next_frame(publication(3, "roles", x=1), JSON) is None
    assert read(JSON, view.next_frame(publication(4, "clock", x=3), JSON))["causes"] == ["clock"]


def test_a_whole_document_explains_itself() -> None:
    """What was skipped before the first document is in it: the next update does not name its causes again."""
    view = View()
    view.skip(frozenset(("plan",)))
    assert read(JSON, view.next_frame(publication(2, "plan", x=1), JSON))["op"] == "snapshot"
    assert read(JSON, view.next_frame(publication(3, "clock", x=2), JSON))["causes"] == ["clock"]


def test_after_a_reset_the_document_comes_whole_again() -> None:
    now = publication(1, x=1)
    view = View()
    view.next_frame(now, JSON)
    view.reset()
    assert read(JSON, view.next_frame(now, JSON))["op"] == "snapshot"
    view.reset(now.document.rev)
    assert read(JSON, view.next_frame(now, JSON))["op"] == "current"


@BOTH
def test_a_patch_that_is_larger_than_the_document_is_not_sent(codec: Codec) -> None:
    before = publication(1, permissions={f"permission_{number}": True for number in range(20)})
    now = publication(2, "plan", permissions={"p": True})
    view = View()
    view.next_frame(before, codec)
    message = read(codec, view.next_frame(now, codec))
    assert (message["op"], message["data"], message["seq"]) == ("snapshot", {"permissions": {"p": True}}, 2)


# --- many views ------------------------------------------------------------------------------------------------------


class CountingCodec:
    """A codec that counts what it is asked to write."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.subprotocol, self.binary = codec.subprotocol, codec.binary
        self.decode, self.encode = codec.decode, codec.encode
        self.written = 0

    def snapshot(self, *args: Any) -> bytes:
        self.written += 1
        return self._codec.snapshot(*args)

    def update(self, *args: Any) -> bytes:
        self.written += 1
        return self._codec.update(*args)


@BOTH
def test_a_patch_is_encoded_once_for_all_that_go_the_same_way(codec: Codec) -> None:
    counting = CountingCodec(codec)
    before, now = publication(1, x=1, y="some text"), publication(2, "plan", x=2, y="some text")
    views = [View() for _ in range(50)]
    for view in views:
        view.next_frame(before, counting)
    counting.written = 0
    frames = {view.next_frame(now, counting, shared=True) for view in views[:49]}
    assert (counting.written, len(frames)) == (1, 1)
    assert views[49].next_frame(now, counting) in frames


def test_watchers_of_other_codecs_revisions_and_causes_get_frames_of_their_own() -> None:
    first, second, now = publication(1, x=1), publication(2, "plan", x=2), publication(3, "roles", x=3)
    clients = [Client(codec) for codec in (JSON, MESSAGEPACK, JSON, JSON)]
    views = [View() for _ in clients]
    for client, view, start in zip(clients, views, (first, first, second, first), strict=True):
        client.take(view.next_frame(start, client.codec) or b"")
    views[3].skip(second.causes)
    messages = [
        client.take(view.next_frame(now, client.codec, shared=True) or b"")
        for client, view in zip(clients, views, strict=True)
    ]
    assert [message["causes"] for message in messages] == [["roles"], ["roles"], ["roles"], ["plan", "roles"]]
    assert [message["from"] for message in messages] == [
        first.document.rev,
        first.document.rev,
        second.document.rev,
        first.document.rev,
    ]


def test_a_shared_frame_is_made_anew_after_it_was_forgotten() -> None:
    before, now = publication(1, x=1), publication(2, "plan", x=2)
    early, late = View(), View()
    early.next_frame(before, JSON)
    late.next_frame(before, JSON)
    frame = early.next_frame(now, JSON, shared=True)
    now.forget_frames()
    now.forget_frames()
    assert late.next_frame(now, JSON, shared=True) == frame


# --- any course of events --------------------------------------------------------------------------------------------

values = st.integers(0, 2) | st.sampled_from(["", "x", "y" * 40]) | st.lists(st.integers(0, 1), max_size=2)
sections = st.fixed_dictionaries(
    {},
    optional={
        name: values | st.dictionaries(st.sampled_from(["a", "b", "long_name_of_a_permission"]), values, max_size=3)
        for name in ("identity", "permissions", "quotas")
    },
)
# Few and alike, so that watchers often stand at different revisions with a small patch between them.
alike = st.builds(
    lambda number, text: {"identity": {"name": "Ada Lovelace, Countess", "number": number}, "text": text},
    st.integers(0, 2),
    st.sampled_from(["x" * 60, {"a": "x" * 60}]),
)


class Course(RuleBasedStateMachine):
    """One document, three watchers who take, skip and ask again as they like."""

    @initialize(data=alike | sections)
    def begin(self, data: dict[str, Any]) -> None:
        self.seq = 1
        self.now = publication(1, **data)
        self.clients = [Client(codec) for codec in (JSON, JSON, MESSAGEPACK)]
        self.views = [View() for _ in self.clients]
        self.missed: list[set[str] | None] = [None, None, None]
        self.past = [self.now.document]
        for number in range(3):
            self.send(number, shared=False)

    def send(self, number: int, *, shared: bool) -> None:
        client, view = self.clients[number], self.views[number]
        unshared = View(view.held)
        unshared.sent, unshared.causes = view.sent, view.causes
        frame = view.next_frame(self.now, client.codec, shared=shared)
        assert frame == unshared.next_frame(self.now, client.codec)
        missed, self.missed[number] = self.missed[number], set()
        if frame is None:
            assert client.rev == self.now.document.rev
        elif (message := client.take(frame))["op"] == "update":
            assert missed is not None
            assert message["causes"] == sorted(missed)
        assert client.data == self.now.document.data()

    @rule(
        data=alike | alike | sections,
        causes=st.sets(st.sampled_from(CAUSES), min_size=1, max_size=2),
        takers=st.sets(st.integers(0, 2)),
        shared=st.booleans(),
    )
    def publish(self, data: dict[str, Any], causes: set[str], takers: set[int], shared: bool) -> None:
        self.seq += 1
        self.now = publication(self.seq, *causes, **data)
        self.past.append(self.now.document)
        for number, view in enumerate(self.views):
            missed = self.missed[number]
            if missed is not None:
                missed |= causes
            if number in takers:
                self.send(number, shared=shared)
            else:
                view.skip(self.now.causes)
        self.now.forget_frames()

    @rule(number=st.integers(0, 2))
    def catch_up(self, number: int) -> None:
        missed = self.missed[number]
        if missed is not None:
            missed |= self.now.causes
        self.send(number, shared=True)

    @rule(number=st.integers(0, 2), place=st.none() | st.integers(0, 100))
    def ask_again(self, number: int, place: int | None) -> None:
        held = None if place is None else self.past[place % len(self.past)]
        self.views[number].reset(held.rev if held else None)
        if held is not None:
            self.clients[number].hold(held)
        self.missed[number] = None

    @invariant()
    def everybody_can_be_told_the_truth(self) -> None:
        """From any state, one more frame makes the client's copy the newest document."""
        for client, view in zip(getattr(self, "clients", ()), getattr(self, "views", ()), strict=True):
            probe, ahead = View(view.held), Client(client.codec)
            probe.sent, ahead.data, ahead.rev = view.sent, client.data, client.rev
            frame = probe.next_frame(self.now, client.codec)
            if frame is not None:
                ahead.take(frame)
            assert ahead.data == self.now.document.data()


TestCourse = Course.TestCase
TestCourse.settings = settings(max_examples=100, stateful_step_count=20)


@settings(max_examples=60)
@given(before=sections, after=sections)
def test_no_update_is_larger_than_the_document(before: dict[str, Any], after: dict[str, Any]) -> None:
    view, now = View(), publication(2, "plan", **after)
    view.next_frame(publication(1, **before), JSON)
    frame = view.next_frame(now, JSON)
    if frame is not None and (message := read(JSON, frame))["op"] == "update":
        assert len(canonical(message["patch"])) <= len(now.document.json())
