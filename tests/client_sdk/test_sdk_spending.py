from __future__ import annotations

import sys
from typing import Any

import pytest

from client_sdk import events, wire
from client_sdk.errors import (
    BadRequest,
    ChannelError,
    Conflict,
    Disconnected,
    Forbidden,
    LeaseExpired,
    LeaseNotFound,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    Revoked,
    Unavailable,
    UnknownOp,
)
from client_sdk.spending import AT_A_TIME, Spending
from tests.client_sdk.support.driver import Driver, every, only, sent

QUIET: dict[str, Any] = {"ping_interval_s": 1000.0}
ASKED = {"op": "consume", "id": "1", "quota": "voice_minutes", "amount": 2, "key": "k1"}
ANSWER = {"op": "reply", "id": "1", "quota": "voice_minutes", "used": 14, "seq": 12}
PASSING = ["unavailable", "rate_limited", "uncertain", "internal"]


def spend(id: str = "1", timeout_s: float = 30.0) -> events.Spend:
    message = wire.Consume(id=id, quota="voice_minutes", amount=2, key=f"k{id}")
    return events.Spend(id, message, timeout_s)


def refusal(code: str, id: str = "1", **details: Any) -> dict[str, Any]:
    return {"op": "error", "id": id, "code": code, "message": "No.", **details}


def reconnect(driver: Driver) -> list[dict[str, Any]]:
    """Lose the connection, come back, and tell what was sent at once."""
    driver.feed(events.Lost(None, ""))
    driver.connect()
    return sent(driver.greet())


def rejected(effects: list[events.Effect]) -> ChannelError:
    return only(events.Reject, effects).error


def until(driver: Driver, when: float) -> list[events.Effect]:
    """Let time pass; everything that came of it."""
    effects: list[events.Effect] = []
    while driver.session.deadline <= when:
        effects += driver.until_deadline()
    driver.now = when
    return effects


# --- asking until it is answered ---


def test_a_request_is_sent_and_its_reply_is_the_result() -> None:
    driver = Driver(**QUIET).live()
    assert sent(driver.feed(spend())) == [ASKED]
    resolve = only(events.Resolve, driver.server(ANSWER))
    assert (resolve.id, resolve.value.used, resolve.value.seq) == ("1", 14, 12)
    assert driver.session.deadline > driver.now + 100


def test_a_request_without_a_connection_waits_for_one() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(events.Lost(None, ""))
    assert driver.feed(spend()) == []
    driver.connect()
    assert sent(driver.greet()) == [ASKED]


def test_an_answer_that_is_lost_is_asked_for_with_the_same_key_on_the_next_connection() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend())
    assert [reconnect(driver) for _ in range(3)] == [[ASKED]] * 3
    assert only(events.Resolve, driver.server(ANSWER)).id == "1"
    assert reconnect(driver) == []


def test_an_answer_that_does_not_come_is_asked_for_again_on_the_same_connection() -> None:
    driver = Driver(request_timeout_s=4.0, **QUIET).live()
    began = driver.now
    driver.feed(spend())
    assert (sent(driver.until_deadline()), driver.now) == ([ASKED], began + 4)
    assert (sent(driver.until_deadline()), driver.now) == ([ASKED], began + 8)
    assert only(events.Resolve, driver.server(ANSWER, ANSWER)).id == "1"


@pytest.mark.parametrize("code", PASSING)
def test_what_passes_is_asked_again_with_the_same_key_when_the_gateway_says(code: str) -> None:
    driver = Driver(**QUIET).live()
    began = driver.now
    driver.feed(spend())
    assert driver.server(refusal(code, retry_after_s=7.0)) == []
    assert sent(driver.until_deadline()) == [ASKED]
    assert began + 7 <= driver.now <= began + 7.5
    assert only(events.Resolve, driver.server(ANSWER)).id == "1"


def test_where_the_gateway_does_not_say_when_it_is_about_a_second_and_not_for_all_the_same() -> None:
    waits = []
    for chance in (0.0, 0.9):
        driver = Driver(chance=chance, **QUIET).live()
        began = driver.now
        driver.feed(spend())
        driver.server(refusal("unavailable"))
        driver.until_deadline()
        waits.append(driver.now - began)
    assert waits == pytest.approx([1.0, 1.45])


@pytest.mark.parametrize("retry_after_s", [-5.0, 0.001])
def test_a_gateway_is_not_hammered_whatever_it_says(retry_after_s: float) -> None:
    driver = Driver(chance=0.0, **QUIET).live()
    began = driver.now
    driver.feed(spend())
    for _ in range(10):
        driver.server(refusal("unavailable", retry_after_s=retry_after_s))
        assert sent(driver.until_deadline()) == [ASKED]
    assert driver.now - began == pytest.approx(1.0)


def test_what_is_refused_for_now_waits_also_on_a_new_connection() -> None:
    driver = Driver(backoff_base_s=0.1, **QUIET).live()
    began = driver.now
    driver.feed(spend())
    driver.server(refusal("unavailable", retry_after_s=9.0))
    assert reconnect(driver) == []
    assert sent(until(driver, began + 10)) == [ASKED]


# --- time limits ---


def test_what_may_have_been_carried_out_says_so_and_with_which_key_to_ask() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend(timeout_s=5.0))
    error = rejected(driver.until_deadline())
    assert (type(error), error.key) == (RequestTimeout, "k1")
    assert driver.server(ANSWER) == []


def test_what_was_never_sent_was_not_carried_out() -> None:
    driver = Driver(**QUIET).live()
    driver.server({"op": "ended", "code": "overloaded", "message": "", "reconnect": "later", "retry_after_s": 60.0})
    driver.feed(spend(timeout_s=5.0))
    began = driver.now
    error = rejected(driver.until_deadline())
    assert (type(error), error.key, driver.now) == (Disconnected, None, began + 5)
    driver.connect()
    assert sent(driver.greet()) == []


@pytest.mark.parametrize(("code", "kind"), [("unavailable", Unavailable), ("rate_limited", RateLimited)])
def test_a_refusal_that_outlasts_the_limit_is_raised_at_once(code: str, kind: type[ChannelError]) -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend(timeout_s=5.0))
    error = rejected(driver.server(refusal(code, retry_after_s=6.0)))
    assert (type(error), error.key, error.retry_after_s) == (kind, None, 6.0)


@pytest.mark.parametrize("code", ["uncertain", "internal"])
def test_a_failure_that_nobody_knows_the_outcome_of_is_no_refusal(code: str) -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend(timeout_s=5.0))
    assert driver.server(refusal(code, retry_after_s=6.0)) == []
    error = rejected(driver.until_deadline())
    assert (type(error), error.key) == (RequestTimeout, "k1")
    assert isinstance(error.__cause__, ChannelError)
    assert error.__cause__.code == code


def test_a_refusal_says_nothing_of_what_was_sent_before_and_not_answered() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend(timeout_s=5.0))
    reconnect(driver)
    driver.server(refusal("unavailable", retry_after_s=6.0))
    error = rejected(until(driver, driver.now + 6))
    assert (type(error), error.key, type(error.__cause__)) == (RequestTimeout, "k1", Unavailable)


def test_a_refusal_that_comes_twice_is_counted_once() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend(timeout_s=5.0))
    reconnect(driver)
    again = refusal("unavailable", retry_after_s=1.0)
    driver.server(again, again)
    error = rejected(until(driver, driver.now + 6))
    assert error.key == "k1"


# --- errors ---


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("bad_request", BadRequest),
        ("unknown_op", UnknownOp),
        ("not_found", NotFound),
        ("forbidden", Forbidden),
        ("conflict", Conflict),
        ("lease_not_found", LeaseNotFound),
        ("lease_expired", LeaseExpired),
        ("invented_later", ChannelError),
    ],
)
def test_what_does_not_pass_is_raised_and_not_asked_again(code: str, kind: type[ChannelError]) -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend())
    error = rejected(driver.server(refusal(code)))
    assert (type(error), error.code, error.key) == (kind, code, None)
    assert reconnect(driver) == []


def test_an_exceeded_quota_says_what_is_left_and_until_when() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend())
    details = {"quota": "voice_minutes", "remaining": 1, "resets_at": "2026-12-01T00:00:00.000Z"}
    error = rejected(driver.server(refusal("quota_exceeded", **details)))
    assert isinstance(error, QuotaExceeded)
    assert (error.quota, error.remaining, error.resets_at, error.key) == (*details.values(), None)


def test_a_key_that_stands_for_something_else_stands_for_it_whatever_was_sent_before() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend())
    reconnect(driver)
    assert rejected(driver.server(refusal("conflict"))).key is None


@pytest.mark.parametrize("code", ["quota_exceeded", "forbidden", "not_found", "lease_expired", "lease_not_found"])
def test_a_refusal_says_nothing_of_an_attempt_that_may_be_on_its_way_yet(code: str) -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend())
    reconnect(driver)
    error = rejected(driver.server(refusal(code)))
    assert (error.code, error.key) == (code, "k1")


def test_the_end_of_the_channel_ends_each_with_what_is_known_of_it() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend("1"))
    driver.feed(spend("2"))
    driver.server(refusal("unavailable", "2"))
    ended = {"op": "ended", "code": "revoked", "message": "Gone.", "reconnect": "never"}
    errors = {reject.id: reject.error for reject in every(events.Reject, driver.server(ended))}
    assert {id: (type(error), error.key) for id, error in errors.items()} == {
        "1": (Revoked, "k1"),
        "2": (Revoked, None),
    }
    late = rejected(driver.feed(spend("3")))
    assert (late.code, late.key) == ("closed", None)


def test_closing_ends_them_too() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend())
    error = rejected(driver.feed(events.Stop()))
    assert (type(error), error.code, error.key) == (Disconnected, "closed", "k1")


def test_what_nobody_waits_for_is_not_sent_again_and_its_answer_is_no_trouble() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend())
    driver.feed(events.Forget("1"))
    assert driver.server(ANSWER, refusal("quota_exceeded")) == []
    assert reconnect(driver) == []


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (wire.Reserve(id="1", lease="l1", quota="voice_minutes", amount=5, ttl_s=60.0), "l1"),
        (wire.Extend(id="1", lease="l1", ttl_s=60.0), "l1"),
        (wire.Extend(id="1", lease="l1", ttl_s=60.0, amount=3, key="k9"), "k9"),
        (wire.Commit(id="1", lease="l1", amount=4), "l1"),
        (wire.Release(id="1", lease="l1"), "l1"),
    ],
)
def test_the_operations_of_a_lease_survive_in_the_same_way(message: wire.SpendingMessage, key: str) -> None:
    driver = Driver(**QUIET).live()
    first = sent(driver.feed(events.Spend("1", message, 8.0)))
    assert reconnect(driver) == first
    assert rejected(until(driver, driver.now + 8)).key == key


# --- many at once ---


def test_a_rate_limit_holds_everything_back() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend("1"))
    driver.feed(spend("2"))
    driver.server(refusal("rate_limited", "1", retry_after_s=4.0))
    assert driver.feed(spend("3")) == []
    assert only(events.Resolve, driver.server({**ANSWER, "id": "2"})).id == "2"
    assert [message["id"] for message in sent(driver.until_deadline())] == ["1", "3"]
    assert driver.now >= 1004


def test_what_a_rate_limit_held_back_for_too_long_says_so() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend("1", timeout_s=60.0))
    driver.server(refusal("rate_limited", "1", retry_after_s=40.0))
    driver.feed(spend("2", timeout_s=5.0))
    error = rejected(until(driver, driver.now + 5))
    assert (type(error), error.key) == (RateLimited, None)


def test_a_rate_limit_is_that_of_its_connection() -> None:
    driver = Driver(**QUIET).live()
    driver.feed(spend("1"))
    driver.feed(spend("2"))
    driver.server(refusal("rate_limited", "1", retry_after_s=60.0))
    assert [message["id"] for message in reconnect(driver)] == ["2"]


def test_so_many_are_under_way_and_the_next_goes_when_one_is_answered() -> None:
    driver = Driver(**QUIET).live()
    numbers = [str(number) for number in range(1, AT_A_TIME + 3)]
    messages = [message for id in numbers for message in sent(driver.feed(spend(id)))]
    assert [message["id"] for message in messages] == numbers[:AT_A_TIME]
    assert driver.session.deadline > driver.now
    assert [message["id"] for message in sent(driver.server({**ANSWER, "id": "5"}))] == [numbers[AT_A_TIME]]
    assert [message["id"] for message in sent(driver.feed(events.Forget("6")))] == [numbers[AT_A_TIME + 1]]
    assert len(reconnect(driver)) == AT_A_TIME


def test_the_work_for_a_request_does_not_grow_with_those_that_wait() -> None:
    few, many = calls_of(200), calls_of(2000)
    assert many < 12 * few


def calls_of(number: int) -> int:
    """How many calls it takes to ask for so many at once and to answer each, beside those of the clock."""
    spending = Spending([], lambda message: None, 10.0)
    spending.begin(0.0)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for id in map(str, range(number)):
            spending.ask(spend(id), 0.0)
            spending.deadline()
        for id in map(str, range(number)):
            assert spending.reply(wire.Reply(id), 0.0)
            spending.deadline()
    finally:
        sys.setprofile(None)
    assert not spending.under_way
    return calls


def test_what_is_refused_makes_room() -> None:
    driver = Driver(**QUIET).live()
    for number in range(AT_A_TIME + 1):
        driver.feed(spend(str(number)))
    assert [message["id"] for message in sent(driver.server(refusal("conflict", "0")))] == [str(AT_A_TIME)]
