"""Deletes what was kept long enough, a group of rows a commit: other writers get in between."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from gateway.store.driver import Statement

if TYPE_CHECKING:
    from gateway.store.audit import Store

PRUNE_GROUP = 500
"""Rows changed in one commit."""


async def in_groups(db: Store, size: int, *statements: Statement, groups: int | None = None) -> int:
    """Write the statements again and again until the last one, which returns a row for each that it changes and at
    most `size`, changes fewer, or `groups` times; how many it changed in all.
    """
    changed = 0
    for _ in itertools.count() if groups is None else range(groups):
        group = len((await db.write(*statements)).rows[-1])
        changed += group
        if group < size:
            break
    return changed
