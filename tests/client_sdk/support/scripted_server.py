"""A gateway on a real socket that does what a test tells it: the SDK's channel is tested against it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from client_sdk.document import apply, diff
from tests.client_sdk.support.bank import Bank
from tests.client_sdk.support.driver import ADA, HELLO, SELF, revision_of, snapshot


class Peer:
    """One connection of a client, seen from the gateway. `received` are its messages."""

    def __init__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.socket = socket
        self.path = socket.request.path
        self.authorization = socket.request.headers.get("Authorization")
        self.signature = socket.request.headers.get("Signature")
        self.watch = parse_qs(urlsplit(self.path).query).get("watch", [])
        self.received: list[dict[str, Any]] = []
        self.closed = asyncio.Event()

    @property
    def binary(self) -> bool:
        return self.socket.subprotocol == "gateway.v1+msgpack"

    async def send(self, *messages: Mapping[str, Any]) -> None:
        for message in messages:
            if self.binary:
                await self.socket.send(msgspec.msgpack.encode(message))
            else:
                await self.socket.send(msgspec.json.encode(message).decode())

    async def end(self, code: str, reconnect: str, close: int, **more: Any) -> None:
        await self.send({"op": "ended", "code": code, "message": code, "reconnect": reconnect, **more})
        await self.socket.close(close, code)

    def cut(self, *, after: bytes = b"") -> None:
        """Cut the connection, in the middle of a frame when `after` begins one."""
        if after:
            self.socket.transport.write(after)
            self.socket.transport.close()
        else:
            self.socket.transport.abort()


class ScriptedServer:
    """Accepts, greets, sends the documents that are asked for, and answers requests. Every part can be turned off or
    replaced.

    `refusals` are HTTP answers for the next handshakes, one each. `silent`: nothing is sent any more, whatever comes.
    `principal`, `hello` and `ready` are what it says, `bank` answers who spends. `duplicate`: every frame twice.
    `delay_s`: every answer comes late.
    """

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {SELF: ADA}
        self.seq = 10
        self.refusals: list[Response] = []
        self.silent = False
        self.duplicate = False
        self.delay_s = 0.0
        self.principal = SELF
        self.hello = dict(HELLO)
        self.ready: dict[str, Any] = {}
        self.bank = Bank({"voice_minutes": 10})
        self.peers: list[Peer] = []
        self.handshakes = 0
        self._arrival = asyncio.Condition()
        self._server: Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; on the same port as before when it was stopped."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[Subprotocol("gateway.v1+json"), Subprotocol("gateway.v1+msgpack")],
            process_request=self._process_request,
            compression=None,
            ping_interval=None,
            close_timeout=0.1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        for peer in self.peers:
            peer.socket.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    @property
    def revs(self) -> dict[str, str]:
        return {doc: revision_of(data) for doc, data in self.documents.items()}

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def peer(self, number: int = 1, *, timeout_s: float = 5.0) -> Peer:
        """The client's connection of this number, as soon as it is there."""
        async with asyncio.timeout(timeout_s), self._arrival:
            await self._arrival.wait_for(lambda: len(self.peers) >= number)
            return self.peers[number - 1]

    async def message(self, peer: Peer, op: str, count: int = 1, *, timeout_s: float = 5.0) -> dict[str, Any]:
        """The message of this kind, as soon as the client has sent it `count` times."""

        def arrived() -> list[dict[str, Any]]:
            return [message for message in peer.received if message["op"] == op]

        async with asyncio.timeout(timeout_s), self._arrival:
            await self._arrival.wait_for(lambda: len(arrived()) >= count)
            return arrived()[count - 1]

    async def change(self, doc: str, patch: Mapping[str, Any], *causes: str) -> None:
        """Change a document and send the update to everybody who watches it."""
        before = self.documents[doc]
        after = self.documents[doc] = apply(before, patch)
        self.seq += 1
        message = {"op": "update", "doc": doc, "from": revision_of(before), "rev": revision_of(after), "seq": self.seq}
        for peer in self.peers:
            if not peer.closed.is_set():
                await self._send(peer, {**message, "patch": diff(before, after), "causes": list(causes)})

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes += 1
        return self.refusals.pop(0) if self.refusals else None

    async def _serve(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        try:
            await self._greet(peer)
            await self._arrived(peer)
            async for frame in socket:
                message = msgspec.msgpack.decode(frame) if isinstance(frame, bytes) else msgspec.json.decode(frame)
                peer.received.append(message)
                async with self._arrival:
                    self._arrival.notify_all()
                await self._answer(peer, message)
        except ConnectionClosed:
            pass
        finally:
            peer.closed.set()

    async def _arrived(self, peer: Peer) -> None:
        async with self._arrival:
            self.peers.append(peer)
            self._arrival.notify_all()

    async def _greet(self, peer: Peer) -> None:
        await self._send(peer, self.hello)
        if peer.authorization is not None or peer.signature is not None:
            await self._let_in(peer, peer.watch)

    async def _let_in(self, peer: Peer, watch: list[str]) -> None:
        await self._send(
            peer, {"op": "ready", "session": f"s{self.handshakes}", "principal": self.principal, **self.ready}
        )
        for entry in watch:
            await self._show(peer, entry)

    async def _send(self, peer: Peer, *messages: Mapping[str, Any]) -> None:
        if self.silent:
            return
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        for message in messages:
            await peer.send(*([message, message] if self.duplicate else [message]))

    async def _show(self, peer: Peer, entry: str, id: str | None = None) -> str | None:
        name, _, rev = entry.partition("@")
        doc = self.principal if name == "self" else name
        data = self.documents.get(doc)
        if data is None:
            refusal = {"op": "error", "code": "not_found", "message": "No such document.", "doc": doc}
            await self._send(peer, refusal if id is None else {**refusal, "id": id})
            return None
        if rev == revision_of(data):
            await self._send(peer, {"op": "current", "doc": doc, "rev": rev, "seq": self.seq})
        else:
            await self._send(peer, snapshot(doc, data, self.seq))
        return doc

    async def _answer(self, peer: Peer, message: dict[str, Any]) -> None:
        id = message.get("id")
        match message["op"]:
            case "auth" if id is None:
                await self._let_in(peer, message.get("watch", []))
            case "auth":
                await self._send(peer, {"op": "ready", "session": "s1", "principal": self.principal, "id": id})
            case "watch":
                docs = [doc for entry in message["docs"] if (doc := await self._show(peer, entry, id)) is not None]
                if docs:
                    await self._send(peer, {"op": "reply", "id": id, "docs": docs})
            case "unwatch":
                await self._send(peer, {"op": "reply", "id": id, "docs": message["docs"]})
            case "sync":
                doc = message["doc"]
                reply = {"op": "reply", "id": id, "doc": doc}
                await self._send(peer, reply, snapshot(doc, self.documents[doc], self.seq))
            case "consume" | "reserve" | "extend" | "commit" | "release":
                await self._send(peer, self.bank.answer(message))
            case "ping":
                await self._send(peer, {"op": "pong", "id": id, "server_time": "", "revs": self.revs})
