"""Two nodes that spend quotas on one real database, with clocks moved by hand and a way to the database that fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

from gateway.errors import StoreConflict, StoreUnavailable, StoreUncertain
from gateway.store.database import Database, Statement, Written
from gateway.store.migrate import migrate
from gateway.store.quotas import Quotas
from tests.support.document_model import Tables
from tests.support.quota_model import TABLES
from tests.support.worlds import NOW

WIPED = (
    *("leases", "member_usage", "member_caps", "memberships", "user_quotas", "users", "organizations", "plan_quotas"),
    *("plans", "quota_usage", "quota_ledger"),
)
BEGINNING = """
INSERT INTO plans(id) VALUES ('p1'), ('p2');
INSERT INTO plan_quotas(plan, quota, limit_value, period, hard) VALUES
  ('p1', 'q1', 10, 'hour', 1), ('p1', 'q2', 20, 'month', 0), ('p2', 'q1', 15, 'day', 1), ('p2', 'q2', NULL, 'never', 1);
INSERT INTO users(id, username, plan, timezone) VALUES
  ('u1', 'u1', 'p1', 'Asia/Kolkata'), ('u2', 'u2', 'p2', 'UTC'), ('u3', 'u3', 'p1', 'UTC');
INSERT INTO organizations(id, plan, timezone) VALUES ('o1', 'p1', 'Europe/Berlin'), ('o2', 'p2', 'UTC');
INSERT INTO memberships(org_id, user_id, role) VALUES
  ('o1', 'u1', 'owner'), ('o1', 'u2', 'member'), ('o2', 'u3', 'admin');
INSERT INTO member_caps(org_id, user_id, quota, limit_value) VALUES ('o1', 'u2', 'q1', 5);
"""


class Shaky:
    """A database whose next writes go as `fates` say: ``refused``, ``lost`` on the way there, or ``unsaid``: made, but
    never answered. Its process may die in a write.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fates: Iterator[str] = iter(())
        self._lives: int | None = None

    def dies(self, after: int, last: str) -> None:
        """After so many more writes it dies in one, which is ``lost`` or ``unsaid``."""
        self._lives, self.fates = after, itertools.chain(["made"] * after, itertools.repeat(last))

    async def write(self, *statements: Statement) -> Written:
        fate = next(self.fates, "made")
        if self._lives is not None:
            if self._lives < 0:
                raise StoreUncertain("nobody is there any more")
            self._lives -= 1
        if fate == "refused":
            raise StoreUnavailable("busy")
        if fate == "lost":
            raise StoreUncertain("lost")
        written = await self.database.write(*statements)
        if fate == "unsaid":
            raise StoreUncertain("unsaid")
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


class Bench:
    """Two nodes on one database, for all examples."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        self.runner = runner
        self.url = url
        self.now = NOW
        self.skew = 0
        self.stores: list[Shaky] = [self.open(), self.open()]
        self.run(migrate(self.stores[0].database))
        self.nodes = [self.node(number) for number in range(2)]

    def open(self) -> Shaky:
        return Shaky(self.run(Database.open(self.url)))

    def node(self, number: int) -> Quotas:
        return Quotas(self.stores[number], lambda: self.clock(number))  # type: ignore[arg-type]

    def clock(self, number: int) -> int:
        """What a node thinks that the time is."""
        return self.now + number * self.skew

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def read(self, *sql: str) -> list[list[Any]]:
        found: list[list[Any]] = self.run(self.stores[0].database.read(*map(Statement, sql)))
        return found

    def write(self, sql: str, *args: Any) -> bool:
        """Somebody's SQL; whether the schema let it."""
        try:
            self.run(self.stores[0].database.write(Statement(sql, args)))
        except StoreConflict:
            return False
        return True

    def wipe(self) -> None:
        """As if nothing had ever been."""
        self.now = NOW
        self.run(self.stores[0].database.script(";".join(f"DELETE FROM {table}" for table in WIPED)))
        self.run(self.stores[0].database.script(BEGINNING))
        self.nodes = [self.node(number) for number in range(2)]

    def restart(self, number: int) -> None:
        """A node is gone with all that it knew, and comes back."""
        self.run(self.stores[number].database.close())
        self.stores[number] = self.open()
        self.nodes[number] = self.node(number)

    def tables(self) -> Tables:
        statements = [f"SELECT * FROM {table}" for table in TABLES]
        names = self.read(*(f"SELECT name FROM pragma_table_info('{table}')" for table in TABLES))
        found = self.read(*statements)
        return {
            table: [dict(zip([name for (name,) in columns], row, strict=True)) for row in rows]
            for table, columns, rows in zip(TABLES, names, found, strict=True)
        }

    def close(self) -> None:
        for store in self.stores:
            self.run(store.database.close())
