"""The load generator's renewals against a scripted server of both kinds: HTTP for tokens, the channel for sessions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from gateway.bench.board import create_board
from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child
from gateway.bench.fleet import Fleet, Renewed
from gateway.core.clock import rfc3339
from gateway.core.document import canonical, revision
from tests.support.scripted_http import Asked, ScriptedHttp, Told

USERS = 6
REV = revision(canonical({}))
Answer = Callable[[int], dict[str, Any]]


class Gateway:
    """Access tokens are ``access-INDEX-GENERATION``, refresh tokens likewise; `answers` says what an `auth` gets."""

    def __init__(self) -> None:
        self.port = 0
        self.opened_with: list[str] = []
        self.renewed_with: list[str] = []
        self.answer: Answer | None = None
        self.http = ScriptedHttp(self.exchange)
        self._generations = [0] * USERS

    def exchange(self, asked: Asked) -> Told:
        word, index, generation = asked.body["refresh_token"].split("-")
        now = self._generations[int(index)]
        if asked.path != "/auth/refresh" or word != "refresh" or int(generation) != now:
            return Told(401)
        self._generations[int(index)] = now + 1
        return Told(200, {"access_token": f"access-{index}-{now}", "refresh_token": f"refresh-{index}-{now + 1}"})

    def channel(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        token = connection.request.headers["Authorization"].removeprefix("Bearer ")
        self.opened_with.append(token)
        _, index, generation = token.split("-")
        say(connection, ready(int(index), int(generation)))
        say(connection, {"op": "snapshot", "doc": "self", "rev": REV, "seq": 1, "data": {}})
        try:
            for text in connection:
                message = json.loads(text)
                assert message["op"] == "auth"
                self.renewed_with.append(message["token"])
                if self.answer is None:
                    say(connection, ready(int(index), int(message["token"].rpartition("-")[2])))
                elif answer := self.answer(int(index)):
                    say(connection, answer)
                else:
                    connection.close()
        except ConnectionClosed:
            pass


def ready(index: int, generation: int, *, session: str = "") -> dict[str, Any]:
    ends = rfc3339(1_800_000_000_000 + generation * 1000)
    return {"op": "ready", "session": session or f"s{index}", "principal": f"user:u{index}", "expires_at": ends}


def say(connection: ServerConnection, message: dict[str, Any]) -> None:
    connection.send(json.dumps(message, separators=(",", ":")))


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    scripted = Gateway()
    with scripted.http.serving(), serve(scripted.channel, "127.0.0.1", 0, compression=None, close_timeout=1) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        scripted.port = server.socket.getsockname()[1]
        yield scripted
        server.shutdown()
        thread.join(10)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "tokens").write_text("\n".join("api" for _ in range(USERS)))
    create_board(tmp_path / "board", 2)
    paths = (str(tmp_path), str(tmp_path / "tokens"), str(tmp_path / "board"))
    loads = [Child("gateway.bench.load", *paths, str(slot), directory=tmp_path) for slot in range(2)]
    yield Fleet(loads, concurrency=8)
    for load in loads:
        load.close()


@pytest.fixture
def refresh_tokens(tmp_path: Path) -> str:
    path = tmp_path / "refresh-tokens"
    path.write_text("\n".join(f"refresh-{index}-0" for index in range(USERS)))
    return str(path)


@pytest.fixture
def opened(fleet: Fleet, gateway: Gateway, refresh_tokens: str) -> Fleet:
    fleet.exchange([gateway.http.port], refresh_tokens, range(USERS))
    fleet.open("gateway", [gateway.port], range(USERS))
    return fleet


def renewed(fleet: Fleet, seconds: float = 0.1) -> Renewed:
    fleet.begin_renewals(range(USERS), seconds)
    return fleet.end_renewals(40)


def test_sessions_are_opened_with_the_tokens_that_refresh_tokens_were_exchanged_for(
    opened: Fleet, gateway: Gateway
) -> None:
    assert sorted(gateway.opened_with) == [f"access-{index}-0" for index in range(USERS)]
    assert opened.collect().faults == []


def test_every_session_is_renewed_once_with_a_token_of_its_own(opened: Fleet, gateway: Gateway) -> None:
    result = renewed(opened)
    assert sorted(gateway.renewed_with) == [f"access-{index}-1" for index in range(USERS)]
    assert len(result.renewals) == len(result.refreshes) == USERS
    assert 0 < max(result.refreshes) < 10e9
    assert all(whole > part for whole, part in zip(result.renewals, result.refreshes, strict=True))
    assert result.refused == 0
    assert len(renewed(opened).renewals) == USERS
    assert opened.collect().faults == []


def test_no_renewal_is_made_before_it_is_due(opened: Fleet, gateway: Gateway) -> None:
    arrived: list[float] = []

    def note(index: int) -> dict[str, Any]:
        arrived.append(time.monotonic())
        return ready(index, 1)

    gateway.answer = note
    started = time.monotonic()
    renewed(opened, seconds=1.5)
    # Each of two load generators has three sessions, due at 0, 0.5 and 1 s.
    due = (0, 0, 0.5, 0.5, 1, 1)
    assert all(moment - started >= earliest for moment, earliest in zip(sorted(arrived), due, strict=True))


def test_a_refused_exchange_is_made_later(opened: Fleet, gateway: Gateway) -> None:
    exchange, refusals = gateway.exchange, [Told(503, headers={"Retry-After": "0"})] * 3
    gateway.http.answer = lambda asked: refusals.pop() if refusals else exchange(asked)
    result = renewed(opened)
    assert (len(result.renewals), result.refused) == (USERS, 3)
    assert opened.collect().faults == []


def test_a_refresh_token_that_is_not_taken_is_a_fault(opened: Fleet, gateway: Gateway) -> None:
    gateway.http.answer = lambda _: Told(401)
    assert renewed(opened).renewals == []
    assert opened.collect().faults == [f"{USERS} refresh tokens were answered 401"]


def test_a_refresh_token_that_is_not_taken_at_the_beginning_breaks_the_run(
    fleet: Fleet, gateway: Gateway, refresh_tokens: str
) -> None:
    gateway.http.answer = lambda _: Told(401)
    with pytest.raises(BenchBroken, match="the refresh token of user 0 was answered 401"):
        fleet.exchange([gateway.http.port], refresh_tokens, range(1))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (lambda index: ready(index, 1, session="another"), f"{USERS} renewals made another session"),
        (lambda index: ready(index, 0), f"{USERS} renewals did not move the session's end"),
        (lambda _: {"op": "error", "code": "auth_failed", "message": ""}, f"{USERS} error messages"),
        (lambda _: {}, f"{USERS} connections lost"),
    ],
    ids=["session", "end", "error", "closed"],
)
def test_what_does_not_renew_a_session_is_a_fault(opened: Fleet, gateway: Gateway, answer: Answer, fault: str) -> None:
    gateway.answer = answer
    assert renewed(opened).renewals == []
    assert opened.collect().faults == [fault]


def test_a_session_that_is_gone_is_not_renewed(opened: Fleet, gateway: Gateway) -> None:
    gateway.answer = lambda _: {}
    renewed(opened)
    opened.collect()
    gateway.renewed_with.clear()
    assert renewed(opened).renewals == []
    assert gateway.renewed_with == []
