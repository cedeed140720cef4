"""Learns that somebody committed to a libSQL server: by the server's stream of changes, with polls as net.

Where the stream is not offered, polls alone: often while something happens, rarely when nothing does. A stream that is
open and says nothing while the polls find changes is as bad as none, and is opened again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from gateway.errors import StoreError
from gateway.store.bell import Bell
from gateway.store.http_streams import NotOffered

log = logging.getLogger(__name__)

Listen: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncIterator[None]]]

NET_S = 1.0
"""Between the polls while the stream is trusted."""

POLL_TIMEOUT_S = 0.5
"""A server that takes longer may be frozen: the follower is to find out."""

ACTIVE_S = 2.0
"""So long after a change it is polled at the full rate, where there is no stream."""

QUIET_FACTOR = 10
SILENT_S = 0.5
"""How much later than its commit an event may come before the stream counts as silent."""

BACKOFF_S = (0.05, 2.0)
NOT_OFFERED_S = 60.0
"""Between attempts to open a stream that was refused: a server may be upgraded."""

GAP_S = 0.004
"""Between two rings while events pour in: each look costs the server more than the rows that it finds."""

ECHOES_S = (0.003, 0.008, 0.02, 0.06, 0.12, 0.18, 0.25, 0.32, 0.4)
"""How long after the last event the bell is rung again: the event comes before the commit, a replica lags, and now and
then a commit that follows another one within this time has no event of its own."""

EARLY_STEP = 2
"""With this echo the primary is asked where it stands, so that a replica that is cut off is found out."""


class ServerWakeup(Bell):
    """`wait` returns when the database may hold something new.

    `listen` opens the stream of changes (None: there is none); `standing` tells where the change log stands;
    `poll_s` is the pause between polls while something happens.
    """

    def __init__(
        self,
        listen: Listen | None,
        standing: Callable[[], Awaitable[object]],
        *,
        poll_s: float,
        net_s: float = NET_S,
        not_offered_s: float = NOT_OFFERED_S,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._listen = listen
        self._standing = standing
        self._poll_s = poll_s
        self._net_s = net_s
        self._not_offered_s = not_offered_s
        self._echo: asyncio.TimerHandle | None = None
        self._rang_at = 0.0
        self._heard = 0
        self._active_until = 0.0
        self._trusted = self._silent = False
        self._early = asyncio.Event()
        self._calm_at = self._loop.time()
        self._poller = asyncio.create_task(self._poll())
        self._follower = asyncio.create_task(self._follow()) if listen is not None else None

    @property
    def streaming(self) -> bool:
        """Whether the stream of changes is open and has not been caught silent."""
        return self._trusted

    def calm_s(self) -> float:
        """Seconds since it was last known that nothing had been committed that had not rung."""
        return self._loop.time() - self._calm_at

    def committed(self) -> None:
        """This process committed."""
        self._event()

    async def close(self) -> None:
        """Stop; everybody who waits returns."""
        if self._echo is not None:
            self._echo.cancel()
        tasks = [task for task in (self._poller, self._follower) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.ring()

    # --- events ---

    def _event(self) -> None:
        """Ring now, unless it rang a moment ago, and a few times more while the commit may not be readable yet."""
        now = self._loop.time()
        self._active_until = now + ACTIVE_S
        if now - self._rang_at >= GAP_S:
            self._rang_at = now
            self.ring()
        self._echo_after(0)

    def _echo_after(self, step: int) -> None:
        if self._echo is not None:
            self._echo.cancel()
        pause_s = ECHOES_S[step] - (ECHOES_S[step - 1] if step else 0.0)
        self._echo = self._loop.call_later(pause_s, self._echoed, step)

    def _echoed(self, step: int) -> None:
        self._echo = None
        self.ring()
        if step == EARLY_STEP:
            self._early.set()
        if step + 1 < len(ECHOES_S):
            self._echo_after(step + 1)

    # --- the stream ---

    async def _follow(self) -> None:
        assert self._listen is not None
        least_s, most_s = BACKOFF_S
        backoff_s = least_s
        while True:
            pause_s = backoff_s * (0.5 + random.random() / 2)
            try:
                async with self._listen() as events:
                    self._trusted = not self._silent
                    self.ring()  # what was committed before it was open has not been announced
                    async for _ in events:
                        self._trusted, self._silent = True, False
                        backoff_s = least_s  # it does not end at once, as one behind a bad proxy may
                        self._heard += 1
                        self._event()
            except NotOffered as error:
                log.warning("changes are polled for: %s", error)
                pause_s = self._not_offered_s
            except StoreError as error:
                if self._trusted:
                    log.info("the stream of changes ended: %s", error)
            except Exception:
                log.exception("the stream of changes failed")
            self._trusted = False
            self.ring()
            await asyncio.sleep(pause_s)
            backoff_s = min(most_s, backoff_s * 2)

    # --- the polls ---

    async def _poll(self) -> None:
        while True:
            try:
                await self._look_on()
            except Exception:  # nothing else would notice a silent stream, or that a replica lags
                log.exception("looking for changes failed")
                self.ring()

    async def _look_on(self) -> None:
        """Look again and again. An event may come before its change can be read, or a little after: it counts for two
        looks."""
        seen: object = None
        heard = earlier = self._heard
        while True:
            trusted = self._trusted
            await self._until_next_look()
            earlier, heard, asked_at = heard, self._heard, self._loop.time()
            try:
                async with asyncio.timeout(POLL_TIMEOUT_S):
                    standing = await self._standing()
            except (StoreError, TimeoutError):
                self.ring()  # the follower meets the failure itself
                continue
            if standing == seen:
                self._calm_at = asked_at
            if standing != seen and seen is not None:
                self.ring()
                if not trusted:
                    self._active_until = self._loop.time() + ACTIVE_S
                elif earlier == self._heard:
                    await self._suspect(earlier)
            seen = standing

    async def _suspect(self, heard: int) -> None:
        """There was a change of which the stream said nothing: open it again, unless it only was slower."""
        await asyncio.sleep(SILENT_S)
        if self._trusted and heard == self._heard and self._follower is not None:
            log.warning("the stream of changes is silent although there are changes: it is opened again")
            self._trusted, self._silent = False, True
            self._follower.cancel()
            self._follower = asyncio.create_task(self._follow())

    async def _until_next_look(self) -> None:
        """For a while, or until an event's change should be there to be seen: a replica may not show it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause()):
                await self._early.wait()
        self._early.clear()

    def _pause(self) -> float:
        if self._trusted:
            return self._net_s
        quiet = self._loop.time() > self._active_until
        return self._poll_s * (QUIET_FACTOR if quiet else 1)
