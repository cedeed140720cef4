"""Logging in: a password makes a login session, which lives from refresh token to refresh token.

A login that fails says nothing of why: wrong password, unknown name, locked and disabled account do the same work and
get the same answer, no earlier than `FAILURE_FLOOR_S` after they began, and no earlier than the costliest stored hash
that this process has met would have let it. (Imported hashes may cost more than those made here. The first login of
such a user in a process can be told from others by its time, and replaces the hash if it is right.)
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import unicodedata
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.auth.access_tokens import AccessTokens
from gateway.auth.clients import Client, login_failed, outcome
from gateway.auth.instances import BY_SIGNATURE
from gateway.auth.lockout import Attempt, Lockout, account_key, known_key, name_key
from gateway.auth.passwords import Passwords, Verdict, spellings
from gateway.auth.revoker import OtherSessions, Revoker, SessionEnded
from gateway.auth.signed import SignedValues
from gateway.config import AuthConfig
from gateway.core.clock import CLOCK_SKEW_MS
from gateway.core.passwords import check_new_password, normalize
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.text import MAX_EMAIL, make_id
from gateway.core.tokens import hash_token, is_refresh_token, new_refresh_token, refresh_successor
from gateway.errors import (
    AuthFailed,
    Conflict,
    Forbidden,
    NoRowChanged,
    NotFound,
    RateLimited,
    StoreUncertain,
    Unavailable,
    Unprocessable,
)
from gateway.store.accounts import User, find_user
from gateway.store.audit import Entry, record
from gateway.store.changes import last_seq
from gateway.store.credentials import credential_holds
from gateway.store.database import Database
from gateway.store.guards import guarded_write
from gateway.store.logins import (
    GRACE_MS,
    AccountRow,
    NewSession,
    RefreshRow,
    Rotation,
    begin_session,
    note_life,
    read_account,
    read_account_of,
    read_refresh,
    read_refresh_end,
    replace_password,
    rotate,
    signs_still,
)

log = logging.getLogger("gateway.auth")

FAILURE_FLOOR_S = 0.3
"""More than the work of a login takes on an unhurried machine, so that the time of an answer tells nothing."""
FAILURE_CEILING_S = 2.0
"""A failure waits no longer for the sake of costly hashes; twice that for a password that is tried in two spellings."""
DEVICE_TTL_S = 180 * 86_400
"""How long a browser is known after its last login, in seconds: half a year."""

_NO_LOGIN = "The user name or password is wrong, or the account can not be used now."
_NO_REFRESH = "The refresh token is not valid."
_NO_USER = "There is no such user any more."
_ID_BYTES = 16
_RANDOM_BYTES = 32
_TRIES = 3
_BESIDE_S = 0.2  # what a login does beside hashing


class SessionTokens(NamedTuple):
    """What a login session gives. Ends in milliseconds since 1970 UTC; `device` is what a browser shows at its next
    login to be known (empty after a refresh); `seq` is that of the commit."""

    user: User
    session: str
    access_token: str
    access_expires_at: int
    refresh_token: str
    refresh_expires_at: int
    device: str
    seq: int


class Logins:
    """Everything that needs a password or a refresh token. `wall` gives the time in milliseconds since 1970 UTC,
    `monotonic` and `sleep` the seconds of the floor."""

    def __init__(
        self,
        database: Database,
        config: AuthConfig,
        wall: Callable[[], int],
        passwords: Passwords,
        lockout: Lockout,
        access_tokens: AccessTokens,
        revoker: Revoker,
        signed: SignedValues,
        *,
        floor_s: float = FAILURE_FLOOR_S,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._config = config
        self._wall = wall
        self._passwords = passwords
        self._lockout = lockout
        self._access_tokens = access_tokens
        self._revoker = revoker
        self._signed = signed
        self._floor_s = floor_s
        self._monotonic = monotonic
        self._sleep = sleep

    async def login(
        self,
        identifier: str,
        password: str,
        *,
        address: str,
        user_agent: str = "",
        device: str | None = None,
        instance: Principal | None = None,
    ) -> SessionTokens:
        """Begin a login session for the user with this user name or e-mail address.

        `device` is what `SessionTokens.device` was at an earlier login in the same browser; `user_agent` is text that
        may stand in a row and on a screen; `instance` signed the request, and the session says so. Raises AuthFailed,
        RateLimited when the address or all failed too often, Unavailable when too many passwords are being checked,
        StoreError.
        """
        started = self._monotonic()
        try:
            name = _name(identifier)
            if name is None or not _can_be(password):
                raise AuthFailed(_NO_LOGIN)
            return await self._login(name, password, Client(address, user_agent, device, instance))
        except AuthFailed:
            rest_s = self._failure_s(password) - (self._monotonic() - started)
            if rest_s > 0:
                await self._sleep(rest_s)
            raise

    async def _login(self, name: str, password: str, client: Client) -> SessionTokens:
        device, owner = self._device(client.device)
        if device is None:
            self._lockout.check(client.address, client.signed_by)
        # By what was sent alone, so that who has to wait learns nothing of who has an account.
        lane = name_key(name) if owner is None else known_key(owner)
        async with self._lockout.alone(lane), self._passwords.turn():
            account = await read_account(self._database, name)
            for _ in range(_TRIES):
                known = device if account is not None and account.id == owner else None
                key = name_key(name) if account is None else account_key(account.id)
                attempt = await self._lockout.begin(key, client.address, known, client.signed_by)
                if known is not None and not attempt.allowed:
                    break  # whose browser it is knows of the account: no work that looks alike
                verdict = await self._verify(password, account, attempt)
                if account is None or not verdict.ok:
                    await self._lockout.failed(attempt, login_failed(account, client))
                    break
                try:
                    return await self._begin(account, password, verdict, attempt, client._replace(device=known))
                except (NoRowChanged, NotFound):
                    # Locked, disabled, deleted, or another hash (of the same password, it may be) since it was read.
                    account = await read_account_of(self._database, account.id)
        raise AuthFailed(_NO_LOGIN)

    def _failure_s(self, password: str) -> float:
        """When a login that fails is answered, in seconds since it began: for all of them alike, by the costliest hash
        that one of them may have met, and by what was typed."""
        hashing_s = min(self._passwords.slowest_s, FAILURE_CEILING_S - _BESIDE_S)
        return max(self._floor_s, _BESIDE_S + hashing_s * len(spellings(password)))

    async def _verify(self, password: str, account: AccountRow | None, attempt: Attempt) -> Verdict:
        """One verification, whatever there is to verify."""
        if account is None or not account.active or not attempt.allowed:
            return await self._passwords.verify(password, None)
        return await self._passwords.verify(password, account.password_hash, account.id)

    async def _begin(
        self,
        account: AccountRow,
        password: str,
        verdict: Verdict,
        attempt: Attempt,
        client: Client,
    ) -> SessionTokens:
        """The session of a right password, in one write. All that can fail comes before it. Raises NoRowChanged and
        NotFound when the account is another one by now, or locked, AuthFailed when the instance is let in no more."""
        assert account.password_hash is not None
        rehashed = await self._passwords.hash(password) if verdict.rehash else None
        user = await find_user(self._database, account.id)
        now = self._wall()
        end = now + self._config.refresh_ttl_s * 1000
        session = make_id("s_", secrets.token_bytes(_ID_BYTES))
        access = self._access_tokens.issue(user.id, session, until=end)
        refresh = new_refresh_token(secrets.token_bytes(_RANDOM_BYTES))
        device = client.device or make_id("d_", secrets.token_bytes(_ID_BYTES))
        device_value = self._signed.dumps("device", [device, user.id])
        via, by = client.instance, client.signed_by
        row = NewSession(session, user.id, hash_token(refresh), now, end, client.address, client.user_agent, by)
        still_open, anew = self._lockout.passed(attempt, user.id)
        statements = [still_open, *begin_session(row, account.password_hash), anew]
        statements.append(note_life(self._access_tokens.ttl_ms, access[1]))
        if rehashed is not None:
            statements.append(replace_password(user.id, account.password_hash, rehashed, must_change=False))
        me = f"user:{user.id}"
        entry = Entry(me, "session.login", me, client.address, after={"id": session, **client.audited})
        refusal = AuthFailed("The instance is let in no more.", credential=BY_SIGNATURE)
        guards = [] if via is None else [signs_still(via, now, refusal)]
        written = await guarded_write(self._database, guards, *statements, record(entry, now))
        return SessionTokens(user, session, *access, refresh, end, device_value, written.seq)

    async def refresh(
        self, refresh_token: str, *, address: str, user_agent: str = "", instance: Principal | None = None
    ) -> SessionTokens:
        """Use a refresh token: the session goes on with its successor.

        Within the grace the same token gives the same successor again, to whoever and on whatever node; so a caller may
        repeat a call whose answer was lost. Shown after that it ends the session: somebody has a copy. Raises
        AuthFailed, Unavailable, StoreError. `instance` signed the request: it is who says where it comes from.
        """
        if not is_refresh_token(refresh_token):
            raise AuthFailed(_NO_REFRESH)
        token_hash = hash_token(refresh_token)
        for _ in range(_TRIES):
            now = self._wall()
            row = await read_refresh(self._database, token_hash, now)
            if row is None or not row.in_force:
                raise AuthFailed(_NO_REFRESH)
            if row.used_at is not None:
                return await self._again(refresh_token, row, row.read_at - row.used_at, address, instance)
            try:
                return await self._rotate(refresh_token, row, now, address, user_agent)
            except (NoRowChanged, StoreUncertain):
                continue  # somebody else was faster, or this write was: what is stored now tells
        raise Unavailable("The refresh token can not be used now.", retry_after_s=1.0)

    async def _rotate(
        self, refresh_token: str, row: RefreshRow, now: int, address: str, user_agent: str
    ) -> SessionTokens:
        """All that can fail comes before the write: a token that is used up for nothing would look stolen later."""
        end = now + self._config.refresh_ttl_s * 1000
        salt = secrets.token_bytes(_RANDOM_BYTES)
        successor = refresh_successor(salt, refresh_token)
        user, access = await self._access(row, end)
        hashes = (hash_token(refresh_token), salt, hash_token(successor))
        rotation = Rotation(*hashes, now, end, address, user_agent, self._access_tokens.ttl_ms, access[1])
        rotated = await rotate(self._database, rotation)
        return SessionTokens(user, row.session, *access, successor, end, "", rotated.seq)

    async def _again(
        self, refresh_token: str, row: RefreshRow, age_ms: int, address: str, instance: Principal | None
    ) -> SessionTokens:
        """A token that was used `age_ms` ago by the database's clock. That this one was set back is nobody's fault."""
        if age_ms >= GRACE_MS:
            await self._end_stolen(row, Client(address, "", None, instance))
        if age_ms >= GRACE_MS or age_ms < -CLOCK_SKEW_MS or row.salt is None:
            raise AuthFailed(_NO_REFRESH)
        successor = refresh_successor(row.salt, refresh_token)
        end = await read_refresh_end(self._database, hash_token(successor))
        if end is None:
            raise AuthFailed(_NO_REFRESH)
        user, access = await self._access(row, end)
        return SessionTokens(user, row.session, *access, successor, end, "", await last_seq(self._database))

    async def _end_stolen(self, row: RefreshRow, client: Client) -> None:
        named = {"id": row.session, **client.audited}
        entry = Entry("stranger", "session.refresh_reused", f"user:{row.user}", client.address, "revoked", after=named)
        try:
            await self._revoker.revoke(SessionEnded(row.session, row.user), entry=entry)
        except NotFound:
            return
        log.warning("a used refresh token was shown again; its login session was ended", extra={"user": row.user})

    async def _access(self, row: RefreshRow, end: int) -> tuple[User, tuple[str, int]]:
        user = await self._user(row.user, _NO_REFRESH)
        return user, self._access_tokens.issue(row.user, row.session, until=end)

    async def _user(self, user_id: str, otherwise: str) -> User:
        """Raises AuthFailed with the sentence `otherwise` when there is none any more."""
        try:
            return await find_user(self._database, user_id)
        except NotFound:
            raise AuthFailed(otherwise) from None

    async def change_password(self, principal: Principal, old: str, new: str, *, address: str = "") -> int:
        """Replace the user's own password and end all login sessions but the one that asks; the commit's `seq`.

        Raises Unprocessable for a new password that may not be one, Forbidden when the old one is wrong, RateLimited
        after too many wrong ones, Conflict when it was changed meanwhile, AuthFailed when there is no such user any
        more or the principal's credential does not hold, Unavailable, StoreError.
        """
        if principal.kind is not PrincipalKind.USER:
            raise Forbidden("Only a user has a password.")
        user = await self._user(principal.id, _NO_USER)
        text = self.acceptable(new, user)
        if _can_be(old) and normalize(old) == text:
            raise Unprocessable("The new password must be another one than the old one.")
        key = f"password:{user.id}"
        async with self._lockout.alone(key), self._passwords.turn():
            attempt = await self._lockout.begin(key, None)
            if not attempt.allowed:
                raise _too_many(attempt.wait_s)
            account = await read_account_of(self._database, user.id)
            if account is None:
                raise AuthFailed(_NO_USER)
            stored = account.password_hash
            verdict = await self._passwords.verify(old, stored, user.id)
            if stored is not None and verdict.ok:
                return await self._replace(principal, stored, await self._passwords.hash(text), attempt, address)
            actor = f"user:{user.id}"
            entry = Entry(actor, "password.change_failed", actor, address, outcome(account))
            await self._lockout.failed(attempt, entry)
        raise Forbidden("The old password is wrong.")

    async def _replace(self, principal: Principal, old: str, new: str, attempt: Attempt, address: str) -> int:
        current = principal.credential_id if principal.credential_kind is CredentialKind.LOGIN_SESSION else None
        actor = f"user:{principal.id}"
        holds = credential_holds(principal, self._wall())
        refusals = (holds.refusal, _too_many(self._config.lockout_s), Conflict("The password was changed meanwhile."))
        still_open, anew = self._lockout.passed(attempt, principal.id)
        try:
            revoked = await self._revoker.revoke(
                OtherSessions(principal.id, current),
                holds.statement,
                still_open,
                replace_password(principal.id, old, new),
                anew,
                entry=Entry(actor, "password.change", actor, address),
            )
        except NoRowChanged as refused:
            raise refusals[refused.index] from None
        return revoked.seq

    def acceptable(self, new: str, user: User) -> str:
        """The new password of `user` in the spelling that is hashed. Raises Unprocessable with a sentence that says why
        it may not be one."""
        names = (user.username, user.email or "", user.name)
        config = self._config
        try:
            return check_new_password(
                new, min_length=config.min_password_length, names=names, blocked=config.blocked_words
            )
        except ValueError as error:
            raise Unprocessable(str(error)) from None

    def _device(self, value: str | None) -> tuple[str | None, str | None]:
        """The id of a browser that logged in before, and the user whom it did for."""
        match self._signed.loads("device", value, DEVICE_TTL_S) if value else None:
            case [str(device), str(user)]:
                return device, user
        return None, None


def _too_many(wait_s: float) -> RateLimited:
    return RateLimited("Too many wrong passwords.", retry_after_s=max(1.0, wait_s))


def _name(identifier: str) -> str | None:
    """The user name or e-mail address as rows have it; None for what can be neither."""
    if not identifier or len(identifier) > MAX_EMAIL or any("\ud800" <= sign <= "\udfff" for sign in identifier):
        return None
    name = unicodedata.normalize("NFKC", identifier)
    return name if len(name) <= MAX_EMAIL and "\0" not in name else None


def _can_be(password: str) -> bool:
    try:
        normalize(password)
    except ValueError:
        return False
    return True
