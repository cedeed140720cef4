"""The members of an organization: managed by holders of ``orgs.write`` and by those of them who may, and left by
whoever wants to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from gateway.core.administration import Standing, check_membership
from gateway.errors import Conflict, Forbidden, NotFound
from gateway.store import organizations as store
from gateway.store.audit import Audited, Entry
from gateway.store.database import Database
from gateway.store.organizations import Member, MemberRole
from gateway.web.answer import answer
from gateway.web.fields import moment
from gateway.web.operation import Call, Operation
from gateway.web.organizations import standing
from gateway.web.paging import Page, Paged, page, read_cursor
from gateway.web.turns import Turns
from gateway.web.users import Seq


class MemberShown(msgspec.Struct, frozen=True):
    """A member; `user` is the id, `since` RFC 3339."""

    user: str
    username: str
    role: MemberRole
    since: str


class MembershipBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The role that a member is to have."""

    role: MemberRole


class Members:
    """The routes of an organization's members."""

    def __init__(self, database: Database, turns: Turns) -> None:
        self._database = database
        self._turns = turns

    def operations(self) -> list[Operation]:
        """All of them."""
        members = "/orgs/{id}/members"
        write: dict[str, Any] = {"answers": {200: Seq}, "errors": (Forbidden, Conflict), "writes": True}
        return [
            Operation(
                *("GET", members, self.list),
                "The members in the order of their user names, for readers and those who manage the organization",
                {200: Page[MemberShown]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(*("PUT", f"{members}/{{user}}", self.set), "Make a user a member", body=MembershipBody, **write),
            Operation(*("DELETE", f"{members}/{{user}}", self.remove), "End a membership, or leave", **write),
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        organization, stance = await standing(self._database, await call.rights(), call.path["id"])
        if stance < Standing.READER:
            raise Forbidden("This is for those who manage the organization.")
        asked: Paged = call.query
        after = "" if asked.cursor is None else read_cursor("members", asked.cursor, str)
        found = await store.list_members(self._database, organization.id, after=after, limit=asked.limit + 1)
        return answer(page("members", found, asked.limit, position=lambda member: member.username, shown=_shown))

    async def set(self, call: Call) -> Response:
        """Take in, or give another role."""
        user, role = call.path["user"], call.body.role

        async def attempt() -> int:
            organization, stance = await standing(self._database, await call.rights(), call.path["id"])
            check_membership(stance, await self._role(stance, organization.id, user), role)
            db = self._audited(call, organization.id, user, {"user_id": user, "role": role})
            try:
                return await store.set_member(db, organization.id, user, role)
            except NotFound:
                raise NotFound("No such user.") from None

        return await self._written(call, attempt)

    async def remove(self, call: Call) -> Response:
        """Take out, or leave."""
        user = call.path["user"]

        async def attempt() -> int:
            rights = await call.rights()
            organization, stance = await standing(self._database, rights, call.path["id"])
            if user == rights.caller.principal.id and stance < Standing.ADMINISTRATOR:
                rights.caller.require_whole()
            else:
                check_membership(stance, await self._role(stance, organization.id, user), None)
            db = self._audited(call, organization.id, user, None)
            try:
                return await store.remove_member(db, organization.id, user)
            except NotFound:
                raise NotFound("No such member.") from None

        return await self._written(call, attempt)

    async def _written(self, call: Call, attempt: Callable[[], Awaitable[int]]) -> Response:
        """One change of an organization's members at a time: each is allowed by what the one before left."""
        seq = await self._turns.change(f"members:{call.path['id']}", call.request, attempt)
        return answer(Seq(seq), seq=seq)

    async def _role(self, stance: Standing, organization: str, user: str) -> MemberRole | None:
        """The role that the user has, for whoever may manage members."""
        if stance < Standing.MANAGER:
            return None
        try:
            return (await store.find_member(self._database, organization, user)).role
        except NotFound:
            return None

    def _audited(self, call: Call, organization: str, user: str, after: Mapping[str, Any] | None) -> Audited:
        before, target = store.member_before(organization, user), f"org:{organization}"
        entry = Entry(call.caller.actor, "org.member", target, call.address, before=before, after=after)
        return Audited(self._database, entry)


def _shown(member: Member) -> MemberShown:
    return MemberShown(member.user_id, member.username, member.role, moment(member.since))
