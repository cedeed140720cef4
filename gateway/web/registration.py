"""``POST /auth/register``: administrators make users, who can sign in at once."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from starlette.responses import Response

from gateway.auth.services import Accounts
from gateway.core.text import make_id
from gateway.errors import Conflict, NotFound, Unprocessable
from gateway.store.accounts import User, add_user, find_user
from gateway.store.audit import Audited, Entry
from gateway.store.database import Database
from gateway.web.answer import answer, etag_of
from gateway.web.checks import administrators
from gateway.web.fields import checked_fields, given
from gateway.web.operation import Call, Operation
from gateway.web.resource import FIXED_FIELDS
from gateway.web.users import UserChanged, user_shown

_ID_BYTES = 10


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user to be. Without a password nobody signs in as this user, until an administrator sets one; without an `id`
    the gateway makes one; the plan is that of the command, `free`, unless another one is named.
    """

    username: str
    plan: str = "free"
    password: str | None = None
    email: str | None = None
    name: str = ""
    timezone: str = "UTC"
    attributes: dict[str, Any] = {}
    is_admin: bool = False
    id: str | None = None


class Registrations:
    """Makes users."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts

    def operations(self) -> list[Operation]:
        """The one route."""
        return [
            Operation(
                *("POST", "/auth/register", self.register),
                summary="Make a user; for administrators",
                answers={201: UserChanged},
                body=Registration,
                check=administrators,
                errors=(Conflict,),
                writes=True,
                tagged=True,
            ),
        ]

    async def register(self, call: Call) -> Response:
        """A new user. Administrators alone: whoever may write users may not hand out a first password."""
        (await call.rights()).require_admin()
        user, password = _asked(call.body)
        left = msgspec.to_builtins(user_shown(user))
        after = {name: value for name, value in left.items() if name not in FIXED_FIELDS}
        entry = Entry(call.caller.actor, "user.create", f"user:{user.id}", call.address, after=after)
        password_hash = None
        if password is not None:
            text, passwords = self._accounts.logins.acceptable(password, user), self._accounts.passwords
            async with passwords.turn():
                password_hash = await passwords.hash(text)
        try:
            seq = await add_user(Audited(call.writing(self._database), entry), user, password_hash)
        except NotFound as error:
            raise Unprocessable(error.message) from None
        shown = msgspec.to_builtins(user_shown(await find_user(self._database, user.id)))
        headers = {"Location": f"/users/{user.id}"}
        return answer({**shown, "seq": seq}, status=201, seq=seq, etag=etag_of(shown), headers=headers)


def _asked(body: Registration) -> tuple[User, str | None]:
    """The user and the password that a registration asks for. Raises Unprocessable for a text that may not stand in its
    field."""
    fields = checked_fields(given(body))
    password = fields.pop("password")
    user_id = fields.pop("id") or make_id("u_", secrets.token_bytes(_ID_BYTES))
    return User(id=user_id, **fields), password
