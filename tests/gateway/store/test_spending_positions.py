"""Where in the change log an answer is shown, also when somebody has emptied the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from gateway.core.spending import Order, Spent
from gateway.store.adjustments import Adjustment, adjust
from gateway.store.leases import Held

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

STEPS: dict[str, Callable[[Spenders], Awaitable[Spent | Held]]] = {
    "own": lambda all: all.quotas.spender.consume(Order(all.ADA, all.ADA, "voice", 1, "key")),
    "pool": lambda all: all.quotas.spender.consume(Order(all.ADA, all.ACME, "voice", 1, "key")),
    "pool with a cap": lambda all: all.quotas.spender.consume(Order(all.BEN, all.ACME, "voice", 1, "key")),
    "reserve": lambda all: all.quotas.leases.reserve(all.ADA, all.ADA, "voice", 2, "lease", 60),
    "commit": lambda all: all.quotas.leases.commit(all.ADA, "held", 1),
    "release": lambda all: all.quotas.leases.release(all.ADA, "held"),
    "adjust": lambda all: adjust(
        all.database,
        Adjustment(all.EVE, all.ADA, "voice", 1, absolute=False, reason="counted anew"),
        now=all.now,
        bases=all.quotas.bases,
    ),
}


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("step", STEPS)
async def test_an_answer_has_the_position_that_shows_it(spenders: Spenders, step: str, emptied: bool) -> None:
    await spenders.quotas.leases.reserve(spenders.ADA, spenders.ADA, "voice", 2, "held", 60)
    if emptied:
        await spenders.sql("DELETE FROM change_log")
    [(before,)] = await spenders.sql("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'")
    done = await STEPS[step](spenders)
    [(last,)] = await spenders.sql("SELECT max(seq) FROM change_log")
    assert done.seq == last > before
    if step in ("own", "pool", "adjust"):
        [(booked,)] = await spenders.sql("SELECT seq FROM quota_ledger ORDER BY id DESC LIMIT 1")
        assert booked == last
