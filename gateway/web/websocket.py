"""uvicorn's WebSocket protocol, which a connection of ours takes over after the handshake.

uvicorn does the HTTP side and hands the application an ordinary ASGI scope. Once the application accepted,
`ChannelProtocol.take_over` makes the protocol call the connection directly: no task, no queue and no handshake data
stay behind for an idle socket, a message costs no task switch, and there are things that ASGI has no words for:
pings, how much is unsent, and cutting a peer that does not read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request

from gateway.errors import UpgradeRequired
from gateway.live.transport import Receiver
from gateway.web.problem import problem

EXTENSION = "gateway.transport"
MAX_FRAGMENTS = 256
LINGER_S = 5.0
NO_LINGER = struct.pack("ii", 1, 0)
VERSION = "13"
"""Of WebSocket."""
PING = bytes(Frame(Opcode.PING, b"").serialize(mask=False))


_SHORT = struct.Struct("!BB").pack
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack


def data_frame(payload: bytes, binary: bool) -> bytes:
    """One unfragmented, unmasked data frame (RFC 6455 §5.2)."""
    first = 0x82 if binary else 0x81
    size = len(payload)
    if size < 126:
        return _SHORT(first, size) + payload
    if size < 65536:
        return _MEDIUM(first, 126, size) + payload
    return _LONG(first, 127, size) + payload


class ChannelProtocol(WebSocketsSansIOProtocol):
    """One WebSocket of the server; a `gateway.live.transport.Transport` once it is taken over."""

    receiver: Receiver | None = None
    fragments = 0

    # --- the handshake: uvicorn's, with ourselves in the scope ---

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The parser has its answer ready (431 for a header that is too long), but uvicorn does not look.
            self.handshake_initiated = self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        if event.headers.get_all("Sec-WebSocket-Version") != [VERSION]:
            self._refuse_version()
            return
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            cast("dict[str, Any]", scope["extensions"])[EXTENSION] = self

    def _refuse_version(self) -> None:
        """Another version, or none: the answer says which one is spoken (RFC 6455 §4.4)."""
        refusal = problem(UpgradeRequired(f"WebSocket version {VERSION} is spoken here."))
        self.response = self.conn.reject(refusal.status_code, bytes(refusal.body).decode())
        headers = {**refusal.headers, "upgrade": "websocket", "connection": "Upgrade, close"}
        for name, value in {**headers, "sec-websocket-version": VERSION}.items():
            self.response.headers.pop(name, None)
            self.response.headers[name] = value
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.conn.send_response(self.response)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    def take_over(self, receiver: Receiver, send_buffer_bytes: int) -> None:
        """From now on the receiver is told what comes, and the application may return."""
        self.receiver = receiver
        raw: socket.socket | None = self.transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        # One byte and not none: TLS takes an empty buffer for one that has reached a limit of nothing.
        self.transport.set_write_buffer_limits(high=1, low=0)
        self.loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Give the receiver what came with the handshake, before anybody was there to read it."""
        queue, self.queue = self.queue, asyncio.Queue()
        while self.receiver is not None and not queue.empty():
            message = queue.get_nowait()
            if message["type"] == "websocket.receive":
                text = message.get("text")
                frame = (message.get("bytes") or b"") if text is None else text.encode()
                self.receiver.frame_received(frame, text is not None)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    async def run_asgi(self) -> None:
        """As uvicorn's, but a connection that was taken over outlives the application's call."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            if self.receiver is not None:
                self._forget_handshake()
                return
            if not self.handshake_complete and not self.close_sent:
                self.logger.error("ASGI callable returned without completing handshake.")
                self.send_500_response()
        if self.close_timer is None:
            self.transport.close()

    def _forget_handshake(self) -> None:
        for name in ("scope", "request", "response", "app_state", "writable"):
            self.__dict__.pop(name, None)

    # --- what comes ---

    def send_receive_event_to_app(self) -> None:
        receiver = self.receiver
        if receiver is None:
            super().send_receive_event_to_app()
            return
        frames, self.frames, self.fragments = self.frames, [], 0
        if not self.close_sent:
            data = bytes(frames[0]) if len(frames) == 1 else b"".join(frames)
            receiver.frame_received(data, self.curr_msg_data_type == "text")

    def handle_cont(self, event: Frame) -> None:
        self.fragments += 1
        if self.fragments > MAX_FRAGMENTS:
            if self.receiver is not None and not self.close_sent:
                self.receiver.frame_refused()
            self.frames = []
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        if self.close_sent:
            return
        self.transport.write(pong)
        if self.receiver is not None:
            self.receiver.control_received()

    def handle_pong(self, event: Frame) -> None:
        if self.receiver is not None:
            self.receiver.pong_received()

    def handle_close(self, event: Frame) -> None:
        if self.receiver is None:
            super().handle_close(event)
            return
        if not self.close_sent:
            self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
        self._close_within(LINGER_S)

    def eof_received(self) -> None:
        if self.receiver is None:
            super().eof_received()
        else:
            self.close_sent = True
            self._close_within(LINGER_S)

    def handle_parser_exception(self) -> None:
        receiver = self.receiver
        if receiver is None:
            super().handle_parser_exception()
            return
        answer = b"".join(self.conn.data_to_send())
        if isinstance(self.conn.parser_exc, PayloadTooBig) and not self.close_sent:
            receiver.frame_too_large()
        elif not self.close_sent:
            self.close_sent = True
            self.transport.write(answer)
            self._close_within(LINGER_S)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.disconnected:
            return
        if self.receiver is None:
            super().connection_lost(exc)
            return
        self.connections.discard(self)
        self.disconnected = True
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = None
        receiver, self.receiver = self.receiver, None
        self.queue = asyncio.Queue()
        self.close_sent = True
        receiver.closed()

    def pause_writing(self) -> None:
        if self.receiver is None:
            super().pause_writing()
        elif not self.close_sent:
            self.receiver.writing_paused()

    def resume_writing(self) -> None:
        if self.receiver is None:
            super().resume_writing()
        elif not self.close_sent:
            self.receiver.writing_resumed()

    def shutdown(self) -> None:
        if self.receiver is None:
            # The application is about to answer a handshake that is under way: 503, as it is draining.
            if not self.handshake_initiated or self.handshake_complete:
                super().shutdown()
            return
        if not self.close_sent:
            self.receiver.stop()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # --- what is sent: the Transport of gateway.live ---

    def send_message(self, payload: bytes, binary: bool) -> None:
        """Send one message."""
        if not self.close_sent:
            self.transport.write(data_frame(payload, binary))

    def ping(self) -> None:
        """Send a WebSocket ping."""
        if not self.close_sent:
            self.transport.write(PING)

    def unsent(self) -> int:
        """How many bytes the socket has not taken yet."""
        return self.transport.get_write_buffer_size()

    def end(self, payload: bytes, binary: bool, code: int, reason: str, linger_s: float) -> None:
        """Send the last message, the close frame and the end of the stream at once; cut after `linger_s` seconds
        what is still open.
        """
        if self.close_sent or self.transport.is_closing():
            # The peer began to close, and may not read what is still on its way: it gets no more time than others.
            self.close_sent = True
            self._close_within(linger_s)
            return
        self.close_sent = True
        close = bytes(Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False))
        self.transport.write(data_frame(payload, binary) + close)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._cut_after(linger_s)

    def _close_within(self, seconds: float) -> None:
        """Close when the peer has taken what waits for it, and cut it if that lasts longer."""
        self._cut_after(seconds)
        self.transport.close()

    def _cut_after(self, seconds: float) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(seconds, self._cut)

    def _cut(self) -> None:
        """Reset the connection: what the kernel still holds for a peer that does not read is given up with it."""
        raw: socket.socket | None = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()
