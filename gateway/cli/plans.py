"""``gateway plan``: what plans permit and limit."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.cli.audit import entry
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_json, show_record, show_sentences, show_table
from gateway.cli.values import PLAN
from gateway.core.text import TEXT_CHECKS, check_permission, check_quota
from gateway.errors import BadRequest
from gateway.store import plans
from gateway.store.audit import Audited, Entry
from gateway.store.database import Database
from gateway.store.plans import Plan, PlanDifference, PlanQuota

_SHOWN = 20
"""Names of those concerned that are printed; ``--json`` has all."""


@click.group()
def plan() -> None:
    """Plans."""


@plan.command("list")
@json_option
@on_database
async def list_command(db: Database) -> None:
    """List plans with what they permit and limit."""
    found = await plans.list_plans(db)
    if invocation().as_json:
        show_json(found)
        return
    quotas = [{name: _amount(quota) for name, quota in item.quotas.items()} for item in found]
    rows = [msgspec.structs.asdict(item) | {"quotas": shown} for item, shown in zip(found, quotas, strict=True)]
    show_table(rows, ["id", "name", "permissions", "quotas"])


@plan.command("show")
@click.argument("plan_id", metavar="PLAN", type=PLAN)
@json_option
@on_database
async def show(db: Database, plan_id: str) -> None:
    """Show one plan."""
    found = await plans.find_plan(db, plan_id)
    if invocation().as_json:
        show_json(found)
        return
    quotas = {name: _amount(quota) for name, quota in found.quotas.items()}
    show_record(msgspec.structs.asdict(found) | {"quotas": quotas})


@plan.command("apply")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say who would gain or lose what.")
@json_option
@on_database
async def apply(db: Database, file: Path, dry_run: bool) -> None:
    """Make plans exactly what the TOML FILE says; plans that it does not name stay as they are."""
    desired = read_plans(file)
    differences, seq = await plans.compare_plans(db, desired), None
    if differences and not dry_run:
        after = {plan.id: plan for plan in desired}
        left = [_entry(after[difference.plan]) for difference in differences]
        differences, seq = await plans.apply_plans(Audited(db, *left), desired)
    if invocation().as_json:
        show_json({"applied": not dry_run, "plans": differences, "seq": seq})
    else:
        lines = [line for difference in differences for line in _sentences(difference)]
        show_sentences(lines or ["All plans are as the file says."])


def _entry(plan: Plan) -> Entry:
    return entry("plan.write", f"plan:{plan.id}", before=plans.plan_before(plan.id), after=told(plan))


def told(plan: Plan) -> dict[str, Any]:
    """A plan, as the audit trail has it."""
    fields: dict[str, Any] = msgspec.to_builtins(plan, order="deterministic")
    return fields


def read_plans(file: Path) -> list[Plan]:
    """The plans of a file: ``[plans.ID]`` with name, permissions and ``[plans.ID.quotas.NAME]``. BadRequest names
    what is wrong.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{file}: not TOML: {error}") from None
    if set(document) != {"plans"} or not isinstance(document["plans"], dict):
        raise BadRequest(f"{file}: only sections [plans.ID] are understood, and there must be one")
    if not document["plans"]:
        raise BadRequest(f"{file}: there must be one section [plans.ID] at least")
    found = []
    for plan_id, table in document["plans"].items():
        try:
            found.append(_plan(plan_id, table))
        except ValueError as error:
            raise BadRequest(f"{file}: plans.{plan_id}: {error}") from None
    return found


def _plan(plan_id: str, table: Any) -> Plan:
    TEXT_CHECKS["plan"](plan_id)
    if not isinstance(table, dict) or "id" in table:
        raise ValueError("must be a section with name, permissions and quotas")
    found = msgspec.convert(table | {"id": plan_id}, Plan)
    TEXT_CHECKS["name"](found.name)
    for permission in found.permissions:
        check_permission(permission)
    for quota in found.quotas:
        check_quota(quota)
    return found


def _sentences(difference: PlanDifference) -> list[str]:
    """What becomes of a plan, and for whom."""
    lines = [f"{difference.plan}: new" if difference.is_new else f"{difference.plan}:"]
    if difference.name is not None:
        lines.append(f"  is called {difference.name}")
    lines += [f"  gains {permission}" for permission in difference.gained]
    lines += [f"  loses {permission}" for permission in difference.lost]
    lines += [
        f"  {quota}: {_amount(change.before)} becomes {_amount(change.after)}"
        for quota, change in difference.quotas.items()
    ]
    for word, ids in (("users", difference.users), ("organizations", difference.organizations)):
        if ids:
            more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
            lines.append(f"  concerns {len(ids)} {word}: {', '.join(ids[:_SHOWN])}{more}")
    return lines


def _amount(quota: PlanQuota | None) -> str:
    if quota is None:
        return "none"
    amount = "unlimited" if quota.limit is None else str(quota.limit)
    return f"{amount}/{quota.period}{'' if quota.hard else ' (soft)'}"
