"""All that makes, checks and revokes credentials, built once for a process."""

from __future__ import annotations

from collections.abc import Callable

from gateway.auth.access_tokens import AccessTokens
from gateway.auth.authenticator import Authenticator
from gateway.auth.instances import Instances
from gateway.auth.keyring import Keyring
from gateway.auth.lockout import Lockout
from gateway.auth.logins import Logins
from gateway.auth.master_key import load_sealer
from gateway.auth.passwords import Passwords
from gateway.auth.revoker import Revoker
from gateway.auth.signed import SignedValues
from gateway.auth.tickets import Tickets
from gateway.auth.void_logins import VoidLogins
from gateway.config import Config
from gateway.core.instant import Instant
from gateway.core.sealing import Sealer
from gateway.store.audit import prune_audit
from gateway.store.database import Database
from gateway.store.keys import anything_sealed
from gateway.store.logins import prune_logins
from gateway.store.tickets import prune_tickets

AUDIT_PRUNED_EVERY_S = 3600.0


class Accounts:
    """The services, each with what it needs of the others. `wall`: milliseconds since 1970 UTC."""

    def __init__(self, config: Config, database: Database, sealer: Sealer, wall: Callable[[], int]) -> None:
        self.settings = settings = config.auth
        self._database = database
        self._wall = wall
        self._prune_audit_at = 0.0
        self.keyring = Keyring(sealer, settings.access_ttl_s)
        self.revocations = VoidLogins(wall, settings.access_ttl_s)
        self.access_tokens = AccessTokens(self.keyring, self.revocations, settings, wall)
        self.signed = SignedValues(sealer, wall)
        self.tickets = Tickets(database, self.signed, settings.access_ttl_s, wall)
        self.authenticator = Authenticator(
            database, wall, self.access_tokens, self.revocations, self.tickets, self.keyring
        )
        self.instances = Instances(database, sealer, wall)
        self.revoker = Revoker(database, self.revocations, wall)
        self.passwords = Passwords(settings)
        lockout = Lockout(database, settings, wall)
        self.logins = Logins(
            database, settings, wall, self.passwords, lockout, self.access_tokens, self.revoker, self.signed
        )

    @classmethod
    async def open(cls, config: Config, database: Database, wall: Callable[[], int]) -> Accounts:
        """Those of a database that is up to date, with a key to sign with; a master key is made beside a database file
        that has no signing keys yet. Raises `ConfigError` when there is none that can be used, `StoreError`."""
        services = cls(config, database, load_sealer(config, make=not await anything_sealed(database)), wall)
        try:
            await services.start()
        except BaseException:
            services.close()
            raise
        return services

    async def start(self) -> None:
        """Have a key to sign with. Raises `ConfigError` when the master key is not this database's, `StoreError`."""
        await self.keyring.ensure(self._database, self._wall())

    async def keep_house(self, at: Instant) -> None:
        """Delete what is of no use any more and, once in an hour, the audit trail's oldest rows. One node does it.
        Raises `StoreError`."""
        await prune_logins(self._database, at.wall)
        await prune_tickets(self._database, at.wall)
        await self.instances.keep_house(at)
        if at.mono >= self._prune_audit_at:
            await prune_audit(self._database, self.settings.audit_keep_s * 1000, at.wall)
            self._prune_audit_at = at.mono + AUDIT_PRUNED_EVERY_S

    def close(self) -> None:
        """Let go of the threads that hash passwords."""
        self.passwords.close()
