"""``gateway user``: who exists, on which plan, with which permissions and quotas of their own."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from gateway.auth.revoker import OtherSessions, Revoker, UserDeleted, UserDisabled
from gateway.auth.revoking_store import RevokingStore
from gateway.cli import passwords
from gateway.cli.audit import audited, entry
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_done, show_record, show_table
from gateway.cli.values import (
    ATTRIBUTE,
    EMAIL,
    ID,
    LIMIT,
    MOMENT,
    NAME,
    PERIOD,
    PERMISSION,
    PLAN,
    QUOTA,
    TIMEZONE,
    USERNAME,
    WHO,
    checked_attributes,
    limit_value,
    new_id,
)
from gateway.errors import NoRowChanged, NotFound
from gateway.store import accounts, grants
from gateway.store.accounts import User, user_before
from gateway.store.audit import Action
from gateway.store.credentials import ApiToken, LoginSession, list_sessions, list_tokens
from gateway.store.database import Database
from gateway.store.grants import Effect, QuotaRow
from gateway.store.plans import PlanQuota, find_plan

_WHO = click.argument("who", metavar="USER", type=WHO)


@click.group()
def user() -> None:
    """Users. USER is an id, a user name or an e-mail address."""


@user.command("add")
@click.argument("username", type=USERNAME)
@click.option("--name", type=NAME, default="", help="The name to show.")
@click.option("--email", type=EMAIL, help="An address that nobody else has.")
@click.option("--plan", type=PLAN, default="free", show_default=True, help="The plan's id.")
@click.option("--admin", is_flag=True, help="May do everything.")
@click.option(
    "--timezone", type=TIMEZONE, default="UTC", show_default=True, help="IANA zone: when days and months begin."
)
@click.option("--attribute", "attributes", type=ATTRIBUTE, multiple=True, help="A further field of the identity.")
@click.option("--id", "user_id", type=ID, help="The id; without it, a new one.")
@click.option("--password", "source", flag_value="ask", help="Ask for a password at the terminal.")
@click.option("--password-stdin", "source", flag_value="stdin", help="Take the password from standard input.")
@click.option("--generate-password", "source", flag_value="generate", help="Make a password and print it, this once.")
@json_option
@on_database
async def add(
    db: Database,
    /,
    username: str,
    user_id: str | None,
    admin: bool,
    attributes: tuple[tuple[str, Any], ...],
    source: str | None,
    **fields: Any,
) -> None:
    """Add a user, who can sign in with a password where one is given."""
    new = User(
        id=user_id or new_id("u_"),
        username=username,
        is_admin=admin,
        attributes=checked_attributes(attributes),
        **fields,
    )
    password = None if source is None else _new_password(new, source)
    password_hash = None if password is None else passwords.hash_new(password, new, invocation().config.auth)
    changing = audited(db, "user.create", f"user:{new.id}", after=told(new))
    seq = await accounts.add_user(changing, new, password_hash)
    _show_password(f"Added {username}, id {new.id}.", password, source, id=new.id, username=username, seq=seq)


def _new_password(user: User, source: str) -> str:
    match source:
        case "stdin":
            return passwords.read_line()
        case "generate":
            return passwords.generated(user, invocation().config.auth)
        case _:
            return passwords.ask(user.username)


def _show_password(sentence: str, password: str | None, source: str | None, **fields: Any) -> None:
    """What was done, and a password that nobody knows yet: it is shown this once."""
    if source != "generate":
        show_done(sentence, **fields)
    elif invocation().as_json:
        show_done(sentence, **fields, password=password)
    else:
        click.echo(password)
        click.echo(f"{sentence} The password is shown this once.", err=True)


def told(user: User) -> dict[str, Any]:
    """A new user, as the audit trail has it."""
    fields: dict[str, Any] = msgspec.to_builtins(user)
    return {name: value for name, value in fields.items() if name not in ("created_at", "updated_at")}


@user.command("password")
@_WHO
@click.option("--stdin", "source", flag_value="stdin", help="Take it from standard input.")
@click.option("--generate", "source", flag_value="generate", help="Make one and print it, this once.")
@json_option
@on_database
async def password_command(db: Database, who: str, source: str | None) -> None:
    """Set a user's password, asked at the terminal unless told otherwise, and end all sessions of the user."""
    found = await accounts.look_up_user(db, who)
    password = _new_password(found, source or "ask")
    stored = passwords.hash_new(password, found, invocation().config.auth)
    try:
        revoked = await Revoker(db, None, db.clock).revoke(
            OtherSessions(found.id, None),
            accounts.password_statement(found.id, stored),
            entry=entry("password.reset", f"user:{found.id}"),
        )
    except NoRowChanged:
        raise NotFound(f"There is no user {found.id}.") from None
    sentence = f"{found.username} has a new password; {revoked.count} sessions ended."
    _show_password(sentence, password, source, id=found.id, sessions=revoked.count, seq=revoked.seq)


@user.command("list")
@click.option("--plan", type=PLAN, help="Only those on this plan.")
@click.option("--status", type=click.Choice(["active", "disabled"]), help="Only those.")
@click.option("--after", type=WHO, default="", help="Only those whose user name comes after this one.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most this many.")
@json_option
@on_database
async def list_command(db: Database, /, **filters: Any) -> None:
    """List users in the order of their names."""
    found = await accounts.list_users(db, **filters)
    show_table(found, ["id", "username", "name", "email", "plan", "status", "is_admin"])


@user.command("show")
@_WHO
@json_option
@on_database
async def show(db: Database, who: str) -> None:
    """Show a user with all that was granted to this user alone, and how many credentials are in force."""
    found = await accounts.look_up_user(db, who)
    own = await grants.read_grants(db, found.id)
    now = db.clock()
    held: list[ApiToken | LoginSession] = [*await list_tokens(db, found.id), *await list_sessions(db, found.id)]
    alive = sum(item.revoked_at is None and (item.expires_at is None or item.expires_at > now) for item in held)
    has_password = await accounts.read_password_hash(db, found.id) is not None
    show_record(found, password=has_password, **msgspec.structs.asdict(own), credentials=alive)


@user.command("disable")
@_WHO
@json_option
@on_database
async def disable(db: Database, who: str) -> None:
    """Cut a user off everywhere, until enabled again."""
    found = await accounts.look_up_user(db, who)
    before, after = user_before(found.id), {"status": "disabled"}
    left = entry("user.update", f"user:{found.id}", before=before, after=after)
    revoking = RevokingStore(db, None, UserDisabled(found.id), left)
    seq = await accounts.set_status(revoking, found.id, "disabled")
    show_done(f"{found.username} is disabled.", id=found.id, status="disabled", seq=seq)


@user.command("enable")
@_WHO
@json_option
@on_database
async def enable(db: Database, who: str) -> None:
    """Let a disabled user in again."""
    found = await accounts.look_up_user(db, who)
    after = {"status": "active"}
    changing = audited(db, "user.update", f"user:{found.id}", before=user_before(found.id), after=after)
    seq = await accounts.set_status(changing, found.id, "active")
    show_done(f"{found.username} is active.", id=found.id, status="active", seq=seq)


@user.command("delete")
@_WHO
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@on_database
async def delete(db: Database, who: str, yes: bool) -> None:
    """Delete a user with every credential, grant, membership and balance."""
    found = await accounts.look_up_user(db, who)
    if not yes:
        click.confirm(f"Delete {found.username} ({found.id}) for good?", abort=True, err=True)
    left = entry("user.delete", f"user:{found.id}", before=user_before(found.id))
    # Disabled first, which is what the rule of the last administrator is about.
    seq = await accounts.set_status(RevokingStore(db, None, UserDeleted(found.id), left), found.id, "disabled")
    show_done(f"Deleted {found.username}.", id=found.id, seq=seq)


@user.command("plan")
@_WHO
@click.argument("plan", type=PLAN)
@json_option
@on_database
async def plan_command(db: Database, who: str, plan: str) -> None:
    """Put a user on a plan."""
    found = await accounts.look_up_user(db, who)
    changing = audited(db, "user.plan", f"user:{found.id}", before=user_before(found.id), after={"plan": plan})
    seq = await accounts.set_plan(changing, found.id, plan)
    show_done(f"{found.username} is on {plan}.", id=found.id, plan=plan, seq=seq)


@user.command("allow")
@_WHO
@click.argument("permission", type=PERMISSION)
@click.option("--until", type=MOMENT, help="Only until then.")
@click.option("--remove", is_flag=True, help="Neither allow nor deny: leave it to plan and roles.")
@json_option
@on_database
async def allow(db: Database, who: str, permission: str, until: int | None, remove: bool) -> None:
    """Give a user a permission whatever the plan says."""
    await _set_permission(db, who, permission, None if remove else "allow", until)


@user.command("deny")
@_WHO
@click.argument("permission", type=PERMISSION)
@click.option("--until", type=MOMENT, help="Only until then.")
@click.option("--remove", is_flag=True, help="Neither allow nor deny: leave it to plan and roles.")
@json_option
@on_database
async def deny(db: Database, who: str, permission: str, until: int | None, remove: bool) -> None:
    """Take a permission from a user whatever plan and roles say."""
    await _set_permission(db, who, permission, None if remove else "deny", until)


async def _set_permission(db: Database, who: str, permission: str, effect: Effect | None, until: int | None) -> None:
    found = await accounts.look_up_user(db, who)
    before = grants.permission_before(found.id, permission)
    after = {"permission": permission, "effect": effect, "expires_at": until}
    changing = audited(db, "user.permission", f"user:{found.id}", before=before, after=after)
    seq = await grants.set_permission(changing, found.id, permission, effect, until)
    done = {"allow": "allowed", "deny": "denied", None: "left to plan and roles"}[effect]
    show_done(
        f"{permission} is {done} for {found.username}.",
        id=found.id,
        permission=permission,
        effect=effect,
        expires_at=until,
        seq=seq,
    )


@user.command("quota")
@_WHO
@click.argument("quota", type=QUOTA)
@click.argument("limit", type=LIMIT, required=False)
@click.option("--period", type=PERIOD, help="How often it begins anew; without it, as in the plan, else month.")
@click.option("--hard/--soft", default=None, help="Whether the limit can be passed; without it, as in the plan.")
@click.option("--until", type=MOMENT, help="Only until then.")
@click.option("--remove", is_flag=True, help="Leave the quota to the plan.")
@json_option
@on_database
async def quota_command(
    db: Database,
    who: str,
    quota: str,
    limit: int | str | None,
    period: str | None,
    hard: bool | None,
    until: int | None,
    remove: bool,
) -> None:
    """Override a quota of a user's plan: LIMIT is a number or unlimited."""
    found = await accounts.look_up_user(db, who)
    before = grants.quota_before(found.id, quota)
    left: tuple[Action, str] = ("user.quota", f"user:{found.id}")
    if remove:
        seq = await grants.remove_quota(audited(db, *left, before=before), found.id, quota)
        show_done(f"{quota} of {found.username} is left to the plan.", id=found.id, quota=quota, seq=seq)
        return
    if limit is None:
        raise click.UsageError("say which LIMIT, or --remove")
    standing = await _plan_quota(db, found.plan, quota)
    is_hard = standing.hard if hard is None else hard
    row = QuotaRow(quota, limit_value(limit), period or standing.period, is_hard, expires_at=until)
    after = msgspec.structs.asdict(row)
    seq = await grants.set_quota(audited(db, *left, before=before, after=after), found.id, row)
    sentence = f"{quota} of {found.username} is {limit}, period {row.period}, {'hard' if is_hard else 'soft'}."
    show_done(sentence, id=found.id, **after, seq=seq)


async def _plan_quota(db: Database, plan: str, quota: str) -> PlanQuota:
    try:
        return (await find_plan(db, plan)).quotas.get(quota, PlanQuota())
    except NotFound:
        return PlanQuota()
