"""Signing in and out: login sessions by token or by cookie, their renewal and their end, passwords, and tickets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.auth.logins import SessionTokens
from gateway.auth.revoker import OtherSessions, SessionEnded
from gateway.auth.services import Accounts
from gateway.auth.tickets import TICKET_S
from gateway.core.clock import rfc3339
from gateway.core.networks import parse_address
from gateway.errors import AuthFailed, Conflict, Forbidden, NotFound, RateLimited, Unprocessable
from gateway.store.audit import Entry
from gateway.web.answer import answer
from gateway.web.checks import whole
from gateway.web.cookies import Cookies
from gateway.web.operation import Call, Operation, Who, shown_user_agent
from gateway.web.problem import bearer_token, problem
from gateway.web.users import Seq, UserShown, user_shown

BEARER: Literal["Bearer"] = "Bearer"
"""The one type of access token (RFC 6750)."""


class Visitor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose form a server instance passes on: the address that failed logins count against, and what their client
    calls itself. Only what is signed may say so.
    """

    address: Annotated[str, msgspec.Meta(max_length=64)]
    user_agent: str = ""


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user shows to sign in: exactly one of `username` and `email`, and the password. With `cookie` the browser
    keeps the tokens, and no script sees them. `client` is whom a server instance signs in.
    """

    password: str
    username: str | None = None
    email: str | None = None
    cookie: bool = False
    client: Visitor | None = None


class Renewal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The refresh token; a browser leaves it out and sends its cookie. `client` is as at login."""

    refresh_token: str | None = None
    client: Visitor | None = None


class Leaving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which sessions end: this one, or all of the user."""

    everywhere: bool = False


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password so far, and the one to be."""

    old_password: str
    new_password: str


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A login session and what it is used with: the tokens, or for a browser, which has them in cookies, the CSRF
    token. `expires_at` and `expires_in` (seconds) are of the access token, `refresh_expires_at` of the refresh token;
    `user` is there at login.
    """

    session: str
    expires_at: str
    expires_in: int
    refresh_expires_at: str
    seq: int
    access_token: str | UnsetType = UNSET
    token_type: Literal["Bearer"] | UnsetType = UNSET
    refresh_token: str | UnsetType = UNSET
    csrf_token: str | UnsetType = UNSET
    user: UserShown | UnsetType = UNSET


class IssuedTicket(msgspec.Struct, frozen=True):
    """A ticket for one channel, good once within `expires_in` seconds."""

    ticket: str
    expires_in: int


class CsrfToken(msgspec.Struct, frozen=True):
    """What a page sends back in ``X-CSRF-Token``."""

    csrf_token: str


class Login:
    """The routes below ``/auth`` that begin, renew and end login sessions."""

    def __init__(self, accounts: Accounts, cookies: Cookies, wall: Callable[[], int]) -> None:
        self._accounts = accounts
        self._cookies = cookies
        self._wall = wall

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation(
                *("POST", "/auth/login", self.login),
                summary="Sign in; with `cookie` the browser keeps the tokens; an instance signs in whose form it got",
                answers={200: SignedIn},
                who=Who.ALL_OR_INSTANCE,
                body=SignIn,
                errors=(AuthFailed, Forbidden, RateLimited),
                writes=True,
            ),
            Operation(
                *("POST", "/auth/refresh", self.refresh),
                summary="New tokens for a refresh token, or for the cookie; the same again within ten seconds",
                answers={200: SignedIn},
                who=Who.ALL_OR_INSTANCE,
                body=Renewal,
                errors=(AuthFailed, Forbidden),
                writes=True,
            ),
            Operation(
                *("POST", "/auth/logout", self.logout),
                summary="End this login session, or all of the user's; API tokens stay",
                answers={200: Seq},
                body=Leaving,
                errors=(NotFound,),
                writes=True,
            ),
            *self._operations_of_a_session(),
        ]

    def _operations_of_a_session(self) -> list[Operation]:
        return [
            Operation(
                *("POST", "/auth/password", self.change_password),
                summary="Another password; ends all other login sessions",
                answers={200: Seq},
                body=PasswordChange,
                check=whole,
                errors=(Conflict, RateLimited),
                writes=True,
            ),
            Operation(
                *("POST", "/auth/ticket", self.ticket),
                summary="A ticket that opens one channel by `?ticket=`",
                answers={200: IssuedTicket},
            ),
            Operation(
                *("GET", "/auth/csrf", self.csrf),
                summary="The CSRF token of the session in the browser's cookies",
                answers={200: CsrfToken},
                who=Who.ALL,
                errors=(AuthFailed,),
            ),
        ]

    # --- a session's life ---

    async def login(self, call: Call) -> Response:
        """A new login session, with tokens or cookies; whatever is wrong with the credentials, the answer is one 401.

        The device cookie is set with each, so that strangers who guess can not lock this browser out. By an instance
        there is no browser here: no cookie is read or set.
        """
        body: SignIn = call.body
        identifier = body.username if body.email is None else body.email
        if identifier is None or (body.username is not None and body.email is not None):
            raise Unprocessable("Give one of username and email.")
        origin, signed = _origin(call, body.client), call.instance is not None
        if body.cookie and signed:
            raise Unprocessable("An instance gets tokens; cookies are for browsers.")
        if body.cookie:
            self._cookies.check_login(call.request)
        device = None if signed else self._cookies.device(call.request)
        tokens = await self._accounts.logins.login(
            identifier, body.password, device=device, instance=call.instance, **origin
        )
        response = self._signed_in(tokens, cookie=body.cookie, user=user_shown(tokens.user))
        if not signed:
            self._cookies.set_device(response, tokens.device)
        return response

    async def refresh(self, call: Call) -> Response:
        """As at login, without `user`: to those who send a token tokens, to those who send the cookie cookies and the
        CSRF token.

        A cookie that is not good any more is taken back with the 401; nothing is, where no cookie came: a page of
        another site must not sign anybody out.
        """
        body: Renewal = call.body
        origin = _origin(call, body.client)
        if body.refresh_token is not None:
            tokens = await self._accounts.logins.refresh(body.refresh_token, instance=call.instance, **origin)
            return self._signed_in(tokens, cookie=False)
        if call.instance is not None:
            raise AuthFailed("A refresh token is needed.")
        held = self._cookies.refresh(call.request)
        try:
            if held is None:
                raise AuthFailed("A refresh token is needed.")
            self._cookies.check_write(call.request, held.session)
            return self._signed_in(await self._accounts.logins.refresh(held.token, **origin), cookie=True)
        except AuthFailed as error:
            response = problem(error)
            if self._cookies.sent_any(call.request):
                self._cookies.clear(response)
            return response

    async def logout(self, call: Call) -> Response:
        """End this login session, or, `everywhere`, all of this user, which needs a credential without scopes."""
        caller, body = call.caller, call.body
        user = caller.principal.id
        target: SessionEnded | OtherSessions
        if body.everywhere:
            caller.require_whole()
            target, ended = OtherSessions(user, None), "everywhere"
        elif (session := caller.login_session) is not None:
            target, ended = SessionEnded(session, user), session
        else:
            raise Forbidden("An API token has no login session; with everywhere it ends all of its user's.")
        entry = Entry(caller.actor, "session.logout", caller.actor, call.address, after={"id": ended})
        revoked = await self._accounts.revoker.revoke(target, entry=entry)
        response = answer(Seq(revoked.seq), seq=revoked.seq)
        if caller.by_cookie:
            self._cookies.clear(response)
        return response

    async def change_password(self, call: Call) -> Response:
        """Another password for the caller; every other login session ends with the same commit."""
        caller, body = call.caller, call.body
        caller.require_whole()
        seq = await self._accounts.logins.change_password(
            caller.principal, body.old_password, body.new_password, address=call.address
        )
        return answer(Seq(seq), seq=seq)

    # --- what a page needs besides ---

    async def ticket(self, call: Call) -> Response:
        """A ticket that stands for the caller's credential as it is when the ticket is used, scopes included."""
        ticket = self._accounts.tickets.issue(call.caller.principal, by_cookie=call.caller.by_cookie)
        return answer(IssuedTicket(ticket, TICKET_S))

    async def csrf(self, call: Call) -> Response:
        """The CSRF token for a page that was just loaded. Whoever may read this answer may write with the cookie, so
        that it has no headers for other origins; and it is no use to anybody who has the cookie already.

        The refresh cookie is enough: the other one may have ended while no page was open.
        """
        request = call.request
        if bearer_token(request) is not None:
            raise AuthFailed("CSRF tokens are for cookies.")
        held = self._cookies.refresh(request)
        if held is not None:
            return answer(CsrfToken(self._cookies.csrf_token(held.session)))
        token = self._cookies.access_token(request)
        if token is None:
            raise AuthFailed("No session is in the cookies.")
        principal = await self._accounts.authenticator.authenticate(token)
        return answer(CsrfToken(self._cookies.csrf_token(principal.credential_id)))

    def _signed_in(self, tokens: SessionTokens, *, cookie: bool, user: UserShown | UnsetType = UNSET) -> Response:
        left_s = math.ceil(max(0, tokens.access_expires_at - self._wall()) / 1000)
        body = SignedIn(
            session=tokens.session,
            expires_at=rfc3339(tokens.access_expires_at),
            expires_in=left_s,
            refresh_expires_at=rfc3339(tokens.refresh_expires_at),
            seq=tokens.seq,
            user=user,
        )
        if cookie:
            body = msgspec.structs.replace(body, csrf_token=self._cookies.csrf_token(tokens.session))
            response = answer(body, seq=tokens.seq)
            self._cookies.set_tokens(response, tokens.session, tokens.access_token, tokens.refresh_token)
            return response
        body = msgspec.structs.replace(
            body, access_token=tokens.access_token, token_type=BEARER, refresh_token=tokens.refresh_token
        )
        return answer(body, seq=tokens.seq)


def _origin(call: Call, visitor: Visitor | None) -> dict[str, Any]:
    """From where somebody signs in, and with what: what an instance says of whose form it passes on, else the request's
    own. Raises Unprocessable."""
    if visitor is None:
        return {"address": call.address, "user_agent": call.user_agent}
    if call.instance is None:
        raise Unprocessable("Only a server instance says who its client is, in a request that it signs.")
    address = parse_address(visitor.address)
    if address is None:
        raise Unprocessable("client.address has to be an IP address.")
    return {"address": str(address), "user_agent": shown_user_agent(visitor.user_agent)}
