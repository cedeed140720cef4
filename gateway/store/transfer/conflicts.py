"""What stands against putting a record into a database: names and credentials that somebody else has, plans, roles and
organizations that are not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import apsw
import msgspec

from gateway.store.database import Database, Row, Statement
from gateway.store.transfer.records import OrganizationRecord, Record, RevocationRecord, UserRecord

TOKEN = "id of an API token"  # noqa: S105
IN_FORCE = "credential in force"
REVOKED = "revoked credential"
_GIVEN_UP = "given up: "

_NAMED = "SELECT id FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
_TAKEN = {
    "user name": "SELECT username, id FROM users WHERE username IN (SELECT value FROM json_each(?))",
    "e-mail address": "SELECT email, id FROM users WHERE email IN (SELECT value FROM json_each(?))",
    TOKEN: "SELECT id, user_id FROM api_tokens WHERE id IN (SELECT value FROM json_each(?))",
    "hash of an API token": (
        "SELECT token_hash, user_id FROM api_tokens WHERE token_hash IN (SELECT value FROM json_each(?))"
    ),
}
"""By what may be had once only: who has it."""

_REVOKED_HERE = "SELECT id FROM revocations WHERE id IN (SELECT value FROM json_each(?))"
_IN_FORCE_HERE = (
    "SELECT id FROM api_tokens WHERE revoked_at IS NULL AND id IN (SELECT value FROM json_each(?1))"
    " UNION ALL SELECT id FROM login_sessions WHERE revoked_at IS NULL AND id IN (SELECT value FROM json_each(?1))"
)
_CLAIMS = """
PRAGMA journal_mode=OFF;
CREATE TABLE claims(what TEXT, value BLOB, line INTEGER, PRIMARY KEY (what, value)) WITHOUT ROWID;
BEGIN;
"""


class Claims:
    """What the records of this import have taken, in a private file of SQLite's own, which has no name and goes with
    the process: a dry run has to know it, and two records of one file are refused alike in both."""

    def __init__(self) -> None:
        self._connection = apsw.Connection("")
        self._connection.execute(_CLAIMS).fetchall()

    def line(self, what: str, value: str) -> int | None:
        """The line whose record has taken `value`."""
        query = "SELECT line FROM claims WHERE what = ? AND value = ?"
        line: int | None = self._connection.execute(query, (what, _key(what.removeprefix(_GIVEN_UP), value))).get
        return line

    def take(self, record: Record, line: int, standing: Record | None) -> None:
        """Note all that the record takes, and what it gives up of `standing`, in whose place it comes."""
        takes = set(_takes(record))
        rows = [(what, _key(what, value), line) for what, value in takes]
        for what, value in set(_takes(standing)) - takes if standing else ():
            if what == TOKEN:
                # Deleting it revokes it for good: nobody else may have it.
                rows.append((REVOKED, _key(what, value), line))
            elif what in _TAKEN:
                rows.append((_GIVEN_UP + what, _key(what, value), line))
        sql = "INSERT INTO claims(what, value, line) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._connection.executemany(sql, rows)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class Surroundings:
    """What the database has of all that some records mention."""

    def __init__(self, named: dict[str, set[str]], taken: dict[str, dict[bytes, str]], other: list[set[str]]) -> None:
        self._named = named
        self._taken = taken
        self._revoked, self._in_force = other

    @classmethod
    async def look(cls, db: Database, records: Sequence[Record]) -> Surroundings:
        """Read it, for all records at once."""
        mentions, takes = _gathered(map(_mentions, records)), _gathered(map(_takes, records))
        tables = {"plan": "plans", "role": "roles", "organization": "organizations"}
        revocations = [record.id for record in records if isinstance(record, RevocationRecord)]
        tokens = takes.get(TOKEN, [])
        answers = await db.scan(
            *(
                Statement(_NAMED.format(table=table), (_json(mentions.get(kind, [])),))
                for kind, table in tables.items()
            ),
            *(Statement(sql, (_json(takes.get(what, [])),)) for what, sql in _TAKEN.items()),
            Statement(_REVOKED_HERE, (_json(tokens),)),
            Statement(_IN_FORCE_HERE, (_json(revocations),)),
        )
        named = {kind: _first(rows) for kind, rows in zip(tables, answers, strict=False)}
        taken = {
            what: {_key(what, value): user for value, user in rows}
            for what, rows in zip(_TAKEN, answers[len(tables) :], strict=False)
        }
        return cls(named, taken, [_first(rows) for rows in answers[-2:]])

    def against(self, record: Record, claims: Claims) -> str | None:
        """Why the record can not be taken; None: nothing stands against it."""
        for kind, id in _mentions(record):
            if id not in self._named[kind] and claims.line(kind, id) is None:
                return f"there is no {kind} {id}"
        for what, value in _takes(record):
            user = self._taken.get(what, {}).get(_key(what, value), record.id)
            if user != record.id and claims.line(_GIVEN_UP + what, value) is None:
                return f"the {what} {value} belongs to the user {user} here"
            if what in _TAKEN and (line := claims.line(what, value)) is not None:
                return f"the {what} {value} is that of line {line} too"
        if isinstance(record, UserRecord):
            if len({token.token_hash for token in record.tokens}) < len(record.tokens):
                return "two of its API tokens have the same hash"
            revived = [token.id for token in record.tokens if token.revoked_at is None and token.id in self._revoked]
            if revived:
                return f"the API token {revived[0]} was revoked here"
        if isinstance(record, RevocationRecord) and (
            record.id in self._in_force or claims.line(IN_FORCE, record.id) is not None
        ):
            return "the credential is in force here: revoke it first"
        return None


def _mentions(record: Record) -> Iterator[tuple[str, str]]:
    """The kinds and ids of what has to be there."""
    if isinstance(record, UserRecord | OrganizationRecord):
        yield "plan", record.plan
    if isinstance(record, UserRecord):
        yield from (("role", row.role) for row in record.roles)
        yield from (("organization", row.org_id) for row in record.memberships)
        yield from (("organization", row.org_id) for row in record.caps)
        yield from (("organization", row.org_id) for row in record.member_usage or ())


def _takes(record: Record) -> Iterator[tuple[str, str]]:
    """What only one record can have."""
    yield str(record.__struct_config__.tag), record.id
    if isinstance(record, UserRecord):
        yield "user name", record.username
        if record.email is not None:
            yield "e-mail address", record.email
        for token in record.tokens:
            yield TOKEN, token.id
            yield "hash of an API token", token.token_hash
            yield (IN_FORCE if token.revoked_at is None else REVOKED), token.id


def _gathered(pairs: Iterable[Iterable[tuple[str, str]]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for some in pairs:
        for what, value in some:
            found.setdefault(what, []).append(value)
    return found


def _key(what: str, value: str) -> bytes:
    """`value` as its column compares: user names and addresses by NOCASE, which folds ASCII letters alone."""
    content = value.encode()
    return content.lower() if what in ("user name", "e-mail address") else content


def _first(rows: Iterable[Row]) -> set[str]:
    return {row[0] for row in rows}


def _json(values: Iterable[str]) -> str:
    return msgspec.json.encode(list(values)).decode()
