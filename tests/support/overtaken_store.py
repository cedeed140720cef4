"""A database in which somebody else gets ahead of a write: between what was read for it and the write itself."""

from __future__ import annotations

from typing import Any, cast

from gateway.config import Config
from gateway.store.database import Database, Statement, Written
from gateway.web.routes import routes
from tests.support.api_caller import read_everything


class OvertakenStore:
    """The next write that comes is overtaken by `ahead`, committed by the database itself, once; `left` is what stood
    there after that.
    """

    def __init__(self, database: Database, *ahead: Statement) -> None:
        self._database = database
        self._ahead = ahead
        self.left: dict[str, list[tuple[Any, ...]]] | None = None

    async def write(self, *statements: Statement) -> Written:
        ahead, self._ahead = self._ahead, ()
        if ahead:
            await self._database.write(*ahead)
            self.left = await read_everything(self._database)
        return await self._database.write(*statements)

    def __getattr__(self, name: str) -> Any:
        """Whatever else a database has."""
        return getattr(self._database, name)


def overtake(site: Any, *ahead: str) -> OvertakenStore:
    """The next write of a route of this running application is overtaken by these statements."""
    node = site.node
    database = node.database
    store = OvertakenStore(database, *(Statement(sql) for sql in ahead))
    node.database = cast(Database, store)
    try:
        site.client.app.router.routes[:] = routes(node, site.accounts, Config())
    finally:
        node.database = database
    return store
