"""Those who want to know what happens: iterations and callbacks."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterable
from typing import TypeVar

from client_sdk.events import Change
from client_sdk.freshness import Freshness

logger = logging.getLogger("client_sdk")

T = TypeVar("T")


class Changes:
    """An asynchronous iterator over changes that never holds more than one for each document.

    A reader that is slower than the changes gets fewer and larger ones, always ending at the truth. The iteration ends
    when the channel is closed, and raises what stopped it for good.
    """

    def __init__(self, begin: Iterable[Change]) -> None:
        self._waiting = {change.doc: change for change in begin}
        self._wake = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, change: Change) -> None:
        """Add a change."""
        earlier = self._waiting.get(change.doc)
        self._waiting[change.doc] = change if earlier is None else merge(earlier, change)
        self._wake.set()

    def end(self, error: BaseException | None) -> None:
        """No change comes any more; what waits can still be read."""
        self._ended = True
        self._error = error
        self._wake.set()

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Change:
        while not self._waiting:
            if self._ended:
                raise self._error or StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.pop(next(iter(self._waiting)))


def merge(earlier: Change, later: Change) -> Change:
    """Two changes of a document in one."""
    kind = later.kind
    if kind == "update" and earlier.kind == "snapshot":
        kind = "snapshot"
    causes = tuple(dict.fromkeys(earlier.causes + later.causes))
    return later._replace(kind=kind, before=earlier.before, causes=causes)


class Listeners:
    """Everybody who listens to one channel. Iterations that nobody holds any more are forgotten by themselves."""

    def __init__(self) -> None:
        # No WeakSet: whoever drops an iteration may be another thread, which would change the set under its readers.
        self._readers: list[weakref.ref[Changes]] = []
        self._on_change: dict[object, Callable[[Change], object]] = {}
        self._on_freshness: dict[object, Callable[[Freshness], object]] = {}
        self._ended = False
        self._error: BaseException | None = None

    def read(self, begin: Iterable[Change]) -> Changes:
        """Begin an iteration with these changes."""
        reader = Changes(begin)
        if self._ended:
            reader.end(self._error)
        self._readers = [weakref.ref(held) for held in (*self._held(), reader)]
        return reader

    def on_change(self, callback: Callable[[Change], object]) -> Callable[[], None]:
        """Call back for every change until the result is called."""
        return _add(self._on_change, callback)

    def on_freshness(self, callback: Callable[[Freshness], object]) -> Callable[[], None]:
        """Call back for every other state of freshness until the result is called."""
        return _add(self._on_freshness, callback)

    def changed(self, change: Change) -> None:
        """Tell everybody of a change."""
        for reader in self._held():
            reader.put(change)
        _call(self._on_change, change)

    def freshness_changed(self, freshness: Freshness) -> None:
        """Tell everybody that another state of freshness began."""
        _call(self._on_freshness, freshness)

    def end(self, error: BaseException | None) -> None:
        """Nothing happens any more; iterations raise `error` unless it is None. The first word counts."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        for reader in self._held():
            reader.end(error)

    def _held(self) -> list[Changes]:
        return [reader for ref in self._readers if (reader := ref()) is not None]


def _add(callbacks: dict[object, Callable[[T], object]], callback: Callable[[T], object]) -> Callable[[], None]:
    key = object()
    callbacks[key] = callback

    def remove() -> None:
        callbacks.pop(key, None)

    return remove


def _call(callbacks: dict[object, Callable[[T], object]], news: T) -> None:
    for callback in list(callbacks.values()):
        try:
            callback(news)
        except Exception:
            logger.exception("a callback failed")
