"""How a quota stands for somebody who would spend it, read in the same write that tried to."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.core.clock import rfc3339
from gateway.core.document import MAX_INTEGER
from gateway.core.quotas import Limit
from gateway.core.spending import Balance, Basis
from gateway.errors import BadRequest, GatewayError, NotFound, QuotaExceeded, Unavailable
from gateway.store.database import Row, Statement

OPEN = "coalesce(u.status = 'active', o.status = 'active' AND m.status = 'active', 0)"
"""Whether the owner is active and the spender may take from it, of a row `w` as in `TABLES`."""

COLUMNS = f"""
  coalesce(u.timezone, o.timezone), iif(u.id IS NULL, o.anchor_at, u.anchor_at),
  coalesce(q.period, p.period), iif(q.user_id IS NULL, p.limit_value, q.limit_value), coalesce(q.hard, p.hard),
  (SELECT coalesce(sum(used), 0) FROM quota_usage
    WHERE owner = w.owner AND quota = w.quota AND period_start BETWEEN w.period_start AND w.at),
  (SELECT coalesce(sum(reserved), 0) FROM quota_usage
    WHERE owner = w.owner AND quota = w.quota AND period_start BETWEEN w.period_start AND w.at),
  c.limit_value,
  (SELECT coalesce(sum(used + reserved), 0) FROM member_usage WHERE org_id = o.id AND user_id = substr(w.spender, 6)
    AND quota = w.quota AND period_start BETWEEN w.period_start AND w.at),
  {OPEN}"""  # noqa: S608 - no input in it
"""The columns of `Standing`, of a row `w` that has spender, owner, quota, period_start and at."""

TABLES = """
LEFT JOIN users AS u ON w.owner GLOB 'user:*' AND u.id = substr(w.owner, 6)
LEFT JOIN organizations AS o ON w.owner GLOB 'org:*' AND o.id = substr(w.owner, 5)
LEFT JOIN plan_quotas AS p ON p.plan = coalesce(u.plan, o.plan) AND p.quota = w.quota
LEFT JOIN user_quotas AS q ON q.user_id = u.id AND q.quota = w.quota
  AND coalesce(q.starts_at <= w.at, 1) AND coalesce(q.expires_at > w.at, 1)
LEFT JOIN memberships AS s ON s.org_id = o.id AND w.spender GLOB 'user:*' AND s.user_id = substr(w.spender, 6)
LEFT JOIN users AS m ON m.id = s.user_id
LEFT JOIN member_caps AS c ON c.org_id = o.id AND c.user_id = s.user_id AND c.quota = w.quota"""


_STANDING = f"""
SELECT {COLUMNS} FROM (SELECT ?1 AS spender, ?2 AS owner, ?3 AS quota, ?4 AS period_start, ?5 AS at) AS w {TABLES}"""  # noqa: S608


def read_standing(spender: str, owner: str, quota: str, period_start: int, at: int) -> Statement:
    """Reads the one row of `Standing`: in the period that began then, at the moment `at`; `spender` may be nobody."""
    return Statement(_STANDING, (spender, owner, quota, period_start, at))


class Standing(NamedTuple):
    """What the database has on a quota and its owner. `period` None: there is no such quota; `open`: the owner is
    active and the spender may take from it.
    """

    timezone: str | None
    anchor_at: int | None
    period: str | None
    limit_value: int | None
    hard: int | None
    used: int
    reserved: int
    cap: int | None
    member_taken: int
    open: int

    @classmethod
    def of(cls, row: Row) -> Standing:
        """Of the columns."""
        return cls(*row)

    def basis(self) -> Basis | None:
        """What its periods are worked out from now; None: nobody has this quota."""
        if self.timezone is None or self.period is None:
            return None
        return Basis(self.timezone, self.anchor_at, self.period)

    def balance(self, period_end: int | None) -> Balance:
        """As it stands, in the period that ends then."""
        limit = Limit(self.limit_value, self.period or "never", bool(self.hard))
        return Balance(limit, self.used, self.reserved, period_end, self.cap, self.member_taken)


def refusal(standing: Standing, quota: str, amount: int, period_end: int | None) -> GatewayError:
    """Why an order for so much was not carried out, for all that the database says."""
    if standing.basis() is None or not standing.open:
        return NotFound("No such quota.")
    balance = standing.balance(period_end)
    left = balance.leaves()
    if left is None or left >= amount:
        if standing.used + standing.reserved + amount > MAX_INTEGER:
            return uncountable()
        return Unavailable("The quota is changing; try again.", retry_after_s=1.0)
    return exceeded(balance, quota, amount)


def uncountable() -> BadRequest:
    """The answer to who asks for more than a balance can hold."""
    return BadRequest("No more than 2^53 - 1 units can be counted.")


def exceeded(balance: Balance, quota: str, amount: int) -> QuotaExceeded:
    """The answer to who asks for more than is left."""
    left = balance.leaves() or 0
    details: dict[str, Any] = {"quota": quota, "remaining": left}
    if balance.period_end is not None and balance.limit.period != "never":
        details["resets_at"] = rfc3339(balance.period_end)
    return QuotaExceeded(f"The quota leaves {left} of the {amount} asked for.", **details)
