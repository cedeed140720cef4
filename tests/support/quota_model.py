"""How quotas are spent, in plain words of Python: what the database has to do, worked out row by row.

Who there is and what may be taken is read from the database's tables; what was taken is worked out here. Only the
bounds of periods are taken from the gateway; they have tests of their own.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, TypeVar

from gateway.core.quotas import period_bounds
from gateway.core.spending import Basis
from gateway.store.zone_changes import Move, plan_moves
from tests.support.document_model import Row, Tables
from tests.support.quota_orders import Adjust, Commit, Consume, Extend, Look, Order, Release, Reserve
from tests.support.zone_traveller import carry_out

MOST = 2**53 - 1
TABLES = ("users", "organizations", "plan_quotas", "user_quotas", "memberships", "member_caps")
"""What a model is told of the database."""

Amounts = tuple[int, int]
"""Used and reserved."""
Answer = tuple[Any, ...]
"""What somebody is answered: ``("spent", …)``, ``("held", …)`` or the code of an error and what it says."""


class Held(NamedTuple):
    """A row of `leases`, as far as it matters."""

    owner: str
    quota: str
    period: str
    start: int
    end: int | None
    asked: int
    held: int
    committed: int
    state: str
    expires_at: int


class Rule(NamedTuple):
    """A limit in force, and the period that it counts in."""

    limit: int | None
    period: str
    hard: bool
    start: int
    end: int | None


class QuotaModel:
    """What was taken, what is held, and what was answered under which key."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.usage: dict[tuple[str, str, int], tuple[int, int]] = {}
        self.taken: dict[tuple[str, str, str, int], tuple[int, int]] = {}
        self.leases: dict[tuple[str, str], Held] = {}
        self.answers: dict[tuple[str, str], tuple[tuple[Any, ...], Answer]] = {}
        """By spender and key: what was asked for, and what was answered."""

    def copy(self) -> QuotaModel:
        """The same, which goes its own way."""
        twin = copy.copy(self)
        twin.usage, twin.taken = self.usage.copy(), self.taken.copy()
        twin.leases, twin.answers = self.leases.copy(), self.answers.copy()
        return twin

    def state(self) -> tuple[Any, ...]:
        """What the database must hold; amounts of nothing are as good as none."""
        return (
            {row: amounts for row, amounts in self.usage.items() if amounts != (0, 0)},
            {row: amounts for row, amounts in self.taken.items() if amounts != (0, 0)},
            self.leases,
            set(self.answers),
        )

    def carry_out(self, order: Order, now: int) -> Answer:
        """What the order is answered, at `now` (milliseconds since 1970 UTC)."""
        match order:
            case Consume():
                return self._consume(order, now)
            case Reserve():
                return self._reserve(order, now)
            case Extend():
                return self._extend(order, now)
            case Commit():
                return self._commit(order, now)
            case Release():
                return self._release(order, now)
            case Look(spender, name):
                lease = self._found(spender, name, now)
                return ("lease_not_found",) if lease is None else self._told(spender, lease, now)
            case Adjust():
                return self._adjust(order, now)
        return self._end_due(now)

    # --- consumptions ---

    def _consume(self, order: Consume, now: int) -> Answer:
        spender, owner, quota, amount, key = order
        request = ("consume", owner, quota, amount)
        known = self.answers.get((spender, key))
        if known is not None:
            return known[1] if known[0] == request else ("conflict",)
        rule = self._rule(spender, owner, quota, now)
        if rule is None:
            return ("not_found",)
        left = self._left(spender, owner, quota, rule, now)
        if left < amount:
            return ("quota_exceeded", quota, left)
        self._add(spender, owner, quota, rule.start, amount, 0)
        answer = ("spent", *self._balance(spender, owner, quota, rule, now))
        self.answers[spender, key] = request, answer
        return answer

    def _adjust(self, order: Adjust, now: int) -> Answer:
        actor, owner, quota, amount, absolute, _, key = order
        known = self.answers.get((actor, key))
        if known is not None:
            return known[1] if known[0] == order else ("conflict",)
        rule = self._period(owner, quota, now)
        if rule is None:
            return ("not_found",)
        used, reserved = self._standing(owner, quota, rule.start, now)
        more = amount - used if absolute else amount
        left = max(0, rule.limit - used - reserved) if rule.hard and rule.limit is not None else MOST
        if used + more < 0:
            return ("conflict",)
        if more > left:
            return ("quota_exceeded", quota, left)
        self._correct(owner, quota, rule.start, more, now)
        answer = ("spent", *rule[:3], rule.end, used + more, reserved, None, 0)
        self.answers[actor, key] = order, answer
        return answer

    def _correct(self, owner: str, quota: str, start: int, more: int, now: int) -> None:
        """In the row of the period; what that does not have is taken from those that count in it, the latest first."""
        rows = sorted(row for row in self.usage if row[:2] == (owner, quota) and start < row[2] <= now)
        missing = -more - self.usage.get((owner, quota, start), (0, 0))[0]
        for row in reversed(rows):
            used, reserved = self.usage[row]
            taken = max(0, min(used, missing))
            self.usage[row] = used - taken, reserved
            missing, more = missing - taken, more + taken
        used, reserved = self.usage.get((owner, quota, start), (0, 0))
        self.usage[owner, quota, start] = used + more, reserved

    def _rule(self, spender: str, owner: str, quota: str, now: int) -> Rule | None:
        """The limit for who may take from it; None: there is nothing that this spender may take from."""
        kind, _, id = owner.partition(":")
        who = self._who(owner)
        if who is None or who["status"] != "active":
            return None
        return self._period(owner, quota, now) if kind == "user" or self._is_member(spender, id) else None

    def _period(self, owner: str, quota: str, now: int) -> Rule | None:
        """The limit, whoever may take from it."""
        who, limit = self._who(owner), self._limit(owner, quota, now)
        if who is None or limit is None:
            return None
        start, end = period_bounds(limit["period"], who["anchor_at"], who["timezone"], now)
        return Rule(limit["limit_value"], limit["period"], limit["hard"] == 1, start, end)

    def _who(self, owner: str) -> Row | None:
        kind, _, id = owner.partition(":")
        found = self._rows("users" if kind == "user" else "organizations", id=id)
        return found[0] if found else None

    def _limit(self, owner: str, quota: str, now: int) -> Row | None:
        """The row that says how much of a quota there is."""
        kind, _, id = owner.partition(":")
        who = self._who(owner)
        if who is None:
            return None
        own = self._rows("user_quotas", user_id=id, quota=quota) if kind == "user" else []
        found = [row for row in own if _in_force(row, now)] or self._rows("plan_quotas", plan=who["plan"], quota=quota)
        return found[0] if found else None

    def _is_member(self, spender: str, organization: str) -> bool:
        user = spender.removeprefix("user:")
        return bool(
            self._rows("memberships", org_id=organization, user_id=user)
            and self._rows("users", id=user, status="active")
        )

    def _rows(self, table: str, **columns: Any) -> list[Row]:
        return [row for row in self.tables[table] if all(row[name] == value for name, value in columns.items())]

    def _cap(self, spender: str, owner: str, quota: str) -> int | None:
        kind, _, id = owner.partition(":")
        if kind == "user":
            return None
        user = spender.removeprefix("user:")
        if not self._rows("memberships", org_id=id, user_id=user):
            return None
        rows = self._rows("member_caps", org_id=id, user_id=user, quota=quota)
        return rows[0]["limit_value"] if rows else None

    def _standing(self, owner: str, quota: str, start: int, now: int) -> tuple[int, int]:
        """What is used and reserved of the period that began at `start`."""
        rows = [a for (o, q, s), a in self.usage.items() if (o, q) == (owner, quota) and start <= s <= now]
        return sum(used for used, _ in rows), sum(reserved for _, reserved in rows)

    def _member_took(self, spender: str, owner: str, quota: str, start: int, now: int) -> int:
        member, organization = spender.removeprefix("user:"), owner.removeprefix("org:")
        return sum(
            sum(amounts)
            for (o, u, q, s), amounts in self.taken.items()
            if owner != o and (o, u, q) == (organization, member, quota) and start <= s <= now
        )

    def _left(self, spender: str, owner: str, quota: str, rule: Rule, now: int) -> int:
        taken = sum(self._standing(owner, quota, rule.start, now))
        left = max(0, (rule.limit if rule.hard and rule.limit is not None else MOST) - taken)
        cap = self._cap(spender, owner, quota)
        if cap is None:
            return left
        return min(left, max(0, cap - self._member_took(spender, owner, quota, rule.start, now)))

    def _balance(self, spender: str, owner: str, quota: str, rule: Rule, now: int) -> Answer:
        used, reserved = self._standing(owner, quota, rule.start, now)
        taken = self._member_took(spender, owner, quota, rule.start, now) if owner.startswith("org:") else 0
        return rule.limit, rule.period, rule.hard, rule.end, used, reserved, self._cap(spender, owner, quota), taken

    def _add(self, spender: str, owner: str, quota: str, start: int, used: int, reserved: int) -> None:
        """Add to a row; what would be less than nothing is nothing."""
        kind, _, id = owner.partition(":")
        before = self.usage.get((owner, quota, start), (0, 0))
        self.usage[owner, quota, start] = before[0] + used, max(0, before[1] + reserved)
        if kind == "org":
            member = (id, spender.removeprefix("user:"), quota, start)
            before = self.taken.get(member, (0, 0))
            self.taken[member] = before[0] + used, max(0, before[1] + reserved)

    # --- leases ---

    def _found(self, spender: str, name: str, now: int) -> Held | None:
        """A lease; one that is past its time ends when it is looked at."""
        lease = self.leases.get((spender, name))
        if lease is not None and lease.state == "open" and lease.expires_at <= now:
            return self._end(spender, name, "expired", 0)
        return lease

    def _reserve(self, order: Reserve, now: int) -> Answer:
        spender, owner, quota, amount, name, ttl_s = order
        known = self._found(spender, name, now)
        if known is not None:
            if (known.owner, known.quota, known.asked) != (owner, quota, amount):
                return ("conflict",)
            return _over(known) or self._told(spender, known, now)
        rule = self._rule(spender, owner, quota, now)
        if rule is None:
            return ("not_found",)
        left = self._left(spender, owner, quota, rule, now)
        if left < amount:
            return ("quota_exceeded", quota, left)
        self._add(spender, owner, quota, rule.start, 0, amount)
        ends = now + ttl_s * 1000
        lease = Held(owner, quota, rule.period, rule.start, rule.end, amount, amount, 0, "open", ends)
        self.leases[spender, name] = lease
        return self._told(spender, lease, now)

    def _extend(self, order: Extend, now: int) -> Answer:
        spender, name, ttl_s, amount, key = order
        lease = self._found(spender, name, now)
        if lease is None:
            return ("lease_not_found",)
        request = ("extend", name, amount)
        known = None if key is None else self.answers.get((spender, key))
        if known is not None and known[0] != request:
            return ("conflict",)
        if over := _over(lease):
            return over
        rule = self._rule(spender, lease.owner, lease.quota, now)
        if rule is None:
            return ("not_found",)
        if key is not None and known is None:
            if rule.start != lease.start:
                return ("conflict",)
            left = self._left(spender, lease.owner, lease.quota, rule, now)
            if left < amount:
                return ("quota_exceeded", lease.quota, left)
            self._add(spender, lease.owner, lease.quota, lease.start, 0, amount)
            self.answers[spender, key] = request, ()
            lease = lease._replace(held=lease.held + amount)
        lease = lease._replace(expires_at=max(lease.expires_at, now + ttl_s * 1000))
        self.leases[spender, name] = lease
        return self._told(spender, lease, now)

    def _commit(self, order: Commit, now: int) -> Answer:
        spender, name, amount = order
        lease = self._found(spender, name, now)
        if lease is None:
            return ("lease_not_found",)
        if lease.state == "committed":
            return self._told(spender, lease, now) if lease.committed == amount else ("conflict",)
        if over := _over(lease):
            return over
        if amount > lease.held:
            return ("bad_request",)
        return self._told(spender, self._end(spender, name, "committed", amount), now)

    def _release(self, order: Release, now: int) -> Answer:
        spender, name = order
        lease = self._found(spender, name, now)
        if lease is None:
            return ("lease_not_found",)
        if lease.state == "committed":
            return ("conflict",)
        if lease.state == "open":
            lease = self._end(spender, name, "released", 0)
        return self._told(spender, lease, now)

    def _end_due(self, now: int) -> Answer:
        due = [key for key, lease in self.leases.items() if lease.state == "open" and lease.expires_at <= now]
        for spender, name in due:
            self._end(spender, name, "expired", 0)
        return ("ended", len(due))

    def _end(self, spender: str, name: str, state: str, committed: int) -> Held:
        lease = self.leases[spender, name]
        self._add(spender, lease.owner, lease.quota, lease.start, committed, -lease.held)
        self.leases[spender, name] = lease = lease._replace(state=state, committed=committed)
        return lease

    def _told(self, spender: str, lease: Held, now: int) -> Answer:
        """The lease, and how its quota stands in the lease's period: as of its last moment when that is over."""
        at = now if lease.end is None else min(now, lease.end - 1)
        limit = self._limit(lease.owner, lease.quota, at)
        rule = Rule(None, lease.period, False, lease.start, lease.end)
        if limit is not None:
            rule = rule._replace(limit=limit["limit_value"], hard=limit["hard"] == 1)
        balance = self._balance(spender, lease.owner, lease.quota, rule, at)
        return "held", lease.owner, lease.quota, lease.state, lease.held, lease.committed, lease.expires_at, *balance

    # --- what others do ---

    def move(self, owner: str, zone: str, now: int) -> dict[tuple[str, str, int], int]:
        """An owner goes to another time zone and takes along what was taken; which rows, and to which start."""
        who = self._who(owner)
        assert who is not None
        moved = {}
        for quota in {row["quota"] for table in ("plan_quotas", "user_quotas") for row in self.tables[table]}:
            limit = self._limit(owner, quota, now)
            if limit is None or limit["period"] == "never" or zone == who["timezone"]:
                continue
            before, after = (Basis(name, who["anchor_at"], limit["period"]) for name in (who["timezone"], zone))
            plan = plan_moves(before, after, [row[2] for row in self.usage if row[:2] == (owner, quota)], now)
            _carry_out(plan, self.usage, (owner, quota))
            for member in {row[:3] for row in self.taken if ("org:" + row[0], row[2]) == (owner, quota)}:
                _carry_out(plan, self.taken, member)
            targets = {origin: (target, end) for origin, target, end in plan}
            for origin, (target, _) in targets.items():
                moved[owner, quota, origin] = target
            for key, lease in self.leases.items():
                if (lease.owner, lease.quota, lease.state) == (owner, quota, "open") and lease.start in targets:
                    start, end = targets[lease.start]
                    self.leases[key] = lease._replace(start=start, end=end)
        return moved

    def forget_user(self, user: str) -> None:
        """A user is deleted: what was held of pools is given back, the rest goes too."""
        spender = f"user:{user}"
        for (by, name), lease in list(self.leases.items()):
            if lease.owner == spender:
                del self.leases[by, name]
            elif by == spender:
                if lease.state == "open":
                    self._end(by, name, "released", 0)
                del self.leases[by, name]
        self.usage = {row: amounts for row, amounts in self.usage.items() if row[0] != spender}
        self.taken = {row: amounts for row, amounts in self.taken.items() if row[1] != user}


Key = TypeVar("Key", bound="tuple[Any, ...]")


def _carry_out(plan: list[Move], rows: dict[Key, Amounts], of: tuple[str, ...]) -> None:
    """The plan, for the rows whose keys begin so."""
    found = {key[-1]: list(amounts) for key, amounts in rows.items() if key[:-1] == of}
    for start in found:
        del rows[(*of, start)]  # type: ignore[arg-type]
    carry_out(plan, found)
    for start, (used, reserved) in found.items():
        rows[(*of, start)] = used, reserved  # type: ignore[index]


def _over(lease: Held) -> Answer | None:
    """What is said of a lease that is not open any more."""
    if lease.state == "expired":
        return ("lease_expired",)
    return None if lease.state == "open" else ("conflict",)


def _in_force(row: Row, now: int) -> bool:
    starts_at, expires_at = row["starts_at"], row["expires_at"]
    return (starts_at is None or starts_at <= now) and (expires_at is None or now < expires_at)
