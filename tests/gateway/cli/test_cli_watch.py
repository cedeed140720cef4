from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.cli.addresses import channel_address, own_url
from gateway.config import ServerConfig
from gateway.errors import BadRequest
from tests.gateway.cli.conftest import PROGRAM, Cli, program_environment


class Running:
    """A process of this program, read line by line."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments], stdout=pipe, stderr=pipe, text=True, env=program_environment() | environment
        )
        assert self.process.stdout is not None
        self.lines: Iterator[str] = (line.rstrip("\n") for line in self.process.stdout)

    def until(self, text: str) -> str:
        """The next line that holds `text`."""
        for line in self.lines:
            if text in line:
                return line
        raise AssertionError(f"ended without {text!r}: {self.error()}")

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        with self.process:
            pass


def answers(address: str) -> None:
    """Wait until a gateway is ready."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{address}/ready").status_code == 200:
                return
        time.sleep(0.02)
    raise TimeoutError(address)


@pytest.fixture
def token(demo: Cli) -> str:
    return demo("token", "issue", "ada").out.strip()


@pytest.fixture
def gateway(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A gateway on the demo data; the settings lead commands to it."""
    monkeypatch.setenv("GATEWAY_SERVER_DRAIN_S", "0.1")
    with Running("serve", "--port", "0") as server:
        address = server.until("Listening on ").removeprefix("Listening on ")
        monkeypatch.setenv("GATEWAY_SERVER_PORT", address.rpartition(":")[2])
        answers(address)
        yield server


def test_changes_are_told_with_their_causes_and_latency(demo: Cli, token: str, gateway: Running) -> None:
    with Running("watch", "--count", "2", GATEWAY_AUTH_TOKEN=token) as watch:
        watch.until("Connected to ws://127.0.0.1:")
        assert "user:u_ada  snapshot" in watch.until("user:u_ada  ")
        assert watch.until("identity.plan") == '    identity.plan: "pro"'
        demo("user", "plan", "ada", "free")
        line = watch.until("user:u_ada  ")
        assert "  plan  seq " in line
        assert line.endswith(" ms after the commit")
        assert watch.until("identity.plan") == '    identity.plan: "pro" → "free"'
        demo("user", "deny", "ada", "can_use_email")
        assert "  permissions  seq " in watch.until("user:u_ada  ")
        assert watch.until("permissions.can_use_email").endswith("true → gone")
        assert watch.process.wait(20) == 0
        assert watch.error() == ""


def test_messages_are_told_as_they_are(demo: Cli, token: str, gateway: Running) -> None:
    with Running("watch", "ada", "org:o_acme", "user:u_grace", "--json", GATEWAY_AUTH_TOKEN=token) as watch:
        messages = [json.loads(next(watch.lines)) for _ in range(5)]
        assert [message["op"] for message in messages[:2]] == ["hello", "ready"]
        told = {message["doc"]: message["op"] for message in messages[2:]}
        assert told == {"user:u_ada": "snapshot", "org:o_acme": "snapshot", "user:u_grace": "error"}
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(20) == 130


def test_it_comes_back_after_the_gateway_did(demo: Cli, token: str, gateway: Running) -> None:
    with Running("watch", "--count", "1", GATEWAY_AUTH_TOKEN=token) as watch:
        watch.until("Connected to")
        watch.until("quotas.voice_minutes.used")
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0
        watch.until("going_away")
        with Running("serve", "--port", os.environ["GATEWAY_SERVER_PORT"]) as again:
            answers(again.until("Listening on ").removeprefix("Listening on "))
            watch.until("Connected to")
            assert "user:u_ada  current  " in next(watch.lines)
            demo("user", "plan", "ada", "free")
            watch.until("identity.plan")
            assert watch.process.wait(20) == 0


def test_a_revoked_token_ends_it(demo: Cli, token: str, gateway: Running) -> None:
    with Running("watch", GATEWAY_AUTH_TOKEN=token) as watch:
        watch.until("quotas.voice_minutes.used")
        demo("session", "revoke", "--user", "ada")
        assert watch.process.wait(20) == 9
        assert watch.error().startswith("gateway: The gateway ended the channel: revoked.")


def test_what_can_not_be_watched_is_said(
    demo: Cli, token: str, gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo("watch", code=2)
    demo("watch", "--token", "gw_wrong", code=9)
    demo("watch", "--token", token, "user:u_grace", code=4)
    demo("watch", "--token", token, "eve", code=4)
    demo("watch", "--token", token, "--url", "ftp://127.0.0.1", code=6)
    gateway.process.kill()
    gateway.process.wait(20)
    answer = demo("watch", "--token", token, code=7)
    assert "can not be reached" in answer.err
    assert token not in answer.err


def test_a_gateway_elsewhere_needs_no_database(demo: Cli, token: str, gateway: Running, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{os.environ['GATEWAY_SERVER_PORT']}"
    nowhere = f"file:{tmp_path}/nowhere.db"
    with Running("watch", "u_ada", "--url", url, GATEWAY_AUTH_TOKEN=token, GATEWAY_DATABASE_URL=nowhere) as watch:
        watch.until("quotas.voice_minutes.used")
        demo("user", "plan", "ada", "free")
        watch.until("identity.plan")
    assert not (tmp_path / "nowhere.db").exists()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8787", "ws://127.0.0.1:8787/ws"),
        ("https://gateway.example.org/", "wss://gateway.example.org/ws"),
        ("wss://gateway.example.org/deep/ws", "wss://gateway.example.org/deep/ws"),
        ("localhost:80", "ws://localhost:80/ws"),
        ("http://[::1]:1?x#y", "ws://[::1]:1/ws"),
    ],
)
def test_the_channel_is_found_at_an_address(url: str, address: str) -> None:
    assert channel_address(url) == address


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:70000", "http://x:y", "http://[::1", "http://x:0", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadRequest):
        channel_address(url)


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("h", "http://h:1")]
)
def test_a_gateway_that_listens_everywhere_is_found_here(host: str, url: str) -> None:
    assert own_url(ServerConfig(host=host, port=1)) == url
