from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from client_sdk import Freshness, FreshnessState, Quota
from client_sdk.examples.voice_client import describe, describe_quota
from tests.client_sdk.support.driver import SELF
from tests.client_sdk.support.scripted_server import ScriptedServer

COMMAND = (sys.executable, "-m", "client_sdk.examples.voice_client")


@asynccontextmanager
async def voice_client(*arguments: str, token: str | None = "t1", **streams: Any) -> AsyncIterator[Process]:
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environ.pop("GATEWAY_AUTH_TOKEN", None)
    if token is not None:
        environ["XSWARM_AUTH_TOKEN"] = token
    pipes = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, **streams}
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, env=environ, **pipes)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_with(process: Process, text: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while text not in (line := (await process.stdout.readline()).decode()):
            assert line, f"ended before {text!r}"
    return line


async def test_it_follows_its_user_through_a_restart_of_the_gateway(server: ScriptedServer) -> None:
    async with voice_client("--url", server.url) as process:
        assert "can_use_voice" in await line_with(process, SELF)
        await server.change(SELF, {"permissions": {"can_use_voice": None}}, "permissions")
        line = await line_with(process, "(permissions)")
        assert "can_use_sms" in line
        assert "can_use_voice" not in line
        await server.stop()
        await line_with(process, "offline (disconnected)")
        await server.start()
        await line_with(process, "live")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert await process.wait() == 0


async def test_it_draws_on_a_terminal(server: ScriptedServer) -> None:
    terminal, end = pty.openpty()
    try:
        async with voice_client("--url", server.url, stdout=end) as process:
            seen = ""
            async with asyncio.timeout(20):
                while "Voice: ready" not in seen:
                    seen += (await asyncio.to_thread(os.read, terminal, 4096)).decode()
            assert "\x1b[32mlive\x1b[0m" in seen
            assert "483 of 500 left" in seen
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
    finally:
        os.close(terminal)
        os.close(end)


async def test_it_ends_with_one_line_when_it_is_revoked(server: ScriptedServer) -> None:
    async with voice_client("--url", server.url) as process:
        await line_with(process, SELF)
        await (await server.peer()).end("revoked", "never", 4500)
        async with asyncio.timeout(10):
            assert await process.wait() == 1
        assert process.stderr is not None
        assert await process.stderr.read() == b"voice_client: revoked\n"


async def test_it_says_what_is_missing() -> None:
    async with voice_client("--url", "ws://127.0.0.1:1", token=None) as process:
        async with asyncio.timeout(10):
            assert await process.wait() == 2
        assert process.stderr is not None
        assert await process.stderr.read() == b"voice_client: no token: set GATEWAY_AUTH_TOKEN\n"


@pytest.mark.parametrize(
    ("freshness", "text"),
    [
        (Freshness(FreshnessState.LIVE, 0.0, ""), "live"),
        (Freshness(FreshnessState.STALE, 12.4, "store"), "stale (store), as of 12 s ago"),
        (Freshness(FreshnessState.OFFLINE, None, "connecting"), "offline (connecting), never known"),
    ],
)
def test_freshness_in_words(freshness: Freshness, text: str) -> None:
    assert describe(freshness) == text


def test_quotas_in_words() -> None:
    assert describe_quota("sms", Quota(used=3)).split() == ["sms", "3", "used,", "unlimited"]
    assert "████████████████████████ 0 of 5 left" in describe_quota("sms", Quota(used=9, limit=5, remaining=0))
    assert "resets 2026-12-01" in describe_quota(
        "sms", Quota(used=0, limit=5, remaining=5, resets_at="2026-12-01T00:00:00.000Z")
    )
