from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.allowance import WINDOW_S
from gateway.core.clock import rfc3339
from gateway.core.effects import (
    SELF,
    Authenticate,
    Close,
    DocumentRequest,
    Effect,
    Report,
    Resend,
    Send,
    SendPing,
    Subscribe,
    Unsubscribe,
    parse_document_name,
    parse_document_names,
)
from gateway.core.instant import Instant
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.session import NEVER, Condition, Session, SessionLimits
from gateway.core.wire import JSON, MESSAGEPACK, Codec, Ping
from gateway.errors import AuthFailed, Ending, Forbidden, NotFound, RateLimited, Unavailable

MONO, WALL = 1_000.0, 1_780_000_000_000
LIMITS = SessionLimits(
    heartbeat_s=25.0,
    pong_timeout_s=10.0,
    auth_timeout_s=10.0,
    expiring_s=60.0,
    max_frame_bytes=1024,
    messages_per_minute=120,
)


def after(seconds: float) -> Instant:
    """The moment this long after the session began, on both clocks; the wall clock shows the millisecond reached."""
    return Instant(MONO + seconds, WALL + math.ceil(seconds * 1000 - 1e-4))


def principal(user: str = "ada", *, expires_s: float | None = None, credential: str = "t_1") -> Principal:
    expires_at = None if expires_s is None else WALL + round(expires_s * 1000)
    return Principal(PrincipalKind.USER, user, CredentialKind.API_TOKEN, credential, expires_at)


def new_session(codec: Codec = JSON, limits: SessionLimits = LIMITS, *, jitter: float = 0.5) -> Session:
    return Session("s_1", codec, limits, after(0), jitter=jitter)


def live_session(*, expires_s: float | None = None, limits: SessionLimits = LIMITS) -> Session:
    session = new_session(limits=limits)
    session.greet("n1", "e1", after(0))
    session.begin(principal(expires_s=expires_s), [], after(0))
    return session


def frame(**message: Any) -> bytes:
    return json.dumps(message).encode()


def said(effect: Effect) -> dict[str, Any]:
    """The message that an effect sends."""
    assert isinstance(effect, Send | Close)
    decoded: dict[str, Any] = json.loads(effect.payload)
    return decoded


def the_end(effects: list[Effect]) -> Ending:
    """Why the session ends, when that is all that happens."""
    [effect] = effects
    assert isinstance(effect, Close)
    message = said(effect)
    assert message["op"] == "ended"
    assert (message["code"], message["reconnect"]) == (effect.ending.code, effect.ending.reconnect)
    return effect.ending


def the_error(effects: list[Effect]) -> dict[str, Any]:
    [effect] = effects
    assert isinstance(effect, Send)
    message = said(effect)
    assert message.pop("op") == "error"
    assert message.pop("message")
    return message


# --- greeting --------------------------------------------------------------------------------------------------------


def test_hello_comes_first_and_says_what_the_client_must_know() -> None:
    [effect] = new_session().greet("n1", "e1", after(0))
    assert said(effect) == {
        "op": "hello",
        "protocol": 1,
        "node": "n1",
        "epoch": "e1",
        "server_time": rfc3339(WALL),
        "heartbeat_s": 25.0,
        "auth_timeout_s": 10.0,
        "max_frame_bytes": 1024,
        "features": ["resume", "conflation", "msgpack", "consume", "leases"],
    }


@pytest.mark.parametrize(
    ("watch", "documents"),
    [
        ([], SELF),
        (["user:b"], (DocumentRequest("user:b", None),)),
        (["self@0123456789abcdef"], (DocumentRequest("self", "0123456789abcdef"),)),
    ],
)
def test_a_credential_of_the_handshake_makes_the_session_live_at_once(
    watch: list[str], documents: tuple[DocumentRequest, ...]
) -> None:
    session = new_session()
    ready, subscribe = session.begin(principal(expires_s=300), watch, after(1))
    assert said(ready) == {
        "op": "ready",
        "session": "s_1",
        "principal": "user:ada",
        "expires_at": rfc3339(WALL + 300_000),
    }
    assert subscribe == Subscribe(documents, None)
    assert session.condition is Condition.LIVE


@pytest.mark.parametrize(
    ("watch", "documents"),
    [(None, SELF), ([], ()), (["self", "org:o"], (DocumentRequest("self", None), DocumentRequest("org:o", None)))],
)
def test_a_token_in_a_message_is_checked_and_then_opens_the_session(
    watch: list[str] | None, documents: tuple[DocumentRequest, ...]
) -> None:
    session = new_session()
    request: dict[str, Any] = {"op": "auth", "token": "gw_x", "id": "1"} | ({} if watch is None else {"watch": watch})
    assert session.receive(frame(**request), True, after(1)) == [Authenticate("gw_x")]
    assert session.condition is Condition.GREETING
    ready, subscribe = session.authenticated(principal(), after(2))
    assert said(ready) == {"op": "ready", "session": "s_1", "principal": "user:ada", "id": "1"}
    assert subscribe == Subscribe(documents, None)


@pytest.mark.parametrize(
    ("payload", "text", "ending"),
    [
        (b"nonsense", True, Ending.BAD_FRAME),
        (b"[]", True, Ending.BAD_FRAME),
        (b'{"a":' * 2000, True, Ending.TOO_LARGE),
        (frame(op="auth", token="t"), False, Ending.BAD_FRAME),
        (b"x" * 1025, True, Ending.TOO_LARGE),
        (b"x" * 1025, False, Ending.TOO_LARGE),
        (frame(op="ping"), True, Ending.NOT_AUTHENTICATED),
        (frame(op="watch", id="1", docs=["self"]), True, Ending.NOT_AUTHENTICATED),
        (frame(op="unwatch", id="1", docs=["self"]), True, Ending.NOT_AUTHENTICATED),
        (frame(op="sync", id="1", doc="self"), True, Ending.NOT_AUTHENTICATED),
        (frame(op="fly"), True, Ending.NOT_AUTHENTICATED),
        (frame(), True, Ending.NOT_AUTHENTICATED),
        (frame(op="auth", token=5), True, Ending.NOT_AUTHENTICATED),
        (frame(op="auth"), True, Ending.AUTH_FAILED),
    ],
)
def test_one_wrong_message_ends_a_greeting(payload: bytes, text: bool, ending: Ending) -> None:
    session = new_session()
    assert the_end(session.receive(payload, text, after(1))) is ending
    assert session.condition is Condition.ENDED


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"last_end": "x" * 65}, "$.last_end"),
        ({"id": "x" * 65}, "$.id"),
        ({"token": 5}, "$.token"),
        ({"client": 5}, "$.client"),
        ({"watch": "self"}, "$.watch"),
        ({"watch": [""]}, "$.watch[0]"),
    ],
)
def test_an_auth_that_can_not_be_read_is_told_what_is_wrong_with_it(fields: dict[str, Any], wrong: str) -> None:
    [close] = new_session().receive(frame(**{"op": "auth", "token": "secret"} | fields), True, after(1))
    message = said(close)["message"]
    assert message.startswith("Not a valid auth: ")
    assert wrong in message
    assert "secret" not in message


def test_only_one_credential_is_checked_before_ready() -> None:
    session = new_session()
    session.receive(frame(op="auth", token="a"), True, after(1))
    [close] = session.receive(frame(op="auth", token="b"), True, after(2))
    assert the_end([close]) is Ending.NOT_AUTHENTICATED
    assert "before auth was answered" in said(close)["message"]
    assert session.authenticated(principal(), after(3)) == []


def test_a_bad_token_ends_a_greeting_and_a_store_that_is_away_asks_to_come_back() -> None:
    session = new_session()
    session.receive(frame(op="auth", token="a"), True, after(1))
    assert the_end(session.rejected(AuthFailed("no"), after(2))) is Ending.AUTH_FAILED
    session = new_session()
    session.receive(frame(op="auth", token="a"), True, after(1))
    [close] = session.rejected(Unavailable("later", retry_after_s=1.5), after(2))
    assert (said(close)["code"], said(close)["retry_after_s"]) == ("overloaded", 1.5)


def test_a_greeting_without_a_good_credential_ends_in_time() -> None:
    session = new_session()
    assert session.deadline(after(0)) == MONO + 10
    session.receive(frame(op="auth", token="a"), True, after(5))
    assert session.tick(after(9.999)) == []
    assert the_end(session.tick(after(10))) is Ending.AUTH_TIMEOUT
    assert session.authenticated(principal(), after(10.1)) == []
    assert session.rejected(AuthFailed("no"), after(10.1)) == []


def test_a_credential_that_ended_meanwhile_opens_nothing() -> None:
    session = new_session()
    effects = session.begin(principal(expires_s=1), [], after(1))
    assert isinstance(effects[-1], Close)
    assert effects[-1].ending is Ending.TOKEN_EXPIRED
    assert not any(isinstance(effect, Subscribe) for effect in effects)


@pytest.mark.parametrize("codec", [JSON, MESSAGEPACK])
def test_a_frame_of_the_other_kind_ends_the_session(codec: Codec) -> None:
    for greeting in (True, False):
        session = new_session(codec)
        if not greeting:
            session.begin(principal(), [], after(0))
        ping = msgspec.msgpack.encode({"op": "ping"}) if codec.binary else b'{"op":"ping"}'
        [close] = session.receive(ping, codec.binary, after(1))
        assert isinstance(close, Close)
        assert close.ending is Ending.BAD_FRAME


# --- live ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "effect"),
    [
        ({"op": "ping", "id": "1", "t": 4}, Report(Ping("1", 4))),
        ({"op": "watch", "id": "1", "docs": ["a"]}, Subscribe((DocumentRequest("a", None),), "1")),
        (
            {"op": "watch", "id": "1", "docs": ["a@" + "0" * 16, "b"]},
            Subscribe((DocumentRequest("a", "0" * 16), DocumentRequest("b", None)), "1"),
        ),
        ({"op": "watch", "id": "1", "docs": []}, Subscribe((), "1")),
        ({"op": "unwatch", "id": "1", "docs": ["a", "b@" + "0" * 16, "a"]}, Unsubscribe(("a", "b"), "1")),
        ({"op": "sync", "id": "1", "doc": "self"}, Resend("self", "1")),
        ({"op": "auth", "token": "new", "id": "1"}, Authenticate("new")),
    ],
)
def test_a_request_becomes_one_effect(message: dict[str, Any], effect: Effect) -> None:
    assert live_session().receive(frame(**message), True, after(1)) == [effect]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"op": "fly", "id": "1"}, {"code": "unknown_op", "id": "1"}),
        ({"op": "fly"}, {"code": "unknown_op"}),
        ({"op": "watch", "id": "1"}, {"code": "bad_request", "id": "1"}),
        ({}, {"code": "bad_request"}),
    ],
)
def test_a_bad_request_gets_an_error_and_the_connection_lives_on(
    message: dict[str, Any], error: dict[str, str]
) -> None:
    session = live_session()
    assert the_error(session.receive(frame(**message), True, after(1))) == error
    assert session.receive(frame(op="ping"), True, after(2)) == [Report(Ping())]


@pytest.mark.parametrize(("payload", "ending"), [(b"{", Ending.BAD_FRAME), (b" " * 1025, Ending.TOO_LARGE)])
def test_a_frame_that_is_no_message_ends_a_live_session(payload: bytes, ending: Ending) -> None:
    assert the_end(live_session().receive(payload, True, after(1))) is ending


def test_a_frame_may_be_as_large_as_it_may_be() -> None:
    payload = frame(op="ping").ljust(1024)
    assert live_session().receive(payload, True, after(1)) == [Report(Ping())]


def test_pong_repeats_what_the_ping_said() -> None:
    session = live_session()
    revs = {"user:ada": "0" * 16}
    now = rfc3339(WALL + 1000)
    full = said(session.pong(Ping("1", "t"), revs, after(1)))
    assert full == {"op": "pong", "id": "1", "t": "t", "server_time": now, "revs": revs}
    assert said(session.pong(Ping(), {}, after(1))) == {"op": "pong", "server_time": now, "revs": {}}
    assert said(session.pong(Ping(t=0), {}, after(1)))["t"] == 0


def test_an_error_names_what_it_knows() -> None:
    session = live_session()
    assert the_error([session.error(NotFound("x"), None)]) == {"code": "not_found"}
    error = the_error([session.error(RateLimited("x", retry_after_s=0.5), "1", "user:b")])
    assert error == {"code": "rate_limited", "id": "1", "doc": "user:b", "retry_after_s": 0.5}


# --- renewal ---------------------------------------------------------------------------------------------------------


def renewing(session: Session, at: Instant, **fields: Any) -> Session:
    assert session.receive(frame(op="auth", token="new", id="7", **fields), True, at) == [Authenticate("new")]
    return session


def test_renewal_moves_the_end_and_sends_no_document_again() -> None:
    session = renewing(live_session(expires_s=300), after(200))
    [ready] = session.authenticated(principal(expires_s=900, credential="t_2"), after(201))
    assert said(ready) == {
        "op": "ready",
        "session": "s_1",
        "principal": "user:ada",
        "expires_at": rfc3339(WALL + 900_000),
        "id": "7",
    }
    session.ponged(after(299))
    assert session.tick(after(300)) == []
    assert not session.expired(WALL + 899_999)
    assert session.expired(WALL + 900_000)


def test_renewal_may_watch_more() -> None:
    session = renewing(live_session(), after(1), watch=["user:b"])
    ready, subscribe = session.authenticated(principal(), after(2))
    assert said(ready)["op"] == "ready"
    assert subscribe == Subscribe((DocumentRequest("user:b", None),), None)


def test_renewal_with_another_principal_ends_the_session() -> None:
    session = renewing(live_session(), after(1))
    assert the_end(session.authenticated(principal("eve"), after(2))) is Ending.PRINCIPAL_CHANGED


@pytest.mark.parametrize("error", [AuthFailed("no"), Unavailable("later", retry_after_s=1.0), Forbidden("no")])
def test_a_bad_token_leaves_the_old_credential_in_force_until_it_ends(error: Any) -> None:
    session = renewing(live_session(expires_s=300), after(1))
    assert the_error(session.rejected(error, after(2)))["code"] == error.code
    assert session.principal == principal(expires_s=300)
    assert session.receive(frame(op="ping"), True, after(3)) == [Report(Ping())]
    session.ponged(after(299))
    assert the_end(session.tick(after(300))[-1:]) is Ending.TOKEN_EXPIRED


def test_one_renewal_at_a_time() -> None:
    session = renewing(live_session(), after(1))
    error = the_error(session.receive(frame(op="auth", token="newer", id="8"), True, after(1.5)))
    assert error == {"code": "rate_limited", "id": "8", "retry_after_s": 1.0}
    [ready] = session.authenticated(principal(), after(2))
    assert said(ready)["id"] == "7"
    renewing(session, after(3))


def test_renewal_without_a_token_confirms_the_credential_in_use() -> None:
    session = live_session(expires_s=300)
    [ready] = session.receive(frame(op="auth", id="2"), True, after(1))
    assert (said(ready)["op"], said(ready)["id"], said(ready)["expires_at"]) == ("ready", "2", rfc3339(WALL + 300_000))


def test_a_verdict_that_nobody_asked_for_does_nothing() -> None:
    session = live_session()
    assert session.authenticated(principal("eve"), after(1)) == []
    assert session.rejected(AuthFailed("no"), after(1)) == []
    assert session.principal == principal()


def test_the_end_may_come_while_a_renewal_is_checked() -> None:
    session = renewing(live_session(expires_s=10), after(5))
    assert the_end(session.tick(after(10))[-1:]) is Ending.TOKEN_EXPIRED
    assert session.authenticated(principal(expires_s=900), after(11)) == []


def test_a_renewed_credential_is_announced_anew_when_it_ends_soon() -> None:
    session = renewing(live_session(expires_s=30), after(1))
    ready, expiring = session.authenticated(principal(expires_s=50), after(2))
    assert (said(ready)["op"], said(expiring)["op"]) == ("ready", "expiring")
    assert said(expiring)["expires_at"] == rfc3339(WALL + 50_000)


# --- the same credential, changed where it is stored -----------------------------------------------------------------


def test_a_credential_that_is_changed_in_the_database_counts_at_once() -> None:
    session = live_session()
    assert session.amend(principal(expires_s=1000), after(1)) == []
    assert session.deadline(after(1)) == MONO + 25
    [expiring] = session.amend(principal(expires_s=31), after(1))
    assert said(expiring) == {"op": "expiring", "expires_at": rfc3339(WALL + 31_000)}
    assert the_end(session.amend(principal(expires_s=1), after(1))) is Ending.TOKEN_EXPIRED


# --- the end of the credential, and the heartbeat --------------------------------------------------------------------


def test_expiring_and_the_end_come_when_they_are_due() -> None:
    session = live_session(expires_s=300)
    session.ponged(after(239))
    assert session.deadline(after(239)) == pytest.approx(MONO + 240)
    assert session.tick(after(239.999)) == []
    [expiring] = session.tick(after(240))
    assert said(expiring) == {"op": "expiring", "expires_at": rfc3339(WALL + 300_000)}
    session.ponged(after(290))
    assert session.deadline(after(290)) == pytest.approx(MONO + 300)
    assert session.tick(after(299.999)) == []
    assert the_end(session.tick(after(300))) is Ending.TOKEN_EXPIRED
    assert session.deadline(after(300)) == NEVER


def test_expiring_comes_at_once_when_less_is_left() -> None:
    effects = new_session().begin(principal(expires_s=20), [], after(1))
    assert [said(effect)["op"] for effect in effects[:2]] == ["ready", "expiring"]
    assert isinstance(effects[2], Subscribe)


def test_a_wall_clock_that_is_set_forward_ends_the_credential() -> None:
    session = live_session(expires_s=300)
    jumped = Instant(MONO + 1, WALL + 3_600_000)
    assert session.deadline(jumped) <= jumped.mono
    assert the_end(session.tick(jumped)) is Ending.TOKEN_EXPIRED


@pytest.mark.parametrize(("jitter", "heartbeat_s"), [(0.0, 22.5), (0.5, 25.0), (0.999, 27.495)])
def test_pings_are_spread_by_ten_percent(jitter: float, heartbeat_s: float) -> None:
    session = new_session(jitter=jitter)
    session.begin(principal(), [], after(0))
    assert session.deadline(after(0)) == pytest.approx(MONO + heartbeat_s)
    assert session.tick(after(heartbeat_s - 0.001)) == []
    assert session.tick(after(heartbeat_s)) == [SendPing()]
    session.ponged(after(heartbeat_s + 1))
    assert session.deadline(after(heartbeat_s + 1)) == pytest.approx(MONO + 2 * heartbeat_s + 1)


def test_a_client_that_does_not_answer_is_gone_after_the_pong_timeout() -> None:
    session = live_session()
    assert session.tick(after(25)) == [SendPing()]
    assert session.deadline(after(25)) == MONO + 35
    assert session.tick(after(34.999)) == []
    assert the_end(session.tick(after(35))) is Ending.TIMEOUT


@pytest.mark.parametrize(
    "sign",
    [
        lambda session, at: session.receive(frame(op="ping"), True, at),
        lambda session, at: session.control(at),
        lambda session, at: session.ponged(at),
    ],
    ids=["message", "ping", "pong"],
)
def test_any_sign_of_life_counts(sign: Callable[[Session, Instant], object]) -> None:
    session = live_session()
    assert session.tick(after(25)) == [SendPing()]
    sign(session, after(30))
    again = session.deadline(after(30)) - MONO
    assert session.tick(after(again)) == [SendPing()]
    assert the_end(session.tick(after(again + 10))) is Ending.TIMEOUT


# --- rate limit ------------------------------------------------------------------------------------------------------

FEW = LIMITS._replace(messages_per_minute=3, heartbeat_s=10_000.0)


def send(session: Session, count: int, at_s: float) -> list[Any]:
    """What becomes of that many pings: ``ok``, the error's ``retry_after_s``, or the ending."""
    outcomes: list[Any] = []
    for _ in range(count):
        [effect] = session.receive(frame(op="ping", id="1"), True, after(at_s))
        if isinstance(effect, Close):
            outcomes.append((effect.ending.code, said(effect)["retry_after_s"]))
            break
        outcomes.append("ok" if isinstance(effect, Report) else the_error([effect])["retry_after_s"])
    return outcomes


def test_messages_beyond_the_allowance_are_refused_until_the_window_ends() -> None:
    session = live_session(limits=FEW)
    assert send(session, 4, 10) == ["ok", "ok", "ok", 50.0]
    assert send(session, 1, 59.999) == [0.001]
    assert send(session, 1, 60) == ["ok"]


def test_twice_the_allowance_in_one_window_is_the_end() -> None:
    session = live_session(limits=FEW)
    assert send(session, 7, 20) == ["ok", "ok", "ok", 40.0, 40.0, 40.0, ("rate_limited", 40.0)]
    assert session.condition is Condition.ENDED


def test_a_second_window_in_a_row_is_the_end() -> None:
    session = live_session(limits=FEW)
    send(session, 4, 59)
    assert send(session, 4, 61) == ["ok", "ok", "ok", ("rate_limited", WINDOW_S)]


@pytest.mark.parametrize(("quiet_at", "again_at"), [(61, 121), (None, 121)])
def test_a_window_between_makes_good(quiet_at: float | None, again_at: float) -> None:
    session = live_session(limits=FEW)
    send(session, 4, 1)
    if quiet_at is not None:
        assert send(session, 3, quiet_at) == ["ok"] * 3
    assert send(session, 4, again_at) == ["ok", "ok", "ok", 60.0]


def test_bad_requests_and_control_frames_count_too() -> None:
    session = live_session(limits=FEW)
    assert the_error(session.receive(frame(op="fly"), True, after(1)))["code"] == "unknown_op"
    assert session.control(after(1)) == []
    assert send(session, 2, 1) == ["ok", 59.0]
    assert session.control(after(1)) == []
    assert session.control(after(1)) == []
    assert the_end(session.control(after(1))) is Ending.RATE_LIMITED


def test_a_flood_ends_a_greeting() -> None:
    session = new_session(limits=FEW)
    ends = [effects for _ in range(7) if (effects := session.control(after(1)))]
    assert the_end(ends[0]) is Ending.RATE_LIMITED
    assert len(ends) == 1


@given(gaps=st.lists(st.sampled_from([0.0, 0.5, 5.0, 19.9, 20.0, 30.0, 60.0, 61.0]), max_size=60))
def test_a_client_within_its_allowance_is_never_refused(gaps: list[float]) -> None:
    """At most three messages in any 60 s, wherever the window of the session begins."""
    session = live_session(limits=FEW)
    now, sent = 0.0, list[float]()
    for gap in gaps:
        now += gap
        if sum(1 for moment in sent if moment > now - 60) < 3:
            sent.append(now)
            assert send(session, 1, now) == ["ok"]


# --- ended -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", list(Ending))
def test_an_end_says_why_and_nothing_follows(ending: Ending) -> None:
    session = live_session(expires_s=300)
    [close] = session.end(ending, retry_after_s=2.5)
    assert said(close) == {
        "op": "ended",
        "code": ending.code,
        "message": ending.value.message,
        "reconnect": ending.reconnect.value,
        "retry_after_s": 2.5,
    }
    assert "retry_after_s" not in said(new_session().end(ending)[0])
    nothing_follows(session)


def test_a_client_that_went_away_is_sent_nothing() -> None:
    session = live_session()
    session.leave()
    nothing_follows(session)


def nothing_follows(session: Session) -> None:
    late = after(1000)
    assert session.condition is Condition.ENDED
    assert session.receive(frame(op="ping"), True, late) == []
    assert session.receive(b"x" * 5000, False, late) == []
    assert session.control(late) == []
    assert session.tick(late) == []
    assert session.authenticated(principal("eve"), late) == []
    assert session.rejected(AuthFailed("no"), late) == []
    assert session.end(Ending.REVOKED) == []
    assert session.amend(principal(expires_s=1), late) == []
    assert session.deadline(late) == NEVER


# --- names of documents ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "rev"),
    [
        ("self", "self", None),
        ("self@0123456789abcdef", "self", "0123456789abcdef"),
        ("user:a@b@0123456789abcdef", "user:a@b", "0123456789abcdef"),
        ("user:a@0123456789abcdef@0123456789abcdef", "user:a@0123456789abcdef", "0123456789abcdef"),
        ("user:a@0123456789abcde", "user:a@0123456789abcde", None),
        ("user:a@0123456789abcdef0", "user:a@0123456789abcdef0", None),
        ("user:a@0123456789ABCDEF", "user:a@0123456789ABCDEF", None),
        ("user:a@0123456789abcdeg", "user:a@0123456789abcdeg", None),
        ("user:a@0123456789abcdef@", "user:a@0123456789abcdef@", None),
        ("user:a@\u0660123456789abcdef", "user:a@\u0660123456789abcdef", None),
        ("0123456789abcdef", "0123456789abcdef", None),
        ("@0123456789abcdef", "", "0123456789abcdef"),
        ("@", "@", None),
    ],
)
def test_the_last_at_counts_and_only_before_sixteen_digits(text: str, name: str, rev: str | None) -> None:
    assert parse_document_name(text) == DocumentRequest(name, rev)


@given(name=st.text(max_size=30), rev=st.text("0123456789abcdef", min_size=16, max_size=16))
def test_any_name_may_stand_before_a_revision(name: str, rev: str) -> None:
    assert parse_document_name(f"{name}@{rev}") == DocumentRequest(name, rev)


def test_the_last_word_on_a_document_counts() -> None:
    names = parse_document_names(["b@" + "1" * 16, "a", "b@" + "2" * 16, "a"])
    assert names == (DocumentRequest("b", "2" * 16), DocumentRequest("a", None))


# --- any course of events --------------------------------------------------------------------------------------------


class Course(RuleBasedStateMachine):
    """In whatever order: a deadline is never late or idle, nothing follows the end, no credential outlives itself."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.announced: int | None = None
        self.pinged_at: float | None = None
        self.checking = False
        self.over = False

    @initialize(jitter=st.floats(0, 0.999), expires=st.none() | st.integers(1, 200), handshake=st.booleans())
    def connect(self, jitter: float, expires: int | None, handshake: bool) -> None:
        self.session = new_session(jitter=jitter)
        self.take(self.session.greet("n", "e", after(0)))
        if handshake:
            self.take(self.session.begin(principal(expires_s=expires), [], after(0)))

    def take(self, effects: list[Effect]) -> None:
        """Look at effects as a connection would."""
        assert not (self.over and effects), "something follows the end"
        for number, effect in enumerate(effects):
            if isinstance(effect, Close):
                assert number == len(effects) - 1, "something follows the end"
                assert self.session.condition is Condition.ENDED
                self.over = True
            elif isinstance(effect, Send) and (message := said(effect))["op"] in ("expiring", "ready"):
                self.credential_told(message)
            elif isinstance(effect, Authenticate):
                self.checking = True
            elif isinstance(effect, SendPing):
                self.pinged_at = self.now

    def credential_told(self, message: dict[str, Any]) -> None:
        assert self.session.principal is not None
        expires_at = self.session.principal.expires_at
        if message["op"] == "ready":
            self.announced = None
            assert message.get("expires_at") == (None if expires_at is None else rfc3339(expires_at))
        else:
            assert expires_at is not None
            assert self.announced != expires_at, "told twice"
            assert after(self.now).wall >= expires_at - 60_000
            self.announced = expires_at

    def tick(self) -> list[Effect]:
        effects = self.session.tick(after(self.now))
        self.take(effects)
        current = self.session.principal
        if current is not None and current.expires_at is not None and after(self.now).wall >= current.expires_at:
            assert self.session.condition is Condition.ENDED, "a credential outlived itself"
        elif current is not None and current.expires_at is not None and self.alive():
            due = after(self.now).wall >= current.expires_at - 60_000
            assert self.announced == (current.expires_at if due else None), "the coming end was not told in time"
        return effects

    def alive(self) -> bool:
        return not self.over and self.session.condition is not Condition.ENDED

    @precondition(alive)
    @rule()
    def wait_for_the_deadline(self) -> None:
        deadline = self.session.deadline(after(self.now)) - MONO
        assert deadline <= self.now + 28, "nothing is ever later than the next heartbeat"
        if deadline > self.now:
            early = (self.now + deadline) / 2
            if deadline - early > 0.002:
                assert self.session.tick(after(early)) == [], "a deadline was too late"
            self.now = deadline
        assert self.tick(), "a deadline came without anything to do"

    @precondition(alive)
    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tick()
        if self.pinged_at is not None and self.now >= self.pinged_at + 10 and self.alive():
            assert self.session.deadline(after(self.now)) > after(self.now).mono

    @precondition(alive)
    @rule(kind=st.sampled_from(["pong", "pong", "control", "ping", "fly", "watch", "sync"]))
    def hear(self, kind: str) -> None:
        self.pinged_at = None
        if kind == "pong":
            self.session.ponged(after(self.now))
        elif kind == "control":
            self.take(self.session.control(after(self.now)))
        else:
            extra: dict[str, Any] = {"watch": {"docs": ["self"]}, "sync": {"doc": "self"}}.get(kind, {})
            self.take(self.session.receive(frame(op=kind, id="1", **extra), True, after(self.now)))

    @precondition(alive)
    @rule(token=st.none() | st.just("t"))
    def present_a_token(self, token: str | None) -> None:
        self.pinged_at = None
        self.take(self.session.receive(frame(op="auth", id="1", token=token), True, after(self.now)))

    @precondition(lambda self: self.checking)
    @rule(
        verdict=st.sampled_from(["good", "good", "good", "other", "bad", "away"]),
        seconds=st.none() | st.floats(-5, 100),
    )
    def decide(self, verdict: str, seconds: float | None) -> None:
        self.checking = False
        expires_s = None if seconds is None else round(self.now + seconds, 3)
        if verdict in ("good", "other"):
            who = principal("ada" if verdict == "good" else "eve", expires_s=expires_s)
            self.take(self.session.authenticated(who, after(self.now)))
        else:
            error = AuthFailed("no") if verdict == "bad" else Unavailable("later")
            self.take(self.session.rejected(error, after(self.now)))

    @precondition(lambda self: self.alive() and self.session.condition is Condition.LIVE)
    @rule(seconds=st.none() | st.floats(-5, 100))
    def change_in_the_database(self, seconds: float | None) -> None:
        expires_s = None if seconds is None else round(self.now + seconds, 3)
        self.announced = None
        self.take(self.session.amend(principal(expires_s=expires_s), after(self.now)))

    @precondition(lambda self: self.now > 100)
    @rule(ending=st.sampled_from([Ending.REVOKED, Ending.GOING_AWAY]))
    def end(self, ending: Ending) -> None:
        self.take(self.session.end(ending))
        assert not self.alive()

    @precondition(lambda self: not self.alive())
    @rule()
    def nothing_follows(self) -> None:
        nothing_follows(self.session)

    @invariant()
    def is_somewhere(self) -> None:
        session = getattr(self, "session", None)
        if session is not None:
            assert (session.principal is not None) or session.condition is not Condition.LIVE


TestCourse = Course.TestCase
TestCourse.settings = settings(max_examples=200, stateful_step_count=25)
