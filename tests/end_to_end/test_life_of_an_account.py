"""The whole life of an account against real processes: what `docs/accounts.md` shows, run as it stands there, and the
same from a client's side, with the sockets that live through it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from client_sdk import Channel, ChannelError, LoginProvider, Revoked
from tests.support.gateway_process import GatewayProcess
from tests.support.markdown import Markdown

ADMIN_PASSWORD = "a harbour in the fog, at five"
PASSWORD = "moons of jupiter, four"
NEW_PASSWORD = "rings of saturn, many"
CHEAP = {"auth_argon2_memory_kib": 7168, "auth_argon2_time": 1}


class Site:
    """A gateway on a database that `gateway init` made, and the command line beside it."""

    def __init__(self, directory: Path) -> None:
        self.process = GatewayProcess(directory, **CHEAP)
        self.process.secrets += [ADMIN_PASSWORD, PASSWORD, NEW_PASSWORD]
        self.run("init", "--admin-password-stdin", typed=ADMIN_PASSWORD)
        self.process.start()
        self.url = f"http://{self.process.address}"

    def run(self, *arguments: str, typed: str = "", **environment: str) -> Any:
        """One command of the program; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments, "--json"],
            cwd=self.process.directory,
            env=self.process.environment | environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def end(self) -> None:
        self.process.end()
        self.process.check_log()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = Site(tmp_path)
    try:
        yield running
    finally:
        running.end()


def program(directory: Path) -> dict[str, str]:
    """An environment in which `gateway` is this program."""
    place = directory / "bin"
    place.mkdir()
    (place / "gateway").write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    (place / "gateway").chmod(0o755)
    return {"PATH": f"{place}:{os.environ['PATH']}"}


def test_the_commands_of_the_document_do_what_it_says(site: Site, tmp_path: Path) -> None:
    script = "\n".join(block.text for block in Markdown("accounts.md").blocks_of("bash"))
    work = tmp_path / "work"
    work.mkdir()
    environment = site.process.environment | program(tmp_path)
    environment |= {"GATEWAY": site.url, "ADMIN_PASSWORD": ADMIN_PASSWORD}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert '"can_use_voice":true' in done.stdout  # the identity
    assert "password.change" in done.stdout  # the audit trail, from the command line
    phone, mary = (json.loads((work / name).read_text()) for name in ("phone.json", "mary.json"))
    # The new password ended the phone's session; disabling ended nothing for good, for she was enabled again.
    assert site.process.request("GET", "/api/identity", phone["access_token"]).status == 401
    assert site.process.request("GET", "/api/identity", mary["access_token"]).status == 200
    second = json.loads(
        subprocess.run(
            [sys.executable, "-m", "gateway", "user", "show", "mary", "--json"],
            cwd=work,
            env=environment | {"GATEWAY_DATABASE_URL": "file:second.db"},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    )
    assert second["username"] == "mary"


async def ended(channel: Channel) -> ChannelError:
    """How a channel that must end by itself does."""
    try:
        async with asyncio.timeout(10):
            async for _ in channel:
                pass
    except ChannelError as error:
        return error
    pytest.fail("it did not end by an error")


async def test_sockets_live_through_renewal_and_end_with_their_session(site: Site, tmp_path: Path) -> None:
    login = LoginProvider(site.url, "admin", ADMIN_PASSWORD)
    async with httpx2.AsyncClient(base_url=site.url, headers={"Authorization": f"Bearer {await login()}"}) as admin:
        body = {"username": "mary", "plan": "pro", "email": "mary@example.org", "password": PASSWORD}
        made = await admin.post("/auth/register", json=body)
    assert made.status_code == 201, made.text
    user = made.json()["id"]

    laptop, phone = (LoginProvider(site.url, name, PASSWORD) for name in ("mary", "mary@example.org"))
    async with Channel(site.url, laptop) as first, Channel(site.url, phone) as second:
        assert first.document["identity"]["id"] == second.document["identity"]["id"] == user
        session, seq = first.session_id, first.seq

        # Renewal in place: other tokens, the same socket.
        laptop.discard(await laptop())
        renewed = await laptop()
        async with httpx2.AsyncClient(base_url=site.url, headers={"Authorization": f"Bearer {renewed}"}) as client:
            changed = await client.post("/auth/password", json={"old_password": PASSWORD, "new_password": NEW_PASSWORD})
            assert changed.status_code == 200, changed.text
            assert isinstance(await ended(second), Revoked)
            assert await first.wait_for(changed.json()["seq"]) > seq
            assert first.session_id == session
            refused = await client.post("/auth/login", json={"username": "mary", "password": PASSWORD})
            assert refused.status_code == 401

        # SQL by another program cuts everything off.
        with site.process.foreign_writer() as foreign:
            foreign.execute("UPDATE users SET status = 'disabled' WHERE id = ?", user)
        assert isinstance(await ended(first), Revoked)
    answer = await site.process.fetch("GET", "/api/identity", renewed)
    assert answer.status == 401
    site.run("user", "enable", "mary")

    # Another database, the old password.
    site.run("export", str(tmp_path / "people.jsonl"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = GatewayProcess(elsewhere, **CHEAP)
    url = {"GATEWAY_DATABASE_URL": other.database_url}
    site.run("migrate", **url)
    site.run("import", str(tmp_path / "people.jsonl"), **url)
    with other:
        address = f"http://{other.address}"
        async with Channel(address, LoginProvider(address, "mary", NEW_PASSWORD)) as channel:
            assert channel.document["identity"]["id"] == user
            assert channel.can("can_use_voice")
        other.check_log()
