"""The instance's channel as an `AuthProxy` uses it: revocations and keys always, users as they are asked for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from client_sdk.channel import Channel
from client_sdk.clock import Timer
from client_sdk.config import ServerConfig, channel_url
from client_sdk.errors import AuthFailed, ChannelError, Disconnected, Forbidden, NotFound
from client_sdk.freshness import Freshness, FreshnessState
from client_sdk.instance_key import InstanceKeys
from client_sdk.options import SessionOptions
from client_sdk.replica import Held
from client_sdk.session import Condition

BATCH_BYTES = 12_000
"""Names of documents asked for in one message; the gateway takes 16 KiB."""
BURST = 100
PER_S = 100.0
"""Messages: half of what the gateway takes from an instance."""

OPTIONS: SessionOptions = {
    "watch": ("revocations", "keys"),
    # A copy is a patch on a copy, each named by its revision, and the heartbeat compares them all; to hash a list of
    # ten thousand revocations whenever there is one more would be dear.
    "verify": False,
    # There are few instances, and what they answer while they are away gets old: they come back soon.
    "backoff_base_s": 0.1,
    "backoff_cap_s": 0.4,
    # A network that swallows everything is noticed by this alone, and until then old answers pass for live ones.
    "ping_interval_s": 10.0,
    "pong_timeout_s": 8.0,
    "connect_timeout_s": 3.0,
    "request_timeout_s": 5.0,
}


class Pace:
    """At most `burst` at once, and `per_s` a second from then on."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._at = 0.0

    def wait_s(self, now: float) -> float:
        """Take one; how long to wait before it may be used."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        self._left -= 1
        return max(0.0, -self._left / self._per_s)


class Link(Channel):
    """A channel that watches users in batches. It is a `World` for a cache."""

    def __init__(
        self, server: str | ServerConfig | None, keys: InstanceKeys, *, ssl: ssl.SSLContext | None = None, **more: Any
    ) -> None:
        super().__init__(server, keys, ssl=ssl, **{**OPTIONS, **more})
        self.address = channel_url(server).partition("?")[0]
        self._pace = Pace(BURST, PER_S)
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._asked: set[str] = set()  # those of them that the gateway was asked for
        self._unwanted: set[str] = set()
        self._flushing: asyncio.Task[None] | None = None
        self.dropping: set[str] = set()
        """What this client does not watch any more by its own will."""
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._word = asyncio.Event()
        self._patience: Timer | None = None
        self._batches: set[asyncio.Task[None]] = set()
        self._session.replica.on_settled = self._settled
        self._runner.on_trouble = self._troubled
        self.on_trouble: Callable[[ChannelError], object] = _ignore
        """Called with every reason for which there is no session, as soon as there is none."""
        self.on_freshness(self._freshness_changed)

    def start(self) -> None:
        """Connect, and go on without waiting."""
        opened = self._runner.start()
        opened.add_done_callback(lambda done: done.cancelled() or done.exception())
        opened.add_done_callback(lambda done: self._word.set())
        clock = self._runner.clock
        self._patience = clock.call_at(clock.time() + self._session.options.connect_timeout_s, self._word.set)

    def _troubled(self, error: ChannelError) -> None:
        self._word.set()
        if not self.live:
            self.on_trouble(error)

    async def first_word(self) -> None:
        """Wait until the first connection is there, with what is always watched, or failed, or takes too long."""
        if self._runner.opened is not None:
            await self._word.wait()

    # --- what is held ---

    @property
    def live(self) -> bool:
        """Whether there is a session."""
        return self._session.condition is Condition.LIVE

    @property
    def ended(self) -> bool:
        """Whether the gateway does not take this instance any more."""
        return self._runner.ended

    @property
    def kid(self) -> str:
        """The id of the key that signed the last handshake."""
        return self._session.token or ""

    @property
    def refused(self) -> bool:
        """Whether the gateway answers, and takes this instance for none of its own."""
        return self.ended or (not self.live and isinstance(self.trouble, AuthFailed | Forbidden))

    def known_at(self, now: float) -> float | None:
        """Until when what is held exactly was known to be true."""
        return self._session.known_at(now)

    @property
    def copies(self) -> Mapping[str, Held]:
        """Every document that is watched."""
        return self._session.replica.copies

    def held(self, doc: str) -> Held | None:
        """A document that is watched."""
        return self._session.replica.get(doc)

    def is_exact(self, doc: str) -> bool:
        """Whether a document is watched, has come, and is as the gateway has it."""
        held = self.held(doc)
        return held is not None and held.exact

    # --- users ---

    async def exact(self, docs: Iterable[str]) -> None:
        """Wait until these documents are held exactly, watching those that are not. Raises `NotFound` for one that
        does not exist, and `Disconnected` when the connection is lost meanwhile.
        """
        for doc in docs:
            if not self.is_exact(doc):
                await asyncio.shield(self.want(doc) if self.held(doc) is None else self._await(doc))

    def _await(self, doc: str) -> asyncio.Future[None]:
        """Done when a document that is on its way has come."""
        if not self.live:
            raise _lost()
        if doc not in self._awaited:
            self._awaited[doc] = _quiet_future()
        return self._awaited[doc]

    def _settled(self, doc: str) -> None:
        future = self._awaited.get(doc)
        if future is None:
            return
        if self.is_exact(doc):
            del self._awaited[doc]
            future.set_result(None)
        elif self.held(doc) is None:
            del self._awaited[doc]
            future.set_exception(Disconnected("The document is not watched any more."))

    def _freshness_changed(self, freshness: Freshness) -> None:
        if freshness.state is FreshnessState.OFFLINE:
            awaited, self._awaited = self._awaited, {}
            for future in awaited.values():
                future.set_exception(_lost())

    def want(self, doc: str) -> asyncio.Future[None]:
        """Watch a document, together with others that are wanted now; done when it is there."""
        self._unwanted.discard(doc)
        future = self._wanted.get(doc)
        if future is None:
            future = self._wanted[doc] = _quiet_future()
            self._flush_soon()
        return future

    def keep(self, doc: str) -> bool:
        """Whether a document is watched, and stays so."""
        self._unwanted.discard(doc)
        return self.held(doc) is not None and doc not in self.dropping

    def unwant(self, docs: Iterable[str]) -> None:
        """Watch these no longer, some time soon."""
        self._unwanted.update(doc for doc in docs if doc not in self._wanted)
        if self._unwanted:
            self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())

    async def _flush(self) -> None:
        """Send what is wanted, as many as there are by then, as fast as the gateway takes messages. What is on its way
        to be dropped is watched when that is over.
        """
        while (ready := self._ready()) or self._unwanted:
            if (wait_s := self._pace.wait_s(self._runner.now())) > 0:
                await asyncio.sleep(wait_s)
                ready = self._ready()
            if batch := _take(ready):
                self._asked.update(batch)
                self._spawn(self._watch(batch))
            elif batch := _take(self._unwanted):
                self._unwanted.difference_update(batch)
                self.dropping.update(batch)
                self._spawn(self._drop(batch))
            await asyncio.sleep(0)

    def _ready(self) -> list[str]:
        return [doc for doc in self._wanted if doc not in self._asked and doc not in self.dropping]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    async def _watch(self, docs: list[str]) -> None:
        refused: dict[str, ChannelError] = {}
        try:
            # With one that is always there the answer names the reason for each of the others.
            refused.update((await self.watch(["revocations", *docs])).refused)
        except ChannelError as error:
            refused = dict.fromkeys(docs, error)
            if not isinstance(error, Disconnected):
                self.unwant(docs)
        except ValueError as error:
            refused = dict.fromkeys(docs, NotFound(str(error)))
        for doc in docs:
            future = self._wanted.pop(doc)
            self._asked.discard(doc)
            if not future.done():
                if doc in refused:
                    future.set_exception(refused[doc])
                else:
                    future.set_result(None)

    async def _drop(self, docs: list[str]) -> None:
        try:
            await self.unwatch(docs)
        except ChannelError:
            if self.live:  # the gateway may go on sending them; with what is asked for next it is told again
                self._unwanted.update(doc for doc in docs if doc not in self._wanted)
        finally:
            self.dropping.difference_update(docs)
        if self._ready():
            self._flush_soon()

    async def close(self) -> None:
        """Close it; whoever waits for a document is told."""
        if self._flushing is not None:
            self._flushing.cancel()
        if self._patience is not None:
            self._patience.cancel()
        await super().close()
        while self._batches:
            await asyncio.wait(self._batches)
        for future in (*self._wanted.values(), *self._awaited.values()):
            if not future.done():
                future.set_exception(Disconnected("The channel is closed.", code="closed"))
        self._wanted.clear()
        self._asked.clear()
        self._awaited.clear()


def _ignore(error: ChannelError) -> None:
    """Nobody asked."""


def _lost() -> Disconnected:
    return Disconnected("The connection was lost.")


def _quiet_future() -> asyncio.Future[None]:
    """A future of which nobody has to hear."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _take(docs: Iterable[str]) -> list[str]:
    """As many as fit into a message."""
    size = 0
    taken: list[str] = []
    for doc in docs:
        size += len(doc.encode()) + 8
        if taken and size > BATCH_BYTES:
            break
        taken.append(doc)
    return taken
