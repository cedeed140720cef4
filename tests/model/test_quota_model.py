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
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway.core.spending import Balance
from gateway.core.spending import Order as Consumption
from gateway.errors import GatewayError, QuotaExceeded, StoreError, StoreUncertain
from gateway.store.quotas import Quotas
from tests.conftest import Place
from tests.support import quota_model as model
from tests.support.quota_bench import Bench
from tests.support.quota_books import MISHELD, OVER, UNBALANCED, UNSHOWN
from tests.support.quota_model import UNAVAILABLE, UNCERTAIN, Answer, QuotaModel, explain
from tests.support.worlds import HOUR, NOW, ORGANIZATIONS, PLANS, QUOTAS, USERS

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))
STEPS = 40
PHASES = [Phase.explicit, Phase.reuse, Phase.generate] + ([Phase.shrink] if "MODEL_SHRINK" in os.environ else [])

users = st.sampled_from(USERS)
spenders = st.sampled_from(["user:u1", *[f"user:{user}" for user in USERS]])
owners = st.sampled_from(["own", "own", "own", *[f"org:{organization}" for organization in ORGANIZATIONS]])
quotas = st.sampled_from([QUOTAS[0], QUOTAS[0], *QUOTAS, *QUOTAS, "q3"])
amounts = st.sampled_from([1, 1, 2, 3, 4, 5, 6, 10, 30, 2**31])
levels = st.integers(0, 30)
names = st.sampled_from([0, 0, 0, 1, 2])
"""Which of the names that were used: 0 for a new one, 1 for the latest."""
nodes = st.integers(0, 1)
periods = st.sampled_from(["hour", "day", "day", "week", "month", "year", "never"])
limits = st.tuples(st.none() | levels | levels, periods, st.sampled_from([0, 1, 1]))
lifetimes = st.sampled_from([1, 60, 3600, 3600])

Draft = tuple[Any, ...]
"""An order whose owner, key and lease are not named yet."""
consumptions = st.tuples(st.just("consume"), spenders, owners, quotas, amounts, names)
reservations = st.tuples(st.just("reserve"), spenders, owners, quotas, amounts, names, lifetimes)
leases = st.tuples(st.sampled_from([1, 1, 1, 2, 3]), st.none() | st.none() | st.none() | spenders)
"""Which of those that were reserved, and who asks about it if not its spender."""
extensions = st.tuples(st.just("extend"), leases, lifetimes, st.sampled_from([0, 1, 1, 2]), names)
settlements = st.tuples(st.just("commit"), leases, st.integers(0, 6)) | st.tuples(st.just("release"), leases)
drafts: st.SearchStrategy[Draft] = st.one_of(
    *(consumptions, consumptions, reservations, reservations, extensions, extensions, settlements, settlements),
    st.just(("end_due",)),
)
fates = st.lists(st.sampled_from(["made", "refused", "lost", "unsaid"]), max_size=3)

Change = tuple[Any, ...]
"""What somebody writes by SQL: a method's name and its arguments."""
rows_of_owners = st.sampled_from(
    [("users", id) for id in ("u1", *USERS)] + [("organizations", id) for id in ORGANIZATIONS]
)
columns = st.one_of(
    st.tuples(st.just("plan"), st.sampled_from(PLANS)),
    st.tuples(st.just("timezone"), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"])),
    st.tuples(st.just("anchor_at"), st.sampled_from([None, NOW - 11 * HOUR, NOW - 40 * 24 * HOUR, NOW + 5 * HOUR])),
    st.tuples(st.just("status"), st.sampled_from(["active", "disabled"])),
)
later = st.sampled_from([None, None, 1, 2 * HOUR])
changes: st.SearchStrategy[Change] = st.one_of(
    st.tuples(st.just("change_owner"), rows_of_owners, columns),
    st.tuples(st.just("change_owner"), rows_of_owners, columns),
    st.tuples(st.just("change_plan"), st.sampled_from(PLANS), st.sampled_from(QUOTAS), limits | limits | st.none()),
    st.tuples(st.just("override"), users, st.sampled_from([*QUOTAS, "q3"]), limits | limits | st.none(), later, later),
    st.tuples(st.just("come_or_go"), st.sampled_from(ORGANIZATIONS), users),
    st.tuples(st.just("cap"), st.sampled_from(ORGANIZATIONS), users, st.sampled_from(QUOTAS), st.none() | levels),
    st.tuples(st.just("forget_user"), users),
)
usages = st.one_of(
    st.tuples(
        st.just("write_usage"),
        spenders | st.sampled_from([f"org:{organization}" for organization in ORGANIZATIONS]),
        st.sampled_from(QUOTAS),
        st.integers(0, 2),
        levels,
        st.sampled_from([None, None, None, 0, 7]),
    ),
    st.tuples(st.just("delete_usage"), st.integers(1, 9)),
)


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
        self.asked: list[model.Order] = []
        self.seqs: dict[tuple[str, str], int] = {}
        self.tampered: set[tuple[str, str, int]] = set()
        """Rows whose `reserved` somebody wrote by SQL."""

    @initialize(skew=st.sampled_from([0, 0, 700]))
    def begin(self, skew: int) -> None:
        self.bench.skew = skew

    # --- orders ---

    def name(self, draft: Draft) -> model.Order:
        """The order that a draft is of."""
        match draft:
            case "consume", spender, owner, quota, amount, pick:
                key = self.pick(self.keys, spender, pick)
                return model.Consume(spender, spender if owner == "own" else owner, quota, amount, key)
            case "reserve", spender, owner, quota, amount, pick, ttl_s:
                lease = self.pick(self.names, spender, pick)
                self.reserved.append((spender, lease))
                return model.Reserve(spender, spender if owner == "own" else owner, quota, amount, lease, ttl_s)
            case ("end_due",):
                return model.EndDue()
        kind, (which, stranger), *rest = draft
        spender, lease = self.reserved[-which] if len(self.reserved) >= which else ("user:u1", "none")
        spender = stranger or spender
        if kind == "extend":
            ttl_s, amount, pick = rest
            return model.Extend(spender, lease, ttl_s, amount, self.pick(self.keys, spender, pick) if amount else None)
        return model.Commit(spender, lease, rest[0]) if kind == "commit" else model.Release(spender, lease)

    def pick(self, names: dict[str, list[str]], spender: str, pick: int) -> str:
        """A new name for 0, else one of the latest that were used."""
        used = names.setdefault(spender, [])
        if pick and len(used) >= pick:
            return used[-pick]
        used.append(f"n{next(self.numbers)}")
        return used[-1]

    def carry_out(self, orders: Sequence[tuple[int, model.Order]]) -> list[Answer]:
        """Ask the nodes for all of them at once, and let the model follow."""
        answers = self.bench.run(self._ask_all(orders))
        state = self.state()
        asked = [(order, self.bench.clock(number)) for number, order in orders]
        found = explain(self.model, asked, answers, state)
        assert found is not None, self.describe(orders, answers, state)
        self.model = found
        self.asked += [order for _, order in orders]
        return answers

    def describe(self, orders: Sequence[tuple[int, model.Order]], answers: Sequence[Answer], state: Any) -> str:
        lines = [f"{number}: {order} -> {answer}" for (number, order), answer in zip(orders, answers, strict=True)]
        twin = self.model.copy()
        lines += [f"alone: {twin.copy().carry_out(order, self.bench.clock(number))}" for number, order in orders]
        for was, found in zip(self.model.state(), state, strict=True):
            lines += [f"was {was}", f"now {found}"]
        return "\n".join(lines)

    async def _ask_all(self, orders: Sequence[tuple[int, model.Order]]) -> list[Answer]:
        return await asyncio.gather(*(self._ask(self.bench.nodes[number], order) for number, order in orders))

    async def _ask(self, node: Quotas, order: model.Order) -> Answer:
        try:
            return await self._told(node, order)
        except QuotaExceeded as refusal:
            return refusal.code, refusal.details["quota"], refusal.details["remaining"]
        except GatewayError as error:
            return (error.code,)
        except StoreError as error:  # of what nobody asked for
            return UNCERTAIN if isinstance(error, StoreUncertain) else UNAVAILABLE

    async def _told(self, node: Quotas, order: model.Order) -> Answer:
        match order:
            case model.Consume():
                balance, seq = await node.spender.consume(Consumption(*order))
                assert self.seqs.setdefault((order.spender, order.key), seq) == seq, "another answer"
                return "spent", *_shown(balance)
            case model.Reserve():
                held = await node.leases.reserve(*order)
            case model.Extend(spender, lease, ttl_s, amount, key):
                held = await node.leases.extend(spender, lease, ttl_s, amount=amount, key=key)
            case model.Commit():
                held = await node.leases.commit(*order)
            case model.Release():
                held = await node.leases.release(*order)
            case _:
                return "ended", await node.leases.end_due()
        lease, balance = held.lease, held.balance
        told = lease.owner, lease.quota, lease.state, lease.held, lease.committed, lease.expires_at
        return "held", *told, *_shown(balance)

    @rule(drawn=st.lists(st.tuples(nodes, drafts), min_size=1, max_size=4))
    def orders(self, drawn: list[tuple[int, Draft]]) -> None:
        """One after the other."""
        for node, draft in drawn:
            self.ask_once(node, self.name(draft))

    def ask_once(self, node: int, order: model.Order) -> None:
        [answer] = self.carry_out([(node, order)])
        assert answer not in (UNAVAILABLE, UNCERTAIN)

    @rule(drawn=st.lists(st.tuples(nodes, drafts), min_size=2, max_size=4))
    def orders_at_once(self, drawn: list[tuple[int, Draft]]) -> None:
        answers = self.carry_out([(node, self.name(draft)) for node, draft in drawn])
        assert not {UNAVAILABLE, UNCERTAIN}.intersection(answers)

    @rule(node=nodes, back=st.integers(1, 8))
    def retry(self, node: int, back: int) -> None:
        """The same request again."""
        if len(self.asked) >= back:
            self.ask_once(node, self.asked[-back])

    # --- faults ---

    @rule(node=nodes, drawn=st.lists(drafts, min_size=1, max_size=4), fates=fates)
    def orders_meet_faults(self, node: int, drawn: list[Draft], fates: list[str]) -> None:
        self.bench.stores[node].fates = iter(fates)
        orders = [(node, self.name(draft)) for draft in drawn]
        self.carry_out(orders)
        self.bench.stores[node].fates = iter(())
        for _, order in orders:
            self.ask_once(node, order)

    @rule(
        node=nodes,
        drawn=st.lists(drafts, min_size=1, max_size=4),
        after=st.integers(0, 2),
        last=st.sampled_from(["lost", "unsaid"]),
    )
    def crash(self, node: int, drawn: list[Draft], after: int, last: str) -> None:
        """A node dies with orders in flight; what it was in the middle of is made, or is not. Whoever asked asks the
        other one."""
        self.bench.stores[node].dies(after, last)
        orders = [(node, self.name(draft)) for draft in drawn]
        self.carry_out(orders)
        for _, order in orders:
            self.ask_once(1 - node, order)
        self.bench.restart(node)

    # --- time ---

    @rule(by_ms=st.sampled_from([1, 1000, 61_000, HOUR, 7 * HOUR, 24 * HOUR, 20 * 24 * HOUR]))
    def let_time_pass(self, by_ms: int) -> None:
        self.bench.now += by_ms

    @rule(early=st.integers(0, 1), of=st.sampled_from(["lease", "period"]))
    def let_it_end(self, early: int, of: str) -> None:
        """To the moment at which the next lease or its period ends, or just before it."""
        leases, now = self.model.leases.values(), self.bench.now
        ends = [lease.expires_at if of == "lease" else lease.end or 0 for lease in leases if lease.state == "open"]
        self.bench.now = max(now, min((end for end in ends if end > now), default=0) - early)

    # --- what others write; nothing is drawn by what the model holds: of two nodes, who is first is not drawn ---

    @rule(some=st.lists(changes, min_size=1, max_size=3))
    def somebody_administers(self, some: list[Change]) -> None:
        for name, *arguments in some:
            getattr(self, name)(*arguments)
            self.model.tables = self.bench.tables()

    @rule(change=usages)
    def somebody_writes_usage(self, change: Change) -> None:
        self.somebody_administers([change])

    def change_owner(self, row: tuple[str, str], change: tuple[str, Any]) -> None:
        self.bench.write(f"UPDATE {row[0]} SET {change[0]} = ? WHERE id = ?", change[1], row[1])

    def change_plan(self, plan: str, quota: str, limit: tuple[Any, ...] | None) -> None:
        self.bench.write("DELETE FROM plan_quotas WHERE plan = ? AND quota = ?", plan, quota)
        if limit:
            self.bench.write("INSERT INTO plan_quotas VALUES (?, ?, ?, ?, ?)", plan, quota, *limit)

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
            {tuple(row[:2]): model.Held(*row[2:]) for row in leases},
            set(keys),
        )

    @invariant()
    def the_books_are_right(self) -> None:
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
