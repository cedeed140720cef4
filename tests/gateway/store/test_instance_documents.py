from __future__ import annotations

import json

import pytest

from gateway.core.clock import CLOCK_SKEW_MS, rfc3339
from gateway.core.instance_documents import (
    EVERYTHING,
    RevocationList,
    Revoked,
    instance_document,
    keys_document,
)
from gateway.core.wide_document import WideDocument
from gateway.store.database import Database, Statement
from gateway.store.documents import BadDocument
from gateway.store.instance_documents import MAX_REVOCATIONS, TOKEN_TOLD_MS, load_instances, load_revocations
from gateway.store.logins import prune_logins

LIFE = 960_000
HOUR = 3_600_000


async def revoke(db: Database, id: str, kind: str, noted_at: int | None = None, expires_at: int | None = None) -> None:
    sql = "INSERT INTO revocations(id, kind, user_id, expires_at, noted_at) VALUES (?, ?, 'u', ?, ?)"
    await db.write(Statement(sql, (id, kind, expires_at, noted_at)))


async def test_what_is_revoked_is_told_for_as_long_as_it_may_be_believed(database: Database) -> None:
    now = database.clock()
    await revoke(database, "old_session", "login_session", now - LIFE - 60_000)
    await revoke(database, "session", "login_session", now - LIFE + 1_000, now + HOUR)
    await revoke(database, "old_token", "api_token", now - TOKEN_TOLD_MS)
    await revoke(database, "token", "api_token", now - TOKEN_TOLD_MS + 1_000)
    told = {each.id: each.until for each in (await load_revocations(database, now, LIFE)).revoked}
    assert told == {"session": now + 61_000, "token": now + 1_000}


async def test_when_it_was_noted_is_the_databases_to_say(database: Database) -> None:
    """Whoever revokes by SQL names no moment; a credential that is good again and revoked again is new."""
    await database.write(
        Statement("INSERT INTO plans(id) VALUES ('p')"),
        Statement("INSERT INTO users(id, username, plan) VALUES ('u', 'u', 'p')"),
        Statement("INSERT INTO api_tokens(id, user_id, token_hash) VALUES ('t', 'u', 'h')"),
    )
    for _ in range(2):
        before = database.clock()
        await database.write(Statement("UPDATE api_tokens SET revoked_at = 1"))
        [(id, _, until)] = (await load_revocations(database, before, LIFE)).revoked
        assert id == "t"
        assert before - 1_000 <= until - TOKEN_TOLD_MS <= database.clock() + 1_000
        await database.write(Statement("UPDATE api_tokens SET revoked_at = NULL"))
        assert (await load_revocations(database, before, LIFE)).revoked == []
    await database.write(Statement("DELETE FROM users"))
    assert [told.id for told in (await load_revocations(database, database.clock(), LIFE)).revoked] == ["t"]


async def test_one_that_is_revoked_once_more_is_told_of_once_more(database: Database) -> None:
    """Its end was moved into the past, then forward but not as far: its row stayed, the word of it did not."""
    now = database.clock()
    await database.write(
        Statement("INSERT INTO plans(id) VALUES ('p')"),
        Statement("INSERT INTO users(id, username, plan) VALUES ('u', 'u', 'p')"),
        Statement(
            "INSERT INTO login_sessions(id, user_id, expires_at, created_at) VALUES ('s', 'u', ?, 1)", (now + 9 * HOUR,)
        ),
        Statement("UPDATE login_sessions SET expires_at = ?", (now - 1_000,)),
        Statement("UPDATE login_sessions SET expires_at = ?", (now + 8 * HOUR,)),
        Statement("UPDATE revocations SET noted_at = ?", (now - 2 * HOUR,)),
    )
    assert (await load_revocations(database, now, LIFE)).revoked == []
    await database.write(Statement("UPDATE login_sessions SET revoked_at = ?", (now,)))
    assert [told.id for told in (await load_revocations(database, now, LIFE)).revoked] == ["s"]


async def test_what_ended_by_itself_is_not_told(database: Database) -> None:
    """Housekeeping deletes what ended long ago, and a deleted credential is among the revocations."""
    now = database.clock()
    await database.write(
        Statement("INSERT INTO plans(id) VALUES ('p')"),
        Statement("INSERT INTO users(id, username, plan) VALUES ('u', 'u', 'p')"),
        Statement(
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"
            " INSERT INTO login_sessions(id, user_id, created_at, expires_at) SELECT 's' || i, 'u', 1, ? FROM n",
            (now - 40 * 24 * HOUR,),
        ),
    )
    assert await prune_logins(database, now) == 50
    assert (await load_revocations(database, now, LIFE)).revoked == []
    for kind, late in (("login_session", LIFE + CLOCK_SKEW_MS), ("api_token", CLOCK_SKEW_MS)):
        await revoke(database, f"ended {kind}", kind, now, now - late)
        await revoke(database, f"ends {kind}", kind, now, now - late + 1_000)
    told = {each.id: each.until for each in (await load_revocations(database, now, LIFE)).revoked}
    assert told == {"ends login_session": now + 1_000, "ends api_token": now + 1_000}, "and is told no longer"


@pytest.mark.storages("file")
async def test_too_many_are_told_of_together(database: Database) -> None:
    now = database.clock()
    await database.write(
        Statement(
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO revocations(id, kind, user_id, noted_at) SELECT 't' || i, 'api_token', 'u', ? + i FROM n",
            (MAX_REVOCATIONS, now - HOUR),
        )
    )
    rows = (await load_revocations(database, now, LIFE)).revoked
    named = RevocationList(rows, MAX_REVOCATIONS)
    assert len(named.document.names) == MAX_REVOCATIONS
    unnamed_until = now - HOUR + 1
    for number in range(3):
        await revoke(database, f"one more {number}", "login_session", now + number)
        rows = (await load_revocations(database, now, LIFE)).revoked
        together = RevocationList(rows, MAX_REVOCATIONS)
        told = together.document.data()
        assert len(told) == MAX_REVOCATIONS + 1
        assert f"one more {number}" in told, "what is revoked now is named, however much was revoked before"
        assert f"t{number + 1}" not in told
        assert told[EVERYTHING] == rfc3339(unnamed_until + number + 1), "what was revoked since then is named"
    await database.write(Statement("DELETE FROM revocations WHERE id < 't11'"))
    rows = (await load_revocations(database, now, LIFE)).revoked
    assert EVERYTHING not in RevocationList(rows, MAX_REVOCATIONS).document.data()


def test_what_is_not_named_leaves_by_the_clock_too() -> None:
    """A session that is not named ends before the tokens that are: then all are named."""
    rows = [Revoked("b", 9_000, 90_000), Revoked("a", 8_000, 80_000), Revoked("s", 7_000, 30_000)]
    made = RevocationList(rows, 2)
    assert made.document.data() == {"b": rfc3339(90_000), "a": rfc3339(80_000), EVERYTHING: rfc3339(7_001)}
    assert made.changes_at == 30_000


def test_entries_leave_together() -> None:
    made = RevocationList([Revoked("a", 3, 5_001), Revoked("b", 2, 9_999), Revoked("c", 1, 10_001)], 10)
    assert made.changes_at == 10_000
    assert made.document.data() == {"a": rfc3339(10_000), "b": rfc3339(10_000), "c": rfc3339(20_000)}
    nothing = RevocationList([], 10)
    assert (nothing.document.data(), nothing.changes_at) == ({}, None)
    assert json.loads(nothing.document.patch_from(made.document)) == {"a": None, "b": None, "c": None}


def test_a_wide_document_is_a_document() -> None:
    wide = WideDocument([("%s", b"1"), ("é", b'"x"'), ("a", b"true")])
    assert wide.json() == '{"%s":1,"a":true,"é":"x"}'.encode()
    assert wide.data() == {"%s": 1, "a": True, "é": "x"}
    assert wide.size == len(wide.json())


def test_keys_are_listed_by_their_kid() -> None:
    made = keys_document({"keys": [{"kid": "k", "kty": "OKP"}]}, 7)
    assert (made.document.data(), made.changes_at) == ({"k": {"kid": "k", "kty": "OKP"}}, 7)


async def test_instances_are_loaded_with_their_keys(database: Database) -> None:
    await database.write(
        Statement("INSERT INTO instances(id, name, networks) VALUES ('i', 'Shop', '[\"::1\"]'), ('j', '', '[1]')"),
        Statement("INSERT INTO instances(id, name) VALUES ('bad', CAST(x'ff' AS TEXT))"),
        Statement(
            "INSERT INTO instance_keys(id, instance_id, secret, created_at, expires_at) VALUES ('k', 'i', x'00', 5, 6)"
        ),
    )
    loaded = await load_instances(database, ["i", "j", "bad", "none"])
    assert loaded["none"] is None
    assert isinstance(loaded["bad"], BadDocument)
    first, second = loaded["i"], loaded["j"]
    assert first is not None
    assert not isinstance(first, BadDocument)
    assert second is not None
    assert not isinstance(second, BadDocument)
    shown = instance_document(first).document.data()
    assert shown["limits"] == {"networks": ["::1"], "requests_per_minute": 6000}
    assert shown["keys"] == {"k": {"created_at": rfc3339(5), "expires_at": rfc3339(6)}}
    assert "networks" not in instance_document(second).document.data()["limits"]
