"""Who makes a request, by bearer token or by cookie, and what they may do."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request

from gateway.auth.authenticator import Authenticator
from gateway.auth.instances import BY_BEARER
from gateway.core.access import allowed
from gateway.core.principal import CredentialKind, Principal
from gateway.errors import AuthFailed, Forbidden, NotFound
from gateway.live.entry import UserEntry
from gateway.live.node import Node
from gateway.store.accounts import still_administrator
from gateway.store.credentials import credential_holds
from gateway.store.guards import Guard
from gateway.web.cookies import READING, Cookies
from gateway.web.problem import bearer_token
from gateway.web.signing import Signing


class Caller(NamedTuple):
    """Who makes a request; `by_cookie`: a browser's session, not a token."""

    principal: Principal
    by_cookie: bool = False

    @property
    def actor(self) -> str:
        """As the audit trail names it: ``user:ID``."""
        return self.principal.document

    @property
    def login_session(self) -> str | None:
        """The id of the login session, for whoever has one: not with an API token."""
        principal = self.principal
        return principal.credential_id if principal.credential_kind is CredentialKind.LOGIN_SESSION else None

    def require_whole(self) -> None:
        """The credential is not narrowed by scopes: such a one is not for the account itself. Raises Forbidden."""
        if self.principal.permissions is not None:
            raise Forbidden("A token with scopes may not do this.")


class Rights(NamedTuple):
    """What a caller may do at this moment."""

    caller: Caller
    entry: UserEntry

    def may(self, permission: str) -> bool:
        """Whether the caller holds a permission, and the credential does not narrow it away."""
        facts = self.entry.facts
        return facts is not None and allowed(self.caller.principal, facts, self.entry.permissions, permission)

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an administrator with a credential that is not narrowed."""
        facts = self.entry.facts
        return facts is not None and facts.active and facts.is_admin and self.caller.principal.permissions is None

    def require(self, permission: str) -> None:
        """Raises Forbidden without the permission."""
        if not self.may(permission):
            raise Forbidden(f"This needs the permission {permission}.")

    def require_admin(self) -> None:
        """Raises Forbidden for everybody but administrators."""
        if not self.is_admin:
            raise Forbidden("This is for administrators.")


class Callers:
    """Finds out who makes a request."""

    def __init__(self, node: Node, authenticator: Authenticator, cookies: Cookies, signing: Signing) -> None:
        self.signing = signing
        self._node = node
        self._authenticator = authenticator
        self._cookies = cookies

    async def caller(self, request: Request) -> Caller:
        """Whoever shows a good credential; a cookie writes only together with its CSRF token and a trusted origin.

        Raises `AuthFailed`, `Forbidden`, and `Unavailable` when it can not be found out.
        """
        token = bearer_token(request)
        if token is not None:
            return Caller(await self._authenticator.authenticate(token))
        token = self._cookies.access_token(request)
        if token is None:
            raise AuthFailed("A bearer token is needed.")
        principal = await self._authenticator.authenticate(token)
        if request.method not in READING:
            self._cookies.check_write(request, principal.credential_id)
        return Caller(principal, by_cookie=True)

    async def behind(self, request: Request) -> Caller | None:
        """The user whose token a signed request shows, which its signature covers; cookies are not looked at. None
        without a token. Raises `AuthFailed`, and `Unavailable` when it can not be found out.
        """
        try:
            token = bearer_token(request)
            return None if token is None else Caller(await self._authenticator.authenticate(token))
        except AuthFailed as refused:
            raise AuthFailed(refused.message, credential=BY_BEARER) from None

    async def rights(self, caller: Caller) -> Rights:
        """What the caller may do now. Raises `AuthFailed` when there is no such user any more, `Unavailable`."""
        return Rights(caller, await self.document(caller))

    def standing(self, caller: Caller, judged: Rights | None) -> list[Guard]:
        """What a write of the caller's hangs on. `judged`: what it was decided by."""
        guards = [credential_holds(caller.principal, self._node.clock.now().wall)]
        if judged is not None and judged.is_admin:
            guards.append(still_administrator(caller.principal.id))
        return guards

    async def document(self, caller: Caller) -> UserEntry:
        """The caller's own document. Raises as `rights`."""
        try:
            return await self._node.user(caller.principal.id)
        except NotFound:
            raise AuthFailed("The token is not valid.") from None
