from __future__ import annotations

from typing import Any

from client_sdk import events
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


def test_what_the_gateway_may_say_one_day_is_ignored() -> None:
    driver = Driver().live()
    assert driver.server({"op": "lease", "id": 7}, {**update(11), "later": [1]})[0] == only(
        events.Change, driver.effects
    )
    assert driver.server({"op": "error", "id": "unknown", "code": "odd", "message": "m"}) == every(
        events.Trouble, driver.effects
    )
