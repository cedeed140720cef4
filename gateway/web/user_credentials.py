"""What a user holds to be let in, for whoever may change users: login sessions and API tokens, to look at and to end.

Secrets are not shown: the database does not have them either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from gateway.auth.revoker import Revoker, SessionEnded, TokenRevoked
from gateway.core.administration import WRITE_USERS
from gateway.errors import BadRequest, Forbidden
from gateway.store.accounts import User
from gateway.store.audit import Action, Entry
from gateway.store.credentials import ApiToken, LoginSession, list_sessions, list_tokens
from gateway.store.database import Database
from gateway.web.answer import answer
from gateway.web.fields import moment, moment_or_null
from gateway.web.grants import writable
from gateway.web.operation import Call, Operation
from gateway.web.paging import Page, Paged, page, read_cursor
from gateway.web.users import Seq, subject

Held = TypeVar("Held", LoginSession, ApiToken)


class HeldSession(msgspec.Struct, frozen=True):
    """A login session of a user, over or not; moments are RFC 3339."""

    id: str
    created_at: str
    expires_at: str
    revoked_at: str | None
    last_seen_at: str | None
    instance_id: str | None
    ip: str | None
    user_agent: str | None


class HeldToken(msgspec.Struct, frozen=True):
    """An API token of a user, over or not; `expires_at` null: no end."""

    id: str
    name: str
    scopes: dict[str, Any]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class UserCredentials:
    """The routes of one user's sessions and tokens."""

    def __init__(self, database: Database, revoker: Revoker) -> None:
        self._database = database
        self._revoker = revoker

    def operations(self) -> list[Operation]:
        """All of them."""
        sessions, tokens = "/users/{id}/sessions", "/users/{id}/tokens"
        end: dict[str, Any] = {"answers": {200: Seq}, "errors": (Forbidden,), "writes": True}
        return [
            Operation(
                *("GET", sessions, self.sessions),
                "A user's login sessions, over or not, the oldest first",
                {200: Page[HeldSession]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(*("DELETE", f"{sessions}/{{session}}", self.end_session), "End a login session", **end),
            Operation(
                *("GET", tokens, self.tokens),
                "A user's API tokens, without their secrets",
                {200: Page[HeldToken]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(*("DELETE", f"{tokens}/{{token}}", self.revoke_token), "Revoke an API token", **end),
        ]

    async def sessions(self, call: Call) -> Response:
        """One page."""
        user = await self._readable(call)
        found, limit = await list_sessions(self._database, user.id), call.query.limit
        return answer(page("sessions", _from(call, "sessions", found), limit, position=_position, shown=_session))

    async def tokens(self, call: Call) -> Response:
        """One page."""
        user = await self._readable(call)
        found, limit = await list_tokens(self._database, user.id), call.query.limit
        return answer(page("tokens", _from(call, "tokens", found), limit, position=_position, shown=_token))

    async def end_session(self, call: Call) -> Response:
        """End it, if it is this user's."""
        user = await writable(self._database, call, await call.rights())
        session = call.path["session"]
        entry = _entry(call, "session.revoke", f"session:{session}", user)
        seq = (await self._revoker.revoke(SessionEnded(session, user.id), entry=entry)).seq
        return answer(Seq(seq), seq=seq)

    async def revoke_token(self, call: Call) -> Response:
        """Revoke it, if it is this user's."""
        user = await writable(self._database, call, await call.rights())
        token = call.path["token"]
        entry = _entry(call, "token.revoke", f"token:{token}", user)
        seq = (await self._revoker.revoke(TokenRevoked(token, user.id), entry=entry)).seq
        return answer(Seq(seq), seq=seq)

    async def _readable(self, call: Call) -> User:
        rights = await call.rights()
        user = await subject(self._database, rights, call.path["id"])
        rights.require(WRITE_USERS)
        return user


def _entry(call: Call, action: Action, target: str, user: User) -> Entry:
    return Entry(call.caller.actor, action, target, call.address, after={"user": user.id})


def _position(credential: LoginSession | ApiToken) -> str:
    return f"{credential.created_at} {credential.id}"


def _from(call: Call, of: str, found: Sequence[Held]) -> list[Held]:
    """Those behind the cursor, which names the age and id of the last one shown. Raises BadRequest."""
    asked: Paged = call.query
    if asked.cursor is None:
        return list(found)
    created_at, _, credential = read_cursor(of, asked.cursor, str).partition(" ")
    try:
        last = (int(created_at), credential)
    except ValueError:
        raise BadRequest("There is no such cursor.") from None
    return [one for one in found if (one.created_at, one.id) > last]


def _session(session: LoginSession) -> HeldSession:
    return HeldSession(
        session.id,
        moment(session.created_at),
        moment(session.expires_at),
        moment_or_null(session.revoked_at),
        moment_or_null(session.last_seen_at),
        session.instance_id,
        session.ip,
        session.user_agent,
    )


def _token(token: ApiToken) -> HeldToken:
    return HeldToken(
        token.id,
        token.name,
        token.scopes,
        moment(token.created_at),
        moment_or_null(token.expires_at),
        moment_or_null(token.revoked_at),
        moment_or_null(token.last_used_at),
    )
