"""``gateway init``: a new database, ready to use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gateway.cli.addresses import own_url
from gateway.cli.demo import DEMO_USER, demo_statements, initial_statements
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_json, show_sentences
from gateway.cli.tokens import new_token
from gateway.cli.values import USERNAME
from gateway.config import ServerConfig
from gateway.core.tokens import hash_token
from gateway.errors import Conflict, NotFound
from gateway.store import credentials
from gateway.store.accounts import User, find_user, list_users
from gateway.store.database import Database
from gateway.store.migrate import migrate
from gateway.store.refusals import refusals

TOKEN_NAME = "init"  # noqa: S105
VARIABLE = "GATEWAY_AUTH_TOKEN"


@click.command()
@click.option("--demo", is_flag=True, help="Add people and an organization to try things with.")
@click.option("--admin", type=USERNAME, default="admin", show_default=True, help="The administrator's user name.")
@click.option("--if-missing", is_flag=True, help="Leave a database that is in use as it is, and say so by exit code 0.")
@click.option("--token-file", type=click.Path(dir_okay=False, path_type=Path), help="Keep the API token in this file.")
@json_option
def init(demo: bool, admin: str, if_missing: bool, token_file: Path | None) -> None:
    """Make a new database, ready to use.

    It has plans and an administrator, and an API token is printed: with --demo Ada's, else the administrator's.

    With --token-file the token is kept there, readable by its owner alone (GATEWAY_AUTH_TOKEN=...); a later call with
    --if-missing reads it again, and replaces it when it is no longer good.
    """
    on_database(_init, create=True, migrated=False)(demo, admin, if_missing, token_file)


async def _init(db: Database, demo: bool, admin: str, if_missing: bool, token_file: Path | None) -> None:
    await migrate(db)
    is_new = not await list_users(db, limit=1)
    if is_new:
        with refusals(taken="The database is in use already."):
            await db.write(*(demo_statements(admin) if demo else initial_statements(admin)))
    elif not if_missing:
        raise Conflict("The database is in use already: it has users.")
    try:
        user = await find_user(db, DEMO_USER if demo else admin)
    except NotFound:
        user = None
    kept = _kept_token(token_file) if token_file else None
    if user is not None and (is_new or token_file is not None):
        token = kept if kept and await _is_good(db, kept, user) else await _issue(db, user, token_file)
    else:
        token = None
    _show(is_new, user, token, token_file)


async def _is_good(db: Database, token: str, user: User) -> bool:
    try:
        row = await credentials.find_token(db, hash_token(token))
    except (NotFound, ValueError):
        return False
    return row.user_id == user.id and row.revoked_at is None and (row.expires_at is None or row.expires_at > db.clock())


async def _issue(db: Database, user: User, token_file: Path | None) -> str:
    """A new token in place of those that this command issued before: nobody has their secrets any more."""
    for old in await credentials.list_tokens(db, user.id):
        if old.name == TOKEN_NAME and old.revoked_at is None:
            await credentials.revoke_token(db, old.id, db.clock())
    row, secret = new_token(user.id, TOKEN_NAME)
    await credentials.add_token(db, row, hash_token(secret))
    if token_file is not None:
        _keep_token(token_file, secret)
    return secret


def _kept_token(file: Path) -> str | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return next((line.partition("=")[2] for line in lines if line.startswith(f"{VARIABLE}=")), None)


def _keep_token(file: Path, token: str) -> None:
    """Readable by its owner alone from the first moment on; an earlier file is replaced, not written into."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(f"{VARIABLE}={token}\n")


def _show(is_new: bool, user: User | None, token: str | None, token_file: Path | None) -> None:
    config = invocation().config
    address = own_url(config.server)
    elsewhere = "" if config.server == ServerConfig() else f" --url {address}"
    if invocation().as_json:
        username = user.username if user else None
        show_json({"created": is_new, "address": address, "user": username, "token": token})
        return
    lines = [f"database   {config.database.url}{' (new)' if is_new else ''}", f"HTTP       {address}"]
    if user is not None and token is not None:
        kept = f", kept in {token_file}" if token_file else ", shown this once"
        lines += [
            f"user       {user.username} ({user.name}, plan {user.plan}), id {user.id}",
            f"API token  {token}{kept}",
            "",
            f"Follow {user.username}'s channel in another terminal:",
            f"  {VARIABLE}={token} {_program()} watch{elsewhere}",
            "and change something in a third:",
            f"  {_program()} user plan {user.username} free",
            "",
        ]
    show_sentences(lines)


def _program() -> str:
    """How this program was called."""
    return sys.argv[0] if Path(sys.argv[0]).name == "gateway" else "python -m gateway"
