"""``gateway explain``: why a user may do something, or has a quota."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import plain, show_json, show_sentences, show_table, shown_moment
from gateway.cli.values import PERMISSION, QUOTA, WHO
from gateway.core.explanations import PermissionAnswer, QuotaAnswer, why_permission, why_quota
from gateway.core.facts import Catalog, UserFacts
from gateway.errors import StoreError
from gateway.store.accounts import look_up_user
from gateway.store.catalog import load_catalog
from gateway.store.database import Database
from gateway.store.documents import LoadedUser, Part, load_users


@click.command()
@click.argument("who", metavar="USER", type=WHO)
@click.argument("permission", metavar="[PERMISSION]", type=PERMISSION, required=False)
@click.option("--quota", type=QUOTA, help="Explain this quota instead.")
@json_option
@on_database
async def explain(db: Database, who: str, permission: str | None, quota: str | None) -> None:
    """Say why a user may do something, or not.

    Shows every plan, role, grant and denial that names the permission, whether it counts, until when, and its row; with
    --quota every limit and balance.
    """
    if (permission is None) == (quota is None):
        raise click.UsageError("name a permission, or --quota")
    user, now = await look_up_user(db, who), db.clock()
    facts, catalog = await user_facts(db, user.id, now)
    if permission is not None:
        held = why_permission(user.id, facts, catalog, permission, now)
        verdict = f"{user.username} {'has' if held.allowed else 'does not have'} {permission}."
        if user.is_admin and facts.active:
            verdict += " An administrator may do everything."
        _show(held, verdict)
    elif quota is not None:
        answer = why_quota(user.id, facts, catalog, quota, now)
        no_quota = f"{user.username} does not have the quota {quota}."
        _show(answer, no_quota if answer.balance is None else _balance(quota, answer.balance))


async def user_facts(db: Database, user_id: str, now: int) -> tuple[UserFacts, Catalog]:
    """What the database says of one user, of one moment. `now`: milliseconds since 1970 UTC. Raises StoreError where no
    document can be built of it."""
    async with db.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        loaded = (await load_users(snapshot, {user_id: (Part.ALL, None)}, catalog, now))[user_id]
    if not isinstance(loaded, LoadedUser):
        reason = "it is gone" if loaded is None else loaded.reason
        raise StoreError(f"the document of user {user_id} can not be built: {reason}")
    return loaded.facts, catalog


def _balance(quota: str, entry: dict[str, Any]) -> str:
    if "limit" not in entry:
        return f"{quota}: {entry['used']} used, unlimited."
    return (
        f"{quota}: {entry['used']} used and {entry['reserved']} reserved of {entry['limit']}"
        f" a {entry['period']}, {entry['remaining']} left."
    )


def _show(answer: PermissionAnswer | QuotaAnswer, verdict: str) -> None:
    if invocation().as_json:
        show_json(answer)
        return
    until = "" if answer.changes_at is None else f" That may change at {shown_moment(answer.changes_at)}."
    show_sentences([verdict + until])
    if answer.reasons:
        rows = [plain(reason) | {"row": " ".join(map(str, reason.row.values()))} for reason in answer.reasons]
        columns = ["source", "name", "effect", "limit", "period", "used", "counts", "starts_at", "expires_at", "row"]
        show_table(rows, [column for column in columns if any(row.get(column) not in (None, "") for row in rows)])
    else:
        show_sentences(["No row has to do with it."])
