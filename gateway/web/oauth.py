"""``/oauth/``: introspection (RFC 7662) and revocation (RFC 7009), for programs that speak only those.

Bodies are forms. Failures are problems like everywhere else, and where RFC 6749 §5.2 has a word for one it stands
beside the `code`: a missing, empty or repeated parameter is 400 `bad_request` with `error` `invalid_request`. A client
that reads `error` finds it; one that insists on the media type ``application/json`` has the status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from gateway.auth.access_tokens import AccessTokens
from gateway.auth.authenticator import token_principal
from gateway.auth.revoker import Revoker, SessionEnded, TokenRevoked
from gateway.config import AuthConfig
from gateway.core.access_token import looks_like
from gateway.core.administration import INTROSPECT_TOKENS
from gateway.core.tokens import hash_token, is_api_token, is_refresh_token
from gateway.errors import AuthFailed, Forbidden, NotFound
from gateway.store.accounts import find_user
from gateway.store.audit import Entry
from gateway.store.authentication import sessions_by_id, tokens_by_hash
from gateway.store.credentials import find_token
from gateway.store.database import Database
from gateway.store.logins import read_refresh, read_refresh_end
from gateway.web.answer import SEQ_HEADER, answer
from gateway.web.login import BEARER
from gateway.web.operation import Call, Operation, Who
from gateway.web.well_known import INTROSPECTION_PATH, REVOCATION_PATH

CLIENT = "gateway"
REFRESH = "refresh_token"


class Shown(msgspec.Struct, frozen=True):
    """A token that somebody asks about, or wants to be void. What kind it is its form tells, so the hint is not needed
    (RFC 7009 §2.1)."""

    token: Annotated[str, Meta(min_length=1)]
    token_type_hint: str | None = None


class Introspection(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a token stands for now (RFC 7662 §2.2); only `active`, false, for one that stands for nothing.

    `exp` and `iat` are seconds since 1970 UTC; without `exp` it has no end. `token_type` is ``Bearer``, or
    ``refresh_token`` for one that must not be taken where a bearer token is. `scope` is there for a token that is
    narrowed: the permissions that it leaves. `sid` is a login session, `jti` an access token or the id of an API token.
    """

    active: bool
    token_type: str | UnsetType = UNSET
    sub: str | UnsetType = UNSET
    username: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    aud: str | UnsetType = UNSET
    exp: int | UnsetType = UNSET
    iat: int | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    sid: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """The token is void. `seq` is the commit that made it so; without it there was nothing to do."""

    seq: int | UnsetType = UNSET


INACTIVE = Introspection(active=False)


class OAuth:
    """Looks at tokens and voids them. `wall` gives milliseconds since 1970 UTC."""

    def __init__(
        self,
        database: Database,
        access_tokens: AccessTokens,
        revoker: Revoker,
        config: AuthConfig,
        wall: Callable[[], int],
    ) -> None:
        self._database = database
        self._access_tokens = access_tokens
        self._revoker = revoker
        self._issuer = config.issuer
        self._audience = config.audience
        self._wall = wall

    def operations(self) -> list[Operation]:
        """All of them."""
        asked: dict[str, Any] = {
            "who": Who.USER_OR_INSTANCE,
            "body": Shown,
            "form": True,
            "errors": (Forbidden,),
            "check": _check,
        }
        return [
            Operation(
                *("POST", INTROSPECTION_PATH, self.introspect),
                summary=f"What a token stands for; for instances, administrators and holders of `{INTROSPECT_TOKENS}`",
                answers={200: Introspection},
                **asked,
            ),
            Operation(
                *("POST", REVOCATION_PATH, self.revoke),
                summary=f"Void a token; for instances, administrators and holders of `{INTROSPECT_TOKENS}` who have it",
                answers={200: Done},
                **asked,
            ),
        ]

    # --- introspection ---

    async def introspect(self, call: Call) -> Response:
        """What the token stands for, by the database and not by what this node has heard. It is no use of the token:
        nothing is written down, and nothing used up. Tickets are not told of."""
        await _check(call)
        return answer(await self._introspection(call.body.token))

    async def _introspection(self, token: str) -> Introspection:
        try:
            if is_api_token(token):
                return await self._api_token(token)
            if is_refresh_token(token):
                return await self._refresh_token(token)
            return await self._access_token(token) if looks_like(token) else INACTIVE
        except (AuthFailed, NotFound, UnicodeDecodeError):
            return INACTIVE  # a row that is not text stands for nobody

    async def _api_token(self, token: str) -> Introspection:
        digest = hash_token(token)
        row = (await tokens_by_hash(self._database, [digest])).get(digest)
        if row is None or (row.expires_at is not None and row.expires_at <= self._wall()):
            return INACTIVE
        principal = token_principal(row)
        granted = principal.permissions
        issued = (await find_token(self._database, digest)).created_at
        return await self._active(
            row.user_id,
            principal.expires_at,
            iat=issued // 1000,
            jti=row.id,
            scope=UNSET if granted is None else " ".join(sorted(granted)),
        )

    async def _refresh_token(self, token: str) -> Introspection:
        digest = hash_token(token)
        row = await read_refresh(self._database, digest, self._wall())
        if row is None or row.used_at is not None or not row.in_force:
            return INACTIVE
        ends = await read_refresh_end(self._database, digest)
        return await self._active(row.user, ends, token_type=REFRESH, sid=row.session)

    async def _access_token(self, token: str) -> Introspection:
        claims = self._access_tokens.check(token)
        session = (await sessions_by_id(self._database, [claims.session])).get(claims.session)
        if session is None or not session.in_force or session.user_id != claims.user:
            return INACTIVE
        ends = min(claims.expires_at, session.expires_at)
        if ends <= self._wall():
            return INACTIVE
        issued = claims.issued_at // 1000
        return await self._active(
            claims.user, ends, client_id=claims.client, iat=issued, sid=claims.session, jti=claims.id
        )

    async def _active(self, user: str, ends: int | None, **more: Any) -> Introspection:
        username = (await find_user(self._database, user)).username
        told = {"token_type": BEARER, "client_id": CLIENT, "iss": self._issuer, "aud": self._audience, **more}
        if ends is not None:
            told["exp"] = ends // 1000
        return Introspection(active=True, sub=user, username=username, **told)

    # --- revocation ---

    async def revoke(self, call: Call) -> Response:
        """Void the token: an API token, or the login session that an access or refresh token belongs to. Whoever may
        look at tokens may void those they hold, and one that stands for nothing already is as void as it can be
        (RFC 7009 §2.2).
        """
        await _check(call)
        try:
            named = await self._named(call.body.token)
            if named is None:
                return answer(Done())
            target, user = named
            session = isinstance(target, SessionEnded)
            entry = Entry(
                actor=call.actor,
                action="session.revoke" if session else "token.revoke",
                target=f"user:{user}",
                address=call.address,
                after={"id": target.id},
            )
            revoked = await self._revoker.revoke(target, entry=entry)
        except (AuthFailed, NotFound, UnicodeDecodeError):
            return answer(Done())
        return answer(Done(revoked.seq), headers={SEQ_HEADER: str(revoked.seq)})

    async def _named(self, token: str) -> tuple[SessionEnded | TokenRevoked, str] | None:
        """What to revoke for a token, and whose it is; None for one that stands for nothing."""
        if is_api_token(token):
            known = await find_token(self._database, hash_token(token))
            return None if known.revoked_at is not None else (TokenRevoked(known.id, known.user_id), known.user_id)
        if is_refresh_token(token):
            row = await read_refresh(self._database, hash_token(token), self._wall())
            # One that was used up still names the session, to whoever has it from there.
            return None if row is None or not row.in_force else (SessionEnded(row.session, row.user), row.user)
        if looks_like(token):
            claims = self._access_tokens.check(token)
            return SessionEnded(claims.session, claims.user), claims.user
        return None


async def _check(call: Call) -> None:
    """Raises Forbidden for users who may not look at tokens. RFC 7662 §2.1 and RFC 7009 §2.1 want a client that is
    known."""
    if call.instance is None:
        (await call.rights()).require(INTROSPECT_TOKENS)
