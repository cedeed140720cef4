"""``gateway quota``: what is left of quotas, and who took what of them."""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Any, NamedTuple

import click
import msgspec

from gateway.cli.audit import entry
from gateway.cli.explain import user_facts
from gateway.cli.invocation import actor, invocation, json_option, on_database
from gateway.cli.printing import show_done, show_json, show_sentences, show_table, shown_moment
from gateway.cli.signed import SignedCommand
from gateway.cli.values import AMOUNT, DIFFERENCE, ID, KEY, PAST, QUOTA, REASON, TOTAL, UNLIMITED, WHO
from gateway.core.sections import pool_quotas, quotas_section
from gateway.core.spending import Order, Spent
from gateway.errors import NotFound, QuotaExceeded, StoreError, StoreUncertain, Uncertain
from gateway.store.accounts import find_user, look_up_user
from gateway.store.adjustments import Adjustment, adjust
from gateway.store.catalog import load_catalog
from gateway.store.database import Database
from gateway.store.documents import BadDocument, load_organizations
from gateway.store.ledger import list_ledger
from gateway.store.open_leases import list_open_leases
from gateway.store.organizations import find_organization
from gateway.store.quotas import Quotas

_WHO = click.argument("who", metavar="WHO", type=WHO)
_KEY = click.option("--key", type=KEY, help="Name this request: asked for again under its name, it is made once.")
_USER, _POOL = "user:", "org:"


@click.group()
def quota() -> None:
    """What was taken of quotas.

    WHO is a user (id, name, e-mail address or user:ID), or org:ID for what an organization's members share.
    """


class Owner(NamedTuple):
    """Who has quotas: as the database names them (``user:ID``, ``org:ID``), and as they are shown."""

    document: str
    name: str


async def _owner(db: Database, who: str) -> Owner:
    if who.startswith(_POOL):
        found = await find_organization(db, who.removeprefix(_POOL))
        return Owner(f"{_POOL}{found.id}", found.id)
    user = await (find_user(db, who.removeprefix(_USER)) if who.startswith(_USER) else look_up_user(db, who))
    return Owner(f"{_USER}{user.id}", user.username)


@quota.command("show")
@_WHO
@click.argument("quota", metavar="[QUOTA]", type=QUOTA, required=False)
@json_option
@on_database
async def show(db: Database, who: str, quota: str | None) -> None:
    """Show how much of each quota is left, until when, and which leases hold units of it."""
    owner = await _owner(db, who)
    entries = await _entries(db, owner, db.clock())
    if quota is not None:
        if quota not in entries:
            raise NotFound(f"{owner.name} has no quota {quota}.")
        entries = {quota: entries[quota]}
    leases = [
        _shown_periods(msgspec.structs.asdict(lease))
        for lease in await list_open_leases(db, owner.document, quota=quota)
    ]
    if invocation().as_json:
        show_json({"owner": owner.document, "quotas": entries, "leases": leases})
        return
    if entries:
        rows = [{"quota": name, "limit": UNLIMITED} | shown for name, shown in sorted(entries.items())]
        columns = ["quota", "used", "reserved", "limit", "remaining", "period", "hard", "resets_at", "level"]
        show_table(rows, columns)
    else:
        show_sentences([f"{owner.name} has no quotas."])
    if leases:
        show_sentences([""])
        rows = [lease | {"lease": lease["id"]} for lease in leases]
        show_table(rows, ["lease", "quota", "held", "spender", "expires_at"])


def _shown_periods(record: dict[str, Any]) -> dict[str, Any]:
    """With the bounds of periods as moments are shown."""
    bounds = {name: record[name] for name in ("period_start", "period_end") if record.get(name) is not None}
    return record | {name: shown_moment(at) for name, at in bounds.items()}


async def _entries(db: Database, owner: Owner, now: int) -> dict[str, dict[str, Any]]:
    """The owner's quotas, as documents show them."""
    kind, _, name = owner.document.partition(":")
    if kind == "user":
        facts, catalog = await user_facts(db, name, now)
        entries: dict[str, dict[str, Any]] = msgspec.json.decode(quotas_section(facts, catalog, now).content)
        return entries
    async with db.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        loaded = (await load_organizations(snapshot, {name: False}, catalog, now))[name]
    if loaded is None or isinstance(loaded, BadDocument):
        reason = "it is gone" if loaded is None else loaded.reason
        raise StoreError(f"the quotas of {owner.document} can not be worked out: {reason}")
    return pool_quotas(loaded, catalog, now)[0]


@quota.command("consume", cls=SignedCommand)
@click.argument("who", metavar="USER", type=WHO)
@click.argument("quota", type=QUOTA)
@click.argument("amount", type=AMOUNT, default=1)
@_KEY
@click.option("--org", "organization", type=ID, help="Take it from what the members of this organization share.")
@json_option
@on_database
async def consume(db: Database, who: str, quota: str, amount: int, key: str | None, organization: str | None) -> None:
    """Take AMOUNT units (1) of a quota, all or none, as the user would.

    A hard limit is never passed. The units are taken once, however often the command is given with the same --key;
    without one it makes a new one and prints it.
    """
    if who.startswith(_POOL):
        raise click.UsageError("who takes from a pool is a member: name the user, and --org")
    spender = await _owner(db, who)
    owner = spender if organization is None else await _owner(db, f"{_POOL}{organization}")
    quotas = await _quotas(db)
    order = Order(spender.document, owner.document, quota, amount, key or _new_key(db))
    with _Told(order.key):
        try:
            spent = await quotas.spender.consume(order)
        except NotFound:
            raise NotFound(_not_to_be_taken(owner, spender.name, quota)) from None
    sentence = f"{spender.name} took {amount} of {quota}{_of_pool(organization)}"
    fields = {"spender": order.spender, "owner": order.owner, "quota": quota, "amount": amount, "key": order.key}
    _show_spent(sentence, spent, **fields)


@quota.command("adjust", cls=SignedCommand)
@_WHO
@click.argument("quota", type=QUOTA)
@click.argument("amount", metavar="[AMOUNT]", type=DIFFERENCE, required=False)
@click.option("--set", "total", type=TOTAL, help="Make so much used, whatever it was: for seats and the like.")
@click.option("--reason", type=REASON, required=True, help="Why: the ledger keeps it.")
@_KEY
@json_option
@on_database
async def adjust_command(
    db: Database, who: str, quota: str, amount: int | None, total: int | None, reason: str, key: str | None
) -> None:
    """Put a balance right: add AMOUNT to what is used, or take it away (-5), or --set it.

    What adds obeys a hard limit, and nothing goes below zero. The correction is made once, however often the command is
    given with the same --key; without one it makes a new one and prints it.
    """
    if (amount is None) == (total is None):
        raise click.UsageError("say which AMOUNT, or --set")
    owner, bases = await _owner(db, who), (await _quotas(db)).bases
    value = amount if total is None else total
    key = key or _new_key(db)
    adjustment = Adjustment(actor(), owner.document, quota, value or 0, total is not None, reason, key)
    left = entry("quota.adjust", owner.document)
    with _Told(key):
        try:
            spent = await adjust(db, adjustment, now=db.clock(), bases=bases, entry=left)
        except NotFound:
            raise NotFound(f"{owner.name} has no quota {quota}.") from None
    how = f"is set to {total}" if amount is None else f"is corrected by {amount:+}"
    fields = {"owner": owner.document, "quota": quota, "amount": amount, "set": total, "reason": reason, "key": key}
    _show_spent(f"{quota} of {owner.name} {how}", spent, **fields)


@quota.command("ledger")
@_WHO
@click.argument("quota", metavar="[QUOTA]", type=QUOTA, required=False)
@click.option("--since", type=PAST, help="Only what was booked since then.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most this many.")
@json_option
@on_database
async def ledger(db: Database, who: str, quota: str | None, since: int | None, limit: int) -> None:
    """Show what moved balances, by how much and what it left, who took it and why: the newest first.

    The name that a deleted user or organization had in the ledger (user:ID, org:ID) is understood too.
    """
    try:
        owner = (await _owner(db, who)).document
    except NotFound:
        owner = who if who.startswith((_USER, _POOL)) else f"{_USER}{who}"
        if not await list_ledger(db, owner, limit=1):
            raise
    found = await list_ledger(db, owner, quota=quota, since=since, limit=limit)
    columns = ["id", "at", "kind", "quota", "used", "reserved", "used_after", "reserved_after"]
    show_table(
        [_shown_periods(entry._asdict()) for entry in found],
        [*columns, "spender", "instance", "key", "lease", "reason"],
    )


async def _quotas(db: Database) -> Quotas:
    """What spends, once nothing is held any more whose time is over: it may be that no gateway runs that sees to it."""
    quotas = Quotas(db, db.clock)
    while await quotas.leases.end_due():
        pass
    return quotas


def _of_pool(organization: str | None) -> str:
    return f" of {organization}" if organization else ""


def _not_to_be_taken(owner: Owner, spender: str, quota: str) -> str:
    if owner.document.startswith(_POOL):
        return f"{owner.name} has no quota {quota}, or {spender} is no member of it, or one of them is disabled."
    return f"{spender} has no quota {quota}, or is disabled."


def _new_key(db: Database) -> str:
    """A key that nobody has; those of later moments come later."""
    return f"{db.clock():012x}{secrets.token_hex(10)}"


class _Told:
    """Says by what key to ask again, where it is not known what came of a request."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, asyncio.CancelledError):
            print(f"It may have been made: repeat it with --key {self._key}", file=sys.stderr)
        elif isinstance(error, Uncertain | StoreUncertain):
            raise Uncertain(f"It is not known whether it was made: repeat it with --key {self._key}") from None
        elif isinstance(error, QuotaExceeded) and "resets_at" in error.details:
            raise QuotaExceeded(f"{error.message} It begins anew at {error.details['resets_at']}.") from None


def _show_spent(sentence: str, spent: Spent, **fields: Any) -> None:
    shown = spent.balance.entry()
    words = [f"{sentence}: {shown['used']} used"]
    if "limit" in shown:
        words.append(f", {shown['reserved']} reserved of {shown['limit']}, {shown['remaining']} left")
    if "cap_remaining" in shown:
        words.append(f", {shown['cap_remaining']} of the member's share")
    if "resets_at" in shown:
        words.append(f" until {shown['resets_at']}")
    show_done(f"{''.join(words)}. Key {fields['key']}", **fields, **shown, seq=spent.seq)
