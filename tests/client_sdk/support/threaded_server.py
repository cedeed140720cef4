"""The scripted gateway in a thread of its own, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.client_sdk.support.scripted_server import ScriptedServer

T = TypeVar("T")


class ThreadedServer:
    """`server` belongs to the thread's loop: use `call` for its coroutines."""

    def __init__(self) -> None:
        self.server = ScriptedServer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self.server.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.call(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, number: int = 1) -> None:
        """Cut the client's connection of this number."""
        peer = self.call(self.server.peer(number))
        self._loop.call_soon_threadsafe(peer.cut)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
