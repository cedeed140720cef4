"""One session of the load generator: reads frames without decoding them, and notes what arrived and when.

It relies on what the gateway's JSON codec writes: one frame a message, `op` first, no white space, canonical JSON for
documents and patches.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from typing import Any

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from gateway.bench.marker import marked_number
from gateway.core.document import apply, canonical, revision

_OP = b'{"op":"'
_FROM = b'"from":"'
_REV = b'"rev":"'
_REV_DIGITS = 16


class Recording:
    """What the sessions of one load generator received since the last `clear`: updates, and faults by kind."""

    def __init__(self, seen: memoryview, slot: int) -> None:
        self._seen = seen
        self._slot = slot
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 0
        self.clear()

    @classmethod
    def apart(cls) -> Recording:
        """One whose sessions are not on the board."""
        return cls(memoryview(array("q", [0])), 0)

    def clear(self) -> None:
        """Forget everything."""
        self.numbers, self.sessions, self.times = array("q"), array("q"), array("q")
        self.bytes = 0
        self.faults: dict[str, int] = {}

    def note(self, session: int, payload: bytes, now: int) -> None:
        """An update arrived at a session at monotonic ns `now`."""
        number = marked_number(payload)
        self.numbers.append(number)
        self.sessions.append(session)
        self.times.append(now)
        self.bytes += len(payload)
        if number > self._seen[self._slot]:
            self._seen[self._slot] = number
        if self._waiter is not None and len(self.times) >= self._wanted and not self._waiter.done():
            self._waiter.set_result(None)

    def fault(self, kind: str) -> None:
        """Something happened that makes the run worthless."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    async def wait_for(self, count: int, within_s: float) -> bool:
        """Wait until `count` updates have arrived since `clear`; False when they did not within `within_s` seconds."""
        if len(self.times) < count:
            self._wanted = count
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._waiter, within_s)
            except TimeoutError:
                return False
            finally:
                self._waiter = None
        return True


class Client(WSListener):
    """A session's end at the client. All moments are CLOCK_MONOTONIC in nanoseconds, 0 while they have not come.

    `settled` is resolved once the document is there (`snapshot` or `current`). With `checked`, every update's `from`
    has to be the revision held; with `verified`, frames are decoded too and every revision is recomputed from the
    document.
    """

    def __init__(
        self, index: int, recording: Recording, settled: asyncio.Future[None], *, checked: bool, verified: bool
    ) -> None:
        self.index = index
        self.settled = settled
        self.transport: WSTransport | None = None
        self.frames: list[str] | None = None
        self.on_answer: Callable[[bytes, int], None] | None = None
        """Told of every `reply` and `error`, with the monotonic ns at which it came."""
        self.last_update = ""
        self.rev = b""
        self.code = ""
        self.cut = self.mute = False
        self.ended_at = self.close_frame_at = self.closed_at = 0
        self.recording = recording
        self._checked = checked
        self._verified = verified
        self._document: dict[str, Any] = {}

    def send(self, payload: bytes) -> None:
        """Send one message, unless the connection is gone: that is noted."""
        if self.transport is not None:
            self.transport.send(WSMsgType.TEXT, payload)

    @property
    def document(self) -> dict[str, Any]:
        """What a verified session holds."""
        return self._document

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Note what a frame says."""
        now = time.monotonic_ns()
        kind = frame.msg_type
        if kind == WSMsgType.TEXT:
            self._on_text(frame.get_payload_as_bytes(), now)
        elif kind == WSMsgType.CLOSE:
            self.close_frame_at = now
            transport.send_close(WSCloseCode.OK)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note that the connection is closed."""
        self.closed_at = time.monotonic_ns()
        if not self.settled.done():
            self.settled.set_exception(
                ConnectionError(f"session {self.index} was closed before its document came: {self.code or 'no reason'}")
            )
        elif not (self.cut or self.mute or self.ended_at):
            self.recording.fault("connections lost")

    def _on_text(self, payload: bytes, now: int) -> None:
        if self.frames is not None:
            self.frames.append(payload.decode())
        op = payload[len(_OP) : payload.find(b'"', len(_OP))]
        if op == b"update":
            self._on_update(payload, now)
        elif op == b"reply":
            if self.on_answer is not None:
                self.on_answer(payload, now)
        elif op in (b"snapshot", b"current"):
            self.rev = _digits_after(_REV, payload)
            if self._verified:
                self._hold(msgspec.json.decode(payload).get("data"))
            if not self.settled.done():
                self.settled.set_result(None)
        elif op == b"ended":
            self.ended_at = now
            self.code = msgspec.json.decode(payload)["code"]
            if self.code != "revoked":
                self.recording.fault(f"sessions ended: {self.code}")
        elif op in (b"error", b"status", b"gone"):
            self.recording.fault(f"{op.decode()} messages")
            if self.on_answer is not None and op == b"error":
                self.on_answer(payload, now)

    def _on_update(self, payload: bytes, now: int) -> None:
        self.recording.note(self.index, payload, now)
        if self.ended_at:
            self.recording.fault("updates after the end")
        if not self._checked:
            return
        if _digits_after(_FROM, payload) != self.rev:
            self.recording.fault("updates from another revision")
        self.rev = _digits_after(_REV, payload)
        if self._verified:
            self.last_update = payload.decode()
            self._hold(apply(self._document, msgspec.json.decode(payload)["patch"]))

    def _hold(self, document: dict[str, Any] | None) -> None:
        if document is None:
            return  # `current`: nothing was sent, so there is nothing to compare
        self._document = document
        if revision(canonical(document)).encode() != self.rev:
            self.recording.fault("documents that do not have their revision")


def _digits_after(key: bytes, payload: bytes) -> bytes:
    at = payload.find(key) + len(key)
    return payload[at : at + _REV_DIGITS]
