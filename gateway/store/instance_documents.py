"""Reads what the documents of server instances are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gateway.core.clock import CLOCK_SKEW_MS, DAY_MS
from gateway.core.instance_documents import InstanceFacts, KeyFacts, Revoked
from gateway.store.database import Reader, Row, Statement
from gateway.store.documents import BadDocument, by_first_column
from gateway.store.instances import end_of, networks_of

MAX_REVOCATIONS = 20_000
"""Entries of the document of what is revoked: with more the newest are named, and of the others is said how old."""
NEWS = 1_000
"""With more of them all are read again."""
TOKEN_TOLD_MS = DAY_MS
"""So long an instance is told that an API token is revoked. Nothing that it remembers of one may be older."""

_INSTANCES = """
SELECT i.id, i.name, i.status, i.networks, i.requests_per_minute, i.created_at, i.updated_at
FROM json_each(?1) AS wanted CROSS JOIN instances AS i ON i.id = wanted.value"""
_KEYS = """
SELECT k.instance_id, k.id, k.created_at, k.expires_at
FROM json_each(?1) AS wanted CROSS JOIN instance_keys AS k ON k.instance_id = wanted.value
ORDER BY k.instance_id, k.created_at, k.id"""
_LOGIN_UNTIL = "min(noted_at, coalesce(expires_at, noted_at)) + ?1"
_API_UNTIL = "min(noted_at + ?2, coalesce(expires_at + ?3, noted_at + ?2))"
# Nobody takes a credential any more that ended so long ago: housekeeping deletes such by the thousand.
_REVOCATIONS = f"""
SELECT * FROM (
  SELECT CAST(id AS BLOB), noted_at, {_LOGIN_UNTIL}
  FROM revocations WHERE kind = 'login_session' AND noted_at > ?4 - ?1 AND coalesce(expires_at > ?4 - ?1, 1)
  ORDER BY noted_at DESC, id DESC LIMIT ?5)
UNION ALL SELECT * FROM (
  SELECT CAST(id AS BLOB), noted_at, {_API_UNTIL}
  FROM revocations WHERE kind = 'api_token' AND noted_at > ?4 - ?2 AND coalesce(expires_at > ?4 - ?3, 1)
  ORDER BY noted_at DESC, id DESC LIMIT ?5)
ORDER BY 2 DESC, 1 DESC LIMIT ?5"""  # noqa: S608
_NOTED = f"""
SELECT CAST(id AS BLOB), noted_at, {_LOGIN_UNTIL} FROM revocations WHERE kind = 'login_session' AND noted_at >= ?4
UNION ALL
SELECT CAST(id AS BLOB), noted_at, {_API_UNTIL} FROM revocations WHERE kind = 'api_token' AND noted_at >= ?4
LIMIT ?5"""  # noqa: S608
_NEWEST = """max(
  coalesce((SELECT max(noted_at) FROM revocations WHERE kind = 'login_session'), 0),
  coalesce((SELECT max(noted_at) FROM revocations WHERE kind = 'api_token'), 0))"""
_NOTED_LAST = _NOTED.replace("?4", _NEWEST)


class Newest(NamedTuple):
    """What was noted last among the revocations: when (milliseconds since 1970 UTC; 0: nothing ever was), and all that
    was at that moment."""

    at: int
    ids: frozenset[str]


class Revocations(NamedTuple):
    """What is revoked, the newest first, and what was noted last."""

    revoked: list[Revoked]
    newest: Newest


async def load_instances(reader: Reader, ids: Iterable[str]) -> dict[str, InstanceFacts | BadDocument | None]:
    """The instances with these ids; None: there is none."""
    wanted = list(ids)
    array = msgspec.json.encode(wanted).decode()
    try:
        rows, keys = await reader.read(Statement(_INSTANCES, (array,)), Statement(_KEYS, (array,)))
    except UnicodeDecodeError as error:
        if len(wanted) == 1:
            return {wanted[0]: BadDocument(f"UnicodeDecodeError: {error}")}
        found = [await load_instances(reader, [one]) for one in wanted]
        return {id: facts for each in found for id, facts in each.items()}
    by_instance = by_first_column(keys)
    loaded: dict[str, InstanceFacts | BadDocument | None] = dict.fromkeys(wanted)
    for row in rows:
        loaded[row[0]] = _facts(row, by_instance.get(row[0], []))
    return loaded


async def load_revocations(reader: Reader, now: int, token_life_ms: int) -> Revocations:
    """Credentials that were revoked, and that somebody may believe still at `now` (milliseconds since 1970 UTC): the
    newest first, at most one more than `MAX_REVOCATIONS`.

    Of a login session access tokens are left, which live for `token_life_ms`, by a clock that may be another one.
    What ended by itself so long ago that nobody takes it any more is not among them.
    """
    lives = _lives(token_life_ms)
    told, last = await reader.read(
        Statement(_REVOCATIONS, (*lives, now, MAX_REVOCATIONS + 1)), Statement(_NOTED_LAST, (*lives, 0, NEWS + 1))
    )
    return Revocations(_revoked(told), newest_of(_revoked(last), Newest(0, frozenset())))


async def load_noted(reader: Reader, since: int, token_life_ms: int) -> list[Revoked] | None:
    """What was noted among the revocations at the moment `since` or later, also what nobody believes any more; None
    where that is more than `NEWS`."""
    [rows] = await reader.read(Statement(_NOTED, (*_lives(token_life_ms), since, NEWS + 1)))
    return None if len(rows) > NEWS else _revoked(rows)


def newest_of(noted: Iterable[Revoked], before: Newest) -> Newest:
    """What was noted last, `noted` being all that was since `before`."""
    rows = list(noted)
    at = max((each.noted_at for each in rows), default=before.at)
    return Newest(at, frozenset(each.id for each in rows if each.noted_at == at))


def _lives(token_life_ms: int) -> tuple[int, int, int]:
    return token_life_ms + CLOCK_SKEW_MS, TOKEN_TOLD_MS, CLOCK_SKEW_MS


def _revoked(rows: Iterable[Row]) -> list[Revoked]:
    return [Revoked(credential.decode(errors="replace"), noted, until) for credential, noted, until in rows]


def _facts(row: Row, keys: list[Row]) -> InstanceFacts:
    id, name, status, networks, requests_per_minute, created_at, updated_at = row
    shown = tuple(KeyFacts(kid, created, end_of(expires)) for _, kid, created, expires in keys)
    listed = networks_of(networks)
    return InstanceFacts(id, name, status, listed, requests_per_minute, created_at, updated_at, shown)
