from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.live.transport import AsgiTransport, Message
from tests.support.waiting import eventually

DISCONNECT = {"type": "websocket.disconnect", "code": 1000}
LAST = {"type": "websocket.send", "text": "last"}
CLOSE = {"type": "websocket.close", "code": 4500, "reason": "revoked"}


class Told:
    """What the transport told its receiver, in order."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def frame_received(self, frame: bytes, text: bool) -> None:
        self.calls.append((frame, text))

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


class Wire:
    """An ASGI server's side: what comes is put into `incoming`; what is sent waits for `open`."""

    def __init__(self, buffer_bytes: int = 10) -> None:
        self.incoming: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self.sent: list[Message] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None
        self.told = Told()
        self.transport = AsgiTransport(self._receive, self._send, buffer_bytes)
        self.running = asyncio.create_task(self.transport.run(self.told))

    async def _receive(self) -> Message:
        message = await self.incoming.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def _send(self, message: Message) -> None:
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.sent.append(message)

    def come(self, **fields: Any) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", **fields})


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    await asyncio.sleep(0)
    yield wire
    wire.incoming.put_nowait(DISCONNECT)
    await asyncio.gather(wire.running, return_exceptions=True)
    assert wire.told.calls.count("closed") == 1


async def done(wire: Wire) -> None:
    """Until `run` returned, which may raise."""
    async with asyncio.timeout(5):
        await wire.running


async def test_what_comes_is_told_in_order_with_its_kind(wire: Wire) -> None:
    wire.come(text="ä")
    wire.come(bytes=b"\xff")
    wire.come(text="x", bytes=None)
    wire.come(text=None, bytes=b"y")
    wire.come(text="\ud800")
    wire.come(text="")
    wire.incoming.put_nowait(DISCONNECT)
    await done(wire)
    frames = [(b"\xc3\xa4", True), (b"\xff", False), (b"x", True), (b"y", False), (b"\xed\xa0\x80", True), (b"", True)]
    assert wire.told.calls == [*frames, "closed"]


async def test_messages_leave_in_order_as_text_or_bytes(wire: Wire) -> None:
    wire.transport.send_message("ä".encode(), False)
    wire.transport.send_message(b"\x01", True)
    assert wire.transport.unsent() == 3
    await eventually(lambda: wire.transport.unsent() == 0)
    wire.transport.send_message(b"{}", False)
    await eventually(lambda: len(wire.sent) == 3)
    assert [(message.get("text"), message.get("bytes")) for message in wire.sent] == [
        ("ä", None),
        (None, b"\x01"),
        ("{}", None),
    ]
    assert wire.told.calls == []


async def test_a_ping_is_left_to_the_server_and_counts_as_answered(wire: Wire) -> None:
    wire.transport.ping()
    assert (wire.told.calls, wire.transport.unsent()) == (["pong_received"], 0)


async def test_a_receiver_is_paused_once_and_resumed_when_all_is_taken(wire: Wire) -> None:
    wire.open.clear()
    for _ in range(3):
        wire.transport.send_message(b"12345", False)
    wire.transport.send_message(b"6", True)
    assert wire.told.calls == ["writing_paused"]
    assert wire.transport.unsent() == 16
    wire.open.set()
    await eventually(lambda: wire.told.calls == ["writing_paused", "writing_resumed"])
    assert (wire.transport.unsent(), len(wire.sent)) == (0, 4)
    wire.open.clear()
    wire.transport.send_message(b"x" * 10, False)
    assert len(wire.told.calls) == 2, "exactly full"
    wire.transport.send_message(b"x", False)
    assert wire.told.calls[2:] == ["writing_paused"]


async def test_a_send_that_raises_is_the_end_of_the_connection(wire: Wire) -> None:
    wire.failure = ConnectionResetError("gone")
    wire.transport.send_message(b"x" * 20, False)
    await done(wire)
    assert wire.told.calls == ["writing_paused", "closed"]
    assert (wire.sent, wire.transport.unsent()) == ([], 0)


async def test_the_end_follows_what_was_sent_and_waits_for_the_peer_to_close(wire: Wire) -> None:
    wire.transport.send_message(b"first", False)
    wire.transport.end(b"last", False, 4500, "revoked", 60.0)
    await eventually(lambda: len(wire.sent) == 3)
    assert wire.sent[1:] == [LAST, CLOSE]
    wire.come(text="late")
    await eventually(lambda: wire.told.calls)
    assert wire.told.calls == [(b"late", True)]
    wire.incoming.put_nowait(DISCONNECT)
    await done(wire)


async def test_a_peer_that_does_not_close_is_cut_after_the_linger(wire: Wire) -> None:
    began = time.monotonic()
    wire.transport.end(b"last", False, 4500, "revoked", 0.1)
    await done(wire)
    assert wire.sent == [LAST, CLOSE]
    assert time.monotonic() - began >= 0.099


async def test_a_peer_that_does_not_read_is_cut_after_the_linger(wire: Wire) -> None:
    wire.open.clear()
    wire.transport.send_message(b"x" * 20, False)
    wire.transport.end(b"last", False, 4500, "revoked", 0.1)
    await done(wire)
    assert wire.sent == []
    assert wire.told.calls == ["writing_paused", "closed"]
    wire.open.set()
    await asyncio.sleep(0)
    assert wire.sent == [], "the writer is gone too"


async def test_a_fault_of_the_server_is_not_swallowed(wire: Wire) -> None:
    wire.incoming.put_nowait(LookupError("of the server"))
    with pytest.raises(LookupError, match="of the server"):
        await done(wire)
    assert wire.told.calls == ["closed"]


async def test_a_server_that_cancels_leaves_nothing_running(wire: Wire) -> None:
    wire.open.clear()
    wire.transport.send_message(b"x", False)
    wire.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await done(wire)
    current = asyncio.current_task()
    await eventually(lambda: asyncio.all_tasks() == {current})
