from __future__ import annotations

from typing import Any

import pytest

from client_sdk import events
from client_sdk.errors import Disconnected, PrincipalChanged, Revoked
from client_sdk.freshness import Freshness, FreshnessState
from client_sdk.session import Condition
from client_sdk.wire import Problem
from tests.client_sdk.support.driver import ADA, HELLO, SELF, Driver, every, only, revision_of, sent, snapshot

REV = revision_of(ADA)
NEVER = float("inf")


def ended(code: str, reconnect: str, **more: Any) -> dict[str, Any]:
    return {"op": "ended", "code": code, "message": code, "reconnect": reconnect, **more}


def test_starting_twice_is_starting_once() -> None:
    driver = Driver()
    driver.feed(events.Start())
    assert driver.feed(events.Start()) == []


def test_a_lost_connection_comes_back_at_once_after_a_healthy_one() -> None:
    driver = Driver().live()
    driver.now += 60
    effects = driver.feed(events.Lost(None, "cut"))
    assert driver.session.condition is Condition.WAITING
    assert 0.02 < driver.session.deadline - driver.now <= 0.25
    assert isinstance(only(events.Trouble, effects).error, Disconnected)
    assert driver.until_deadline() == [events.AskToken()]


def test_connections_that_end_at_once_are_made_less_and_less_often() -> None:
    driver = Driver(chance=0.0)
    waits = []
    for _ in range(200):
        driver.connect()
        driver.greet()
        driver.server(ended("going_away", "now"))
        waits.append(driver.session.deadline - driver.now)
        driver.chance = 0.999
    assert waits[0] == pytest.approx(0.025)
    assert sum(waits) > 190 * 29


def test_the_gateway_says_how_long_to_wait_at_least() -> None:
    driver = Driver().live()
    driver.now += 60
    effects = driver.server(ended("going_away", "now", retry_after_s=7.5))
    assert only(events.Close, effects).code == 1000
    assert 7.5 < driver.session.deadline - driver.now <= 7.75


def test_a_refused_handshake_waits_as_long_as_it_is_told() -> None:
    driver = Driver()
    driver.feed(events.Start())
    driver.feed(events.TokenGiven("t1"))
    driver.feed(events.Refused(503, Problem("unavailable", "", "Draining."), 11.0))
    assert driver.session.deadline - driver.now > 11
    assert driver.session.freshness(driver.now) == Freshness(FreshnessState.OFFLINE, None, "unavailable")


@pytest.mark.parametrize("event", [events.Lost(4500, ""), events.Refused(401, Problem("revoked"), None)])
def test_what_ends_for_good_ends_for_good(event: events.Event) -> None:
    driver = Driver()
    driver.feed(events.Start())
    driver.feed(events.TokenGiven("t1"))
    stopped = only(events.Stopped, driver.feed(event))
    assert isinstance(stopped.error, Revoked)
    assert driver.session.deadline == NEVER
    assert driver.feed(events.Tick()) == []


def test_after_a_revocation_nothing_is_held() -> None:
    driver = Driver().live()
    driver.feed(events.AwaitSeq("1", 99))
    effects = driver.server(ended("revoked", "never"))
    assert only(events.Change, effects).kind == "gone"
    assert isinstance(only(events.Reject, effects).error, Revoked)
    assert isinstance(only(events.Stopped, effects).error, Revoked)
    assert only(events.FreshnessChanged, effects).freshness.state is FreshnessState.OFFLINE
    assert driver.session.replica.documents() == {}
    [rejected] = driver.feed(events.SyncDocument("2", "self"))
    assert isinstance(rejected, events.Reject)


def test_closing_keeps_what_is_held_and_says_goodbye() -> None:
    driver = Driver().live()
    effects = driver.feed(events.Stop())
    assert only(events.Close, effects) == events.Close(1000, "")
    assert only(events.Stopped, effects).error is None
    assert driver.data() == ADA
    assert driver.feed(events.Stop()) == []


def test_a_token_of_somebody_else_ends_the_channel() -> None:
    driver = Driver().live()
    driver.feed(events.Lost(None, ""))
    driver.connect("t2")
    effects = driver.greet(principal="user:u_other")
    assert isinstance(only(events.Stopped, effects).error, PrincipalChanged)
    assert driver.session.replica.documents() == {}


# --- time ---


def test_a_gateway_that_does_not_answer_the_handshake_is_left() -> None:
    driver = Driver(connect_timeout_s=3.0)
    driver.feed(events.Start())
    driver.feed(events.TokenGiven("t1"))
    began = driver.now
    effects = driver.until_deadline()
    assert driver.now == began + 3
    assert every(events.Close, effects)
    assert driver.session.condition is Condition.WAITING


def test_a_gateway_that_does_not_say_ready_is_left() -> None:
    driver = Driver(greeting_timeout_s=3.0)
    driver.connect()
    driver.server(HELLO)
    assert every(events.Close, driver.until_deadline())
    assert driver.session.condition is Condition.WAITING


def test_a_dead_network_is_found_by_a_ping() -> None:
    driver = Driver().live()
    began = driver.now
    [ping] = sent(driver.until_deadline())
    assert ping["op"] == "ping"
    assert driver.now - began == 25
    effects = driver.until_deadline()
    assert driver.now - began == 35
    assert only(events.Close, effects).code == 1001
    assert driver.session.condition is Condition.WAITING
    assert driver.session.freshness(driver.now).age_s == 35


def test_pings_go_on_while_they_are_answered() -> None:
    driver = Driver(ping_interval_s=2.0).live()
    for _ in range(5):
        [ping] = sent(driver.until_deadline())
        driver.server({"op": "pong", "id": ping["id"], "server_time": "", "revs": {SELF: REV}})
    assert driver.now == 1010


def test_a_slow_network_that_still_delivers_is_not_dead() -> None:
    driver = Driver(ping_interval_s=1e3, pong_timeout_s=10.0).live()
    driver.until_deadline()
    for seq in range(11, 16):
        driver.now += 9
        assert driver.server(snapshot(SELF, ADA, seq)) == []
    driver.now += 10
    assert every(events.Close, driver.feed(events.Tick()))


def test_pings_are_spread() -> None:
    early, late = Driver(chance=0.0).live(), Driver(chance=0.999).live()
    assert early.session.deadline == 1000 + 22.5
    assert late.session.deadline == pytest.approx(1000 + 27.5, abs=0.01)


def test_a_tick_that_comes_too_early_does_nothing() -> None:
    driver = Driver().live()
    assert driver.feed(events.Tick()) == []


# --- freshness ---


def test_a_gateway_without_its_database_makes_everything_stale() -> None:
    driver = Driver().live()
    stale = {"op": "status", "store": "stale", "since": "2026-11-21T20:00:00.000Z", "age_s": 4.0}
    driver.now += 60
    [changed] = driver.server(stale)
    assert changed == events.FreshnessChanged(Freshness(FreshnessState.STALE, 4.0, "store"))
    driver.now += 3
    assert driver.session.freshness(driver.now).age_s == 7
    driver.feed(events.Lost(None, ""))
    driver.now += 2
    assert driver.session.freshness(driver.now) == Freshness(FreshnessState.OFFLINE, 9.0, "disconnected")


def test_fresh_again() -> None:
    driver = Driver().live()
    driver.server({"op": "status", "store": "stale", "since": "", "age_s": 0.0})
    [changed] = driver.server({"op": "status", "store": "fresh", "since": "", "age_s": 0.0})
    assert changed == events.FreshnessChanged(Freshness(FreshnessState.LIVE, 0.0, ""))


def test_one_document_can_be_stale_alone() -> None:
    driver = Driver(watch=("self", "user:u_b")).live()
    driver.server(snapshot("user:u_b", ADA, 3))
    status = {"op": "status", "since": "", "age_s": 1.0, "doc": "user:u_b"}
    driver.server({**status, "store": "stale"})
    assert driver.session.freshness(driver.now) == Freshness(FreshnessState.STALE, 1.0, "document")
    driver.server({**status, "store": "fresh"})
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_before_anything_came_no_age_is_known() -> None:
    assert Driver().session.freshness(5.0) == Freshness(FreshnessState.OFFLINE, None, "connecting")


# --- nonsense ---


@pytest.mark.parametrize("frame", ["{", '{"op":"snapshot"}', b"\x80"])
def test_what_is_no_message_ends_the_connection_but_not_the_channel(frame: str | bytes) -> None:
    driver = Driver().live()
    effects = driver.feed(events.Received(frame))
    assert only(events.Close, effects).code == 1002
    assert driver.session.condition is Condition.WAITING
    assert driver.session.malformed == 1
    assert driver.data() == ADA


def test_frames_after_the_end_are_not_looked_at() -> None:
    driver = Driver().live()
    driver.server(ended("going_away", "now"))
    assert driver.server(snapshot(SELF, {"identity": {}}, 99)) == []
    assert driver.feed(events.Lost(1001, "")) == []


def test_documents_before_ready_are_not_looked_at() -> None:
    driver = Driver()
    driver.connect()
    assert driver.server(HELLO, snapshot(SELF, ADA, 1)) == []
    assert driver.session.replica.documents() == {}


def test_a_subprotocol_that_was_not_offered_ends_the_connection() -> None:
    driver = Driver()
    driver.feed(events.Start())
    driver.feed(events.TokenGiven("t1"))
    assert only(events.Close, driver.feed(events.Opened("soap"))).code == 1002


def test_a_gateway_that_chooses_no_subprotocol_speaks_json() -> None:
    driver = Driver(subprotocol="gateway.v1+msgpack")
    driver.feed(events.Start())
    driver.feed(events.TokenGiven("t1"))
    driver.feed(events.Opened(None))
    driver.greet()
    assert driver.session.condition is Condition.LIVE
