"""``gateway init``: a new database, ready to use."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from gateway.auth.revocation import Revoker, TokenRevoked
from gateway.cli.addresses import own_url
from gateway.cli.demo import DEMO_USER, demo_statements, initial_statements
from gateway.cli.invocation import actor, invocation, json_option, on_database
from gateway.cli.printing import show_json, show_sentences
from gateway.cli.token_file import VARIABLE, check_place, keeping, kept_token
from gateway.cli.tokens import new_token
from gateway.cli.values import USERNAME
from gateway.config import ServerConfig
from gateway.core.tokens import hash_token
from gateway.errors import Conflict, NotFound
from gateway.store import credentials
from gateway.store.accounts import User, find_user, list_users
from gateway.store.address import FileAddress, parse_address
from gateway.store.audit import Entry
from gateway.store.database import Database
from gateway.store.migrate import migrate
from gateway.store.refusals import refusals

TOKEN_NAME = "init"  # noqa: S105


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
    --if-missing reads it again, and replaces it when it is no longer good. A file that holds anything else is refused.
    """
    if token_file is not None:
        address = parse_address(invocation().config.database.url)
        check_place(token_file, address.path if isinstance(address, FileAddress) else None)
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
    token = None
    if user is not None and token_file is not None:
        token = await _kept(db, user, token_file)
    elif user is not None and is_new:
        token = await _issue(db, user)
    _show(is_new, user, token, token_file)


async def _kept(db: Database, user: User, file: Path) -> str:
    """The token in the file, or a new one in its place; the old one, when this command issued it, is revoked then:
    nobody has its secret any more."""
    standing = kept_token(file)
    row = await _find(db, standing) if standing else None
    if standing is not None and row is not None and row.user_id == user.id and _is_good(row, db.clock()):
        return standing
    token = await _issue(db, user, file)
    if row is not None and row.name == TOKEN_NAME:
        entry = Entry(actor(), "token.revoke", f"token:{row.id}")
        await Revoker(db, None, db.clock).revoke(TokenRevoked(row.id), entry=entry)
    return token


async def _find(db: Database, token: str) -> credentials.ApiToken | None:
    try:
        return await credentials.find_token(db, hash_token(token))
    except (NotFound, ValueError):
        return None


def _is_good(row: credentials.ApiToken, now: int) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


async def _issue(db: Database, user: User, file: Path | None = None) -> str:
    """A new token, kept in the file when there is one."""
    row, secret = new_token(user.id, TOKEN_NAME)
    with keeping(file, secret) if file else contextlib.nullcontext():
        await credentials.add_token(db, row, hash_token(secret))
    return secret


def _show(is_new: bool, user: User | None, token: str | None, token_file: Path | None) -> None:
    config = invocation().config
    address = own_url(config.server)
    elsewhere = "" if config.server == ServerConfig() else f" --url {address}"
    if invocation().as_json:
        username = user.username if user else None
        show_json({"created": is_new, "address": address, "user": username, "token": token})
        return
    lines = [f"database   {parse_address(config.database.url)}{' (new)' if is_new else ''}", f"HTTP       {address}"]
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
