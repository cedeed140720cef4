"""A live channel to the gateway: documents that stay true, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import msgspec

from client_sdk import events, wire
from client_sdk.clock import Clock
from client_sdk.config import ServerConfig, channel_url, load_token
from client_sdk.connection import Endpoint
from client_sdk.errors import ChannelError, Disconnected
from client_sdk.events import NOTHING, Change, Watched
from client_sdk.freshness import Freshness
from client_sdk.instance_key import InstanceKeys
from client_sdk.keys import checked_amount, checked_key, checked_name, checked_seconds
from client_sdk.lease import Lease
from client_sdk.listeners import Changes, Listeners
from client_sdk.names import document_names
from client_sdk.options import SessionOptions, make_options
from client_sdk.provider import TokenProvider, usable
from client_sdk.quota import Balance, Quota, balance_of, permissions_of, quotas_of
from client_sdk.runner import Runner
from client_sdk.session import Session
from client_sdk.settings import checked_settings, count, or_none, seconds, seconds_from_0
from client_sdk.version import VERSION

BOUNDS = {"open_timeout_s": or_none(seconds), "close_timeout_s": seconds_from_0, "max_message_bytes": count()}


class Channel:
    """Documents of the gateway, held as exact copies over one WebSocket that comes back by itself.

    async with Channel("https://gateway.example.org", token) as channel: print(channel.can("can_use_voice"),
    channel.quotas) async for change in channel: print(change.doc, change.causes, change.patch)

    `server` is an ``http(s)`` or ``ws(s)`` URL, or a `ServerConfig`; None reads config.toml. `token` is a string, or a
    function (coroutine functions too) that is asked before every connection and when the token is about to end; None
    reads the environment. With the `InstanceKeys` of an application's server each handshake is signed instead. The
    other keyword arguments are the fields of `Options`.

    Entering waits until every watched document is there, at most `open_timeout_s` seconds (None: for ever), and raises
    `AuthFailed`, `Disconnected`, or whatever else ends a channel for good. From then on the channel reconnects by
    itself; `freshness` says how old what it holds may be.
    """

    def __init__(
        self,
        server: str | ServerConfig | None = None,
        token: str | TokenProvider | None = None,
        *,
        open_timeout_s: float | None = 10.0,
        close_timeout_s: float = 1.0,
        max_message_bytes: int = 16 * 2**20,
        ssl: ssl.SSLContext | None = None,
        proxy: str | Literal[True] | None = True,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        **options: Unpack[SessionOptions],
    ) -> None:
        checked_settings(
            BOUNDS, open_timeout_s=open_timeout_s, close_timeout_s=close_timeout_s, max_message_bytes=max_message_bytes
        )
        chosen = make_options(options)
        if isinstance(token, InstanceKeys):
            chosen = msgspec.structs.replace(chosen, credential="signature")
        self._session = Session(chosen)
        self._listeners = Listeners()
        self._open_timeout_s = open_timeout_s
        endpoint = Endpoint(
            url=channel_url(server),
            subprotocol=self._session.options.subprotocol,
            ssl=ssl,
            proxy=proxy,
            user_agent=f"gateway-client-sdk/{VERSION}",
            max_message_bytes=max_message_bytes,
            close_timeout_s=close_timeout_s,
        )
        if isinstance(token, InstanceKeys):
            endpoint = msgspec.structs.replace(endpoint, sign=token.sign_handshake, clock_off=token.clock_off)
        provider = usable(load_token() if token is None else token)
        self._runner = Runner(self._session, endpoint, provider, self._listeners, clock, chance)

    # --- opening and closing ---

    async def open(self) -> None:
        """Connect, and wait until every watched document is there. ``async with`` does this, and `close`."""
        if self._runner.opened is not None:
            raise RuntimeError("a channel is opened once")
        opened = self._runner.start()
        try:
            async with asyncio.timeout(self._open_timeout_s):
                await opened
        except TimeoutError:
            await self.close()
            why = "" if self.trouble is None else f" {self.trouble.message}"
            raise Disconnected(f"No session within {self._open_timeout_s} s.{why}") from self.trouble
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the channel. Requests under way fail, iterations end; what was held can still be read.

        A token provider may call this too: it goes on, and its token is not used.
        """
        await self._runner.stop()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- what is held ---

    @property
    def document(self) -> Mapping[str, Any]:
        """The own document; empty before it came, or when it is not watched. Treat it as immutable."""
        held = self._session.own
        return NOTHING if held is None else held.data

    @property
    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        """Every document that is held, by its canonical name. Treat them as immutable."""
        return self._session.replica.documents()

    @property
    def permissions(self) -> frozenset[str]:
        """What the user may do."""
        return permissions_of(self.document)

    def can(self, permission: str) -> bool:
        """Whether the user has this permission, as far as is known: see `freshness`."""
        return self.document.get("permissions", {}).get(permission) is True

    @property
    def quotas(self) -> dict[str, Quota]:
        """The user's quotas by name."""
        return quotas_of(self.document)

    @property
    def seq(self) -> int:
        """The position in the change log up to which the own document is exact; 0 before it came."""
        held = self._session.own
        return 0 if held is None else held.seq

    @property
    def freshness(self) -> Freshness:
        """How true everything is: ``live``, ``stale`` or ``offline``, and how old it may be."""
        return self._session.freshness(self._runner.now())

    @property
    def principal(self) -> str | None:
        """Who this is, ``user:ID`` or ``instance:ID``; None before the first session."""
        return self._session.principal

    @property
    def session_id(self) -> str | None:
        """The gateway's name of the present session, or of the last one."""
        return self._session.id

    @property
    def expires_at(self) -> str | None:
        """When the credential ends (RFC 3339, UTC); None when it does not, or before the first session."""
        return self._session.expires_at

    @property
    def trouble(self) -> ChannelError | None:
        """What went wrong last, although the channel may have got over it."""
        return self._runner.trouble

    @property
    def mismatches(self) -> int:
        """How many copies were not what their revision said; each was asked for again."""
        return self._session.replica.mismatches

    # --- what happens ---

    def __aiter__(self) -> Changes:
        """All changes; see `changes`."""
        return self.changes()

    def changes(self) -> Changes:
        """Iterate over changes: first one for every document that is held now, then each that comes.

        A reader that is slow gets fewer, larger changes. The iteration ends when the channel is closed, and raises what
        stopped it for good.
        """
        return self._listeners.read(self._session.replica.changes())

    def on_change(self, callback: Callable[[Change], object], doc: str | None = None) -> Callable[[], None]:
        """Call back for every change, or for those of one document (``self`` for the own one). Returns what ends it.

        The callback runs in the event loop and must not block; what it raises is logged.
        """
        if doc is None:
            return self._listeners.on_change(callback)
        return self._listeners.on_change(
            lambda change: callback(change) if change.doc == self._session.resolve(doc) else None
        )

    def on_freshness(self, callback: Callable[[Freshness], object]) -> Callable[[], None]:
        """Call back whenever the channel becomes live, stale or offline. Returns what ends it."""
        return self._listeners.on_freshness(callback)

    # --- requests ---

    async def watch(self, docs: str | Iterable[str]) -> Watched:
        """Watch documents from now on, and wait until they are there.

        Those that were refused stand in the result with the reason; when all were, that error is raised. Raises
        `Disconnected` without a connection: then they are asked for with the next one, unless they are unwatched.
        """
        names = document_names(docs)
        watched = await self._runner.request(lambda id: events.WatchDocuments(id, names))
        assert isinstance(watched, Watched)
        return watched

    async def unwatch(self, docs: str | Iterable[str]) -> None:
        """Stop watching documents; what is held of them is dropped."""
        names = document_names(docs)
        await self._runner.request(lambda id: events.UnwatchDocuments(id, names))

    async def sync(self, doc: str = "self") -> Mapping[str, Any]:
        """Have a document sent whole again, and return it. Raises `NotFound` for one that is not watched."""
        [name] = document_names(doc)
        await self._runner.request(lambda id: events.SyncDocument(id, name))
        return self.documents.get(self._session.resolve(doc), NOTHING)

    async def ping(self) -> float:
        """Seconds that a message takes to the gateway and back."""
        return float(await self._runner.request(events.MeasurePing))

    async def wait_for(self, seq: int) -> int:
        """Wait until the own document is exact up to `seq`, the position that a write returned; survives reconnects.

        Returns the position reached. There is no time limit: use `asyncio.timeout`. Raises `EpochChanged` when the
        gateway's database was restored meanwhile.
        """
        return int(await self._runner.request(lambda id: events.AwaitSeq(id, seq)))

    # --- spending ---

    async def consume(
        self, quota: str, amount: int = 1, *, key: str | None = None, org: str | None = None, timeout_s: float = 30.0
    ) -> Balance:
        """Take `amount` units (1 to 2^31) of a quota, or of the pool of the organization `org`: all of them, or none.

        The request survives reconnects and restarts: it is sent with the same `key` (1 to 128 characters; made anew
        when none is given) until it is answered, and charged once. What passes, `Unavailable` and `RateLimited`, is
        waited for within `timeout_s` seconds. Returns the balance that is left.

        Raises `QuotaExceeded`, `NotFound` (no such quota), `Forbidden`, `Conflict` (the key stands for another
        request); after `timeout_s` `RequestTimeout`, `Disconnected`, or what passed not. With a `key` in the error it
        may have been carried out, or may be yet: consume again with no other key than that. The same holds after a
        cancellation: give a key of your own.
        """
        message = partial(
            wire.Consume,
            quota=checked_name("a quota", quota),
            amount=checked_amount(amount),
            key=checked_key(key),
            org=None if org is None else checked_name("an organization", org),
        )
        return balance_of(await self._runner.spend(message, checked_seconds("timeout_s", timeout_s)))

    def lease(
        self,
        quota: str,
        amount: int,
        *,
        ttl_s: float = 60.0,
        name: str | None = None,
        org: str | None = None,
        timeout_s: float = 30.0,
    ) -> Lease:
        """Hold `amount` units while an ``async with`` lasts, for work whose cost is known only afterwards; see `Lease`.

        `ttl_s` (1 to 3600 seconds): after how long without this client the gateway gives the units back. `name` (1 to
        128 characters, one for each lease ever made) lets a program that was started again take its lease up again.
        `timeout_s` bounds each request.
        """
        return Lease(self._runner, quota, amount, ttl_s=ttl_s, name=name, org=org, timeout_s=timeout_s)
