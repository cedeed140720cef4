"""``gateway init``: a new database, ready to use."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import NamedTuple

import click

from gateway.auth.revoker import OtherSessions, Revoker, TokenRevoked
from gateway.cli import passwords
from gateway.cli.addresses import own_url
from gateway.cli.audit import entry
from gateway.cli.demo import (
    DEMO_USER,
    administrator,
    demo_entries,
    demo_statements,
    initial_entries,
    initial_statements,
    spend_demo,
)
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_json, show_sentences
from gateway.cli.token_file import VARIABLE, Kept, check_place, keeping, read_kept
from gateway.cli.tokens import new_token, told
from gateway.cli.values import USERNAME
from gateway.config import ServerConfig
from gateway.core.tokens import hash_token
from gateway.errors import Conflict, NotFound
from gateway.store import credentials
from gateway.store.accounts import User, list_users, look_up_user, password_statement, read_password_hash
from gateway.store.address import FileAddress, parse_address
from gateway.store.audit import Audited, record
from gateway.store.credentials import ApiToken
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate
from gateway.store.refusals import refusals

TOKEN_NAME = "init"  # noqa: S105


class Opened(NamedTuple):
    """What opens the account that is shown; None: this call does not know it."""

    token: str | None = None
    password: str | None = None


@click.command()
@click.option("--demo", is_flag=True, help="Add people and an organization to try things with.")
@click.option("--admin", type=USERNAME, default="admin", show_default=True, help="The administrator's user name.")
@click.option(
    "--admin-password-stdin", "from_stdin", is_flag=True, help="Take the administrator's password from standard input."
)
@click.option("--if-missing", is_flag=True, help="Leave a database that is in use as it is, and say so by exit code 0.")
@click.option("--token-file", type=click.Path(dir_okay=False, path_type=Path), help="Keep the API token in this file.")
@json_option
def init(demo: bool, admin: str, from_stdin: bool, if_missing: bool, token_file: Path | None) -> None:
    """Make a new database, ready to use.

    It has plans and an administrator, whose password is asked at a terminal, else made and printed, this once. An API
    token is printed too: with --demo Ada's, who then has a password, else the administrator's.

    With --token-file the token, and Ada's password, are kept there, readable by its owner alone. A later call with
    --if-missing reads them again; a token that is no longer good is replaced, and so is a password that the file does
    not have. A file that holds anything else is refused.
    """
    if token_file is not None:
        address = parse_address(invocation().config.database.url)
        check_place(token_file, address.path if isinstance(address, FileAddress) else None)
    on_database(_init, create=True, migrated=False)(demo, admin, from_stdin, if_missing, token_file)


async def _init(
    db: Database, demo: bool, admin: str, from_stdin: bool, if_missing: bool, token_file: Path | None
) -> None:
    await migrate(db)
    is_new = not await list_users(db, limit=1)
    admin_password = None
    if is_new:
        admin_password = await _fill(db, demo, admin, from_stdin)
    elif not if_missing:
        raise Conflict("The database is in use already: it has users.")
    try:
        user = await look_up_user(db, DEMO_USER if demo else admin)
    except NotFound:
        user = None
    opened = Opened()
    if user is not None and token_file is not None:
        opened = await _kept(db, user, token_file, with_password=demo)
    elif user is not None and is_new:
        opened = await _issue(db, user, with_password=demo)
    if not demo:
        opened = opened._replace(password=admin_password)
    if invocation().as_json:
        known = {"user": user.username if user else None, "password": opened.password, "token": opened.token}
        address = own_url(invocation().config.server)
        show_json({"created": is_new, "address": address, **known, "admin_password": admin_password})
    else:
        lines = _lines(is_new, user, opened, token_file)
        if demo and admin_password is not None:
            lines[-1:-1] = [f"The administrator is {admin}, password {admin_password}, shown this once.", ""]
        show_sentences(lines)
    if demo and is_new:
        # Last: what is shown once is shown whatever becomes of this.
        await spend_demo(db)


async def _fill(db: Database, demo: bool, admin: str, from_stdin: bool) -> str | None:
    """What a new database begins with; the administrator's password where nobody chose it."""
    config, user = invocation().config.auth, administrator(admin, demo=demo)
    made = None
    if from_stdin:
        password = passwords.read_line()
    elif sys.stdin.isatty() and not demo and not invocation().as_json:
        password = passwords.ask(admin)
    else:
        password = made = passwords.generated(user, config)
    stored = passwords.hash_new(password, user, config)
    entries = demo_entries(admin) if demo else initial_entries(admin)
    with refusals(taken="The database is in use already."):
        statements = demo_statements(admin, stored) if demo else initial_statements(admin, stored)
        await Audited(db, *entries).write(*statements)
    return made


async def _kept(db: Database, user: User, file: Path, *, with_password: bool) -> Opened:
    """What the file holds, or something new in its place. The old token, when this command issued it, is revoked then:
    nobody has its secret any more. A password that was changed since is nobody's business."""
    standing = read_kept(file)
    row = await _find(db, standing.token) if standing else None
    is_good = row is not None and row.user_id == user.id and _is_good(row, db.clock())
    stored = await read_password_hash(db, user.id)
    password = standing.password if standing and with_password else None
    lacks_password = with_password and (password is None or stored is None)
    if standing is not None and is_good and not lacks_password:
        is_right = password is not None and await passwords.is_right(password, stored, invocation().config.auth)
        return Opened(standing.token, password if is_right else None)
    token = standing.token if standing is not None and is_good else None
    opened = await _issue(db, user, token, password, with_password=lacks_password, file=file)
    if row is not None and row.name == TOKEN_NAME and not is_good:
        left = entry("token.revoke", f"user:{row.user_id}", after={"id": row.id})
        await Revoker(db, None, db.clock).revoke(TokenRevoked(row.id), entry=left)
    return opened


async def _find(db: Database, token: str) -> ApiToken | None:
    try:
        return await credentials.find_token(db, hash_token(token))
    except (NotFound, ValueError):
        return None


def _is_good(row: ApiToken, now: int) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


async def _issue(
    db: Database,
    user: User,
    token: str | None = None,
    password: str | None = None,
    *,
    with_password: bool,
    file: Path | None = None,
) -> Opened:
    """A new token, unless there is `token`, and `with_password` a new password; kept in the file when there is one."""
    statements: list[Statement] = []
    shown = None
    if with_password:
        config = invocation().config.auth
        shown = password = passwords.generated(user, config)
        statements.append(password_statement(user.id, passwords.hash_new(password, user, config)))
    if token is None:
        row, token = new_token(user.id, TOKEN_NAME)
        issued = entry("token.issue", f"user:{user.id}", after=told(row))
        statements += [record(issued, db.clock()), credentials.insert_token(row, hash_token(token))]
    with keeping(file, Kept(token, password)) if file else contextlib.nullcontext(), refusals():
        if with_password:
            left = entry("password.reset", f"user:{user.id}")
            await Revoker(db, None, db.clock).revoke(OtherSessions(user.id, None), *statements, entry=left)
        else:
            await db.write(*statements)
    return Opened(token, shown)


def _lines(is_new: bool, user: User | None, opened: Opened, token_file: Path | None) -> list[str]:
    config = invocation().config
    address = own_url(config.server)
    elsewhere = "" if config.server == ServerConfig() else f" --url {address}"
    lines = [
        f"database   {parse_address(config.database.url)}{' (new)' if is_new else ''}",
        f"dashboard  {address}/",
    ]
    if user is None or opened.token is None:
        return lines
    once, kept = "shown this once", f"kept in {token_file}" if token_file else "shown this once"
    password = f"{opened.password}, {once if user.is_admin else kept}" if opened.password else "as it was set"
    return [
        *lines,
        f"user       {user.username} ({user.name}, plan {user.plan}), id {user.id}",
        f"password   {password}",
        f"API token  {opened.token}, {kept}",
        "",
        f"Follow {user.username}'s channel in another terminal:",
        f"  {VARIABLE}={opened.token} {_program()} watch{elsewhere}",
        "and change something in a third:",
        f"  {_program()} quota consume {user.username} voice_minutes 5",
        f"  {_program()} user plan {user.username} free",
        "",
    ]


def _program() -> str:
    """How this program was called."""
    return sys.argv[0] if Path(sys.argv[0]).name == "gateway" else "python -m gateway"
