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
from gateway.store.audit import Audited, Entry, Store
from gateway.store.database import Database
from gateway.store.guarded import Guarded
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
        organization, stance, _ = await standing(self._database, await call.rights(), call.path["id"])
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
            stance = await standing(self._database, await call.rights(), call.path["id"])
            before = await store.find_member_role(self._database, stance.organization.id, user)
            check_membership(stance.standing, before, role)
            db = Guarded(self._audited(call, user, {"user_id": user, "role": role}), stance.guards)
            try:
                return await store.set_member(db, stance.organization.id, user, role, before=before)
            except NotFound:
                raise NotFound("No such user.") from None

        return await self._written(call, attempt)

    async def remove(self, call: Call) -> Response:
        """Take out, or leave."""
        user = call.path["user"]

        async def attempt() -> int:
            rights = await call.rights()
            stance = await standing(self._database, rights, call.path["id"])
            before = await store.find_member_role(self._database, stance.organization.id, user)
            db: Store = self._audited(call, user, None)
            if user == rights.caller.principal.id and stance.standing < Standing.ADMINISTRATOR:
                rights.caller.require_whole()
            else:
                check_membership(stance.standing, before, None)
                db = Guarded(db, stance.guards)
            try:
                return await store.remove_member(db, stance.organization.id, user, before=before)
            except NotFound:
                raise NotFound("No such member.") from None

        return await self._written(call, attempt)

    async def _written(self, call: Call, attempt: Callable[[], Awaitable[int]]) -> Response:
        """One change of an organization's members at a time: each is allowed by what the one before left."""
        seq = await self._turns.change(f"members:{call.path['id']}", None, attempt)
        return answer(Seq(seq), seq=seq)

    def _audited(self, call: Call, user: str, after: Mapping[str, Any] | None) -> Audited:
        before, target = store.member_before(call.path["id"], user), f"org:{call.path['id']}"
        entry = Entry(call.caller.actor, "org.member", target, call.address, before=before, after=after)
        return Audited(call.writing(self._database), entry)


def _shown(member: Member) -> MemberShown:
    return MemberShown(member.user_id, member.username, member.role, moment(member.since))
