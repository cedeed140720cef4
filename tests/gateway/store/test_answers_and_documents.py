"""What who spends is told, by SQL's sums, is what documents show, by the gateway's own."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.facts import OrganizationFacts
from gateway.core.quotas import PERIODS
from gateway.core.sections import organizations_section, pool_quotas, quotas_section
from gateway.core.spending import Order, Spent
from gateway.errors import QuotaExceeded
from gateway.store.catalog import load_catalog
from gateway.store.database import Database
from gateway.store.documents import LoadedUser, Part, load_organizations, load_users
from gateway.store.migrate import migrate
from gateway.store.quotas import Quotas
from tests.support.document_model import Row
from tests.support.worlds import HOUR, NOW, World

DAY = 24 * HOUR
KEYS = itertools.count(1)
zones = st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Berlin", "Pacific/Apia", "America/St_Johns"])
anchors = st.none() | st.integers(NOW - 900 * DAY, NOW + 5 * DAY)
starts = st.integers(-3, 400).map(lambda hours: NOW - hours * HOUR) | st.integers(0, 400).map(lambda n: NOW - n * DAY)
taken = st.dictionaries(starts, st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5)
limits = st.fixed_dictionaries(
    {
        "limit_value": st.none() | st.integers(0, 60),
        "period": st.sampled_from(PERIODS),
        "hard": st.integers(0, 1),
    }
)
overrides = st.lists(
    limits.flatmap(
        lambda limit: st.fixed_dictionaries(
            {
                "starts_at": st.none() | st.sampled_from([NOW, NOW + 1]),
                "expires_at": st.none() | st.sampled_from([NOW, NOW + 1]),
            }
        ).map(lambda dates: limit | dates)
    ),
    max_size=1,
)


class Store(NamedTuple):
    """A database file, who writes it and the loop that it is bound to."""

    database: Database
    world: World
    run: Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path: Path = tmp_path_factory.mktemp("answers") / "gateway.db"
    with asyncio.Runner() as runner:
        database = runner.run(Database.open(str(path)))
        runner.run(migrate(database))
        world = World(path)
        yield Store(database, world, runner.run)
        world.close()
        runner.run(database.close())


async def shown(database: Database) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The user's own quotas, the pool as the member's document has it, and as the organization's has it."""
    async with database.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        user = (await load_users(snapshot, {"u1": (Part.ALL, None)}, catalog, NOW))["u1"]
        pool = (await load_organizations(snapshot, {"o1": False}, catalog, NOW))["o1"]
    assert isinstance(user, LoadedUser)
    assert isinstance(pool, OrganizationFacts)
    catalog.organizations["o1"] = pool
    own = json.loads(quotas_section(user.facts, catalog, NOW).content)
    organizations = json.loads(organizations_section(user.facts, catalog, NOW).content)
    return own, organizations["o1"]["quotas"], pool_quotas(pool, catalog, NOW)[0]


async def spend(database: Database, owner: str, amount: int) -> Spent | QuotaExceeded:
    try:
        return await Quotas(database, lambda: NOW).spender.consume(
            Order("user:u1", owner, "q1", amount, f"k{next(KEYS)}")
        )
    except QuotaExceeded as refused:
        return refused


def usage_rows(owner: str, rows: dict[int, tuple[int, int]]) -> list[Row]:
    return [
        {"owner": owner, "quota": "q1", "period_start": start, "used": used, "reserved": reserved}
        for start, (used, reserved) in rows.items()
    ]


def fits(entry: dict[str, Any], before: dict[str, Any], answer: Spent | QuotaExceeded, amount: int) -> None:
    """The document's entry after a request, against the one before it and against the answer."""
    left = [entry["remaining"]] if entry.get("hard") else []
    left += [entry["cap_remaining"]] if "cap" in entry else []
    if isinstance(answer, QuotaExceeded):
        assert entry == before
        assert min(left) < amount
        assert answer.details["remaining"] == min(left)
        assert answer.details.get("resets_at") == entry.get("resets_at")
    else:
        assert entry == answer.balance.entry()
        assert entry["used"] == before["used"] + amount


@settings(max_examples=100)
@given(
    user=st.fixed_dictionaries({"timezone": zones, "anchor_at": anchors}),
    plan=limits,
    own=overrides,
    rows=taken,
    amounts=st.lists(st.integers(1, 20), min_size=1, max_size=3),
)
def test_the_answer_about_the_own_quota_is_what_the_document_shows(
    store: Store, user: Row, plan: Row, own: list[Row], rows: dict[int, tuple[int, int]], amounts: list[int]
) -> None:
    store.world.fill(
        {
            "plans": [{"id": "p1"}],
            "plan_quotas": [{"plan": "p1", "quota": "q1"} | plan],
            "users": [{"id": "u1", "username": "u1", "plan": "p1"} | user],
            "user_quotas": [{"user_id": "u1", "quota": "q1"} | row for row in own],
            "quota_usage": usage_rows("user:u1", rows),
            "organizations": [{"id": "o1", "plan": "p1"}],
            "memberships": [{"org_id": "o1", "user_id": "u1"}],
        }
    )
    for amount in amounts:
        before = store.run(shown(store.database))[0]["q1"]
        answer = store.run(spend(store.database, "user:u1", amount))
        fits(store.run(shown(store.database))[0]["q1"], before, answer, amount)


@settings(max_examples=100)
@given(
    organization=st.fixed_dictionaries({"timezone": zones, "anchor_at": anchors}),
    member=st.fixed_dictionaries({"timezone": zones, "anchor_at": anchors}),
    plan=limits,
    cap=st.none() | st.integers(0, 40),
    rows=taken,
    mine=taken,
    amounts=st.lists(st.integers(1, 20), min_size=1, max_size=3),
)
def test_the_answer_about_a_pool_is_what_the_members_document_shows(
    store: Store,
    organization: Row,
    member: Row,
    plan: Row,
    cap: int | None,
    rows: dict[int, tuple[int, int]],
    mine: dict[int, tuple[int, int]],
    amounts: list[int],
) -> None:
    whose = {"org_id": "o1", "user_id": "u1", "quota": "q1"}
    store.world.fill(
        {
            "plans": [{"id": "p1"}, {"id": "p2"}],
            "plan_quotas": [{"plan": "p2", "quota": "q1"} | plan],
            "users": [{"id": "u1", "username": "u1", "plan": "p1"} | member],
            "organizations": [{"id": "o1", "plan": "p2"} | organization],
            "memberships": [{"org_id": "o1", "user_id": "u1"}],
            "member_caps": [whose | {"limit_value": cap}],
            "quota_usage": usage_rows("org:o1", rows),
            "member_usage": [
                whose | {"period_start": start, "used": used, "reserved": reserved}
                for start, (used, reserved) in mine.items()
            ],
        }
    )
    for amount in amounts:
        before = store.run(shown(store.database))[1]["q1"]
        answer = store.run(spend(store.database, "org:o1", amount))
        _, members_view, pool = store.run(shown(store.database))
        fits(members_view["q1"], before, answer, amount)
        assert members_view["q1"].items() >= pool["q1"].items()
        assert ("cap" in members_view["q1"]) == (cap is not None)
