"""``gateway token``: API tokens."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import click

from gateway.auth.revoker import Revoker, TokenRevoked
from gateway.cli.audit import audited, entry
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_done, show_json, show_table
from gateway.cli.values import ID, NAME, WHO, new_id
from gateway.core.principal import CredentialKind
from gateway.core.text import check_permission
from gateway.core.tokens import hash_token, new_api_token
from gateway.store import credentials
from gateway.store.accounts import look_up_user
from gateway.store.credentials import ApiToken
from gateway.store.database import Database

DAY_MS = 86_400_000


@click.group()
def token() -> None:
    """API tokens: credentials for programs. USER is an id, a user name or an e-mail address."""


def _scopes(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    try:
        return None if value is None else [check_permission(item.strip()) for item in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def new_token(
    user_id: str, name: str, *, expires_at: int | None = None, permissions: Sequence[str] | None = None
) -> tuple[ApiToken, str]:
    """A token's row, and its secret, which nobody will see again. `permissions` None: all that its owner has."""
    scopes = {} if permissions is None else {"permissions": list(permissions)}
    row = ApiToken(id=new_id("t_"), user_id=user_id, name=name, scopes=scopes, expires_at=expires_at)
    return row, new_api_token(secrets.token_bytes(32))


def told(row: ApiToken) -> dict[str, Any]:
    """A new token, as the audit trail has it."""
    return {"id": row.id, "name": row.name, "scopes": row.scopes, "expires_at": row.expires_at}


@token.command("issue")
@click.argument("who", metavar="USER", type=WHO)
@click.option("--name", type=NAME, default="", help="What it is for.")
@click.option("--days", type=click.IntRange(1, 36_500), help="How long it lasts; without it, until it is revoked.")
@click.option("--scopes", callback=_scopes, help="Permissions that it may use, comma separated; without it, all.")
@json_option
@on_database
async def issue(db: Database, who: str, name: str, days: int | None, scopes: list[str] | None) -> None:
    """Issue an API token and print it, this once."""
    user = await look_up_user(db, who)
    expires_at = None if days is None else db.clock() + days * DAY_MS
    row, secret = new_token(user.id, name, expires_at=expires_at, permissions=scopes)
    changing = audited(db, "token.issue", f"user:{user.id}", after=told(row))
    seq = await credentials.add_token(changing, row, hash_token(secret))
    if invocation().as_json:
        show_json({"id": row.id, "user_id": user.id, "token": secret, "expires_at": expires_at, "seq": seq})
    else:
        click.echo(secret)
        click.echo(f"{row.id}, for {user.username}. It is shown this once.", err=True)


@token.command("list")
@click.argument("who", metavar="[USER]", type=WHO, required=False)
@json_option
@on_database
async def list_command(db: Database, who: str | None) -> None:
    """List API tokens, everybody's or one user's; never their secrets."""
    user_id = None if who is None else (await look_up_user(db, who)).id
    found = await credentials.list_tokens(db, user_id)
    show_table(found, ["id", "user_id", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"])


@token.command("revoke")
@click.argument("token_id", metavar="ID", type=ID)
@json_option
@on_database
async def revoke(db: Database, token_id: str) -> None:
    """Revoke an API token: whatever it opened closes at once."""
    owner = await credentials.owner_of(db, CredentialKind.API_TOKEN, token_id)
    left = entry("token.revoke", f"user:{owner}", after={"id": token_id})
    revoked = await Revoker(db, None, db.clock).revoke(TokenRevoked(token_id), entry=left)
    show_done(f"Revoked {token_id}.", id=token_id, seq=revoked.seq)
