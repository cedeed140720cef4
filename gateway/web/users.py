"""Users: the list, and what administrators, and users themselves, change about one.

Whoever may not see a user is told what is told of a user that is not there. Who may change what is said by
`gateway.core.administration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.auth.revoker import UserDeleted, UserDisabled
from gateway.auth.revoking_store import RevokingStore
from gateway.auth.void_logins import VoidLogins
from gateway.core.access import READ_USERS
from gateway.core.administration import OWN_FIELDS, WRITE_USERS, check_account, check_handing_out, differing
from gateway.core.document import apply
from gateway.errors import AuthFailed, Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store import accounts as store
from gateway.store.accounts import Status, User
from gateway.store.audit import Action, Audited, Entry
from gateway.store.database import Database, Reader
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.store.plans import find_plan, still
from gateway.web.answer import answer, etag_of, require_match
from gateway.web.caller import Rights
from gateway.web.fields import checked_fields, converted, given, moment, moment_or_null, searched, stored_moment
from gateway.web.operation import Call, Operation
from gateway.web.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page, read_cursor
from gateway.web.turns import Turns

NO_SUCH_USER = "No such user."
FIXED_FIELDS = ("id", "created_at", "updated_at")


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
    there, as they are.
    """

    username: str
    plan: str
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


class Users:
    """The routes of users. `revocations`: the set of this process."""

    def __init__(self, database: Database, revocations: VoidLogins, turns: Turns) -> None:
        self._database = database
        self._revocations = revocations
        self._turns = turns

    def operations(self) -> list[Operation]:
        """All of them."""
        changes: dict[str, Any] = {
            "answers": {200: UserChanged},
            "errors": (Forbidden, Conflict, PreconditionFailed),
            "writes": True,
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
            Operation(*("GET", one, self.find), "A user: oneself, or whoever one may read", {200: UserShown}),
            Operation(*("PUT", one, self.replace), "Make a user exactly this", body=UserReplacement, **changes),
            Operation(*("PATCH", one, self.patch), "Change some of a user (RFC 7396)", body=UserPatch, **changes),
            Operation(
                *("DELETE", one, self.delete),
                "Delete a user with all that is theirs; for administrators",
                {200: Seq},
                errors=(Forbidden, Conflict),
                writes=True,
            ),
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        rights = await call.rights()
        if not may_read(rights):
            raise Forbidden(f"This needs the permission {READ_USERS}.")
        asked: UserSearch = call.query
        after = "" if asked.cursor is None else read_cursor("users", asked.cursor, str)
        found = await store.list_users(
            self._database,
            query=searched(asked.query),
            plan=searched(asked.plan),
            status=asked.status,
            after=after,
            limit=asked.limit + 1,
        )
        return answer(page("users", found, asked.limit, position=lambda user: user.username, shown=user_shown))

    async def find(self, call: Call) -> Response:
        """One user, with the entity tag that a change can name."""
        shown = user_shown(await subject(self._database, await call.rights(), call.path["id"]))
        return answer(shown, etag=etag_of(msgspec.to_builtins(shown)))

    async def replace(self, call: Call) -> Response:
        """Make the user what the body says."""
        return await self._change(call, whole=True)

    async def patch(self, call: Call) -> Response:
        """Merge the body into the user."""
        return await self._change(call, whole=False)

    async def delete(self, call: Call) -> Response:
        """Delete the user: disabled first, which is what the rule of the last administrator is about."""
        rights = await call.rights()
        user = await subject(self._database, rights, call.path["id"])
        rights.require_admin()
        entry = user_entry(call, "user.delete", user.id)
        revoking = RevokingStore(self._database, self._revocations, UserDeleted(user.id), entry)
        seq = await store.set_status(revoking, user.id, "disabled")
        return answer(Seq(seq), seq=seq)

    async def _change(self, call: Call, *, whole: bool) -> Response:
        user_id, wanted = call.path["id"], given(call.body)
        if isinstance(wanted.get("anchor_at"), str):
            wanted["anchor_at"] = moment_or_null(stored_moment(wanted["anchor_at"], "anchor_at"))

        async def attempt() -> int:
            rights = await call.rights()
            before = await subject(self._database, rights, user_id)
            stands = msgspec.to_builtins(user_shown(before))
            named = differing(stands, {**stands, **wanted}) if whole else wanted
            guards = await self._check(rights, before, wanted, named)
            require_match(call.request, etag_of(stands))
            after = _replaced(before, stands, wanted if whole else apply(stands, wanted))
            return await self._write(call, before, after, guards)

        seq = await self._turns.change(f"user:{user_id}", call.request, attempt)
        shown = msgspec.to_builtins(user_shown(await store.find_user(self._database, user_id)))
        return answer({**shown, "seq": seq}, seq=seq, etag=etag_of(shown))

    async def _check(
        self, rights: Rights, before: User, wanted: Mapping[str, Any], named: Iterable[str]
    ) -> tuple[Guard, ...]:
        """Raises Forbidden unless the caller may change what it `named` about this user to what it `wanted`; else what
        that hangs on, beside the user.
        """
        if not rights.may(WRITE_USERS):
            check_own(rights, before.id)
            if frozenset(named) - OWN_FIELDS:
                raise Forbidden(f"Users may change {', '.join(sorted(OWN_FIELDS))} of their own, and nothing else.")
            return ()
        check_account(rights.is_admin, before.is_admin or bool(wanted.get("is_admin")))
        plan = wanted.get("plan", before.plan)
        if plan == before.plan:
            return ()
        return await check_plan_change(self._database, rights, before.plan, plan)

    async def _write(self, call: Call, before: User, after: User, guards: Sequence[Guard]) -> int:
        shown = msgspec.to_builtins(user_shown(after))
        left = {name: value for name, value in shown.items() if name not in FIXED_FIELDS}
        entry = user_entry(call, "user.update", before.id, left)
        if before.status == after.status or after.status == "active":
            return await store.replace_user(Guarded(Audited(self._database, entry), guards), before, after)
        target = UserDisabled(before.id)
        revoking = RevokingStore(self._database, self._revocations, target, entry)
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


def user_entry(call: Call, action: Action, user_id: str, after: Mapping[str, Any] | None = None) -> Entry:
    """The audit entry of a change of a user's row."""
    return Entry(
        call.caller.actor, action, f"user:{user_id}", call.address, before=store.user_before(user_id), after=after
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


def _replaced(before: User, stands: Mapping[str, Any], wanted: Mapping[str, Any]) -> User:
    """The user with what is wanted; what stays is not looked at again. Raises Unprocessable."""
    whole = msgspec.to_builtins(converted(wanted, UserReplacement))
    changed = {name: whole[name] for name in differing(stands, {**stands, **whole})}
    for name in FIXED_FIELDS:
        if name in changed:
            raise Unprocessable(f"{name} can not be changed.")
    return msgspec.structs.replace(before, **checked_fields(changed))
