"""Counts failed logins, and refuses to go on where there were too many: for an account, for a known browser, for an
address, for all.

An attempt is counted as failed before its password is looked at, and taken back when it was right. So no number of
attempts at once gets more guesses than one after the other. The counts are in the database: for all nodes, and beyond
restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256
from typing import NamedTuple

from gateway.config import AuthConfig
from gateway.errors import RateLimited, Unavailable
from gateway.store.database import Database, Statement
from gateway.store.logins import Counted, Failures, count_failure, uncount

REMEMBERED = 10_000
"""Addresses and browsers whose refusal is remembered without asking the database."""
MOST_WAITING = 8
"""Attempts that wait for one of their own kind: nobody keeps the gateway busy with one name."""

_ALL = "all"
_IPV6_NETWORK = 64


class Attempt(NamedTuple):
    """An attempt that is counted as failed. `allowed` is false where there were too many before: then the password must
    not decide. `undo` takes the count back, in the write of a login that succeeds. `wait_s` is how long the account
    stays closed, in seconds, for whoever may know that. `last`: if this one fails, the lock has begun with it."""

    allowed: bool
    undo: Statement
    wait_s: float = 0.0
    last: bool = False


class Lockout:
    """The limits of `[auth]`. `wall` gives the time in milliseconds since 1970 UTC."""

    def __init__(self, database: Database, config: AuthConfig, wall: Callable[[], int]) -> None:
        self._database = database
        self._limit = config.max_login_attempts
        self._limits = (config.max_address_failures, config.max_failures)
        self._span_ms = config.lockout_s * 1000
        self._wall = wall
        self._refused: OrderedDict[str, int] = OrderedDict()
        self._alone: dict[str, tuple[asyncio.Lock, int]] = {}
        self._inside = 0
        self._most_waiting = config.argon2_queue

    def check(self, address: str) -> None:
        """Raises RateLimited when it is known that this address, or anybody, may not try now: no look at the database
        for each of a flood."""
        now = self._wall()
        for key in (_address_key(address), _ALL):
            if until := self._refused_until(key, now):
                raise _too_many(until - now)

    @contextlib.asynccontextmanager
    async def alone(self, lane: str) -> AsyncIterator[None]:
        """One attempt at a time in this process for each lane (`name_key`, `known_key`): many right ones at once must
        not look like many wrong ones. Raises Unavailable when too many wait already, in this lane or in all."""
        lock, users = self._alone.get(lane) or (asyncio.Lock(), 0)
        waiting = self._inside - len(self._alone)
        if users and (users > MOST_WAITING or waiting >= self._most_waiting):
            raise Unavailable("Too many passwords are being checked.", retry_after_s=1.0)
        self._alone[lane] = (lock, users + 1)
        self._inside += 1
        try:
            async with lock:
                yield
        finally:
            self._inside -= 1
            users = self._alone[lane][1] - 1
            if users:
                self._alone[lane] = (lock, users)
            else:
                del self._alone[lane]

    async def begin(self, account: str, address: str | None, device: str | None = None) -> Attempt:
        """Count an attempt on `account` (see `account_key`, `name_key`) as failed.

        With a `device`, the id of a browser that logged in to this account before, nothing but its own count is looked
        at and raised, so that it neither is stopped by strangers nor stops anybody. Once it had its number it is a
        stranger who is not counted. `address` None: only the account counts. Raises RateLimited, and counts nothing,
        when the address or all have failed too often; StoreError.
        """
        own = account if device is None else f"device:{device}"
        keys = () if address is None else (_address_key(address), _ALL)
        others = dict(zip(keys, self._limits, strict=False))
        counted = Counted(own, self._limit, others, alone=device is not None)
        now = self._wall()
        closed = device is not None and self._refused_until(own, now)
        if address is not None and (device is None or closed):
            self.check(address)
        if closed:
            return Attempt(False, uncount(counted), (closed - now) / 1000)
        before = await count_failure(self._database, counted, now, self._span_ms)
        failures, until = before.get(own, (0, now))
        if device is None or failures >= self._limit:
            self._check_others(others, before, now)
        if failures < self._limit:
            return Attempt(True, uncount(counted), last=failures == self._limit - 1)
        if device is not None:
            self._remember(own, until)
        return Attempt(False, uncount(counted), (until - now) / 1000)

    def _check_others(self, limits: Mapping[str, int], before: Mapping[str, Failures], now: int) -> None:
        for key, limit in limits.items():
            if key in before and before[key].failures >= limit:
                self._remember(key, before[key].until)
                raise _too_many(before[key].until - now)

    def _refused_until(self, key: str, now: int) -> int | None:
        until = self._refused.get(key, 0)
        if now < until <= now + 2 * self._span_ms:
            return until
        self._refused.pop(key, None)
        return None

    def _remember(self, key: str, until: int) -> None:
        self._refused[key] = until
        self._refused.move_to_end(key)
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)


def account_key(user_id: str) -> str:
    """What the attempts on a user count against."""
    return f"account:{user_id}"


def name_key(name: str) -> str:
    """What the attempts on a name that nobody has count against, and the lane of the attempts on any name; the name
    itself is kept nowhere."""
    return f"name:{sha256(name.casefold().encode()).hexdigest()[:32]}"


def known_key(user_id: str) -> str:
    """The lane of the browsers that this user logged in with before: they do not wait behind strangers."""
    return f"known:{user_id}"


def _address_key(address: str) -> str:
    """The address; of IPv6 the /64, of which one customer has all (RFC 6177 §2)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"address:{address[:64]}"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"address:{ipaddress.ip_network((parsed, _IPV6_NETWORK), strict=False)}"
        parsed = parsed.ipv4_mapped
    return f"address:{parsed}"


def _too_many(wait_ms: int) -> RateLimited:
    return RateLimited("Too many failed logins.", retry_after_s=max(1.0, wait_ms / 1000))
