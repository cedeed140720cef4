"""``gateway org``: organizations, their members, and what members may take of the pool."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from gateway.cli.audit import audited
from gateway.cli.invocation import json_option, on_database
from gateway.cli.printing import show_done, show_record, show_table
from gateway.cli.values import (
    ATTRIBUTE,
    ID,
    LIMIT,
    NAME,
    PERMISSION,
    PLAN,
    QUOTA,
    TIMEZONE,
    WHO,
    checked_attributes,
    limit_value,
    new_id,
)
from gateway.store import organizations
from gateway.store.accounts import Status, look_up_user
from gateway.store.audit import Audited
from gateway.store.database import Database
from gateway.store.organizations import MEMBER_ROLES, MemberCap, MemberRole, Organization

_ORG = click.argument("organization", metavar="ORG", type=ID)
_WHO = click.argument("who", metavar="USER", type=WHO)


@click.group()
def org() -> None:
    """Organizations. ORG is an id; USER is an id, a user name or an e-mail address."""


@org.command("add")
@click.argument("name", type=NAME)
@click.option("--plan", type=PLAN, default="free", show_default=True, help="The plan whose quotas its members share.")
@click.option("--timezone", type=TIMEZONE, default="UTC", show_default=True, help="IANA zone: when months begin.")
@click.option("--attribute", "attributes", type=ATTRIBUTE, multiple=True, help="A further field.")
@click.option("--id", "organization_id", type=ID, help="The id; without it, a new one.")
@json_option
@on_database
async def add(
    db: Database,
    name: str,
    plan: str,
    timezone: str,
    attributes: tuple[tuple[str, Any], ...],
    organization_id: str | None,
) -> None:
    """Add an organization."""
    new = Organization(
        id=organization_id or new_id("o_"),
        name=name,
        plan=plan,
        timezone=timezone,
        attributes=checked_attributes(attributes),
    )
    changing = audited(db, "org.create", f"org:{new.id}", after=told(new))
    seq = await organizations.add_organization(changing, new)
    show_done(f"Added {name}, id {new.id}.", id=new.id, name=name, seq=seq)


def told(organization: Organization) -> dict[str, Any]:
    """A new organization, as the audit trail has it."""
    fields: dict[str, Any] = msgspec.to_builtins(organization)
    return {name: value for name, value in fields.items() if name not in ("created_at", "updated_at")}


def _changing(db: Database, organization: str, **after: Any) -> Audited:
    before = organizations.organization_before(organization)
    return audited(db, "org.update", f"org:{organization}", before=before, after=after)


@org.command("list")
@click.option("--after", type=WHO, default="", help="Only those whose id comes after this one.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most this many.")
@json_option
@on_database
async def list_command(db: Database, after: str, limit: int) -> None:
    """List organizations in the order of their ids."""
    found = await organizations.list_organizations(db, after=after, limit=limit)
    show_table(found, ["id", "name", "plan", "status", "timezone"])


@org.command("show")
@_ORG
@json_option
@on_database
async def show(db: Database, organization: str) -> None:
    """Show an organization with its members and their caps."""
    found = await organizations.find_organization(db, organization)
    members = await organizations.list_members(db, organization)
    show_record(found, members=members, caps=await organizations.list_caps(db, organization))


@org.command("plan")
@_ORG
@click.argument("plan", type=PLAN)
@json_option
@on_database
async def plan_command(db: Database, organization: str, plan: str) -> None:
    """Put an organization on a plan."""
    seq = await organizations.set_organization_plan(_changing(db, organization, plan=plan), organization, plan)
    show_done(f"{organization} is on {plan}.", id=organization, plan=plan, seq=seq)


@org.command("disable")
@_ORG
@json_option
@on_database
async def disable(db: Database, organization: str) -> None:
    """Take an organization out of its members' documents, until enabled again."""
    await _set_status(db, organization, "disabled")


@org.command("enable")
@_ORG
@json_option
@on_database
async def enable(db: Database, organization: str) -> None:
    """Bring a disabled organization back."""
    await _set_status(db, organization, "active")


async def _set_status(db: Database, organization: str, status: Status) -> None:
    changing = _changing(db, organization, status=status)
    seq = await organizations.set_organization_status(changing, organization, status)
    show_done(f"{organization} is {status}.", id=organization, status=status, seq=seq)


@org.command("delete")
@_ORG
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@on_database
async def delete(db: Database, organization: str, yes: bool) -> None:
    """Delete an organization with its memberships, caps and balances."""
    found = await organizations.find_organization(db, organization)
    if not yes:
        click.confirm(f"Delete {found.name} ({found.id}) for good?", abort=True, err=True)
    before = organizations.organization_before(organization)
    changing = audited(db, "org.delete", f"org:{organization}", before=before)
    seq = await organizations.delete_organization(changing, organization)
    show_done(f"Deleted {found.name}.", id=organization, seq=seq)


@org.command("member")
@_ORG
@_WHO
@click.argument("role", type=click.Choice(MEMBER_ROLES), default="member")
@click.option("--remove", is_flag=True, help="End the membership.")
@json_option
@on_database
async def member(db: Database, organization: str, who: str, role: MemberRole, remove: bool) -> None:
    """Make a user a member with a role (owner, admin, member), or end the membership."""
    found = await look_up_user(db, who)
    before = organizations.member_before(organization, found.id)
    after = {"user_id": found.id, "role": None if remove else role}
    changing = audited(db, "org.member", f"org:{organization}", before=before, after=after)
    had = await organizations.find_member_role(db, organization, found.id)
    if remove:
        seq = await organizations.remove_member(changing, organization, found.id, before=had)
        show_done(f"{found.username} has left {organization}.", id=organization, user_id=found.id, seq=seq)
    else:
        seq = await organizations.set_member(changing, organization, found.id, role, before=had)
        sentence = f"{found.username} is in {organization} as {role}."
        show_done(sentence, id=organization, user_id=found.id, role=role, seq=seq)


@org.command("cap")
@_ORG
@_WHO
@click.argument("quota", type=QUOTA)
@click.argument("limit", type=LIMIT, required=False)
@click.option("--remove", is_flag=True, help="Lift the cap.")
@json_option
@on_database
async def cap(db: Database, organization: str, who: str, quota: str, limit: int | str | None, remove: bool) -> None:
    """Bound what a member may take of a pooled quota in a period."""
    found = await look_up_user(db, who)
    before = organizations.cap_before(organization, found.id, quota)
    target = f"org:{organization}"
    if remove:
        changing = audited(db, "org.member", target, before=before)
        seq = await organizations.remove_cap(changing, organization, found.id, quota)
        show_done(f"{found.username} has no cap on {quota}.", id=organization, user_id=found.id, quota=quota, seq=seq)
        return
    if limit is None:
        raise click.UsageError("say which LIMIT, or --remove")
    row = MemberCap(found.id, quota, limit_value(limit))
    changing = audited(db, "org.member", target, before=before, after=msgspec.structs.asdict(row))
    seq = await organizations.set_cap(changing, organization, row)
    sentence = f"{found.username} may take {limit} of {quota}."
    show_done(sentence, id=organization, user_id=found.id, quota=quota, limit=row.limit, seq=seq)


@org.command("role")
@click.argument("role", type=click.Choice(MEMBER_ROLES), required=False)
@click.argument("permissions", type=PERMISSION, nargs=-1)
@click.option("--clear", is_flag=True, help="Let the role grant nothing.")
@json_option
@on_database
async def role_command(db: Database, role: MemberRole | None, permissions: tuple[str, ...], clear: bool) -> None:
    """Show what each membership role grants, or let ROLE grant exactly PERMISSIONS, in every organization."""
    if role is None or not (permissions or clear):
        granted = await organizations.read_role_permissions(db)
        show_record({name: granted[name] for name in granted if role in (None, name)})
        return
    if permissions and clear:
        raise click.UsageError("name permissions, or --clear")
    wanted = sorted(set(permissions))
    before = organizations.role_permissions_before(role)
    changing = audited(db, "role.write", f"role:org.{role}", before=before, after={"permissions": wanted})
    seq = await organizations.set_role_permissions(changing, role, wanted)
    show_done(f"{role} grants {', '.join(wanted) or 'nothing'}.", role=role, permissions=wanted, seq=seq)
