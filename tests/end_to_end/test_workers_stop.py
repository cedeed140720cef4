"""A gateway of several processes that is told to stop at a bad moment: while workers are made, or made again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess, wait_for
from tests.support.waiting import eventually

pytestmark = pytest.mark.storages("file")

DIED = "a worker died and is started again"


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of three processes that was only just started."""
    process = GatewayProcess(tmp_path, server_workers=3, server_drain_s=1)
    process.start(ready=False)
    yield process
    process.end()
    process.check_log()


async def _stopped(process: GatewayProcess, within_s: float = 8.0) -> int:
    return await asyncio.to_thread(process.wait, within_s)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_a_dead_worker_is_made_again(number: int, own_gateway: StartGateway) -> None:
    own = own_gateway(server_workers=2, server_drain_s=1)
    await eventually(lambda: len(own.process.workers()) == 2)
    os.kill(own.process.workers()[0], signal.SIGKILL)
    await eventually(lambda: DIED in own.process.log())
    own.process.signal(number)
    assert await _stopped(own.process) == 0
    assert own.process.log().count(DIED) == 1


async def test_a_signal_while_the_new_worker_starts(own_gateway: StartGateway) -> None:
    own = own_gateway(server_workers=2, server_drain_s=1)
    await eventually(lambda: len(own.process.workers()) == 2)
    dead = own.process.workers()[0]
    os.kill(dead, signal.SIGKILL)
    await eventually(lambda: len(set(own.process.workers()) - {dead}) == 2, every_s=0.001)
    assert await asyncio.to_thread(own.process.terminate, 8.0) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_first_workers_start(number: int, count: int, starting: GatewayProcess) -> None:
    wait_for(lambda: len(starting.workers()) >= count, what=f"{count} workers")
    workers = starting.workers()
    starting.signal(number)
    assert starting.wait(8.0) == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


async def test_the_interrupt_of_a_terminal_drains_and_is_no_matter_of_the_workers(own_gateway: StartGateway) -> None:
    """A terminal tells every process of the group; only what the parent passes on counts."""
    own = own_gateway(server_workers=2, server_drain_s=1)
    await eventually(lambda: len(own.process.workers()) == 2)
    workers = own.process.workers()
    for _ in range(3):
        for worker in workers:
            os.kill(worker, signal.SIGINT)
    blocked = 1 << (signal.SIGINT - 1)
    for worker in workers:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
        assert int(status["SigBlk"], 16) & blocked
        assert int(status["ShdPnd"], 16) & blocked, "told, and not listening"
    assert (await own.process.fetch("GET", "/ready")).status == 200
    began = time.monotonic()
    own.process.signal(signal.SIGINT)
    assert await _stopped(own.process) == 0
    assert time.monotonic() - began < 5
    assert DIED not in own.process.log()
