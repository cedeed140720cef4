"""Plans: what they permit, which quotas they set, and how a set of desired plans differs from those that stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from gateway.core.quotas import Period
from gateway.errors import Conflict, NotFound, PreconditionFailed
from gateway.store.audit import Lookup, Store
from gateway.store.database import Reader, Row, Statement, Value
from gateway.store.documents import by_first_column
from gateway.store.foreign_text import place_after, read_exactly, read_shown
from gateway.store.guards import Guard, guard, guarded_write
from gateway.store.permission_sets import as_json, permission_statements, same_permissions
from gateway.store.refusals import refusals

MAX_LIMIT = 2**53 - 1


class PlanQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of `plan_quotas`; `limit` None: unlimited; a soft limit (`hard` False) is counted and may be passed."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_LIMIT)] | None = None
    period: Period = "month"
    hard: bool = True


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan with all that hangs on it."""

    id: str
    name: str = ""
    permissions: frozenset[str] = frozenset()
    quotas: dict[str, PlanQuota] = {}


class QuotaDifference(msgspec.Struct, frozen=True):
    """What becomes of one quota of a plan; None: the plan does not have it."""

    before: PlanQuota | None
    after: PlanQuota | None


class PlanDifference(msgspec.Struct, frozen=True):
    """What becomes of one plan, and whom it concerns: the users and organizations on it (ids)."""

    plan: str
    is_new: bool
    name: str | None
    """The new name; None: it stays."""
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    quotas: dict[str, QuotaDifference]
    users: tuple[str, ...]
    organizations: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.is_new or self.name is not None or bool(self.gained or self.lost or self.quotas)


async def list_plans(db: Reader, *, after: str = "", limit: int = -1) -> list[Plan]:
    """At most `limit` plans (-1: all) in the order of their ids, those after the id `after`."""
    place = await place_after(db.read, "plans", "id", after)
    return _plans(*await read_shown(db.read, *_selects("id > CAST(? AS TEXT) ORDER BY id LIMIT ?", (place, limit))))


async def find_plan(db: Reader, plan: str) -> Plan:
    """The plan with this id; NotFound when there is none."""
    for found in _plans(*await read_shown(db.read, *_selects("id = ?", (plan,)))):
        return found
    raise NotFound(f"There is no plan {plan}.")


def _selects(which: str, args: tuple[Value, ...]) -> tuple[Statement, ...]:
    those = f"WHERE plan IN (SELECT id FROM plans WHERE {which})"  # noqa: S608
    return (
        Statement(f"SELECT id, name FROM plans WHERE {which}", args),  # noqa: S608
        Statement(f"SELECT plan, permission FROM plan_permissions {those}", args),  # noqa: S608
        Statement(f"SELECT plan, quota, limit_value, period, hard FROM plan_quotas {those} ORDER BY plan, quota", args),  # noqa: S608
    )


def _plans(plans: list[Row], permissions: list[Row], quotas: list[Row]) -> list[Plan]:
    granted, limited = by_first_column(permissions), by_first_column(quotas)
    return [
        Plan(
            plan,
            name,
            frozenset(row[1] for row in granted.get(plan, ())),
            {row[1]: PlanQuota(row[2], row[3], bool(row[4])) for row in limited.get(plan, ())},
        )
        for plan, name in plans
    ]


async def compare_plans(db: Store, desired: Iterable[Plan]) -> list[PlanDifference]:
    """What `apply_plans` would change, plan by plan; plans that would stay as they are do not come up."""
    async with db.snapshot() as snapshot:
        standing = {plan.id: plan for plan in await list_plans(snapshot)}
        users, organizations = await snapshot.read(
            Statement("SELECT plan, id FROM users ORDER BY plan, id"),
            Statement("SELECT plan, id FROM organizations ORDER BY plan, id"),
        )
    differences = (_difference(plan, standing.get(plan.id), users, organizations) for plan in desired)
    return [difference for difference in differences if difference]


def _difference(after: Plan, standing: Plan | None, users: list[Row], organizations: list[Row]) -> PlanDifference:
    before = standing or Plan(after.id)
    return PlanDifference(
        plan=after.id,
        is_new=standing is None,
        name=after.name if after.name != before.name else None,
        gained=tuple(sorted(after.permissions - before.permissions)),
        lost=tuple(sorted(before.permissions - after.permissions)),
        quotas={
            quota: QuotaDifference(before.quotas.get(quota), after.quotas.get(quota))
            for quota in sorted(before.quotas.keys() | after.quotas.keys())
            if before.quotas.get(quota) != after.quotas.get(quota)
        },
        users=tuple(user for plan, user in users if plan == after.id),
        organizations=tuple(organization for plan, organization in organizations if plan == after.id),
    )


def plan_statements(plan: Plan) -> list[Statement]:
    """The statements that make a plan exactly `plan`, for a write of several; rows that are right already are not
    touched.
    """
    quotas = _quotas_as_json(plan)
    return [
        Statement(
            "INSERT INTO plans (id, name) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            (plan.id, plan.name),
        ),
        *permission_statements("plan_permissions", "plan", plan.id, plan.permissions),
        Statement(
            "DELETE FROM plan_quotas WHERE plan = ? AND quota NOT IN (SELECT key FROM json_each(?))",
            (plan.id, quotas),
        ),
        Statement(
            "INSERT INTO plan_quotas (plan, quota, limit_value, period, hard)"
            " SELECT ?, key, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true"
            " ON CONFLICT (plan, quota) DO UPDATE"
            " SET limit_value = excluded.limit_value, period = excluded.period, hard = excluded.hard",
            (plan.id, quotas),
        ),
    ]


async def create_plan(db: Store, plan: Plan) -> int:
    """Add a plan; Conflict when the id is taken."""
    insert = Statement("INSERT INTO plans (id, name) VALUES (?, ?)", (plan.id, plan.name))
    with refusals(taken="The id is taken."):
        return (await db.write(insert, *plan_statements(plan)[1:])).seq


async def replace_plan(db: Store, before: Plan, after: Plan) -> int:
    """Make the plan `before` exactly `after`, whose id does not count. Raises PreconditionFailed when the plan is not
    `before` any more, NotFound when it is gone."""
    await read_exactly(db, "plan", *_selects("id = ?", (before.id,)))
    guards = [guard("plans", "id = ?", (before.id,), NotFound(f"There is no plan {before.id}.")), still(before)]
    with refusals():
        statements = plan_statements(msgspec.structs.replace(after, id=before.id))
        return (await guarded_write(db, guards, *statements)).seq


async def delete_plan(db: Store, before: Plan) -> int:
    """Delete the plan `before`; NotFound when there is no such plan, PreconditionFailed when it is not `before` any
    more, Conflict when users or organizations are on it."""
    await read_exactly(db, "plan", *_selects("id = ?", (before.id,)))
    unused = " AND ".join(f"NOT EXISTS (SELECT 1 FROM {table} WHERE plan = ?)" for table in ("users", "organizations"))  # noqa: S608
    guards = [
        guard("plans", "id = ?", (before.id,), NotFound(f"There is no plan {before.id}.")),
        still(before),
        guard("plans", f"id = ? AND {unused}", (before.id,) * 3, Conflict("Users or organizations are on this plan.")),
    ]
    with refusals():
        return (await guarded_write(db, guards, Statement("DELETE FROM plans WHERE id = ?", (before.id,)))).seq


def plan_before(plan: str) -> Lookup:
    """For the audit trail: the plan with what it permits and limits, as `find_plan` has it."""
    return Lookup(
        "SELECT json_object('id', id, 'name', name,"
        " 'permissions', json((SELECT json_group_array(permission) FROM plan_permissions WHERE plan = plans.id)),"
        " 'quotas', json((SELECT json_group_object(quota, json_object('limit', limit_value, 'period', period,"
        " 'hard', json(iif(hard, 'true', 'false')))) FROM plan_quotas WHERE plan = plans.id)))"
        " FROM plans WHERE id = ?",
        (plan,),
    )


# As many rows as there should be, and none that should not.
_SAME_QUOTAS = """
(SELECT count() FROM plan_quotas WHERE plan = ?1) = (SELECT count() FROM json_each(?4))
AND NOT EXISTS (SELECT quota, limit_value, period, hard FROM plan_quotas WHERE plan = ?1
    EXCEPT SELECT key, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?4))"""


def still(plan: Plan) -> Guard:
    """The plan is what it was."""
    same = f"id = ?1 AND name IS ?2 AND {same_permissions('plan_permissions', 'plan')} AND {_SAME_QUOTAS}"
    args = (plan.id, plan.name, as_json(plan.permissions), _quotas_as_json(plan))
    return guard("plans", same, args, PreconditionFailed("The plan was changed in the meantime."))


def _quotas_as_json(plan: Plan) -> str:
    """An object of arrays."""
    quotas = {name: msgspec.structs.astuple(quota) for name, quota in plan.quotas.items()}
    return msgspec.json.encode(quotas).decode()


async def apply_plans(db: Store, desired: Iterable[Plan]) -> tuple[list[PlanDifference], int | None]:
    """Make the desired plans exactly so, all or none; plans that are not among them stay as they are.

    Returns what changed, and the `seq` of the commit (None: nothing had to be written).
    """
    desired = list(desired)
    differences = await compare_plans(db, desired)
    if not differences:
        return [], None
    statements = [statement for plan in desired for statement in plan_statements(plan)]
    with refusals():
        return differences, (await db.write(*statements)).seq
