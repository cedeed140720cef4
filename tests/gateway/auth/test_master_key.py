"""Where the master key comes from, and what it says when there is none."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.master_key import _make, load_sealer, master_key_file
from gateway.config import AuthConfig, Config, DatabaseConfig, load_config
from gateway.core.sealing import Sealer, parse_master_keys
from gateway.errors import ConfigError

KEY, OTHER = (base64.b64encode(bytes([value]) * 32).decode() for value in (1, 2))
SERVER = "http://127.0.0.1:8080"
TREE = Path(__file__).parents[3]


def config(url: str | Path, **settings: Any) -> Config:
    return Config(database=DatabaseConfig(url=str(url)), auth=AuthConfig(**settings))


def opens(sealer: Sealer, text: str) -> bool:
    """Whether it seals with exactly these keys."""
    return sealer.derived("x") == Sealer(parse_master_keys(text)).derived("x")


def refusal(settings: Config) -> str:
    with pytest.raises(ConfigError) as error:
        load_sealer(settings, make=True)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("url", [SERVER, "libsql://db.example.org", "file:gateway.db"])
def test_the_environment_comes_first(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "GATEWAY_DATABASE_URL": url,
        "GATEWAY_AUTH_MASTER_KEY": f"{KEY},{OTHER}",
        "GATEWAY_AUTH_MASTER_KEY_FILE": "nowhere",
    }
    assert opens(load_sealer(load_config(environ=environ), make=True), f"{KEY}\n{OTHER}")
    assert list(tmp_path.iterdir()) == []


def test_then_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{OTHER}\n{KEY}\n")
    assert opens(load_sealer(config(SERVER, master_key_file=str(file)), make=True), f"{OTHER},{KEY}")
    assert opens(load_sealer(config(tmp_path / "gateway.db", master_key_file=str(file)), make=True), f"{OTHER},{KEY}")
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    text = refusal(config(SERVER, master_key_file=str(tmp_path / "keys")))
    assert text.startswith("auth.master_key_file: ")
    assert "No such file" in text
    assert list(tmp_path.iterdir()) == []
    assert "Is a directory" in refusal(config(SERVER, master_key_file=str(tmp_path)))


@pytest.mark.parametrize("url", [SERVER, "ws://db:8080", "libsql://db.example.org"])
def test_a_server_needs_one(url: str) -> None:
    assert refusal(config(url)) == (
        "auth.master_key: a libSQL server needs one; set GATEWAY_AUTH_MASTER_KEY or auth.master_key_file"
    )


@pytest.mark.parametrize(
    "content", [b"hunter2", b"", b"\xff\xfe", KEY[:-5].encode(), b"A" * 100_000, KEY.encode() + b"\n" * 20_000, b"\n\n"]
)
def test_what_is_no_key_is_refused_and_not_repeated(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    text = refusal(config(SERVER, master_key_file=str(file)))
    assert text.startswith("auth.master_key_file: ")
    assert len(text) < 300
    assert "hunter2" not in text
    assert KEY[:10] not in text


def test_a_bad_key_in_the_environment_is_not_repeated() -> None:
    text = refusal(config(SERVER, master_key="hunter2," + KEY))
    assert text.startswith("auth.master_key: every key must be 32 bytes in base64")
    assert "hunter2" not in text
    assert KEY not in text


# --- the file beside the database ---


def test_a_key_is_made_beside_a_database_file_and_kept(tmp_path: Path) -> None:
    database = tmp_path / "not" / "there" / "gateway.db"
    file = database.with_name("gateway.db.key")
    first = load_sealer(config(f"file:{database}"), make=True)
    assert master_key_file(database) == file
    assert file.stat().st_mode & 0o7777 == 0o600
    assert opens(first, file.read_text())
    assert [path.name for path in file.parent.iterdir()] == ["gateway.db.key"]
    before = file.read_bytes()
    assert load_sealer(config(f"file:{database}"), make=True).derived("x") == first.derived("x")
    assert file.read_bytes() == before
    assert load_sealer(config(tmp_path / "other.db"), make=True).derived("x") != first.derived("x")


def test_one_that_is_lost_is_not_replaced(tmp_path: Path) -> None:
    """Where keys are sealed with it: another file would lie where the right one belongs."""
    with pytest.raises(ConfigError, match=r"gateway\.db\.key is not there.*gateway keys rotate --discard"):
        load_sealer(config(tmp_path / "gateway.db"), make=False)
    assert list(tmp_path.iterdir()) == []
    made = load_sealer(config(tmp_path / "gateway.db"), make=True)
    assert load_sealer(config(tmp_path / "gateway.db"), make=False).derived("x") == made.derived("x")


def test_it_is_the_owners_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_sealer(config(tmp_path / "gateway.db"), make=True)
    finally:
        os.umask(before)
    assert (tmp_path / "gateway.db.key").stat().st_mode & 0o7777 == 0o600


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    program = (
        "import sys; from gateway.auth.master_key import load_sealer; from gateway.config import load_config;"
        "sealer = None; sys.stdin.read(1); print(load_sealer(load_config(), make=True).derived('x')[0].hex())"
    )
    environment = os.environ | {"PYTHONPATH": str(TREE), "GATEWAY_DATABASE_URL": f"file:{tmp_path}/data/gateway.db"}
    command = [sys.executable, "-c", program]
    running = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("g")
        process.stdin.flush()
    answers = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 6
    file = tmp_path / "data" / "gateway.db.key"
    assert answers == {Sealer(parse_master_keys(file.read_text())).derived("x")[0].hex()}
    assert list(file.parent.iterdir()) == [file]


def test_whoever_comes_second_takes_what_is_there(tmp_path: Path) -> None:
    """The moment between looking for the file and making it."""
    file = tmp_path / "gateway.db.key"
    file.write_text(KEY)
    _make(file)
    assert file.read_text() == KEY
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    text = refusal(config(blocked / "gateway.db"))
    assert text.startswith("auth.master_key: ")
    assert text.endswith("set GATEWAY_AUTH_MASTER_KEY or auth.master_key_file")


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "gateway.db.key"
    file.write_text("")
    assert refusal(config(tmp_path / "gateway.db")).startswith(f"auth.master_key: {file}: ")
    assert file.read_text() == ""


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o600, False), (0o640, False), (0o604, True), (0o602, True), (0o644, True)]
)
def test_a_file_that_is_open_to_everybody_is_told_of(
    mode: int, warns: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    file.chmod(mode)
    load_sealer(config(SERVER, master_key_file=str(file)), make=True)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warns
    assert KEY not in caplog.text


def test_nothing_that_is_logged_holds_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    load_sealer(config(tmp_path / "gateway.db"), make=True)
    assert "a master key was made" in caplog.text
    made = (tmp_path / "gateway.db.key").read_text().strip()
    assert made not in caplog.text
    assert made not in " ".join(str(vars(record)) for record in caplog.records)
