"""``gateway migrate``, ``backup`` and ``restore``: the database as a whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_done
from gateway.store import backup as copies
from gateway.store import migrate as migrations
from gateway.store.address import file_path
from gateway.store.database import Database

_FILE = click.Path(dir_okay=False, path_type=Path)


async def _migrate(db: Database) -> None:
    applied = await migrations.migrate(db)
    titles = ", ".join(f"{step.number} ({step.title})" for step in applied)
    show_done(f"Applied {titles}." if applied else "Nothing to do.", applied=[step.number for step in applied])


@click.command()
@json_option
def migrate() -> None:
    """Bring the database up to this program.

    Makes it when there is none.
    """
    on_database(_migrate, create=True, migrated=False)()


@click.command()
@click.argument("file", type=_FILE)
@click.option("--overwrite", is_flag=True, help="Replace FILE when it is there.")
@json_option
@on_database
async def backup(db: Database, file: Path, overwrite: bool) -> None:
    """Copy the running database to FILE.

    The copy is whole, and of one moment.
    """
    await db.backup(file, overwrite=overwrite)
    show_done(f"Wrote {file}.", file=str(file))


@click.command()
@click.argument("file", type=_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def restore(file: Path, yes: bool) -> None:
    """Put a backup in place of the database.

    No gateway may have the database open. It gets a new epoch, so that every client reads its documents anew.
    """
    into = file_path(invocation().config.database.url)
    if into.exists() and not yes:
        click.confirm(f"Replace {into} by {file}?", abort=True, err=True)
    epoch = asyncio.run(copies.restore(file, into))
    show_done(f"Restored {into} from {file}; its epoch is {epoch}.", database=str(into), epoch=epoch)
