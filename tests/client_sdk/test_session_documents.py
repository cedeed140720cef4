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


def test_the_first_snapshot_is_a_change_from_nothing() -> None:
    driver = Driver()
    driver.connect()
    driver.greet()
    effects = driver.server(snapshot(SELF, ADA, 10))
    change = only(events.Change, effects)
    assert (change.doc, change.kind, change.before, change.data, change.seq) == (SELF, "snapshot", {}, ADA, 10)
    assert only(events.FreshnessChanged, effects).freshness.state is FreshnessState.LIVE
    assert driver.session.complete()


def test_an_update_leads_to_the_next_revision() -> None:
    driver = Driver().live()
    [change] = driver.server(update(11))
    assert isinstance(change, events.Change)
    assert change.data == driver.data() == LESS
    assert (change.before, change.causes, change.seq, change.patch) == (ADA, ("permissions",), 11, PATCH)


def test_an_update_from_another_revision_makes_it_ask_for_the_whole() -> None:
    driver = Driver().live()
    effects = driver.server(update(11, **{"from": "0" * 16}))
    [request] = sent(effects)
    assert (request["op"], request["doc"]) == ("sync", SELF)
    assert driver.data() == ADA
    assert driver.session.freshness(driver.now).state is FreshnessState.STALE
    effects = answer_sync(driver, request, LESS, 11)
    assert only(events.Change, effects).data == LESS
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_an_update_that_does_not_lead_where_it_says_is_not_applied() -> None:
    driver = Driver().live()
    effects = driver.server(update(11, rev="1" * 16))
    assert [message["op"] for message in sent(effects)] == ["sync"]
    assert not every(events.Change, effects)
    assert driver.data() == ADA
    assert driver.session.replica.mismatches == 1


def test_without_verification_the_gateway_is_believed() -> None:
    driver = Driver(verify=False).live()
    assert only(events.Change, driver.server(update(11, rev="1" * 16))).data == LESS


def test_one_sync_is_under_way_for_a_document_at_most() -> None:
    driver = Driver().live()
    wrong = update(11, **{"from": "0" * 16})
    assert len(sent(driver.server(wrong, wrong, wrong))) == 1


def test_a_sync_that_nobody_answers_is_sent_again() -> None:
    driver = Driver(ping_interval_s=1000.0).live()
    [first] = sent(driver.server(update(11, **{"from": "0" * 16})))
    at = driver.now
    [second] = sent(driver.until_deadline())
    assert driver.now == at + 10
    assert (second["op"], second["doc"]) == ("sync", SELF)
    assert second["id"] != first["id"]
    answer_sync(driver, second, LESS, 11)
    assert driver.data() == LESS
    assert driver.session.deadline > driver.now + 100


def test_a_sync_that_is_refused_for_now_waits_as_long_as_it_is_told() -> None:
    driver = Driver(ping_interval_s=1000.0).live()
    [request] = sent(driver.server(update(11, **{"from": "0" * 16})))
    at = driver.now
    driver.server({"op": "error", "id": request["id"], "code": "rate_limited", "message": "", "retry_after_s": 33.0})
    assert [message["op"] for message in sent(driver.until_deadline())] == ["sync"]
    assert driver.now == at + 33


def test_a_snapshot_that_is_not_what_it_says_is_asked_for_once_more_and_then_believed() -> None:
    driver = Driver(ping_interval_s=1000.0).live()
    bad = {**snapshot(SELF, LESS, 12), "rev": "2" * 16}
    [request] = sent(driver.server(bad))
    assert driver.data() == ADA
    effects = driver.server({"op": "reply", "id": request["id"], "doc": SELF}, bad)
    assert not sent(effects)
    assert driver.data() == LESS
    assert driver.session.replica.mismatches == 2


def test_a_document_does_not_go_back_on_one_connection() -> None:
    driver = Driver().live()
    driver.server(update(11))
    effects = driver.server(snapshot(SELF, ADA, 10))
    assert not every(events.Change, effects)
    assert driver.data() == LESS
    [request] = sent(effects)
    # While the answer is awaited, an old frame is still an old frame.
    assert not every(events.Change, driver.server(snapshot(SELF, ADA, 10)))
    # The answer counts even if it is older: then the gateway's database was restored.
    assert only(events.Change, answer_sync(driver, request, ADA, 5)).seq == 5
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_an_answer_that_did_not_come_is_not_owed_by_the_next_connection() -> None:
    driver = Driver().live()
    driver.feed(events.SyncDocument("1", "self"))
    driver.server({"op": "reply", "id": "1", "doc": SELF})
    driver.feed(events.Lost(None, ""))
    driver.connect()
    driver.greet()
    driver.server({"op": "current", "doc": SELF, "rev": REV, "seq": 15})
    effects = driver.server(snapshot(SELF, LESS, 14))
    assert driver.data() == ADA
    assert [message["op"] for message in sent(effects)] == ["sync"]


def test_an_old_update_that_starts_from_the_revision_held_does_not_apply() -> None:
    driver = Driver().live()
    back = update(12, **{"from": revision_of(LESS)}, rev=REV, patch={"permissions": {"can_use_sms": True}})
    driver.server(update(11), back)
    effects = driver.server(update(11))
    assert driver.data() == ADA
    assert [message["op"] for message in sent(effects)] == ["sync"]


def test_a_snapshot_at_the_same_position_replaces() -> None:
    driver = Driver().live()
    assert only(events.Change, driver.server(snapshot(SELF, LESS, 10))).data == LESS


def test_the_same_revision_again_is_no_change() -> None:
    driver = Driver().live()
    assert driver.server(snapshot(SELF, ADA, 12)) == []
    own = driver.session.own
    assert own is not None
    assert own.seq == 12


def test_what_was_held_is_resumed_by_its_revision() -> None:
    driver = Driver().live()
    driver.feed(events.Lost(None, ""))
    assert driver.connect().watch == (f"self@{REV}",)
    driver.greet(session="s2")
    assert driver.session.freshness(driver.now).state is FreshnessState.STALE
    effects = driver.server({"op": "current", "doc": SELF, "rev": REV, "seq": 15})
    assert not every(events.Change, effects)
    assert only(events.FreshnessChanged, effects).freshness.state is FreshnessState.LIVE
    own = driver.session.own
    assert own is not None
    assert own.seq == 15


def test_on_a_new_connection_older_positions_count() -> None:
    driver = Driver().live()
    driver.feed(events.Lost(None, ""))
    driver.connect()
    driver.greet(session="s2", epoch="e2")
    assert only(events.Change, driver.server(snapshot(SELF, LESS, 3))).seq == 3


def test_current_for_another_revision_makes_it_ask_for_the_whole() -> None:
    driver = Driver().live()
    driver.feed(events.Lost(None, ""))
    driver.connect()
    driver.greet()
    effects = driver.server({"op": "current", "doc": SELF, "rev": "3" * 16, "seq": 15})
    assert [message["op"] for message in sent(effects)] == ["sync"]


def test_pong_reveals_a_silent_divergence() -> None:
    driver = Driver().live()
    [ping] = sent(driver.until_deadline())
    pong = {"op": "pong", "id": ping["id"], "server_time": "", "revs": {SELF: REV, "user:other": "0" * 16}}
    assert driver.server(pong) == []
    [request] = sent(driver.server({**pong, "revs": {SELF: "4" * 16}}))
    assert (request["op"], request["doc"]) == ("sync", SELF)


def test_pong_confirms_what_was_resumed() -> None:
    driver = Driver().live()
    driver.feed(events.Lost(None, ""))
    driver.connect()
    driver.greet()
    effects = driver.server({"op": "pong", "server_time": "", "revs": {SELF: REV}})
    assert only(events.FreshnessChanged, effects).freshness.state is FreshnessState.LIVE


def test_a_document_of_which_nothing_was_heard_is_asked_for_again() -> None:
    driver = Driver(watch=("self", "user:u_x")).live()
    pong = {"op": "pong", "server_time": "", "revs": {SELF: REV}}
    [request] = sent(driver.server(pong))
    assert (request["op"], request["docs"]) == ("watch", ["user:u_x"])
    assert sent(driver.server(pong)) == []  # it is under way
    driver.server({"op": "error", "id": request["id"], "code": "not_found", "message": "", "doc": "user:u_x"})
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_gone_drops_the_document_and_it_is_not_asked_for_again() -> None:
    driver = Driver(watch=("self", "user:u_b")).live()
    driver.server(snapshot("user:u_b", LESS, 9))
    [change] = driver.server({"op": "gone", "doc": "user:u_b", "reason": "forbidden"})
    assert isinstance(change, events.Change)
    assert (change.kind, change.before, change.data) == ("gone", LESS, {})
    driver.feed(events.Lost(None, ""))
    assert driver.connect().watch == (f"self@{REV}",)


def test_documents_that_nobody_watches_are_ignored() -> None:
    driver = Driver().live()
    assert driver.server(snapshot("user:u_b", LESS, 9), {"op": "gone", "doc": "user:u_c", "reason": ""}) == []


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
    assert driver.server({"op": "pong", "id": "1", "server_time": "", "revs": {}}) == [events.Resolve("1", 0.125)]


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


def test_what_the_gateway_may_say_one_day_is_ignored() -> None:
    driver = Driver().live()
    assert driver.server({"op": "lease", "id": 7}, {**update(11), "later": [1]})[0] == only(
        events.Change, driver.effects
    )
    assert driver.server({"op": "error", "id": "unknown", "code": "odd", "message": "m"}) == every(
        events.Trouble, driver.effects
    )
