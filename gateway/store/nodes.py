"""The nodes that serve this database, and the sessions of users who have many: what nodes tell each other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from gateway.store.database import Database, Reader, Row, Statement


class NodeRecord(NamedTuple):
    """What a node says of itself. `position` is how far it has followed the change log whose life is `epoch`."""

    name: str
    version: str
    started_at: int
    epoch: str
    position: int
    sessions: int


class Census(NamedTuple):
    """The nodes of one moment, by name, each with its count of signs of life.

    `known`: the one who asked was among them before it gave its sign. `newest` is the last `seq` of the change log.
    """

    known: bool
    beats: dict[str, int]
    newest: int


class NodeSession(NamedTuple):
    """One registered session; `opened_at` in milliseconds since 1970 UTC, by the clock of its node."""

    id: str
    user: str
    node: str
    opened_at: int


_KNOWN = "SELECT 1 FROM nodes WHERE name = ?"
_BEATS = Statement("SELECT name, beat FROM nodes")
_NODES = Statement("SELECT name, version, started_at, epoch, position, sessions, seen_at FROM nodes ORDER BY name")
_NEWEST = Statement("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'")
_BEAT = (
    "INSERT INTO nodes(name, version, started_at, seen_at, epoch, position, sessions) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT(name) DO UPDATE SET seen_at = excluded.seen_at, beat = beat + 1, epoch = excluded.epoch,"
    " position = excluded.position, sessions = excluded.sessions"
)
_OF_USERS = "SELECT id, user_id, node, opened_at FROM node_sessions WHERE user_id IN (SELECT value FROM json_each(?))"
_PAGE = 1_000
"""Rows read at once: what a server answers is limited."""
_USERS = "SELECT DISTINCT user_id FROM node_sessions WHERE user_id > ? ORDER BY user_id LIMIT ?"
_OF_NODE = "SELECT id, user_id, node, opened_at FROM node_sessions WHERE node = ? AND id > ? ORDER BY id LIMIT ?"


async def give_sign(db: Database, record: NodeRecord, now_ms: int) -> Census:
    """Write that this node lives, and read who else does, in one commit. Raises `StoreError`."""
    written = await db.write(
        Statement(_KNOWN, (record.name,)),
        Statement(_BEAT, (*record[:3], now_ms, *record[3:])),
        _BEATS,
    )
    known, _, beats = written.rows
    return Census(bool(known), dict(beats), written.seq)


async def list_nodes(db: Reader) -> tuple[list[tuple[NodeRecord, int]], int]:
    """The nodes in the order of their names, each with the moment of its last sign by its own clock (milliseconds since
    1970 UTC), and the newest `seq` of the change log; all of one moment."""
    rows, newest = await db.read(_NODES, _NEWEST)
    return [(NodeRecord(*row[:6]), row[6]) for row in rows], newest[0][0] if newest else 0


async def remove_node(db: Database, name: str, beat: int | None = None) -> bool:
    """Take a node off the list, with its sessions. With a `beat`, only if it gave no sign after that one."""
    delete = "DELETE FROM nodes WHERE name = ? AND beat = coalesce(?, beat) RETURNING 1"
    return bool((await db.write(Statement(delete, (name, beat)))).rows[0])


async def register_sessions(db: Database, sessions: Sequence[NodeSession]) -> None:
    """Tell the other nodes of these sessions; those that are told of already stay as they are.

    Raises `StoreConflict` when their node is not on the list.
    """
    insert = (
        "INSERT INTO node_sessions(id, user_id, node, opened_at)"
        " SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true"
        " ON CONFLICT(id) DO NOTHING"
    )
    await db.write(Statement(insert, (json.dumps(sessions),)))


async def unregister_sessions(db: Database, ids: Sequence[str]) -> None:
    """These sessions are over; it does not matter whether anybody was told of them."""
    delete = "DELETE FROM node_sessions WHERE id IN (SELECT value FROM json_each(?))"
    await db.write(Statement(delete, (json.dumps(ids),)))


async def sessions_of(db: Reader, users: Sequence[str]) -> tuple[dict[str, int], dict[str, list[NodeSession]]]:
    """The registered sessions of these users and the signs of life of all nodes, of one moment."""
    beats, rows = await db.read(_BEATS, Statement(_OF_USERS, (json.dumps(users),)))
    found: dict[str, list[NodeSession]] = {user: [] for user in users}
    for session in _sessions(rows):
        found[session.user].append(session)
    return dict(beats), found


async def registered(db: Reader, node: str) -> tuple[set[str], list[NodeSession]]:
    """The users of whom any node registered sessions, and what is registered for this node; page by page, so that
    what others write meanwhile may be in it or not.
    """
    users = {str(user) async for (user,) in _pages(db, _USERS, ())}
    return users, list(_sessions([row async for row in _pages(db, _OF_NODE, (node,))]))


async def forget_writers(db: Database, before_ms: int) -> None:
    """Delete what processes that wrote nothing since `before_ms` noted of their last group."""
    await db.write(Statement("DELETE FROM writers WHERE at < ?", (before_ms,)))


async def _pages(db: Reader, sql: str, args: tuple[str, ...]) -> AsyncIterator[Row]:
    """All rows of a statement that ends with ``after`` (of the first column, a text) and a limit."""
    after = ""
    while True:
        [rows] = await db.read(Statement(sql, (*args, after, _PAGE)))
        for row in rows:
            yield row
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def _sessions(rows: Iterable[Row]) -> Iterable[NodeSession]:
    return (NodeSession(*row) for row in rows)
