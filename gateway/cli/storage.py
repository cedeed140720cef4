"""``gateway migrate``, ``backup`` and ``restore``: the database as a whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console

from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import progress, show_done
from gateway.store import backup as copies
from gateway.store import migrate as migrations
from gateway.store.address import ServerAddress, parse_address
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

    The copy is whole, and of one moment; from a file or a libSQL server, it can be restored to either.
    """
    with Console(stderr=True).status("Copying ..."):
        await db.backup(file, overwrite=overwrite)
    show_done(f"Wrote {file}.", file=str(file))


@click.command()
@click.argument("file", type=_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def restore(file: Path, yes: bool) -> None:
    """Put a backup in place of the database.

    No gateway may have a database file open; on a libSQL server everything is replaced in one transaction. The database
    gets a new epoch, so that every client reads its documents anew.
    """
    into = parse_address(invocation().config.database.url)
    is_there = isinstance(into, ServerAddress) or into.path.exists()
    if is_there and not yes:
        click.confirm(f"Replace everything in {into} by {file}?", abort=True, err=True)
    if isinstance(into, ServerAddress):
        epoch = asyncio.run(_restore_server(file, into))
    else:
        epoch = asyncio.run(copies.restore(file, into.path))
    show_done(f"Restored {into} from {file}; its epoch is {epoch}.", database=str(into), epoch=epoch)


async def _restore_server(file: Path, into: ServerAddress) -> str:
    config = invocation().config
    # That it can be reached, and with this token, is found out before the file is looked through.
    async with await Database.configured(config):
        from gateway.store.http_streams import HttpServer
        from gateway.store.server_restore import Backup, restore_server

        with Backup(file) as backup, progress("Restoring", backup.rows) as advance:
            server = HttpServer(into.http_url, into.token or config.database.auth_token or None)
            try:
                return await restore_server(backup, server, advance)
            finally:
                await server.close()
