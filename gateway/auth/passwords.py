"""Hashes and checks passwords on threads of their own: never on the event loop, and never more at once than the machine
has memory and cores for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import bcrypt
from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret, hash_secret_raw

from gateway.config import AuthConfig
from gateway.core.password_hash import (
    ARGON2_VERSION,
    OWN_DIGEST_BYTES,
    OWN_SALT_BYTES,
    Argon2Hash,
    BcryptHash,
    PasswordHash,
    Policy,
    ScryptHash,
    check_policy,
    needs_rehash,
    parse_hash,
)
from gateway.core.passwords import normalize
from gateway.errors import ConfigError, Unavailable

log = logging.getLogger(__name__)

NICENESS = 10
"""By how much the threads yield to the event loop's, where the system knows threads' priorities."""

BCRYPT_BYTES = 72
"""bcrypt has never looked at more."""

_TYPES = {"argon2id": Type.ID, "argon2i": Type.I, "argon2d": Type.D}

_T = TypeVar("_T")


class Verdict(NamedTuple):
    """`rehash`: the password is right, and its hash should be made anew."""

    ok: bool
    rehash: bool


class Passwords:
    """The threads, and the bounds on who may ask them: `argon2_workers` at once, `argon2_queue` waiting.

    Raises ConfigError for a cost that is refused in hashes. Bound to one event loop; end it with `close`. `timer` gives
    the seconds that hashing takes.
    """

    def __init__(self, config: AuthConfig, *, timer: Callable[[], float] = time.perf_counter) -> None:
        self.policy = policy_of(config)
        self._workers = config.argon2_workers
        self._limit = config.argon2_workers + config.argon2_queue
        self._taken = 0
        self._turns = asyncio.Semaphore(2 * config.argon2_workers)
        self._pool = ThreadPoolExecutor(config.argon2_workers, "password", initializer=_yield_to_the_loop)
        self._closed = False
        self._lock = threading.Lock()
        self._running = 0
        self._timer = timer
        self._seconds = 0.05
        self._slowest_s = 0.0
        # Matches nothing, and costs what a new hash costs.
        salt, digest = secrets.token_bytes(OWN_SALT_BYTES), secrets.token_bytes(OWN_DIGEST_BYTES)
        self._dummy = Argon2Hash("argon2id", ARGON2_VERSION, *self.policy, salt, digest)

    @property
    def running(self) -> int:
        """How many are being hashed now."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many have a place and are not being hashed."""
        return max(0, self._taken - self._running)

    @property
    def slowest_s(self) -> float:
        """The longest that a stored hash took here so far for one spelling of a password, without the waiting."""
        return self._slowest_s

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One caller's turn to hash and to verify, as often as it needs, for as long as the block lasts.

        Waits for it in the order of asking, or raises Unavailable at once when all places are taken. Twice as many have
        their turn as hash at once: while some look something up, the threads have work.
        """
        if self._closed:
            raise Unavailable("The gateway is shutting down.")
        if self._taken >= self._limit:
            wait_s = max(1.0, self._taken * self._seconds / self._workers)
            raise Unavailable("Too many passwords are being checked.", retry_after_s=round(wait_s, 1))
        self._taken += 1
        try:
            async with self._turns:
                yield
        finally:
            self._taken -= 1

    async def hash(self, password: str) -> str:
        """The hash of a password to be stored, argon2id by the present policy. For whoever has a `turn`.

        Raises ValueError for what `normalize` refuses, Unavailable when it can not be done now.
        """
        text = normalize(password)
        return await self._run(lambda: _new_hash(text, self.policy))

    async def verify(self, password: str, stored: str | None, whose: str = "") -> Verdict:
        """Whether this is the password that `stored` was made of, in any of the forms that `parse_hash` takes. For
        whoever has a `turn`.

        None is never right and takes as long as a hash of the present policy; so is a hash of another form or of an
        absurd cost, which is logged with `whose` it is. Hashes made elsewhere may be of the text as it was typed: both
        spellings are tried where NFKC changes it. What `normalize` refuses is wrong, at no cost. Raises Unavailable
        when it can not be done now.
        """
        candidates = spellings(password)
        if not candidates:
            return Verdict(False, False)
        known = _parsed(stored, whose) if stored is not None else None
        expected = known or self._dummy
        right = await self._run(lambda: self._first_match(candidates, expected))
        if known is None or right is None:
            return Verdict(False, False)
        return Verdict(True, right > 0 or needs_rehash(known, self.policy))

    def close(self) -> None:
        """Let go of the threads, which end with what they are doing; who waits is answered Unavailable."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], _T]) -> _T:
        """On a thread; who is cancelled before it began costs nothing."""
        if self._closed:
            raise Unavailable("The gateway is shutting down.")
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._timed, work)
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            future.cancel()
            raise
        if future.cancelled():
            raise Unavailable("The gateway is shutting down.")
        try:
            return future.result()
        except (HashingError, MemoryError) as error:
            log.warning("a password could not be hashed: %s", error)
            raise Unavailable("The password can not be checked now.", retry_after_s=1.0) from None

    def _first_match(self, candidates: list[str], expected: PasswordHash) -> int | None:
        """The place of the spelling that matches; all are tried, so that the time does not tell which."""
        started = self._timer()
        matches = [place for place, text in enumerate(candidates) if _matches(text.encode(), expected)]
        if expected is not self._dummy:
            took_s = (self._timer() - started) / len(candidates)
            with self._lock:
                self._slowest_s = max(self._slowest_s, took_s)
        return matches[0] if matches else None

    def _timed(self, work: Callable[[], _T]) -> _T:
        with self._lock:
            self._running += 1
        started = self._timer()
        try:
            return work()
        finally:
            with self._lock:
                self._running -= 1
                self._seconds += (self._timer() - started - self._seconds) / 8


def spellings(password: str) -> list[str]:
    """What is tried for this password: NFKC, and as it was typed where that is another text; nothing for what
    `normalize` refuses."""
    try:
        text = normalize(password)
    except ValueError:
        return []
    return [text] if text == password else [text, password]


def policy_of(config: AuthConfig) -> Policy:
    """The cost of new hashes by the settings; ConfigError when no hash may cost that much."""
    policy = Policy(config.argon2_memory_kib, config.argon2_time, config.argon2_parallelism)
    try:
        check_policy(policy)
    except ValueError as error:
        raise ConfigError(f"auth.argon2_memory_kib times auth.argon2_time: {error}") from None
    return policy


def hash_now(password: str, config: AuthConfig) -> str:
    """As `Passwords.hash`, for a program without an event loop."""
    return _new_hash(normalize(password), policy_of(config))


def _yield_to_the_loop() -> None:
    """Threads are processes to Linux's scheduler, each with a priority of its own (sched(7))."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS))


def _new_hash(text: str, policy: Policy) -> str:
    salt = secrets.token_bytes(OWN_SALT_BYTES)
    memory, passes, lanes = policy
    return hash_secret(text.encode(), salt, passes, memory, lanes, OWN_DIGEST_BYTES, Type.ID).decode("ascii")


def _parsed(stored: str, whose: str) -> PasswordHash | None:
    try:
        return parse_hash(stored)
    except ValueError as error:
        log.warning("a stored password hash can not be used: it %s", error, extra={"user": whose})
        return None


def _matches(password: bytes, stored: PasswordHash) -> bool:
    if isinstance(stored, BcryptHash):
        derived, expected = bcrypt.hashpw(password[:BCRYPT_BYTES], stored.text.encode()), stored.text.encode()
    else:
        derived, expected = _derived(password, stored), stored.digest
    return hmac.compare_digest(derived, expected)


def _derived(password: bytes, stored: PasswordHash) -> bytes:
    if isinstance(stored, Argon2Hash):
        return hash_secret_raw(
            password,
            stored.salt,
            stored.time,
            stored.memory_kib,
            stored.parallelism,
            len(stored.digest),
            _TYPES[stored.kind],
            stored.version,
        )
    if isinstance(stored, ScryptHash):
        n, r, p = stored.n, stored.r, stored.p
        most = 128 * r * (n + p + 2) + 65_536  # what OpenSSL counts, and room
        return hashlib.scrypt(password, salt=stored.salt, n=n, r=r, p=p, maxmem=most, dklen=len(stored.digest))
    assert not isinstance(stored, BcryptHash)
    return hashlib.pbkdf2_hmac(stored.algorithm, password, stored.salt, stored.iterations, len(stored.digest))
