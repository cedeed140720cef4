from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.core.clock import DAY_MS, HOUR_MS
from gateway.core.spending import Order
from gateway.errors import Conflict
from gateway.store import leases, ledger, quotas
from gateway.store.backup import restore
from gateway.store.database import Database, Statement
from gateway.store.http_streams import HttpServer
from gateway.store.inspection import inspect
from gateway.store.ledger import Difference, list_ledger, prune_ledger, unbalanced
from gateway.store.quotas import Quotas
from gateway.store.server_restore import Backup, restore_server
from tests.conftest import StartServer

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

KEEP = 400 * DAY_MS


async def consume(
    spenders: Spenders, key: str, amount: int = 1, quota: str = "mail", owner: str = "user:u_ada"
) -> None:
    await spenders.quotas.spender.consume(Order(spenders.ADA, owner, quota, amount, key))


async def kinds(spenders: Spenders, owner: str = "user:u_ada", **which: int | str) -> list[str]:
    found = await list_ledger(spenders.database, owner, **which)  # type: ignore[arg-type]
    return [f"{entry.kind} {entry.key or entry.lease or '-'}" for entry in found]


async def test_entries_are_listed_from_the_newest(spenders: Spenders, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = spenders.quotas.leases
    await consume(spenders, "k1", 3)
    await leases.reserve(spenders.ADA, spenders.ADA, "voice", 4, "call", 60)
    spenders.now += 1_000
    await leases.extend(spenders.ADA, "call", 60, amount=2, key="more")
    await consume(spenders, "k2", 2, "voice", "org:o_acme")
    await leases.commit(spenders.ADA, "call", 5)
    await spenders.sql("UPDATE quota_usage SET used = used + 7 WHERE quota = 'mail'")
    everything = ["sql -", "commit call", "extend more", "reserve call", "consume k1"]
    assert await kinds(spenders) == everything
    assert await kinds(spenders, quota="voice") == everything[1:4]
    assert await kinds(spenders, limit=2) == everything[:2]
    assert await kinds(spenders, since=spenders.NOON + 1_000) == everything[:3]
    assert await kinds(spenders, "org:o_acme") == ["consume k2"]
    assert await kinds(spenders, "user:u_eve") == []
    newest, commit, extend, *_ = await list_ledger(spenders.database, "user:u_ada")
    assert (commit.used, commit.reserved, commit.used_after, commit.reserved_after) == (5, -6, 5, 0)
    assert (extend.at, extend.spender, extend.lease, extend.period) == (spenders.now, spenders.ADA, "call", "day")
    assert (newest.spender, newest.period, newest.used, newest.used_after) == (None, None, 7, 10)
    assert await kinds(spenders, before=commit.id) == everything[2:]
    # In steps of any length, gaps in the ids included.
    await spenders.sql("DELETE FROM quota_ledger WHERE key = 'more'")
    for step in (1, 2, 100):
        monkeypatch.setattr(ledger, "STEP", step)
        assert await kinds(spenders) == everything[:2] + everything[3:]
        assert await kinds(spenders, limit=3) == everything[:2] + everything[3:4]
        assert await kinds(spenders, before=commit.id, since=0) == everything[3:]
        assert await kinds(spenders, since=spenders.NOON + 2 * HOUR_MS) == ["sql -"]


async def test_a_text_that_is_not_utf_8_does_not_hide_the_others(spenders: Spenders) -> None:
    await consume(spenders, "k1")
    await spenders.sql(
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:u_ada', CAST(x'ff' AS TEXT), 0, 1)"
    )
    assert [entry.quota for entry in await list_ledger(spenders.database, "user:u_ada")] == ["\ufffd", "mail"]


async def test_an_empty_ledger(spenders: Spenders) -> None:
    assert await list_ledger(spenders.database, spenders.ADA) == []
    assert await unbalanced(spenders.database) == []
    assert await prune_ledger(spenders.database, KEEP, spenders.now) == (0, 0, None, True)


async def test_whoever_writes_a_balance_is_booked(spenders: Spenders) -> None:
    """In all ways that SQL has but REPLACE, also such that leave a value that an entry has said already."""
    await consume(spenders, "k1", 5)
    for sql in (
        "UPDATE quota_usage SET used = 9, reserved = 2",
        "UPDATE quota_usage SET used = 5, reserved = 0",
        "UPDATE quota_usage SET used = used",
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:u_ben', 'mail', 1, 5)",
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:u_ben', 'mail', 1, 7)"
        " ON CONFLICT DO UPDATE SET used = used + excluded.used",
        "UPDATE quota_usage SET owner = 'user:u_eve' WHERE owner = 'user:u_ben'",
        "UPDATE quota_usage SET quota = 'fax', used = 5 WHERE owner = 'user:u_eve'",
        "UPDATE quota_usage SET period_start = -3 WHERE owner = 'user:u_eve'",
        "DELETE FROM quota_usage WHERE owner = 'user:u_eve'",
        "INSERT INTO quota_usage(owner, quota, period_start) VALUES ('user:u_eve', 'fax', -3)",
        "UPDATE quota_usage SET used = 5 WHERE owner = 'user:u_eve'",
        "UPDATE users SET id = 'u_lovelace' WHERE id = 'u_ada'",
        "DELETE FROM users WHERE id = 'u_lovelace'",
        "DELETE FROM quota_usage",
    ):
        await spenders.sql(sql)
        assert await unbalanced(spenders.database) == [
            Difference("held", "user:u_ada", "mail", start, 2, 0)
            for start, _, reserved in await spenders.usage("user:u_ada", "mail")
            if reserved and "reserved = 2" not in sql
        ]
    [[(used,)]] = await spenders.database.read(Statement("SELECT sum(used) FROM quota_ledger"))
    assert used == 0


async def test_what_does_not_add_up_is_told(spenders: Spenders) -> None:
    leases = spenders.quotas.leases
    await consume(spenders, "k1", 5)
    await leases.reserve(spenders.BEN, "org:o_acme", "voice", 3, "call", 60)
    [month], [day] = await spenders.usage("user:u_ada", "mail"), await spenders.usage("org:o_acme", "voice")
    for sql, found in (
        ("UPDATE quota_ledger SET used = 4 WHERE key = 'k1'", [("used", "user:u_ada", "mail", month[0], 5, 4, None)]),
        ("DELETE FROM quota_ledger WHERE key = 'k1'", [("used", "user:u_ada", "mail", month[0], 5, 0, None)]),
        (
            "DELETE FROM leases",
            [
                ("held", "org:o_acme", "voice", day[0], 3, 0, None),
                ("member", "org:o_acme", "voice", day[0], 3, 0, spenders.BEN),
            ],
        ),
        ("UPDATE member_usage SET reserved = 1", [("member", "org:o_acme", "voice", day[0], 1, 3, spenders.BEN)]),
        # Less than what leases hold is wrong, whoever wrote it.
        (
            "UPDATE quota_usage SET reserved = 1 WHERE owner = 'org:o_acme'",
            [("held", *("org:o_acme", "voice"), day[0], 1, 3, None)],
        ),
        # More may be somebody else's way to hold units.
        ("UPDATE quota_usage SET reserved = 5 WHERE owner = 'org:o_acme'", []),
    ):
        async with Undone(spenders.database, sql) as differences:
            assert differences == found, sql
    assert await unbalanced(spenders.database) == []


class Undone:
    """What `unbalanced` says after some SQL, which is undone: of a private table all rows are put back."""

    TABLES = ("quota_ledger", "leases", "member_usage")

    def __init__(self, database: Database, sql: str) -> None:
        self._database = database
        self._sql = sql

    async def __aenter__(self) -> list[Difference]:
        await self._database.script(
            "".join(f"CREATE TABLE kept_{table} AS SELECT * FROM {table};" for table in self.TABLES)
            + "ALTER TABLE kept_quota_ledger DROP COLUMN instance;"  # it is generated
            + "CREATE TABLE kept_usage AS SELECT * FROM quota_usage;"
        )
        await self._database.write(Statement(self._sql))
        return await unbalanced(self._database)

    async def __aexit__(self, *exception: object) -> None:
        await self._database.script(
            "UPDATE quota_usage SET reserved = k.reserved FROM kept_usage AS k"
            " WHERE (k.owner, k.quota) = (quota_usage.owner, quota_usage.quota);"
            + "".join(
                f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}; DROP TABLE kept_{table};"
                for table in self.TABLES
            )
            + "DROP TABLE kept_usage;"
        )


async def test_the_doctor_says_what_does_not_add_up(spenders: Spenders) -> None:
    assert [finding async for finding in inspect(spenders.database, 2**45)] == []
    await consume(spenders, "k1", 5)
    await spenders.quotas.leases.reserve(spenders.BEN, "org:o_acme", "voice", 3, "call", 60)
    await spenders.sql("DELETE FROM leases")
    await spenders.sql("DELETE FROM quota_ledger WHERE key = 'k1'")
    found = [finding async for finding in inspect(spenders.database, 2**45)]
    day, month = "2026-11-21T00:00:00.000Z", "2026-11-01T00:00:00.000Z"
    assert [(finding.check, finding.message) for finding in found] == [
        ("balances", f"mail of user:u_ada in the period from {month}: 5 are used and the ledger adds up to 0"),
        ("balances", f"voice of org:o_acme in the period from {day}: 3 are reserved and open leases hold 0"),
        (
            "balances",
            f"voice of org:o_acme in the period from {day}: user:u_ben has 3 reserved and open leases hold 0",
        ),
    ]


async def test_old_entries_go_and_balances_still_add_up(spenders: Spenders) -> None:
    leases, start = spenders.quotas.leases, spenders.NOON
    await consume(spenders, "never", 2, "seats")
    await consume(spenders, "old", 3)
    await leases.reserve(spenders.ADA, spenders.ADA, "voice", 4, "call", 60)
    await leases.commit(spenders.ADA, "call", 1)
    await spenders.sql("UPDATE quota_usage SET used = used + 1 WHERE quota = 'seats'")
    # A trigger dates what somebody else's SQL did by the clock of whoever runs it.
    await spenders.sql("UPDATE quota_ledger SET at = ? WHERE kind = 'sql'", start)
    await spenders.sql(
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:u_eve', 'mail', ?, 6)",
        start + 900 * DAY_MS,
    )
    await spenders.sql("UPDATE quota_ledger SET at = ? WHERE kind = 'sql'", start)
    spenders.now += KEEP + DAY_MS
    await consume(spenders, "young", 5)
    await spenders.quotas.keep_house(KEEP, spenders.now)
    assert await kinds(spenders) == ["consume young", "consume never"]
    # Not what is about a period that is yet to come.
    assert await kinds(spenders, "user:u_eve") == ["sql -"]
    assert await unbalanced(spenders.database) == []
    [[(count,)]] = await spenders.database.read(Statement("SELECT count(*) FROM leases"))
    assert count == 0
    # The key of what was pruned is new again; that of a period without an end is not.
    await consume(spenders, "old", 1)
    with pytest.raises(Conflict):
        await consume(spenders, "never", 3, "seats")
    assert await unbalanced(spenders.database) == []
    await spenders.sql("UPDATE quota_ledger SET used_after = 9 WHERE key = 'young'")
    assert await unbalanced(spenders.database) == []
    await spenders.sql("UPDATE quota_ledger SET used = 9 WHERE key = 'young'")
    assert [found.what for found in await unbalanced(spenders.database)] == ["used"]


async def test_the_newest_entry_about_an_old_row_has_to_be_right(spenders: Spenders) -> None:
    """Of which the ones before may be gone."""
    await consume(spenders, "one", 2, "seats")
    await spenders.sql("UPDATE quota_usage SET used = used + 1 WHERE quota = 'seats'")
    await spenders.sql("UPDATE quota_ledger SET at = ? WHERE kind = 'sql'", spenders.now)
    spenders.now += KEEP + 2 * DAY_MS
    await consume(spenders, "two", 1, "seats")
    assert (await prune_ledger(spenders.database, KEEP, spenders.now)).entries == 1
    assert await unbalanced(spenders.database) == []
    await spenders.sql("UPDATE quota_ledger SET used_after = 3 WHERE key = 'two'")
    assert [(found.what, found.found) for found in await unbalanced(spenders.database)] == [("used", 4)]


async def test_pruning_goes_on_where_it_was(spenders: Spenders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PRUNE_PAGE", 3)
    monkeypatch.setattr(ledger, "PRUNE_GROUP", 2)
    for number in range(8):
        await consume(spenders, f"k{number}", 1, "seats" if number in (2, 3, 4) else "mail")
        spenders.now += HOUR_MS
    before = spenders.now
    spenders.now += KEEP
    # What is new is judged by it, and the newest entry always stays.
    pruned = await prune_ledger(spenders.database, KEEP, spenders.now)
    assert pruned.entries == 0
    await consume(spenders, "k8")
    pruned = await prune_ledger(spenders.database, KEEP, before + KEEP - 2 * HOUR_MS)
    assert await kinds(spenders) == ["consume k8", "consume k7", "consume k6", *(f"consume k{n}" for n in (4, 3, 2))]
    assert pruned.entries == 3
    again = await prune_ledger(spenders.database, KEEP, before + KEEP, position=pruned.position)
    assert await kinds(spenders) == ["consume k8", *(f"consume k{n}" for n in (4, 3, 2))]
    assert again.entries == 2


async def test_a_clock_that_is_wrong_does_not_cost_the_ledger(spenders: Spenders) -> None:
    await consume(spenders, "old")
    spenders.now += KEEP + HOUR_MS
    await consume(spenders, "young")
    # Somebody's clock is ten years ahead, and the entries are not.
    assert (await prune_ledger(spenders.database, KEEP, spenders.now + 3_650 * DAY_MS)).entries == 1
    spenders.now += 3_650 * DAY_MS
    await consume(spenders, "wrong")
    assert (await prune_ledger(spenders.database, KEEP, spenders.now)).entries == 0
    assert await kinds(spenders) == ["consume wrong", "consume young"]


async def test_housekeeping_looks_once_in_an_hour(spenders: Spenders) -> None:
    await consume(spenders, "old")
    spenders.now += KEEP + HOUR_MS
    await spenders.quotas.keep_house(KEEP, spenders.now)
    await consume(spenders, "young")
    await spenders.quotas.keep_house(KEEP, spenders.now + HOUR_MS - 1)
    assert len(await kinds(spenders)) == 2
    await spenders.quotas.keep_house(KEEP, spenders.now + HOUR_MS)
    assert await kinds(spenders) == ["consume young"]


async def test_much_that_is_old_is_deleted_in_several_calls(
    spenders: Spenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PRUNE_PAGE", 3)
    monkeypatch.setattr(leases, "PRUNE_GROUP", 2)
    monkeypatch.setattr(quotas, "PRUNE_PAGES", 2)
    monkeypatch.setattr(quotas, "PRUNE_GROUPS", 1)
    for number in range(7):
        await consume(spenders, f"k{number}")
    for number in range(5):
        await spenders.quotas.leases.reserve(spenders.ADA, spenders.ADA, "mail", 1, f"l{number}", 60)
        await spenders.quotas.leases.release(spenders.ADA, f"l{number}")
    spenders.now += KEEP + DAY_MS
    await consume(spenders, "young")
    left = []
    for minute in range(6):
        await spenders.quotas.keep_house(KEEP, spenders.now + minute * 60_000)
        left.append((len(await kinds(spenders)), (await spenders.sql("SELECT count(*) FROM leases"))[0][0]))
    assert left == [(12, 5), (6, 5), (1, 5), (1, 3), (1, 1), (1, 0)]
    assert await unbalanced(spenders.database) == []


async def tables(database: Database) -> list[object]:
    names = ("quota_usage", "quota_ledger", "leases", "member_usage")
    return list(await database.read(*(Statement(f"SELECT * FROM {name}") for name in names)))


async def goes_on(spenders: Spenders, copy: Database) -> None:
    """A copy has what was spent, booked once, and spends on as the first would."""
    assert await tables(copy) == await tables(spenders.database)
    assert [finding async for finding in inspect(copy, 2**45)] == []
    quotas = Quotas(copy, lambda: spenders.now)
    again = await quotas.spender.consume(Order(spenders.ADA, spenders.ADA, "voice", 2, "k1"))
    assert (again.balance.used, again.balance.reserved) == (2, 0)
    held = await quotas.leases.commit(spenders.BEN, "call", 2)
    assert (held.balance.used, held.balance.reserved, held.balance.cap, held.balance.member_taken) == (2, 0, 4, 2)
    spent = await quotas.spender.consume(Order(spenders.ADA, spenders.ADA, "voice", 1, "k2"))
    assert spent.balance.used == 8
    await copy.write(Statement("UPDATE quota_usage SET used = 1"))
    assert await unbalanced(copy) == []


async def spent_something(spenders: Spenders) -> None:
    await consume(spenders, "k1", 2, "voice")
    await spenders.quotas.leases.reserve(spenders.BEN, "org:o_acme", "voice", 3, "call", 60)
    await spenders.sql("UPDATE quota_usage SET used = 7 WHERE owner = 'user:u_ada'")


async def test_a_backup_spends_on(spenders: Spenders, tmp_path: Path) -> None:
    await spent_something(spenders)
    await spenders.database.backup(tmp_path / "copy.db")
    await asyncio.wait_for(restore(tmp_path / "copy.db", tmp_path / "into.db"), 30)
    async with await Database.open(str(tmp_path / "into.db"), create=False) as copy:
        await goes_on(spenders, copy)


async def test_a_server_that_was_restored_spends_on(
    spenders: Spenders, start_server: StartServer, tmp_path: Path
) -> None:
    await spent_something(spenders)
    await spenders.database.backup(tmp_path / "copy.db")
    server = start_server("restored")
    async with await Database.open(server.url) as copy:
        http = HttpServer(server.url, None)
        with Backup(tmp_path / "copy.db") as backup:
            await restore_server(backup, http, lambda rows: None)
        await http.close()
        await goes_on(spenders, copy)
