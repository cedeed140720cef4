"""Orders that were under way together, explained by a model that does one thing after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.quota_model import Answer, QuotaModel
from tests.support.quota_orders import Order

UNAVAILABLE: Answer = ("unavailable",)
UNCERTAIN: Answer = ("uncertain",)


def explain(
    model: QuotaModel, orders: Sequence[tuple[Order, int]], answers: Sequence[Answer], state: Any
) -> QuotaModel | None:
    """The model after orders that were under way together, each at the moment of its node's clock, carried out one
    after the other in some order that gives these answers and leads to this state; None: there is no such order.

    `UNAVAILABLE` says that nothing was done, `UNCERTAIN` says nothing at all.
    """
    if not orders:
        return model if model.state() == state else None
    for place, ((order, now), answer) in enumerate(zip(orders, answers, strict=True)):
        rest = [*orders[:place], *orders[place + 1 :]], [*answers[:place], *answers[place + 1 :]]
        if answer != UNAVAILABLE:
            twin = model.copy()
            told = twin.carry_out(order, now)
            if answer in (told, UNCERTAIN) and (found := explain(twin, *rest, state)):
                return found
        if answer in (UNAVAILABLE, UNCERTAIN) and (found := explain(model, *rest, state)):
            return found
    return None
