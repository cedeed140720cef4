from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from gateway.cli.demo import demo_statements
from gateway.core.quotas import PERIODS
from gateway.core.tokens import hash_token, is_api_token
from gateway.store.credentials import ApiToken, insert_token
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate, schema_text
from tests.support.foreign_writer import ForeignWriter
from tests.support.markdown import Block, Markdown

DATA = Markdown("data.md")
FILE = "data/gateway.db"
"""The database's address in the examples, and where they find it."""

SCHEMA = apsw.Connection(":memory:")
SCHEMA.execute(schema_text()).fetchall()


# --- tables ----------------------------------------------------------------------------------------------------------

PRIVATE = {
    "change_log",
    "revocations",
    "meta",
    "migrations",
    "nodes",
    "node_sessions",
    "writers",
    *("signing_keys", "refresh_tokens", "used_tickets", "login_failures", "audit"),
    *("quota_ledger", "leases", "member_usage", "nonces", "nonce_counts", "access_token_lives"),
}
TABLES = {
    str(name)
    for (name,) in SCHEMA.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
}


class Column(NamedTuple):
    """A column as the document shows it."""

    name: str
    type: str
    default: str


def columns(table: str) -> list[Column]:
    found = []
    for _, name, kind, not_null, default, key in SCHEMA.execute(f"PRAGMA table_info({table})"):
        if default is None:
            shown = "required" if not_null else "null"
        else:
            shown = "now" if "julianday" in default else f"`{default}`"
        found.append(Column(f"`{name}`", kind.lower() + (", key" if key else ""), shown))
    return found


def test_all_tables_are_described_and_no_other() -> None:
    public = {heading.strip("`") for heading in DATA.headings if re.fullmatch(r"`\w+`", heading)}
    private = {row[0].strip("`") for row in DATA.rows("Others")}
    assert (public, private) == (TABLES - PRIVATE, PRIVATE)


@pytest.mark.parametrize("table", sorted(TABLES - PRIVATE))
def test_every_column_is_described_with_its_type_and_default(table: str) -> None:
    assert [Column(*row[:3]) for row in DATA.rows(f"`{table}`")] == columns(table)


def test_the_columns_of_private_tables_are_named() -> None:
    described = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in DATA.rows("Others")}
    assert described == {table: [column.name.strip("`") for column in columns(table)] for table in PRIVATE}


def test_the_view_that_spends_is_named_with_its_columns() -> None:
    [(name,)] = SCHEMA.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
    [named] = re.findall(rf"The view `{name}` \((.*?)\)", DATA.text, re.DOTALL)
    assert re.findall(r"`(\w+)`", named) == [row[1] for row in SCHEMA.execute(f"PRAGMA table_info({name})")]


def allowed(table: str, column: str) -> list[str]:
    """The words that a CHECK of the schema allows."""
    definition = str(SCHEMA.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).get)
    found = re.search(rf"CHECK \({column} IN \((.*?)\)\)", definition)
    assert found is not None
    return re.findall(r"'(\w+)'", found[1])


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("users", "status"),
        ("instances", "status"),
        ("plan_quotas", "period"),
        ("user_permissions", "effect"),
        ("memberships", "role"),
        ("org_role_permissions", "role"),
    ],
)
def test_the_words_that_a_column_takes_are_named(table: str, column: str) -> None:
    [row] = [row for row in DATA.rows(f"`{table}`") if row[0] == f"`{column}`"]
    assert set(allowed(table, column)) <= set(re.findall(r"`(\w+)`", row[3]))


def test_every_period_is_described() -> None:
    assert [row[0].strip("`") for row in DATA.rows("Periods")] == list(PERIODS)


# --- what the triggers log -------------------------------------------------------------------------------------------

DOCUMENTS = {"'user:'": "user:ID", "'org:'": "org:ID", "'plan:'": "plan:ID", "'role:'": "role:ID"}
DOCUMENTS |= {
    "'role:org.'": "role:org.ROLE",
    "'revocations'": "revocations",
    "'keys'": "keys",
    "'sessions:'": "sessions:ID",
    "'instance:'": "instance:ID",
    "NEW.owner": "OWNER",
    "OLD.owner": "OWNER",
}


def logged_by_triggers() -> dict[str, set[str]]:
    """What the triggers of each table write into the log: ``document cause``."""
    rows: dict[str, set[str]] = {}
    for table, sql in SCHEMA.execute("SELECT tbl_name, sql FROM sqlite_schema WHERE type = 'trigger'"):
        for row in re.findall(r"INSERT INTO change_log\(doc, cause\)\s+(?:VALUES \(|SELECT )(.*?)'(\w+)'", sql):
            document, cause = row[0].split("||")[0].strip(" ,"), row[1]
            if document == "":  # the document itself is a word in quotes
                document, cause = {"revocations": ("'revocations'", "revocation"), "keys": ("'keys'", "keys")}[cause]
            rows.setdefault(str(table), set()).add(f"{DOCUMENTS[document]} {cause}")
    return rows


def test_what_a_change_logs_is_what_the_triggers_log() -> None:
    described = {
        row[0].strip("`"): {pair for pair in re.findall(r"`([^`]+)`", row[1]) if " " in pair}
        for row in DATA.rows("What a change does")
    }
    logged = logged_by_triggers()
    for table in ("node_sessions", "signing_keys", "member_usage"):
        [row] = [row for row in DATA.rows("Others") if row[0] == f"`{table}`"]
        assert {pair for pair in re.findall(r"`([^`]+)`", row[2]) if " " in pair} == logged.pop(table)
    assert described == logged
    assert described.keys() == TABLES - PRIVATE


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A working directory with the demo database, in which Ada has a token."""
    async with await Database.open(f"file:{tmp_path / FILE}") as database:
        await migrate(database)
        await database.write(
            *demo_statements("admin"),
            insert_token(ApiToken(id="t_ada", user_id="u_ada"), hash_token("gw_" + "a" * 49)),
            Statement("DELETE FROM change_log"),
        )
    return tmp_path


@contextmanager
def foreign_writer(directory: Path) -> Iterator[ForeignWriter]:
    with ForeignWriter(directory / FILE) as writer:
        yield writer


class Recipe(NamedTuple):
    """What a block of SQL does, or a line for the shell, and what the log then holds."""

    sql: str
    log: list[str]


def shell_lines() -> Iterator[tuple[str, str]]:
    """Every indented line that calls ``sqlite3``, and what stands behind it."""
    for found in re.finditer(r"^    (sqlite3 .+)$", DATA.text, re.MULTILINE):
        program, file, sql = shlex.split(found[1])
        assert (program, file) == ("sqlite3", FILE)
        yield sql, DATA.text[found.end() :]


def recipes() -> Iterator[Recipe]:
    """All recipes: each is followed by its block of the log."""
    for sql, rest in shell_lines():
        yield Recipe(sql, re.match(r"\s*```text log\n(.*?)```", rest, re.DOTALL)[1].split("\n")[:-1])  # type: ignore[index]
    for before, block in zip(DATA.blocks, [*DATA.blocks[1:], None], strict=True):
        if before.language == "sql" and before.section == "Recipes":
            assert isinstance(block, Block)
            assert block.language == "text log", f"what does this log: {before.text}"
            yield Recipe(before.text, block.text.splitlines())


RECIPES = list(recipes())


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.sql.split(";")[0][:40] for recipe in RECIPES])
def test_the_recipes_log_what_is_written_behind_them(recipe: Recipe, directory: Path) -> None:
    with foreign_writer(directory) as somebody:
        for statement in filter(str.strip, recipe.sql.split(";")):
            somebody.execute(statement)
        assert [f"{doc} {cause}" for doc, cause in somebody.execute("SELECT doc, cause FROM change_log")] == recipe.log
        assert somebody.execute("PRAGMA foreign_key_check") == []


def test_there_are_as_many_recipes_as_logs() -> None:
    assert len(RECIPES) == len(DATA.blocks_of("text log")) >= 8


def test_the_recipe_for_spending_stops_at_the_limit(directory: Path) -> None:
    [recipe] = [recipe for recipe in RECIPES if "RETURNING used" in recipe.sql]
    with foreign_writer(directory) as somebody:
        assert somebody.execute(recipe.sql) == [(3,)]
        assert somebody.execute(recipe.sql) == [(6,)]
        somebody.execute("UPDATE quota_usage SET used = 490, reserved = 8 WHERE owner = 'user:u_ada'")
        assert somebody.execute(recipe.sql) == []
        assert somebody.execute("SELECT used FROM quota_usage WHERE owner = 'user:u_ada'") == [(490,)]


def test_the_other_statements_run(directory: Path) -> None:
    others = [block for block in DATA.blocks_of("sql") if block.section != "Recipes"]
    assert others
    with foreign_writer(directory) as somebody:
        for block in others:
            somebody.execute(block.text)


def run_python(block: Block, directory: Path) -> str:
    """What a program of the document prints; it runs in a process of its own, as another program would."""
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=directory, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_programs_run(directory: Path) -> None:
    rename, issue = DATA.blocks_of("python")
    printed = run_python(rename, directory)
    token = run_python(issue, directory).strip()
    assert is_api_token(token)
    with foreign_writer(directory) as somebody:
        [(seq,)] = somebody.execute("SELECT seq FROM change_log WHERE doc = 'user:u_ada' AND cause = 'profile'")
        assert printed == f"clients at seq {seq} have seen it\n"
        assert somebody.execute("SELECT name FROM users WHERE id = 'u_ada'") == [("Ada King",)]
        [(user,)] = somebody.execute("SELECT user_id FROM api_tokens WHERE token_hash = ?", hash_token(token))
        assert user == "u_ada"


# --- rules -----------------------------------------------------------------------------------------------------------


def test_what_is_said_of_replace_is_true(directory: Path) -> None:
    """The row that REPLACE deletes is not logged: here Grace, who has the address, is gone without a word."""
    with foreign_writer(directory) as somebody:
        somebody.execute(
            "INSERT OR REPLACE INTO users(id, username, email, plan)"
            " VALUES ('u_new', 'new', 'grace@example.org', 'free')"
        )
        assert somebody.execute("SELECT count(*) FROM users WHERE id = 'u_grace'") == [(0,)]
        assert somebody.execute("SELECT count(*) FROM change_log WHERE doc = 'user:u_grace' AND cause = 'profile'") == [
            (0,)
        ]
