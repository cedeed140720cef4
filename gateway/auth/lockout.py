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
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import NamedTuple

from gateway.config import AuthConfig
from gateway.errors import RateLimited
from gateway.store.database import Database, Statement
from gateway.store.logins import Counted, count_failure, uncount

REMEMBERED = 10_000
"""Addresses whose refusal is remembered without asking the database."""

_ALL = "all"
_IPV6_NETWORK = 64


class Attempt(NamedTuple):
    """An attempt that is counted as failed. `allowed` is false where there were too many before: then the password must
    not decide. `undo` takes the count back, in the write of a login that succeeds. `wait_s` is how long the account
    stays closed, in seconds, for whoever may know that."""

    allowed: bool
    undo: Statement
    wait_s: float = 0.0


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

    def check(self, address: str) -> None:
        """Raises RateLimited when it is known that this address, or anybody, may not try now: no look at the database
        for each of a flood."""
        now = self._wall()
        for key in (_address_key(address), _ALL):
            until = self._refused.get(key, 0)
            if now < until <= now + 2 * self._span_ms:
                raise _too_many(until - now)
            self._refused.pop(key, None)

    @contextlib.asynccontextmanager
    async def alone(self, account: str, device: str | None = None) -> AsyncIterator[None]:
        """One attempt at a time in this process for what `begin` counts it against: many right ones at once must not
        look like many wrong ones, and a known browser does not wait behind strangers."""
        own = _own_key(account, device)
        lock, users = self._alone.get(own, (None, 0))
        lock = lock or asyncio.Lock()
        self._alone[own] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._alone[own][1] - 1
            if users:
                self._alone[own] = (lock, users)
            else:
                del self._alone[own]

    async def begin(self, account: str, address: str | None, device: str | None = None) -> Attempt:
        """Count an attempt on `account` (see `account_key`, `name_key`) as failed.

        With a `device`, the id of a browser that logged in to this account before, its own count stands for the
        account's, and it is let through whatever the others are. `address` None: only the account counts. Raises
        RateLimited, and counts nothing, when the address or all have failed too often; StoreError.
        """
        if address is not None and device is None:
            self.check(address)
        keys = () if address is None else (_address_key(address), _ALL)
        others = dict(zip(keys, self._limits, strict=False))
        own = _own_key(account, device)
        counted = Counted(own, self._limit, others, bounded=device is None)
        now = self._wall()
        before = await count_failure(self._database, counted, now, self._span_ms)
        if device is None:
            for key, limit in others.items():
                if key in before and before[key].failures >= limit:
                    self._remember(key, before[key].until)
                    raise _too_many(before[key].until - now)
        if own in before and before[own].failures >= self._limit:
            return Attempt(False, uncount(counted), (before[own].until - now) / 1000)
        return Attempt(True, uncount(counted))

    def _remember(self, key: str, until: int) -> None:
        self._refused[key] = until
        self._refused.move_to_end(key)
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)


def account_key(user_id: str) -> str:
    """What the attempts on a user count against."""
    return f"account:{user_id}"


def name_key(name: str) -> str:
    """What the attempts on a name that nobody has count against; the name itself is kept nowhere."""
    return f"name:{sha256(name.casefold().encode()).hexdigest()[:32]}"


def _own_key(account: str, device: str | None) -> str:
    return account if device is None else f"device:{device}"


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
