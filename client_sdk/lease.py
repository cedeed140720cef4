"""Units of a quota that are held while something goes on, and settled when it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from client_sdk import wire
from client_sdk.clock import sleep_until
from client_sdk.errors import ChannelError, Conflict, LeaseExpired, LeaseNotFound, QuotaExceeded, passes
from client_sdk.keys import (
    LONGEST_KEY,
    checked_amount,
    checked_key,
    checked_name,
    checked_seconds,
    checked_ttl,
    new_key,
)
from client_sdk.quota import Balance, balance_of
from client_sdk.runner import Runner

logger = logging.getLogger("client_sdk")

OVER = (LeaseExpired, LeaseNotFound, Conflict)
# How long leaving waits for the settlement after a cancellation: who sets a time limit means it.
CANCELLED_S = 3.0
# How many times within the time of a lease one that could not be extended is tried.
PAUSES = 10


class Lease:
    """Units that nobody else gets while the ``async with`` lasts.

        async with channel.lease("voice_minutes", 5) as lease:
            while talking:
                lease.use()
                if lease.left == 0:
                    await lease.add(5)

    Entering reserves; it raises what `Channel.consume` raises. The lease extends itself when half of `ttl_s` is over,
    which entering waits for when it took so long itself.
    Leaving commits what was used and gives back the rest, whether the body ended well, with an error or by
    cancellation. An answer that is lost on the way changes nothing of that, and a client that is never heard of again
    costs its user at most one lease, until `ttl_s` is over.

    A body that was cancelled waits for that at most 3 seconds, and whoever is cancelled while leaving not at all: the
    request goes on until it is answered or `timeout_s` is over, and is logged when it fails.

    Entering that is cancelled, or that fails when units may be held by then, gives them back in the same way; the name
    is used up. When `add` is cancelled more may be held than `held` says, until the lease is settled.

    A lease that could not be extended in time is not interrupted: the next `use` or `add` raises `LeaseExpired`. So
    does leaving, when units were used that could not be committed. An error of the body goes first: one of leaving is
    a note of it.
    """

    def __init__(
        self,
        runner: Runner,
        quota: str,
        amount: int,
        *,
        ttl_s: float,
        name: str | None,
        org: str | None,
        timeout_s: float,
    ) -> None:
        self.name = new_key() if name is None else checked_name("the name of a lease", name, LONGEST_KEY)
        self.quota = checked_name("a quota", quota)
        self.org = None if org is None else checked_name("an organization", org)
        self._runner = runner
        self._amount = checked_amount(amount)
        self._ttl_s = checked_ttl(ttl_s)
        self._timeout_s = checked_seconds("timeout_s", timeout_s)
        self._is_named = name is not None
        self._is_open = False
        self._held = 0
        self._used = 0
        self._balance = Balance(quota=self.quota, org=self.org)
        self._expires_at: str | None = None
        self._held_until = 0.0  # of the runner's clock: the gateway holds it at least so long
        self._trouble: ChannelError | None = None
        self._keeping: asyncio.Task[None] | None = None

    # --- what it holds ---

    @property
    def held(self) -> int:
        """How many units are held, or were."""
        return self._held

    @property
    def used(self) -> int:
        """How many of them were used."""
        return self._used

    @property
    def left(self) -> int:
        """How many can still be used without `add`."""
        return self._held - self._used

    @property
    def balance(self) -> Balance:
        """What the quota stood at when the gateway last spoke of this lease."""
        return self._balance

    @property
    def expires_at(self) -> str | None:
        """When the lease ends unless it is extended (RFC 3339, UTC, by the gateway's clock); None before it began."""
        return self._expires_at

    # --- what can be done with it ---

    def use(self, units: int = 1) -> None:
        """Count units as used; they are committed at the end.

        Raises `QuotaExceeded` when the lease does not hold so many more (`add` some), and `LeaseExpired`: then these
        were not counted.
        """
        checked_amount(units)
        self._check()
        if units > self.left:
            raise QuotaExceeded(f"The lease holds {self.left} more.", quota=self.quota, remaining=self.left)
        self._used += units

    async def add(self, units: int, *, key: str | None = None) -> Balance:
        """Hold more units, and all of them for `ttl_s` from now. Raises what `Channel.consume` raises, `LeaseExpired`,
        and `Conflict` when the quota's period is over: then settle, and take another lease.
        """
        checked_amount(units)
        self._check()
        return await self._extend(self._timeout_s, amount=units, key=checked_key(key))

    async def settle(self) -> Balance:
        """Commit what was used and give back the rest: leaving does this.

        It may be called again after leaving raised an error that passes, like `RequestTimeout`: nothing is counted
        twice.
        """
        self._is_open = False
        if self._keeping is not None:
            self._keeping.cancel()
        if self._used:
            message: Callable[..., wire.SpendingMessage] = partial(wire.Commit, lease=self.name, amount=self._used)
        else:
            message = partial(wire.Release, lease=self.name)
        self._learn(await self._runner.spend(message, self._timeout_s))
        return self._balance

    # --- its life ---

    async def __aenter__(self) -> Self:
        if self._keeping is not None:
            raise RuntimeError("a lease is entered once")
        began = self._runner.clock.time()
        message = partial(
            wire.Reserve, lease=self.name, quota=self.quota, amount=self._amount, ttl_s=self._ttl_s, org=self.org
        )
        try:
            self._learn(await self._runner.spend(message, self._timeout_s))
            self._held_until = began + self._ttl_s
            if self._is_named or self._runner.clock.time() >= began + self._ttl_s / 2:  # it may have begun long ago
                await self._extend(self._timeout_s)
        except (asyncio.CancelledError, ChannelError) as error:
            if self._may_be_held(error):  # nobody waits for that, as nobody has it
                asyncio.create_task(self.settle()).add_done_callback(self._settled_late)
            raise
        self._is_open = True
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        settling = asyncio.create_task(self.settle())
        try:
            await self._wait_for(settling, CANCELLED_S if isinstance(error, asyncio.CancelledError) else None)
        finally:
            if not settling.done():  # nobody waits any longer, and it goes on all the same
                settling.add_done_callback(self._settled_late)
        if not settling.done():
            assert error is not None
            error.add_note(f"The lease {self.name} is still being settled.")
            return
        try:
            settling.result()
        except ChannelError as failure:
            if error is None:
                raise
            error.add_note(f"The lease {self.name} was not settled: {failure.message}")

    def _may_be_held(self, error: BaseException) -> bool:
        """Whether entering that ended with this error may leave units held. Another's lease is never meant: a name that
        stands for something else is refused.
        """
        if isinstance(error, OVER):
            return False
        return self._held > 0 or not isinstance(error, ChannelError) or error.key is not None

    async def _wait_for(self, settling: asyncio.Task[Balance], timeout_s: float | None) -> None:
        """Wait until it is settled, at most so many seconds of the channel's clock; a cancellation does not end it."""
        enough = asyncio.Event()
        settling.add_done_callback(lambda _: enough.set())
        clock = self._runner.clock
        timer = None if timeout_s is None else clock.call_at(clock.time() + timeout_s, enough.set)
        try:
            await enough.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _settled_late(self, settling: asyncio.Task[Balance]) -> None:
        if settling.cancelled():
            logger.warning("the lease %s was not settled: the program ended", self.name)
        elif (failure := settling.exception()) is not None:
            if isinstance(failure, LeaseExpired | LeaseNotFound) and not self._used:
                return  # it holds nothing, which is all that was wanted
            logger.warning("the lease %s was not settled: %s", self.name, failure)

    async def _keep(self) -> None:
        clock = self._runner.clock
        while self._trouble is None or passes(self._trouble):
            pause_s = 0.0 if self._trouble is None else self._ttl_s / PAUSES
            await sleep_until(clock, max(self._held_until - self._ttl_s / 2, clock.time() + pause_s))
            try:
                await self._extend(self._ttl_s / 2)
                self._trouble = None
            except ChannelError as error:
                self._trouble = error

    async def _extend(self, timeout_s: float, *, amount: int = 0, key: str | None = None) -> Balance:
        began = self._runner.clock.time()
        message = partial(wire.Extend, lease=self.name, ttl_s=self._ttl_s, amount=amount, key=key)
        self._learn(await self._runner.spend(message, timeout_s))
        self._held_until = max(self._held_until, began + self._ttl_s)
        return self._balance

    def _check(self) -> None:
        if not self._is_open:
            raise RuntimeError("the lease is not open: it is used inside of its async with")
        if isinstance(self._trouble, OVER):
            raise LeaseExpired("The lease has ended.") from self._trouble
        if self._runner.clock.time() >= self._held_until:
            raise LeaseExpired("The lease was not extended in time.") from self._trouble

    def _learn(self, reply: wire.Reply) -> None:
        self._balance = balance_of(reply)
        self._held = max(self._held, reply.held)
        self._expires_at = reply.expires_at
