"""What `docs/quotas.md` shows, run as it stands there against real processes: its commands, rows and program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.markdown import Markdown

DOCUMENT = Markdown("quotas.md")
BY_THE_CLOCK = ("seq", "resets_at", "expires_at", "request_id", "instance")
"""What an answer of today says otherwise."""


class Desk:
    """A gateway on a database that `gateway init` made, a directory to work in, and a shell that finds `gateway`."""

    def __init__(self, directory: Path) -> None:
        self.process = GatewayProcess(directory / "gateway", auth_argon2_memory_kib=7168, auth_argon2_time=1)
        self.work = directory / "work"
        programs = directory / "bin"
        for place in (self.work, programs):
            place.mkdir()
        (programs / "gateway").write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
        (programs / "gateway").chmod(0o755)
        self._environment = self.process.environment | {"PATH": f"{programs}:{os.environ['PATH']}"}
        self.run([sys.executable, "-m", "gateway", "init", "--admin-password-stdin"], typed="a harbour in the fog")
        self.process.start()
        host, _, port = self.process.address.rpartition(":")
        self._environment |= {"GATEWAY_SERVER_HOST": host, "GATEWAY_SERVER_PORT": port}
        self._environment["GATEWAY"] = f"http://{self.process.address}"

    def run(self, command: Sequence[str], *, typed: str = "", **more: str) -> str:
        """What it printed."""
        done = subprocess.run(
            command,
            cwd=self.work,
            env=self._environment | more,
            input=typed,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def gateway(self, *arguments: str) -> Any:
        """What a command of the program prints with `--json`."""
        return json.loads(self.run([sys.executable, "-m", "gateway", *arguments, "--json"]))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "gateway").mkdir()
    made = Desk(tmp_path)
    try:
        yield made
    finally:
        made.process.end()
        made.process.check_log()


def lasting(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in BY_THE_CLOCK}


def test_everything_in_the_document_does_what_it_says(desk: Desk) -> None:
    script = "\n".join(block.text for block in DOCUMENT.blocks_of("bash"))
    printed = desk.run(["bash", "-euo", "pipefail", "-c", f'{script}\nprintf %s "$token" > token'])
    names = ("taken", "refused", "committed", "pool")
    answers = [json.loads((desk.work / f"{name}.json").read_text()) for name in names]
    assert [lasting(answer) for answer in answers] == [lasting(shown) for shown in DOCUMENT.json_values()]
    assert all(name in shown for answer, shown in zip(answers, DOCUMENT.json_values(), strict=True) for name in answer)
    for kind in ("consume", "reserve", "extend", "commit", "adjust"):
        assert kind in printed  # the ledger
    with ForeignWriter(desk.process.database) as somebody:
        for block in DOCUMENT.blocks_of("sql"):
            somebody.execute(block.text)
    token = (desk.work / "token").read_text()
    desk.process.secrets.append(token)
    [program] = DOCUMENT.blocks_of("python")
    told = desk.run([sys.executable, "-c", program.text], GATEWAY_AUTH_TOKEN=token)
    assert told.splitlines() == ["462 minutes left", told.splitlines()[1]]
    assert told.splitlines()[1].startswith("only 462 until ")
    balances = desk.gateway("quota", "show", "mary")["quotas"]
    assert (balances["voice_minutes"]["used"], balances["voice_minutes"]["reserved"]) == (1 + 7 - 2 + 30 + 2 + 3 + 1, 0)
    assert desk.gateway("quota", "show", "org:o_acme")["quotas"]["voice_minutes"]["used"] == 40
    assert desk.gateway("doctor")["findings"] == []
