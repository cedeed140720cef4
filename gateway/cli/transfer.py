"""``gateway export`` and ``gateway import``: users and all that belongs to them, from one database into another."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import click
import msgspec

from gateway.cli.audit import entry
from gateway.cli.exits import ExitCode, Repeatable, printable
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import progress, show_json, show_sentences, show_table
from gateway.errors import StoreUnavailable, StoreUncertain
from gateway.store.address import FileAddress, parse_address
from gateway.store.audit import record
from gateway.store.database import Database
from gateway.store.transfer import (
    AS_STORED,
    LEFT_OUT,
    REFUSED,
    Counts,
    Draft,
    Exported,
    FileReader,
    Outcome,
    Remark,
    Rules,
    count_records,
    import_file,
    new_file,
    read_everything,
    write_export,
)

_STANDARD = "-"
_FILE = click.Path(dir_okay=False, allow_dash=True)


@click.command("export")
@click.argument("file", type=_FILE)
@click.option("--overwrite", is_flag=True, help="Replace FILE when it is there.")
@json_option
@on_database
async def export_command(db: Database, file: str, overwrite: bool) -> int:
    """Write users, organizations, plans and roles to FILE (- is standard output).

    JSON Lines, of one moment, with password and token hashes and balances; login sessions stay behind. Exit code 1
    when a record had to be left out, or no import will take it.
    """
    if file == _STANDARD and invocation().as_json:
        raise click.UsageError("standard output can not take both the file and --json")
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(_target(file, overwrite))
        draft = stack.enter_context(contextlib.closing(Draft()))
        with progress("Reading", await count_records(db)) as advance:
            position = await read_everything(db, draft, advance)
        exported = await write_export(db, draft, position, out)
        remarks = list(draft.remarks())
    _show_export(file, exported, remarks)
    return ExitCode.FINDINGS if any(remark.what != AS_STORED for remark in remarks) else ExitCode.OK


@click.command("import")
@click.argument("file", type=_FILE)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--overwrite", is_flag=True, help="Make what is there, and differs, as FILE says.")
@click.option("--as-stored", is_flag=True, help="Take names and values that only SQL takes, too.")
@json_option
def import_command(file: str, dry_run: bool, overwrite: bool, as_stored: bool) -> int:
    """Put what `gateway export` wrote into the database (- is standard input).

    The file is read through before anything is written. Each record goes in whole or not at all; what is there in the
    same form is left alone, so an interrupted import is finished by running it again. Exit code 1 when a record was
    refused.
    """
    name = "standard input" if file == _STANDARD else file
    with _source(file) as content:
        size = content.seek(0, 2)
        with progress("Checking", size) as advance:
            header = FileReader(content, name, advance).verify()
        source = {"exported_at": header.exported_at, "epoch": header.epoch}
        outcomes: list[Outcome] = []
        with progress("Importing", size) as advance:
            reader = FileReader(content, name, advance)
            rules = Rules(overwrite=overwrite, as_stored=as_stored, dry_run=dry_run)
            counts = on_database(_import)(reader, rules, source, outcomes)
    _show_import(counts, outcomes, dry_run, source)
    return ExitCode.FINDINGS if any(count.refused for count in counts) else ExitCode.OK


async def _import(
    db: Database, reader: FileReader, rules: Rules, source: dict[str, str], outcomes: list[Outcome]
) -> list[Counts]:
    """It takes many commits, so the trail has two entries of it: that it began, and what came of it."""

    def told(outcome: Outcome) -> None:
        if invocation().as_json:
            outcomes.append(outcome)
        else:
            show_sentences([_sentence(outcome, rules.dry_run)])

    begun = entry("import", "database", outcome="begun", after=source | {"overwrite": rules.overwrite})
    try:
        if rules.dry_run:
            return await import_file(db, reader, rules, told)
        await db.write(record(begun, db.clock()))
        counts = await import_file(db, reader, rules, told)
        done = entry("import", "database", after={"counts": msgspec.to_builtins(counts)})
        await db.write(record(done, db.clock()))
        return counts
    except (StoreUnavailable, StoreUncertain) as error:
        raise going_on(error) from error


def going_on(error: StoreUnavailable | StoreUncertain) -> StoreUnavailable | StoreUncertain:
    """The error that broke an import off, with what to do: run it again, also where a record may be in already."""
    if isinstance(error, StoreUncertain):
        again = "the same command goes on: a record that is in already is left alone, and balances are set, not added"
        return Repeatable(f"{error}; what went in stays, and {again}")
    return StoreUnavailable(f"{error}; what went in stays, and the same command goes on")


@contextlib.contextmanager
def _target(file: str, overwrite: bool) -> Iterator[BinaryIO]:
    """Where the file goes: it is in its place when the block has ended well."""
    if file == _STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    address = parse_address(invocation().config.database.url)
    database = address.path if isinstance(address, FileAddress) else None
    with new_file(Path(file), overwrite=overwrite, database=database) as out:
        yield out


@contextlib.contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    """The file, so that it can be read twice: what comes through a pipe is kept in one without a name."""
    with contextlib.ExitStack() as stack:
        content = sys.stdin.buffer if file == _STANDARD else stack.enter_context(Path(file).open("rb"))
        if file != _STANDARD and content.seekable():
            yield content
            return
        kept = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(content, kept)
        yield cast(BinaryIO, kept)


def _show_export(file: str, exported: Exported, remarks: list[Remark]) -> None:
    if invocation().as_json:
        notes = [remark._asdict() for remark in remarks]
        show_json({"file": file, **exported._asdict(), "remarks": notes})
        return
    lines = [f"{remark.kind} {remark.id}: {_REMARKS[remark.what]}: {remark.reason}" for remark in remarks]
    counted = ", ".join(f"{count} {kind}" for kind, count in exported.counts.items()) or "nothing"
    to_standard = file == _STANDARD
    lines.append(f"Wrote {'standard output' if to_standard else file}: {counted}.")
    for sentence in lines:
        print(printable(sentence), file=sys.stderr if to_standard else sys.stdout)


_REMARKS = {
    LEFT_OUT: "left out",
    AS_STORED: "an import takes it with --as-stored only",
    REFUSED: "no import takes it",
}


def _show_import(counts: Iterable[Counts], outcomes: list[Outcome], dry_run: bool, source: dict[str, str]) -> None:
    if invocation().as_json:
        show_json({"dry_run": dry_run, **source, "counts": counts, "records": outcomes})
        return
    shown = [count for count in counts if any(msgspec.structs.astuple(count)[1:])]
    if shown:
        show_table(shown, ["kind", "added", "changed", "same", "refused"])
    show_sentences(["Nothing was written: this is what would be done." if dry_run else "Done."])


def _sentence(outcome: Outcome, dry_run: bool) -> str:
    what = f"would be {outcome.what}" if dry_run else outcome.what
    return f"line {outcome.line}: {outcome.kind} {outcome.id}: {what}: {outcome.reason}"
