"""The keys that sign access tokens, as rows: the statements that add, end and remove them, and their list.

A private part is here as it was sealed; what it takes to open it is no business of the store's.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.store.driver import Reader, Statement


class SigningKeyRow(NamedTuple):
    """A row of `signing_keys`; times in milliseconds since 1970 UTC. `public_key` is a JSON Web Key (RFC 8037),
    `private_key` is sealed, `verifies_until` None: no end yet."""

    kid: str
    public_key: str
    private_key: bytes
    created_at: int
    signs_from: int
    verifies_until: int | None = None

    def __repr__(self) -> str:
        """Without the private part, sealed as it is: it stands in tracebacks and logs."""
        return f"SigningKeyRow({self.kid!r}, signs_from={self.signs_from}, verifies_until={self.verifies_until})"


_LIST = (
    "SELECT kid, public_key, private_key, created_at, signs_from, verifies_until"
    " FROM signing_keys ORDER BY signs_from, kid"
)
_INSERT = (
    "INSERT INTO signing_keys (kid, public_key, private_key, created_at, signs_from, verifies_until)"
    " SELECT ?, ?, ?, ?, ?, ?"
)
_UNLESS_ONE_VERIFIES = (
    " WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE verifies_until IS NULL OR verifies_until > ?)"
)


async def list_keys(reader: Reader) -> list[SigningKeyRow]:
    """Every key that is there, in the order in which they sign; those that ended too, until the next rotation."""
    [rows] = await reader.read(Statement(_LIST))
    return [SigningKeyRow(*row) for row in rows]


async def anything_sealed(reader: Reader) -> bool:
    """Whether there is a key that only the right master key opens, of this gateway or of an instance."""
    sql = "SELECT EXISTS (SELECT 1 FROM signing_keys) OR EXISTS (SELECT 1 FROM instance_keys)"
    [[(sealed,)]] = await reader.read(Statement(sql))
    return bool(sealed)


def add_key(key: SigningKeyRow) -> Statement:
    """Add a key."""
    return Statement(_INSERT, tuple(key))


def add_first_key(key: SigningKeyRow, now: int) -> Statement:
    """Add a key where none is left that verifies at `now`: of several nodes that start together one adds its own."""
    return Statement(_INSERT + _UNLESS_ONE_VERIFIES, (*key, now))


def end_keys(but: str, until: int) -> Statement:
    """Let every key but one verify no longer than `until`; one that ends sooner still does."""
    return Statement(
        "UPDATE signing_keys SET verifies_until = ?1"
        " WHERE kid <> ?2 AND (verifies_until IS NULL OR verifies_until > ?1)",
        (until, but),
    )


def delete_keys(but: str) -> Statement:
    """Remove every key but one: what they signed is void."""
    return Statement("DELETE FROM signing_keys WHERE kid <> ?", (but,))


def delete_ended(now: int) -> Statement:
    """Remove the keys that have ended."""
    return Statement("DELETE FROM signing_keys WHERE verifies_until <= ?", (now,))


def reseal(key: SigningKeyRow, sealed: bytes) -> Statement:
    """Put `sealed` in the place of the private part, unless somebody else has replaced it since it was read."""
    return Statement(
        "UPDATE signing_keys SET private_key = ? WHERE kid = ? AND private_key = ?",
        (sealed, key.kid, key.private_key),
    )
