"""A database in memory with the program's schema and two of everything, and what an action adds to its change log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import apsw

from gateway.store.migrate import schema_text

Logged: TypeAlias = list[tuple[str, str]]

PARENTS = """
INSERT INTO plans(id) VALUES ('p1'), ('p2');
INSERT INTO roles(id) VALUES ('r1'), ('r2');
INSERT INTO users(id, username, plan, updated_at) VALUES ('u1', 'one', 'p1', 5), ('u2', 'two', 'p1', 5);
INSERT INTO organizations(id, plan, updated_at) VALUES ('o1', 'p1', 5), ('o2', 'p1', 5);
INSERT INTO instances(id, updated_at) VALUES ('i1', 5), ('i2', 5);
"""


def connect() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF").fetchall()
    connection.execute(schema_text()).fetchall()
    connection.execute(PARENTS).fetchall()
    return connection


def logged(db: apsw.Connection, action: Callable[[], object] | str) -> Logged:
    """What `action` adds to the log, in order."""
    before = db.execute("SELECT coalesce(max(seq), 0) FROM change_log").get
    if isinstance(action, str):
        db.execute(action).fetchall()
    else:
        action()
    return [
        (doc, cause)
        for doc, cause in db.execute("SELECT doc, cause FROM change_log WHERE seq > ? ORDER BY seq", (before,))
    ]
