"""Changes that others get ahead of: tried again, told at once, or given up."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from gateway.errors import PreconditionFailed, Unavailable
from gateway.web.turns import ATTEMPTS, Turns, is_pinned


def request(*if_match: str) -> Request:
    return Request({"type": "http", "headers": [(b"if-match", value.encode()) for value in if_match]})


class Attempt:
    """Others get ahead of it so many times."""

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.made = 0

    async def __call__(self) -> int:
        self.made += 1
        if self.made <= self.behind:
            raise PreconditionFailed("changed")
        return self.made


@pytest.mark.parametrize("behind", [0, 1, ATTEMPTS - 1])
@pytest.mark.parametrize("if_match", [(), ("*",), (" * ",)])
async def test_it_is_tried_again(behind: int, if_match: tuple[str, ...]) -> None:
    assert await Turns().change("user:ada", request(*if_match), Attempt(behind)) == behind + 1


async def test_whoever_never_gets_through_is_told_to_come_back() -> None:
    attempt = Attempt(10**9)
    with pytest.raises(Unavailable) as refused:
        await Turns().change("user:ada", request(), attempt)
    assert refused.value.retry_after_s == 1.0
    assert attempt.made == ATTEMPTS


@pytest.mark.parametrize("if_match", [('"a"',), ("",), ("*", '"a"'), ('W/"a"',)])
async def test_whoever_named_the_state_is_told_at_once(if_match: tuple[str, ...]) -> None:
    assert is_pinned(request(*if_match))
    attempt = Attempt(1)
    with pytest.raises(PreconditionFailed):
        await Turns().change("user:ada", request(*if_match), attempt)
    assert attempt.made == 1


async def test_changes_of_one_thing_take_turns_and_others_do_not_wait() -> None:
    turns, order = Turns(), list[str]()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        order.append("slow begins")
        entered.set()
        await leave.wait()
        order.append("slow ends")

    async def quick() -> None:
        order.append("quick")

    async def other() -> None:
        order.append("other")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(turns.change("user:ada", request(), slow))
        await entered.wait()
        tasks.create_task(turns.change("user:ada", request(), quick))
        await turns.change("user:grace", request(), other)
        leave.set()
    assert order == ["slow begins", "other", "slow ends", "quick"]
