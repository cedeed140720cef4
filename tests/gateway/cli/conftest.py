from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.auth.passwords import Passwords
from gateway.cli.program import run
from gateway.config import AuthConfig
from gateway.store.accounts import read_password_hash
from gateway.store.database import Database

TREE = Path(__file__).parents[3]
PROGRAM = (sys.executable, "-m", "gateway")


def program_environment() -> dict[str, str]:
    """For a process of its own: this tree's program, with the settings that a test has made."""
    return os.environ | {"PYTHONPATH": str(TREE), "PYTHONUNBUFFERED": "1"}


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class Cli:
    """Runs commands of this program on one database, as a shell would."""

    def __init__(self, database: Path, read: Callable[[], tuple[str, str]]) -> None:
        self.database = database
        self._read = read

    def __call__(self, *arguments: str, code: int = 0) -> Answer:
        self._read()
        answer = Answer(run(arguments), *self._read())
        assert answer.code == code, answer
        if code == 0:
            assert answer.err == "" or not answer.err.startswith("gateway:")
        elif code not in (1, 130):
            assert answer.err.startswith("gateway: ")
            assert answer.err.count("\n") == 1, answer.err
        return answer

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).out)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"file:{tmp_path}/gateway.db")
    monkeypatch.setenv("GATEWAY_AUTH_ARGON2_MEMORY_KIB", "7168")
    monkeypatch.setenv("GATEWAY_AUTH_ARGON2_TIME", "1")
    return Cli(tmp_path / "gateway.db", lambda: tuple(capsys.readouterr()))


@pytest.fixture
def demo(cli: Cli) -> Cli:
    """The same, with the demo data."""
    cli("init", "--demo")
    return cli


def opens(cli: Cli, user_id: str, password: str) -> bool:
    """Whether this is the user's password."""

    async def check() -> bool:
        async with await Database.open(str(cli.database), create=False) as database:
            passwords = Passwords(AuthConfig())
            try:
                return (await passwords.verify(password, await read_password_hash(database, user_id))).ok
            finally:
                passwords.close()

    return asyncio.run(check())


def type_in(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Standard input holds this, and is no terminal."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
