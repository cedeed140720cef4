"""Previews that wait for their turn: how many, for whom, and of which plan."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from gateway.store.database import Statement
from gateway.store.plans import Plan
from gateway.web import previews
from gateway.web.previews import PlanPreview, Previews
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller
from tests.support.http_scope import LeavingClient
from tests.support.waiting import eventually

PATH = "/plans/gold/preview"


class Gate:
    """Lets previews be worked out one by one; which began, and which were given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = asyncio.Semaphore(0)
        self.began: list[Plan] = []
        self.given_up = 0
        worked_out = Previews.worked_out

        async def gated(route: Previews, before: Plan, after: Plan) -> PlanPreview:
            self.began.append(before)
            try:
                await self.opened.acquire()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
            return await worked_out(route, before, after)

        monkeypatch.setattr(Previews, "worked_out", gated)

    def open(self) -> None:
        for _ in range(100):
            self.opened.release()


@pytest.fixture
def editor(site: Site) -> ApiCaller:
    editor = ApiCaller(site, "u_grace", "plans.write")
    editor.done("POST", "/plans", {"id": "gold", "permissions": ["a"]}, status=201)
    return editor


@contextlib.asynccontextmanager
async def asking(site: Site) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=site.client.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


async def turns(count: int = 20) -> None:
    """Let whatever is ready go on."""
    for _ in range(count):
        await asyncio.sleep(0)


def run(site: Site, test: Callable[[], Awaitable[Any]]) -> Any:
    async def hurried() -> Any:
        async with asyncio.timeout(15):
            return await test()

    return site.call(hurried)


def test_one_is_worked_out_some_wait_and_more_are_sent_away(
    site: Site, editor: ApiCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        gate = Gate(monkeypatch)
        async with asking(site) as client:
            tasks: list[asyncio.Task[Any]] = []
            for _ in range(1 + previews.MAX_WAITING):
                tasks.append(asyncio.create_task(client.post(PATH, json={}, headers=editor.headers)))
                await turns()
            refused = await client.post(PATH, json={}, headers=editor.headers)
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert refused.headers["retry-after"] == "1"
            assert (len(gate.began), [task.done() for task in tasks]) == (1, [False] * len(tasks))
            gate.open()
            assert [(await task).status_code for task in tasks] == [200] * len(tasks)
            assert (await client.post(PATH, json={}, headers=editor.headers)).status_code == 200

    run(site, test)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = 'u_grace'", 401),
        ("UPDATE users SET status = 'disabled' WHERE id = 'u_grace'", 401),
        ("DELETE FROM user_permissions WHERE user_id = 'u_grace'", 403),
        ("DELETE FROM plans WHERE id = 'gold'", 404),
    ],
)
def test_whoever_waited_is_judged_again(
    site: Site, editor: ApiCaller, monkeypatch: pytest.MonkeyPatch, change: str, status: int
) -> None:
    admin = ApiCaller(site, "u_admin")

    async def test() -> int:
        gate = Gate(monkeypatch)
        async with asking(site) as client:
            first = asyncio.create_task(client.post(PATH, json={}, headers=admin.headers))
            await eventually(lambda: len(gate.began) == 1)
            waiting = asyncio.create_task(client.post(PATH, json={}, headers=editor.headers))
            await turns()
            assert not waiting.done()
            seq = (await site.node.database.write(Statement(change))).seq
            await eventually(lambda: site.node.hub.position >= seq)
            gate.open()
            assert (await first).status_code == 200
            return (await waiting).status_code

    assert run(site, test) == status


def test_the_plan_is_the_one_that_stands_when_the_turn_comes(
    site: Site, editor: ApiCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> tuple[list[frozenset[str]], list[str]]:
        gate = Gate(monkeypatch)
        async with asking(site) as client:
            first = asyncio.create_task(client.post(PATH, json={}, headers=editor.headers))
            await eventually(lambda: len(gate.began) == 1)
            waiting = asyncio.create_task(client.post(PATH, json={}, headers=editor.headers))
            await turns()
            changed = await client.patch("/plans/gold", json={"permissions": ["b"]}, headers=editor.headers)
            gate.open()
            etags = [(await first).headers["etag"], (await waiting).headers["etag"], changed.headers["etag"]]
            return [plan.permissions for plan in gate.began], etags

    permissions, (before, after, changed) = run(site, test)
    assert permissions == [{"a"}, {"b"}]
    assert before != after == changed


@pytest.mark.parametrize("waits", [False, True])
def test_for_who_left_nothing_is_worked_out(
    site: Site, editor: ApiCaller, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """Neither in its turn, nor before; and its place is free again."""

    async def test() -> None:
        gate = Gate(monkeypatch)
        clients = [LeavingClient(site.client.app, "POST", PATH, editor.headers, {}) for _ in range(2)]
        tasks = []
        for client in clients:
            tasks.append(asyncio.create_task(client.ask()))
            await turns()
        assert len(gate.began) == 1
        leaves, stays = (1, 0) if waits else (0, 1)
        clients[leaves].leave()
        await tasks[leaves]
        assert (clients[leaves].status, gate.given_up) == (499, int(not waits))
        gate.open()
        await tasks[stays]
        assert (clients[stays].status, len(gate.began)) == (200, 1 if waits else 2)
        # As many as ever find a place.
        async with asking(site) as client:
            asked = [client.post(PATH, json={}, headers=editor.headers) for _ in range(1 + previews.MAX_WAITING)]
            assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * len(asked)

    run(site, test)
