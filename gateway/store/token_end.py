"""The end of an API token, moved: for tests, and for whoever has to shorten a token's life without revoking it."""

from __future__ import annotations

from gateway.store.database import Database, Statement
from gateway.store.refusals import refusals


async def set_token_end(db: Database, token_id: str, expires_at: int | None) -> int:
    """Let a token end at `expires_at` (milliseconds since 1970 UTC; None: never); NotFound for an unknown token."""
    with refusals(missing=f"There is no token {token_id}."):
        statement = Statement(
            "UPDATE api_tokens SET expires_at = ? WHERE id = ?", (expires_at, token_id), must_change=True
        )
        return (await db.write(statement)).seq
