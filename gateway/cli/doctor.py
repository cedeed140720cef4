"""``gateway doctor``: looks for what is wrong."""

from __future__ import annotations

import asyncio
import os

import click
from rich.console import Console

from gateway.auth.instances import unopened
from gateway.auth.keyring import Keyring
from gateway.auth.master_key import load_sealer
from gateway.cli.exits import ExitCode
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_json, show_sentences
from gateway.config import Config, DatabaseConfig
from gateway.errors import ConfigError, StoreError
from gateway.store.address import FileAddress, ServerAddress, parse_address
from gateway.store.database import Database
from gateway.store.inspection import Finding, Note, inspect
from gateway.store.keys import anything_sealed, list_keys


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context) -> int:
    """Look for what is wrong.

    Checks the configuration, the database (damage, triggers, rows that no document can be built from, balances that
    the ledger and the open leases do not add up to), whether the master key opens the signing keys and those of
    instances, and the clock; of a libSQL server also its writes, its stream of changes and the replica. Exit code 1
    when something is wrong.
    """
    config = invocation().config
    findings = [*_configuration(config), *on_database(_database, migrated=False)()]
    told = asyncio.run(_server(config.database))
    findings += [each for each in told if isinstance(each, Finding)]
    notes = [each for each in told if isinstance(each, Note)]
    if invocation().as_json:
        show_json({"findings": findings, "notes": notes})
    else:
        lines = [f"{note.about}: {note.message}" for note in notes]
        lines += [f"{finding.check}: {finding.message}" for finding in findings] or ["Nothing is wrong."]
        show_sentences(lines)
    return ExitCode.FINDINGS if findings else ExitCode.OK


async def _database(db: Database) -> list[Finding]:
    with Console(stderr=True).status("Looking at every row ..."):
        return [finding async for finding in inspect(db, db.clock())] + await _keys(db)


async def _keys(db: Database) -> list[Finding]:
    """Whether the master key is the one that the signing keys are sealed with. Makes none, as starting would."""
    try:
        if not await anything_sealed(db):
            return []
    except StoreError:
        return []  # not migrated, or damaged: others say so
    config, findings = invocation().config, list[Finding]()
    try:
        sealer = load_sealer(config, make=False)
        findings += [
            Finding("keys", f"the key {kid} of an instance is not opened by the master key: add another, delete this")
            for kid in await unopened(sealer, db)
        ]
        if await list_keys(db):
            keyring = Keyring(sealer, config.auth.access_ttl_s)
            await keyring.load(db)
            keyring.require_opened(db.clock())
    except ConfigError as error:
        findings.append(Finding("keys", str(error)))
    return findings


async def _server(settings: DatabaseConfig) -> list[Finding | Note]:
    primary = parse_address(settings.url)
    replica = parse_address(settings.replica, "database.replica") if settings.replica else None
    if not isinstance(primary, ServerAddress) or isinstance(replica, FileAddress):
        return []
    # Not before it is needed: a database in a file does without what a server takes.
    from gateway.store.server_inspection import inspect_server

    return [told async for told in inspect_server(primary, replica, settings.auth_token or None)]


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
