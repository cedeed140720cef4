"""A credential in, a `Principal` out.

Look-ups that arrive together are read together: a storm of reconnects costs a few statements, not one for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.auth.access_tokens import AccessTokens
from gateway.auth.keyring import Keyring
from gateway.auth.void_logins import VoidLogins
from gateway.core.clock import LAST_MOMENT_MS
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.tokens import hash_token, is_api_token
from gateway.errors import AuthFailed, StoreError, Unavailable
from gateway.store.authentication import (
    SessionRow,
    TokenRow,
    record_use,
    sessions_by_id,
    tokens_by_hash,
    tokens_by_id,
)
from gateway.store.changes import last_seq
from gateway.store.database import Database, Reader
from gateway.store.instances import KeyInForce, keys_in_force

if TYPE_CHECKING:
    from gateway.auth.tickets import Tickets

log = logging.getLogger("gateway.auth")

BATCH = 256
USE_RESOLUTION_MS = 3_600_000
RETRY_AFTER_S = 1.0


class _Scopes(msgspec.Struct, forbid_unknown_fields=True):
    permissions: list[str]


class Authenticator:
    """Checks bearer tokens and tickets. `wall` gives the time in milliseconds since 1970 UTC.

    `stale` is the node's to set: the database can not be read, so nobody knows what was revoked since. API tokens can
    not be looked up then; access tokens could be checked, and are not taken all the same.
    """

    def __init__(
        self,
        database: Database,
        wall: Callable[[], int],
        access_tokens: AccessTokens,
        revocations: VoidLogins,
        tickets: Tickets,
        keyring: Keyring,
    ) -> None:
        self._database = database
        self._wall = wall
        self._access_tokens = access_tokens
        self._revocations = revocations
        self._tickets = tickets
        self._keyring = keyring
        self.stale = False
        self._waiting: dict[str, list[asyncio.Future[Principal]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._used: dict[str, int] = {}
        self.looked_up = 0

    async def authenticate(self, token: str) -> Principal:
        """The principal that this bearer token stands for now.

        Raises `AuthFailed` for a token that is not valid, `Unavailable` when that can not be found out.
        """
        if not is_api_token(token):
            return self._by_access_token(token)
        future: asyncio.Future[Principal] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(hash_token(token), []).append(future)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_waiting())
        return await future

    def _by_access_token(self, token: str) -> Principal:
        claims = self._access_tokens.check(token)
        if self.stale:
            raise Unavailable("The token can not be checked now.", retry_after_s=RETRY_AFTER_S)
        return Principal(
            PrincipalKind.USER,
            claims.user,
            CredentialKind.LOGIN_SESSION,
            claims.session,
            claims.expires_at,
            credential_mark=claims.kid,
        )

    async def authenticate_channel(self, token: str) -> Principal:
        """As `authenticate`, for the channel, which takes tickets too: one that is good is used up by this."""
        if self._tickets.looks_like(token):
            return await self.redeem(token)
        return await self.authenticate(token)

    async def redeem(self, ticket: str) -> Principal:
        """The principal that made this ticket, which is used up by this; AuthFailed too when the key is withdrawn
        that signed what it was made with. Raises as `authenticate`.
        """
        principal = await self._tickets.redeem(ticket)
        if not self.signed(principal):
            raise AuthFailed("The ticket is not valid.")
        return principal

    # --- what servers that check tokens by themselves are told ---

    @property
    def token_life_ms(self) -> int:
        """How long the longest access token lives, and what two clocks may differ by: milliseconds."""
        return self._revocations.life_ms

    def published_keys(self, now: int) -> tuple[Mapping[str, Any], int | None]:
        """The key set (RFC 7517 §5) at `now`, and when it changes by the clock (milliseconds since 1970 UTC)."""
        return self._keyring.jwks(now), self._keyring.next_end(now)

    # --- what stops being good ---

    def holds(self, principal: Principal) -> bool:
        """Whether what is known without a read speaks for a login's principal still: its session is not void, and the
        key that signed its token is known. True for every other principal.
        """
        if principal.credential_kind is not CredentialKind.LOGIN_SESSION:
            return True
        return self.signed(principal) and not self._revocations.void(principal.id, principal.credential_id)

    def signed(self, principal: Principal) -> bool:
        """Whether the key is still known that signed a login's access token, or the one that made its ticket."""
        if principal.credential_kind is not CredentialKind.LOGIN_SESSION or not principal.credential_mark:
            return True
        return self._keyring.known(principal.credential_mark, self._wall())

    async def load(self, reader: Reader, *, anew: bool = False) -> None:
        """Read all that is revoked, and the keys. `anew`: it is another database than before."""
        await self.load_keys(reader)
        await self.load_voids(reader, anew=anew)

    async def load_voids(self, reader: Reader, *, anew: bool = False) -> None:
        """Read all that is revoked, of one moment or page by page."""
        await self._revocations.load(reader, anew=anew)

    async def load_keys(self, reader: Reader) -> None:
        """Read the keys that access tokens are signed with."""
        await self._keyring.load(reader)

    async def update(self, reader: Reader, users: Collection[str], seq: int) -> None:
        """Read what is revoked of these users, of whom the log has news. `reader` shows the moment `seq`."""
        await self._revocations.update(reader, users, seq)

    async def recheck(self, reader: Reader, principals: Iterable[Principal]) -> dict[Principal, Principal | None]:
        """What the credentials of these principals stand for now; None: revoked or gone.

        One whose end was moved comes back with the new end, the earlier of its own and its login session's. A
        credential may be newer than the moment that the reader shows: before one is given up, the database is asked.
        """
        verdicts = await self._verdicts(reader, set(principals))
        lost = {asked for asked, found in verdicts.items() if found is None or not found.same_credential(asked)}
        if lost:
            # A database that can not be asked saves nobody.
            with contextlib.suppress(StoreError):
                verdicts |= await self._verdicts(self._database, lost)
        return verdicts

    async def _verdicts(self, reader: Reader, asked: Collection[Principal]) -> dict[Principal, Principal | None]:
        tokens = {p.credential_id for p in asked if p.credential_kind is CredentialKind.API_TOKEN}
        sessions = {p.credential_id for p in asked if p.credential_kind is CredentialKind.LOGIN_SESSION}
        kids = {p.credential_id for p in asked if p.credential_kind is CredentialKind.INSTANCE_KEY}
        keys = await keys_in_force(reader, kids) if kids else {}
        token_rows = await tokens_by_id(reader, tokens) if tokens else {}
        session_rows = await sessions_by_id(reader, sessions) if sessions else {}
        found: dict[Principal, Principal | None] = {}
        for principal in asked:
            credential = principal.credential_id
            if principal.credential_kind is CredentialKind.API_TOKEN:
                found[principal] = _principal(token_rows.get(credential))
            elif principal.credential_kind is CredentialKind.INSTANCE_KEY:
                found[principal] = _still_signs(principal, keys.get(credential))
            else:
                found[principal] = self._still(principal, session_rows.get(credential))
        return found

    def _still(self, principal: Principal, row: SessionRow | None) -> Principal | None:
        if row is None or not row.in_force or row.user_id != principal.id or not self.signed(principal):
            return None
        if principal.expires_at is not None and principal.expires_at <= row.expires_at:
            return principal
        return msgspec.structs.replace(principal, expires_at=row.expires_at)

    async def record_use(self) -> None:
        """Write down which tokens were used since the last call. Raises `StoreError`; the next call tries again."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await record_use(self._database, used)
        except StoreError:
            self._used = used | self._used
            raise

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                batch = {key: self._waiting.pop(key) for key in list(islice(self._waiting, BATCH))}
                try:
                    rows = await self._read(batch)
                    self.looked_up += len(batch)
                    now = self._wall()
                    for key, futures in batch.items():
                        self._settle(futures, rows.get(key), now)
                except Exception as exc:
                    if not isinstance(exc, StoreError):
                        log.exception("reading tokens failed")
                    self._settle_all(batch)
        finally:
            self._reading = None

    async def _read(self, hashes: Collection[str]) -> dict[str, TokenRow]:
        """Nearby, and what is not there where it must be: a token that was just made is good at once, everywhere."""
        database = self._database
        rows = await tokens_by_hash(database.near, hashes)
        if database.lags and (unknown := [key for key in hashes if key not in rows]):
            new = await tokens_by_hash(database, unknown)
            if new:
                # Nearby there may be no such user yet, which would look like a deleted one.
                database.seen(await last_seq(database))
            rows |= new
        return rows

    def _settle_all(self, batch: dict[str, list[asyncio.Future[Principal]]]) -> None:
        for futures in batch.values():
            for future in futures:
                if not future.done():
                    future.set_exception(Unavailable("The token can not be checked now.", retry_after_s=RETRY_AFTER_S))

    def _settle(self, futures: list[asyncio.Future[Principal]], row: TokenRow | None, now: int) -> None:
        principal = _principal(row)
        if principal is not None and principal.expires_at is not None and principal.expires_at <= now:
            principal = None
        for future in futures:
            if future.done():
                continue
            if principal is None:
                future.set_exception(AuthFailed("The token is not valid."))
            else:
                future.set_result(principal)
        if principal is not None and row is not None and now - (row.last_used_at or 0) > USE_RESOLUTION_MS:
            self._used[row.id] = now


def _still_signs(principal: Principal, key: KeyInForce | None) -> Principal | None:
    if key is None or key.instance != principal.id:
        return None
    return msgspec.structs.replace(principal, expires_at=key.expires_at)


def token_principal(row: TokenRow) -> Principal:
    """Whom an API token stands for."""
    endless = row.expires_at is None or row.expires_at > LAST_MOMENT_MS
    return Principal(
        PrincipalKind.USER,
        row.user_id,
        CredentialKind.API_TOKEN,
        row.id,
        None if endless else row.expires_at,
        _permissions(row.scopes),
        row.token_hash,
    )


def _principal(row: TokenRow | None) -> Principal | None:
    return None if row is None else token_principal(row)


def _permissions(scopes: str) -> frozenset[str] | None:
    if scopes == "{}":
        return None
    try:
        return frozenset(msgspec.json.decode(scopes, type=_Scopes).permissions)
    except (msgspec.DecodeError, RecursionError):
        return frozenset()
