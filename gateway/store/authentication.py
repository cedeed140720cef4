"""Looks up what a credential stands for, many at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gateway.store.database import Database, Reader, Row, Statement


class TokenRow(NamedTuple):
    """An API token that is not revoked, of a user who is active. `expires_at`, `last_used_at` in milliseconds since
    1970 UTC.
    """

    id: str
    user_id: str
    token_hash: str
    expires_at: int | None
    scopes: str
    last_used_at: int | None


_COLUMNS = "t.id, t.user_id, t.token_hash, t.expires_at, t.scopes, t.last_used_at"
_BY_HASH = f"""
SELECT t.token_hash, {_COLUMNS}
FROM json_each(?1) AS wanted CROSS JOIN api_tokens AS t ON t.token_hash = wanted.value
JOIN users AS u ON u.id = t.user_id
WHERE t.revoked_at IS NULL AND u.status = 'active'"""  # noqa: S608 - no input in it
_BY_ID = f"""
SELECT t.id, {_COLUMNS}
FROM json_each(?1) AS wanted CROSS JOIN api_tokens AS t ON t.id = wanted.value
JOIN users AS u ON u.id = t.user_id
WHERE t.revoked_at IS NULL AND u.status = 'active'"""  # noqa: S608 - no input in it


async def tokens_by_hash(reader: Reader, hashes: Iterable[str]) -> dict[str, TokenRow]:
    """The tokens with these hashes (SHA-256, hexadecimal) that are in force but for their end."""
    return await _tokens(reader, _BY_HASH, hashes)


async def tokens_by_id(reader: Reader, ids: Iterable[str]) -> dict[str, TokenRow]:
    """The same by id, to see whether what was accepted once still holds."""
    return await _tokens(reader, _BY_ID, ids)


async def _tokens(reader: Reader, sql: str, keys: Iterable[str]) -> dict[str, TokenRow]:
    keys = list(keys)
    found: dict[str, TokenRow] = {}
    try:
        [rows] = await reader.read(Statement(sql, (msgspec.json.encode(keys).decode(),)))
    except UnicodeDecodeError:
        # A row that is not text stands for nobody, and keeps nobody out.
        for key in keys if len(keys) > 1 else ():
            found |= await _tokens(reader, sql, (key,))
        return found
    row: Row
    for row in rows:
        found[row[0]] = TokenRow(*row[1:])
    return found


_USED = """
UPDATE api_tokens SET last_used_at = used.value FROM json_each(?1) AS used WHERE api_tokens.id = used.key"""


async def record_use(database: Database, used: dict[str, int]) -> None:
    """Note when tokens were used last: ``{token id: milliseconds since 1970 UTC}``.

    The change log has it as `use`, which no document and no right hangs on.
    """
    await database.write(Statement(_USED, (msgspec.json.encode(used).decode(),)))
