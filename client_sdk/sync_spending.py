"""Leases and meters for programs without an event loop: the same ones, run by the thread of a `SyncChannel`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from client_sdk.errors import Disconnected, MeterStopped
from client_sdk.lease import Lease
from client_sdk.meter import Meter
from client_sdk.quota import Balance

if TYPE_CHECKING:
    from client_sdk.sync import SyncChannel

T = TypeVar("T")


class Call(Protocol):
    """Runs a coroutine in the channel's thread and returns its result."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


class SyncLease:
    """`Lease` with calls that block; any thread may make them, also while another one is in the ``with``."""

    def __init__(self, lease: Lease, call: Call) -> None:
        self._lease = lease
        self._call = call

    @property
    def name(self) -> str:
        """What the lease is called."""
        return self._lease.name

    @property
    def quota(self) -> str:
        """The quota that the units are of."""
        return self._lease.quota

    @property
    def org(self) -> str | None:
        """The organization whose pool it is; None: the user's own quota."""
        return self._lease.org

    @property
    def held(self) -> int:
        """How many units are held, or were."""
        return self._lease.held

    @property
    def used(self) -> int:
        """How many of them were used."""
        return self._lease.used

    @property
    def left(self) -> int:
        """How many can still be used without `add`."""
        return self._lease.left

    @property
    def balance(self) -> Balance:
        """What the quota stood at when the gateway last spoke of this lease."""
        return self._lease.balance

    @property
    def expires_at(self) -> str | None:
        """When the lease ends unless it is extended (RFC 3339, UTC); None before it began."""
        return self._lease.expires_at

    def use(self, units: int = 1) -> None:
        """Count units as used; see `Lease.use`."""
        self._call(self._use(units))

    async def _use(self, units: int) -> None:
        self._lease.use(units)

    def add(self, units: int, *, key: str | None = None) -> Balance:
        """Hold more units; see `Lease.add`."""
        return self._call(self._lease.add(units, key=key))

    def settle(self) -> Balance:
        """Commit what was used and give back the rest; see `Lease.settle`."""
        return self._call(self._lease.settle())

    def __enter__(self) -> Self:
        self._call(self._lease.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._call(self._lease.__aexit__(kind, error, traceback))
        except Disconnected as failure:
            if error is None:
                raise
            error.add_note(f"The lease {self.name} was not settled: {failure.message}")


class SyncMeter:
    """`Meter` for a body that nobody can interrupt: it has to look.

        with SyncMeter(channel, "voice_minutes", permission="can_use_voice") as meter:
            while not meter.wait(0.02):
                talk()

    Leaving raises `MeterStopped` when the meter stopped and the body raised nothing itself.
    """

    def __init__(
        self,
        channel: SyncChannel,
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
        self._call: Call = channel._call
        self._meter = Meter(
            channel._channel,
            quota,
            unit_s=unit_s,
            amount=amount,
            permission=permission,
            org=org,
            key=key,
            grace_s=grace_s,
            on_low=on_low,
            wall_clock=wall_clock,
        )
        self._over = threading.Event()
        self._left: asyncio.Event | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def key(self) -> str:
        """What names the call."""
        return self._meter.key

    @property
    def units(self) -> int:
        """How many units of time were paid."""
        return self._meter.units

    @property
    def balance(self) -> Balance | None:
        """What the quota stood at after the last one; None before the first."""
        return self._meter.balance

    @property
    def stopped(self) -> MeterStopped | None:
        """Why it stopped; None while it did not."""
        return self._meter.stopped

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the meter stops, at most so many seconds; whether it has."""
        return self._over.wait(timeout_s)

    def __enter__(self) -> Self:
        self._call(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(Disconnected):  # a channel that is closed has stopped it
            self._call(self._end())
        if error is None and self._meter.stopped is not None:
            raise self._meter.stopped

    async def _begin(self) -> None:
        self._left = asyncio.Event()
        began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(began, self._left))
        try:
            await began
        except asyncio.CancelledError:
            self._running.cancel()
            raise

    async def _run(self, began: asyncio.Future[None], left: asyncio.Event) -> None:
        try:
            async with self._meter:
                began.set_result(None)
                await left.wait()
        except Exception as error:
            if not began.done():
                began.set_exception(error)
            elif not isinstance(error, MeterStopped):
                raise
        finally:
            self._over.set()

    async def _end(self) -> None:
        assert self._left is not None
        assert self._running is not None
        self._left.set()
        await asyncio.wait((self._running,))
