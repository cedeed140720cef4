"""What a session does not know, and says so."""

from __future__ import annotations

from typing import Any

import pytest

from client_sdk import events
from client_sdk.errors import TokenUnavailable
from client_sdk.events import Effect
from client_sdk.freshness import Freshness, FreshnessState
from client_sdk.keys import checked_seconds
from client_sdk.session import Condition
from tests.client_sdk.support.driver import ADA, HELLO, SELF, Driver, every, only, revision_of, sent, snapshot

LESS: dict[str, Any] = {**ADA, "permissions": {"can_use_voice": True}}
REVOKED = {"op": "ended", "code": "revoked", "message": "Out.", "reconnect": "never"}


def ping(effects: list[Effect]) -> dict[str, Any]:
    """The one ping among the effects."""
    [found] = [message for message in sent(effects) if message["op"] == "ping"]
    return found


def pong(request: dict[str, Any], **revs: str) -> dict[str, Any]:
    return {"op": "pong", "id": request["id"], "server_time": "", "revs": {SELF: revision_of(ADA), **revs}}


def test_nothing_is_live_of_which_nothing_was_heard_for_long() -> None:
    driver = Driver().live()
    driver.now += 60.0
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE
    driver.now += 0.5
    effects = driver.feed(events.Tick())
    assert only(events.FreshnessChanged, effects).freshness == Freshness(FreshnessState.STALE, 60.5, "silence")
    assert driver.session.deadline == driver.now + 2.5
    probe = ping(effects)
    driver.server({"op": "pong", "id": "s0", "server_time": "", "revs": {SELF: revision_of(ADA)}})
    assert driver.session.freshness(driver.now).state is FreshnessState.STALE
    driver.server(pong(probe))
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_a_frame_that_comes_after_a_long_silence_may_be_old() -> None:
    driver = Driver().live()
    driver.now += 90.0
    effects = driver.server(snapshot(SELF, LESS, 11))
    assert only(events.Change, effects).data == LESS
    assert only(events.FreshnessChanged, effects).freshness == Freshness(FreshnessState.STALE, 90.0, "silence")
    driver.server(pong(ping(effects), **{SELF: revision_of(LESS)}))
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_a_document_that_a_pong_does_not_name_is_asked_for_again() -> None:
    driver = Driver(watch=("self", "user:u_b")).live()
    driver.server(snapshot("user:u_b", LESS, 9))
    effects = driver.server(pong(ping(driver.until_deadline())))
    [request] = sent(effects)
    assert (request["op"], request["docs"]) == ("watch", [f"user:u_b@{revision_of(LESS)}"])
    assert driver.session.freshness(driver.now).reason == "document"
    assert sent(driver.server(pong({"id": "another"}))) == []
    gone = driver.server({"op": "error", "id": request["id"], "code": "not_found", "message": "", "doc": "user:u_b"})
    assert only(events.Change, gone).kind == "gone"
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_a_document_that_is_watched_while_the_ping_is_under_way_is_not_asked_for_twice() -> None:
    driver = Driver().live()
    request = ping(driver.until_deadline())
    driver.feed(events.WatchDocuments("1", ("user:u_b", "self")))
    assert sent(driver.server({"op": "pong", "id": request["id"], "server_time": "", "revs": {}})) == []


def test_a_copy_that_is_wrong_twice_is_held_and_not_live_before_one_is_right() -> None:
    driver = Driver().live()
    wrong = {**snapshot(SELF, LESS, 11), "rev": "0" * 16}
    [request] = sent(driver.server(wrong))
    driver.server({"op": "reply", "id": request["id"], "doc": SELF}, wrong)
    assert driver.data() == LESS
    freshness = driver.session.freshness(driver.now)
    assert (freshness.state, freshness.reason) == (FreshnessState.STALE, "unverified")
    assert driver.session.complete()
    driver.server(snapshot(SELF, ADA, 12))
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_all_who_wait_for_a_position_ask_together_and_ever_more_seldom() -> None:
    driver = Driver(ping_interval_s=1e6).live()
    began = driver.now
    for number in range(10):
        driver.feed(events.AwaitSeq(str(number), 99))
        driver.now += 0.015625
    asked = []
    while driver.session.deadline <= began + 120.0:
        for request in sent(driver.until_deadline()):
            asked.append(driver.now - began)
            reply = {"op": "reply", "id": request["id"], "doc": SELF}
            driver.server(reply, snapshot(SELF, ADA, 10))
    assert asked == [0.25, 2.25, 6.25, 14.25, 30.25, 60.25, 90.25]
    assert len(every(events.Resolve, driver.server(snapshot(SELF, ADA, 99)))) == 10


def test_where_a_document_stands_is_not_asked_while_it_is_on_its_way() -> None:
    driver = Driver(ping_interval_s=1e6).live()
    [request] = sent(driver.feed(events.SyncDocument("1", "self")))
    driver.feed(events.AwaitSeq("2", 99))
    driver.now += 5.0
    assert sent(driver.feed(events.Tick())) == []
    driver.server({"op": "reply", "id": request["id"], "doc": SELF}, snapshot(SELF, ADA, 11))
    assert len(sent(driver.until_deadline())) == 1


def test_a_provider_that_does_not_answer_a_renewal_is_asked_again() -> None:
    driver = Driver(ping_interval_s=1e9, token_timeout_s=3.0).live()
    driver.server({"op": "expiring", "expires_at": "2026-11-21T20:15:00.000Z"})
    began = driver.now
    assert isinstance(only(events.Trouble, driver.until_deadline()).error, TokenUnavailable)
    assert driver.now == began + 3.0
    only(events.AskToken, driver.until_deadline())
    assert driver.now == began + 8.0
    assert len(sent(driver.feed(events.TokenGiven("t2")))) == 1


def test_the_last_that_is_told_is_the_end() -> None:
    effects = Driver().live().server(REVOKED)
    assert [type(effect) for effect in effects[-2:]] == [events.FreshnessChanged, events.Stopped]


def test_requests_after_the_end_have_its_error_as_their_cause() -> None:
    driver = Driver().live()
    error = only(events.Stopped, driver.server(REVOKED)).error
    rejected = only(events.Reject, driver.feed(events.MeasurePing("1"))).error
    assert rejected.code == "closed"
    assert rejected.__cause__ is error


def test_a_gateway_that_speaks_another_version_is_left() -> None:
    driver = Driver(credential="message")
    driver.connect()
    effects = driver.server({**HELLO, "protocol": 2})
    assert only(events.Close, effects).code == 1002
    assert only(events.Trouble, effects).error.code == "malformed_message"
    assert sent(effects) == []
    assert driver.session.condition is Condition.WAITING


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan"), "1", None])
def test_a_length_of_time_is_positive_and_ends(seconds: Any) -> None:
    with pytest.raises(ValueError, match="positive"):
        checked_seconds("a wait", seconds)
