"""Counts failed logins, and refuses to go on where there were too many: for an account, for a known browser, for an
address, for all. What comes by a server instance counts against that instance, in place of all, and against the address
that it names as an address of its own: whatever it makes up stops nobody who comes from elsewhere.

What failed is counted, after the password was looked at, and a right one opens nothing once the account has had its
number, though it was let through before. So attempts at once gain what is being looked at when the last failure is
counted, and no more: one for each typed name, and twice `argon2_workers` in all, in each process. The counts are in the
database: for all nodes, and beyond restarts.
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
from gateway.store.audit import Entry
from gateway.store.database import Database, Statement
from gateway.store.logins import Counted, Failures, begin_anew, count_failure, read_failures, still_open

REMEMBERED = 10_000
"""Addresses and browsers whose refusal is remembered without asking the database."""

_ALL = "all"
_IPV6_NETWORK = 64


class Attempt(NamedTuple):
    """An attempt that may begin, or not: `allowed` is false where too many failed before, and then the password must
    not decide. `counted` is what it counts against if it fails. `wait_s` is how long the account stays closed, in
    seconds, for whoever may know that."""

    allowed: bool
    counted: Counted
    wait_s: float = 0.0


class Lockout:
    """The limits of `[auth]`. `wall` gives the time in milliseconds since 1970 UTC."""

    def __init__(self, database: Database, config: AuthConfig, wall: Callable[[], int]) -> None:
        self._database = database
        self._limit = config.max_login_attempts
        self._of_address, self._of_all = config.max_address_failures, config.max_failures
        self._span_ms = config.lockout_s * 1000
        self._wall = wall
        self._refused: OrderedDict[str, int] = OrderedDict()
        self._alone: dict[str, tuple[asyncio.Lock, int]] = {}
        self._inside = 0
        self._most_waiting = config.argon2_queue

    def check(self, address: str, instance: str | None = None) -> None:
        """Raises RateLimited when it is known that this address, or anybody, may not try now: no look at the database
        for each of a flood. `instance` is the id of the one by which it comes."""
        now = self._wall()
        for key in self._others(address, instance):
            if until := self._refused_until(key, now):
                raise _too_many(until - now)

    @contextlib.asynccontextmanager
    async def alone(self, lane: str) -> AsyncIterator[None]:
        """One attempt at a time in this process for each lane (`name_key`, `known_key`): nobody guesses faster by
        guessing at once, or keeps the others from hashing with one name. Raises Unavailable when `argon2_queue` wait
        in all lanes, or half as many in this one."""
        lock, users = self._alone.get(lane) or (asyncio.Lock(), 0)
        waiting = self._inside - len(self._alone)
        if users and (users > max(1, self._most_waiting // 2) or waiting >= self._most_waiting):
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

    async def begin(
        self, account: str, address: str | None, device: str | None = None, instance: str | None = None
    ) -> Attempt:
        """Whether an attempt on `account` (see `account_key`, `name_key`) may begin. Nothing is counted yet.

        With a `device`, the id of a browser that logged in to this account before, nothing but its own count decides
        and will be raised, so that it neither is stopped by strangers nor stops anybody. Once it had its number it is a
        stranger who is not counted. `address` None: only the account counts. By an `instance`, which is its id, the
        address is one that it names, and in place of all are all that it signs in. Raises RateLimited when the address
        or all have failed too often; StoreError.
        """
        own = account if device is None else f"device:{device}"
        others = {} if address is None else self._others(address, instance)
        counted = Counted(own, self._limit, tuple(others) if device is None else ())
        now = self._wall()
        closed = device is not None and self._refused_until(own, now)
        if address is not None and (device is None or closed):
            self.check(address, instance)
        if closed:
            return Attempt(False, counted, (closed - now) / 1000)
        found = await read_failures(self._database, [own, *others], now, self._span_ms)
        failures, until = found.get(own, (0, now))
        if device is None or failures >= self._limit:
            self._check_others(others, found, now)
        if failures < self._limit:
            return Attempt(True, counted)
        if device is not None:
            self._remember(own, until)
        return Attempt(False, counted, (until - now) / 1000)

    async def failed(self, attempt: Attempt, entry: Entry) -> None:
        """Count an attempt whose password was wrong, and write `entry` down, and the lock that begins with it: one
        atomic write, which is made even for a caller who is gone by then. Nothing where the attempt was not allowed, or
        strangers could fill the trail. StoreError.
        """
        if attempt.allowed:
            statements = count_failure(attempt.counted, self._wall(), self._span_ms, entry)
            await asyncio.shield(self._database.write(*statements))

    def passed(self, attempt: Attempt, user_id: str) -> tuple[Statement, Statement]:
        """What the write of a right password hangs on, and what it does: the account's (or the browser's) own count
        begins anew, those of the address and of all go on. See `still_open` and `begin_anew` in `gateway.store.logins`.
        """
        counted = attempt.counted
        return still_open(counted, user_id, self._wall(), self._span_ms), begin_anew(counted)

    def _others(self, address: str, instance: str | None) -> dict[str, int]:
        """What a failure counts against beside the account, and how many each of them may have."""
        key = _address_key(address)
        if instance is None:
            return {key: self._of_address, _ALL: self._of_all}
        return {f"instance_{key} {instance}": self._of_address, f"instance:{instance}": self._of_all}

    def _check_others(self, limits: Mapping[str, int], found: Mapping[str, Failures], now: int) -> None:
        for key, limit in limits.items():
            if key in found and found[key].failures >= limit:
                self._remember(key, found[key].until)
                raise _too_many(found[key].until - now)

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
