"""``gateway session``: login sessions."""

from __future__ import annotations

import click

from gateway.auth.revoker import IssuedBefore, Revoker, SessionEnded
from gateway.cli.audit import entry
from gateway.cli.invocation import json_option, on_database
from gateway.cli.printing import show_done, show_table
from gateway.cli.values import ID, WHO
from gateway.core.principal import CredentialKind
from gateway.store import credentials
from gateway.store.accounts import look_up_user
from gateway.store.database import Database


@click.group()
def session() -> None:
    """Login sessions. USER is an id, a user name or an e-mail address."""


@session.command("list")
@click.argument("who", metavar="[USER]", type=WHO, required=False)
@json_option
@on_database
async def list_command(db: Database, who: str | None) -> None:
    """List login sessions, everybody's or one user's."""
    user_id = None if who is None else (await look_up_user(db, who)).id
    found = await credentials.list_sessions(db, user_id)
    show_table(found, ["id", "user_id", "created_at", "expires_at", "revoked_at", "ip", "user_agent", "last_seen_at"])


@session.command("revoke")
@click.argument("session_id", metavar="[ID]", type=ID, required=False)
@click.option("--user", "who", type=WHO, help="Instead of one session: all sessions and API tokens of this user.")
@json_option
@on_database
async def revoke(db: Database, session_id: str | None, who: str | None) -> None:
    """End a login session: whatever it opened closes at once."""
    if (session_id is None) == (who is None):
        raise click.UsageError("name a session, or --user")
    revoker = Revoker(db, None, db.clock)
    if session_id is not None:
        owner = await credentials.owner_of(db, CredentialKind.LOGIN_SESSION, session_id)
        left = entry("session.revoke", f"user:{owner}", after={"id": session_id})
        revoked = await revoker.revoke(SessionEnded(session_id), entry=left)
        show_done(f"Ended {session_id}.", id=session_id, seq=revoked.seq)
    elif who is not None:
        user = await look_up_user(db, who)
        left = entry("revoke.before", f"user:{user.id}")
        revoked = await revoker.revoke(IssuedBefore(None, user=user.id), entry=left)
        show_done(f"Ended every session and revoked every token of {user.username}.", user_id=user.id, seq=revoked.seq)
