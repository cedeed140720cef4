"""Server instances and their keys, kept by administrators. A key's secret is answered once, when it is made."""

from __future__ import annotations

import functools
import secrets
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from gateway.auth.instances import Instances, NewKey
from gateway.core.networks import check_networks
from gateway.core.text import make_id
from gateway.errors import Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store import instances as store
from gateway.store.accounts import Status
from gateway.store.audit import Audited, Entry, Lookup
from gateway.store.database import Database
from gateway.store.guarded import Guarded
from gateway.store.instances import OVERLAP_S, REQUESTS_PER_MINUTE, Instance, InstanceKey
from gateway.web.answer import answer, etag_of, require_match
from gateway.web.checks import administrators
from gateway.web.fields import checked, checked_fields, given, moment, moment_or_null, stored_moment
from gateway.web.operation import Call, Operation
from gateway.web.paging import Page, Paged, page, read_cursor
from gateway.web.resource import EDITING, FIXED_FIELDS, Edit, Kind, Resource, still_named
from gateway.web.turns import Turns, is_pinned
from gateway.web.users import Seq

NO_SUCH_INSTANCE = "No such instance."
NO_SUCH_KEY = "No such key."
_ID_BYTES = 10

PerMinute = Annotated[int, Meta(ge=1, le=100_000)]
OverlapS = Annotated[float, Meta(ge=0, le=31_536_000, description="Seconds")]


class InstanceShown(msgspec.Struct, frozen=True, kw_only=True):
    """A server instance. `networks` (CIDR) are where it may ask from, none: anywhere; null: the list that stands there
    can not be read, and it may ask from nowhere. Times are RFC 3339.
    """

    id: str
    name: str
    status: Status
    networks: list[str] | None
    requests_per_minute: int
    created_at: str
    updated_at: str


class InstanceChanged(InstanceShown, frozen=True, kw_only=True):
    """An instance after a change; `seq` is that of its commit."""

    seq: int


class InstanceMade(InstanceChanged, frozen=True, kw_only=True):
    """A new instance with its first key: `kid` names it in signatures, `key` is the secret (32 bytes in base64url),
    shown this once.
    """

    kid: str
    key: str


class NewInstance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instance to be made; without an `id` it gets one."""

    id: str | UnsetType = UNSET
    name: str = ""
    status: Status = "active"
    networks: list[str] = []
    requests_per_minute: PerMinute = REQUESTS_PER_MINUTE


class InstanceReplacement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is to be so about an instance; what is left out takes its default, but for `networks`, which has to be
    there. `id`, `created_at` and `updated_at` may be there, as they are.
    """

    networks: list[str] | None
    name: str = ""
    status: Status = "active"
    requests_per_minute: PerMinute = REQUESTS_PER_MINUTE
    id: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET


class InstancePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of an instance; null means the default."""

    name: str | UnsetType | None = UNSET
    status: Status | UnsetType | None = UNSET
    networks: list[str] | UnsetType = UNSET
    requests_per_minute: PerMinute | UnsetType | None = UNSET
    id: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET


class KeyShown(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secret; `expires_at` null: no end."""

    kid: str
    created_at: str
    expires_at: str | None


class KeyWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made. The older ones end after `overlap_s` seconds, a day without it; null: they stay as they are.
    `expires_at` (RFC 3339) is the new one's own end.
    """

    overlap_s: OverlapS | None = OVERLAP_S
    expires_at: str | None = None


class KeyMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new key: `kid` names it in signatures, `key` is the secret (32 bytes in base64url), shown this once. The older
    ones end at `older_until` at the latest (null: they stay as they are).
    """

    kid: str
    key: str
    expires_at: str | None
    older_until: str | None
    seq: int


class InstanceRoutes(Resource[Instance]):
    """The routes of instances."""

    def __init__(self, database: Database, instances: Instances, turns: Turns) -> None:
        find, before = store.find_instance, store.instance_before
        described = Kind("instance", "/instances", NO_SUCH_INSTANCE, find, instance_shown, before, FIXED_FIELDS)
        super().__init__(database, turns, described)
        self._instances = instances

    def operations(self) -> list[Operation]:
        """All of them."""
        one = "/instances/{id}"
        change = EDITING | {"answers": {200: InstanceChanged}, "check": self.seen}
        return [
            Operation(
                *("GET", "/instances", self.list),
                "Server instances in the order of their ids; for administrators",
                {200: Page[InstanceShown]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(
                *("POST", "/instances", self.create),
                "Make a server instance with its first key, whose secret is answered this once",
                {201: InstanceMade},
                body=NewInstance,
                check=administrators,
                errors=(Forbidden, Conflict),
                writes=True,
                tagged=True,
            ),
            Operation(
                *("GET", one, self.find), "A server instance", {200: InstanceShown, 304: None}, errors=(Forbidden,)
            ),
            Operation(
                *("PUT", one, self.replace), "Make a server instance exactly this", body=InstanceReplacement, **change
            ),
            Operation(*("PATCH", one, self.patch), "Change some of a server instance", body=InstancePatch, **change),
            Operation(
                *("DELETE", one, self.delete),
                "Delete a server instance with its keys: its sockets end",
                {200: Seq},
                errors=(Forbidden, PreconditionFailed),
                writes=True,
            ),
            *self._of_keys(f"{one}/keys"),
        ]

    def _of_keys(self, keys: str) -> list[Operation]:
        return [
            Operation(
                *("GET", keys, self.keys),
                "The keys of a server instance, the oldest first, never their secrets",
                {200: Page[KeyShown]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(
                *("POST", keys, self.rotate),
                "Make a key, whose secret is answered this once, and let the older ones end",
                {201: KeyMade},
                body=KeyWanted,
                check=self.seen,
                errors=(Forbidden, Conflict),
                writes=True,
            ),
            Operation(
                *("GET", f"{keys}/{{kid}}", self.find_key),
                "A key of a server instance, never its secret",
                {200: KeyShown, 304: None},
                errors=(Forbidden,),
            ),
            Operation(
                *("DELETE", f"{keys}/{{kid}}", self.delete_key),
                "Remove a key at once: what it opened ends",
                {200: Seq},
                errors=(Forbidden, PreconditionFailed),
                writes=True,
            ),
        ]

    # --- instances ---

    async def list(self, call: Call) -> Response:
        """One page."""
        (await call.rights()).require_admin()
        return await self.listed(call, functools.partial(store.list_instances, self._database))

    async def seen(self, call: Call) -> Instance:
        """For administrators."""
        (await call.rights()).require_admin()
        return await self.found(call.path["id"])

    async def create(self, call: Call) -> Response:
        """A new instance, and its first key."""
        (await call.rights()).require_admin()
        fields = given(call.body)
        fields.setdefault("id", make_id("i_", secrets.token_bytes(_ID_BYTES)))
        checked(check_networks, fields["networks"])
        instance, key = Instance(**checked_fields(fields)), self._instances.new_key()
        db = self.audited(call, "instance.create", instance.id, instance, kid=key.kid)
        seq = await store.add_instance(db, instance, key.sealed)
        shown = self.shown(await self.found(instance.id))
        body = {**shown, "kid": key.kid, "key": key.secret, "seq": seq}
        headers = {"Location": f"/instances/{instance.id}"}
        return answer(body, status=201, seq=seq, etag=etag_of(shown), headers=headers)

    async def edited(self, call: Call, edit: Edit) -> tuple[int, Instance]:
        """For administrators."""
        before = await self.seen(call)
        changed = edit.changed(self.shown(before), InstanceReplacement)
        if "networks" in changed:
            checked(check_networks, changed["networks"])
        after = msgspec.structs.replace(before, **changed)
        seq = await store.replace_instance(self.audited(call, "instance.update", before.id, after), before, after)
        return seq, await self.found(before.id)

    async def deletable(self, call: Call) -> Instance:
        """For administrators."""
        return await self.seen(call)

    async def deleted(self, call: Call, row: Instance) -> int:
        """With its keys."""
        guards = await still_named(call, functools.partial(store.still, self._database), row)
        db = Guarded(self.audited(call, "instance.delete", row.id, None), guards)
        return await store.delete_instance(db, row.id)

    # --- keys ---

    async def keys(self, call: Call) -> Response:
        """One page."""
        instance, asked = await self.seen(call), call.query
        of, after = f"instances/{instance.id}/keys", ""
        if asked.cursor is not None:
            after = read_cursor(of, asked.cursor, str)
        found = sorted(await store.list_instance_keys(self._database, instance.id), key=_place)
        rest = [key for key in found if _place(key) > after]
        return answer(page(of, rest, asked.limit, position=_place, shown=key_shown))

    async def find_key(self, call: Call) -> Response:
        """One, without its secret."""
        shown = key_shown(await self._key(await self.seen(call), call.path["kid"]))
        return answer(shown, etag=etag_of(shown))

    async def rotate(self, call: Call) -> Response:
        """A new key."""
        asked: KeyWanted = call.body
        instance, now = await self.seen(call), self._database.clock()
        end = stored_moment(asked.expires_at, "expires_at")
        if end is not None and end <= now:
            raise Unprocessable("expires_at has to come.")
        older_until = None if asked.overlap_s is None else now + round(asked.overlap_s * 1000)
        key: NewKey = self._instances.new_key()
        told = {"kid": key.kid, "expires_at": end, "older_until": older_until}
        db = self._told(call, instance.id, told)
        sealed = key.sealed._replace(expires_at=end)
        seq = await store.add_instance_key(db, instance.id, sealed, now, older_until=older_until)
        made = KeyMade(
            kid=key.kid,
            key=key.secret,
            expires_at=moment_or_null(end),
            older_until=moment_or_null(older_until),
            seq=seq,
        )
        return answer(made, status=201, seq=seq, headers={"Location": f"/instances/{instance.id}/keys/{key.kid}"})

    async def delete_key(self, call: Call) -> Response:
        """At once."""
        instance, kid = await self.seen(call), call.path["kid"]
        key = await self._key(instance, kid)
        require_match(call.request, etag_of(key_shown(key)))
        told = self._told(call, instance.id, {"kid": kid, "removed": True}, store.key_before(instance.id, kid))
        db = Guarded(told, (store.still_key(key),) if is_pinned(call.request) else ())
        try:
            seq = await store.delete_instance_key(db, instance.id, kid)
        except NotFound:
            raise NotFound(NO_SUCH_KEY) from None
        return answer({"seq": seq}, seq=seq)

    async def _key(self, instance: Instance, kid: str) -> InstanceKey:
        try:
            return await store.find_instance_key(self._database, instance.id, kid)
        except NotFound:
            raise NotFound(NO_SUCH_KEY) from None

    def _told(self, call: Call, instance_id: str, after: dict[str, Any], before: Lookup | None = None) -> Audited:
        entry = Entry(call.actor, "instance.key", f"instance:{instance_id}", call.address, before=before, after=after)
        return Audited(call.writing(self._database), entry)


def instance_shown(instance: Instance) -> InstanceShown:
    """An instance as clients see it."""
    return InstanceShown(
        id=instance.id,
        name=instance.name,
        status=instance.status,
        networks=instance.networks,
        requests_per_minute=instance.requests_per_minute,
        created_at=moment(instance.created_at),
        updated_at=moment(instance.updated_at),
    )


def _place(key: InstanceKey) -> str:
    """Where it stands in the order of their making."""
    return f"{moment(key.created_at)} {key.id}"


def key_shown(key: InstanceKey) -> KeyShown:
    """A key as clients see it."""
    return KeyShown(kid=key.id, created_at=moment(key.created_at), expires_at=moment_or_null(key.expires_at))
