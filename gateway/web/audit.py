"""``GET /audit``: who did what to whom, for administrators."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gateway.core.clock import parse_rfc3339
from gateway.errors import BadRequest, Forbidden
from gateway.store.audit import Action, AuditRow, list_audit
from gateway.store.database import Database
from gateway.web.answer import answer
from gateway.web.fields import moment, searched
from gateway.web.operation import Call, Operation
from gateway.web.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page, read_cursor


class AuditShown(msgspec.Struct, frozen=True):
    """A line of the audit trail; `at` is RFC 3339, `before` and `after` are what a change found and left."""

    id: int
    at: str
    actor: str
    action: str
    target: str
    address: str
    outcome: str
    before: Any
    after: Any


class AuditSearch(msgspec.Struct, frozen=True):
    """Which lines: those of what a user (an id) did and of what was done to it, of an action, since a moment."""

    user: str | None = None
    action: Action | None = None
    since: str | None = None
    cursor: Cursor | None = None
    limit: Limit = DEFAULT_LIMIT


class AuditTrail:
    """The route of the audit trail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        """The one."""
        return [
            Operation(
                *("GET", "/audit", self.list),
                "Who did what, the newest first; for administrators",
                {200: Page[AuditShown]},
                query=AuditSearch,
                errors=(Forbidden,),
            )
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        (await call.rights()).require_admin()
        asked: AuditSearch = call.query
        found = await list_audit(
            self._database,
            user=searched(asked.user),
            action=asked.action,
            since=_since(asked.since),
            before_id=None if asked.cursor is None else read_cursor("audit", asked.cursor, int),
            limit=asked.limit + 1,
        )
        return answer(page("audit", found, asked.limit, position=lambda row: row.id, shown=_shown))


def _since(text: str | None) -> int | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        raise BadRequest("since has to be an RFC 3339 date and time such as 2026-11-21T19:10:00.000Z.") from None


def _shown(row: AuditRow) -> AuditShown:
    return AuditShown(
        *(row.id, moment(row.at), row.actor, row.action, row.target, row.address, row.outcome, row.before, row.after)
    )
