"""A raw protocol client over `websockets`: every frame goes through the oracle of `Replica`."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.support.gateway_process import Answer, GatewayProcess
from tests.support.replica import Held, Replica

JSON = "gateway.v1+json"
MESSAGEPACK = "gateway.v1+msgpack"
TIMEOUT_S = 10.0


class Refused(Exception):
    """The handshake was answered by HTTP."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body!r}")
        self.answer = answer


class Client:
    """One connection. `close` raises what the oracle found, and so does every wait."""

    def __init__(self, socket: ClientConnection, replica: Replica) -> None:
        self.socket = socket
        self.replica = replica
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(
        cls,
        gateway: GatewayProcess,
        token: str | None = None,
        *,
        by: str = "header",
        watch: Sequence[str] | None = None,
        held: dict[str, Held] | None = None,
        subprotocol: str | None = JSON,
        headers: Iterable[tuple[str, str]] = (),
        origin: str | None = None,
        url: str | None = None,
    ) -> Client:
        """Connect and return when the session is ready (without a token: at once).

        The token goes into the header of the handshake, or (`by="message"`) into the first message. `held` is offered
        for resuming, in place of `watch`. Raises `Refused`.
        """
        if held is not None:
            watch = [f"{doc}@{document.rev}" for doc, document in held.items()]
        sent = list(headers)
        address = url or gateway.channel_url
        if token is not None and by == "header":
            sent.append(("Authorization", f"Bearer {token}"))
            if watch is not None:
                address += "?" + "&".join(f"watch={name}" for name in watch)
        try:
            socket = await open_websocket(
                address,
                origin=origin,  # type: ignore[arg-type]
                subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
                additional_headers=sent,
                compression=None,
                proxy=None,
                ping_interval=None,
                max_size=None,
                ssl=gateway.tls,
            )
        except InvalidStatus as refusal:
            response = refusal.response
            answer = Answer(
                response.status_code, {k.lower(): v for k, v in response.headers.raw_items()}, response.body or b""
            )
            raise Refused(answer) from None
        client = cls(socket, Replica(held))
        if token is not None:
            if by == "message":
                await client.send(op="auth", token=token, **({} if watch is None else {"watch": list(watch)}))
            await client.until(lambda: client.replica.ready or client.replica.ended)
        return client

    # --- what is held ---

    @property
    def own(self) -> str:
        """The name of the principal's own document."""
        assert self.replica.ready is not None
        return str(self.replica.ready["principal"])

    @property
    def held(self) -> Held | None:
        """The principal's own document."""
        return self.replica.documents.get(self.own)

    @property
    def data(self) -> dict[str, Any]:
        """The content of the principal's own document; empty before it came."""
        held = self.held
        return held.data if held is not None and self.own in self.replica.confirmed else {}

    @property
    def states(self) -> list[dict[str, Any]]:
        """Every content of a document that was held on this connection."""
        return [held.data for held in self.replica.states]

    # --- sending ---

    async def send(self, **message: Any) -> None:
        if self.socket.subprotocol == MESSAGEPACK:
            await self.socket.send(msgspec.msgpack.encode(message))
        else:
            await self.socket.send(json.dumps(message))

    async def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request with an id of its own and return what answers it."""
        id = f"r{next(self._ids)}"
        await self.send(op=op, id=id, **fields)
        return await self.message(id=id)

    async def barrier(self) -> None:
        """Everything that the gateway sent until it saw this ping has been received."""
        await self.request("ping")

    # --- receiving ---

    def mark(self) -> int:
        """A place in what was received, for `messages` and `message`."""
        return len(self.replica.received)

    def messages(self, op: str | None = None, *, since: int = 0, **fields: Any) -> list[dict[str, Any]]:
        """What was received since the mark, of this op and with these fields."""
        wanted = fields if op is None else {"op": op, **fields}
        return [
            message
            for message, _ in self.replica.received[since:]
            if all(message.get(name) == value for name, value in wanted.items())
        ]

    async def message(
        self, op: str | None = None, *, since: int = 0, timeout_s: float = TIMEOUT_S, **fields: Any
    ) -> dict[str, Any]:
        """The first such message, waited for."""
        await self.until(lambda: self.messages(op, since=since, **fields), timeout_s)
        return self.messages(op, since=since, **fields)[0]

    async def until(self, condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the condition holds; it is looked at after each message. Raises `TimeoutError`, `Violation`."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            if condition():
                return
            if self._reader.done() and not condition():
                raise AssertionError(f"the connection is closed: {self.replica.ended}, {self.replica.close_code}")
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                last = [message for message, _ in self.replica.received[-4:]]
                raise TimeoutError(f"not within {timeout_s} s; the last messages: {last}") from None

    async def end(self, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Wait until the gateway has ended and closed the connection; what `ended` said."""
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(self._reader)
        if self._failure is not None:
            raise self._failure
        assert self.replica.ended is not None, f"closed by {self.replica.close_code} without a word"
        return self.replica.ended

    async def _read(self) -> None:
        try:
            while True:
                frame = await self.socket.recv()
                binary = self.socket.subprotocol == MESSAGEPACK
                assert isinstance(frame, bytes) == binary, "a frame of the wrong kind"
                self.replica.take(msgspec.msgpack.decode(frame) if binary else json.loads(frame))
                self._changed.set()
        except ConnectionClosed:
            try:
                self.replica.closed(self.socket.close_code or 1006)
            except AssertionError as violation:
                self._failure = violation
        except BaseException as failure:
            self._failure = failure
            if not isinstance(failure, Exception):
                raise
        finally:
            self._changed.set()

    async def close(self) -> None:
        """Close the connection. Raises what the oracle found."""
        await self.socket.close()
        await asyncio.gather(self._reader, return_exceptions=True)
        if isinstance(self._failure, Exception):
            raise self._failure

    def cut(self) -> None:
        """Drop the connection as a broken network does: no close frame."""
        self.socket.transport.abort()
