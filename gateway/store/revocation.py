"""What can be revoked, and the statements that do it. Only `gateway.auth.revoker` uses these.

Revoking a login session or an API token marks its row; the triggers do the rest. What was revoked before keeps its
moment. Each statement returns ``(user, session or NULL)`` for everything that it voided.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from gateway.store.audit import Store
from gateway.store.driver import Row, Statement

GROUP = 500
"""Credentials voided in one commit: other writers get in between."""
_PAGE = 2_000
"""Rows looked at in one read, off the event loop."""


class SessionEnded(NamedTuple):
    """One login session, if it is `user`'s (None: whoever's)."""

    id: str
    user: str | None = None


class OtherSessions(NamedTuple):
    """All login sessions of a user `but` one (None: all). API tokens stay."""

    user: str
    but: str | None


class TokenRevoked(NamedTuple):
    """One API token, if it is `user`'s (None: whoever's)."""

    id: str
    user: str | None = None


class UserDisabled(NamedTuple):
    """Everything of a user, until the status is changed back."""

    id: str


class UserDeleted(NamedTuple):
    """A user with everything of theirs."""

    id: str


class IssuedBefore(NamedTuple):
    """Every login session and API token made before `at` (milliseconds since 1970 UTC; None: whenever): of `user`, by
    `instance`, or of everybody. An API token belongs to no instance.
    """

    at: int | None
    user: str | None = None
    instance: str | None = None


Target: TypeAlias = SessionEnded | OtherSessions | TokenRevoked | UserDisabled | UserDeleted
"""What one write voids."""


class Group(NamedTuple):
    """Credentials of one commit: ids of login sessions and of API tokens."""

    sessions: list[str]
    tokens: list[str]


def revoking(target: Target, now: int) -> Statement:
    """Voids a target; `now` in milliseconds since 1970 UTC. It must change a row where the target names one."""
    match target:
        case SessionEnded(id, user):
            return Statement(
                "UPDATE login_sessions SET revoked_at = coalesce(revoked_at, ?1)"
                " WHERE id = ?2 AND user_id = coalesce(?3, user_id) RETURNING user_id, id",
                (now, id, user),
                must_change=True,
            )
        case OtherSessions(user, but):
            return Statement(
                "UPDATE login_sessions SET revoked_at = ?1"
                " WHERE user_id = ?2 AND id IS NOT ?3 AND revoked_at IS NULL RETURNING user_id, id",
                (now, user, but),
            )
        case TokenRevoked(id, user):
            return Statement(
                "UPDATE api_tokens SET revoked_at = coalesce(revoked_at, ?1)"
                " WHERE id = ?2 AND user_id = coalesce(?3, user_id) RETURNING user_id, NULL",
                (now, id, user),
                must_change=True,
            )
        case UserDisabled(id):
            sql = "UPDATE users SET status = 'disabled' WHERE id = ? RETURNING id, NULL"
            return Statement(sql, (id,), must_change=True)
        case UserDeleted(id):
            return Statement("DELETE FROM users WHERE id = ? RETURNING id, NULL", (id,), must_change=True)


def revoking_group(group: Group, now: int) -> list[Statement]:
    """Voids the credentials of a group that are not revoked yet."""
    listed = "revoked_at IS NULL AND id IN (SELECT value FROM json_each(?2))"
    return [
        Statement(
            f"UPDATE login_sessions SET revoked_at = ?1 WHERE {listed} RETURNING user_id, id",  # noqa: S608 - no input
            (now, msgspec.json.encode(group.sessions).decode()),
        ),
        Statement(
            f"UPDATE api_tokens SET revoked_at = ?1 WHERE {listed} RETURNING user_id, NULL",  # noqa: S608 - no input
            (now, msgspec.json.encode(group.tokens).decode()),
        ),
    ]


class IssuedEarlier:
    """Goes through the credentials that `target` voids, group by group, without holding up writers."""

    def __init__(self, db: Store, target: IssuedBefore) -> None:
        self._db = db
        self._target = target
        self._tables = ["login_sessions"] if target.instance is not None else ["login_sessions", "api_tokens"]
        self._after = 0

    async def next(self) -> Group | None:
        """The next ones that are not revoked; None after the last."""
        group = Group([], [])
        while self._tables and len(group.sessions) + len(group.tokens) < GROUP:
            table = self._tables[0]
            [rows] = await self._db.scan(self._page(table))
            if rows:
                self._after = rows[-1][0]
                found = group.sessions if table == "login_sessions" else group.tokens
                found += [id for _, id, wanted in rows if wanted]
            else:
                self._tables.pop(0)
                self._after = 0
        return group if group.sessions or group.tokens else None

    def _page(self, table: str) -> Statement:
        """At most `GROUP` of them, among so many rows at most; the last one looked at says how far it came."""
        target = self._target
        whose = "?4 IS NULL" if target.user is None else "user_id = ?4"
        whose += " AND ?5 IS NULL" if target.instance is None else " AND instance_id = ?5"
        wanted = "revoked_at IS NULL AND created_at < coalesce(?3, created_at + 1)"
        return Statement(
            f"WITH page AS MATERIALIZED (SELECT rowid AS place, id, {wanted} AS wanted FROM {table}"  # noqa: S608
            f" WHERE rowid > ?1 AND {whose} ORDER BY rowid LIMIT ?2),"
            " chosen AS MATERIALIZED (SELECT place, id, wanted FROM page WHERE wanted ORDER BY place LIMIT ?6)"
            " SELECT place, id, wanted FROM chosen UNION"
            " SELECT place, id, wanted FROM page WHERE (SELECT count(*) FROM chosen) < ?6"
            " AND place = (SELECT max(place) FROM page) ORDER BY place",
            (self._after, _PAGE, target.at, target.user, target.instance, GROUP),
        )


def voided(rows: list[list[Row]]) -> list[tuple[str, str | None]]:
    """What the statements of a target or a group returned."""
    return [(user, session) for returned in rows for user, session in returned]
