"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CALL_TIMEOUT_S = 30.0
LEFTOVER_S = 1.0


class LoopThread:
    """Runs coroutines for other threads between `start` and `stop`."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._running = threading.Event()
        self._leftover: list[str] = []

    def start(self) -> None:
        """Start the thread, and return when its loop runs."""
        self._thread.start()
        self._running.wait()

    def stop(self) -> None:
        """End the loop and the thread. Raises `RuntimeError` for tasks that run on although nobody waits for them."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        if self._leftover:
            raise RuntimeError(f"tasks were still running: {self._leftover}")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and return its result. Raises what it raises, and TimeoutError after 30 s."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._running.set()
        await self._over.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, leftover = await asyncio.wait(others, timeout=LEFTOVER_S)
            self._leftover = [repr(task) for task in leftover]
