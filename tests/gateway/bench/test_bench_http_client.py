from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway.bench.http_client import SOURCES, HttpClient
from gateway.bench.server import free_port
from tests.support.scripted_http import Asked, ScriptedHttp, Told


@pytest.fixture
def script() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(lambda asked: Told(200, {"path": asked.path, "said": asked.body})).serving() as script:
        yield script


async def test_an_answer_has_status_and_body(script: ScriptedHttp) -> None:
    client = HttpClient([script.port], 1)
    answer = await client.post("/there", {"word": "ü"})
    assert (answer.status, answer.retry_after_s) == (200, 0)
    assert answer.json() == {"path": "/there", "said": {"word": "ü"}}
    client.close()


async def test_a_connection_is_used_again(script: ScriptedHttp) -> None:
    client = HttpClient([script.port], 1)
    for turn in range(3):
        assert (await client.post("/", {"turn": turn})).json()["said"] == {"turn": turn}
    assert len({asked.peer for asked in script.asked}) == 1
    client.close()


async def test_requests_beyond_the_connections_wait(script: ScriptedHttp) -> None:
    lock, present, most = threading.Lock(), 0, 0
    both = threading.Barrier(2, timeout=10)

    def answer(_: Asked) -> Told:
        nonlocal present, most
        with lock:
            present += 1
            most = max(most, present)
        both.wait()
        with lock:
            present -= 1
        both.wait()
        return Told(200)

    script.answer = answer
    client = HttpClient([script.port], 2)
    answers = await asyncio.gather(*(client.post("/", {"n": n}) for n in range(6)))
    assert [one.status for one in answers] == [200] * 6
    assert most == 2
    assert len({asked.peer for asked in script.asked}) == 2
    client.close()


async def test_connections_come_from_several_addresses_and_go_to_all_nodes(script: ScriptedHttp) -> None:
    everybody = threading.Barrier(2 * SOURCES, timeout=10)

    def answer(_: Asked) -> Told:
        everybody.wait()
        return Told(200)

    script.answer = answer
    with ScriptedHttp(answer).serving() as other:
        client = HttpClient([script.port, other.port], 2 * SOURCES)
        await asyncio.gather(*(client.post("/", {}) for _ in range(2 * SOURCES)))
        assert len(script.asked) == len(other.asked) == SOURCES
        assert len({asked.peer[0] for asked in script.asked + other.asked}) == SOURCES
        client.close()


@pytest.mark.parametrize("announced", [True, False])
async def test_a_connection_that_the_server_closed_is_made_again(script: ScriptedHttp, announced: bool) -> None:
    if announced:
        script.answer = lambda _: Told(200, headers={"Connection": "close"})
    script.closes = True
    client = HttpClient([script.port], 1)
    for _ in range(3):
        assert (await client.post("/", {})).status == 200
    assert len({asked.peer for asked in script.asked}) == 3
    client.close()


async def test_a_refusal_is_tried_again_after_the_time_it_names(script: ScriptedHttp) -> None:
    script.answer = lambda _: Told(200) if len(script.asked) > 2 else Told(503, headers={"Retry-After": "0"})
    client = HttpClient([script.port], 1)
    answer, refused = await client.served("/", {"same": True})
    assert (answer.status, refused) == (200, 2)
    assert [asked.body for asked in script.asked] == [{"same": True}] * 3
    client.close()


async def test_a_refusal_for_longer_than_anybody_waits_is_the_answer(script: ScriptedHttp) -> None:
    script.answer = lambda _: Told(503, headers={"Retry-After": "3600"})
    client = HttpClient([script.port], 1)
    answer, refused = await client.served("/", {})
    assert (answer.status, answer.retry_after_s, refused) == (503, 3600, 0)
    client.close()


async def test_other_failures_are_not_tried_again(script: ScriptedHttp) -> None:
    script.answer = lambda _: Told(401, {"code": "auth_failed"})
    client = HttpClient([script.port], 1)
    answer, refused = await client.served("/", {})
    assert (answer.status, refused, len(script.asked)) == (401, 0, 1)
    client.close()


async def test_nobody_there_is_an_error() -> None:
    client = HttpClient([free_port()], 1)
    with pytest.raises(OSError, match=r"refused|failed"):
        await client.post("/", {})
