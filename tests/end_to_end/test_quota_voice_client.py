"""The voice client makes a call that is charged by the minute, at a real gateway: through a crash of it, to the last
minute there is, and on when there are more.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.end_to_end.conftest import OwnGateway, StartGateway
from tests.support.gateway_process import ROOT
from tests.support.quota_books import charges, check_books, taken
from tests.support.seed import Person
from tests.support.waiting import eventually

MINUTE_S = 0.25
QUOTA = "voice_minutes"


class Call:
    """The program, and all that it said."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said.append(line.decode().rstrip())

    def has_said(self, text: str) -> bool:
        return any(text in line for line in self.said)

    async def ended(self) -> tuple[int, str]:
        """After how many minutes, and why."""
        await eventually(lambda: self.has_said("call: ended"), 30)
        [line] = [line for line in self.said if "call: ended" in line]
        found = re.search(r"after (\d+) minutes, (\w+)", line)
        assert found is not None, line
        return int(found[1]), found[2]

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader


@asynccontextmanager
async def a_call(own: OwnGateway, person: Person) -> AsyncIterator[Call]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GATEWAY_AUTH_TOKEN": person.token}
    command = (sys.executable, "-m", "client_sdk.examples.voice_client", "--url", f"http://{own.process.address}")
    process = await asyncio.create_subprocess_exec(
        *(*command, "--call", str(MINUTE_S)), env=environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    call = Call(process)
    try:
        yield call
    finally:
        await call.close()


def caller(own: OwnGateway, minutes: int) -> Person:
    return own.seed.person(own.seed.plan(["can_use_voice"], {QUOTA: (minutes, "month")}))


async def test_a_call_outlives_a_crash_and_is_charged_once_to_its_last_minute(own_gateway: StartGateway) -> None:
    own = own_gateway()
    person = caller(own, 40)
    async with a_call(own, person) as call:
        for paid in (3, 9):
            await eventually(lambda paid=paid: taken(own.foreign, person.doc, QUOTA)[0] >= paid, every_s=0.02)
            await asyncio.to_thread(own.process.restart)
            assert not call.has_said("call: ended")
        minutes, reason = await call.ended()
        assert (minutes, reason) == (40, "exhausted"), call.said
        assert call.process.returncode is None, "it follows its user on"
    assert sorted(charges(own.foreign, person.doc, QUOTA).values()) == [1] * 40
    assert taken(own.foreign, person.doc, QUOTA) == (40, 0)
    assert call.has_said("critical")
    check_books(own.foreign)


async def test_a_call_goes_on_when_an_admin_adds_minutes(own_gateway: StartGateway) -> None:
    own = own_gateway()
    person = caller(own, 20)
    async with a_call(own, person) as call:
        await eventually(lambda: call.has_said("call: low") or call.has_said("call: critical"))
        own.foreign.execute("UPDATE plan_quotas SET limit_value = 26 WHERE plan = ?", person.plan)
        assert await call.ended() == (26, "exhausted"), call.said
    assert taken(own.foreign, person.doc, QUOTA) == (26, 0)
    check_books(own.foreign)


async def test_a_call_ends_with_the_permission(own_gateway: StartGateway) -> None:
    own = own_gateway()
    person = caller(own, 1000)
    async with a_call(own, person) as call:
        await eventually(lambda: taken(own.foreign, person.doc, QUOTA)[0] >= 2, every_s=0.02)
        own.foreign.execute("DELETE FROM plan_permissions WHERE plan = ?", person.plan)
        minutes, reason = await call.ended()
        assert reason == "forbidden"
    used, reserved = taken(own.foreign, person.doc, QUOTA)
    assert reserved == 0
    assert used - minutes in (0, 1), "the minute that was asked for when the news came"
    check_books(own.foreign)
