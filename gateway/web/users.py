"""Users: the list, and what administrators, and users themselves, change about one.

Whoever may not see a user is told what is told of a user that is not there. Who may change what is said by
`gateway.core.administration`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.auth.revoker import UserDeleted, UserDisabled
from gateway.auth.revoking_store import RevokingStore
from gateway.auth.void_logins import VoidLogins
from gateway.core.access import READ_USERS
from gateway.core.administration import OWN_FIELDS, WRITE_USERS, check_account, check_handing_out
from gateway.errors import AuthFailed, Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store import accounts as store
from gateway.store.accounts import Status, User
from gateway.store.audit import Audited
from gateway.store.database import Database, Reader
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.store.plans import find_plan, still
from gateway.web.answer import etag_of, require_match
from gateway.web.caller import Rights
from gateway.web.fields import moment, moment_or_null, searched
from gateway.web.operation import Call, Operation
from gateway.web.paging import DEFAULT_LIMIT, Cursor, Limit, Page
from gateway.web.resource import FIXED_FIELDS, Edit, Kind, Resource, still_named
from gateway.web.turns import Turns

NO_SUCH_USER = "No such user."


class UserShown(msgspec.Struct, frozen=True, kw_only=True):
    """A user. Times are RFC 3339; `anchor_at` is where quota periods begin (null: calendar)."""

    id: str
    username: str
    name: str
    email: str | None
    plan: str
    is_admin: bool
    status: Status
    attributes: dict[str, Any]
    timezone: str
    anchor_at: str | None
    created_at: str
    updated_at: str


class UserChanged(UserShown, frozen=True, kw_only=True):
    """A user after a change; `seq` is that of its commit."""

    seq: int


class Seq(msgspec.Struct, frozen=True):
    """The position of the commit in the change log."""

    seq: int


class UserReplacement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is to be so about a user; what is left out takes its default. `id`, `created_at` and `updated_at` may be
    there, as they are. `username` and `plan`, which have no default, are left out by users who may not change them.
    """

    username: str | UnsetType = UNSET
    plan: str | UnsetType = UNSET
    name: str = ""
    email: str | None = None
    is_admin: bool = False
    status: Status = "active"
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: str | None = None
    id: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET


class UserPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of a user; null means the default."""

    username: str | UnsetType = UNSET
    plan: str | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET
    is_admin: bool | UnsetType | None = UNSET
    status: Status | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType | None = UNSET
    timezone: str | UnsetType | None = UNSET
    anchor_at: str | UnsetType | None = UNSET
    id: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET


class UserSearch(msgspec.Struct, frozen=True):
    """Which users: those whose user name or e-mail begins with `query`, on this plan, with this status."""

    query: str | None = None
    plan: str | None = None
    status: Status | None = None
    cursor: Cursor | None = None
    limit: Limit = DEFAULT_LIMIT


PRIVILEGED = frozenset(UserShown.__struct_fields__) - OWN_FIELDS | {
    *("password", "password_hash", "permissions", "roles", "quotas", "organizations"),
}
"""What others decide about a user: fields, columns of the row, and what hangs on it."""


class Users(Resource[User]):
    """The routes of users. `revocations`: the set of this process."""

    def __init__(self, database: Database, revocations: VoidLogins, turns: Turns) -> None:
        described = Kind("user", "/users", NO_SUCH_USER, store.find_user, user_shown, store.user_before, FIXED_FIELDS)
        super().__init__(database, turns, described)
        self._revocations = revocations

    def operations(self) -> list[Operation]:
        """All of them."""
        changes: dict[str, Any] = {
            "answers": {200: UserChanged},
            "errors": (Forbidden, Conflict, PreconditionFailed),
            "writes": True,
            "tagged": True,
            "check": self.check_change,
        }
        one = "/users/{id}"
        return [
            Operation(
                *("GET", "/users", self.list),
                "Users in the order of their names, for whoever may read or change them",
                {200: Page[UserShown]},
                query=UserSearch,
                errors=(Forbidden,),
            ),
            Operation(
                *("GET", one, self.find), "A user: oneself, or whoever one may read", {200: UserShown, 304: None}
            ),
            Operation(
                *("PUT", one, self.replace), "Make a user exactly this", body=UserReplacement, bodied=True, **changes
            ),
            Operation(*("PATCH", one, self.patch), "Change some of a user (RFC 7396)", body=UserPatch, **changes),
            Operation(
                *("DELETE", one, self.delete),
                "Delete a user with all that is theirs; for administrators",
                {200: Seq},
                errors=(Forbidden, Conflict, PreconditionFailed),
                writes=True,
            ),
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        rights = await call.rights()
        if not may_read(rights):
            raise Forbidden(f"This needs the permission {READ_USERS}.")
        asked: UserSearch = call.query
        query, plan = searched(asked.query), searched(asked.plan)
        rows = functools.partial(store.list_users, self._database, query=query, plan=plan, status=asked.status)
        return await self.listed(call, rows, by="username")

    async def seen(self, call: Call) -> User:
        """For the user, and those who read users."""
        return await subject(self._database, await call.rights(), call.path["id"])

    async def check_change(self, call: Call) -> None:
        """Raises what PUT and PATCH are refused with by the names that the body has, whatever their values are."""
        rights = await call.rights()
        user = await subject(self._database, rights, call.path["id"])
        if rights.may(WRITE_USERS):
            check_account(rights.is_admin, user.is_admin or bool(call.members.get("is_admin")))
            return
        check_own(rights, user.id)
        stands = self.shown(user) if call.request.method == "PUT" else {}  # which has what stays as well
        named = {name: (value, stands.get(name, UNSET)) for name, value in call.members.items() if name in PRIVILEGED}
        check_own_fields(name for name, (a, b) in named.items() if type(a) is not type(b) or a != b)

    async def edited(self, call: Call, edit: Edit) -> tuple[int, User]:
        """For those who write users; in part for the user."""
        rights = await call.rights()
        before = await subject(self._database, rights, call.path["id"])
        stands = self.shown(before)
        guards = await self._check(rights, before, edit, stands)
        if edit.whole and rights.may(WRITE_USERS):
            require_names(edit.wanted)
        after = msgspec.structs.replace(before, **edit.changed(stands, UserReplacement))
        seq = await self._write(call, before, after, guards)
        return seq, await self.found(before.id)

    async def deletable(self, call: Call) -> User:
        """For administrators."""
        rights = await call.rights()
        user = await subject(self._database, rights, call.path["id"])
        rights.require_admin()
        return user

    async def deleted(self, call: Call, row: User) -> int:
        """Disabled first, which is what the rule of the last administrator is about."""
        entry = self.entry(call, "user.delete", row.id, None)
        revoking = RevokingStore(call.writing(self._database), self._revocations, UserDeleted(row.id), entry)
        guards = await still_named(call, functools.partial(store.still, self._database), row)
        return await store.set_status(Guarded(revoking, guards), row.id, "disabled")

    async def _check(self, rights: Rights, before: User, edit: Edit, stands: Mapping[str, Any]) -> tuple[Guard, ...]:
        """Raises Forbidden unless the caller may change of this user, who `stands` so, what the edit names to what it
        wants; else what that hangs on, beside the user.
        """
        if not rights.may(WRITE_USERS):
            check_own(rights, before.id)
            require_match(edit.request, etag_of(stands))  # what others changed meanwhile is not what this one wants
            check_own_fields(edit.named(stands))
            return ()
        check_account(rights.is_admin, before.is_admin or bool(edit.wanted.get("is_admin")))
        plan = edit.wanted.get("plan", before.plan)
        if plan == before.plan:
            return ()
        return await check_plan_change(self._database, rights, before.plan, plan)

    async def _write(self, call: Call, before: User, after: User, guards: Sequence[Guard]) -> int:
        entry, database = self.entry(call, "user.update", before.id, after), call.writing(self._database)
        if before.status == after.status or after.status == "active":
            return await store.replace_user(Guarded(Audited(database, entry), guards), before, after)
        target = UserDisabled(before.id)
        revoking = RevokingStore(database, self._revocations, target, entry)
        return await store.replace_user(Guarded(revoking, guards), before, after)


def user_shown(user: User) -> UserShown:
    """A user as clients see it."""
    return UserShown(
        id=user.id,
        username=user.username,
        name=user.name,
        email=user.email,
        plan=user.plan,
        is_admin=user.is_admin,
        status=user.status,
        attributes=user.attributes,
        timezone=user.timezone,
        anchor_at=moment_or_null(user.anchor_at),
        created_at=moment(user.created_at),
        updated_at=moment(user.updated_at),
    )


def may_read(rights: Rights) -> bool:
    """Whether the caller may see other users: whoever may change them has to."""
    return rights.may(READ_USERS) or rights.may(WRITE_USERS)


async def subject(db: Reader, rights: Rights, user_id: str) -> User:
    """The user that the path names, for whoever may know. Raises NotFound, the same for all that is not to be seen."""
    if user_id != rights.caller.principal.id and not may_read(rights):
        raise NotFound(NO_SUCH_USER)
    try:
        return await store.find_user(db, user_id)
    except NotFound:
        raise NotFound(NO_SUCH_USER) from None


def check_own(rights: Rights, user_id: str) -> None:
    """The caller changes the own account, with a credential that is not narrowed. Raises Forbidden, and AuthFailed for
    an account that was disabled in the meantime.
    """
    if user_id != rights.caller.principal.id:
        rights.require(WRITE_USERS)
    rights.caller.require_whole()
    facts = rights.entry.facts
    if facts is None or not facts.active:
        raise AuthFailed("The token is not valid.")


def check_own_fields(named: Iterable[str]) -> None:
    """Raises Forbidden when a user's own change names anything but what users may change of their own."""
    if frozenset(named) - OWN_FIELDS:
        raise Forbidden(f"Users may change {', '.join(sorted(OWN_FIELDS))} of their own, and nothing else.")


def require_names(wanted: Mapping[str, Any]) -> None:
    """Raises Unprocessable when what whoever changes users makes of one lacks what has no default."""
    for name in ("username", "plan"):
        if name not in wanted:
            raise Unprocessable(f"The body is refused: {name} is missing.")


async def check_plan_change(db: Reader, rights: Rights, before: str, after: str) -> tuple[Guard, ...]:
    """Raises Unprocessable when there is no plan `after`, Forbidden when it gives or takes what administrators give;
    else what that hangs on.
    """
    try:
        plan = await find_plan(db, after)
    except NotFound:
        raise Unprocessable("There is no such plan.") from None
    stood = await find_plan(db, before)
    check_handing_out(rights.is_admin, stood.permissions, plan.permissions)
    return () if rights.is_admin else (still(stood), still(plan))
