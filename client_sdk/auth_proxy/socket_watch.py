"""Open sockets end as soon as they would not be let in any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from client_sdk.auth_proxy.counters import Counters
from client_sdk.auth_proxy.decision import Decision
from client_sdk.auth_proxy.decision_cache import DecisionCache
from client_sdk.auth_proxy.facts import Want
from client_sdk.auth_proxy.sockets import Socket, Sockets

T = TypeVar("T")
AT_ONCE = 16
"""Questions for the sake of open sockets; the others are for requests."""
CHUNK = 500


class SocketWatch:
    """The sockets of an application, and what `cache` says of them; what it does not know is asked of `decide`, and
    `tend` does what else the cache leaves to be done.
    """

    def __init__(
        self,
        cache: DecisionCache,
        decide: Callable[[str], Awaitable[Decision]],
        tend: Callable[[], None],
        counters: Counters,
        *,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._cache = cache
        self._decide = decide
        self._tend = tend
        self._counters = counters
        self._clock = clock
        self._wall_ms = wall_ms
        self._sockets = Sockets()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._patience = asyncio.Semaphore(AT_ONCE)
        self._looking: asyncio.Task[None] | None = None
        self._look_again = False

    def __len__(self) -> int:
        return len(self._sockets)

    def of_user(self, user: str) -> list[Socket]:
        """Those of a user."""
        return self._sockets.of_user(user)

    def of_sessions(self, sessions: Iterable[str]) -> list[Socket]:
        """Those that one of these credentials opened."""
        return self._sockets.of_sessions(sessions)

    async def close(self) -> None:
        """Ask no more."""
        if tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def open(self, token: str, decision: Decision, on_end: Callable[[Decision], None]) -> Socket | None:
        """A socket was let in by this decision: `on_end` is called as soon as it would not be any more. None: users
        with a socket are too many for each of them to be watched.
        """
        user = str(decision.document.get("identity", {}).get("id", ""))
        if not self._cache.hold(user, self._clock()):
            self._counters.add("sockets_refused")
            return None
        socket = Socket(token, user, decision.session or "", on_end)
        self._sockets.add(socket)
        if decision.expires_at is not None:
            self._end_at(socket, decision.expires_at)
        self.recheck([socket])  # what came since the decision
        return socket

    def shut(self, socket: Socket) -> None:
        """The socket is gone."""
        socket.ended = True
        if socket.timer is not None:
            socket.timer.cancel()
        self._sockets.remove(socket)
        self._cache.release(socket.user)

    def _end_at(self, socket: Socket, expires_at: int) -> None:
        # Looked at again each hour, for clocks are set.
        wait_s = min(3600.0, max(0.0, (expires_at - self._wall_ms()) / 1000))

        def look() -> None:
            if self._wall_ms() < expires_at:
                self._end_at(socket, expires_at)
            else:
                self.recheck([socket])

        socket.timer = asyncio.get_running_loop().call_later(wait_s, look)

    def recheck(self, sockets: Iterable[Socket]) -> None:
        """End those that would not be let in any more."""
        for socket in sockets:
            outcome = self._cache.decide(socket.token, self._clock(), self._wall_ms(), impatient=True)
            if isinstance(outcome, Want):
                if not socket.asking:
                    socket.asking = True
                    self._spawn(self._ask_about(socket))
            elif not outcome.allowed:
                self._end(socket, outcome)
        self._tend()

    async def _ask_about(self, socket: Socket) -> None:
        try:
            async with self._patience:
                decision = await self._decide(socket.token)
        finally:
            socket.asking = False
        if not decision.allowed:
            self._end(socket, decision)

    def _end(self, socket: Socket, decision: Decision) -> None:
        if not socket.ended:
            self._counters.add("sockets_closed", decision.reason or "")
            socket.end(decision)

    def look_at_all(self) -> None:
        """Look at every socket: what came names none."""
        if self._looking is not None and not self._looking.done():
            self._look_again = True
            return
        self._looking = self._spawn(self.look())
        self._looking.add_done_callback(self._looked)

    def _looked(self, done: asyncio.Task[None]) -> None:
        if self._look_again and not done.cancelled():
            self._look_again = False
            self.look_at_all()

    async def look(self) -> None:
        """Recheck every socket, a few at a time."""
        sockets = self._sockets.all()
        for start in range(0, len(sockets), CHUNK):
            self.recheck(socket for socket in sockets[start : start + CHUNK] if not socket.ended)
            await asyncio.sleep(0)
