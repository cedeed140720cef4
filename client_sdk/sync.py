"""The channel for programs without an event loop: the same one, run by a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from client_sdk.channel import Channel
from client_sdk.config import ServerConfig
from client_sdk.errors import ChannelError, Disconnected
from client_sdk.events import Change, Watched
from client_sdk.freshness import Freshness
from client_sdk.listeners import Changes
from client_sdk.loop_thread import LoopEnded, LoopThread
from client_sdk.options import SessionOptions
from client_sdk.provider import TokenProvider
from client_sdk.quota import Balance, Quota
from client_sdk.sync_spending import SyncLease

T = TypeVar("T")


class SyncChannel:
    """`Channel` with calls that block.

        with SyncChannel("https://gateway.example.org", token) as channel:
            for change in channel:
                print(change.doc, channel.can("can_use_voice"))

    A thread of its own runs the event loop; every method may be called from any other thread. Callbacks run on that
    thread: they may read what is held, but a blocking call from one raises RuntimeError.
    """

    def __init__(
        self,
        server: str | ServerConfig | None = None,
        token: str | TokenProvider | None = None,
        *,
        open_timeout_s: float | None = 10.0,
        close_timeout_s: float = 1.0,
        ssl: ssl.SSLContext | None = None,
        proxy: str | Literal[True] | None = True,
        **options: Unpack[SessionOptions],
    ) -> None:
        self._channel = Channel(
            server,
            token,
            open_timeout_s=open_timeout_s,
            close_timeout_s=close_timeout_s,
            ssl=ssl,
            proxy=proxy,
            **options,
        )
        self._host = LoopThread("client_sdk.sync")

    # --- opening and closing ---

    def open(self) -> None:
        """Connect, and wait until every watched document is there. ``with`` does this, and `close`."""
        self._host.start()
        try:
            self._call(self._channel.open())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the channel and end the thread. Blocked calls fail, iterations end."""
        self._host.stop(self._channel.close())

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._host.call(work)
        except LoopEnded:
            raise Disconnected("The channel is closed.", code="closed") from None

    # --- what is held ---

    @property
    def document(self) -> Mapping[str, Any]:
        """The own document; empty before it came, or when it is not watched. Treat it as immutable."""
        return self._channel.document

    @property
    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        """Every document that is held, by its canonical name. Treat them as immutable."""
        return self._channel.documents

    @property
    def permissions(self) -> frozenset[str]:
        """What the user may do."""
        return self._channel.permissions

    def can(self, permission: str) -> bool:
        """Whether the user has this permission, as far as is known: see `freshness`."""
        return self._channel.can(permission)

    @property
    def quotas(self) -> dict[str, Quota]:
        """The user's quotas by name."""
        return self._channel.quotas

    @property
    def seq(self) -> int:
        """The position in the change log up to which the own document is exact; 0 before it came."""
        return self._channel.seq

    @property
    def freshness(self) -> Freshness:
        """How true everything is: ``live``, ``stale`` or ``offline``, and how old it may be."""
        return self._channel.freshness

    @property
    def principal(self) -> str | None:
        """Who this is, ``user:ID`` or ``instance:ID``; None before the first session."""
        return self._channel.principal

    @property
    def session_id(self) -> str | None:
        """The gateway's name of the present session, or of the last one."""
        return self._channel.session_id

    @property
    def expires_at(self) -> str | None:
        """When the credential ends (RFC 3339, UTC); None when it does not, or before the first session."""
        return self._channel.expires_at

    @property
    def trouble(self) -> ChannelError | None:
        """What went wrong last, although the channel may have got over it."""
        return self._channel.trouble

    @property
    def mismatches(self) -> int:
        """How many copies were not what their revision said; each was asked for again."""
        return self._channel.mismatches

    # --- what happens ---

    def __iter__(self) -> Iterator[Change]:
        """All changes; see `changes`."""
        return self.changes()

    def changes(self) -> Iterator[Change]:
        """Iterate over changes, as `Channel.changes` does; waiting for the next one blocks."""
        changes = self._call(self._begin())
        while (change := self._next(changes)) is not None:
            yield change

    async def _begin(self) -> Changes:
        return self._channel.changes()

    def _next(self, changes: Changes) -> Change | None:
        try:
            return self._call(_next_of(changes))
        except Disconnected as exc:
            if exc.code == "closed":
                return None
            raise

    def on_change(self, callback: Callable[[Change], object], doc: str | None = None) -> Callable[[], None]:
        """Call back for every change, or for those of one document. Returns what ends it."""
        return self._channel.on_change(callback, doc)

    def on_freshness(self, callback: Callable[[Freshness], object]) -> Callable[[], None]:
        """Call back whenever the channel becomes live, stale or offline. Returns what ends it."""
        return self._channel.on_freshness(callback)

    # --- requests ---

    def watch(self, docs: str | Iterable[str]) -> Watched:
        """Watch documents from now on, and wait until they are there; see `Channel.watch`."""
        return self._call(self._channel.watch(docs))

    def unwatch(self, docs: str | Iterable[str]) -> None:
        """Stop watching documents; what is held of them is dropped."""
        self._call(self._channel.unwatch(docs))

    def sync(self, doc: str = "self") -> Mapping[str, Any]:
        """Have a document sent whole again, and return it. Raises `NotFound` for one that is not watched."""
        return self._call(self._channel.sync(doc))

    def ping(self) -> float:
        """Seconds that a message takes to the gateway and back."""
        return self._call(self._channel.ping())

    def wait_for(self, seq: int, timeout_s: float | None = None) -> int:
        """Wait until the own document is exact up to `seq`; see `Channel.wait_for`. Raises TimeoutError."""
        return self._call(self._wait_for(seq, timeout_s))

    async def _wait_for(self, seq: int, timeout_s: float | None) -> int:
        async with asyncio.timeout(timeout_s):
            return await self._channel.wait_for(seq)

    # --- spending ---

    def consume(
        self, quota: str, amount: int = 1, *, key: str | None = None, org: str | None = None, timeout_s: float = 30.0
    ) -> Balance:
        """Take units of a quota, all of them or none; see `Channel.consume`."""
        return self._call(self._channel.consume(quota, amount, key=key, org=org, timeout_s=timeout_s))

    def lease(
        self,
        quota: str,
        amount: int,
        *,
        ttl_s: float = 60.0,
        name: str | None = None,
        org: str | None = None,
        timeout_s: float = 30.0,
    ) -> SyncLease:
        """Hold units while a ``with`` lasts; see `Channel.lease`."""
        lease = self._channel.lease(quota, amount, ttl_s=ttl_s, name=name, org=org, timeout_s=timeout_s)
        return SyncLease(lease, self._call)


async def _next_of(changes: Changes) -> Change | None:
    return await anext(changes, None)
