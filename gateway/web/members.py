"""The members of an organization: managed by holders of ``orgs.write`` and by those of them who may, and left by
whoever wants to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from gateway.core.administration import Standing, check_membership
from gateway.core.text import TEXT_CHECKS
from gateway.errors import Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store import organizations as store
from gateway.store.audit import Audited, Entry
from gateway.store.database import Database
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.store.organizations import Member, MemberRole
from gateway.web.answer import answer, etag_of, require_match
from gateway.web.fields import checked, moment
from gateway.web.operation import Call, Operation
from gateway.web.organizations import standing
from gateway.web.paging import Page, Paged, page, read_cursor
from gateway.web.turns import Turns, is_pinned
from gateway.web.users import Seq

NO_SUCH_MEMBER = "No such member."


class MemberShown(msgspec.Struct, frozen=True, kw_only=True):
    """A member; `user` is the id, `since` RFC 3339."""

    user: str
    username: str
    role: MemberRole
    since: str


class MemberMade(MemberShown, frozen=True, kw_only=True):
    """A new member; `seq` is that of the commit."""

    seq: int


class NewMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user (an id) who is to be a member, and the role."""

    user: str
    role: MemberRole


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
        one = f"{members}/{{user}}"
        failures = (Forbidden, Conflict, PreconditionFailed)
        write: dict[str, Any] = {"answers": {200: Seq}, "errors": failures, "writes": True}
        return [
            Operation(
                *("GET", members, self.list),
                "The members in the order of their user names, for readers and those who manage the organization",
                {200: Page[MemberShown]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(
                *("POST", members, self.create),
                "Make a user a member who is none",
                {201: MemberMade},
                body=NewMember,
                check=self._check,
                errors=(Forbidden, Conflict),
                writes=True,
                tagged=True,
            ),
            Operation(
                *("GET", one, self.find),
                "A member, for the member as well",
                {200: MemberShown, 304: None},
                errors=(Forbidden,),
            ),
            Operation(
                *("PUT", one, self.set),
                "Make a user a member, or give another role",
                body=MembershipBody,
                check=self._check,
                **write,
            ),
            Operation(*("DELETE", one, self.remove), "End a membership, or leave", **write),
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

    async def find(self, call: Call) -> Response:
        """One, with the entity tag that a change can name."""
        rights, user = await call.rights(), call.path["user"]
        organization, stance, _ = await standing(self._database, rights, call.path["id"])
        if stance < Standing.READER and user != rights.caller.principal.id:
            raise Forbidden("This is for those who manage the organization, and for the member.")
        member = await self._member(organization.id, user)
        if member is None:
            raise NotFound(NO_SUCH_MEMBER)
        shown = _shown(member)
        return answer(shown, etag=etag_of(shown))

    async def create(self, call: Call) -> Response:
        """Take in who is no member."""
        user, role = checked(TEXT_CHECKS["id"], call.body.user), call.body.role

        async def attempt() -> int:
            stance = await standing(self._database, await call.rights(), call.path["id"])
            check_membership(stance.standing, None, role)
            if await self._member(stance.organization.id, user) is not None:
                raise Conflict("The user is a member already.")
            db = Guarded(self._audited(call, user, {"user_id": user, "role": role}), stance.guards)
            try:
                return await store.set_member(db, stance.organization.id, user, role, before=None)
            except NotFound:
                raise Unprocessable("There is no such user.") from None

        seq = await self._turn(call, attempt)
        member = await self._member(call.path["id"], user)
        if member is None:
            raise NotFound(NO_SUCH_MEMBER)  # who was taken out again meanwhile
        shown = _shown(member)
        body = {**msgspec.to_builtins(shown), "seq": seq}
        headers = {"Location": f"/orgs/{call.path['id']}/members/{user}"}
        return answer(body, status=201, seq=seq, etag=etag_of(shown), headers=headers)

    async def set(self, call: Call) -> Response:
        """Take in, or give another role."""
        user, role = call.path["user"], call.body.role

        async def attempt() -> int:
            stance = await standing(self._database, await call.rights(), call.path["id"])
            before = await self._member(stance.organization.id, user)
            had = None if before is None else before.role
            check_membership(stance.standing, had, role)
            guards = (*stance.guards, *_meant(call, stance.organization.id, before))
            db = Guarded(self._audited(call, user, {"user_id": user, "role": role}), guards)
            try:
                return await store.set_member(db, stance.organization.id, user, role, before=had)
            except NotFound:
                raise NotFound("No such user.") from None

        return await self._written(call, attempt)

    async def remove(self, call: Call) -> Response:
        """Take out, or leave."""
        user = call.path["user"]

        async def attempt() -> int:
            rights = await call.rights()
            stance = await standing(self._database, rights, call.path["id"])
            before = await self._member(stance.organization.id, user)
            had = None if before is None else before.role
            guards: tuple[Guard, ...] = ()
            if user == rights.caller.principal.id and stance.standing < Standing.ADMINISTRATOR:
                rights.caller.require_whole()
            else:
                check_membership(stance.standing, had, None)
                guards = stance.guards
            if before is not None:
                guards = (*guards, *_meant(call, stance.organization.id, before))
            db = Guarded(self._audited(call, user, None), guards)
            try:
                return await store.remove_member(db, stance.organization.id, user, before=had)
            except NotFound:
                raise NotFound(NO_SUCH_MEMBER) from None

        return await self._written(call, attempt)

    async def _written(self, call: Call, attempt: Callable[[], Awaitable[int]]) -> Response:
        seq = await self._turn(call, attempt)
        return answer(Seq(seq), seq=seq)

    async def _turn(self, call: Call, attempt: Callable[[], Awaitable[int]]) -> int:
        """One change of an organization's members at a time: each is allowed by what the one before left."""
        return await self._turns.change(f"members:{call.path['id']}", call.request, attempt)

    async def _check(self, call: Call) -> None:
        stance = await standing(self._database, await call.rights(), call.path["id"])
        check_membership(stance.standing, None, "member")

    async def _member(self, organization: str, user: str) -> Member | None:
        """The member as it stands; None for whoever is none."""
        try:
            return await store.find_member(self._database, organization, user)
        except NotFound:
            return None

    def _audited(self, call: Call, user: str, after: Mapping[str, Any] | None) -> Audited:
        before, target = store.member_before(call.path["id"], user), f"org:{call.path['id']}"
        entry = Entry(call.caller.actor, "org.member", target, call.address, before=before, after=after)
        return Audited(call.writing(self._database), entry)


def _meant(call: Call, organization: str, before: Member | None) -> Sequence[Guard]:
    """What a change of this member (None: of whoever is none) hangs on by what its client says of it. Raises as
    `require_match`."""
    require_match(call.request, None if before is None else etag_of(_shown(before)), stands=before is not None)
    return () if before is None or not is_pinned(call.request) else (store.still_member(organization, before),)


def _shown(member: Member) -> MemberShown:
    return MemberShown(user=member.user_id, username=member.username, role=member.role, since=moment(member.since))
