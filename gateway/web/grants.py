"""What is given or limited to one user alone: the plan, roles, permissions, and overrides of the plan's quotas.

All of it needs ``users.write``. The gateway's own permissions, also within a role or a plan, are given and taken by
administrators alone; see `gateway.core.administration`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from starlette.responses import Response

from gateway.core.administration import WRITE_USERS, check_account, check_handing_out
from gateway.core.quotas import Period
from gateway.core.text import TEXT_CHECKS, check_permission, check_quota
from gateway.errors import Forbidden, NotFound, PreconditionFailed
from gateway.store import accounts, grants, roles
from gateway.store.accounts import User
from gateway.store.audit import Action, Audited, Entry, Lookup, Store
from gateway.store.database import Database
from gateway.store.grants import Effect, QuotaRow
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.store.plans import MAX_LIMIT
from gateway.web.answer import answer, etag_of, require_match
from gateway.web.caller import Rights
from gateway.web.fields import checked, moment_or_null, path_name, period, stored_moment
from gateway.web.operation import Call, Operation
from gateway.web.resource import still_named
from gateway.web.turns import Turns
from gateway.web.users import Seq, check_plan_change, subject, user_shown

Judge: TypeAlias = Callable[[Rights, User], Awaitable[Sequence[Guard]]]
"""Raises Forbidden unless the caller may change this of the user, who stands as given; what that hangs on."""


class PlanChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plan that a user is to be on."""

    plan: str


class PermissionGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A permission allowed or denied, from `starts_at` (null: at once) until before `expires_at` (null: for good)."""

    effect: Effect
    starts_at: str | None = None
    expires_at: str | None = None


class RoleGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role, until before `expires_at` (null: for good)."""

    expires_at: str | None = None


class QuotaOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What replaces a quota of the plan; `limit` null: unlimited; a soft limit (`hard` false) may be passed."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_LIMIT)] | None
    period: Period = "month"
    hard: bool = True
    starts_at: str | None = None
    expires_at: str | None = None


class PermissionShown(msgspec.Struct, frozen=True):
    """An allowed or denied permission of one user."""

    permission: str
    effect: Effect
    starts_at: str | None
    expires_at: str | None


class RoleShown(msgspec.Struct, frozen=True):
    """A role of one user."""

    role: str
    expires_at: str | None


class QuotaShown(msgspec.Struct, frozen=True):
    """A quota of one user that replaces the plan's."""

    quota: str
    limit: int | None
    period: str
    hard: bool
    starts_at: str | None
    expires_at: str | None


class GrantsShown(msgspec.Struct, frozen=True):
    """All that was written for one user alone, in force or not."""

    plan: str
    roles: list[RoleShown]
    permissions: list[PermissionShown]
    quotas: list[QuotaShown]


class UserGrants:
    """The routes of one user's grants."""

    def __init__(self, database: Database, turns: Turns) -> None:
        self._database = database
        self._turns = turns

    def operations(self) -> list[Operation]:
        """All of them."""
        user = "/users/{id}"
        write: dict[str, Any] = {
            "answers": {200: Seq},
            "errors": (Forbidden, PreconditionFailed),
            "writes": True,
            "check": self._check,
        }
        return [
            Operation(
                *("GET", f"{user}/grants", self.find),
                "The plan, roles, permissions and quotas written for a user, in force or not",
                {200: GrantsShown},
                errors=(Forbidden,),
            ),
            Operation(*("PUT", f"{user}/plan", self.set_plan), "Put a user on a plan", body=PlanChoice, **write),
            Operation(
                *("PUT", f"{user}/permissions/{{permission}}", self.set_permission),
                "Allow or deny a permission, in place of every row of this user that names it",
                body=PermissionGrant,
                **write,
            ),
            Operation(
                *("DELETE", f"{user}/permissions/{{permission}}", self.remove_permission),
                "Leave a permission to plan and roles",
                **write,
            ),
            Operation(*("PUT", f"{user}/roles/{{role}}", self.set_role), "Give a role", body=RoleGrant, **write),
            Operation(*("DELETE", f"{user}/roles/{{role}}", self.remove_role), "Take a role", **write),
            Operation(
                *("PUT", f"{user}/quotas/{{quota}}", self.set_quota),
                "Override a quota of the plan",
                body=QuotaOverride,
                **write,
            ),
            Operation(*("DELETE", f"{user}/quotas/{{quota}}", self.remove_quota), "Leave a quota to the plan", **write),
        ]

    async def find(self, call: Call) -> Response:
        """All rows of the user."""
        rights = await call.rights()
        user = await subject(self._database, rights, call.path["id"])
        rights.require(WRITE_USERS)
        found = await grants.read_grants(self._database, user.id)
        return answer(
            GrantsShown(
                user.plan,
                [RoleShown(row.role, moment_or_null(row.expires_at)) for row in found.roles],
                [PermissionShown(row.permission, row.effect, *_dates(row)) for row in found.permissions],
                [QuotaShown(row.quota, row.limit, row.period, row.hard, *_dates(row)) for row in found.quotas],
            )
        )

    async def set_plan(self, call: Call) -> Response:
        """Another plan."""
        user, plan = call.path["id"], checked(TEXT_CHECKS["plan"], call.body.plan)

        async def judge(rights: Rights, before: User) -> Sequence[Guard]:
            allowing = await check_plan_change(self._database, rights, before.plan, plan)
            require_match(call.request, etag_of(user_shown(before)))
            return (*allowing, *await still_named(call, functools.partial(accounts.still, self._database), before))

        entry = self._entry(call, "user.plan", accounts.user_before(user), {"plan": plan})
        return await self._compared(call, entry, judge, lambda db: accounts.set_plan(db, user, plan))

    async def set_permission(self, call: Call) -> Response:
        """Allow or deny."""
        user, permission = call.path["id"], path_name(check_permission, call.path["permission"])
        body: PermissionGrant = call.body
        starts_at, expires_at = period(body.starts_at, body.expires_at)

        def write(db: Store) -> Awaitable[int]:
            return grants.set_permission(db, user, permission, body.effect, expires_at, starts_at=starts_at)

        after = {"permission": permission, **msgspec.to_builtins(body)}
        entry = self._entry(call, "user.permission", grants.permission_before(user, permission), after)
        return await self._write(call, entry, _handing_out(permission), write)

    async def remove_permission(self, call: Call) -> Response:
        """Neither."""
        user, permission = call.path["id"], path_name(check_permission, call.path["permission"])
        after = {"permission": permission, "effect": None}
        entry = self._entry(call, "user.permission", grants.permission_before(user, permission), after)
        write = functools.partial(grants.remove_permission, user_id=user, permission=permission)
        return await self._write(call, entry, _handing_out(permission), write)

    async def set_role(self, call: Call) -> Response:
        """Give it."""
        user, role = call.path["id"], call.path["role"]
        expires_at = stored_moment(call.body.expires_at, "expires_at")
        after = {"role": role, "expires_at": call.body.expires_at}
        entry = self._entry(call, "user.role", grants.role_before(user, role), after)
        write = functools.partial(grants.set_role, user_id=user, role=role, until=expires_at)
        return await self._write(call, entry, self._handing_out_role(role), write)

    async def remove_role(self, call: Call) -> Response:
        """Take it."""
        user, role = call.path["id"], call.path["role"]
        entry = self._entry(call, "user.role", grants.role_before(user, role), None)
        write = functools.partial(grants.remove_role, user_id=user, role=role)
        return await self._write(call, entry, self._handing_out_role(role), write)

    async def set_quota(self, call: Call) -> Response:
        """Override it."""
        user, quota = call.path["id"], path_name(check_quota, call.path["quota"])
        body: QuotaOverride = call.body
        row = QuotaRow(quota, body.limit, body.period, body.hard, *period(body.starts_at, body.expires_at))
        after = {"quota": quota, **msgspec.to_builtins(body)}
        entry = self._entry(call, "user.quota", grants.quota_before(user, quota), after)
        return await self._write(call, entry, _anybody, functools.partial(grants.set_quota, user_id=user, row=row))

    async def remove_quota(self, call: Call) -> Response:
        """Leave it to the plan."""
        user, quota = call.path["id"], path_name(check_quota, call.path["quota"])
        entry = self._entry(call, "user.quota", grants.quota_before(user, quota), None)
        write = functools.partial(grants.remove_quota, user_id=user, quota=quota)
        return await self._write(call, entry, _anybody, write)

    async def _check(self, call: Call) -> None:
        await writable(self._database, call, await call.rights())

    async def _write(
        self, call: Call, entry: Entry, judge: Judge, write: Callable[[Store], Awaitable[int]]
    ) -> Response:
        """As `_compared`, of what has no entity tag."""

        async def judge_untagged(rights: Rights, user: User) -> Sequence[Guard]:
            allowing = await judge(rights, user)
            require_match(call.request, None)
            return allowing

        return await self._compared(call, entry, judge_untagged, write)

    async def _compared(
        self, call: Call, entry: Entry, judge: Judge, write: Callable[[Store], Awaitable[int]]
    ) -> Response:
        """`write`, for whoever may change the user that the path names and is not refused by `judge`, which compares
        what the client means as well."""

        async def attempt() -> int:
            rights = await call.rights()
            user = await writable(self._database, call, rights)
            guards = await judge(rights, user)
            if not rights.is_admin:
                guards = (accounts.still_on(user.id, user.plan), *guards)
            return await write(Guarded(Audited(call.writing(self._database), entry), guards))

        seq = await self._turns.change(f"user:{call.path['id']}", call.request, attempt)
        return answer(Seq(seq), seq=seq)

    def _handing_out_role(self, name: str) -> Judge:
        async def judge(rights: Rights, _: User) -> Sequence[Guard]:
            try:
                role = await roles.find_role(self._database, name)
            except NotFound:
                raise NotFound("No such role.") from None
            check_handing_out(rights.is_admin, (), role.permissions)
            return () if rights.is_admin else (roles.still(role),)

        return judge

    def _entry(self, call: Call, action: Action, before: Lookup, after: Mapping[str, Any] | None) -> Entry:
        return Entry(call.caller.actor, action, f"user:{call.path['id']}", call.address, before=before, after=after)


def _handing_out(permission: str) -> Judge:
    async def judge(rights: Rights, _: User) -> Sequence[Guard]:
        check_handing_out(rights.is_admin, (), (permission,))
        return ()

    return judge


async def _anybody(_: Rights, __: User) -> Sequence[Guard]:
    return ()


async def writable(database: Database, call: Call, rights: Rights) -> User:
    """The user that the path names, for whoever may change it. Raises NotFound and Forbidden."""
    user = await subject(database, rights, call.path["id"])
    rights.require(WRITE_USERS)
    check_account(rights.is_admin, user.is_admin)
    return user


def _dates(row: grants.PermissionRow | QuotaRow) -> tuple[str | None, str | None]:
    return moment_or_null(row.starts_at), moment_or_null(row.expires_at)
