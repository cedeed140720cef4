"""The JavaScript SDK in a Node process of its own, driven from here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.node import find_node, new_node

PROGRAM = Path(__file__).parents[1] / "js" / "support" / "program.mjs"
PATIENCE_S = 25.0
EVERY_S = 0.02
LONGEST_LINE = 2**22


class JsError(Exception):
    """A call was rejected; the fields of the error."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(f"{fields.get('name')}: {fields.get('message')}")
        self.name: str = fields.get("name") or ""
        self.code: str | None = fields.get("code")
        self.key: str | None = fields.get("key")
        self.remaining: int | None = fields.get("remaining")


class JsProgram:
    """One channel. `told` is all that it told by itself, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    async def call(self, name: str, *arguments: Any) -> Any:
        """Have something called, and wait for what comes of it. Raises `JsError`."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.begin(name, *arguments)

    def begin(self, name: str, *arguments: Any) -> asyncio.Future[Any]:
        """Have something called; what will come of it."""
        id = next(self._ids)
        self._waiting[id] = asyncio.get_running_loop().create_future()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": id, "call": name, "args": arguments}).encode() + b"\n")
        return self._waiting[id]

    async def until(self, condition: Callable[[dict[str, Any]], object], after: int = 0) -> dict[str, Any]:
        """The first of `told` for which this holds, from number `after` on."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for news in self.told[after:]:
                    if condition(news):
                        return news
                after = len(self.told)
                self._news.clear()
                await self._news.wait()

    async def when(self, name: str, condition: Callable[[Any], object]) -> Any:
        """What a call gives as soon as this holds for it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                value = await self.begin(name)
                if condition(value):
                    return value
                await asyncio.sleep(EVERY_S)

    async def live(self, after: int = 0) -> None:
        """Wait until it says that it is live."""
        await self.until(lambda news: news.get("state") == "live", after)

    async def offline(self, after: int = 0) -> None:
        """Wait until it says that it is offline."""
        await self.until(lambda news: news.get("state") == "offline", after)

    async def end(self) -> None:
        """Close its input: then nothing keeps it. It must end well and have complained of nothing."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            complaints = await self.process.stderr.read()
            assert (await self.process.wait(), complaints.decode()) == (0, "")
            await self._reading

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            answer = json.loads(line)
            if "told" in answer:
                self.told.append(answer)
                self._news.set()
            elif "error" in answer:
                self._waiting.pop(answer["id"]).set_exception(JsError(answer["error"]))
            else:
                self._waiting.pop(answer["id"]).set_result(answer.get("value"))


@contextlib.asynccontextmanager
async def js_program(*, newest: bool = False) -> AsyncIterator[JsProgram]:
    """A program that has not opened its channel yet; the block must end with it closed. `newest`: on a Node that has a
    WebSocket of its own."""
    command: Sequence[str] = (new_node(),) if newest else (find_node(), "--no-warnings", "--experimental-websocket")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, str(PROGRAM), stdin=pipe, stdout=pipe, stderr=pipe, limit=LONGEST_LINE
    )
    program = JsProgram(process)
    try:
        yield program
        await program.end()
    finally:
        program._reading.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
