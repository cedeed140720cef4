"""Runs a session in the event loop: performs what it wants, feeds what comes of it back, and keeps its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from client_sdk import events, wire
from client_sdk.clock import Clock, Timer
from client_sdk.connection import Connection, Endpoint
from client_sdk.errors import AuthFailed, ChannelError, Disconnected, TokenExpired
from client_sdk.events import Effect, Event
from client_sdk.listeners import Listeners
from client_sdk.provider import TokenProvider, provide
from client_sdk.session import Condition, Session
from client_sdk.spending import key_of

logger = logging.getLogger("client_sdk")

NEVER = float("inf")


class Runner:
    """One session, its connection, its timer, its token provider, and those who wait for answers.

    `listeners` are told what changes. `opened` is done when every watched document is there; None before `start`.
    `on_trouble` is called with whatever goes wrong, and with what stopped it for good.
    """

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        token: str | TokenProvider,
        listeners: Listeners,
        clock: Clock | None,
        chance: Callable[[], float],
    ) -> None:
        self.session = session
        self.opened: asyncio.Future[None] | None = None
        self.trouble: ChannelError | None = None
        self.on_trouble: Callable[[ChannelError], object] = _ignore
        self._endpoint = endpoint
        self._token = token
        self._listeners = listeners
        self._clock = clock
        self._chance = chance
        self._connection: Connection | None = None
        self._asking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._armed_for = NEVER
        self._ids = count(1)
        self._waiting: dict[str, tuple[asyncio.Future[Any], events.Request]] = {}

    @property
    def clock(self) -> Clock:
        """The time that everything goes by; that of the event loop unless another one was given."""
        if self._clock is None:
            raise _closed("The channel is not open.")
        return self._clock

    def now(self) -> float:
        """Seconds of the clock; 0 before the start."""
        return 0.0 if self._clock is None else self._clock.time()

    @property
    def ended(self) -> bool:
        """Whether no connection will come any more."""
        return self.session.condition is Condition.STOPPED

    def start(self) -> asyncio.Future[None]:
        """Begin; `opened`."""
        loop = asyncio.get_running_loop()
        self.opened = loop.create_future()
        self._clock = self._clock or loop
        self._handle(events.Start())
        return self.opened

    async def stop(self) -> None:
        """End everything and wait for it; a token provider that calls this goes on."""
        if self.opened is None:
            return
        self._handle(events.Stop())
        own = asyncio.current_task()
        if self._asking is not None and self._asking is not own:
            self._asking.cancel()
        if others := self._tasks - {own}:
            await asyncio.wait(others)

    async def request(self, make: Callable[[str], events.Request]) -> Any:
        """Have the session carry out a request, made with an id, and wait for what comes of it."""
        if self.opened is None:
            raise _closed("The channel is not open.")
        id = str(next(self._ids))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        request = make(id)
        self._waiting[id] = (future, request)
        self._handle(request)
        try:
            return await future
        finally:
            if self._waiting.pop(id, None) is not None:
                self._handle(events.Forget(id))

    async def spend(self, make: Callable[..., wire.SpendingMessage], timeout_s: float) -> wire.Reply:
        """Have a request to spend carried out, made with an `id`; it survives reconnects."""
        reply = await self.request(lambda id: events.Spend(id, make(id=id), timeout_s))
        assert isinstance(reply, wire.Reply)
        return reply

    # --- the machine ---

    def _handle(self, event: Event) -> None:
        """The only way into the session: hand it an event, do what it says, and set the timer."""
        assert self._clock is not None
        assert self.opened is not None
        try:
            for effect in self.session.handle(event, self._clock.time(), self._chance()):
                self._perform(effect)
        except Exception as exc:
            self._fail(exc)
            return
        if not self.opened.done() and self.session.complete():
            self.opened.set_result(None)
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
            case events.Resolve() | events.Reject():
                self._answer(effect)
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

    def _answer(self, outcome: events.Resolve | events.Reject) -> None:
        """Tell who waits."""
        future, _ = self._waiting.pop(outcome.id, (None, None))
        if future is None or future.done():
            return
        if isinstance(outcome, events.Resolve):
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)

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
        deadline = self.session.deadline
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
        self.trouble = error
        self.on_trouble(error)
        logger.info("%s: %s", error.code, error.message)
        refused = isinstance(error, AuthFailed | TokenExpired)
        another_key = self.session.options.credential == "signature"  # may be the right one
        if refused and not another_key and self.opened is not None and not self.opened.done():
            self.opened.set_exception(error)

    def _fail(self, error: BaseException) -> None:
        """A fault of this program, not of the gateway: better an end than half a life.

        The session knows best what became of each request. But what it said may have been lost with the fault, so all
        that is open then is ended here; of a request to spend nobody knows whether it was carried out.
        """
        logger.error("the channel failed", exc_info=error)
        self._end(error)
        try:
            for effect in self.session.handle(events.Stop(), self.now(), 0.0):
                if isinstance(effect, events.Resolve | events.Reject):
                    self._answer(effect)
        except Exception:
            logger.exception("the session failed again at its end")
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._connection.close(events.Close(1000, ""))
        self._connection = None
        for id, (_, request) in list(self._waiting.items()):
            closed = _closed()
            if isinstance(request, events.Spend):
                closed.key = key_of(request.message)
            self._answer(events.Reject(id, closed))

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, ChannelError):
            self.trouble = error
            self.on_trouble(error)
        self._listeners.end(error)
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(error or _closed())
            self.opened.exception()  # nobody may be waiting any more

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)


def _closed(message: str = "The channel is closed.") -> Disconnected:
    return Disconnected(message, code="closed")


def _ignore(error: ChannelError) -> None:
    """Nobody asked."""
