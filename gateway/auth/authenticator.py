"""A credential in, a `Principal` out. Nobody else makes one.

Look-ups that arrive together are read together: a storm of reconnects costs a few statements, not one for each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from itertools import islice

import msgspec

from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.tokens import hash_token, is_api_token
from gateway.errors import AuthFailed, StoreError, Unavailable
from gateway.store.authentication import TokenRow, record_use, tokens_by_hash, tokens_by_id
from gateway.store.changes import last_seq
from gateway.store.database import Database, Reader

log = logging.getLogger("gateway.auth")

BATCH = 256
USE_RESOLUTION_MS = 3_600_000
RETRY_AFTER_S = 1.0
MARK_LENGTH = 16
LAST_MOMENT_MS = 253_402_300_799_999
"""The end of the year 9999; RFC 3339 has no words for anything later."""


class _Scopes(msgspec.Struct, forbid_unknown_fields=True):
    permissions: list[str]


class Authenticator:
    """Checks bearer tokens. `wall` gives the time in milliseconds since 1970 UTC."""

    def __init__(self, database: Database, wall: Callable[[], int]) -> None:
        self._database = database
        self._wall = wall
        self._waiting: dict[str, list[asyncio.Future[Principal]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._used: dict[str, int] = {}
        self.looked_up = 0

    async def authenticate(self, token: str) -> Principal:
        """The principal that this bearer token stands for now.

        Raises `AuthFailed` for a token that is not valid, `Unavailable` when that can not be found out.
        """
        if not is_api_token(token):
            raise AuthFailed("The token is not valid.")
        future: asyncio.Future[Principal] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(hash_token(token), []).append(future)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_waiting())
        return await future

    async def recheck(self, reader: Reader, principals: Iterable[Principal]) -> dict[str, Principal | None]:
        """What the credentials of these principals stand for now, by credential id; None: revoked or gone."""
        ids = {principal.credential_id for principal in principals}
        rows = await tokens_by_id(reader, ids) if ids else {}
        return {id: _principal(rows.get(id)) for id in ids}

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


def _principal(row: TokenRow | None) -> Principal | None:
    if row is None:
        return None
    endless = row.expires_at is None or row.expires_at > LAST_MOMENT_MS
    return Principal(
        PrincipalKind.USER,
        row.user_id,
        CredentialKind.API_TOKEN,
        row.id,
        None if endless else row.expires_at,
        _permissions(row.scopes),
        row.token_hash[:MARK_LENGTH],
    )


def _permissions(scopes: str) -> frozenset[str] | None:
    if scopes == "{}":
        return None
    try:
        return frozenset(msgspec.json.decode(scopes, type=_Scopes).permissions)
    except (msgspec.DecodeError, RecursionError):
        return frozenset()
