"""Quotas under random spenders, leases, crashes, changed limits, foreign SQL and time, against a plain model.

Two nodes with clocks moved by hand share one real database. Orders that are under way together must have been carried
out one after the other in some order that the model can follow; after each step the books are held to what they say
of themselves.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway.core.spending import Balance, Spent
from gateway.core.spending import Order as Consumption
from gateway.errors import GatewayError, QuotaExceeded, StoreError, StoreUncertain
from gateway.store.adjustments import Adjustment, adjust
from gateway.store.database import Statement
from gateway.store.zone_changes import zone_moves
from tests.conftest import Place
from tests.support.quota_bench import Bench
from tests.support.quota_books import MISHELD, OVER, UNBALANCED, UNSHOWN
from tests.support.quota_explained import UNAVAILABLE, UNCERTAIN, explain
from tests.support.quota_happenings import Draft, draft, happening
from tests.support.quota_model import Answer, Held, QuotaModel
from tests.support.quota_orders import Adjust, Commit, Consume, EndDue, Extend, Look, Order, Release, Reserve
from tests.support.worlds import HOUR, NOW

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "30"))
STEPS = 25
PHASES = [Phase.explicit, Phase.reuse, Phase.generate] + ([Phase.shrink] if "MODEL_SHRINK" in os.environ else [])

ADMIN = "user:admin"
FATES = ["made", "refused", "lost", "unsaid"]


class Placed(NamedTuple):
    plan: str
    timezone: str
    anchor_at: int | None


class BooksAgainstModel(RuleBasedStateMachine):
    """Each example begins with the same small world; `bench` is there already."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        bench.wipe()
        self.model = QuotaModel(bench.tables())
        self.keys: dict[str, list[str]] = {}
        self.names: dict[str, list[str]] = {}
        self.reserved: list[tuple[str, str]] = []
        self.numbers = itertools.count(1)
        self.asked: list[Order] = []
        self.seqs: dict[tuple[str, str], int] = {}
        self.tampered: set[tuple[str, str, int]] = set()
        """Rows whose `reserved` somebody wrote by SQL."""

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        """What happens is drawn from the seed: Hypothesis itself prefers few and like values, and of so many kinds most
        would never be seen."""
        self.chance = Random(seed)
        self.bench.skew = self.chance.choice([0, 0, 700])

    # --- orders ---

    def name(self, drawn: Draft) -> Order:
        """The order that a draft is of."""
        match drawn:
            case "consume", spender, owner, quota, amount, pick:
                key = self.pick(self.keys, spender, pick)
                return Consume(spender, spender if owner == "own" else owner, quota, amount, key)
            case "reserve", spender, owner, quota, amount, pick, ttl_s:
                lease = self.pick(self.names, spender, pick)
                self.reserved.append((spender, lease))
                return Reserve(spender, spender if owner == "own" else owner, quota, amount, lease, ttl_s)
            case "adjust", owner, quota, amount, absolute, pick:
                return Adjust(ADMIN, owner, quota, amount, absolute, "so", self.pick(self.keys, ADMIN, pick))
            case ("end_due",):
                return EndDue()
        kind, (which, stranger), *rest = drawn
        spender, lease = self.reserved[-which] if len(self.reserved) >= which else ("user:u1", "none")
        spender = stranger or spender
        if kind == "extend":
            ttl_s, amount, pick = rest
            return Extend(spender, lease, ttl_s, amount, self.pick(self.keys, spender, pick) if amount else None)
        if kind == "commit":
            return Commit(spender, lease, rest[0])
        return Look(spender, lease) if kind == "look" else Release(spender, lease)

    def pick(self, names: dict[str, list[str]], spender: str, pick: int) -> str:
        """A new name for 0, else one of the latest that were used."""
        used = names.setdefault(spender, [])
        if pick and len(used) >= pick:
            return used[-pick]
        used.append(f"n{next(self.numbers)}")
        return used[-1]

    def carry_out(self, orders: Sequence[tuple[int, Order]]) -> list[Answer]:
        """Ask the nodes for all of them at once, and let the model follow."""
        answers = self.bench.run(self._ask_all(orders))
        state = self.state()
        asked = [(order, self.bench.clock(number)) for number, order in orders]
        found = explain(self.model, asked, answers, state)
        assert found is not None, self.describe(orders, answers, state)
        self.model = found
        self.asked += [order for _, order in orders]
        return answers

    def describe(self, orders: Sequence[tuple[int, Order]], answers: Sequence[Answer], state: Any) -> str:
        lines = [f"{number}: {order} -> {answer}" for (number, order), answer in zip(orders, answers, strict=True)]
        twin = self.model.copy()
        lines += [f"alone: {twin.copy().carry_out(order, self.bench.clock(number))}" for number, order in orders]
        for was, found in zip(self.model.state(), state, strict=True):
            lines += [f"was {was}", f"now {found}"]
        return "\n".join(lines)

    async def _ask_all(self, orders: Sequence[tuple[int, Order]]) -> list[Answer]:
        return await asyncio.gather(*(self._ask(number, order) for number, order in orders))

    async def _ask(self, number: int, order: Order) -> Answer:
        try:
            return await self._told(number, order)
        except QuotaExceeded as refusal:
            return refusal.code, refusal.details["quota"], refusal.details["remaining"]
        except GatewayError as error:
            return (error.code,)
        except StoreError as error:  # of what nobody asked for
            return UNCERTAIN if isinstance(error, StoreUncertain) else UNAVAILABLE

    async def _told(self, number: int, order: Order) -> Answer:
        node = self.bench.nodes[number]
        match order:
            case Consume(spender, _, _, _, key):
                return self._spent(spender, key, await node.spender.consume(Consumption(*order)))
            case Adjust(spender, _, _, _, _, _, key):
                store, now = self.bench.stores[number], self.bench.clock(number)
                spent = await adjust(store, Adjustment(*order), now=now, bases=node.bases)  # type: ignore[arg-type]
                return self._spent(spender, key, spent)
            case Reserve():
                held = await node.leases.reserve(*order)
            case Extend(spender, lease, ttl_s, amount, key):
                held = await node.leases.extend(spender, lease, ttl_s, amount=amount, key=key)
            case Commit():
                held = await node.leases.commit(*order)
            case Release():
                held = await node.leases.release(*order)
            case Look():
                held = await node.leases.find(*order)
            case _:
                return "ended", await node.leases.end_due()
        lease, balance = held.lease, held.balance
        told = lease.owner, lease.quota, lease.state, lease.held, lease.committed, lease.expires_at
        return "held", *told, *_shown(balance)

    def _spent(self, spender: str, key: str, spent: Spent) -> Answer:
        assert self.seqs.setdefault((spender, key), spent.seq) == spent.seq, "another answer"
        return "spent", *_shown(spent.balance)

    @rule(count=st.integers(3, 10))
    def happen(self, count: int) -> None:
        """One after the other."""
        for _ in range(count):
            name, *arguments = drawn = happening(self.chance)
            note(str(drawn))
            getattr(self, name)(*arguments)
            self.the_books_are_right()

    def ask(self, node: int, drawn: Draft | None) -> None:
        """Ask for something, or for what was asked last."""
        if drawn is not None or self.asked:
            self.ask_once(node, self.asked[-1] if drawn is None else self.name(drawn))

    def ask_once(self, node: int, order: Order) -> None:
        [answer] = self.carry_out([(node, order)])
        assert answer not in (UNAVAILABLE, UNCERTAIN)

    def some_orders(self, node: int | None = None) -> list[tuple[int, Order]]:
        """Of one node, or of both."""
        count = self.chance.randint(1 if node is not None else 2, 4)
        nodes = [self.chance.randint(0, 1) if node is None else node for _ in range(count)]
        orders = [(number, self.name(draft(self.chance))) for number in nodes]
        note("\n".join(map(str, orders)))
        return orders

    @rule()
    def orders_at_once(self) -> None:
        answers = self.carry_out(self.some_orders())
        assert not {UNAVAILABLE, UNCERTAIN}.intersection(answers)

    @rule(back=st.integers(1, 8))
    def retry(self, back: int) -> None:
        """The same request again."""
        if len(self.asked) >= back:
            self.ask_once(self.chance.randint(0, 1), self.asked[-back])

    # --- faults ---

    @rule(node=st.integers(0, 1))
    def orders_meet_faults(self, node: int) -> None:
        orders = self.some_orders(node)
        self.bench.stores[node].fates = iter(self.chance.choices(FATES, k=3))
        self.carry_out(orders)
        self.bench.stores[node].fates = iter(())
        for _, order in orders:
            self.ask_once(node, order)

    @rule(node=st.integers(0, 1), after=st.integers(0, 2), last=st.sampled_from(["lost", "unsaid"]))
    def crash(self, node: int, after: int, last: str) -> None:
        """A node dies with orders in flight; what it was in the middle of is made, or is not. Whoever asked asks the
        other one."""
        orders = self.some_orders(node)
        self.bench.stores[node].dies(after, last)
        self.carry_out(orders)
        for _, order in orders:
            self.ask_once(1 - node, order)
        self.bench.restart(node)

    # --- time ---

    def let_time_pass(self, by_ms: int) -> None:
        self.bench.now += by_ms

    def let_it_end(self, early: int, of: str) -> None:
        """To the moment at which the next lease or its period ends, or just before it."""
        leases, now = self.model.leases.values(), self.bench.now
        ends = [lease.expires_at if of == "lease" else lease.end or 0 for lease in leases if lease.state == "open"]
        self.bench.now = max(now, min((end for end in ends if end > now), default=0) - early)

    # --- what others write ---

    def change_owner(self, row: tuple[str, str], change: tuple[str, Any]) -> None:
        self.bench.write(f"UPDATE {row[0]} SET {change[0]} = ? WHERE id = ?", change[1], row[1])

    def move(self, row: tuple[str, str], zone: str) -> None:
        """To another time zone, in the way of the gateway."""
        table, id = row
        owner = f"user:{id}" if table == "users" else f"org:{id}"
        [who] = [who for who in self.model.tables[table] if who["id"] == id]
        before, after = (Placed(who["plan"], name, who["anchor_at"]) for name in (who["timezone"], zone))
        if before == after:
            return
        database = self.bench.stores[0].database
        moves = self.bench.run(zone_moves(database, owner, before, after, self.bench.now))
        self.bench.run(database.write(Statement(f"UPDATE {table} SET timezone = ? WHERE id = ?", (zone, id)), *moves))
        for usage, start in self.model.move(owner, zone, self.bench.now).items():
            if usage in self.tampered:
                self.tampered.add((*usage[:2], start))

    def change_plan(self, plan: str, quota: str, limit: tuple[Any, ...] | None) -> None:
        self.bench.write("DELETE FROM plan_quotas WHERE plan = ? AND quota = ?", plan, quota)
        if limit:
            self.bench.write("INSERT INTO plan_quotas VALUES (?, ?, ?, ?, ?)", plan, quota, *limit)

    def change_period(self, plan: str, quota: str, period: str) -> None:
        self.bench.write("UPDATE plan_quotas SET period = ? WHERE plan = ? AND quota = ?", period, plan, quota)

    def override(self, user: str, quota: str, limit: tuple[Any, ...] | None, *dates: int | None) -> None:
        self.bench.write("DELETE FROM user_quotas WHERE user_id = ? AND quota = ?", user, quota)
        if limit:
            moments = [None if by is None else self.bench.now + by for by in dates]
            self.bench.write("INSERT INTO user_quotas VALUES (?, ?, ?, ?, ?, ?, ?)", user, quota, *limit, *moments)

    def come_or_go(self, organization: str, user: str) -> None:
        """A member is removed, or somebody becomes one."""
        if any((row["org_id"], row["user_id"]) == (organization, user) for row in self.model.tables["memberships"]):
            self.bench.write("DELETE FROM memberships WHERE org_id = ? AND user_id = ?", organization, user)
        else:
            self.bench.write("INSERT INTO memberships(org_id, user_id) VALUES (?, ?)", organization, user)

    def cap(self, organization: str, user: str, quota: str, cap: int | None) -> None:
        self.bench.write(
            "INSERT INTO member_caps VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET limit_value = excluded.limit_value",
            *(organization, user, quota, cap),
        )

    def forget_user(self, user: str) -> None:
        """A user is deleted, and somebody of the same name comes."""
        self.bench.write("DELETE FROM users WHERE id = ?", user)
        self.bench.write("INSERT INTO users(id, username, plan) VALUES (?1, ?1, 'p1')", user)
        self.model.forget_user(user)

    def write_usage(self, owner: str, quota: str, which: int, used: int, reserved: int | None) -> None:
        """A balance is set to anything; most leave alone what is reserved."""
        starts = sorted(row[2] for row in self.model.usage if row[:2] == (owner, quota))
        start = starts[-which] if 0 < which <= len(starts) else NOW - 19 * HOUR - 10 * 60_000
        before = self.model.usage.get((owner, quota, start), (0, 0))
        after = (used, before[1] if reserved is None else reserved)
        if after[1] != before[1]:
            self.tampered.add((owner, quota, start))
        self.bench.write(
            "INSERT INTO quota_usage VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET used = excluded.used, reserved = excluded.reserved",
            *(owner, quota, start, *after),
        )
        self.model.usage[owner, quota, start] = after

    def delete_usage(self, which: int) -> None:
        if len(self.model.usage) >= which:
            row = sorted(self.model.usage)[-which]
            self.bench.write("DELETE FROM quota_usage WHERE (owner, quota, period_start) = (?, ?, ?)", *row)
            if self.model.usage.pop(row)[1]:
                self.tampered.add(row)

    # --- the books ---

    def state(self) -> tuple[Any, ...]:
        """As `QuotaModel.state`, of the database."""
        usage, taken, leases, keys = self.bench.read(
            "SELECT owner, quota, period_start, used, reserved FROM quota_usage WHERE (used, reserved) <> (0, 0)",
            "SELECT org_id, user_id, quota, period_start, used, reserved FROM member_usage"
            " WHERE (used, reserved) <> (0, 0)",
            "SELECT spender, id, owner, quota, period, period_start, period_end, amount, held, committed, state,"
            " expires_at FROM leases",
            "SELECT spender, key FROM quota_ledger WHERE key IS NOT NULL",
        )
        assert len(keys) == len(set(keys)), "charged twice"
        return (
            {tuple(row[:3]): tuple(row[3:]) for row in usage},
            {tuple(row[:4]): tuple(row[4:]) for row in taken},
            {tuple(row[:2]): Held(*row[2:]) for row in leases},
            set(keys),
        )

    @invariant()
    def the_books_are_right(self) -> None:
        self.model.tables = self.bench.tables()
        assert self.state() == self.model.state()
        unbalanced, held, over, lost = self.bench.read(UNBALANCED, MISHELD, OVER, UNSHOWN)
        assert not unbalanced, "the ledger's sum is not the balance"
        assert {tuple(row) for row in held} <= self.tampered, "reserved is not what open leases hold"
        assert not over, "more than a hard limit"
        assert not lost, "a position of the change log that does not show it"


def _shown(balance: Balance) -> Answer:
    return *balance.limit, balance.period_end, balance.used, balance.reserved, balance.cap, balance.member_taken


@pytest.mark.timeout(60 + 3 * EXAMPLES)
def test_the_books_are_right_whatever_happens(storage: str, database_place: Place) -> None:
    examples = EXAMPLES if storage == "file" else EXAMPLES // 3
    with asyncio.Runner() as runner:
        bench = Bench(runner, database_place.url)
        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                lambda: BooksAgainstModel(bench),
                settings=settings(
                    max_examples=examples, stateful_step_count=STEPS, phases=PHASES, report_multiple_bugs=False
                ),
            )
        finally:
            bench.close()
