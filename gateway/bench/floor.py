"""The floor: a bare uvicorn + websockets application that does nothing but accept and send the same bytes.

It runs as ``python -m gateway.bench.floor PORT`` with uvicorn's ``websockets-sansio`` protocol, uvloop and no
compression, and obeys commands on stdin: what to greet every new socket with, and what to send to all of them.
Credentials are not looked at.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
import uvloop

from gateway.bench.obey import obey_async

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

YIELD_EVERY = 100
"""Sends between two turns of the loop: writes are handed to the kernel when the loop turns."""


class Floor:
    """The ASGI application and its commands."""

    def __init__(self) -> None:
        self._greeting: list[str] = []
        self._answer = ""
        self._sockets: dict[Send, None] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Accept, greet, and read until the peer is gone."""
        if scope["type"] != "websocket":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await receive()
        await send({"type": "websocket.accept"})
        for text in self._greeting:
            await send({"type": "websocket.send", "text": text})
        self._sockets[send] = None
        try:
            while (await receive())["type"] != "websocket.disconnect":
                if self._answer:
                    await send({"type": "websocket.send", "text": self._answer})
        finally:
            del self._sockets[send]

    async def greet(self, frames: list[str]) -> dict[str, Any]:
        """Send these frames to every socket that is accepted from now on."""
        self._greeting = frames
        return {}

    async def answer(self, frame: str) -> dict[str, Any]:
        """Answer every message with this frame from now on."""
        self._answer = frame
        return {}

    async def sockets(self) -> dict[str, Any]:
        """How many sockets are open."""
        return {"sockets": len(self._sockets)}

    async def broadcast(self, payload: str) -> dict[str, Any]:
        """Send one frame to every socket; answers when it began and when the last was sent, in monotonic ns."""
        started = time.monotonic_ns()
        sent = await self._send_to_all(payload)
        return {"started": started, "finished": time.monotonic_ns(), "sent": sent}

    async def stream(self, payload: str, seconds: float) -> dict[str, Any]:
        """Send the frame to one socket after the other, round and round, for `seconds`."""
        started = time.monotonic_ns()
        sent = 0
        while self._sockets and time.monotonic_ns() < started + seconds * 1e9:
            sent += await self._send_to_all(payload)
        return {"started": started, "finished": time.monotonic_ns(), "sent": sent}

    async def _send_to_all(self, payload: str) -> int:
        sockets = list(self._sockets)
        for position, send in enumerate(sockets):
            await send({"type": "websocket.send", "text": payload})
            if position % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return len(sockets)


async def serve(port: int) -> None:
    """Serve the floor on `port` until stdin ends."""
    floor = Floor()
    config = uvicorn.Config(
        floor,
        host="127.0.0.1",
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    handlers = {name: getattr(floor, name) for name in ("greet", "answer", "sockets", "broadcast", "stream")}
    while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn tells by this attribute alone
        await asyncio.sleep(0.01)
    obeying = asyncio.create_task(obey_async(handlers))
    await asyncio.wait((serving, obeying), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = server.force_exit = True
    await serving


def main() -> None:
    """Run on uvloop until stdin ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
