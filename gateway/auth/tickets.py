"""Tickets: what a browser opens the channel with, which can not set a header there.

A ticket is signed and good for half a minute; that it works once is the database's to say. The write that uses it up
reads its credential too, so a ticket never outlives what it was made with.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.auth.authenticator import RETRY_AFTER_S, token_principal
from gateway.auth.signed import SignedValues
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.errors import AuthFailed, StoreError, Unavailable
from gateway.store.authentication import TokenRow, session_by_id, session_row, token_by_id
from gateway.store.database import Database, Row
from gateway.store.tickets import redeem_ticket

PREFIX = "gt_"
TICKET_S = 30
"""Seconds that a ticket is good."""
MAX_LENGTH = 2048
"""Characters of the longest ticket: it stands in the line of a request."""
_ID_BYTES = 16


class _Ticket(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What is signed: nothing secret. `mark` is that of the principal who asked; `until` the end of the access token
    that was shown for it, None where none was. Times in milliseconds since 1970 UTC."""

    id: str
    expires_at: int
    user: str
    kind: CredentialKind
    credential: str
    mark: str
    until: int | None


class Tickets:
    """Makes tickets and takes them. `session_s`: the longest that a session lasts which a login's ticket opens, in
    seconds; `wall` gives the time in milliseconds since 1970 UTC."""

    def __init__(self, database: Database, signed: SignedValues, session_s: int, wall: Callable[[], int]) -> None:
        self._database = database
        self._signed = signed
        self._session_ms = session_s * 1000
        self._wall = wall

    def issue(self, principal: Principal, *, by_cookie: bool = False) -> str:
        """A ticket for this user, good once and for 30 s. Raises AuthFailed for a principal who is no user.

        Whoever shows an access token may have no more than that: what its ticket opens ends with it. A browser shows a
        cookie, and has what its access token is renewed with.
        """
        if principal.kind is not PrincipalKind.USER:
            raise AuthFailed("Tickets are for users.")
        login = principal.credential_kind is CredentialKind.LOGIN_SESSION
        ticket = _Ticket(
            secrets.token_urlsafe(_ID_BYTES),
            self._wall() + TICKET_S * 1000,
            principal.id,
            principal.credential_kind,
            principal.credential_id,
            principal.credential_mark,
            principal.expires_at if login and not by_cookie else None,
        )
        return PREFIX + self._signed.dumps("ticket", msgspec.to_builtins(ticket))

    def looks_like(self, text: str) -> bool:
        """Whether `text` begins as a ticket does."""
        return text.startswith(PREFIX)

    async def redeem(self, text: str) -> Principal:
        """The principal that a ticket was made for, by the credential that it was made with, which is read now.

        It ends with the credential: with the access token that was shown for it, and that of a cookie no later than an
        access token of now would. Raises AuthFailed for a ticket that is not ours, used, too old, or of a credential
        that is not in force; Unavailable when that can not be found out.
        """
        ticket, now = self._read(text), self._wall()
        if ticket is None or ticket.expires_at <= now:
            raise _not_valid()
        token = ticket.kind is CredentialKind.API_TOKEN
        credential = token_by_id(ticket.credential) if token else session_by_id(ticket.credential)
        try:
            rows = await redeem_ticket(self._database, ticket.id, ticket.expires_at, credential)
        except UnicodeDecodeError:
            raise _not_valid() from None
        except StoreError:
            raise Unavailable("The ticket can not be checked now.", retry_after_s=RETRY_AFTER_S) from None
        if not rows:
            raise _not_valid()
        now = self._wall()
        if token:
            principal = _by_token(ticket, rows[0])
        else:
            most = now + self._session_ms
            principal = _by_session(ticket, rows[0], most if ticket.until is None else min(most, ticket.until))
        if principal is None or (principal.expires_at is not None and principal.expires_at <= now):
            raise _not_valid()
        return principal

    def _read(self, text: str) -> _Ticket | None:
        if not self.looks_like(text) or len(text) > MAX_LENGTH:
            return None
        # Whole seconds are counted there, and nothing is given away by one more: its own end is looked at too.
        value: Any = self._signed.loads("ticket", text[len(PREFIX) :], TICKET_S + 1)
        try:
            return msgspec.convert(value, _Ticket)
        except msgspec.ValidationError:
            return None


def _by_token(ticket: _Ticket, row: Row) -> Principal | None:
    principal = token_principal(TokenRow(*row))
    return principal if (principal.id, principal.credential_mark) == (ticket.user, ticket.mark) else None


def _by_session(ticket: _Ticket, row: Row, until: int) -> Principal | None:
    session = session_row(row)
    if not session.in_force or session.user_id != ticket.user:
        return None
    return Principal(
        PrincipalKind.USER,
        ticket.user,
        CredentialKind.LOGIN_SESSION,
        ticket.credential,
        min(session.expires_at, until),
        credential_mark=ticket.mark,
    )


def _not_valid() -> AuthFailed:
    return AuthFailed("The ticket is not valid.")
