"""``gateway doctor``: looks for what is wrong."""

from __future__ import annotations

import os

import click
from rich.console import Console

from gateway.cli.exits import ExitCode
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_json, show_sentences
from gateway.config import Config
from gateway.store.database import Database
from gateway.store.inspection import Finding, inspect


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context) -> int:
    """Look for what is wrong.

    Checks the configuration, the database (damage, triggers, rows that no document can be built from) and the clock.
    Exit code 1 when something is wrong.
    """
    findings = [*_configuration(invocation().config), *on_database(_database, migrated=False)()]
    if invocation().as_json:
        show_json({"findings": findings})
    else:
        show_sentences([f"{finding.check}: {finding.message}" for finding in findings] or ["Nothing is wrong."])
    return ExitCode.FINDINGS if findings else ExitCode.OK


async def _database(db: Database) -> list[Finding]:
    with Console(stderr=True).status("Looking at every row ..."):
        return [finding async for finding in inspect(db, db.clock())]


def _configuration(config: Config) -> list[Finding]:
    """What only shows when a setting is used."""
    if not config.server.use_https:
        return []
    files = {name: getattr(config.server, name) for name in ("tls_cert", "tls_key", "tls_client_ca")}
    return [
        Finding("configuration", f"server.{name}: {path} can not be read")
        for name, path in files.items()
        if path and not os.access(path, os.R_OK)
    ]
