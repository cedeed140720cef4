from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child
from gateway.bench.columns import read_columns
from gateway.bench.population import username
from gateway.bench.server import free_port
from tests.support.scripted_http import Asked, ScriptedHttp, Told

TOKENS = {"access_token": "a.b.c", "refresh_token": "gr_"}


@pytest.fixture
def logins(tmp_path: Path) -> Iterator[Child]:
    child = Child("gateway.bench.logins", str(tmp_path), directory=tmp_path)
    yield child
    child.close()


def log_in(child: Child, port: int, users: range) -> dict[str, Any]:
    return child.call("log_in", ports=[port], users=list(users), password="the password", connections=4, within_s=30)


def times(answer: dict[str, Any]) -> list[int]:
    return read_columns(Path(answer["times"]), 1)[0].tolist()


def test_everybody_logs_in_once_with_name_and_password(logins: Child) -> None:
    with ScriptedHttp(lambda _: Told(200, TOKENS)).serving() as script:
        before = time.monotonic_ns()
        answer = log_in(logins, script.port, range(10, 20))
    assert before < answer["started"] < answer["finished"] < time.monotonic_ns()
    assert (answer["refused"], answer["faults"]) == (0, {})
    assert len(taken := times(answer)) == 10
    assert 0 < min(taken) <= max(taken) <= answer["finished"] - answer["started"]
    assert {asked.path for asked in script.asked} == {"/auth/login"}
    assert sorted(asked.body["username"] for asked in script.asked) == [username(i) for i in range(10, 20)]
    assert {asked.body["password"] for asked in script.asked} == {"the password"}
    assert len({asked.peer for asked in script.asked}) <= 4


def test_a_refused_login_is_tried_again_and_its_time_goes_on(logins: Child) -> None:
    def answer(asked: Asked) -> Told:
        times_asked = sum(one.body == asked.body for one in script.asked)
        return Told(503, headers={"Retry-After": "1"}) if times_asked == 1 else Told(200, TOKENS)

    with ScriptedHttp(answer).serving() as script:
        told = log_in(logins, script.port, range(3))
    assert (told["refused"], told["faults"]) == (3, {})
    assert min(times(told)) > 1e9


def test_any_other_answer_is_a_fault(logins: Child) -> None:
    statuses = iter((200, 401, 429, 401))
    with ScriptedHttp(lambda _: Told(next(statuses), TOKENS)).serving() as script:
        told = log_in(logins, script.port, range(4))
    assert told["faults"] == {"logins were answered 401": 2, "logins were answered 429": 1}
    assert len(times(told)) == 1


def test_a_gateway_that_is_gone_breaks_the_run(logins: Child) -> None:
    with pytest.raises(BenchBroken, match="logins: ConnectionRefusedError"):
        log_in(logins, free_port(), range(2))


def test_whether_an_answer_is_there_can_be_asked_without_waiting(logins: Child) -> None:
    done: list[int] = []
    with ScriptedHttp(lambda _: Told(200, TOKENS)).serving() as script:
        logins.send("log_in", ports=[script.port], users=[1, 2], password="x", connections=1)
        deadline = time.monotonic() + 20
        while not logins.answered(done.append):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert logins.answered()
    assert done == [1, 2]
    assert len(times(logins.answer(within_s=0))) == 2
    assert not logins.answered()
