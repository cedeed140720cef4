"""Somebody who asks the gateway by HTTP, and several who ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import httpx2

from gateway.store.database import Reader, Statement

Json = dict[str, Any]
Request = tuple[str, str, Any, dict[str, str]]
"""Method, path, body (None: none) and headers."""


class RunningSite(Protocol):
    """What is needed of a running application."""

    client: Any

    def bearer(self, user: str = ..., **columns: Any) -> dict[str, str]: ...

    def call(self, function: Any, *args: Any) -> Any: ...

    def run(self, sql: str, *args: Any) -> int: ...


class ApiCaller:
    """A user with a new API token; `columns` are those of its row, `permissions` the user's from now on."""

    def __init__(self, site: RunningSite, user: str, *permissions: str, **columns: Any) -> None:
        self.site = site
        self.user = user
        for permission in permissions:
            site.run("INSERT INTO user_permissions (user_id, permission) VALUES (?, ?)", user, permission)
        self.headers = site.bearer(user, **columns)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The response; header names are written with ``_`` for ``-``."""
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        content = {} if body is None else {"json": body}
        return self.site.client.request(method, path, headers=sent, **content)

    def done(self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Json:
        """What is answered, with this status."""
        response = self(method, path, body, **headers)
        assert response.status_code == status, (method, path, response.status_code, response.text)
        answered: Json = response.json()
        return answered

    def refused(self, status: int, method: str, path: str, body: Any = None, **headers: str) -> Json:
        """The problem, which has to have this status."""
        problem = self.done(method, path, body, status=status, **headers)
        assert problem["status"] == status
        return problem

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Request:
        """A request for `at_once`."""
        return method, path, body, self.headers | {name.replace("_", "-"): value for name, value in headers.items()}


def at_once(site: RunningSite, requests: Sequence[Request]) -> list[Any]:
    """The responses to requests that are all under way before the first is answered."""

    async def ask() -> list[Any]:
        transport = httpx2.ASGITransport(app=site.client.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            sent = (
                client.request(method, path, headers=headers, **({} if body is None else {"json": body}))
                for method, path, body, headers in requests
            )
            return list(await asyncio.gather(*sent))

    answered: list[Any] = site.call(ask)
    return answered


def rows(site: Any, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    """What the database of the application has."""
    [found] = site.call(site.node.database.read, Statement(sql, args))
    return [tuple(row) for row in found]


TABLES = (
    *("users", "plans", "plan_permissions", "plan_quotas", "roles", "role_permissions", "user_roles"),
    *("user_permissions", "user_quotas", "organizations", "memberships", "org_role_permissions", "audit"),
    *("quota_usage", "quota_ledger"),
)
"""All that administration may change."""


def everything(site: Any) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that administration may change: for what must have changed nothing at all."""
    found: dict[str, list[tuple[Any, ...]]] = site.call(read_everything, site.node.database)
    return found


async def read_everything(database: Reader) -> dict[str, list[tuple[Any, ...]]]:
    """As `everything`, on the application's own event loop."""
    found = await database.read(*(Statement(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES))
    return {table: [tuple(row) for row in rows] for table, rows in zip(TABLES, found, strict=True)}
