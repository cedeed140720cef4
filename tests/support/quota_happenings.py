"""What happens to quotas: orders, time, and what others write."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.support.worlds import HOUR, NOW, ORGANIZATIONS, PLANS, QUOTAS, USERS

Draft = tuple[Any, ...]
"""An order whose owner, key and lease are not named yet; names are counted from the latest, 0 is a new one."""
Happening = tuple[Any, ...]
"""A method's name and its arguments."""

POOLS = [f"org:{organization}" for organization in ORGANIZATIONS]
SPENDERS = ["user:u1", *[f"user:{user}" for user in USERS]]

PASSES = [-HOUR, 1, 1000, 61_000, HOUR, 7 * HOUR, 24 * HOUR, 20 * 24 * HOUR]
PERIODS = ["hour", "hour", "day", "day", "week", "month", "year", "never"]
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"]
COLUMNS = [
    *[("plan", plan) for plan in PLANS],
    *[("timezone", name) for name in ZONES],
    *[("anchor_at", at) for at in (None, NOW - 11 * HOUR, NOW - 40 * 24 * HOUR, NOW + 5 * HOUR)],
    *[("status", "active"), ("status", "disabled"), ("status", "disabled")],
]


def draft(chance: Random) -> Draft:
    """Any order."""
    pick, spender = chance.choice, chance.choice(SPENDERS)
    quota = pick(["q1", "q1", "q1", "q1", "q2", "q2", "q2", "q3"])
    amount = pick([1, 1, 2, 3, 4, 5, 6, 10, 30, 2**31])
    taken = (spender, pick(["own", "own", "own", *POOLS]), quota, amount)
    lease = (pick([1, 1, 1, 2, 3]), pick([None, None, None, None, spender]))
    name, ttl_s = pick([0, 0, 0, 1, 2]), pick([1, 60, 3600, 3600])
    drafts: list[Draft] = [
        *[("consume", *taken, name)] * 4,
        *[("reserve", *taken, name, ttl_s)] * 4,
        *[("extend", lease, ttl_s, pick([0, 1, 1, 2]), name)] * 2,
        *[("commit", lease, chance.randint(0, 6))] * 2,
        *[("release", lease), ("look", lease)],
        ("adjust", pick([*SPENDERS, *POOLS]), quota, *pick([(amount - 5, False), (amount, True)]), name),
        ("end_due",),
    ]
    return pick(drafts)


def happening(chance: Random) -> Happening:
    """An order by itself, some time, or a write."""
    pick = chance.choice
    if chance.random() < 0.6:
        return "ask", chance.randint(0, 1), pick([*[draft(chance)] * 7, None])
    if chance.random() < 0.4:
        return pick([("let_time_pass", pick(PASSES)), ("let_it_end", pick([0, 1]), pick(["lease", "period"]))])
    limit = (pick([None, *range(0, 31, 3)]), pick(PERIODS), pick([0, 1, 1]))
    user, organization, quota = pick(USERS), pick(ORGANIZATIONS), pick(QUOTAS)
    after = [pick([None, None, 1, 2 * HOUR]) for _ in range(2)]
    row = pick([("users", "u1"), ("users", user), ("users", user), ("organizations", organization)])
    taken = chance.randint(0, 30)
    changes: list[Happening] = [
        *[("change_owner", row, pick(COLUMNS))] * 4,
        *[("move", row, pick(ZONES))] * 4,
        *[("change_plan", pick(PLANS), quota, pick([limit, limit, limit, None]))] * 2,
        *[("change_period", pick(PLANS), quota, pick(PERIODS))] * 3,
        ("override", user, pick([*QUOTAS, "q3"]), pick([limit, limit, None]), *after),
        ("come_or_go", organization, user),
        ("cap", organization, user, quota, pick([None, taken])),
        ("forget_user", user),
        *[("write_usage", pick([*SPENDERS, *POOLS]), quota, pick([0, 1, 2]), taken, pick([None, None, None, 0, 7]))]
        * 2,
        ("delete_usage", chance.randint(1, 9)),
    ]
    return pick(changes)
