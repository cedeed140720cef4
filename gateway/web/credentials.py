"""What a user holds to be let in: the own login sessions and API tokens, seen, made and ended."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response

from gateway.auth.revoker import Revoker, SessionEnded, TokenRevoked
from gateway.core.text import MAX_LABEL, check_permission, check_text, make_id
from gateway.core.tokens import hash_token, new_api_token
from gateway.errors import Conflict, Forbidden, NotFound, Unprocessable
from gateway.store.audit import Audited, Entry
from gateway.store.credentials import ApiToken, LoginSession, add_token_within, sessions_in_force, tokens_in_force
from gateway.store.database import Database
from gateway.web.answer import answer
from gateway.web.caller import Caller
from gateway.web.cookies import Cookies
from gateway.web.fields import checked, moment, moment_or_null, stored_moment
from gateway.web.operation import Call, Operation
from gateway.web.users import Seq

MAX_TOKENS = 100
"""API tokens in force that one user may have made here: more than anybody has programs for."""
MAX_SCOPES = 100
_ID_BYTES = 10
_SECRET_BYTES = 32
_token_name = partial(check_text, what="the name", longest=MAX_LABEL, shortest=1)


class OwnSession(msgspec.Struct, frozen=True):
    """A login session in force; `current`: the one that asks. Moments in RFC 3339."""

    id: str
    created_at: str
    expires_at: str
    last_seen_at: str | None
    ip: str | None
    user_agent: str | None
    current: bool


class OwnSessions(msgspec.Struct, frozen=True):
    """Those in force, the oldest first; of more than 1,000 the newest."""

    items: list[OwnSession]


class Scopes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an API token is narrowed to: these permissions, as far as its owner has them."""

    permissions: list[str]


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be. `scopes` null: all that its owner may; `expires_at` in RFC 3339, null: until it is revoked."""

    name: str
    scopes: Scopes | None = None
    expires_at: str | None = None


class OwnToken(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without its secret, which nobody can be shown again. Moments in RFC 3339."""

    id: str
    name: str
    scopes: Scopes | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class OwnTokens(msgspec.Struct, frozen=True):
    """Those in force, the oldest first; of more than 1,000 the newest."""

    items: list[OwnToken]


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A new API token; `token` is the secret, shown this once."""

    token: str
    id: str
    name: str
    scopes: Scopes | None
    expires_at: str | None
    seq: int


class OwnCredentials:
    """``/auth/sessions`` and ``/auth/tokens``, each for the caller's own.

    All but the making of tokens needs a credential without scopes. A token with scopes makes only tokens that may no
    more than it does and last no longer; they are not revoked with it.
    """

    def __init__(self, database: Database, revoker: Revoker, cookies: Cookies, wall: Callable[[], int]) -> None:
        self._database = database
        self._revoker = revoker
        self._cookies = cookies
        self._wall = wall

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation(
                *("GET", "/auth/sessions", self.sessions),
                summary="The own login sessions in force",
                answers={200: OwnSessions},
                errors=(Forbidden,),
            ),
            Operation(
                *("DELETE", "/auth/sessions/{id}", self.end_session),
                summary="End one of them, with every socket that it opened",
                answers={200: Seq},
                writes=True,
            ),
            Operation(
                *("GET", "/auth/tokens", self.tokens),
                summary="The own API tokens in force, never their secrets",
                answers={200: OwnTokens},
                errors=(Forbidden,),
            ),
            Operation(
                *("POST", "/auth/tokens", self.issue_token),
                summary="Make an API token, whose secret is shown this once",
                answers={201: IssuedToken},
                body=TokenRequest,
                errors=(Conflict,),
                writes=True,
            ),
            Operation(
                *("DELETE", "/auth/tokens/{id}", self.revoke_token),
                summary="Revoke one of them, with every socket that it opened",
                answers={200: Seq},
                writes=True,
            ),
        ]

    # --- login sessions ---

    async def sessions(self, call: Call) -> Response:
        """The caller's login sessions in force."""
        call.caller.require_whole()
        current = call.caller.login_session
        rows = await sessions_in_force(self._database, call.caller.principal.id, self._wall())
        return answer(OwnSessions([_session(row, current) for row in rows]))

    async def end_session(self, call: Call) -> Response:
        """End a login session of the caller's. NotFound for one that ended, or is somebody else's."""
        caller, ended = call.caller, call.path["id"]
        caller.require_whole()
        if not await sessions_in_force(self._database, caller.principal.id, self._wall(), session_id=ended):
            raise NotFound("There is no such session.")
        entry = Entry(caller.actor, "session.revoke", f"session:{ended}", call.address)
        revoked = await self._revoker.revoke(SessionEnded(ended, caller.principal.id), entry=entry)
        response = answer(Seq(revoked.seq), seq=revoked.seq)
        if caller.by_cookie and ended == caller.login_session:
            self._cookies.clear(response)
        return response

    # --- API tokens ---

    async def tokens(self, call: Call) -> Response:
        """The caller's API tokens in force."""
        call.caller.require_whole()
        rows = await tokens_in_force(self._database, call.caller.principal.id, self._wall())
        return answer(OwnTokens([_token(row) for row in rows]))

    async def issue_token(self, call: Call) -> Response:
        """A new API token of the caller's. Conflict when there are `MAX_TOKENS` in force."""
        caller, asked = call.caller, call.body
        name = checked(_token_name, asked.name)
        scopes, expires_at = _scopes(asked.scopes), self._end(asked.expires_at)
        _check_no_wider(caller, scopes, expires_at)
        token = ApiToken(
            id=make_id("t_", secrets.token_bytes(_ID_BYTES)),
            user_id=caller.principal.id,
            name=name,
            scopes={} if scopes is None else {"permissions": scopes.permissions},
            expires_at=expires_at,
        )
        secret = new_api_token(secrets.token_bytes(_SECRET_BYTES))
        after = {"user": token.user_id, "name": name, "scopes": token.scopes, "expires_at": expires_at}
        entry = Entry(caller.actor, "token.issue", f"token:{token.id}", call.address, after=after)
        database = Audited(self._database, entry)
        seq = await add_token_within(database, token, hash_token(secret), MAX_TOKENS, self._wall())
        end = moment_or_null(expires_at)
        issued = IssuedToken(token=secret, id=token.id, name=name, scopes=scopes, expires_at=end, seq=seq)
        return answer(issued, status=201, seq=seq)

    async def revoke_token(self, call: Call) -> Response:
        """Revoke an API token of the caller's. NotFound for one that ended, or is somebody else's."""
        caller, ended = call.caller, call.path["id"]
        caller.require_whole()
        if not await tokens_in_force(self._database, caller.principal.id, self._wall(), token_id=ended):
            raise NotFound("There is no such token.")
        entry = Entry(caller.actor, "token.revoke", f"token:{ended}", call.address)
        revoked = await self._revoker.revoke(TokenRevoked(ended, caller.principal.id), entry=entry)
        return answer(Seq(revoked.seq), seq=revoked.seq)

    def _end(self, expires_at: str | None) -> int | None:
        end = stored_moment(expires_at, "expires_at")
        if end is not None and end <= self._wall():
            raise Unprocessable("The end of the token has passed.")
        return end


def _scopes(asked: Scopes | None) -> Scopes | None:
    """The scopes as they are stored, each permission once."""
    if asked is None:
        return None
    if len(asked.permissions) > MAX_SCOPES:
        raise Unprocessable(f"A token is narrowed to at most {MAX_SCOPES} permissions.")
    return Scopes(sorted({checked(check_permission, permission) for permission in asked.permissions}))


def _check_no_wider(caller: Caller, scopes: Scopes | None, expires_at: int | None) -> None:
    """A credential with scopes gives away no more than it has, and not for longer. Raises Forbidden."""
    principal = caller.principal
    if principal.permissions is None:
        return
    if scopes is None or not principal.permissions.issuperset(scopes.permissions):
        raise Forbidden("A token with scopes makes only tokens that may no more than it does.")
    if principal.expires_at is not None and (expires_at is None or expires_at > principal.expires_at):
        raise Forbidden("A token with scopes makes only tokens that last no longer than it does.")


def _session(row: LoginSession, current: str | None) -> OwnSession:
    return OwnSession(
        id=row.id,
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        last_seen_at=moment_or_null(row.last_seen_at),
        ip=row.ip,
        user_agent=row.user_agent,
        current=row.id == current,
    )


def _token(row: ApiToken) -> OwnToken:
    return OwnToken(
        id=row.id,
        name=row.name,
        scopes=_stored_scopes(row.scopes) if row.scopes else None,
        created_at=moment(row.created_at),
        expires_at=moment_or_null(row.expires_at),
        last_used_at=moment_or_null(row.last_used_at),
    )


def _stored_scopes(scopes: dict[str, Any]) -> Scopes:
    """Those of a row; one that says something else lets its token do nothing."""
    try:
        return msgspec.convert(scopes, Scopes)
    except msgspec.ValidationError:
        return Scopes([])
