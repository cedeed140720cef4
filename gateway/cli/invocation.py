"""What one call of a command has in hand: the configuration, the form of the output, the database."""

from __future__ import annotations

import asyncio
import functools
import getpass
import os
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from gateway.config import Config, load_config
from gateway.errors import StoreError
from gateway.store.database import Database
from gateway.store.migrate import parse_migrations, pending, schema_text

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST_NAME = 64


class NotMigrated(StoreError):
    """The database lacks migrations that the command needs."""


class Invocation:
    """One call of the program; click carries it to the command."""

    def __init__(self, config_path: str | None) -> None:
        self.config_path = config_path
        self.as_json = False

    @functools.cached_property
    def config(self) -> Config:
        """The configuration, read when it is first asked for."""
        return load_config(self.config_path)


def invocation() -> Invocation:
    """The call under way."""
    found = click.get_current_context().find_object(Invocation)
    assert found is not None
    return found


def actor() -> str:
    """Who gives the command, as the audit trail names them: ``command:`` and the name at this machine, printable."""
    try:
        name = getpass.getuser()
    except (KeyError, ImportError, OSError):  # in a container a user may have a number and no name
        name = str(os.getuid())
    shown = "".join(character if character.isprintable() else "?" for character in name[:_LONGEST_NAME])
    return f"command:{shown or '?'}"


def _as_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        invocation().as_json = True


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_as_json, help="Print JSON instead of text."
)


def on_database(
    function: Callable[Concatenate[Database, P], Coroutine[Any, Any, T]], *, create: bool = False, migrated: bool = True
) -> Callable[P, T]:
    """Make a command of a coroutine function whose first argument is the open database of the configuration.

    The file must exist unless `create`, and be up to this program when `migrated`.
    """

    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async with await Database.configured(invocation().config, create=create) as db:
            if migrated and await pending(db, parse_migrations(schema_text())):
                raise NotMigrated("the database is older than this program: run gateway migrate")
            return await function(db, *args, **kwargs)

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> T:
        return asyncio.run(run(*args, **kwargs))

    return command
