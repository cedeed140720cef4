"""A live channel to the gateway: documents that stay true, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from client_sdk import events
from client_sdk.clock import Clock, Timer
from client_sdk.config import ServerConfig, channel_url, load_token
from client_sdk.connection import Connection, Endpoint
from client_sdk.errors import AuthFailed, ChannelError, Disconnected, TokenExpired
from client_sdk.events import NOTHING, Change, Effect, Event, Watched
from client_sdk.freshness import Freshness
from client_sdk.listeners import Changes, Listeners
from client_sdk.names import document_names
from client_sdk.options import SessionOptions, make_options
from client_sdk.provider import TokenProvider, provide, usable
from client_sdk.quota import Quota, permissions_of, quotas_of
from client_sdk.session import Session
from client_sdk.version import VERSION

logger = logging.getLogger("client_sdk")

NEVER = float("inf")


class Channel:
    """Documents of the gateway, held as exact copies over one WebSocket that comes back by itself.

    async with Channel("https://gateway.example.org", token) as channel: print(channel.can("can_use_voice"),
    channel.quotas) async for change in channel: print(change.doc, change.causes, change.patch)

    `server` is an ``http(s)`` or ``ws(s)`` URL, or a `ServerConfig`; None reads config.toml. `token` is a string, or a
    function (coroutine functions too) that is asked before every connection and when the token is about to end; None
    reads the environment. The other keyword arguments are the fields of `Options`.

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
        self._session = Session(make_options(options))
        self._endpoint = Endpoint(
            url=channel_url(server),
            subprotocol=self._session.options.subprotocol,
            ssl=ssl,
            proxy=proxy,
            user_agent=f"gateway-client-sdk/{VERSION}",
            max_message_bytes=max_message_bytes,
            close_timeout_s=close_timeout_s,
        )
        self._token = usable(load_token() if token is None else token)
        self._open_timeout_s = open_timeout_s
        self._clock = clock
        self._chance = chance
        self._opened: asyncio.Future[None] | None = None
        self._connection: Connection | None = None
        self._asking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._armed_for = NEVER
        self._ids = count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._listeners = Listeners()
        self._trouble: ChannelError | None = None

    # --- opening and closing ---

    async def open(self) -> None:
        """Connect, and wait until every watched document is there. ``async with`` does this, and `close`."""
        if self._opened is not None:
            raise RuntimeError("a channel is opened once")
        loop = asyncio.get_running_loop()
        self._opened = loop.create_future()
        self._clock = self._clock or loop
        self._handle(events.Start())
        try:
            async with asyncio.timeout(self._open_timeout_s):
                await self._opened
        except TimeoutError:
            await self.close()
            why = "" if self._trouble is None else f" {self._trouble.message}"
            raise Disconnected(f"No session within {self._open_timeout_s} s.{why}") from self._trouble
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the channel. Requests under way fail, iterations end; what was held can still be read.

        A token provider may call this too: it goes on, and its token is not used.
        """
        if self._opened is None:
            return
        self._handle(events.Stop())
        own = asyncio.current_task()
        if self._asking is not None and self._asking is not own:
            self._asking.cancel()
        if others := self._tasks - {own}:
            await asyncio.wait(others)

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
        return self._session.freshness(0.0 if self._clock is None else self._clock.time())

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
        return self._trouble

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
        watched = await self._request(lambda id: events.WatchDocuments(id, names))
        assert isinstance(watched, Watched)
        return watched

    async def unwatch(self, docs: str | Iterable[str]) -> None:
        """Stop watching documents; what is held of them is dropped."""
        names = document_names(docs)
        await self._request(lambda id: events.UnwatchDocuments(id, names))

    async def sync(self, doc: str = "self") -> Mapping[str, Any]:
        """Have a document sent whole again, and return it. Raises `NotFound` for one that is not watched."""
        await self._request(lambda id: events.SyncDocument(id, doc))
        return self.documents.get(self._session.resolve(doc), NOTHING)

    async def ping(self) -> float:
        """Seconds that a message takes to the gateway and back."""
        return float(await self._request(events.MeasurePing))

    async def wait_for(self, seq: int) -> int:
        """Wait until the own document is exact up to `seq`, the position that a write returned; survives reconnects.

        Returns the position reached. There is no time limit: use `asyncio.timeout`. Raises `EpochChanged` when the
        gateway's database was restored meanwhile.
        """
        return int(await self._request(lambda id: events.AwaitSeq(id, seq)))

    async def _request(self, make: Callable[[str], events.Request]) -> Any:
        if self._opened is None:
            raise Disconnected("The channel is not open.", code="closed")
        id = str(next(self._ids))
        future = self._waiting[id] = asyncio.get_running_loop().create_future()
        self._handle(make(id))
        try:
            return await future
        finally:
            if self._waiting.pop(id, None) is not None:
                self._handle(events.Forget(id))

    # --- the machine ---

    def _handle(self, event: Event) -> None:
        """The only way into the session: hand it an event, do what it says, and set the timer."""
        assert self._clock is not None
        assert self._opened is not None
        try:
            for effect in self._session.handle(event, self._clock.time(), self._chance()):
                self._perform(effect)
        except Exception as exc:
            self._fail(exc)
            return
        if not self._opened.done() and self._session.complete():
            self._opened.set_result(None)
        self._set_timer(self._clock)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case events.Send(frame):
                if self._connection is not None:
                    self._connection.send(frame)
            case events.Change():
                self._listeners.changed(effect)
            case events.FreshnessChanged(freshness):
                self._listeners.freshness_changed(freshness)
            case events.Resolve(id, value):
                if (future := self._waiting.pop(id, None)) is not None and not future.done():
                    future.set_result(value)
            case events.Reject(id, error):
                if (future := self._waiting.pop(id, None)) is not None and not future.done():
                    future.set_exception(error)
            case events.AskToken(refused):
                if self._asking is not None:
                    self._asking.cancel()
                self._asking = self._spawn(self._ask(refused))
            case events.Connect():
                self._connection = Connection(self._endpoint, self._feed)
                self._spawn(self._connection.run(effect))
            case events.Close():
                if self._connection is not None:
                    self._connection.close(effect)
                self._connection = None
            case events.Trouble(error):
                self._note(error)
            case events.Stopped(error):
                self._end(error)

    def _feed(self, connection: Connection, event: Event) -> None:
        if connection is self._connection:
            self._handle(event)

    async def _ask(self, refused: str | None) -> None:
        try:
            token = await provide(self._token, refused)
        except Exception as exc:  # whatever an application's function raises
            self._handle(events.TokenFailed(exc))
        else:
            self._handle(events.TokenGiven(token))

    def _set_timer(self, clock: Clock) -> None:
        deadline = self._session.deadline
        if deadline == self._armed_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = None if deadline == NEVER else clock.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._armed_for = NEVER
        self._handle(events.Tick())

    def _note(self, error: ChannelError) -> None:
        self._trouble = error
        logger.info("%s: %s", error.code, error.message)
        if isinstance(error, AuthFailed | TokenExpired) and self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)

    def _fail(self, error: BaseException) -> None:
        """A fault of this program, not of the gateway: better an end than half a life.

        Effects may have been lost with it, so all that is open is ended here, whatever the session thinks of it.
        """
        logger.error("the channel failed", exc_info=error)
        self._end(error)
        try:
            self._session.handle(events.Stop(), 0.0, 0.0)
        except Exception:
            logger.exception("the session failed again at its end")
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._connection.close(events.Close(1000, ""))
        self._connection = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_closed())
        self._waiting.clear()

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, ChannelError):
            self._trouble = error
        self._listeners.end(error)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error or _closed())
            self._opened.exception()  # nobody may be waiting any more

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)


def _closed() -> Disconnected:
    return Disconnected("The channel is closed.", code="closed")
