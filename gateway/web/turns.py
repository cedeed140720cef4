"""Changes that build on what was read: made one after the other here, and by compare-and-swap against all others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from starlette.requests import Request

from gateway.errors import PreconditionFailed, Unavailable
from gateway.web.answer import ConditionFalse

ATTEMPTS = 16
"""How often a change is tried again that somebody else got ahead of, before the client is told to come back."""

Result = TypeVar("Result")


class Turns:
    """Who is changing what in this process. Without turns, clients that change one row at once would make each other
    fail, all but one in every round.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def change(self, name: str, request: Request | None, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Let `attempt` read `name`, change it and write it, again for as long as others get ahead of it
        (`PreconditionFailed`). A client that named the state it means (``If-Match``) is told so at once, and so is one
        of whose conditions another is false (`ConditionFalse`); `request` is None where there are no entity tags.

        Raises `Unavailable` when others do not let it through, and whatever `attempt` raises.
        """
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            for _ in range(ATTEMPTS):
                try:
                    return await attempt()
                except PreconditionFailed as refused:
                    told = isinstance(refused, ConditionFalse)
                    if told or (request is not None and is_pinned(request)):
                        raise
        raise Unavailable("Others change it all the time; try again.", retry_after_s=1.0)


def is_pinned(request: Request) -> bool:
    """Whether the client names the state that it means to change: ``If-Match`` with anything but ``*``."""
    return any(value.strip() != "*" for value in request.headers.getlist("if-match"))
