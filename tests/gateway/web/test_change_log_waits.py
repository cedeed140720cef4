"""Requests that wait for the change log, where time passes by itself: what happens in which turn of the loop, and that
nothing is asked of the database meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from gateway.live.followers import Followers
from gateway.store.database import Row, Statement
from gateway.web.change_log import MAX_WAIT_S, ChangeLog, ChangeSearch
from tests.support.virtual_time import VirtualTimeLoop

AFTER = 7


class QuietLog:
    """A change log that stands still, and how often it was read; the position of the feed, and who waits for it."""

    def __init__(self) -> None:
        self.reads = 0
        self.seq = AFTER
        self.followers = Followers()
        self.hub = self.database = self

    @property
    def position(self) -> int:
        return self.seq

    async def read(self, *statements: Statement) -> list[list[Row]]:
        self.reads += 1
        news: list[Row] = [(seq, "user:u_ada", "profile", 5) for seq in range(AFTER + 1, self.seq + 1)]
        return [[("e", self.seq, 1)], news]

    def reached(self, seq: int) -> None:
        self.seq = seq
        self.followers.reached(seq)


class PushedInBetween(QuietLog):
    """The feed passes in the very next turn of the loop after somebody looked at where it stands."""

    @property
    def position(self) -> int:
        asyncio.get_running_loop().call_soon(self.reached, AFTER + 1)
        return self.seq


class Asking:
    """A request for what follows `AFTER`; how often its caller was judged anew."""

    def __init__(self) -> None:
        self.query = ChangeSearch(AFTER, wait_s=MAX_WAIT_S)
        self.messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.request = SimpleNamespace(receive=self.messages.get)
        self.renewed = 0

    async def renew(self) -> None:
        self.renewed += 1

    async def rights(self) -> Any:
        return SimpleNamespace(require_admin=lambda: None)

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    with closing(VirtualTimeLoop()) as loop:
        yield loop


def asked(log: QuietLog, asking: Asking) -> Coroutine[Any, Any, Any]:
    return ChangeLog(log).list(asking)  # type: ignore[arg-type]


def test_what_happens_right_after_the_look_is_not_missed(loop: VirtualTimeLoop) -> None:
    answer = loop.run_until_complete(asked(PushedInBetween(), Asking()))
    assert b'"seq":8' in answer.body
    assert loop.time() < 1


def test_while_nothing_happens_nothing_is_asked(loop: VirtualTimeLoop) -> None:
    """The feed's rounds about nothing, and nearly all of the time that a request may wait."""
    log = QuietLog()

    async def test() -> list[bytes]:
        before = len(asyncio.all_tasks())
        waiting = [asyncio.create_task(asked(log, Asking())) for _ in range(5)]
        for _ in range(MAX_WAIT_S * 10 - 1):
            await asyncio.sleep(0.1)
            log.reached(AFTER)
            assert len(asyncio.all_tasks()) <= before + 3 * 5
        assert (log.reads, len(log.followers)) == (0, 5)
        return [(await task).body for task in waiting]

    bodies = loop.run_until_complete(test())
    assert all(b'"items":[]' in body for body in bodies)
    assert (log.reads, len(log.followers)) == (5, 0)
    assert MAX_WAIT_S - 1 < loop.time() < MAX_WAIT_S + 1


@pytest.mark.parametrize("also", [lambda log: None, lambda log: log.reached(AFTER + 1)])
def test_for_who_left_nothing_is_read_and_nobody_is_judged(
    loop: VirtualTimeLoop, also: Callable[[QuietLog], None]
) -> None:
    """Also when something happens in the turn in which the client leaves."""
    log, asking = QuietLog(), Asking()

    async def test() -> None:
        waiting = asyncio.create_task(asked(log, asking))
        await asyncio.sleep(1)
        asking.leave()
        also(log)
        with pytest.raises(ClientDisconnect):
            await waiting

    loop.run_until_complete(test())
    assert (log.reads, asking.renewed, len(log.followers)) == (0, 0, 0)
    assert loop.time() < 2
