"""Everything that logs users in, over a real database, with a clock of the test's and passwords that cost little."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.auth.access_tokens import AccessTokens
from gateway.auth.keyring import Keyring
from gateway.auth.lockout import Lockout
from gateway.auth.logins import Logins, SessionTokens
from gateway.auth.passwords import Passwords, hash_now
from gateway.auth.revoker import Revoker
from gateway.auth.signed import SignedValues
from gateway.auth.void_logins import VoidLogins
from gateway.config import AuthConfig
from gateway.core.password_hash import Argon2Hash
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.sealing import Sealer
from gateway.errors import AuthFailed
from gateway.store.audit import AuditRow, list_audit
from gateway.store.database import Database, Row, Statement
from tests.support.people import add_plan, add_user

CHEAP = AuthConfig(argon2_memory_kib=7168, argon2_time=1, min_password_length=15)
NOW = 1_764_000_000_000
PASSWORD = "a lamp for eleven otters"
HERE = "192.0.2.7"

_hashes: dict[str, str] = {}


def cheap_hash(password: str = PASSWORD) -> str:
    """A hash by the settings of `CHEAP`; the same one each time."""
    if password not in _hashes:
        _hashes[password] = hash_now(password, CHEAP)
    return _hashes[password]


class Clock:
    """Milliseconds since 1970 UTC, as the test has it."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


class LoginRig:
    """One node's objects. `slept` are the seconds that failures were held back; no time passes while they are, and none
    while a password is hashed."""

    def __init__(self, database: Database, config: AuthConfig, clock: Clock) -> None:
        sealer = Sealer([b"k" * 32])
        self.database = database
        self.config = config
        self.clock = clock
        self.slept: list[float] = []
        self.keyring = Keyring(sealer, config.access_ttl_s)
        self.revocations = VoidLogins(clock, config.access_ttl_s)
        self.access_tokens = AccessTokens(self.keyring, self.revocations, config, clock)
        self.signed = SignedValues(sealer, clock)
        self.passwords = Passwords(config, timer=lambda: 0.0)
        self.lockout = Lockout(database, config, clock)
        self.revoker = Revoker(database, self.revocations, clock)
        self.logins = self.new_logins()

    def new_logins(self, passwords: Any = None, database: Any = None) -> Logins:
        return Logins(
            database or self.database,
            self.config,
            self.clock,
            passwords or self.passwords,
            self.lockout,
            self.access_tokens,
            self.revoker,
            self.signed,
            monotonic=lambda: 0.0,
            sleep=self._sleep,
        )

    @classmethod
    async def open(cls, database: Database, clock: Clock | None = None, **settings: Any) -> LoginRig:
        """With the settings of `CHEAP` but for `settings`, a key to sign with, and the plan `free`."""
        config = msgspec.structs.replace(CHEAP, **settings)
        rig = cls(database, config, clock or Clock())
        await rig.keyring.ensure(database, rig.clock())
        if not (await rig.rows("SELECT 1 FROM plans WHERE id = 'free'")):
            await database.write(*add_plan("free"))
        return rig

    def close(self) -> None:
        self.passwords.close()

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def add_user(self, id: str, password: str | None = PASSWORD, **columns: Any) -> None:
        stored = None if password is None else cheap_hash(password)
        await self.database.write(add_user(id, **{"password_hash": stored} | columns))

    async def login(self, identifier: str = "ada", password: str = PASSWORD, **others: Any) -> SessionTokens:
        return await self.logins.login(identifier, password, **{"address": HERE} | others)

    async def refresh(self, token: str, **others: Any) -> SessionTokens:
        return await self.logins.refresh(token, **{"address": HERE} | others)

    async def fails(self, identifier: str = "ada", password: str = "wrong password 1", **others: Any) -> str:
        """A login that fails; what is said."""
        try:
            await self.login(identifier, password, **others)
        except AuthFailed as failed:
            return failed.message
        raise AssertionError("logged in")

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        return (await self.database.read(Statement(sql, args)))[0]

    async def audited(self, action: str | None = None) -> list[AuditRow]:
        """What the trail has, the newest first."""
        return await list_audit(self.database, action=action)

    async def counts(self) -> dict[str, int]:
        """Failures that are counted, by what they count against."""
        return dict(await self.rows("SELECT counted, failures FROM login_failures WHERE failures > 0"))


class Witness(Passwords):
    """Notes what every piece of work on the threads costs."""

    def __init__(self, config: Any) -> None:
        super().__init__(config, timer=lambda: 0.0)
        self.work: list[Any] = []

    async def _run(self, work: Any) -> Any:
        candidates, stored, _ = (cell.cell_contents for cell in work.__closure__)
        assert isinstance(stored, Argon2Hash)
        self.work.append((len(candidates), stored.kind, stored.memory_kib, stored.time, stored.parallelism))
        return await super()._run(work)


def principal(tokens: SessionTokens) -> Principal:
    """Who came by an access token of this session."""
    return Principal(PrincipalKind.USER, tokens.user.id, CredentialKind.LOGIN_SESSION, tokens.session)
