from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.password_hash import MAX_LENGTH
from gateway.core.spending import Order
from gateway.errors import QuotaExceeded, StoreUnavailable
from gateway.store.changes import last_seq
from gateway.store.database import Database, Row, Statement
from gateway.store.ledger import unbalanced
from gateway.store.migrate import migrate
from gateway.store.quotas import Quotas
from gateway.store.transfer.records import TABLES
from tests.support.document_model import Tables, canonical_bytes, user_document
from tests.support.people import add_plan, add_token, add_user, insert, run, token_text
from tests.support.transfers import ACME, FREE, HEADER, Export, export, import_, sealed, sorted_file, token, user
from tests.support.worlds import NOW, USERS, World, worlds

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"
NO_STORE = settings(max_examples=15)


@asynccontextmanager
async def new_database(path: Path) -> AsyncIterator[Database]:
    async with await Database.open(str(path)) as database:
        await migrate(database)
        yield database


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Database]:
    """A second database, in a file."""
    async with new_database(tmp_path / "other.db") as opened:
        yield opened


async def fill(database: Database) -> None:
    """Something of everything that moves."""
    await database.write(
        *add_plan("free", ["a"], q=5),
        *add_plan("pro", ["a", "b"], q=(None, "day"), never=(3, "never")),
        insert("roles", id="editor", name="Editors"),
        insert("role_permissions", role="editor", permission="c"),
        insert("organizations", id="o_acme", name="Acme", plan="pro", attributes='{"n": 1.0, "x": null}', anchor_at=-5),
        insert("org_role_permissions", role="owner", permission="manage_members"),
        insert("quota_usage", owner="org:o_acme", quota="q", period_start=0, used=4, reserved=1),
        add_user("u1", "pro", name="Zoë 😀", email="Ada@Example.org", password_hash=HASH, is_admin=1, created_at=1),
        add_user("u2", status="disabled", attributes='{"list": [null, 1.50, "t"], "deep": {"a": {}}}', updated_at=9),
        insert("user_roles", user_id="u1", role="editor", expires_at=NOW),
        insert("user_permissions", user_id="u1", permission="a", effect="deny", starts_at=5),
        insert("user_permissions", user_id="u1", permission="a", effect="allow", expires_at=6),
        insert("user_quotas", user_id="u1", quota="q", limit_value=7, period="year", hard=0, starts_at=1),
        insert("quota_usage", owner="user:u1", quota="q", period_start=-100, used=2**53 - 1, reserved=0),
        insert("quota_usage", owner="user:u1", quota="q", period_start=100, used=3, reserved=2),
        insert("memberships", org_id="o_acme", user_id="u1", role="owner", created_at=3),
        insert("member_caps", org_id="o_acme", user_id="u2", quota="q", limit_value=None),
        insert("member_usage", org_id="o_acme", user_id="u1", quota="q", period_start=0, used=3),
        insert("member_usage", org_id="o_acme", user_id="u2", quota="q", period_start=-7, used=1),
        insert("member_usage", org_id="o_acme", user_id="u2", quota="q", period_start=0),
        add_token("u1", token_text("one"), id="t1", scopes={"permissions": ["a"]}, expires_at=NOW),
        add_token("u1", token_text("two"), id="t2", name="laptop", revoked_at=5, last_used_at=4),
        insert("login_sessions", id="s1", user_id="u1", expires_at=NOW, ip="127.0.0.1"),
        add_token("u2", token_text("three"), id="t3"),
    )
    await database.write(
        Statement("DELETE FROM api_tokens WHERE id = 't3'"), Statement("UPDATE login_sessions SET revoked_at = 5")
    )


async def test_everything_moves_and_the_way_back_is_the_same(database: Database, other: Database) -> None:
    await fill(database)
    first = await export(database)
    assert first.remarks == []
    report = await import_(other, first.content)
    assert report.told == []
    assert report.counts == {
        "role": (1, 0, 0, 0),
        "plan": (2, 0, 0, 0),
        "organization_role": (1, 0, 0, 0),
        "organization": (1, 0, 0, 0),
        "user": (2, 0, 0, 0),
        # That of t2 came with its user already.
        "revocation": (2, 0, 1, 0),
    }
    second = await export(other)
    assert second.records == first.records
    assert [row[0] for row in (await other.read(Statement("SELECT id FROM login_sessions")))[0]] == []
    assert set(first.of("revocation")) == {"s1", "t2", "t3"}

    for table in ("users", "api_tokens"):
        await database.write(Statement(f"DELETE FROM {table}"))
    await database.write(Statement("DELETE FROM revocations"), Statement("DELETE FROM organizations"))
    assert (await import_(database, second.content)).count("refused") == 0
    assert (await export(database)).records == first.records


async def test_no_secret_is_in_the_file(database: Database) -> None:
    await fill(database)
    content = (await export(database)).content
    assert token_text("one").encode() not in content
    assert HASH.encode() in content


async def test_the_header_names_the_moment(database: Database) -> None:
    await fill(database)
    found = await export(database)
    header, manifest = (json.loads(line) for line in (found.content.splitlines()[0], found.content.splitlines()[-1]))
    epoch = (await database.read(Statement("SELECT value FROM meta WHERE key = 'epoch'")))[0][0][0]
    assert (header["epoch"], header["seq"]) == (epoch, await last_seq(database)) == (epoch, found.seq)
    assert manifest["counts"]["user"] == 2


# --- any database ----------------------------------------------------------------------------------------------------


credentials = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["t1", "t2", "t3", "t4"]),
            "user_id": st.sampled_from(USERS),
            "scopes": st.sampled_from(["{}", '{"permissions":["a"]}', '{"x":null}']),
            "revoked_at": st.none() | st.integers(0, NOW),
            "expires_at": st.none() | st.integers(0, 2 * NOW),
            "delete": st.booleans(),
        }
    ),
    max_size=4,
    unique_by=lambda row: row["id"],
)


def add_credentials(world: World, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        columns = {name: value for name, value in row.items() if name != "delete"}
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        sql = f"INSERT INTO api_tokens (token_hash, {names}) VALUES (?, {marks})"
        world.execute(sql, token(row["id"])["token_hash"], *columns.values())
        if row["delete"]:
            world.execute("DELETE FROM api_tokens WHERE id = ?", row["id"])


def documents(path: Path) -> list[bytes]:
    world = World(path)
    tables = world.tables()
    world.close()
    return [canonical_bytes(user_document(tables, user_id, NOW)) for user_id in USERS]


async def filled(path: Path, tables: Tables, tokens: list[dict[str, Any]]) -> None:
    world = World(path)
    world.fill(tables)
    add_credentials(world, tokens)
    world.close()


@NO_STORE
@given(worlds, credentials)
def test_any_database_comes_back_from_its_export(tables: Tables, tokens: list[dict[str, Any]]) -> None:
    async def there_and_back(directory: Path) -> None:
        async with new_database(directory / "a.db") as source, new_database(directory / "b.db") as target:
            await filled(directory / "a.db", tables, tokens)
            first = await export(source)
            again = await export(source)
            assert again.records == first.records
            report = await import_(target, first.content, as_stored=True)
            assert report.count("refused") == report.count("changed") == 0
            assert (await export(target)).records == first.records
            repeated = await import_(target, first.content, as_stored=True)
            assert repeated.count("same") == len(first.records)
            # Leases stay behind, with the units that they hold.
            await run(source, "UPDATE quota_usage SET reserved = 0")
            await run(source, "UPDATE member_usage SET reserved = 0")
        assert documents(directory / "a.db") == documents(directory / "b.db")

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(there_and_back(Path(directory)))


@NO_STORE
@given(worlds, credentials, worlds, credentials, st.booleans(), st.booleans())
def test_a_dry_run_tells_what_an_import_does(
    tables: Tables, tokens: list[Any], standing: Tables, others: list[Any], overwrite: bool, as_stored: bool
) -> None:
    async def both(directory: Path) -> None:
        async with new_database(directory / "a.db") as source, new_database(directory / "b.db") as target:
            await filled(directory / "a.db", tables, tokens)
            await filled(directory / "b.db", standing, others)
            content = (await export(source)).content
            before, seq = (await export(target)).records, await last_seq(target)
            told = await import_(target, content, overwrite=overwrite, as_stored=as_stored, dry_run=True)
            assert (await export(target)).records == before
            assert await last_seq(target) == seq
            assert await import_(target, content, overwrite=overwrite, as_stored=as_stored) == told
            done = await import_(target, content, overwrite=overwrite, as_stored=as_stored)
            # The second time only goes on with what stood in the way of the first.
            changed = {(outcome.kind, outcome.id) for outcome in done.told if outcome.what == "changed"}
            assert changed <= {(outcome.kind, outcome.id) for outcome in told.told if outcome.what == "refused"}
            assert done.count("added") <= told.count("refused")
            moved = Export(content, [], 0)
            standing_now = await export(target)
            for kind in ("plan", "role", "user", "organization"):
                refused = {outcome.id for outcome in done.told if (outcome.kind, outcome.what) == (kind, "refused")}
                for id, record in moved.of(kind).items():
                    assert id in refused or standing_now.of(kind)[id] == record

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(both(Path(directory)))


# --- one moment ------------------------------------------------------------------------------------------------------


async def test_an_export_is_of_one_moment_while_others_write(database: Database) -> None:
    """Every commit gives all of some users the same name, and moves a token, a plan and a user along."""
    ids = [f"u{number:03}" for number in range(500)]
    marked = ids[::50]
    await database.write(*add_plan("free"), *(add_user(id) for id in ids), add_user("gone0"))
    stop = asyncio.Event()
    writes = 0

    async def keep_writing() -> None:
        nonlocal writes
        for number in itertools.count(1):
            await database.write(
                Statement(
                    "UPDATE users SET name = ? WHERE id IN (SELECT value FROM json_each(?))",
                    (str(number), json.dumps(marked)),
                ),
                Statement("UPDATE plans SET name = ?", (str(number),)),
                Statement("DELETE FROM users WHERE id = ?", (f"gone{number - 1}",)),
                add_user(f"gone{number}"),
                add_token(f"gone{number}", token_text(number), id=f"t{number}"),
            )
            writes = number
            if stop.is_set():
                return

    writing = asyncio.create_task(keep_writing())
    for _ in range(3):
        before = writes
        found = await export(database)
        users = found.of("user")
        names = {users[id]["name"] for id in marked}
        assert len(names) == 1
        [number] = names
        assert found.of("plan")["free"]["name"] == number
        assert [id for id in users if id.startswith("gone")] == [f"gone{number}"]
        assert int(number) == 0 or [row["id"] for row in users[f"gone{number}"]["tokens"]] == [f"t{number}"]
        assert set(found.of("revocation")) == {f"t{gone}" for gone in range(1, int(number))}
        assert int(number) > before, "nothing was written while it was read"
    stop.set()
    await writing


class Disturbed:
    """A database in which somebody runs statements once the first users were read."""

    def __init__(self, database: Database, *statements: Statement) -> None:
        self._database = database
        self._statements = statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def scan(self, *statements: Statement) -> list[list[Row]]:
        answers = await self._database.scan(*statements)
        if self._statements and "FROM member_usage WHERE user_id" in statements[-1].sql:
            await self._database.write(*self._statements)
            self._statements = ()
        return answers


async def test_what_is_written_while_it_is_read_is_in_the_export(database: Database) -> None:
    await fill(database)
    await run(database, "INSERT INTO plans(id) VALUES ('late'), ('gone')")
    disturbed = Disturbed(
        database,
        Statement("UPDATE users SET plan = 'late' WHERE id = 'u1'"),
        Statement("UPDATE roles SET id = 'author'"),
        Statement("UPDATE organizations SET id = 'o_other'"),
        Statement("DELETE FROM org_role_permissions"),
        Statement("DELETE FROM users WHERE id = 'u2'"),
        Statement("DELETE FROM plans WHERE id = 'gone'"),
        Statement("UPDATE login_sessions SET revoked_at = NULL"),
        Statement("DELETE FROM api_tokens WHERE id = 't1'"),
    )
    found = await export(disturbed)  # type: ignore[arg-type]
    assert found.records == (await export(database)).records
    assert found.of("user").keys() == {"u1"}
    assert found.of("revocation").keys() == {"t1", "t2", "t3"}
    assert found.of("organization").keys() == {"o_other"}
    assert found.of("role").keys() == {"author"}


TAKE = """
INSERT INTO spending(at, kind, spender, owner, quota, timezone, period, period_start, used, reserved, key, lease,
  expires_at)
VALUES (?, ?, ?, 'org:o_acme', 'q', 'UTC', 'month', ?, ?, ?, ?, ?, 1)"""
START = 0


async def test_what_members_take_while_it_is_read_is_in_the_export(database: Database) -> None:
    """The change log names the organization alone where a member has no cap."""
    await database.write(
        *add_plan("free", q=None),
        insert("organizations", id="o_acme", plan="free"),
        *(add_user(f"u{number}") for number in range(3)),
        *(insert("memberships", org_id="o_acme", user_id=f"u{number}") for number in range(3)),
    )
    for number in (1, 2):
        args = (NOW, "reserve", f"user:u{number}", START, 0, 9, None, "l")
        await database.write(
            Statement(TAKE, args), insert("login_sessions", id=f"s{number}", user_id="u0", expires_at=1)
        )
    seen: list[Any] = []
    for disturbance in (
        Statement(TAKE, (NOW, "consume", "user:u0", START, 4, 0, "key", None)),
        Statement("UPDATE leases SET state = 'committed', committed = 6, ended_at = 1 WHERE spender = 'user:u1'"),
        Statement("DELETE FROM users WHERE id = 'u2'"),
        Statement("UPDATE organizations SET id = 'o_other'"),
    ):
        found = await export(Disturbed(database, disturbance))  # type: ignore[arg-type]
        assert found.records == (await export(database)).records
        seen.append({id: user["member_usage"] for id, user in found.of("user").items()})
    took = {"org_id": "o_acme", "quota": "q", "period_start": START}
    first, second = [took | {"used": 4}], [took | {"used": 6}]
    assert seen[:3] == [
        {"u0": first, "u1": [], "u2": []},
        {"u0": first, "u1": second, "u2": []},
        {"u0": first, "u1": second},
    ]
    assert [user[0]["org_id"] for user in seen[3].values()] == ["o_other", "o_other"]


async def test_an_export_notices_that_the_database_was_replaced(database: Database) -> None:
    await fill(database)
    with pytest.raises(StoreUnavailable, match="replaced"):
        await export(Disturbed(database, Statement("UPDATE meta SET value = 'new' WHERE key = 'epoch'")))  # type: ignore[arg-type]


async def test_an_export_notices_that_the_log_was_cut_off(database: Database) -> None:
    await fill(database)
    first, last = Statement("UPDATE plans SET name = 'a'"), Statement("UPDATE roles SET name = 'a'")
    with pytest.raises(StoreUnavailable, match="cut off"):
        await export(Disturbed(database, first, Statement("DELETE FROM change_log"), last))  # type: ignore[arg-type]


# --- what is there already -------------------------------------------------------------------------------------------


async def test_what_differs_is_refused_and_told_by_field(database: Database) -> None:
    await import_(database, sealed(FREE, user("u1")))
    seq = await last_seq(database)
    report = await import_(
        database, sealed(FREE, user("u1", name="Ada", tokens=[token("t1")]), user("u2", username="bob"))
    )
    assert report.counts == {"plan": (0, 0, 1, 0), "user": (1, 0, 0, 1)}
    assert report.reasons == {"u1": "differs from what is here in name, tokens"}
    assert [outcome.line for outcome in report.told] == [3]
    assert await last_seq(database) > seq


async def test_overwriting_makes_it_exactly_as_the_file_says(database: Database, other: Database) -> None:
    await fill(database)
    await fill(other)
    wanted = await export(database)
    await other.write(
        insert("user_roles", user_id="u2", role="editor"),
        insert("user_permissions", user_id="u1", permission="z"),
        insert("quota_usage", owner="user:u1", quota="q", period_start=101, used=3),
        insert("member_usage", org_id="o_acme", user_id="u1", quota="q", period_start=101, used=3),
        Statement("UPDATE member_usage SET used = 9 WHERE user_id = 'u1' AND period_start = 0"),
        insert("plan_permissions", plan="free", permission="z"),
        insert("org_role_permissions", role="owner", permission="z"),
        add_token("u1", token_text("four"), id="t4"),
        add_user("u3"),
        Statement("UPDATE users SET name = 'Eve', updated_at = updated_at WHERE id = 'u1'"),
        Statement("UPDATE quota_usage SET used = 1 WHERE owner = 'user:u1' AND period_start = 100"),
        Statement("UPDATE organizations SET status = 'disabled'"),
        Statement("UPDATE api_tokens SET name = 'other' WHERE id = 't1'"),
        Statement("DELETE FROM memberships"),
    )
    report = await import_(other, wanted.content, overwrite=True)
    assert report.count("refused") == 0
    assert report.counts["user"] in ((0, 2, 0, 0), (0, 1, 1, 0))
    found = await export(other)
    assert found.of("user").keys() == {"u1", "u2", "u3"}
    for kind in ("plan", "role", "organization_role", "organization", "user"):
        assert {id: record for id, record in found.of(kind).items() if id != "u3"} == wanted.of(kind)
    assert found.of("revocation").keys() - wanted.of("revocation").keys() == {"t4"}
    assert (await import_(other, wanted.content, overwrite=True)).count("same") == len(wanted.records)


async def test_overwriting_touches_no_token_that_is_right_already(database: Database) -> None:
    first = sealed(FREE, user("u1", tokens=[token("t1"), token("t2")]))
    await import_(database, first)
    seq = await last_seq(database)
    await import_(database, sealed(FREE, user("u1", name="Ada", tokens=[token("t1"), token("t2")])), overwrite=True)
    [rows] = await database.read(Statement("SELECT DISTINCT cause FROM change_log WHERE seq > ?", (seq,)))
    assert rows == [("profile",)]


async def test_balances_are_set_and_never_added(database: Database) -> None:
    content = sealed(FREE, user("u1", usage=[{"quota": "q", "period_start": 0, "used": 5}]))
    await import_(database, content)
    await run(database, "UPDATE quota_usage SET used = 7")
    for _ in range(2):
        assert (await import_(database, content, overwrite=True)).count("refused") == 0
        assert (await database.read(Statement("SELECT used FROM quota_usage")))[0] == [(5,)]


async def test_thousands_of_balances_of_one_user(database: Database) -> None:
    usage = [{"quota": "q", "period_start": moment, "used": moment + 1} for moment in range(12_000)]
    content = sealed(FREE, user("u1", usage=usage), user("u2", usage=usage[:10]))
    assert (await import_(database, content)).count("added") == 3
    assert [len(record["usage"]) for record in (await export(database)).of("user").values()] == [12_000, 10]
    assert (await import_(database, content)).count("same") == 3
    shorter = sealed(FREE, user("u1", usage=usage[1:11_000]), user("u2"))
    assert (await import_(database, shorter, overwrite=True)).counts["user"] == (0, 2, 0, 0)
    assert (await import_(database, shorter)).count("same") == 3


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "plan": (user("u9", plan="gold"), "there is no plan gold"),
    "role": (user("u9", roles=[{"role": "boss"}]), "there is no role boss"),
    "organization": (
        user("u9", memberships=[{"org_id": "o_x", "created_at": 1}]),
        "there is no organization o_x",
    ),
    "cap": (user("u9", caps=[{"org_id": "o_x", "quota": "q"}]), "there is no organization o_x"),
    "member usage": (
        user("u9", member_usage=[{"org_id": "o_x", "quota": "q", "period_start": 0, "used": 1}]),
        "there is no organization o_x",
    ),
    "user name": (user("u9", username="U1"), "the user name U1 belongs to the user u1 here"),
    "e-mail": (
        user("u9", email="ADA@example.org"),
        "the e-mail address ADA@example.org belongs to the user u1 here",
    ),
    "token id": (user("u9", tokens=[token("t1")]), "the id of an API token t1 belongs to the user u1 here"),
    "token hash": (
        user("u9", tokens=[token("t9", token_hash=token("t1")["token_hash"])]),
        f"the hash of an API token {token('t1')['token_hash']} belongs to the user u1 here",
    ),
    "hashes": (
        user("u9", tokens=[token("t8"), token("t9", token_hash=token("t8")["token_hash"])]),
        "two of its API tokens have the same hash",
    ),
    "revoked": (user("u9", tokens=[token("t_gone")]), "the API token t_gone was revoked here"),
    "revocation": (
        {"kind": "revocation", "id": "t1", "credential": "api_token", "user_id": "u1"},
        "the credential is in force here: revoke it first",
    ),
    "session": (
        {"kind": "revocation", "id": "s1", "credential": "login_session", "user_id": "u1"},
        "the credential is in force here: revoke it first",
    ),
}


@pytest.mark.parametrize("overwrite", [False, True])
async def test_what_stands_against_a_record(database: Database, overwrite: bool) -> None:
    tokens = [token("t1"), token("t_gone")]
    await import_(database, sealed(FREE, user("u1", email="ada@example.org", tokens=tokens)))
    await run(database, "DELETE FROM api_tokens WHERE id = 't_gone'")
    await run(database, "INSERT INTO login_sessions(id, user_id, expires_at) VALUES ('s1', 'u1', 5)")
    before = await export(database)
    for record, reason in REFUSALS.values():
        for dry_run in (True, False):
            report = await import_(database, sealed(record), overwrite=overwrite, dry_run=dry_run)
            assert report.reasons == {record["id"]: reason}
    assert (await export(database)).records == before.records


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (user("u1", username="Ada"), user("u2", username="ada"), "the user name ada is that of line 3 too"),
        (
            user("u1", email="a@example.org"),
            user("u2", email="A@example.org"),
            "the e-mail address A@example.org is that of line 3 too",
        ),
        (
            user("u1", tokens=[token("t")]),
            user("u2", tokens=[token("t")]),
            "the id of an API token t is that of line 3 too",
        ),
        (
            user("u1", tokens=[token("t")]),
            {"kind": "revocation", "id": "t", "credential": "api_token", "user_id": "u1"},
            "the credential is in force here: revoke it first",
        ),
    ],
)
async def test_records_of_one_file_against_each_other(database: Database, first: Any, second: Any, reason: str) -> None:
    for dry_run in (True, False):
        report = await import_(database, sealed(FREE, first, second), dry_run=dry_run)
        assert report.reasons == {second["id"]: reason}
        assert report.count("added") == 2


async def test_a_name_that_somebody_gives_up_is_free_for_who_comes_later(database: Database) -> None:
    before = [user("u1", username="ada", email="a@example.org", tokens=[token("t1")]), user("u2", username="bob")]
    await import_(database, sealed(FREE, *before))
    same_hash = token("t2", token_hash=token("t1")["token_hash"])
    after = sealed(user("u1"), user("u2", username="Ada", email="A@example.org", tokens=[same_hash]))
    for dry_run in (True, False):
        report = await import_(database, after, overwrite=True, dry_run=dry_run)
        assert report.counts == {"user": (0, 2, 0, 0)}, report.told
    swapped = sealed(user("u1", username="Ada"), user("u2", username="u1"))
    for dry_run in (True, False):
        report = await import_(database, swapped, overwrite=True, dry_run=dry_run)
        assert report.reasons["u1"] == "the user name Ada belongs to the user u2 here"
        assert report.counts == {"user": (0, 0, 0, 2)}


async def test_a_token_moves_to_nobody_else(database: Database) -> None:
    await import_(database, sealed(FREE, user("u1", tokens=[token("t1")]), user("u2")))
    moved = sealed(user("u1"), user("u2", tokens=[token("t1")]))
    for dry_run in (True, False):
        report = await import_(database, moved, overwrite=True, dry_run=dry_run)
        assert report.reasons == {"u2": "the id of an API token t1 belongs to the user u1 here"}
    assert (await import_(database, moved, overwrite=True)).reasons == {"u2": "the API token t1 was revoked here"}


async def test_two_ids_that_differ_in_case_are_two(database: Database) -> None:
    records = [FREE, FREE | {"id": "FREE"}, user("U1", username="a", tokens=[token("T")])]
    records += [user("u1", username="b", tokens=[token("t")])]
    assert (await import_(database, sorted_file(records))).count("added") == 4


async def test_a_database_that_fails_ends_the_import_and_the_next_one_goes_on(database: Database) -> None:
    content = sealed(FREE, *(user(f"u{number:03}") for number in range(450)))
    failing = Failing(database, after=300)
    with pytest.raises(StoreUnavailable):
        await import_(failing, content)  # type: ignore[arg-type]
    report = await import_(database, content)
    added, _, same, refused = report.counts["user"]
    assert refused == 0
    assert added + same == 450
    assert added >= 1
    assert same >= 200


class Failing:
    """A database that makes no more than so many writes."""

    def __init__(self, database: Database, after: int) -> None:
        self._database = database
        self._left = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, *statements: Statement) -> Any:
        self._left -= 1
        if self._left < 0:
            raise StoreUnavailable("gone")
        return await self._database.write(*statements)


async def test_what_was_taken_meanwhile_is_refused_by_the_database(database: Database) -> None:
    class Racing(Failing):
        async def write(self, *statements: Statement) -> Any:
            if "'" not in statements[0].sql and "INSERT INTO users" in statements[0].sql:
                await database.write(add_user("u1"))
            return await database.write(*statements)

    await import_(database, sealed(FREE))
    report = await import_(Racing(database, 0), sealed(user("u1")))  # type: ignore[arg-type]
    assert report.reasons["u1"].startswith("the database refuses it: unique")


# --- values ----------------------------------------------------------------------------------------------------------


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "id": ({"id": "a b"}, "id: the id must have"),
    "username": ({"username": "ada@x"}, "username: the user name must"),
    "control": ({"name": "a\nb"}, "name: the name must not contain control"),
    "email": ({"email": "ada"}, "email: the e-mail address must"),
    "timezone": ({"timezone": "Mars/Base"}, "timezone: the time zone must"),
    "attributes": ({"attributes": {"é": 1}}, "attributes: an attribute's name must"),
    "attributes size": ({"attributes": {"a": "x" * 20_000}}, "attributes: "),
    "attributes depth": ({"attributes": {"a": [[[[[[[[[1]]]]]]]]]}}, "attributes: attributes must be at most 8 levels"),
    "created_at": ({"created_at": 2**60}, "created_at: must lie in the years"),
    "role": ({"roles": [{"role": "a b"}]}, "roles: role: the role must"),
    "permission": ({"permissions": [{"permission": "1"}]}, "permissions: permission: the permission must"),
    "scopes": ({"tokens": [token("t", scopes={"x": "y" * 20_000})]}, "tokens: scopes: must have at most"),
    "token_hash": ({"tokens": [token("t", token_hash="ABC")]}, "tokens: token_hash: must be the SHA-256"),
}
"""What SQL takes and the commands do not."""

WORSE: dict[str, tuple[dict[str, Any], str]] = {
    "status": ({"status": "gone"}, "status: must be active or disabled"),
    "effect": ({"permissions": [{"permission": "a", "effect": "maybe"}]}, "permissions: effect: must be allow or deny"),
    "period": ({"quotas": [{"quota": "q", "period": "eon"}]}, "quotas: period: must be hour"),
    "limit": ({"quotas": [{"quota": "q", "limit_value": -1}]}, "quotas: limit_value: must be 0 to"),
    "used": ({"usage": [{"quota": "q", "period_start": 0, "used": 2**53}]}, "usage: used: must be 0 to"),
    "member used": (
        {"member_usage": [{"org_id": "o", "quota": "q", "period_start": 0, "used": -1}]},
        "member_usage: used: must be 0 to",
    ),
    "member used twice": (
        {"member_usage": [{"org_id": "o", "quota": "q", "period_start": 0, "used": used} for used in (1, 2)]},
        "member_usage: two rows have the same org_id and quota and period_start",
    ),
    "member": ({"memberships": [{"org_id": "o", "role": "boss", "created_at": 1}]}, "memberships: role: must be owner"),
    "integer": ({"created_at": 10**30}, "created_at: must"),
    "nul": ({"name": "a\0b"}, "name: "),
    "number": ({"attributes": {"a": 2**53}}, "attributes: an integer must lie within"),
    "twice": ({"roles": [{"role": "r"}, {"role": "r", "expires_at": 5}]}, "roles: two rows have the same role"),
    "hash": ({"password_hash": "x" * (MAX_LENGTH + 1)}, "password_hash: must have 1 to"),
    "hash text": ({"password_hash": "two words"}, "password_hash: must have 1 to"),
    "no hash": ({"password_hash": ""}, "password_hash: must have 1 to"),
    "hash form": (
        {"password_hash": "{SSHA}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr"},
        "password_hash: must be a hash of argon2",
    ),
    "plain text": ({"password_hash": "tr0ub4dor&3"}, "password_hash: must be a hash of argon2"),
    "hash cost": ({"password_hash": HASH.replace("t=2", "t=4000000000")}, "password_hash: costs more than the gateway"),
    "bcrypt cost": ({"password_hash": "$2b$31$" + "a" * 53}, "password_hash: costs more than the gateway"),
    "hash cut off": ({"password_hash": HASH[:-6]}, "password_hash: has a salt or digest that is too short"),
}
"""What the tables do not take either."""


@pytest.mark.parametrize("name", BAD)
async def test_values_that_the_commands_do_not_take_move_when_asked(other: Database, name: str) -> None:
    fields, reason = BAD[name]
    record = user("u1") | fields
    more = [{"kind": "role", "id": "a b"}] if name == "role" else []
    report = await import_(other, sealed(*more, FREE, record))
    assert report.reasons[record["id"]].startswith(reason)
    assert report.counts["user"] == (0, 0, 0, 1)
    report = await import_(other, sealed(*more, FREE, record), as_stored=True)
    assert report.reasons == {}
    found = await export(other)
    [remark] = [remark for remark in found.remarks if remark.kind == "user"]
    assert (remark.what, remark.id) == ("as stored", record["id"])
    assert remark.reason.startswith(reason)
    assert record["id"] in found.of("user")


HASHES = {
    "argon2id": HASH,
    "argon2i of Django": "argon2" + HASH.replace("argon2id", "argon2i"),
    "bcrypt": "$2y$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
    "scrypt of passlib": "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
    "scrypt of Django": f"scrypt$16384$seasalt$8$1${'A' * 86}==",
    "scrypt of Werkzeug": f"scrypt:32768:8:1$DkcK1nIlZBCK3d0R${'0a' * 64}",
    "pbkdf2 of passlib": "$pbkdf2-sha256$6400$.6UI/S.nXIk8jcbdHx3Fhg$98jZicV16ODfEsEZeYPGHU3kbrUrvUEXOPimVSQDD44",
    "pbkdf2 of Django": "pbkdf2_sha256$10000$seasalt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=",
    "pbkdf2 of Werkzeug": f"pbkdf2:sha256:600000$LH8bAw1elx4mlspc${'0a' * 32}",
}


@pytest.mark.parametrize("form", HASHES)
async def test_hashes_in_the_usual_formats_move_as_they_are(other: Database, form: str) -> None:
    report = await import_(other, sealed(FREE, user("u1", password_hash=HASHES[form])))
    assert report.reasons == {}
    found = await export(other)
    assert found.remarks == []
    assert found.of("user")["u1"]["password_hash"] == HASHES[form]


@pytest.mark.parametrize("as_stored", [False, True])
@pytest.mark.parametrize("name", WORSE)
async def test_values_that_nobody_takes(other: Database, name: str, as_stored: bool) -> None:
    fields, reason = WORSE[name]
    report = await import_(other, sealed(FREE, user("u1") | fields, user("u2")), as_stored=as_stored)
    assert report.reasons["u1"].startswith(reason)
    assert report.counts["user"] == (1, 0, 0, 1)
    if isinstance(value := next(iter(fields.values())), str) and len(value) > 3:
        assert value not in report.reasons["u1"]


async def test_text_is_taken_in_the_form_that_the_commands_give_it(other: Database) -> None:
    content = sealed(FREE, user("u1", username="ﬁne", attributes={"a": None, "b": 1.0}))
    await import_(other, content)
    found = (await export(other)).of("user")["u1"]
    assert (found["username"], found["attributes"]) == ("fine", {"b": 1})
    assert (await import_(other, content)).count("same") == 2


async def test_lists_may_come_in_any_order(other: Database) -> None:
    backwards = FREE | {"permissions": ["b", "a"]}
    await import_(other, sealed(FREE))
    assert (await import_(other, sealed(backwards))).count("same") == 1


UNREADABLE: dict[str, tuple[str, str]] = {
    "name": ("UPDATE users SET name = CAST(x'41ff42' AS TEXT)", "name is not UTF-8"),
    "attributes": ("UPDATE users SET attributes = '{\"a\": 99999999999999999}'", "attributes can not be read"),
    "number": ("UPDATE users SET attributes = '{\"a\": 1e999}'", "attributes can not be read"),
    "scopes": ('UPDATE api_tokens SET scopes = \'{"a": "\\ud800"}\'', "tokens: scopes can not be read"),
    "quota": (
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:u1', CAST(x'ff' AS TEXT), 0, 1)",
        "usage: quota is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_can_not_be_told_is_left_out_by_name(database: Database, name: str) -> None:
    sql, reason = UNREADABLE[name]
    await import_(database, sealed(FREE, user("u1", tokens=[token("t1")])))
    await run(database, sql)
    await import_(database, sealed(user("u2")))
    found = await export(database)
    [remark] = found.remarks
    assert (remark.kind, remark.id, remark.what) == ("user", "u1", "left out")
    assert remark.reason.startswith(reason)
    assert found.of("user").keys() == {"u2"}
    report = await import_(database, sealed(user("u1")))
    assert report.reasons["u1"].startswith("what is here can not be read")
    assert (await import_(database, sealed(user("u1")), overwrite=True)).counts == {"user": (0, 1, 0, 0)}
    assert (await export(database)).remarks == []


async def test_what_no_import_takes_is_named(database: Database) -> None:
    await import_(database, sealed(FREE, user("u1"), user("u2")))
    await run(database, "UPDATE users SET password_hash = 'two words' WHERE id = 'u1'")
    found = await export(database)
    assert [(remark.id, remark.what) for remark in found.remarks] == [("u1", "refused")]
    assert found.of("user").keys() == {"u1", "u2"}


async def test_an_id_that_is_not_utf8_is_left_out(database: Database) -> None:
    await import_(database, sealed(FREE, user("u1"), user("u3")))
    sql = "INSERT INTO users(id, username, plan) VALUES (CAST(x'7532ff' AS TEXT), 'x', 'free')"
    await run(database, sql)
    found = await export(database)
    assert [(remark.id, remark.reason) for remark in found.remarks] == [("u2\\xff", "the id is not UTF-8")]
    assert found.of("user").keys() == {"u1", "u3"}


async def test_large_records_are_read_a_few_at_a_time(database: Database) -> None:
    """A server refuses answers beyond 10 MB."""
    many = [user(f"u{number:02}", attributes={"a": "x" * 400_000}) for number in range(40)]
    content = sealed(FREE, *many)
    assert (await import_(database, content, as_stored=True)).count("added") == 41
    changed = Disturbed(database, Statement("UPDATE users SET name = 'changed'"))
    found = (await export(changed)).of("user").values()  # type: ignore[arg-type]
    assert [record["name"] for record in found] == ["changed"] * 40
    await database.write(Statement("UPDATE users SET name = '', updated_at = 2000"))
    await database.write(Statement("UPDATE users SET updated_at = 2000"))
    assert (await import_(database, content, as_stored=True)).count("same") == 41


async def test_a_record_that_no_line_can_hold_is_left_out(other: Database) -> None:
    await import_(other, sealed(FREE, user("u1"), user("u2")))
    await run(other, "UPDATE users SET attributes = json_object('a', hex(zeroblob(9000000))) WHERE id = 'u1'")
    found = await export(other)
    assert [(remark.id, remark.what) for remark in found.remarks] == [("u1", "left out")]
    assert "it has more than" in found.remarks[0].reason
    assert found.of("user").keys() == {"u2"}


async def test_an_organization_role_without_permissions_is_nothing(database: Database) -> None:
    empty = {"kind": "organization_role", "id": "owner", "permissions": []}
    assert (await import_(database, sealed(empty))).count("same") == 1
    full = empty | {"permissions": ["manage_members"]}
    assert (await import_(database, sealed(full))).count("added") == 1
    assert (await import_(database, sealed(empty))).count("refused") == 1
    assert (await import_(database, sealed(empty), overwrite=True)).count("changed") == 1
    assert (await export(database)).records == []


async def test_leases_stay_behind_with_the_units_that_they_hold(database: Database, other: Database) -> None:
    """Units that are reserved where no lease ends would be reserved for ever."""
    await fill(database)
    quotas = Quotas(database, lambda: NOW)
    await quotas.leases.reserve("user:u1", "user:u1", "never", 2, "call", 60)
    first = await export(database)
    assert [row["reserved"] for row in first.of("user")["u1"]["usage"]] == [0, 0]
    await import_(other, first.content)
    assert (await other.read(Statement("SELECT max(reserved) FROM quota_usage")))[0] == [(0,)]
    # What is reserved here stays so, whatever the file says of the rest, and however often it says it.
    usage = [{"quota": "q", "period_start": 100, "used": 9, "reserved": 4}, {"quota": "q", "period_start": 7}]
    older = sealed(FREE, user("u1", usage=usage))
    for _ in range(2):
        assert (await import_(database, older, overwrite=True)).count("refused") == 0
    [rows] = await database.read(
        Statement("SELECT quota, period_start, used, reserved FROM quota_usage WHERE owner = 'user:u1' ORDER BY 1")
    )
    assert rows == [("never", 0, 0, 2), ("q", 100, 9, 2)]
    assert (await import_(database, older, overwrite=True)).count("same") == 2
    assert (await quotas.leases.commit("user:u1", "call", 1)).balance.used == 1
    assert await unbalanced(database) == []


async def test_a_cap_goes_on_from_what_the_member_took(spenders: Spenders, other: Database) -> None:
    await spenders.quotas.spender.consume(Order(spenders.BEN, spenders.ACME, "voice", 3, "call"))
    await spenders.quotas.leases.reserve(spenders.BEN, spenders.ACME, "voice", 1, "more", 60)
    await import_(other, (await export(spenders.database)).content)
    there = Quotas(other, lambda: spenders.now)
    with pytest.raises(QuotaExceeded) as refused:
        await there.spender.consume(Order(spenders.BEN, spenders.ACME, "voice", 2, "next"))
    assert refused.value.details["remaining"] == 1
    # Keys stay behind: this is a new request there.
    spent = await there.spender.consume(Order(spenders.BEN, spenders.ACME, "voice", 1, "call"))
    assert (spent.balance.used, spent.balance.cap) == (4, 4)
    assert await unbalanced(other) == []


async def test_files_that_do_not_know_what_members_took_leave_it_alone(database: Database) -> None:
    took = [{"org_id": "o_acme", "quota": "q", "period_start": 0, "used": 3}]
    assert (await import_(database, sealed(FREE, ACME, user("u1", member_usage=took)))).count("added") == 3
    older = HEADER | {"tables": [table for table in TABLES if table != "member_usage"]}
    assert (await import_(database, sealed(FREE, ACME, user("u1"), header=older))).count("same") == 3
    changed = sealed(FREE, ACME, user("u1", name="Ada"), header=older)
    assert (await import_(database, changed)).reasons == {"u1": "differs from what is here in name"}
    assert (await import_(database, changed, overwrite=True)).count("changed") == 1
    assert (await export(database)).of("user")["u1"]["member_usage"] == took
    # One that says that there is nothing is another matter.
    emptied = sealed(FREE, ACME, user("u1", name="Ada", member_usage=[]))
    assert (await import_(database, emptied)).reasons == {"u1": "differs from what is here in member_usage"}
    assert (await import_(database, emptied, overwrite=True)).count("changed") == 1
    assert (await export(database)).of("user")["u1"]["member_usage"] == []


async def test_overwriting_what_members_took_leaves_what_they_hold(spenders: Spenders) -> None:
    await spenders.quotas.leases.reserve(spenders.BEN, spenders.ACME, "voice", 2, "call", 60)
    await spenders.quotas.spender.consume(Order(spenders.BEN, spenders.ACME, "voice", 1, "call"))
    found = await export(spenders.database)
    ben = found.of("user")["u_ben"]
    for used in (2, 0):
        rows = [row | {"used": used} for row in ben["member_usage"] if used]
        content = sealed(ben | {"member_usage": rows})
        assert (await import_(spenders.database, content, overwrite=True)).count("changed") == 1
        [held] = await spenders.sql("SELECT used, reserved FROM member_usage")
        assert held == (used, 2)
    assert (await spenders.quotas.leases.commit(spenders.BEN, "call", 2)).balance.used == 3
    assert await spenders.sql("SELECT used, reserved FROM member_usage") == [(2, 0)]


async def test_thousands_of_what_one_member_took(database: Database) -> None:
    took = [{"org_id": "o_acme", "quota": "q", "period_start": moment, "used": moment + 1} for moment in range(12_000)]
    content = sealed(FREE, ACME, user("u1", member_usage=took), user("u2", member_usage=took[:10]))
    assert (await import_(database, content)).count("added") == 4
    assert [len(record["member_usage"]) for record in (await export(database)).of("user").values()] == [12_000, 10]
    assert (await import_(database, content)).count("same") == 4
    shorter = sealed(FREE, ACME, user("u1", member_usage=took[1:11_000]), user("u2", member_usage=[]))
    assert (await import_(database, shorter, overwrite=True)).counts["user"] == (0, 2, 0, 0)
    assert (await import_(database, shorter)).count("same") == 4
