"""``gateway audit``: who did what; and the entries that the commands themselves leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gateway.cli.invocation import actor, json_option, on_database
from gateway.cli.printing import show_table
from gateway.cli.values import PAST, WHO
from gateway.errors import NotFound
from gateway.store.accounts import look_up_user
from gateway.store.audit import ACTIONS, Action, Audited, Entry, Lookup, Store, list_audit
from gateway.store.database import Database


@click.command("audit")
@click.option("--user", "who", metavar="USER", type=WHO, help="Only what this user did, and what was done to it.")
@click.option("--action", metavar="ACTION", type=click.Choice(ACTIONS), help="Only this, such as user.plan.")
@click.option("--since", type=PAST, help="Only what was done since then.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most this many.")
@json_option
@on_database
async def audit(db: Database, who: str | None, action: str | None, since: int | None, limit: int) -> None:
    """Show who did what, when, and from where: the newest first.

    With --json also what each change found and left. USER is an id, a user name or an e-mail address; the id of a user
    who is gone is understood too.
    """
    found = await list_audit(db, user=await _user(db, who), action=action, since=since, limit=limit)
    show_table(found, ["id", "at", "actor", "action", "target", "address", "outcome"])


async def _user(db: Database, who: str | None) -> str | None:
    if who is None:
        return None
    try:
        return (await look_up_user(db, who)).id
    except NotFound:
        return who


def entry(
    action: Action,
    target: str,
    *,
    before: Lookup | None = None,
    after: Mapping[str, Any] | None = None,
    outcome: str = "ok",
) -> Entry:
    """What the trail is to say of what this command does."""
    return Entry(actor(), action, target, "", outcome, before, after)


def audited(
    db: Store,
    action: Action,
    target: str,
    *,
    before: Lookup | None = None,
    after: Mapping[str, Any] | None = None,
) -> Audited:
    """The database, whose next write leaves this entry."""
    return Audited(db, entry(action, target, before=before, after=after))
