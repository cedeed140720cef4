"""Server instances as the tests of the dashboard make them, look at their rows, and read what the pages show."""

from __future__ import annotations

import itertools
import tomllib
from typing import Any

from tests.support.dashboard import Visit
from tests.support.furnished import instance_key
from tests.support.seed import Seed, now_ms

DAY_MS = 86_400_000
NUMBERS = itertools.count(1)


def new_shop(seed: Seed) -> str:
    """An instance with one key, whose `kid` is that of the instance with a `k` before it."""
    id = f"i_shop{next(NUMBERS)}"
    seed.insert("instances", id=id, name="Shop", networks='["10.0.0.0/8"]')
    instance_key(seed, f"k{id}", id, now_ms() - 30 * DAY_MS)
    return id


def row(seed: Seed, id: str, columns: str) -> tuple[Any, ...]:
    """These columns of an instance."""
    [found] = seed.foreign.execute(f"SELECT {columns} FROM instances WHERE id = ?", id)
    return tuple(found)


def ends(seed: Seed, id: str) -> dict[str, int | None]:
    """When each key of an instance ends, by its `kid`."""
    sql = "SELECT id, expires_at FROM instance_keys WHERE instance_id = ?"
    return {str(kid): end for kid, end in seed.foreign.execute(sql, id)}


def add_network(visit: Visit, network: str) -> None:
    """As somebody types it."""
    visit.find("add-name").fill(network)
    visit.find("add-name").press("Enter")


def configuration(visit: Visit) -> dict[str, str]:
    """What the dialog shows, as an application would read it."""
    shown: dict[str, str] = tomllib.loads(visit.find("instance-secret").inner_text())["gateway"]
    return shown
