"""What users, plans, roles and organizations have in common: they are looked at, replaced, merged into and deleted
under entity tags, each change compared with what was read, and told to the audit trail.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.administration import differing
from gateway.core.document import apply
from gateway.errors import Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store.audit import Action, Audited, Entry, Lookup
from gateway.store.database import Database
from gateway.store.guarded import Identified
from gateway.store.guards import Guard
from gateway.web.answer import answer, etag_of, require_match
from gateway.web.fields import checked_fields, converted, given, moment_or_null, stored_moment
from gateway.web.operation import Call
from gateway.web.paging import page, read_cursor
from gateway.web.turns import Turns, is_pinned

FIXED_FIELDS = ("id", "created_at", "updated_at")
EDITING: dict[str, Any] = {"errors": (Forbidden, PreconditionFailed), "writes": True, "tagged": True}
"""Of the operations that replace one and merge into it: they compare, and answer with what stands there then."""

Body = TypeVar("Body", bound=msgspec.Struct)
Row = TypeVar("Row", bound=Identified)


class Edit(NamedTuple):
    """What a client wants: all that is to be so (`whole`), or what is to be merged into what stands (RFC 7396)."""

    request: Request
    wanted: dict[str, Any]
    whole: bool

    def named(self, stands: Mapping[str, Any]) -> frozenset[str]:
        """The fields that it is about: those that it would change, or that it names."""
        return differing(stands, {**stands, **self.wanted}) if self.whole else frozenset(self.wanted)

    def body(self, stands: dict[str, Any], kind: type[Body]) -> Body:
        """What is to stand there instead. Raises `PreconditionFailed` for a client that means another state, and
        `Unprocessable`."""
        require_match(self.request, etag_of(stands))
        body = converted(self.wanted if self.whole else apply(stands, self.wanted), kind)
        for name in FIXED_FIELDS:
            if getattr(body, name, msgspec.UNSET) not in (msgspec.UNSET, stands.get(name)):
                raise Unprocessable(f"{name} can not be changed.")
        return body

    def changed(self, stands: dict[str, Any], kind: type[Body]) -> dict[str, Any]:
        """The fields of a row that are to be others; what stays is not looked at again. Raises as `body`."""
        whole = msgspec.to_builtins(self.body(stands, kind))
        return checked_fields({name: whole[name] for name in differing(stands, {**stands, **whole})})


async def still_named(call: Call, still: Callable[[Row], Awaitable[Sequence[Guard]]], row: Row) -> Sequence[Guard]:
    """What a write hangs on whose client named the row as it was read (``If-Match``): that it is `still` that. Of
    others nothing, so that they are not held up by who changes it meanwhile."""
    return await still(row) if is_pinned(call.request) else ()


class Kind(NamedTuple, Generic[Row]):
    """What differs from one kind to the other. `name` is that of targets in the trail, `path` where one stands;
    `untold` are fields that the trail does not repeat.
    """

    name: str
    path: str
    missing: str
    find: Callable[[Database, str], Awaitable[Row]]
    shown: Callable[[Row], msgspec.Struct]
    before: Callable[[str], Lookup]
    untold: tuple[str, ...] = ()


class Resource(ABC, Generic[Row]):
    """The routes of one kind; who may do what there is for those to say who know the kind."""

    def __init__(self, database: Database, turns: Turns, kind: Kind[Row]) -> None:
        self._database = database
        self._turns = turns
        self._kind = kind

    @abstractmethod
    async def seen(self, call: Call) -> Row:
        """The one that the path names, for whoever may look at it."""

    @abstractmethod
    async def edited(self, call: Call, edit: Edit) -> tuple[int, Row]:
        """Look, judge, and write what is wanted; the commit's `seq` and what stands there now. Raises
        `PreconditionFailed` when somebody else gets ahead, and is called again."""

    @abstractmethod
    async def deletable(self, call: Call) -> Row:
        """The one that the path names, for whoever may delete it."""

    @abstractmethod
    async def deleted(self, call: Call, row: Row) -> int:
        """Delete it; the commit's `seq`. Raises as `edited` when it is another by now, and that matters: to what allows
        it, or to a client that said what it means (`still_named`)."""

    async def listed(self, call: Call, rows: Callable[..., Awaitable[Sequence[Row]]], by: str = "id") -> Response:
        """One page of what `rows` finds `after` a position, up to a `limit`, in the order of the field `by`."""
        of, asked = self._kind.path[1:], call.query
        after = "" if asked.cursor is None else read_cursor(of, asked.cursor, str)
        found = await rows(after=after, limit=asked.limit + 1)
        return answer(page(of, found, asked.limit, position=operator.attrgetter(by), shown=self._kind.shown))

    async def find(self, call: Call) -> Response:
        """One, with the entity tag that a change can name."""
        return self.answered(await self.seen(call))

    async def replace(self, call: Call) -> Response:
        """Make it what the body says."""
        return await self._change(call, whole=True)

    async def patch(self, call: Call) -> Response:
        """Merge the body into it."""
        return await self._change(call, whole=False)

    async def delete(self, call: Call) -> Response:
        """Delete it, if it is what the client means."""

        async def attempt() -> int:
            row = await self.deletable(call)
            require_match(call.request, etag_of(self.shown(row)))
            return await self.deleted(call, row)

        seq = await self._turns.change(self._turn(call), call.request, attempt)
        return answer({"seq": seq}, seq=seq)

    async def found(self, key: str) -> Row:
        """The one with this id. Raises NotFound, in the same words for every one that is not there."""
        try:
            return await self._kind.find(self._database, key)
        except NotFound:
            raise NotFound(self._kind.missing) from None

    def shown(self, row: Row) -> dict[str, Any]:
        """As clients see it, of JSON's types."""
        plain: dict[str, Any] = msgspec.to_builtins(self._kind.shown(row))
        return plain

    def answered(self, row: Row, seq: int | None = None, *, made: bool = False) -> Response:
        """It, with its entity tag; `seq` is that of the commit that changed it, or `made` it."""
        shown = self.shown(row)
        body = shown if seq is None else {**shown, "seq": seq}
        headers = {"Location": f"{self._kind.path}/{row.id}"} if made else {}
        return answer(body, status=201 if made else 200, seq=seq, etag=etag_of(shown), headers=headers)

    def entry(self, call: Call, action: Action, key: str, after: Row | None, **told: Any) -> Entry:
        """What the trail is to say of a change that leaves `after` (None: nothing), and what else it `told`."""
        left: dict[str, Any] | None = None
        if after is not None:
            left = {name: value for name, value in self.shown(after).items() if name not in self._kind.untold} | told
        target, before = f"{self._kind.name}:{key}", self._kind.before(key)
        return Entry(call.caller.actor, action, target, call.address, before=before, after=left)

    def audited(self, call: Call, action: Action, key: str, after: Row | None, **told: Any) -> Audited:
        """The database, whose next write leaves this `entry`."""
        return Audited(call.writing(self._database), self.entry(call, action, key, after, **told))

    async def _change(self, call: Call, *, whole: bool) -> Response:
        wanted = given(call.body)
        if isinstance(wanted.get("anchor_at"), str):
            wanted["anchor_at"] = moment_or_null(stored_moment(wanted["anchor_at"], "anchor_at"))
        edit = Edit(call.request, wanted, whole)
        seq, row = await self._turns.change(self._turn(call), call.request, lambda: self.edited(call, edit))
        return self.answered(row, seq)

    def _turn(self, call: Call) -> str:
        return f"{self._kind.name}:{call.path['id']}"
