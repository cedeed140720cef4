"""The store alone, without sockets: as many clients as asked for take units, each its next one when it has the last.

It runs as ``python -m gateway.bench.store_orders DIRECTORY``, on a database of its own in that directory, and obeys
commands on stdin, the public methods of `StoreOrders`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import uvloop

from gateway.bench.columns import write_columns
from gateway.bench.obey import obey_async
from gateway.core.spending import Order, Spent
from gateway.errors import GatewayError
from gateway.serve import SWITCH_INTERVAL_S
from gateway.store.database import Database, Statement, wall_clock
from gateway.store.migrate import migrate
from gateway.store.quotas import Quotas

COMMANDS = ("spend",)
WARM_S = 0.5


class StoreOrders:
    """Clients that are callbacks: nothing but the store is measured, on one event loop and the writer's thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._salt = os.urandom(8).hex()
        self._number = 0
        self._quotas: Quotas | None = None
        self._until = 0
        self._active = 0
        self._ended = asyncio.Event()
        self._times = array("q")
        self._refused = 0

    async def spend(self, seconds: float, clients: int) -> dict[str, Any]:
        """Answers the orders a second, their CPU time in µs (both threads), how many were refused, and the file of
        their times in ns.
        """
        database = await Database.open(f"file:{self._directory}/store.db")
        try:
            await migrate(database)
            await _populate(database, clients)
            self._quotas = Quotas(database, wall_clock)
            await self._run(WARM_S, clients)
            self._times, self._refused = array("q"), 0
            used, started = time.process_time(), time.perf_counter()
            await self._run(seconds, clients)
            used, spent = time.process_time() - used, time.perf_counter() - started
        finally:
            await database.close()
        path = self._directory / "store-orders"
        write_columns(path, [self._times])
        count = len(self._times)
        return {"per_s": count / spent, "cpu_us": used * 1e6 / count, "refused": self._refused, "times": str(path)}

    async def _run(self, seconds: float, clients: int) -> None:
        self._ended.clear()
        self._active = clients
        self._until = time.monotonic_ns() + round(seconds * 1e9)
        for index in range(clients):
            self._take(f"user:u_{index:06}")
        await self._ended.wait()

    def _take(self, user: str) -> None:
        assert self._quotas is not None
        self._number += 1
        started = time.monotonic_ns()

        def done(outcome: Spent | GatewayError) -> None:
            now = time.monotonic_ns()
            self._times.append(now - started)
            if isinstance(outcome, GatewayError):
                self._refused += 1
            if now < self._until:
                self._take(user)
                return
            self._active -= 1
            if not self._active:
                self._ended.set()

        self._quotas.spender.submit(Order(user, user, "units", 1, f"{self._number:012x}-{self._salt}"), done)


async def _populate(database: Database, users: int) -> None:
    user = "INSERT INTO users(id, username, plan) VALUES (?, ?, 'bench')"
    await database.write(
        Statement("INSERT INTO plans(id) VALUES ('bench')"),
        Statement("INSERT INTO plan_quotas(plan, quota, limit_value) VALUES ('bench', 'units', 1000000000000)"),
        *(Statement(user, (f"u_{index:06}", f"user{index:06}")) for index in range(users)),
    )


def main() -> None:
    """Obey on uvloop until stdin ends."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    orders = StoreOrders(Path(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(obey_async({name: getattr(orders, name) for name in COMMANDS}))


if __name__ == "__main__":
    main()
