"""What logins need in the database besides the users: a password, and for everybody a login session with its refresh
token.

The rows are such as the gateway's own login makes; both foreign writers insert them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.bench.population import CHUNK, user_id
from gateway.config import AuthConfig
from gateway.core.tokens import hash_token, new_refresh_token

LIFE_MS = AuthConfig().refresh_ttl_s * 1000
"""How long the login sessions last."""

PASSWORDS = "UPDATE users SET password_hash = ?"
SESSIONS = (
    "INSERT INTO login_sessions (id, user_id, created_at, expires_at, user_agent)"
    " SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), ?, ?, 'bench' FROM json_each(?)"
)
TOKENS = (
    "INSERT INTO refresh_tokens (token_hash, session_id, created_at, expires_at)"
    " SELECT json_extract(value, '$[2]'), json_extract(value, '$[0]'), ?, ? FROM json_each(?)"
)


class Insertion(NamedTuple):
    """One transaction: its statements with their arguments, and how many users are done after it."""

    done: int
    statements: list[tuple[str, tuple[str | int, ...]]]


def login_insertions(count: int, password_hash: str, now: int, tokens: Path) -> Iterator[Insertion]:
    """The transactions that give `count` users one password, and each a login session and a refresh token at `now`,
    in milliseconds since 1970 UTC. The refresh tokens themselves are written to `tokens`, one a line.

    The ids of the sessions are those of this call alone: one that was revoked in an earlier run stays so.
    """
    run = os.urandom(4).hex()
    secrets = [new_refresh_token(os.urandom(32)) for _ in range(count)]
    tokens.write_text("\n".join(secrets))
    yield Insertion(0, [(PASSWORDS, (password_hash,))])
    for start in range(0, count, CHUNK):
        chunk = range(start, min(start + CHUNK, count))
        rows = json.dumps([(f"s_{run}_{i:06}", user_id(i), hash_token(secrets[i])) for i in chunk])
        arguments = (now, now + LIFE_MS, rows)
        yield Insertion(chunk.stop, [(SESSIONS, arguments), (TOKENS, arguments)])
