"""The change log over HTTP: what is there, and what is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from gateway.live import followers
from gateway.store.database import Statement
from tests.gateway.web.conftest import Json, Site
from tests.support.api_caller import ApiCaller
from tests.support.http_scope import LeavingClient
from tests.support.waiting import eventually

RENAME = "UPDATE users SET name = name || '+' WHERE id = 'u_ada'"
LONG_S = 25


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


def newest(admin: ApiCaller) -> int:
    seq: int = admin.done("GET", "/admin/changes?limit=1")["next"]
    return seq


def seqs(answered: Json) -> list[int]:
    return [row["seq"] for row in answered["items"]]


def test_a_row_says_what_changed_and_why(site: Site, admin: ApiCaller) -> None:
    before = newest(admin)
    seq = site.run(RENAME)
    answered = admin.done("GET", f"/admin/changes?after={before}")
    [row] = answered["items"]
    assert row == {"seq": seq, "doc": "user:u_ada", "cause": "profile", "at": row["at"]}
    assert row["at"].endswith("Z")
    assert answered == {"items": [row], "next": seq, "missed": False, "epoch": site.node.hub.epoch}


def test_without_a_position_the_newest_are_told(site: Site, admin: ApiCaller) -> None:
    last = [site.run(RENAME) for _ in range(7)]
    assert seqs(admin.done("GET", "/admin/changes?limit=5")) == last[-5:]
    assert seqs(admin.done("GET", "/admin/changes?limit=5&wait_s=25")) == last[-5:]


def test_all_is_told_once_however_it_is_cut(site: Site, admin: ApiCaller) -> None:
    after = newest(admin)
    made = [site.run(RENAME) for _ in range(11)]
    told: list[int] = []
    for limit in (1, 3, 200, 1):
        answered = admin.done("GET", f"/admin/changes?after={after}&limit={limit}")
        told += seqs(answered)
        after = answered["next"]
    assert told == made
    assert after == made[-1]


def test_what_is_gone_is_said_to_be_missed(site: Site, admin: ApiCaller) -> None:
    first = newest(admin)
    last = [site.run(RENAME) for _ in range(3)][-1]
    site.run("DELETE FROM change_log WHERE seq <= ?", first + 1)
    gone, there = (admin.done("GET", f"/admin/changes?after={after}") for after in (first, first + 1))
    assert (gone["missed"], seqs(gone)) == (True, [first + 2, first + 3])
    assert (there["missed"], seqs(there)) == (False, [first + 2, first + 3])
    beyond = admin.done("GET", f"/admin/changes?after={last + 100}")
    assert beyond | {"epoch": ""} == {"items": [], "next": last, "missed": True, "epoch": ""}


def test_a_document_that_nobody_can_name_is_shown_all_the_same(site: Site, admin: ApiCaller) -> None:
    before = newest(admin)
    site.run("INSERT INTO change_log (doc, cause, at) VALUES (CAST(x'757365723aff' AS TEXT), 'profile', 5)")
    assert [row["doc"] for row in admin.done("GET", f"/admin/changes?after={before}")["items"]] == ["user:\ufffd"]


@pytest.mark.parametrize(
    "query",
    [
        *("after=-1", "after=x", "after=1.5", "after=", "limit=0", "limit=201", "after=9007199254740993"),
        *("wait_s=-1", "wait_s=26", "wait_s=nan", "wait_s=inf", "wait_s=x", "after=1&after=2"),
    ],
)
def test_what_can_not_be_meant_is_a_bad_request(admin: ApiCaller, query: str) -> None:
    assert admin.refused(400, "GET", f"/admin/changes?{query}")["code"] == "bad_request"


@pytest.mark.parametrize("path", ["/admin/changes", "/admin/nodes", "/admin/sessions", "/admin/metrics"])
def test_it_is_for_administrators(site: Site, path: str) -> None:
    every = ("users.read", "users.write", "plans.write", "roles.write", "orgs.write", "orgs.read")
    ApiCaller(site, "u_ada", *every).refused(403, "GET", path)
    ApiCaller(site, "u_admin", scopes={"permissions": list(every)}).refused(403, "GET", path)
    assert site.client.get(path).status_code == 401
    assert ApiCaller(site, "u_admin")("GET", path).status_code == 200


# --- waiting ---


@contextlib.asynccontextmanager
async def waiting(
    site: Site, admin: ApiCaller, after: int, count: int = 1
) -> AsyncIterator[list[asyncio.Task[httpx2.Response]]]:
    """So many requests that wait for something behind `after`."""
    transport = httpx2.ASGITransport(app=site.client.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver", headers=admin.headers) as client:
        path, before = f"/admin/changes?after={after}&wait_s={LONG_S}", len(site.node.hub.followers)
        tasks = [asyncio.create_task(client.get(path, timeout=None)) for _ in range(count)]
        await eventually(lambda: len(site.node.hub.followers) == before + count)
        yield tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(site: Site, test: Callable[[], Awaitable[Any]]) -> Any:
    """On the application's event loop, well within the time that a request may wait."""

    async def hurried() -> Any:
        async with asyncio.timeout(LONG_S / 2):
            return await test()

    return site.call(hurried)


def test_who_waits_is_answered_when_something_happens(site: Site, admin: ApiCaller) -> None:
    after = newest(admin)

    async def test() -> tuple[int, list[Json]]:
        async with waiting(site, admin, after, 3) as tasks:
            seq = (await site.node.database.write(Statement(RENAME))).seq
            return seq, [(await task).json() for task in tasks]

    seq, answers = run(site, test)
    assert [seqs(answer) for answer in answers] == [[seq]] * 3
    assert len(site.node.hub.followers) == 0


def test_the_time_passes_without_a_change(site: Site, admin: ApiCaller) -> None:
    after, began = newest(admin), time.monotonic()
    answered = admin.done("GET", f"/admin/changes?after={after}&wait_s=0.3")
    assert (answered["items"], answered["next"], answered["missed"]) == ([], after, False)
    assert 0.25 < time.monotonic() - began < LONG_S / 2


def test_nobody_waits_for_what_is_there(site: Site, admin: ApiCaller) -> None:
    after = newest(admin)
    seq = site.run(RENAME)
    assert seqs(admin.done("GET", f"/admin/changes?after={after}&wait_s={LONG_S}")) == [seq]


def test_a_drain_answers_all_who_wait_and_lets_nobody_wait(site: Site, admin: ApiCaller) -> None:
    """Who follows `next` would ask without end if it were answered at once each time."""
    seq = site.run(RENAME)
    after = newest(admin)

    async def test() -> list[Json]:
        async with waiting(site, admin, after, 2) as tasks:
            await site.node.drain(5.0)
            return [(await task).json() for task in tasks]

    assert [answer["items"] for answer in run(site, test)] == [[], []]
    refused = admin("GET", f"/admin/changes?after={after}&wait_s={LONG_S}")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"] == "1"
    assert admin.done("GET", f"/admin/changes?after={after}")["items"] == []
    assert seqs(admin.done("GET", f"/admin/changes?after={seq - 1}&wait_s={LONG_S}")) == [seq]


def test_no_more_than_so_many_wait(site: Site, admin: ApiCaller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "MAX_WAITING", 2)
    after = newest(admin)

    async def test() -> None:
        async with waiting(site, admin, after, 2):
            transport = httpx2.ASGITransport(app=site.client.app)
            client = httpx2.AsyncClient(transport=transport, base_url="http://testserver", headers=admin.headers)
            refused = await client.get(f"/admin/changes?after={after}&wait_s=5")
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert refused.headers["retry-after"] == "1"
            assert (await client.get(f"/admin/changes?after={after}")).status_code == 200
            await client.aclose()

    run(site, test)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = 'u_admin'", 401),
        ("DELETE FROM api_tokens WHERE user_id = 'u_admin'", 401),
        ("UPDATE users SET is_admin = 0 WHERE id = 'u_admin'", 403),
        ("UPDATE users SET status = 'disabled' WHERE id = 'u_admin'", 401),
    ],
)
def test_who_is_no_administrator_any_more_is_told_nothing(
    site: Site, admin: ApiCaller, change: str, status: int
) -> None:
    """Neither by the change that took the right, nor by one that comes later."""
    after = newest(admin)

    async def test() -> tuple[int, str]:
        async with waiting(site, admin, after) as [task]:
            await site.node.database.write(Statement(change))
            answer = await task
            return answer.status_code, answer.text

    answered, text = run(site, test)
    assert answered == status
    assert "user:" not in text


def test_a_client_that_left_is_forgotten_and_counted_as_such(site: Site, admin: ApiCaller) -> None:
    after = newest(admin)

    async def test() -> int:
        client = LeavingClient(site.client.app, "GET", f"/admin/changes?after={after}&wait_s={LONG_S}", admin.headers)
        task = asyncio.create_task(client.ask())
        await eventually(lambda: len(site.node.hub.followers) == 1)
        await asyncio.sleep(0)
        assert not task.done()
        client.leave()
        await task
        assert len(site.node.hub.followers) == 0
        return client.status

    assert run(site, test) == 499
    counted = 'gateway_http_request_seconds_count{route="/admin/changes",status="499"} 1.0'
    assert counted in site.node.metrics.exposition().decode()
