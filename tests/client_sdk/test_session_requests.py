from __future__ import annotations

from typing import Any

import pytest

from client_sdk import events
from client_sdk.errors import BadRequest, Disconnected, EpochChanged, NotFound, RequestTimeout, TooLarge
from client_sdk.events import Watched
from client_sdk.freshness import FreshnessState
from tests.client_sdk.support.driver import ADA, SELF, Driver, every, only, revision_of, sent, snapshot

REV = revision_of(ADA)
LESS: dict[str, Any] = {**ADA, "permissions": {"can_use_voice": True}}
PATCH: dict[str, Any] = {"permissions": {"can_use_sms": None}}


def update(seq: int, **changed: Any) -> dict[str, Any]:
    return {
        "op": "update",
        "doc": SELF,
        "from": REV,
        "rev": revision_of(LESS),
        "seq": seq,
        "patch": PATCH,
        "causes": ["permissions"],
        **changed,
    }


def answer_sync(driver: Driver, request: dict[str, Any], data: dict[str, Any], seq: int) -> list[events.Effect]:
    assert request["op"] == "sync"
    return driver.server({"op": "reply", "id": request["id"], "doc": request["doc"]}, snapshot(SELF, data, seq))


def test_watching_is_done_when_the_documents_are_there() -> None:
    driver = Driver().live()
    [request] = sent(driver.feed(events.WatchDocuments("1", ("user:u_b", "self", "user:u_x", "user:u_b"))))
    assert request == {"op": "watch", "id": "1", "docs": ["user:u_b", f"self@{REV}", "user:u_x"]}
    refused = {"op": "error", "id": "1", "code": "not_found", "message": "No.", "doc": "user:u_x"}
    assert not every(events.Resolve, driver.server({"op": "reply", "id": "1", "docs": ["user:u_b", SELF]}, refused))
    resolve = only(events.Resolve, driver.server(snapshot("user:u_b", LESS, 12)))
    assert isinstance(resolve.value, Watched)
    assert resolve.value.docs == ("user:u_b", SELF)
    assert isinstance(resolve.value.refused["user:u_x"], NotFound)
    assert set(driver.session.replica) == {SELF, "user:u_b"}


def test_watching_may_be_answered_in_any_order() -> None:
    driver = Driver().live()
    driver.feed(events.WatchDocuments("1", ("user:u_b", "user:u_x")))
    refused = {"op": "error", "id": "1", "code": "not_found", "message": "No.", "doc": "user:u_x"}
    effects = driver.server(refused, snapshot("user:u_b", LESS, 12), {"op": "reply", "id": "1", "docs": ["user:u_b"]})
    assert only(events.Resolve, effects).value.docs == ("user:u_b",)


def test_a_watch_of_which_nothing_is_accepted_fails() -> None:
    driver = Driver().live()
    driver.feed(events.WatchDocuments("1", ("user:u_x", "user:u_y")))
    refused = {"op": "error", "id": "1", "code": "not_found", "message": "No."}
    assert not every(events.Reject, driver.server({**refused, "doc": "user:u_x"}))
    error = only(events.Reject, driver.server({**refused, "doc": "user:u_y"})).error
    assert isinstance(error, NotFound)
    assert error.doc == "user:u_x"


def test_a_watch_that_is_refused_as_a_whole_leaves_what_was_watched() -> None:
    driver = Driver().live()
    driver.feed(events.WatchDocuments("1", ("self", "user:u_x")))
    effects = driver.server({"op": "error", "id": "1", "code": "bad_request", "message": "No."})
    assert isinstance(only(events.Reject, effects).error, BadRequest)
    assert set(driver.session.replica) == {SELF}


def test_unwatching_drops_what_is_held() -> None:
    driver = Driver(watch=("self", "user:u_b")).live()
    driver.server(snapshot("user:u_b", LESS, 9))
    effects = driver.feed(events.UnwatchDocuments("1", ("user:u_b",)))
    assert only(events.Change, effects).kind == "gone"
    assert sent(effects) == [{"op": "unwatch", "id": "1", "docs": ["user:u_b"]}]
    assert driver.server(snapshot("user:u_b", ADA, 12)) == []
    assert driver.server({"op": "reply", "id": "1", "docs": ["user:u_b"]}) == [events.Resolve("1", None)]


def test_what_is_watched_while_offline_is_asked_for_later() -> None:
    driver = Driver().live()
    driver.feed(events.Lost(None, ""))
    [rejected] = every(events.Reject, driver.feed(events.WatchDocuments("1", ("user:u_b",))))
    assert isinstance(rejected.error, Disconnected)
    assert driver.connect().watch == (f"self@{REV}", "user:u_b")


def test_wishes_that_change_during_the_handshake_are_made_good() -> None:
    driver = Driver(watch=("self", "user:u_a")).live()
    driver.feed(events.Lost(None, ""))
    driver.connect()
    driver.feed(events.WatchDocuments("1", ("user:u_b",)))
    driver.feed(events.UnwatchDocuments("2", ("user:u_a",)))
    messages = sent(driver.greet())
    assert [(message["op"], message["docs"]) for message in messages] == [
        ("unwatch", ["user:u_a"]),
        ("watch", ["user:u_b"]),
    ]


def test_a_long_list_is_asked_for_in_pieces() -> None:
    docs = tuple(f"user:u_{number:06}" for number in range(2000))
    driver = Driver(watch=docs)
    first = driver.connect().watch
    assert sum(len(entry) + 7 for entry in first) < 4200
    pieces = sent(driver.greet())
    assert len(pieces) > 1
    assert all(len(str(piece)) < 16384 for piece in pieces)
    assert [*first, *(doc for piece in pieces for doc in piece["docs"])] == list(docs)


def test_one_request_can_not_be_larger_than_a_frame() -> None:
    driver = Driver().live()
    docs = tuple(f"user:u_{number:06}" for number in range(2000))
    [rejected] = driver.feed(events.WatchDocuments("1", docs))
    assert isinstance(rejected, events.Reject)
    assert isinstance(rejected.error, TooLarge)
    assert set(driver.session.replica) == {SELF}


def test_a_document_that_is_refused_at_connecting_is_told_and_forgotten() -> None:
    driver = Driver(watch=("self", "user:u_x"))
    driver.connect()
    driver.greet()
    effects = driver.server({"op": "error", "code": "not_found", "message": "No.", "doc": "user:u_x"})
    assert isinstance(only(events.Trouble, effects).error, NotFound)
    assert set(driver.session.replica) == {SELF}


def test_a_document_that_can_not_be_built_now_is_asked_for_again() -> None:
    driver = Driver(watch=("self", "user:u_x"), ping_interval_s=1000.0).live()
    driver.server({"op": "error", "code": "unavailable", "message": "", "doc": "user:u_x", "retry_after_s": 4.0})
    at = driver.now
    [again] = sent(driver.until_deadline())
    assert (driver.now, again["op"], again["docs"]) == (at + 4, "watch", ["user:u_x"])
    driver.server({"op": "error", "id": again["id"], "code": "unavailable", "message": ""})
    [again] = sent(driver.until_deadline())
    driver.server({"op": "reply", "id": again["id"], "docs": ["user:u_x"]}, snapshot("user:u_x", LESS, 3))
    assert driver.data("user:u_x") == LESS
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_a_sync_of_the_application_ends_with_the_snapshot() -> None:
    driver = Driver().live()
    [request] = sent(driver.feed(events.SyncDocument("7", "self")))
    assert request == {"op": "sync", "id": "7", "doc": SELF}
    assert driver.server({"op": "reply", "id": "7", "doc": SELF}) == []
    assert driver.server(snapshot(SELF, ADA, 12)) == [events.Resolve("7", None)]


def test_a_sync_of_what_is_not_watched_fails() -> None:
    driver = Driver().live()
    driver.feed(events.SyncDocument("7", "user:u_x"))
    effects = driver.server({"op": "error", "id": "7", "code": "not_found", "message": "No.", "doc": "user:u_x"})
    assert isinstance(only(events.Reject, effects).error, NotFound)


def test_requests_that_nobody_answers_time_out() -> None:
    driver = Driver(ping_interval_s=1000.0).live()
    driver.feed(events.SyncDocument("7", "self"))
    rejected = only(events.Reject, driver.until_deadline())
    assert isinstance(rejected.error, RequestTimeout)
    assert driver.server({"op": "reply", "id": "7", "doc": SELF}) == []


def test_requests_fail_with_the_connection() -> None:
    driver = Driver().live()
    driver.feed(events.SyncDocument("1", "self"))
    driver.feed(events.MeasurePing("2"))
    driver.feed(events.WatchDocuments("3", ("user:u_b",)))
    driver.feed(events.UnwatchDocuments("4", ("user:u_c",)))
    effects = driver.feed(events.Lost(None, ""))
    assert [(one.id, type(one.error)) for one in every(events.Reject, effects)] == [
        ("1", Disconnected),
        ("2", Disconnected),
        ("3", Disconnected),
    ]
    assert every(events.Resolve, effects) == [events.Resolve("4", None)]


def test_a_ping_measures_the_way() -> None:
    driver = Driver().live()
    assert sent(driver.feed(events.MeasurePing("1"))) == [{"op": "ping", "id": "1"}]
    driver.now += 0.125
    pong = {"op": "pong", "id": "1", "server_time": "", "revs": {SELF: REV}}
    assert driver.server(pong) == [events.Resolve("1", 0.125)]


def test_waiting_for_a_position_that_is_reached_already() -> None:
    driver = Driver().live(seq=10)
    assert driver.feed(events.AwaitSeq("1", 10)) == [events.Resolve("1", 10)]


def test_waiting_for_a_position_asks_where_the_document_stands() -> None:
    driver = Driver(ping_interval_s=1000.0).live(seq=10)
    assert driver.feed(events.AwaitSeq("1", 12)) == []
    [request] = sent(driver.until_deadline())
    assert answer_sync(driver, request, ADA, 11) == []
    [request] = sent(driver.until_deadline())
    assert answer_sync(driver, request, ADA, 12) == [events.Resolve("1", 12)]
    assert driver.session.deadline > driver.now + 100


def test_waiting_for_a_position_survives_a_reconnect() -> None:
    driver = Driver().live(seq=10)
    driver.feed(events.AwaitSeq("1", 12))
    driver.feed(events.Lost(None, ""))
    driver.connect()
    driver.greet()
    effects = driver.server({"op": "current", "doc": SELF, "rev": REV, "seq": 12})
    assert only(events.Resolve, effects) == events.Resolve("1", 12)


def test_after_a_restore_nobody_can_wait_for_an_old_position() -> None:
    driver = Driver().live(seq=10)
    driver.feed(events.AwaitSeq("1", 12))
    driver.feed(events.Lost(None, ""))
    driver.connect()
    assert isinstance(only(events.Reject, driver.greet(epoch="e2")).error, EpochChanged)


def test_without_the_own_document_there_is_nothing_to_wait_for() -> None:
    driver = Driver(watch=("revocations",))
    driver.connect()
    driver.greet(principal="instance:i_1")
    assert isinstance(only(events.Reject, driver.feed(events.AwaitSeq("1", 12))).error, NotFound)


@pytest.mark.parametrize("request_", [events.AwaitSeq("1", 12), events.SyncDocument("1", "self")])
def test_what_is_forgotten_is_not_answered(request_: events.Request) -> None:
    driver = Driver().live(seq=10)
    driver.feed(request_)
    driver.feed(events.Forget("1"))
    effects = driver.server({"op": "reply", "id": "1", "doc": SELF}, snapshot(SELF, LESS, 12))
    assert not every(events.Resolve, effects)
