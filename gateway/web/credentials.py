"""What a user holds to be let in, login sessions and API tokens: seen and ended by the user, and by whoever may change
users. Tokens are made by their user alone.

Secrets are shown once, when they are made: the database does not have them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.auth.revoker import SessionEnded, TokenRevoked
from gateway.auth.revoking_store import RevokingStore
from gateway.auth.void_logins import VoidLogins
from gateway.core.administration import WRITE_USERS
from gateway.core.principal import CredentialKind
from gateway.core.text import MAX_LABEL, check_permission, check_text, make_id
from gateway.core.tokens import hash_token, new_api_token
from gateway.errors import BadRequest, Conflict, Forbidden, NotFound, RateLimited, Unprocessable
from gateway.store.audit import Action, Audited, Entry
from gateway.store.credentials import (
    ApiToken,
    LoginSession,
    Place,
    TokenBounds,
    add_token_for,
    in_force,
    list_sessions,
    list_tokens,
)
from gateway.store.database import Database
from gateway.store.guards import guarded_write
from gateway.web.answer import answer
from gateway.web.checks import whole
from gateway.web.cookies import Cookies
from gateway.web.fields import checked, moment, moment_or_null, stored_moment
from gateway.web.grants import writable
from gateway.web.operation import Call, Operation
from gateway.web.paging import Page, Paged, page, read_cursor
from gateway.web.users import Seq, subject

MAX_TOKENS = 100
"""API tokens in force that one user may have made here: more than anybody has programs for."""
MAX_TOKENS_A_DAY = 200
"""API tokens that one user may make here within a day, those that were revoked again too."""
MAX_SCOPES = 100
_ID_BYTES = 10
_SECRET_BYTES = 32
_SESSIONS, _TOKENS = "sessions", "tokens"
_token_name = partial(check_text, what="the name", longest=MAX_LABEL, shortest=1)


class SessionShown(msgspec.Struct, frozen=True, kw_only=True):
    """A login session. Moments in RFC 3339; to its own user `current` tells the one that asks."""

    id: str
    created_at: str
    expires_at: str
    revoked_at: str | None
    last_seen_at: str | None
    instance_id: str | None
    ip: str | None
    user_agent: str | None
    current: bool | UnsetType = UNSET


class Scopes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an API token is narrowed to: these permissions, as far as its owner has them."""

    permissions: list[str]


class TokenShown(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without its secret. `scopes` null: all that its owner may; `expires_at` null: no end. Moments in
    RFC 3339."""

    id: str
    name: str
    scopes: Scopes | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be. `scopes` null: all that its owner may; `expires_at` in RFC 3339, null: until it is revoked."""

    name: str
    scopes: Scopes | None = None
    expires_at: str | None = None


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A new API token; `token` is the secret, shown this once."""

    token: str
    id: str
    name: str
    scopes: Scopes | None
    expires_at: str | None
    seq: int


class Credentials:
    """``/auth/sessions`` and ``/auth/tokens``, each for the caller's own in force, with a credential without scopes;
    and ``/users/{id}/sessions`` and ``/users/{id}/tokens`` for whoever may change users, where those that ended are
    listed too. One that ended can not be ended: it is answered like one that is not there, or is somebody else's.

    `revocations`: the set of this process; `wall` gives the time in milliseconds since 1970 UTC.
    """

    def __init__(self, database: Database, revocations: VoidLogins, cookies: Cookies, wall: Callable[[], int]) -> None:
        self._database = database
        self._revocations = revocations
        self._cookies = cookies
        self._wall = wall

    def operations(self) -> list[Operation]:
        """All of them."""
        lists: dict[str, Any] = {"query": Paged, "errors": (Forbidden,)}
        ends: dict[str, Any] = {"answers": {200: Seq}, "errors": (Forbidden,), "writes": True}
        sessions, tokens = {200: Page[SessionShown]}, {200: Page[TokenShown]}
        of, by = "/auth", "/users/{id}"
        return [
            Operation("GET", f"{of}/sessions", self.own_sessions, "The own login sessions in force", sessions, **lists),
            Operation("DELETE", f"{of}/sessions/{{id}}", self.end_own_session, "End one with all its sockets", **ends),
            Operation("GET", f"{of}/tokens", self.own_tokens, "The own API tokens in force", tokens, **lists),
            Operation(
                *("POST", f"{of}/tokens", self.issue_token),
                "Make an API token, whose secret is shown this once",
                {201: IssuedToken},
                body=TokenRequest,
                check=whole,
                errors=(Conflict, Forbidden, RateLimited),
                writes=True,
            ),
            Operation(
                "DELETE", f"{of}/tokens/{{id}}", self.revoke_own_token, "Revoke one with all its sockets", **ends
            ),
            Operation(
                "GET", f"{by}/sessions", self.sessions, "A user's login sessions, over or not", sessions, **lists
            ),
            Operation("DELETE", f"{by}/sessions/{{session}}", self.end_session, "End a login session", **ends),
            Operation("GET", f"{by}/tokens", self.tokens, "A user's API tokens, over or not", tokens, **lists),
            Operation("DELETE", f"{by}/tokens/{{token}}", self.revoke_token, "Revoke an API token", **ends),
        ]

    # --- one's own ---

    async def own_sessions(self, call: Call) -> Response:
        """One page of the caller's login sessions in force, the oldest first."""
        call.caller.require_whole()
        return await self._list_sessions(call, call.caller.principal.id, own=True)

    async def own_tokens(self, call: Call) -> Response:
        """One page of the caller's API tokens in force, the oldest first."""
        call.caller.require_whole()
        return await self._list_tokens(call, call.caller.principal.id, own=True)

    async def end_own_session(self, call: Call) -> Response:
        """End a login session of the caller's; a browser that ends its own forgets it."""
        caller, ended = call.caller, call.path["id"]
        caller.require_whole()
        response = await self._end(call, CredentialKind.LOGIN_SESSION, caller.principal.id, ended)
        if caller.by_cookie and ended == caller.login_session:
            self._cookies.clear(response)
        return response

    async def revoke_own_token(self, call: Call) -> Response:
        """Revoke an API token of the caller's."""
        call.caller.require_whole()
        return await self._end(call, CredentialKind.API_TOKEN, call.caller.principal.id, call.path["id"])

    async def issue_token(self, call: Call) -> Response:
        """A new API token of the caller's, as long as the caller's own credential holds. Conflict when there are
        `MAX_TOKENS` in force, RateLimited when `MAX_TOKENS_A_DAY` were made within a day."""
        caller, asked = call.caller, call.body
        caller.require_whole()
        name = checked(_token_name, asked.name)
        scopes, expires_at = _scopes(asked.scopes), self._end_of(asked.expires_at)
        token = ApiToken(
            id=make_id("t_", secrets.token_bytes(_ID_BYTES)),
            user_id=caller.principal.id,
            name=name,
            scopes={} if scopes is None else {"permissions": scopes.permissions},
            expires_at=expires_at,
        )
        secret = new_api_token(secrets.token_bytes(_SECRET_BYTES))
        after = {"id": token.id, "name": name, "scopes": token.scopes, "expires_at": expires_at}
        entry = Entry(caller.actor, "token.issue", caller.actor, call.address, after=after)
        database, bounds = Audited(self._database, entry), TokenBounds(MAX_TOKENS, MAX_TOKENS_A_DAY)
        seq = await add_token_for(database, caller.principal, token, hash_token(secret), bounds, self._wall())
        end = moment_or_null(expires_at)
        issued = IssuedToken(token=secret, id=token.id, name=name, scopes=scopes, expires_at=end, seq=seq)
        return answer(issued, status=201, seq=seq)

    def _end_of(self, expires_at: str | None) -> int | None:
        end = stored_moment(expires_at, "expires_at")
        if end is not None and end <= self._wall():
            raise Unprocessable("The end of the token has passed.")
        return end

    # --- a user's, for whoever may change users ---

    async def sessions(self, call: Call) -> Response:
        """One page, the oldest first."""
        return await self._list_sessions(call, await self._readable(call), own=False)

    async def tokens(self, call: Call) -> Response:
        """One page, the oldest first."""
        return await self._list_tokens(call, await self._readable(call), own=False)

    async def end_session(self, call: Call) -> Response:
        """End it, if it is this user's."""
        user = await writable(self._database, call, await call.rights())
        return await self._end(call, CredentialKind.LOGIN_SESSION, user.id, call.path["session"])

    async def revoke_token(self, call: Call) -> Response:
        """Revoke it, if it is this user's."""
        user = await writable(self._database, call, await call.rights())
        return await self._end(call, CredentialKind.API_TOKEN, user.id, call.path["token"])

    async def _readable(self, call: Call) -> str:
        rights = await call.rights()
        user = await subject(self._database, rights, call.path["id"])
        rights.require(WRITE_USERS)
        return user.id

    # --- the same for both ---

    async def _list_sessions(self, call: Call, user: str, *, own: bool) -> Response:
        def shown(row: LoginSession) -> SessionShown:
            return _session(row, row.id == call.caller.login_session if own else UNSET)

        found = await list_sessions(self._database, user, **self._wanted(call, _SESSIONS, own=own))
        return answer(page(_SESSIONS, found, call.query.limit, position=_position, shown=shown))

    async def _list_tokens(self, call: Call, user: str, *, own: bool) -> Response:
        found = await list_tokens(self._database, user, **self._wanted(call, _TOKENS, own=own))
        return answer(page(_TOKENS, found, call.query.limit, position=_position, shown=_token))

    def _wanted(self, call: Call, of: str, *, own: bool) -> dict[str, Any]:
        asked: Paged = call.query
        return {
            "in_force_at": self._wall() if own else None,
            "after": None if asked.cursor is None else _place(read_cursor(of, asked.cursor, str)),
            "limit": asked.limit + 1,
        }

    async def _end(self, call: Call, kind: CredentialKind, user: str, ended: str) -> Response:
        """End a credential of a user's, with every socket that it opened. Raises NotFound unless it is in force."""
        session = kind is CredentialKind.LOGIN_SESSION
        what = "session" if session else "token"
        action: Action = "session.revoke" if session else "token.revoke"
        target = SessionEnded(ended, user) if session else TokenRevoked(ended, user)
        entry = Entry(call.caller.actor, action, f"user:{user}", call.address, after={"id": ended})
        held = in_force(kind, ended, user, self._wall(), NotFound(f"There is no such {what}."))
        revoking = RevokingStore(call.writing(self._database), self._revocations, target, entry)
        seq = (await guarded_write(revoking, [held])).seq
        return answer(Seq(seq), seq=seq)


def _scopes(asked: Scopes | None) -> Scopes | None:
    """The scopes as they are stored, each permission once."""
    if asked is None:
        return None
    if len(asked.permissions) > MAX_SCOPES:
        raise Unprocessable(f"A token is narrowed to at most {MAX_SCOPES} permissions.")
    return Scopes(sorted({checked(check_permission, permission) for permission in asked.permissions}))


def _position(credential: LoginSession | ApiToken) -> str:
    return f"{credential.created_at} {credential.id}"


def _place(position: str) -> Place:
    """The place that a cursor names. Raises BadRequest where no row can be."""
    created_at, _, credential = position.partition(" ")
    try:
        place = Place(int(created_at), credential)
    except ValueError:
        raise BadRequest("There is no such cursor.") from None
    if not -(2**63) <= place.created_at < 2**63:
        raise BadRequest("There is no such cursor.")
    return place


def _session(row: LoginSession, current: bool | UnsetType) -> SessionShown:
    return SessionShown(
        id=row.id,
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        revoked_at=moment_or_null(row.revoked_at),
        last_seen_at=moment_or_null(row.last_seen_at),
        instance_id=row.instance_id,
        ip=row.ip,
        user_agent=row.user_agent,
        current=current,
    )


def _token(row: ApiToken) -> TokenShown:
    return TokenShown(
        id=row.id,
        name=row.name,
        scopes=_stored_scopes(row.scopes) if row.scopes else None,
        created_at=moment(row.created_at),
        expires_at=moment_or_null(row.expires_at),
        revoked_at=moment_or_null(row.revoked_at),
        last_used_at=moment_or_null(row.last_used_at),
    )


def _stored_scopes(scopes: dict[str, Any]) -> Scopes:
    """Those of a row; one that says something else lets its token do nothing."""
    try:
        return msgspec.convert(scopes, Scopes)
    except msgspec.ValidationError:
        return Scopes([])
