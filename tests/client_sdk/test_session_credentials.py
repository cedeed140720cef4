from __future__ import annotations

from typing import Any

import pytest

from client_sdk import events
from client_sdk.errors import AuthFailed, ChannelError, Disconnected, TokenExpired, TokenUnavailable, Unavailable
from client_sdk.freshness import FreshnessState
from client_sdk.session import Condition
from client_sdk.wire import ClientInfo, Problem
from tests.client_sdk.support.driver import ADA, HELLO, SELF, Driver, every, only, revision_of, sent

REV = revision_of(ADA)


def ended(code: str, reconnect: str, **more: Any) -> dict[str, Any]:
    return {"op": "ended", "code": code, "message": code, "reconnect": reconnect, **more}


def test_the_token_travels_in_the_handshake() -> None:
    driver = Driver()
    assert driver.feed(events.Start()) == [events.AskToken()]
    assert driver.feed(events.TokenGiven("t1")) == [events.Connect("t1", ("self",))]
    assert driver.feed(events.Opened("gateway.v1+json")) == []
    assert driver.server(HELLO) == []
    driver.server({"op": "ready", "session": "s1", "principal": SELF, "expires_at": "2026-11-21T20:15:00.000Z"})
    assert driver.session.condition is Condition.LIVE
    assert (driver.session.id, driver.session.principal) == ("s1", SELF)
    assert driver.session.expires_at == "2026-11-21T20:15:00.000Z"


def test_the_token_travels_in_the_first_message() -> None:
    driver = Driver(credential="message", client=ClientInfo("voice", "1.0")).live()
    driver.feed(events.Lost(4001, ""))
    assert driver.connect("t2") == events.Connect(None, ())
    assert sent(driver.server(HELLO)) == [
        {
            "op": "auth",
            "token": "t2",
            "watch": [f"self@{REV}"],
            "client": {"name": "voice", "version": "1.0"},
            "last_end": "timeout",
        }
    ]


def test_a_refused_token_is_asked_for_again_and_the_same_one_is_held_back() -> None:
    driver = Driver(chance=0.999)
    driver.feed(events.Start())
    driver.feed(events.TokenGiven("t1"))
    trouble = only(events.Trouble, driver.feed(events.Refused(401, Problem("auth_failed", "", "Bad."), None)))
    assert isinstance(trouble.error, AuthFailed)
    assert driver.until_deadline() == [events.AskToken("t1")]
    assert driver.feed(events.TokenGiven("t1")) == []
    assert driver.session.deadline - driver.now > 3.9
    assert driver.until_deadline() == [events.AskToken()]
    assert driver.feed(events.TokenGiven("t1")) == [events.Connect("t1", ("self",))]


def test_a_provider_with_nothing_new_is_not_a_hammer() -> None:
    driver = Driver(chance=0.5)
    driver.feed(events.Start())
    connects, began = 0, driver.now
    while driver.now < began + 3600:
        if every(events.Connect, driver.feed(events.TokenGiven("t1"))):
            connects += 1
            driver.feed(events.Refused(401, Problem(), None))
        driver.until_deadline()
    assert connects < 3600 / 20


def test_another_token_is_tried_at_once() -> None:
    driver = Driver()
    driver.feed(events.Start())
    driver.feed(events.TokenGiven("t1"))
    driver.feed(events.Refused(401, Problem(), None))
    driver.until_deadline()
    assert driver.feed(events.TokenGiven("t2")) == [events.Connect("t2", ("self",))]


def test_an_expired_token_is_replaced() -> None:
    driver = Driver().live()
    driver.now += 900
    effects = driver.server(ended("token_expired", "new_credential"))
    assert isinstance(only(events.Trouble, effects).error, TokenExpired)
    assert driver.session.deadline - driver.now <= 0.25
    assert driver.connect("t2").token == "t2"


def test_a_provider_that_fails_is_asked_again_later() -> None:
    driver = Driver(chance=0.999)
    driver.feed(events.Start())
    effects = driver.feed(events.TokenFailed(OSError("no network")))
    error = only(events.Trouble, effects).error
    assert isinstance(error, TokenUnavailable)
    assert isinstance(error.__cause__, OSError)
    assert driver.session.deadline - driver.now > 3.9
    assert driver.until_deadline() == [events.AskToken()]


@pytest.mark.parametrize(
    ("cause", "least_s", "most_s"),
    [
        (Disconnected("The gateway does not answer."), 0.0, (0.5, 1.0, 2.0)),
        (Unavailable("Later.", retry_after_s=3.0), 3.0, (3.5, 4.0, 5.0)),
        (Unavailable("Now it can not."), 0.0, (0.5, 1.0, 2.0)),
    ],
)
def test_a_provider_that_could_reach_nobody_is_asked_again_soon(
    cause: ChannelError, least_s: float, most_s: tuple[float, ...]
) -> None:
    """It counts as a connection that could not be made, not as a token that was refused."""
    driver = Driver(chance=0.999)
    driver.feed(events.Start())
    for most in most_s:
        error = only(events.Trouble, driver.feed(events.TokenFailed(cause))).error
        assert isinstance(error, TokenUnavailable)
        assert error.__cause__ is cause
        assert least_s < driver.session.deadline - driver.now <= most
        assert driver.until_deadline() == [events.AskToken()]


def test_a_provider_that_never_answers_is_asked_again() -> None:
    driver = Driver()
    driver.feed(events.Start())
    began = driver.now
    effects = driver.until_deadline()
    assert driver.now == began + 30
    assert isinstance(only(events.Trouble, effects).error, TokenUnavailable)
    assert driver.until_deadline() == [events.AskToken()]


EXPIRING = {"op": "expiring", "expires_at": "2026-11-21T20:15:00.000Z"}


def test_a_credential_that_ends_is_renewed_on_the_live_session() -> None:
    driver = Driver().live()
    assert driver.server(EXPIRING) == [events.AskToken()]
    [auth] = sent(driver.feed(events.TokenGiven("t2")))
    assert (auth["op"], auth["token"], set(auth)) == ("auth", "t2", {"op", "token", "id"})
    ready = {"op": "ready", "session": "s1", "principal": SELF, "id": auth["id"]}
    assert driver.server({**ready, "expires_at": "2026-11-21T20:30:00.000Z"}) == []
    assert driver.session.expires_at == "2026-11-21T20:30:00.000Z"
    assert driver.session.freshness(driver.now).state is FreshnessState.LIVE


def test_a_renewal_that_fails_is_tried_again_while_the_old_token_holds() -> None:
    driver = Driver().live()
    driver.server(EXPIRING)
    driver.feed(events.TokenFailed(OSError()))
    assert driver.until_deadline() == [events.AskToken()]
    driver.feed(events.TokenGiven("t1"))  # the one in use: nothing is gained by sending it
    assert sent(driver.effects) == []
    assert driver.until_deadline() == [events.AskToken()]
    [auth] = sent(driver.feed(events.TokenGiven("bad")))
    refused = {"op": "error", "id": auth["id"], "code": "auth_failed", "message": "No."}
    assert isinstance(only(events.Trouble, driver.server(refused)).error, AuthFailed)
    assert driver.until_deadline() == [events.AskToken()]
    [auth] = sent(driver.feed(events.TokenGiven("t2")))
    driver.now += 5  # no answer
    assert driver.feed(events.Tick()) == [events.AskToken()]
    assert driver.session.condition is Condition.LIVE


def test_tokens_that_hardly_live_do_not_make_a_hot_loop() -> None:
    driver = Driver(ping_interval_s=1e6).live()
    asked, began = 0, driver.now
    while driver.now < began + 60:
        asked += driver.server(EXPIRING).count(events.AskToken())
        if not asked:
            driver.until_deadline()
        effects = driver.feed(events.TokenGiven(f"t{asked + 1}"))
        for auth in sent(effects):
            driver.server({"op": "ready", "session": "s1", "principal": SELF, "id": auth["id"]})
        asked += driver.server(EXPIRING).count(events.AskToken())
        driver.now += 0.1
        asked += driver.feed(events.Tick()).count(events.AskToken())
    assert 5 < asked <= 14


def test_the_provider_is_asked_before_every_connection() -> None:
    driver = Driver().live()
    driver.server(EXPIRING)
    driver.feed(events.Lost(None, ""))
    assert driver.feed(events.TokenGiven("late")) == []
    assert driver.until_deadline() == [events.AskToken()]
