"""Puts the records of an export into a database, whatever is there already.

Each record is one atomic write. One that is there in the same form is left alone, so an import that was interrupted is
finished by running it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from gateway.errors import NoRowChanged, StoreConflict
from gateway.store.database import Database
from gateway.store.transfer.checks import check_record
from gateway.store.transfer.conflicts import REVOKED, Claims, Surroundings
from gateway.store.transfer.file import FileReader, Numbered
from gateway.store.transfer.reading import PAGE, Scans, Unreadable, read_records
from gateway.store.transfer.records import (
    KIND_OF,
    KINDS,
    Kind,
    OrganizationRoleRecord,
    Record,
    RevocationRecord,
    UserRecord,
    line,
)
from gateway.store.transfer.writing import add_statements, set_statements

GROUP_BYTES = 512 * 1024
"""How much of the file is in hand at once, but for a single record that is larger."""

What: TypeAlias = Literal["added", "changed", "same", "refused"]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one record: `line` is its line in the file, `reason` says why it was refused or what changed."""

    line: int
    kind: str
    id: str
    what: What
    reason: str = ""


class Counts(msgspec.Struct):
    """How many records of one kind there were, by what became of them."""

    kind: str
    added: int = 0
    changed: int = 0
    same: int = 0
    refused: int = 0


class Rules(NamedTuple):
    """How an import goes: `overwrite` makes what is there as the file says, `as_stored` takes what only SQL takes,
    `dry_run` writes nothing."""

    overwrite: bool = False
    as_stored: bool = False
    dry_run: bool = False


class _Plan(NamedTuple):
    """A record that may be written, and what that would be."""

    number: int
    record: Record
    what: What
    reason: str


async def import_file(
    db: Database, file: FileReader, rules: Rules, told: Callable[[Outcome], None] = lambda outcome: None
) -> list[Counts]:
    """Import a file that was verified; `told` hears of every record that is refused or changed, in order.

    Raises the `StoreError` family where the database fails: what was written until then stays, and running it again
    goes on.
    """
    counts = {kind.name: Counts(kind.name) for kind in KINDS}
    claims = Claims()
    try:
        for kind, group in _groups(file.records()):
            for outcome in await _import_group(db, kind, group, claims, rules):
                setattr(counts[kind.name], outcome.what, getattr(counts[kind.name], outcome.what) + 1)
                if outcome.what in ("refused", "changed"):
                    told(outcome)
    finally:
        claims.close()
    return list(counts.values())


def _groups(records: Iterable[Numbered]) -> Iterator[tuple[Kind, list[Numbered]]]:
    """Records of one kind, a page and some megabytes at the most: what comes later may refer to what came before."""
    group: list[Numbered] = []
    size = 0
    for numbered in records:
        if group and (len(group) == PAGE or size > GROUP_BYTES or type(group[0].record) is not type(numbered.record)):
            yield KIND_OF[type(group[0].record)], group
            group, size = [], 0
        group.append(numbered)
        size += numbered.size
    if group:
        yield KIND_OF[type(group[0].record)], group


async def _import_group(
    db: Database, kind: Kind, group: list[Numbered], claims: Claims, rules: Rules
) -> Iterable[Outcome]:
    refused: list[Outcome] = []
    checked: list[Numbered] = []
    for numbered in group:
        try:
            record = check_record(numbered.record, as_stored=rules.as_stored)
            checked.append(numbered._replace(record=record))
        except ValueError as error:
            refused.append(Outcome(numbered.number, kind.name, numbered.record.id, "refused", str(error)))
    plans = await _planned(db, kind, checked, claims, rules)
    done = [*refused, *await asyncio.gather(*(_carried_out(db, kind, plan, rules) for plan in plans))]
    return sorted(done, key=lambda outcome: outcome.line)


async def _planned(db: Database, kind: Kind, group: list[Numbered], claims: Claims, rules: Rules) -> list[_Plan]:
    """What is to be done with each record, in the order of the file."""
    records = [numbered.record for numbered in group]
    standing = await read_records(Scans(db), kind, [record.id for record in records])
    surroundings = await Surroundings.look(db, records)
    plans = []
    for number, record, _ in group:
        found = standing.get(record.id)
        what, reason = _compared(found, record, rules)
        if what == "added" and isinstance(record, RevocationRecord) and claims.line(REVOKED, record.id) is not None:
            what = "same"  # by the triggers, when its user's record went in
        if what in ("added", "changed"):
            if (against := surroundings.against(record, claims)) is not None:
                what, reason = "refused", against
            else:
                claims.take(record, number, None if isinstance(found, Unreadable) else found)
        plans.append(_Plan(number, record, what, reason))
    return plans


def _compared(standing: Record | Unreadable | None, record: Record, rules: Rules) -> tuple[What, str]:
    if standing is None:
        # A role without permissions is no row at all.
        empty = isinstance(record, OrganizationRoleRecord) and not record.permissions
        return ("same" if empty else "added"), ""
    if isinstance(record, RevocationRecord):
        return "same", ""  # what counts is that it is revoked
    if isinstance(standing, UserRecord) and isinstance(record, UserRecord) and record.member_usage is msgspec.UNSET:
        record = msgspec.structs.replace(record, member_usage=standing.member_usage)  # of which the file says nothing
    if isinstance(standing, Unreadable):
        difference = f"what is here can not be read: {standing.reason}"
    elif line(standing) == line(record):
        return "same", ""
    else:
        fields = [
            name for name in record.__struct_fields__ if _json(getattr(standing, name)) != _json(getattr(record, name))
        ]
        difference = f"differs from what is here in {', '.join(fields)}"
    return ("changed" if rules.overwrite else "refused"), difference


def _json(value: object) -> bytes:
    """A value as the file has it: True and 1 differ there."""
    return msgspec.json.encode(value, order="deterministic")


async def _carried_out(db: Database, kind: Kind, plan: _Plan, rules: Rules) -> Outcome:
    outcome = Outcome(plan.number, kind.name, plan.record.id, plan.what, plan.reason)
    if rules.dry_run or plan.what not in ("added", "changed"):
        return outcome
    make = add_statements if plan.what == "added" else set_statements
    try:
        await db.write(*make(plan.record))
    except (StoreConflict, NoRowChanged) as error:
        # What was looked at has changed since, or a rule of the tables says no.
        return msgspec.structs.replace(outcome, what="refused", reason=f"the database refuses it: {error}")
    return outcome
