"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

LEFTOVER_S = 1.0


class LoopEnded(RuntimeError):
    """The loop does not run: not yet, or not any more."""


class LoopThread:
    """Runs coroutines for other threads between `start` and `stop`.

    `call_timeout_s` bounds a call; None: it may take any time. `strict`: tasks that still run at the end are a mistake;
    without it they are cancelled.
    """

    def __init__(self, name: str, *, call_timeout_s: float | None = None, strict: bool = False) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._call_timeout_s = call_timeout_s
        self._strict = strict
        self._loop: asyncio.AbstractEventLoop | None = None  # while calls are taken
        self._gate = threading.Lock()  # held while a call is handed to the loop, and while that ends
        self._over = asyncio.Event()
        self._running = threading.Event()
        self._worker = threading.local()
        self._leftover: list[str] = []

    def start(self) -> None:
        """Start the thread, and return when its loop runs."""
        self._thread.start()
        self._running.wait()

    def stop(self, last: Coroutine[Any, Any, object] | None = None) -> None:
        """Take no more calls, run `last`, and end the loop and the thread. A second time does nothing.

        In a function that the loop runs by `asyncio.to_thread` the thread is not waited for: it waits for that
        function. Raises what `last` raises, and `RuntimeError` for tasks that run on if that is a mistake.
        """
        self._refuse_own_thread(last)
        with self._gate:
            loop, self._loop = self._loop, None
            ending = None if loop is None or last is None else asyncio.run_coroutine_threadsafe(last, loop)
        if loop is not None:
            try:
                if ending is not None:
                    ending.result()
            finally:
                loop.call_soon_threadsafe(self._over.set)
        elif last is not None:
            last.close()
        if self._thread.is_alive() and not hasattr(self._worker, "marked"):
            self._thread.join()
        if leftover := self._leftover:
            self._leftover = []
            raise RuntimeError(f"tasks were still running: {leftover}")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and return its result.

        Raises what it raises, TimeoutError, `LoopEnded`, and `RuntimeError` in the loop's own thread.
        """
        self._refuse_own_thread(work)
        with self._gate:
            if self._loop is None:
                work.close()
                raise LoopEnded("the loop does not run")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(self._call_timeout_s)
        except concurrent.futures.CancelledError:
            raise LoopEnded("the loop ended meanwhile") from None
        except BaseException:
            future.cancel()  # too late, or KeyboardInterrupt: nobody waits any more
            raise

    def _refuse_own_thread(self, work: Coroutine[Any, Any, object] | None) -> None:
        if threading.current_thread() is self._thread:
            if work is not None:
                work.close()
            raise RuntimeError("a callback must not make blocking calls")

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(initializer=self._mark_worker))
        self._loop = loop
        self._running.set()
        await self._over.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if self._strict and others:
            _, leftover = await asyncio.wait(others, timeout=LEFTOVER_S)
            self._leftover = [repr(task) for task in leftover]

    def _mark_worker(self) -> None:
        self._worker.marked = True
