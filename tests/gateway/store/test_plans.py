from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from gateway.store.accounts import User, add_user
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate
from gateway.store.organizations import Organization, add_organization
from gateway.store.plans import (
    Plan,
    PlanQuota,
    QuotaDifference,
    apply_plans,
    compare_plans,
    create_plan,
    delete_plan,
    find_plan,
    list_plans,
    replace_plan,
)

VOICE = {"voice_minutes": PlanQuota(500, "month", True), "sms_messages": PlanQuota()}
PRO = Plan("pro", "Pro", frozenset({"can_use_voice", "can_use_sms"}), VOICE)
FREE = Plan("free", "Free")


async def logged_since(database: Database, seq: int) -> list[tuple[str, str]]:
    return [(change.doc, change.cause) for change in await read_changes(database, seq, 100)]


async def test_plans_stand_as_they_were_applied(database: Database) -> None:
    differences, seq = await apply_plans(database, [PRO, FREE])
    assert seq == await last_seq(database)
    assert [difference.is_new for difference in differences] == [True, True]
    assert await list_plans(database) == [FREE, PRO]
    assert await find_plan(database, "pro") == PRO
    with pytest.raises(NotFound):
        await find_plan(database, "gold")


async def test_applying_what_stands_writes_nothing(database: Database) -> None:
    await apply_plans(database, [PRO, FREE])
    before = await last_seq(database)
    assert await apply_plans(database, [PRO]) == ([], None)
    assert await last_seq(database) == before


async def test_only_what_differs_is_logged(database: Database) -> None:
    await apply_plans(database, [PRO, FREE])
    before = await last_seq(database)
    await apply_plans(database, [PRO, Plan("free", "Free", frozenset({"can_use_sms"}))])
    assert await logged_since(database, before) == [("plan:free", "permissions")]
    before = await last_seq(database)
    await apply_plans(database, [Plan("pro", "Pro", PRO.permissions, VOICE | {"voice_minutes": PlanQuota(300)})])
    assert await logged_since(database, before) == [("plan:pro", "quota_limit")]


async def test_the_difference_says_who_gains_and_loses_what(database: Database) -> None:
    await apply_plans(database, [PRO, FREE])
    await add_user(database, User(id="u_ada", username="ada", plan="pro"))
    await add_user(database, User(id="u_bob", username="bob", plan="free"))
    await add_organization(database, Organization(id="o_acme", plan="pro"))
    after = Plan(
        "pro",
        "Professional",
        frozenset({"can_use_voice", "can_use_email"}),
        {"voice_minutes": PlanQuota(300, "month", True), "calls": PlanQuota(1, "day", False)},
    )
    before = await last_seq(database)
    [difference] = await compare_plans(database, [after, FREE])
    assert await last_seq(database) == before
    assert (difference.plan, difference.is_new, difference.name) == ("pro", False, "Professional")
    assert (difference.gained, difference.lost) == (("can_use_email",), ("can_use_sms",))
    assert difference.quotas == {
        "calls": QuotaDifference(None, PlanQuota(1, "day", False)),
        "sms_messages": QuotaDifference(PlanQuota(), None),
        "voice_minutes": QuotaDifference(PlanQuota(500, "month", True), PlanQuota(300, "month", True)),
    }
    assert (difference.users, difference.organizations) == (("u_ada",), ("o_acme",))


async def test_all_plans_are_applied_or_none(database: Database) -> None:
    await apply_plans(database, [FREE])
    with pytest.raises(BadRequest):
        await apply_plans(database, [PRO, Plan("")])
    assert await list_plans(database) == [FREE]


async def test_a_plan_is_created_once(database: Database) -> None:
    seq = await create_plan(database, PRO)
    assert await find_plan(database, "pro") == PRO
    with pytest.raises(Conflict, match="taken"):
        await create_plan(database, Plan("pro"))
    assert await find_plan(database, "pro") == PRO
    assert await last_seq(database) == seq


@pytest.mark.parametrize(
    "other",
    [
        Plan("pro", "Prof", PRO.permissions, VOICE),
        Plan("pro", "Pro", frozenset({"can_use_voice"}), VOICE),
        Plan("pro", "Pro", frozenset({"can_use_voice", "can_use_email"}), VOICE),
        Plan("pro", "Pro", PRO.permissions | {"more"}, VOICE),
        Plan("pro", "Pro", PRO.permissions, {"voice_minutes": VOICE["voice_minutes"]}),
        Plan("pro", "Pro", PRO.permissions, VOICE | {"sms_messages": PlanQuota(0)}),
        Plan("pro", "Pro", PRO.permissions, VOICE | {"sms_messages": PlanQuota(period="day")}),
        Plan("pro", "Pro", PRO.permissions, VOICE | {"sms_messages": PlanQuota(hard=False)}),
        Plan("pro"),
    ],
)
async def test_a_plan_is_replaced_only_as_it_was_seen(database: Database, other: Plan) -> None:
    await create_plan(database, PRO)
    with pytest.raises(PreconditionFailed):
        await replace_plan(database, other, Plan("pro"))
    assert await find_plan(database, "pro") == PRO
    await replace_plan(database, PRO, other)
    assert await find_plan(database, "pro") == other
    await replace_plan(database, other, PRO)
    assert await find_plan(database, "pro") == PRO
    with pytest.raises(NotFound):
        await replace_plan(database, FREE, PRO)


async def test_a_plan_that_somebody_is_on_is_not_deleted(database: Database) -> None:
    await apply_plans(database, [PRO, FREE])
    await add_user(database, User(id="u_ada", username="ada", plan="pro"))
    await add_organization(database, Organization(id="o_acme", plan="free"))
    for plan in (PRO, FREE):
        with pytest.raises(Conflict, match="on this plan"):
            await delete_plan(database, plan)
    assert await list_plans(database) == [FREE, PRO]
    await database.write(Statement("DELETE FROM users WHERE id = 'u_ada'"))
    with pytest.raises(PreconditionFailed):
        await delete_plan(database, msgspec.structs.replace(PRO, name="Another"))
    await delete_plan(database, PRO)
    assert await list_plans(database) == [FREE]
    with pytest.raises(NotFound):
        await delete_plan(database, PRO)


async def test_plans_are_listed_in_pages(database: Database) -> None:
    await apply_plans(database, [PRO, FREE, Plan("max")])
    assert await list_plans(database, limit=2) == [FREE, Plan("max")]
    assert await list_plans(database, after="max", limit=2) == [PRO]


names = st.sampled_from(["can_use_voice", "can_use_sms", "users.read", "a"])
quotas = st.dictionaries(
    st.sampled_from(["voice_minutes", "sms_messages", "x"]),
    st.builds(
        PlanQuota,
        st.none() | st.integers(0, 2**53 - 1),
        st.sampled_from(["hour", "day", "week", "month", "year", "never"]),
        st.booleans(),
    ),
)
some_plans = st.lists(
    st.builds(Plan, st.sampled_from(["p", "q", "r"]), st.text("ab "), st.frozensets(names), quotas),
    unique_by=lambda plan: plan.id,
)


@settings(max_examples=40)
@given(steps=st.lists(some_plans, max_size=4))
async def test_whatever_stood_before_the_plans_are_as_desired(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[Plan]]
) -> None:
    path = tmp_path_factory.mktemp("plans") / "gateway.db"
    expected: dict[str, Plan] = {}
    async with await Database.open(str(path)) as database:
        await migrate(database, epoch="e0")
        for desired in steps:
            changing = [plan.id for plan in desired if expected.get(plan.id) != plan]
            differences, _ = await apply_plans(database, desired)
            assert [difference.plan for difference in differences] == changing
            expected |= {plan.id: plan for plan in desired}
            assert await list_plans(database) == [expected[plan] for plan in sorted(expected)]
