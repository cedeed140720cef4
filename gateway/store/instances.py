"""Server instances and the keys that they sign with.

A key's secret is here as it was sealed; what it takes to open it is no business of the store's. Every write is one
atomic write and returns the `seq` of its commit; `updated_at` moves by trigger.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from gateway.core.clock import LAST_MOMENT_MS
from gateway.errors import Conflict, NotFound, PreconditionFailed
from gateway.store.accounts import Status
from gateway.store.audit import Lookup, Store
from gateway.store.database import Reader, Row, Statement
from gateway.store.foreign_text import place_after, read_shown
from gateway.store.guarded import unchanged
from gateway.store.guards import Guard, guard, guarded_write
from gateway.store.refusals import refusals

REQUESTS_PER_MINUTE = 6_000
OVERLAP_S = 86_400
"""How long the older keys go on when a new one is made, unless somebody wants it otherwise."""
MAX_KEYS = 10
"""Keys of one instance."""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `instances`. Times are in milliseconds since 1970 UTC, the database's to set; `networks` in CIDR, none:
    any address; None: the list can not be read, and nobody gets in.
    """

    id: str
    name: str = ""
    status: Status = "active"
    networks: list[str] | None = []
    requests_per_minute: int = REQUESTS_PER_MINUTE
    created_at: int = 0
    updated_at: int = 0


class InstanceKey(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `instance_keys` without its secret; times in milliseconds since 1970 UTC, `expires_at` None: no end."""

    id: str
    instance_id: str
    created_at: int
    expires_at: int | None = None


class SealedKey(NamedTuple):
    """A key whose secret is sealed; `expires_at` in milliseconds since 1970 UTC, None: no end."""

    id: str
    secret: bytes
    expires_at: int | None = None

    def __repr__(self) -> str:
        """Without the secret, sealed as it is: it stands in tracebacks and logs."""
        return f"SealedKey({self.id!r})"


class SigningInstance(NamedTuple):
    """The instance that a key is of, with the key's secret as it is sealed; `again`: a nonce that it signed was used
    before."""

    instance: Instance
    expires_at: int | None
    secret: bytes
    again: bool = False

    def __repr__(self) -> str:
        """Without the secret."""
        return f"SigningInstance({self.instance.id!r})"


_COLUMNS = "id, name, status, networks, requests_per_minute, created_at, updated_at"
_KEY_COLUMNS = "id, instance_id, created_at, expires_at"


# --- instances ---


async def add_instance(db: Store, instance: Instance, key: SealedKey) -> int:
    """Add an instance with its first key; Conflict when the id is taken."""
    insert = Statement(
        "INSERT INTO instances (id, name, status, networks, requests_per_minute) VALUES (?, ?, ?, ?, ?)",
        (instance.id, *_settable(instance)),
    )
    with refusals(taken="The id is taken."):
        return (await db.write(insert, _insert_key(instance.id, key))).seq


async def find_instance(db: Reader, instance_id: str) -> Instance:
    """The instance with this id; NotFound when there is none."""
    sql = f"SELECT {_COLUMNS} FROM instances WHERE id = ?"  # noqa: S608
    [rows] = await read_shown(db.read, Statement(sql, (instance_id,)))
    if not rows:
        raise NotFound(f"There is no instance {instance_id}.")
    return _instance(rows[0])


async def list_instances(db: Store, *, after: str = "", limit: int = 1000) -> list[Instance]:
    """At most `limit` instances in the order of their ids, those after the id `after`."""
    sql = f"SELECT {_COLUMNS} FROM instances WHERE id > CAST(? AS TEXT) ORDER BY id LIMIT ?"  # noqa: S608
    place = await place_after(db.scan, "instances", "id", after)
    [rows] = await read_shown(db.scan, Statement(sql, (place, limit)))
    return [_instance(row) for row in rows]


async def replace_instance(db: Store, before: Instance, after: Instance) -> int:
    """Make the instance `before` be `after`, whose id and times do not count.

    Raises PreconditionFailed when the row is not `before` any more, NotFound when it is gone.
    """
    guards = await still(db, before)
    update = Statement(
        "UPDATE instances SET name = ?, status = ?, networks = coalesce(?, networks), requests_per_minute = ?"
        " WHERE id = ?",
        (*_settable(after), before.id),
    )
    with refusals():
        return (await guarded_write(db, guards, update)).seq


async def set_instance_status(db: Store, instance_id: str, status: Status) -> int:
    """Enable or disable an instance; NotFound when there is none."""
    with refusals(missing=f"There is no instance {instance_id}."):
        update = Statement("UPDATE instances SET status = ? WHERE id = ?", (status, instance_id), must_change=True)
        return (await db.write(update)).seq


async def delete_instance(db: Store, instance_id: str) -> int:
    """Delete an instance with its keys; NotFound when there is none."""
    with refusals(missing=f"There is no instance {instance_id}."):
        return (await db.write(Statement("DELETE FROM instances WHERE id = ?", (instance_id,), True))).seq


async def still(db: Reader, before: Instance) -> list[Guard]:
    """The instance is what it was. Raises as `replace_instance` where that is known already."""
    return await unchanged(db, "instances", _COLUMNS, before, _instance)


def instance_before(instance_id: str) -> Lookup:
    """For the audit trail: an instance as a change finds it."""
    return Lookup(
        "SELECT json_object('id', id, 'name', name, 'status', status, 'networks', networks, 'requests_per_minute',"
        " requests_per_minute) FROM instances WHERE id = ?",
        (instance_id,),
    )


# --- keys ---


async def list_instance_keys(db: Reader, instance_id: str) -> list[InstanceKey]:
    """The keys of an instance, also those that have ended, the oldest first."""
    sql = f"SELECT {_KEY_COLUMNS} FROM instance_keys WHERE instance_id = ? ORDER BY created_at, id"  # noqa: S608
    [rows] = await read_shown(db.read, Statement(sql, (instance_id,)))
    return [InstanceKey(id=row[0], instance_id=row[1], created_at=row[2], expires_at=row[3]) for row in rows]


async def find_instance_key(db: Reader, instance_id: str, kid: str) -> InstanceKey:
    """A key of an instance, also one that has ended; NotFound when there is none."""
    for key in await list_instance_keys(db, instance_id):
        if key.id == kid:
            return key
    raise NotFound(f"There is no key {kid} of instance {instance_id}.")


async def add_instance_key(db: Store, instance_id: str, key: SealedKey, now: int, *, older_until: int | None) -> int:
    """Add a key. The others of the instance end at `older_until` (milliseconds since 1970 UTC; None: they stay as they
    are), unless they end sooner; those that have ended at `now` are removed.

    NotFound when there is no such instance, Conflict when it would have more than `MAX_KEYS`.
    """
    missing = NotFound(f"There is no instance {instance_id}.")
    few = "id = ? AND (SELECT count(*) FROM instance_keys WHERE instance_id = instances.id AND"
    few += " (expires_at IS NULL OR expires_at > ?)) < ?"
    guards = [
        guard("instances", "id = ?", (instance_id,), missing),
        guard("instances", few, (instance_id, now, MAX_KEYS), Conflict(f"An instance has at most {MAX_KEYS} keys.")),
    ]
    statements = [
        Statement("DELETE FROM instance_keys WHERE instance_id = ? AND expires_at <= ?", (instance_id, now)),
        _insert_key(instance_id, key),
    ]
    if older_until is not None:
        statements.append(
            Statement(
                "UPDATE instance_keys SET expires_at = ?1 WHERE instance_id = ?2 AND id <> ?3"
                " AND (expires_at IS NULL OR expires_at > ?1)",
                (older_until, instance_id, key.id),
            )
        )
    with refusals(taken="The id of the key is taken."):
        return (await guarded_write(db, guards, *statements)).seq


async def delete_instance_key(db: Store, instance_id: str, kid: str) -> int:
    """Remove a key at once; NotFound when the instance has no such key."""
    with refusals(missing=f"There is no key {kid} of instance {instance_id}."):
        sql = "DELETE FROM instance_keys WHERE id = ? AND instance_id = ?"
        return (await db.write(Statement(sql, (kid, instance_id), must_change=True))).seq


def still_key(before: InstanceKey) -> Guard:
    """The key is what it was: all that changes of one is its end."""
    condition = "id = ? AND EXISTS (SELECT 1 FROM instance_keys WHERE id = ? AND instance_id = instances.id"
    condition += " AND expires_at IS ?)"
    changed = PreconditionFailed("The key was changed in the meantime.")
    return guard("instances", condition, (before.instance_id, before.id, before.expires_at), changed)


def key_before(instance_id: str, kid: str) -> Lookup:
    """For the audit trail: a key as a change finds it."""
    return Lookup(
        "SELECT json_object('id', id, 'created_at', created_at, 'expires_at', expires_at) FROM instance_keys"
        " WHERE id = ? AND instance_id = ?",
        (kid, instance_id),
    )


# --- what is signed with them ---

_SIGNING = """
SELECT i.id, i.name, i.status, i.networks, i.requests_per_minute, i.created_at, i.updated_at, k.expires_at, k.secret,
  EXISTS (SELECT 1 FROM nonces WHERE kid = k.id AND nonce = ?2)
FROM instance_keys AS k JOIN instances AS i ON i.id = k.instance_id WHERE k.id = ?1"""


async def find_signing(db: Reader, kid: str, nonce: str = "") -> SigningInstance | None:
    """The instance that signs with this key, and whether it did with this nonce; None when there is no such key, or its
    rows are not text."""
    try:
        [rows] = await db.read(Statement(_SIGNING, (kid, nonce)))
    except UnicodeDecodeError:
        return None
    if not rows:
        return None
    [row] = rows
    return SigningInstance(_instance(row[:7]), end_of(row[7]), bytes(row[8]), bool(row[9]))


class KeyInForce(NamedTuple):
    """Whose a key is, and its end (milliseconds since 1970 UTC; None: none)."""

    instance: str
    expires_at: int | None


_IN_FORCE = """
SELECT k.id, k.instance_id, k.expires_at
FROM json_each(?1) AS wanted CROSS JOIN instance_keys AS k ON k.id = wanted.value
JOIN instances AS i ON i.id = k.instance_id
WHERE i.status = 'active'"""


async def keys_in_force(reader: Reader, kids: Iterable[str]) -> dict[str, KeyInForce]:
    """Those of the keys that are there, of instances that are active; not looked at is whether they have ended."""
    wanted = sorted(kids)
    try:
        [rows] = await reader.read(Statement(_IN_FORCE, (msgspec.json.encode(wanted).decode(),)))
    except UnicodeDecodeError:  # an odd row stands for nobody, and keeps nobody out
        found = [await keys_in_force(reader, (kid,)) for kid in wanted] if len(wanted) > 1 else []
        return {kid: key for each in found for kid, key in each.items()}
    return {row[0]: KeyInForce(row[1], end_of(row[2])) for row in rows}


def end_of(expires_at: int | None) -> int | None:
    """The end of a key; None also for one that RFC 3339 has no words for."""
    return None if expires_at is None or expires_at > LAST_MOMENT_MS else expires_at


async def list_sealed(db: Reader) -> list[SealedKey]:
    """Every key with its secret as it is sealed."""
    [rows] = await db.read(Statement("SELECT CAST(id AS BLOB), secret FROM instance_keys ORDER BY id"))
    return [SealedKey(kid.decode(errors="replace"), bytes(secret)) for kid, secret in rows]


def reseal_key(key: SealedKey, sealed: bytes) -> Statement:
    """Put `sealed` in the place of the secret, unless somebody else has replaced it since it was read."""
    return Statement("UPDATE instance_keys SET secret = ? WHERE id = ? AND secret = ?", (sealed, key.id, key.secret))


def _insert_key(instance_id: str, key: SealedKey) -> Statement:
    return Statement(
        "INSERT INTO instance_keys (id, instance_id, secret, expires_at) VALUES (?, ?, ?, ?)",
        (key.id, instance_id, key.secret, key.expires_at),
    )


def _settable(instance: Instance) -> tuple[Any, ...]:
    networks = None if instance.networks is None else msgspec.json.encode(instance.networks).decode()
    return instance.name, instance.status, networks, instance.requests_per_minute


def _instance(row: Row) -> Instance:
    instance_id, name, status, networks, requests_per_minute, created_at, updated_at = row
    return Instance(
        id=instance_id,
        name=name,
        status=status,
        networks=networks_of(networks),
        requests_per_minute=requests_per_minute,
        created_at=created_at,
        updated_at=updated_at,
    )


def networks_of(text: str) -> list[str] | None:
    """A list of networks as it is stored; None for one that can not be read."""
    try:
        return msgspec.json.decode(text, type=list[str])
    except (ValueError, RecursionError):
        return None
