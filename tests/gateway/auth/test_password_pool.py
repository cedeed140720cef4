"""Passwords hashed and checked on threads, in every form that may be imported."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import bcrypt
import msgspec
import pytest
from argon2 import PasswordHasher, Type
from argon2.low_level import hash_secret, hash_secret_raw

from gateway.auth.passwords import Passwords, Verdict, hash_now
from gateway.core.password_hash import Argon2Hash, parse_hash
from gateway.errors import ConfigError, Unavailable
from tests.support.login_rig import CHEAP, PASSWORD, cheap_hash
from tests.support.waiting import eventually


@contextlib.contextmanager
def pool(**settings: Any) -> Iterator[Passwords]:
    passwords = Passwords(msgspec.structs.replace(CHEAP, **settings))
    try:
        yield passwords
    finally:
        passwords.close()


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    with pool() as opened:
        yield opened


async def test_a_password_is_hashed_by_the_policy_and_found_right(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    parsed = parse_hash(stored)
    assert isinstance(parsed, Argon2Hash)
    assert parsed[:5] == ("argon2id", 19, 7168, 1, 1)
    assert (len(parsed.salt), len(parsed.digest)) == (16, 32)
    assert stored != await passwords.hash(PASSWORD)
    assert await passwords.verify(PASSWORD, stored) == Verdict(ok=True, rehash=False)
    assert await passwords.verify(PASSWORD + "!", stored) == Verdict(ok=False, rehash=False)
    assert await passwords.verify("", stored) == Verdict(ok=False, rehash=False)
    PasswordHasher().verify(stored, PASSWORD)


async def test_another_policy_asks_for_a_new_hash(passwords: Passwords) -> None:
    with pool(argon2_time=2) as dearer:
        assert await dearer.verify(PASSWORD, cheap_hash()) == Verdict(ok=True, rehash=True)
        assert await dearer.verify("another one than that", cheap_hash()) == Verdict(ok=False, rehash=False)


async def test_two_spellings_are_one_password(passwords: Passwords) -> None:
    stored = await passwords.hash("Zoe\u0308 \ufb01ne otters")
    assert (await passwords.verify("Zo\u00eb fine otters", stored)).ok
    assert (await passwords.verify("Zoe\u0308 fine otters", stored)).ok
    assert not (await passwords.verify("Zoe fine otters", stored)).ok


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def made(password: str) -> dict[str, str]:
    """What other programs store for this password."""
    text = password.encode()
    pbkdf2 = {name: hashlib.pbkdf2_hmac(name, text, b"seasalt", 1000) for name in ("sha1", "sha256", "sha512")}
    scrypt = hashlib.scrypt(text, salt=b"seasalt", n=1024, r=8, p=2, dklen=64)
    salt64 = b64(b"seasalt").rstrip("=")
    dotted = b64(pbkdf2["sha512"]).rstrip("=").replace("+", ".")
    cheap: dict[str, Any] = {"time_cost": 1, "memory_cost": 64, "parallelism": 1}
    argon2 = {kind.name: PasswordHasher(**cheap, type=kind).hash(text) for kind in (Type.ID, Type.I, Type.D)}
    return {
        "argon2id": argon2["ID"],
        "argon2i of Django": "argon2" + argon2["I"],
        "argon2d": argon2["D"],
        "bcrypt": bcrypt.hashpw(text[:72], bcrypt.gensalt(4)).decode(),
        "bcrypt of PHP": bcrypt.hashpw(text[:72], bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$"),
        "bcrypt of Django": "bcrypt$" + bcrypt.hashpw(text[:72], bcrypt.gensalt(4)).decode(),
        "scrypt of Werkzeug": f"scrypt:1024:8:2$seasalt${scrypt.hex()}",
        "scrypt of Django": f"scrypt$1024$seasalt$8$2${b64(scrypt)}",
        "scrypt of passlib": f"$scrypt$ln=10,r=8,p=2${salt64}${b64(scrypt).rstrip('=')}",
        "pbkdf2 of Werkzeug": f"pbkdf2:sha256:1000$seasalt${pbkdf2['sha256'].hex()}",
        "pbkdf2 of Werkzeug with sha512": f"pbkdf2:sha512:1000$seasalt${pbkdf2['sha512'].hex()}",
        "pbkdf2 of Django": f"pbkdf2_sha256$1000$seasalt${b64(pbkdf2['sha256'])}",
        "pbkdf2 of Django with sha1": f"pbkdf2_sha1$1000$seasalt${b64(pbkdf2['sha1'])}",
        "pbkdf2 of passlib": f"$pbkdf2-sha512$1000${salt64}${dotted}",
    }


@pytest.mark.parametrize("form", made(PASSWORD))
async def test_every_imported_form_lets_its_owner_in_and_asks_for_a_new_hash(passwords: Passwords, form: str) -> None:
    stored = made(PASSWORD)[form]
    assert await passwords.verify(PASSWORD, stored) == Verdict(ok=True, rehash=True)
    assert await passwords.verify(PASSWORD.upper(), stored) == Verdict(ok=False, rehash=False)


PUBLISHED = {
    # From the tests and documentation of Django, passlib, crypt_blowfish and argon2; the last two made by Werkzeug 3.1.
    "scrypt$16384$seasalt$8$1$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwite/Pw==": "lètmein",  # noqa: E501
    "pbkdf2_sha256$10000$seasalt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=": "lètmein",
    "pbkdf2_sha1$10000$wz5B6WkasRoF$atJmJ1o+XfJxKq1+Nu1f1i57Z5I=": "not a password",
    "$pbkdf2-sha256$6400$.6UI/S.nXIk8jcbdHx3Fhg$98jZicV16ODfEsEZeYPGHU3kbrUrvUEXOPimVSQDD44": "password",
    "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E": "password",
    "$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ": "password",
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc": "password",
    "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW": "U*U",
    "pbkdf2:sha256:1000$LH8bAw1elx4mlspc$ba6c4428658bff80300376181491edd0564ad5717321b014712556721f690f3c": "x",
    "scrypt:1024:8:1$5eSWO9dfPpwyU5GF$67169ea13923950fc84f5b34a03e748de285640a87b9920b3dec43444662618465a3025e6c26ef4a9137d24195139a81191fe6a0746cc9de644d31ec1d8c6f17": "x",  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize(("stored", "password"), PUBLISHED.items())
async def test_published_vectors(passwords: Passwords, stored: str, password: str) -> None:
    assert await passwords.verify(password, stored) == Verdict(ok=True, rehash=True)
    assert not (await passwords.verify(password + "x", stored)).ok


@pytest.mark.parametrize("form", made("x"))
async def test_an_imported_hash_may_be_of_the_text_as_it_was_typed(passwords: Passwords, form: str) -> None:
    typed = "Zoe\u0308 \ufb01ne otters"
    assert await passwords.verify(typed, made(typed)[form]) == Verdict(ok=True, rehash=True)
    assert (await passwords.verify(typed, made("Zo\u00eb fine otters")[form])).ok


async def test_an_own_hash_found_by_the_text_as_typed_is_made_anew(passwords: Passwords) -> None:
    """Then every spelling will do."""
    typed = "Zoe\u0308 \ufb01ne otters"
    raw = PasswordHasher(time_cost=1, memory_cost=7168, parallelism=1).hash(typed)
    assert await passwords.verify(typed, raw) == Verdict(ok=True, rehash=True)
    assert not (await passwords.verify("Zo\u00eb fine otters", raw)).ok


@pytest.mark.parametrize("length", [71, 72, 73, 200, 1024])
async def test_bcrypt_is_cut_as_it_always_was(passwords: Passwords, length: int) -> None:
    stored = made("x" * length)["bcrypt"]
    assert (await passwords.verify("x" * length, stored)).ok
    assert (await passwords.verify("x" * 72, stored)).ok == (length >= 72)
    assert not (await passwords.verify("x" * 70, stored)).ok


@pytest.mark.parametrize("length", [24, 25])
async def test_bcrypt_is_cut_in_bytes(passwords: Passwords, length: int) -> None:
    """Between two bytes of one character, too."""
    stored = made("é" * 35 + "x€" + "y" * length)["bcrypt"]
    assert (await passwords.verify("é" * 35 + "x€" + "z" * length, stored)).ok


UNUSABLE = {
    "nothing": "",
    "plain text": PASSWORD,
    "another form": hashlib.md5(PASSWORD.encode(), usedforsecurity=False).hexdigest(),
    "absurd memory": cheap_hash().replace("m=7168", "m=4194304"),
    "absurd passes": cheap_hash().replace("t=1", "t=4294967295"),
    "absurd rounds": made(PASSWORD)["bcrypt"].replace("$04$", "$31$"),
    "absurd iterations": made(PASSWORD)["pbkdf2 of Django"].replace("$1000$", "$4000000000$"),
    "absurd N": made(PASSWORD)["scrypt of Django"].replace("$1024$", "$1073741824$"),
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_what_raw_sql_wrote_is_a_wrong_password(
    passwords: Passwords, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "gateway"):
        assert await passwords.verify(PASSWORD, UNUSABLE[name], "u1") == Verdict(ok=False, rehash=False)
    [record] = caplog.records
    assert record.__dict__["user"] == "u1"
    assert "can not be used" in record.getMessage()
    assert not UNUSABLE[name] or UNUSABLE[name] not in record.getMessage()


class Counting(Passwords):
    """Counts what is run on the threads."""

    work = 0

    async def _run(self, work: Any) -> Any:
        self.work += 1
        return await super()._run(work)


async def test_nobody_s_password_costs_as_much_as_somebody_s() -> None:
    passwords = Counting(CHEAP)
    for stored in (None, cheap_hash(), "!", cheap_hash("another one than that")):
        passwords.work = 0
        await passwords.verify(PASSWORD, stored)
        assert passwords.work == 1
    passwords.close()


@pytest.mark.parametrize("password", ["", "x" * 1025, "x" * 10_000_000, "a\0b", "\ud800", "\ufdfa" * 60])
async def test_what_can_be_no_password_costs_nothing(password: str) -> None:
    passwords = Counting(CHEAP)
    assert await passwords.verify(password, cheap_hash()) == Verdict(ok=False, rehash=False)
    with pytest.raises(ValueError, match="password"):
        await passwords.hash(password)
    assert passwords.work == 0
    passwords.close()


async def test_the_longest_that_a_stored_hash_took_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one spelling; what matches nobody's and what is made anew are no stored hashes."""
    clock, costs = [0.0], iter([5.0, 0.5, 0.25, 1.5, 1.5])
    passwords = Passwords(CHEAP, timer=lambda: clock[0])

    def derived(*_: Any) -> bytes:
        clock[0] += next(costs)
        return b"d" * 32

    monkeypatch.setattr("gateway.auth.passwords._derived", derived)
    seen = []
    for password, stored in ((PASSWORD, None), (PASSWORD, cheap_hash()), (PASSWORD, cheap_hash())):
        await passwords.verify(password, stored)
        seen.append(passwords.slowest_s)
    await passwords.verify("Zoe\u0308 \ufb01ne otters", cheap_hash())
    assert [*seen, passwords.slowest_s] == [0.0, 0.5, 0.5, 1.5]
    passwords.close()


# --- bounds -----------------------------------------------------------------------------------------------------------


class Blocked:
    """Work that waits until it is let go, and counts how many are at it together."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.at_once = self.most = self.done = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        assert self.go.wait(30)
        with self._lock:
            self.at_once -= 1
            self.done += 1


async def occupy(passwords: Passwords, work: Blocked) -> None:
    async with passwords.turn():
        await passwords._run(work)


async def checked(passwords: Passwords) -> bool:
    async with passwords.turn():
        return (await passwords.verify(PASSWORD, cheap_hash())).ok


async def test_no_more_than_the_workers_at_once_and_no_more_than_the_queue_wait() -> None:
    work = Blocked()
    with pool(argon2_workers=2, argon2_queue=3) as passwords:
        tasks = [asyncio.create_task(occupy(passwords, work)) for _ in range(5)]
        await eventually(lambda: work.at_once == 2)
        assert (passwords.running, passwords.waiting) == (2, 3)
        with pytest.raises(Unavailable) as refused:
            await checked(passwords)
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s >= 1
        work.go.set()
        await asyncio.gather(*tasks)
        assert (work.most, work.done) == (2, 5)
        assert (passwords.running, passwords.waiting) == (0, 0)
        assert await checked(passwords)


async def test_who_is_cancelled_frees_the_place_and_is_never_worked_for() -> None:
    work = Blocked()
    with pool(argon2_workers=1, argon2_queue=1) as passwords:
        first = asyncio.create_task(occupy(passwords, work))
        await eventually(lambda: work.at_once == 1)
        for _ in range(3):
            waiting = asyncio.create_task(occupy(passwords, work))
            await eventually(lambda: passwords.waiting == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        last = asyncio.create_task(checked(passwords))
        await eventually(lambda: passwords.waiting == 1)
        work.go.set()
        assert await last
        await first
        assert work.done == 1


async def test_an_end_answers_those_who_wait() -> None:
    work = Blocked()
    passwords = Passwords(msgspec.structs.replace(CHEAP, argon2_workers=1))
    running = asyncio.create_task(occupy(passwords, work))
    await eventually(lambda: work.at_once == 1)
    waiting = asyncio.create_task(checked(passwords))
    await eventually(lambda: passwords.waiting == 1)
    passwords.close()
    with pytest.raises(Unavailable, match="shutting down"):
        await waiting
    for call in (passwords.hash(PASSWORD), checked(passwords)):
        with pytest.raises(Unavailable, match="shutting down"):
            await call
    work.go.set()
    await running


async def test_the_event_loop_goes_on(passwords: Passwords) -> None:
    """Also with more to hash than there are cores: the longest time between two of its rounds stays short."""
    longest, ticks = 0.0, 0
    hashing = [asyncio.create_task(passwords.hash(PASSWORD)) for _ in range(60)]
    while not all(task.done() for task in hashing):
        started = time.perf_counter()
        await asyncio.sleep(0)
        longest, ticks = max(longest, time.perf_counter() - started), ticks + 1
    assert ticks > 60
    assert longest < 2.0
    await asyncio.gather(*hashing)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own elsewhere")
async def test_the_threads_yield_to_the_event_loop(passwords: Passwords) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert await passwords._run(niceness) == min(19, niceness() + 10)


async def test_nothing_is_hashed_on_the_event_loop(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()

    def seen(work: Any) -> Any:
        def noted(*arguments: Any) -> Any:
            threads.add(threading.current_thread().name.partition("_")[0])
            return work(*arguments)

        return noted

    monkeypatch.setattr("gateway.auth.passwords.hash_secret", seen(hash_secret))
    monkeypatch.setattr("gateway.auth.passwords.hash_secret_raw", seen(hash_secret_raw))
    stored = await passwords.hash(PASSWORD)
    assert (await passwords.verify(PASSWORD, stored)).ok
    await passwords.verify(PASSWORD, None)
    assert threads == {"password"}


async def test_no_memory_is_unavailable(passwords: Passwords) -> None:
    def fail() -> None:
        raise MemoryError

    with pytest.raises(Unavailable, match="can not be checked now"):
        await passwords._run(fail)


def test_a_cost_that_no_hash_may_have_is_refused_at_the_start() -> None:
    dear = msgspec.structs.replace(CHEAP, argon2_memory_kib=1_048_576, argon2_time=100)
    with pytest.raises(ConfigError, match=r"auth\.argon2_memory_kib"):
        Passwords(dear)


def test_a_hash_without_an_event_loop() -> None:
    parsed = parse_hash(hash_now(PASSWORD, CHEAP))
    assert isinstance(parsed, Argon2Hash)
    assert parsed[:5] == ("argon2id", 19, 7168, 1, 1)
    with pytest.raises(ValueError, match="NUL"):
        hash_now("a\0b", CHEAP)
