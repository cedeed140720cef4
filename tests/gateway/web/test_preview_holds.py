"""What a preview of a plan says, against what becomes of everybody's document when the plan is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import facts
from gateway.core.forecast import Forecast
from gateway.store import plan_users
from gateway.store.catalog import load_catalog
from gateway.store.database import Database
from gateway.store.migrate import migrate
from gateway.store.plan_users import organizations_on_plan, users_on_plan
from gateway.store.plans import Plan, PlanQuota, find_plan, replace_plan
from gateway.web.previews import PlanPreview, Previews, Reached, Tally
from tests.support.document_model import Tables, user_document
from tests.support.worlds import NOW, PERMISSIONS, PLANS, QUOTAS, USERS, World, worlds

plan_quotas = st.dictionaries(
    st.sampled_from((*QUOTAS, "q3")),
    st.builds(
        PlanQuota,
        st.none() | st.integers(0, 30),
        st.sampled_from(["hour", "day", "week", "month", "year", "never"]),
        st.booleans(),
    ),
)
plan_permissions = st.frozensets(st.sampled_from((*PERMISSIONS, "c")))


class FixedClock:
    """It is always `NOW`."""

    wall = NOW

    def now(self) -> FixedClock:
        return self


class Watched:
    """Users who are said to be connected."""

    def __init__(self, users: frozenset[str]) -> None:
        self._users = users

    def sessions(self, user: str) -> dict[str, str]:
        return {"s": "session"} if user in self._users else {}


class Stage:
    """A node's database, who writes it, and its loop; what a preview needs of a node."""

    def __init__(self, path: Path) -> None:
        self.runner = asyncio.Runner()
        self.database = self.run(Database.open(str(path)))
        self.run(migrate(self.database))
        self.world = World(path)
        self.clock = FixedClock()
        self.hub = self

    presence = Watched(frozenset())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def close(self) -> None:
        self.world.close()
        self.run(self.database.close())
        self.runner.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("preview") / "gateway.db")
    yield made
    made.close()


def documents(stage: Stage, plan: str) -> dict[str, dict[str, Any]]:
    """Of everybody on the plan, worked out from the rows by the words of the data model."""
    tables = stage.world.tables()
    on_plan = [row["id"] for row in tables["users"] if row["plan"] == plan]
    found = {user: user_document(tables, user, NOW) for user in on_plan}
    return {user: document for user, document in found.items() if document is not None}


def limit_of(document: dict[str, Any], quota: str) -> Any:
    """What a document says of a quota but for what was taken of it and what follows from that."""
    entry = document["quotas"].get(quota)
    return None if entry is None else {name: entry.get(name) for name in ("limit", "period", "hard", "resets_at")}


def expected(
    plan: Plan,
    after: Plan,
    before: dict[str, dict[str, Any]],
    later: dict[str, dict[str, Any]],
    connected: frozenset[str],
) -> dict[str, Any]:
    """The preview that these documents would have needed."""

    def reached(users: list[str]) -> dict[str, int]:
        return {"users": len(users), "connected": len([user for user in users if user in connected])}

    def gained(name: str, one: dict[str, Any], other: dict[str, Any]) -> dict[str, int]:
        return reached(
            [user for user in one if name in other[user]["permissions"] and name not in one[user]["permissions"]]
        )

    quotas: dict[str, Any] = {}
    for quota in plan.quotas.keys() | after.quotas.keys():
        if plan.quotas.get(quota) == after.quotas.get(quota):
            continue
        users = [user for user in before if limit_of(before[user], quota) != limit_of(later[user], quota)]
        entries = [later[user]["quotas"].get(quota, {}) for user in users]
        over = [one for one in entries if "limit" in one and one["used"] + one["reserved"] > one["limit"]]
        quotas[quota] = {**reached(users), "over": len(over)}
    return {
        **reached(list(before)),
        "gained": {name: gained(name, before, later) for name in after.permissions - plan.permissions},
        "lost": {name: gained(name, later, before) for name in plan.permissions - after.permissions},
        "quotas": quotas,
    }


def told(preview: PlanPreview) -> dict[str, Any]:
    def plain(reached: Reached) -> dict[str, int]:
        return {"users": reached.users, "connected": reached.connected}

    return {
        **{"users": preview.users, "connected": preview.connected},
        "gained": {name: plain(reached) for name, reached in preview.permissions.gained.items()},
        "lost": {name: plain(reached) for name, reached in preview.permissions.lost.items()},
        "quotas": {
            name: {"users": quota.users, "connected": quota.connected, "over": quota.over}
            for name, quota in preview.quotas.items()
        },
    }


@settings(max_examples=50, deadline=None)
@given(
    tables=worlds,
    plan=st.sampled_from(PLANS),
    permissions=plan_permissions,
    quotas=plan_quotas,
    connected=st.frozensets(st.sampled_from(USERS)),
    page=st.integers(1, 4),
)
def test_it_says_what_then_happens(
    stage: Stage,
    tables: Tables,
    plan: str,
    permissions: frozenset[str],
    quotas: dict[str, PlanQuota],
    connected: frozenset[str],
    page: int,
) -> None:
    stage.world.fill(tables)
    stage.presence = Watched(connected)
    before = stage.run(find_plan(stage.database, plan))
    after = Plan(before.id, before.name, permissions, quotas)
    stood = documents(stage, plan)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plan_users, "PAGE", page)
        preview = stage.run(Previews(stage).worked_out(before, after))  # type: ignore[arg-type]
    stage.run(replace_plan(stage.database, before, after))
    assert told(preview) == expected(before, after, stood, documents(stage, plan), connected)
    on_plan = [row for row in stage.world.rows("organizations") if row["plan"] == plan]
    assert preview.organizations == len(on_plan)


async def test_many_users_do_not_hold_up_the_others(tmp_path: Path) -> None:
    """The longest time that the event loop is kept from others, and the whole, by a wide margin."""
    async with await Database.open(str(tmp_path / "gateway.db")) as database:
        await migrate(database)
        world = World(tmp_path / "gateway.db")
        world.execute("INSERT INTO plans (id) VALUES ('p')")
        world.execute("INSERT INTO plan_permissions (plan, permission) VALUES ('p', 'a')")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)"
        world.execute(f"INSERT INTO users (id, username, plan) {numbers} SELECT 'u' || i, 'u' || i, 'p' FROM n")
        world.execute(
            "INSERT INTO quota_usage (owner, quota, period_start, used)"
            " SELECT 'user:' || id, 'q', ?, rowid % 10 FROM users",
            NOW - 1000,
        )
        world.execute(
            "INSERT INTO user_permissions (user_id, permission) SELECT id, 'b' FROM users WHERE rowid % 3 = 0"
        )
        world.close()
        before = await find_plan(database, "p")
        after = Plan("p", "", frozenset("b"), {"q": PlanQuota(4)})
        catalog = await load_catalog(database)
        limits = {"q": facts.Limit(4, "month", True)}
        forecast = Forecast("p", catalog, facts.Plan(after.permissions, limits))
        loop, worst = asyncio.get_running_loop(), 0.0
        tally, began = Tally(forecast, NOW), loop.time()
        async for users in users_on_plan(database, "p", limits, NOW):
            turn = loop.time()
            for _, known in users:
                tally.add(known, connected=False)
            worst = max(worst, loop.time() - turn)
            await asyncio.sleep(0)
        took = loop.time() - began
        preview = tally.result(before, after, await organizations_on_plan(database, "p"))
    assert (preview.users, preview.permissions.lost["a"].users) == (10_000, 10_000)
    assert preview.permissions.gained["b"].users == 10_000 - 3_333
    assert (preview.quotas["q"].users, preview.quotas["q"].over) == (10_000, 5_000)
    print(f"10,000 users: {took:.3f} s, {worst * 1000:.1f} ms at a time")
    assert worst < 0.25
    assert took < 10
