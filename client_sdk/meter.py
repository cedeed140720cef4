"""Takes a unit of a quota for every stretch of time that something goes on, and stops it when there are no more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from client_sdk.clock import Timer, sleep_until
from client_sdk.errors import ChannelError, Forbidden, MeterStopped, NotFound, QuotaExceeded, passes
from client_sdk.freshness import Freshness, FreshnessState
from client_sdk.keys import LONGEST_KEY, checked_amount, checked_name, checked_seconds, made_at, new_key
from client_sdk.quota import Balance

if TYPE_CHECKING:
    from client_sdk.channel import Channel

logger = logging.getLogger("client_sdk")

# What is put after the key of a meter to make the keys of its units.
UNIT_LENGTH = 12


class Meter:
    """Meters what goes on inside of its ``async with``, a call for example.

        try:
            async with Meter(channel, "voice_minutes", permission="can_use_voice"):
                await talk()
        except MeterStopped as stopped:
            print("the call ended:", stopped.reason)

    At the start of each `unit_s` seconds it takes `amount` units, the first before the body begins. When that fails,
    when `permission` is lost, or when the channel ends for good, it cancels the body and raises `MeterStopped`, in the
    way of `asyncio.timeout`. A gateway that can not be asked, or does not answer, stops it after `grace_s` seconds;
    until then the call goes on, and what is due is asked for with the same key, so that nothing is charged twice.

    `key` names the call: the same call begun again, by a program that was started again, goes on with the unit of now,
    and is not charged again for one that it had. A key that the SDK made says when the call began; the units of any
    other are those of the clock, each `unit_s` seconds since 1970, so that the first may be a short one. `wall_clock`
    shows seconds since 1970 and is for tests. `on_low` is called in the event loop with the balance whenever its level
    becomes ``low``, ``critical`` or ``exhausted``; what it raises is logged.
    """

    def __init__(
        self,
        channel: Channel,
        quota: str,
        *,
        unit_s: float = 60.0,
        amount: int = 1,
        permission: str | None = None,
        org: str | None = None,
        key: str | None = None,
        grace_s: float = 30.0,
        on_low: Callable[[Balance], object] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.key = new_key(wall_clock) if key is None else checked_name("a meter's key", key, LONGEST_KEY - UNIT_LENGTH)
        self._is_resumed = key is not None
        self._wall_clock = wall_clock
        self._channel = channel
        self._runner = channel._runner
        self._quota = checked_name("a quota", quota)
        self._unit_s = checked_seconds("unit_s", unit_s)
        self._amount = checked_amount(amount)
        self._permission = permission
        self._org = None if org is None else checked_name("an organization", org)
        self._grace_s = checked_seconds("grace_s", grace_s)
        self._on_low = on_low
        self._balance: Balance | None = None
        self._level = "ok"
        self._units = 0
        self._first = 0  # the number of the unit that was the first to be taken here
        self._began: float | None = None
        self._stopped: MeterStopped | None = None
        self._body: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._own: list[asyncio.Task[None]] = []
        self._too_long: Timer | None = None
        self._listen_no_more: Callable[[], None] | None = None

    @property
    def units(self) -> int:
        """How many units of time were paid."""
        return self._units

    @property
    def balance(self) -> Balance | None:
        """What the quota stood at after the last one; None before the first."""
        return self._balance

    @property
    def stopped(self) -> MeterStopped | None:
        """Why the body was cancelled; None while it was not."""
        return self._stopped

    # --- its life ---

    async def __aenter__(self) -> Self:
        if self._began is not None:
            raise RuntimeError("a meter is entered once")
        self._began = self._runner.clock.time()
        if self._is_resumed:
            self._first, gone_s = unit_of(self.key, self._unit_s, self._wall_clock())
            self._began -= gone_s
        await self._take()
        self._body = asyncio.current_task()
        assert self._body is not None
        self._cancelling = self._body.cancelling()
        self._own = [asyncio.create_task(self._count()), asyncio.create_task(self._follow())]
        for task in self._own:
            task.add_done_callback(self._watch_no_more)
        self._listen_no_more = self._channel.on_freshness(self._fresh)
        self._fresh(self._channel.freshness)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        body, self._body = self._body, None
        for task in self._own:
            task.cancel()
        if self._listen_no_more is not None:
            self._listen_no_more()
        if self._too_long is not None:
            self._too_long.cancel()
        if self._stopped is None or body is None:
            return
        if body.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise self._stopped from self._stopped.__cause__

    def _stop(self, why: MeterStopped) -> None:
        if self._stopped is None and self._body is not None:
            self._stopped = why
            self._body.cancel()

    def _watch_no_more(self, task: asyncio.Task[None]) -> None:
        """A task of its own ended, however that came: nothing goes on that nobody pays for."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("the meter %s failed", self.key, exc_info=error)
        self._stop(MeterStopped("stopped", error))

    # --- what stops it ---

    async def _count(self) -> None:
        """Take each unit when it is due."""
        assert self._began is not None
        clock = self._runner.clock
        asked_at = clock.time()
        try:
            while True:
                await sleep_until(clock, self._began + self._units * self._unit_s)
                asked_at = clock.time()
                await self._take()
        except MeterStopped as why:
            if why.reason == "offline":  # known before the grace is over, when the gateway says that it takes longer
                await sleep_until(clock, asked_at + self._grace_s)
            self._stop(why)

    async def _take(self) -> None:
        if not self._is_allowed():
            raise MeterStopped("forbidden")
        key = f"{self.key}.{self._first + self._units}"
        try:
            self._balance = await self._channel.consume(
                self._quota, self._amount, key=key, org=self._org, timeout_s=self._grace_s
            )
        except ChannelError as error:
            raise _stopped_by(error) from error
        self._units += 1
        self._watch_level(self._balance)

    async def _follow(self) -> None:
        """Notice when the permission is gone, and the end of the channel."""
        end: BaseException | None = None
        try:
            async for _ in self._channel:
                # Of a channel that ended for good nothing is held: that is no loss of a permission.
                if not self._is_allowed() and not self._runner.ended:
                    self._stop(MeterStopped("forbidden"))
                    return
        except Exception as exc:  # a fault of the program ends a channel too
            end = exc
        self._stop(MeterStopped("stopped", end))

    def _is_allowed(self) -> bool:
        return self._permission is None or self._channel.can(self._permission)

    def _fresh(self, freshness: Freshness) -> None:
        if self._too_long is not None:
            self._too_long.cancel()
            self._too_long = None
        if freshness.state is FreshnessState.OFFLINE:
            clock = self._runner.clock
            why = MeterStopped("offline", self._channel.trouble)
            self._too_long = clock.call_at(clock.time() + self._grace_s, lambda: self._stop(why))

    def _watch_level(self, balance: Balance) -> None:
        before, self._level = self._level, balance.level
        if self._on_low is None or self._level in ("ok", before):
            return
        try:
            self._on_low(balance)
        except Exception:
            logger.exception("a callback failed")


def unit_of(key: str, unit_s: float, now_s: float) -> tuple[int, float]:
    """The number of the unit of time that `now_s` (seconds since 1970) is in, and how many seconds of it are over.

    Units are counted from the time that the key begins with. Where that is none, or one to come (then the SDK did not
    make the key, or clocks are further apart than a unit), they are counted from 1970: in any case two times in one
    unit have one number, and a later unit has another.
    """
    began = made_at(key)
    if began is None or began > now_s + unit_s:
        began = 0.0
    number, gone_s = divmod(max(0.0, now_s - began), unit_s)
    return int(number), gone_s


def _stopped_by(error: ChannelError) -> MeterStopped:
    """What an error of `consume` means for a call."""
    if isinstance(error, QuotaExceeded):
        return MeterStopped("exhausted", error)
    if isinstance(error, Forbidden | NotFound):
        return MeterStopped("forbidden", error)
    return MeterStopped("offline" if passes(error) else "stopped", error)
