from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.document import Document, canonical
from gateway.core.facts import Catalog, OrganizationFacts, UserFacts
from gateway.core.sections import (
    members_section,
    organizations_section,
    permissions_section,
    pool_quotas,
    quotas_section,
    user_permissions,
)
from gateway.store.catalog import load_catalog
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database, Snapshot
from gateway.store.documents import CAUSE_PARTS, BadDocument, LoadedUser, Part, load_organizations, load_users
from gateway.store.migrate import migrate
from tests.support.document_model import Tables, canonical_bytes, organization_document, user_document
from tests.support.worlds import HOUR, NOW, ORGANIZATIONS, USERS, World, changes, worlds

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


class Store(NamedTuple):
    """A database file, who writes it and the loop that it is bound to."""

    database: Database
    world: World
    run: Run[Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("documents") / "gateway.db"
    with asyncio.Runner() as runner:
        database = runner.run(Database.open(str(path)))
        runner.run(migrate(database))
        world = World(path)
        yield Store(database, world, runner.run)
        world.close()
        runner.run(database.close())


# --- the fast way, as the gateway goes it ----------------------------------------------------------------------------


async def whole_catalog(snapshot: Snapshot, users: dict[str, LoadedUser | BadDocument | None], now: int) -> Catalog:
    """Plans, roles and the organizations that the users are members of."""
    catalog = await load_catalog(snapshot)
    for user in users.values():
        assert isinstance(user, LoadedUser)
        for membership in user.facts.memberships:
            organization = membership.organization
            found = (await load_organizations(snapshot, {organization: False}, catalog, now))[organization]
            assert isinstance(found, OrganizationFacts)
            catalog.organizations[organization] = found
    return catalog


def built(loaded: LoadedUser, catalog: Catalog, now: int, identity: bytes | None = None) -> Document:
    facts, own = loaded.facts, loaded.identity or identity
    assert own is not None
    return Document(
        (
            ("identity", own),
            ("permissions", permissions_section(user_permissions(facts, catalog, now)[0])),
            ("quotas", quotas_section(facts, catalog, now).content),
            ("organizations", organizations_section(facts, catalog, now).content),
        )
    )


async def load_all(database: Database, now: int) -> tuple[dict[str, LoadedUser], Catalog]:
    async with database.snapshot() as snapshot:
        plans = await load_catalog(snapshot)
        found = await load_users(snapshot, dict.fromkeys(USERS, (Part.ALL, None)), plans, now)
        catalog = await whole_catalog(snapshot, found, now)
    return {user: loaded for user, loaded in found.items() if isinstance(loaded, LoadedUser)}, catalog


async def load_organization(database: Database, organization: str, now: int) -> tuple[OrganizationFacts, Catalog]:
    async with database.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        found = (await load_organizations(snapshot, {organization: True}, catalog, now))[organization]
    assert isinstance(found, OrganizationFacts)
    return found, catalog


# --- whole documents -------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(tables=worlds, later=st.integers(0, 60 * HOUR))
def test_documents_are_what_the_model_says(store: Store, tables: Tables, later: int) -> None:
    """At the moment of reading, and at any later one that is built from the same facts without reading again."""
    store.world.fill(tables)
    rows = store.world.tables()
    users, catalog = store.run(load_all(store.database, NOW))
    for user in USERS:
        for now in (NOW, NOW + later):
            expected = user_document(rows, user, now)
            assert expected is not None
            assert built(users[user], catalog, now).json() == canonical_bytes(expected)


@settings(max_examples=30)
@given(tables=worlds, later=st.integers(0, 60 * HOUR))
def test_organizations_are_what_the_model_says(store: Store, tables: Tables, later: int) -> None:
    store.world.fill(tables)
    rows = store.world.tables()
    for organization in ORGANIZATIONS:
        facts, catalog = store.run(load_organization(store.database, organization, NOW))
        for now in (NOW, NOW + later):
            sections = [
                ("organization", facts.profile),
                ("quotas", canonical(pool_quotas(facts, catalog, now)[0])),
                ("members", members_section(facts)),
            ]
            for members in (True, False):
                expected = organization_document(rows, organization, now, members=members)
                assert expected is not None
                document = Document(sections if members else sections[:2])
                assert document.json() == canonical_bytes(expected)


# --- parts -----------------------------------------------------------------------------------------------------------


async def on_other_limits(snapshot: Snapshot, before: Catalog, catalog: Catalog, now: int) -> set[str]:
    """The organizations whose pools are others than they were."""
    found = await load_organizations(snapshot, dict.fromkeys(ORGANIZATIONS, False), catalog, now)
    return {
        id
        for id, facts in found.items()
        if isinstance(facts, OrganizationFacts)
        and id in before.organizations
        and before.plan(before.organizations[id].plan).quotas != catalog.plan(facts.plan).quotas
    }


async def follow(
    database: Database, seq: int, known: dict[str, LoadedUser], plans: Catalog, now: int
) -> tuple[dict[str, LoadedUser], Catalog]:
    """Read again only what the change log asks for, as the feed does; plans and organizations are read anew."""
    async with database.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        wanted: dict[str, tuple[int, UserFacts | None]] = {}
        for change in await read_changes(snapshot, seq):
            kind, _, id = change.doc.partition(":")
            if kind == "user" and id in known:
                before, _ = wanted.get(id, (Part.NONE, None))
                wanted[id] = (before | CAUSE_PARTS.get(change.cause, Part.ALL), known[id].facts)
        other_pools = await on_other_limits(snapshot, plans, catalog, now)
        for user, loaded in known.items():
            before, _ = wanted.get(user, (Part.NONE, None))
            if plans.plan(loaded.facts.plan).quotas != catalog.plan(loaded.facts.plan).quotas or other_pools & {
                membership.organization for membership in loaded.facts.memberships
            }:
                wanted[user] = (before | Part.USAGES, loaded.facts)
        found = await load_users(snapshot, wanted, catalog, now)
        after = dict(known)
        for user, again in found.items():
            assert isinstance(again, LoadedUser)
            after[user] = LoadedUser(again.facts, again.identity or known[user].identity)
        catalog = await whole_catalog(snapshot, {**after}, now)
    return after, catalog


@settings(max_examples=100)
@given(tables=worlds, course=st.lists(changes, min_size=1, max_size=3), later=st.integers(0, 8 * HOUR))
def test_reading_what_changed_is_as_good_as_reading_everything(
    store: Store, tables: Tables, course: list[Any], later: int
) -> None:
    store.world.fill(tables)
    users, catalog = store.run(load_all(store.database, NOW))
    seq = store.run(last_seq(store.database))
    for table, change in course:
        store.world.change(table, change)
    users, catalog = store.run(follow(store.database, seq, users, catalog, NOW + later))
    rows = store.world.tables()
    for user in USERS:
        expected = user_document(rows, user, NOW + later)
        assert expected is not None
        assert built(users[user], catalog, NOW + later).json() == canonical_bytes(expected)


@settings(max_examples=40)
@given(tables=worlds, other=worlds, parts=st.integers(0, Part.ALL))
def test_parts_that_were_not_asked_for_stay_as_they_were(
    store: Store, tables: Tables, other: Tables, parts: int
) -> None:
    store.world.fill(tables)
    before, _ = store.run(load_all(store.database, NOW))
    store.world.fill(other)
    whole, catalog = store.run(load_all(store.database, NOW))

    async def load_parts() -> LoadedUser:
        async with store.database.snapshot() as snapshot:
            found = await load_users(snapshot, {"u1": (parts, before["u1"].facts)}, catalog, NOW)
        assert isinstance(found["u1"], LoadedUser)
        return found["u1"]

    loaded = store.run(load_parts())
    assert loaded.identity == (whole["u1"].identity if parts & Part.IDENTITY else None)
    for part, names in (
        (Part.IDENTITY, ("plan", "active", "is_admin", "timezone", "anchor_at")),
        (Part.ROLES, ("roles",)),
        (Part.GRANTS, ("grants",)),
        (Part.OVERRIDES, ("overrides",)),
        (Part.MEMBERSHIPS, ("memberships",)),
        (Part.CAPS, ("caps",)),
    ):
        source = whole if parts & part else before
        for name in names:
            assert getattr(loaded.facts, name) == getattr(source["u1"].facts, name)


def test_periods_that_begin_earlier_now_bring_what_was_used_in_them(store: Store) -> None:
    used = {"owner": "user:u1", "quota": "q1", "period_start": NOW - 27 * 24 * HOUR, "used": 3, "reserved": 0}
    store.world.fill(PLAIN | {"quota_usage": [used]})
    users, catalog = store.run(load_all(store.database, NOW))
    assert b'"used":0' in built(users["u1"], catalog, NOW).json()
    seq = store.run(last_seq(store.database))
    store.world.execute("UPDATE users SET anchor_at = ? WHERE id = 'u1'", NOW - 28 * 24 * HOUR)
    users, catalog = store.run(follow(store.database, seq, users, catalog, NOW))
    assert b'"used":3' in built(users["u1"], catalog, NOW).json()


PLAIN: Tables = {
    "plans": [{"id": "p1"}],
    "plan_quotas": [{"plan": "p1", "quota": "q1", "limit_value": 5, "period": "month", "hard": 1}],
    "users": [{"id": user, "username": user, "plan": "p1"} for user in USERS],
    "organizations": [{"id": organization, "name": organization, "plan": "p1"} for organization in ORGANIZATIONS],
}

TAKEN = {"org_id": "o1", "user_id": "u1", "quota": "q1", "reserved": 1}
DAY = 24 * HOUR


def capped(*usages: tuple[int, int], period: str = "day", **organization: Any) -> Tables:
    """A member with a cap of 20, who took so much of the pool so long ago."""
    [first, second] = PLAIN["organizations"]
    return PLAIN | {
        "plans": [{"id": "p1"}, {"id": "p2"}, {"id": "own"}],
        "users": [row | {"plan": "own"} for row in PLAIN["users"]],
        "plan_quotas": [
            {"plan": "p1", "quota": "q1", "limit_value": 50, "period": period, "hard": 1},
            {"plan": "p2", "quota": "q1", "limit_value": None, "period": "month", "hard": 0},
        ],
        "organizations": [first | organization, second],
        "memberships": [{"org_id": "o1", "user_id": "u1"}],
        "member_caps": [{"org_id": "o1", "user_id": "u1", "quota": "q1", "limit_value": 20}],
        "member_usage": [TAKEN | {"period_start": NOW - ago, "used": used} for ago, used in usages],
    }


def pool(store: Store, users: dict[str, LoadedUser], catalog: Catalog, now: int = NOW) -> dict[str, Any]:
    shown = built(users["u1"], catalog, now).data()["organizations"]["o1"]["quotas"]["q1"]
    expected = user_document(store.world.tables(), "u1", now)
    assert expected is not None
    assert shown == expected["organizations"]["o1"]["quotas"]["q1"]
    return dict(shown)


def test_a_member_sees_what_is_left_of_the_cap(store: Store) -> None:
    store.world.fill(capped((3 * HOUR, 4), (2 * HOUR, 6), (2 * DAY, 7)))
    users, catalog = store.run(load_all(store.database, NOW))
    shown = pool(store, users, catalog)
    assert (shown["cap"], shown["cap_remaining"], shown["used"]) == (20, 20 - 4 - 1 - 6 - 1, 0)
    assert pool(store, users, catalog, NOW + DAY)["cap_remaining"] == 20  # the next day, from the same facts
    assert not users["u1"].facts.usages


def test_who_has_no_cap_is_not_asked_what_was_taken(store: Store) -> None:
    store.world.fill(capped((HOUR, 4)) | {"member_caps": []})
    users, catalog = store.run(load_all(store.database, NOW))
    assert users["u1"].facts.member_usages == {}
    assert {"cap", "cap_remaining"}.isdisjoint(pool(store, users, catalog))
    seq = store.run(last_seq(store.database))
    store.world.execute("UPDATE member_usage SET used = 9")
    assert store.run(last_seq(store.database)) == seq
    store.world.execute("INSERT INTO member_caps VALUES ('o1', 'u1', 'q1', NULL)")
    users, catalog = store.run(follow(store.database, seq, users, catalog, NOW))
    assert {"cap", "cap_remaining"}.isdisjoint(pool(store, users, catalog))
    store.world.execute("UPDATE member_caps SET limit_value = 15")
    users, catalog = store.run(follow(store.database, seq, users, catalog, NOW))
    assert pool(store, users, catalog)["cap_remaining"] == 15 - 9 - 1


def test_what_a_member_takes_is_read_again_by_itself(store: Store) -> None:
    store.world.fill(capped((HOUR, 4)))
    users, catalog = store.run(load_all(store.database, NOW))
    seq = store.run(last_seq(store.database))
    store.world.change("member_usage", ([TAKEN | {"period_start": NOW - HOUR, "used": 5}],))
    store.world.change("member_usage", ([TAKEN | {"period_start": NOW - 2 * HOUR, "used": 30}],))
    users, catalog = store.run(follow(store.database, seq, users, catalog, NOW))
    assert pool(store, users, catalog)["cap_remaining"] == 0  # never below


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE plan_quotas SET period = 'month' WHERE plan = 'p1'",
        "UPDATE organizations SET plan = 'p2' WHERE id = 'o1'",
    ],
)
def test_a_longer_period_of_the_pool_brings_what_the_member_took_in_it(store: Store, change: str) -> None:
    store.world.fill(capped((HOUR, 4), (9 * DAY, 6), (40 * DAY, 5)))
    users, catalog = store.run(load_all(store.database, NOW))
    assert pool(store, users, catalog)["cap_remaining"] == 15
    seq = store.run(last_seq(store.database))
    store.world.execute(change)
    users, catalog = store.run(follow(store.database, seq, users, catalog, NOW))
    assert pool(store, users, catalog)["cap_remaining"] == 20 - 5 - 7


def test_a_member_who_comes_back_finds_the_cap_as_it_was_left(store: Store) -> None:
    store.world.fill(capped((HOUR, 4), (9 * DAY, 6)))
    users, catalog = store.run(load_all(store.database, NOW))
    for change in (
        "DELETE FROM memberships",
        "UPDATE plan_quotas SET period = 'month' WHERE plan = 'p1'",
        "INSERT INTO memberships(org_id, user_id) VALUES ('o1', 'u1')",
    ):
        seq = store.run(last_seq(store.database))
        store.world.execute(change)
        users, catalog = store.run(follow(store.database, seq, users, catalog, NOW))
    assert pool(store, users, catalog)["cap_remaining"] == 20 - 5 - 7


@settings(max_examples=60)
@given(
    period=st.sampled_from(["hour", "day", "week", "month", "year", "never"]),
    anchor=st.none() | st.integers(NOW - 900 * DAY, NOW + 5 * DAY),
    timezone=st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Berlin", "Pacific/Apia"]),
    usages=st.dictionaries(st.integers(-5 * 24, 400 * 24).map(lambda hours: hours * HOUR), st.integers(0, 3)),
    later=st.integers(0, 40 * DAY),
)
def test_of_a_cap_the_whole_period_counts(
    store: Store, period: str, anchor: int | None, timezone: str, usages: dict[int, int], later: int
) -> None:
    store.world.fill(capped(*usages.items(), period=period, anchor_at=anchor, timezone=timezone))
    users, catalog = store.run(load_all(store.database, NOW))
    for now in (NOW, NOW + later):
        pool(store, users, catalog, now)


# --- rows that are odd -----------------------------------------------------------------------------------------------


async def load(database: Database, *ids: str) -> dict[str, LoadedUser | BadDocument | None]:
    async with database.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        return await load_users(snapshot, dict.fromkeys(ids, (Part.ALL, None)), catalog, NOW)


async def load_orgs(database: Database, *ids: str) -> dict[str, OrganizationFacts | BadDocument | None]:
    async with database.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        return await load_organizations(snapshot, dict.fromkeys(ids, True), catalog, NOW)


def test_who_is_not_there_is_not_there(store: Store) -> None:
    store.world.fill(PLAIN)
    found = store.run(load(store.database, "u1", "nobody", "U1", "", "u1 "))
    assert [user for user, loaded in found.items() if loaded is not None] == ["u1"]
    assert store.run(load_orgs(store.database, "nowhere")) == {"nowhere": None}
    assert store.run(load(store.database)) == {}
    assert store.run(load_orgs(store.database)) == {}


BAD_VALUES = [
    "attributes = '{\"a\":1e400}'",
    "attributes = '{\"a\":9007199254740993}'",
    "attributes = '{\"a\":' || printf('%.*c', 80, '[') || printf('%.*c', 80, ']') || '}'",
    "timezone = 'Nowhere/Else'",
    "timezone = '../UTC'",
    "created_at = 1000000000000000000",
    "anchor_at = 1000000000000000000",
    "anchor_at = -1000000000000000000",
    "name = CAST(x'ff41' AS TEXT)",
    "attributes = CAST(x'7b2261223a22ff227d' AS TEXT)",
]


@pytest.mark.parametrize("change", BAD_VALUES)
def test_a_user_that_can_not_be_read_leaves_the_others_alone(store: Store, change: str) -> None:
    used = {"owner": "user:u2", "quota": "q1", "period_start": NOW, "used": 3, "reserved": 0}
    store.world.fill(PLAIN | {"quota_usage": [used]})
    store.world.execute(f"UPDATE users SET {change} WHERE id = 'u2'")
    found = store.run(load(store.database, *USERS))
    assert isinstance(found["u2"], BadDocument)
    assert found["u2"].reason
    assert all(isinstance(found[user], LoadedUser) for user in ("u1", "u3"))


@pytest.mark.parametrize("change", BAD_VALUES)
def test_an_organization_that_can_not_be_read_leaves_the_others_alone(store: Store, change: str) -> None:
    store.world.fill(PLAIN)
    store.world.execute(f"UPDATE organizations SET {change} WHERE id = 'o2'")
    found = store.run(load_orgs(store.database, *ORGANIZATIONS))
    assert isinstance(found["o2"], BadDocument)
    assert isinstance(found["o1"], OrganizationFacts)


def test_many_documents_are_read_with_few_statements(store: Store) -> None:
    store.world.fill(PLAIN)
    counted = 0

    class Counting:
        def __init__(self, snapshot: Snapshot) -> None:
            self._snapshot = snapshot

        def read(self, *statements: Any) -> Awaitable[Any]:
            nonlocal counted
            counted += len(statements)
            return self._snapshot.read(*statements)

    async def count(*ids: str) -> int:
        nonlocal counted
        async with store.database.snapshot() as snapshot:
            catalog = await load_catalog(snapshot)
            counted = 0
            await load_users(Counting(snapshot), dict.fromkeys(ids, (Part.ALL, None)), catalog, NOW)
        return counted

    assert 0 < store.run(count(*USERS, *(f"x{number}" for number in range(500)))) <= 8
