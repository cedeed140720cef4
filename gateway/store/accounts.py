"""Users.

Callers check text with `gateway.core.text` before it comes here. Every write is one atomic write and returns the
`seq` of its commit; `updated_at` moves by trigger.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gateway.errors import Conflict, Forbidden, NotFound, PreconditionFailed
from gateway.store.audit import Lookup, Store
from gateway.store.database import Reader, Row, Statement, Value
from gateway.store.foreign_text import attributes_of, json_if_changed, place_after, read_shown
from gateway.store.guarded import unchanged
from gateway.store.guards import Guard, guard, guarded_write
from gateway.store.refusals import refusals
from gateway.store.zone_changes import zone_moves

Status = Literal["active", "disabled"]


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `users` without its password hash.

    Times are in milliseconds since 1970 UTC; `created_at` and `updated_at` are the database's to set.
    """

    id: str
    username: str
    plan: str
    name: str = ""
    email: str | None = None
    is_admin: bool = False
    status: Status = "active"
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: int | None = None
    created_at: int = 0
    updated_at: int = 0


_COLUMNS = "id, username, plan, name, email, is_admin, status, attributes, timezone, anchor_at, created_at, updated_at"


_TAKEN = "The id, user name or e-mail is taken."
_LAST_ADMIN = "This is the last active administrator: there must be one."
_LAST_CHARACTER = "\U0010ffff"


def insert_user(user: User, password_hash: str | None = None) -> Statement:
    """The statement that adds `user`, for a write of several; without `password_hash` the user can not log in."""
    return Statement(
        "INSERT INTO users (id, username, plan, name, email, is_admin, status, attributes, timezone, anchor_at,"
        " password_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (user.id, *_settable(user, msgspec.json.encode(user.attributes).decode()), password_hash),
    )


async def add_user(db: Store, user: User, password_hash: str | None = None) -> int:
    """Add a user; Conflict when the id, user name or e-mail is taken, NotFound when there is no such plan."""
    with refusals(taken=_TAKEN, missing=f"There is no plan {user.plan}."):
        return (await db.write(insert_user(user, password_hash))).seq


async def find_user(db: Reader, user_id: str) -> User:
    """The user with this id; NotFound when there is none."""
    [rows] = await read_shown(db.read, Statement(f"SELECT {_COLUMNS} FROM users WHERE id = ?", (user_id,)))  # noqa: S608
    if not rows:
        raise NotFound(f"There is no user {user_id}.")
    return _user(rows[0])


async def look_up_user(db: Reader, who: str) -> User:
    """The user with this id, else with this user name, else with this e-mail; NotFound when there is none."""
    [rows] = await read_shown(
        db.read,
        Statement(
            f"SELECT {_COLUMNS} FROM users WHERE id = ?1 OR username = ?1 OR email = ?1"  # noqa: S608
            " ORDER BY id = ?1 DESC, username = ?1 DESC LIMIT 1",
            (who,),
        ),
    )
    if not rows:
        raise NotFound(f"There is no user {who}.")
    return _user(rows[0])


async def list_users(
    db: Store,
    *,
    plan: str | None = None,
    status: Status | None = None,
    query: str | None = None,
    after: str = "",
    limit: int = 1000,
) -> list[User]:
    """At most `limit` users in the order of their names, those after the user name `after`.

    `query`: those whose user name or e-mail begins with it, letters of ASCII in either case.
    """
    conditions = ["username > CAST(? AS TEXT)"]
    args = [await place_after(db.scan, "users", "username", after)]
    for column, value in (("plan", plan), ("status", status)):
        if value is not None:
            conditions.append(f"{column} = ?")
            args.append(value)
    if query:
        # Ranges of the two indexes; LIKE would take a part of the signs for its own.
        ranges = [f"SELECT id FROM users WHERE {column} >= ? AND {column} < ?" for column in ("username", "email")]  # noqa: S608
        conditions.append(f"id IN ({' UNION '.join(ranges)})")
        args += [query, query + _LAST_CHARACTER] * 2
    sql = f"SELECT {_COLUMNS} FROM users WHERE {' AND '.join(conditions)} ORDER BY username LIMIT ?"  # noqa: S608
    [rows] = await read_shown(db.scan, Statement(sql, (*args, limit)))
    return [_user(row) for row in rows]


async def replace_user(db: Store, before: User, after: User) -> int:
    """Make the user `before` be `after`, whose id and times do not count.

    Raises PreconditionFailed when the row is not `before` any more and NotFound when it is gone; Conflict when the user
    name or e-mail is taken, or when no active administrator would be left; NotFound for an unknown plan.
    """
    guards = await still(db, before)
    if _reigns(before) and not _reigns(after):
        guards.append(_another_admin(before.id))
    update = Statement(
        "UPDATE users SET username = ?, plan = ?, name = ?, email = ?, is_admin = ?, status = ?,"
        " attributes = coalesce(?, attributes), timezone = ?, anchor_at = ? WHERE id = ?",
        (*_settable(after, json_if_changed(before.attributes, after.attributes)), before.id),
    )
    moves = await zone_moves(db, f"user:{before.id}", before, after, db.clock())
    with refusals(taken="The user name or e-mail is taken.", missing=f"There is no plan {after.plan}."):
        return (await guarded_write(db, guards, update, *moves)).seq


async def set_status(db: Store, user_id: str, status: Status) -> int:
    """Enable or disable a user; whoever is disabled is cut off everywhere. NotFound when there is no such user,
    Conflict when it is the last active administrator."""
    guards = [guard("users", "id = ?", (user_id,), NotFound(f"There is no user {user_id}."))]
    if status != "active":
        guards.append(_another_admin(user_id))
    with refusals():
        return (await guarded_write(db, guards, _set(user_id, "status", status))).seq


async def set_plan(db: Store, user_id: str, plan: str) -> int:
    """Put a user on a plan; NotFound when there is no such user or plan."""
    with refusals(missing=f"There is no user {user_id} or no plan {plan}."):
        return (await db.write(_set(user_id, "plan", plan))).seq


def password_statement(user_id: str, password_hash: str | None) -> Statement:
    """The statement that stores the hash of a new password (None: the user can not log in), for a write of several; it
    must change a row. Ending what the old one opened is the caller's."""
    return _set(user_id, "password_hash", password_hash)


async def read_password_hash(db: Reader, user_id: str) -> str | None:
    """What is stored of a password, for who checks one; None where the user can not log in, or is not there."""
    [rows] = await db.read(Statement("SELECT password_hash FROM users WHERE id = ?", (user_id,)))
    return rows[0][0] if rows else None


def user_exists(user_id: str) -> Statement:
    """Fails the write unless the user is there; changes nothing, so the triggers log nothing."""
    return Statement("UPDATE users SET name = name WHERE id = ?", (user_id,), must_change=True)


async def still(db: Reader, before: User) -> list[Guard]:
    """The user is what it was. Raises as `replace_user` where that is known already."""
    return await unchanged(db, "users", _COLUMNS, before, _user)


def still_on(user_id: str, plan: str) -> Guard:
    """The user is on this plan, and no administrator."""
    changed = PreconditionFailed("The user was changed in the meantime.")
    return guard("users", "id = ? AND plan = ? AND is_admin = 0", (user_id, plan), changed)


def still_administrator(user_id: str) -> Guard:
    """The user is an active administrator; Forbidden where not."""
    refusal = Forbidden("This is for administrators.")
    return guard("users", "id = ? AND is_admin = 1 AND status = 'active'", (user_id,), refusal)


def user_before(user_id: str) -> Lookup:
    """For the audit trail: the user's row, but for the password's hash."""
    return Lookup(
        "SELECT json_object('id', id, 'username', username, 'name', name, 'email', email, 'plan', plan,"
        " 'is_admin', json(iif(is_admin, 'true', 'false')), 'status', status, 'attributes', json(attributes),"
        " 'timezone', timezone, 'anchor_at', anchor_at, 'created_at', created_at, 'updated_at', updated_at)"
        " FROM users WHERE id = ?",
        (user_id,),
    )


def _set(user_id: str, column: str, value: Value) -> Statement:
    return Statement(f"UPDATE users SET {column} = ? WHERE id = ?", (value, user_id), must_change=True)  # noqa: S608


def _reigns(user: User) -> bool:
    return user.is_admin and user.status == "active"


def _another_admin(user_id: str) -> Guard:
    """The user is not the last active administrator."""
    another = "EXISTS (SELECT 1 FROM users WHERE is_admin = 1 AND status = 'active' AND id <> ?)"
    condition = f"id = ? AND (is_admin = 0 OR status <> 'active' OR {another})"
    return guard("users", condition, (user_id, user_id), Conflict(_LAST_ADMIN))


def _settable(user: User, attributes: str | None) -> tuple[Value, ...]:
    """What may be written of a user, in the order of `_COLUMNS`."""
    return (
        *(user.username, user.plan, user.name, user.email, int(user.is_admin), user.status),
        *(attributes, user.timezone, user.anchor_at),
    )


def _user(row: Row) -> User:
    user_id, username, plan, name, email, is_admin, status, attributes, *rest = row
    timezone, anchor_at, created_at, updated_at = rest
    return User(
        id=user_id,
        username=username,
        plan=plan,
        name=name,
        email=email,
        is_admin=bool(is_admin),
        status=status,
        attributes=attributes_of(attributes),
        timezone=timezone,
        anchor_at=anchor_at,
        created_at=created_at,
        updated_at=updated_at,
    )
