"""A gateway as instances see it, on a real socket: the channel with revocations, keys and users, and /auth/validate."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from client_sdk.auth_proxy import AuthProxy, InstanceKey
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.client_sdk.support.tokens import ISSUER, api_token, jwks

KEY = InstanceKey("ik_first", bytes(range(32)))
LATER = "2030-01-01T00:00:00.000Z"


def user_document(user: str, *permissions: str, status: str = "active") -> dict[str, Any]:
    return {
        "identity": {"id": user, "username": user.removeprefix("u_"), "plan": "pro", "status": status},
        "permissions": dict.fromkeys(permissions, True),
        "quotas": {"voice_minutes": {"limit": 500, "used": 12, "reserved": 0, "remaining": 488, "level": "ok"}},
        "organizations": {},
    }


class ScriptedGateway(ScriptedServer):
    """`asked` are the tokens that were asked about. `away`: every answer over HTTP is 503; `hold`: none comes before it
    is set; `scopes` narrow API tokens. `turn` says of the key of a handshake or a question how it is turned away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.principal = "instance:app"
        self.documents = {
            "revocations": {},
            "keys": jwks(),
            "user:u_ada": user_document("u_ada", "can_use_voice"),
            "user:u_bob": user_document("u_bob"),
        }
        self.tokens: dict[str, tuple[str, str]] = {}
        self.scopes: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.away = False
        self.hold: asyncio.Event | None = None
        self.turn: Callable[[str], Response | None] = lambda kid: None

    def issue(self, user: str, session: str) -> str:
        token = api_token()
        self.tokens[token] = (user, session)
        return token

    async def revoke(self, session: str) -> None:
        await self.change("revocations", {session: LATER}, "revocation")

    async def set_status(self, user: str, status: str) -> None:
        await self.change(f"user:{user}", {"identity": {"status": status}}, "status")

    async def delete(self, user: str) -> None:
        del self.documents[f"user:{user}"]
        for peer in self.peers:
            if not peer.closed.is_set():
                await peer.send({"op": "gone", "doc": f"user:{user}", "reason": "deleted"})

    def cut(self) -> None:
        for peer in self.peers:
            peer.socket.transport.abort()

    def watched(self) -> list[str]:
        """The users whose documents were asked for, in order."""
        asked = [entry for peer in self.peers for entry in peer.watch]
        asked += [e for peer in self.peers for m in peer.received if m["op"] == "watch" for e in m["docs"]]
        return [entry for entry in asked if entry.startswith("user:")]

    async def _process_request(  # type: ignore[override]
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        [kid] = re.findall('keyid="([^"]+)"', request.headers["Signature-Input"])
        turned = self.turn(kid)
        if turned is not None:
            self.handshakes += not request.path.startswith("/auth/validate")
            return turned
        if not request.path.startswith("/auth/validate"):
            return super()._process_request(connection, request)
        assert "Signature" in request.headers
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.asked.append(token)
        if self.hold is not None:
            await self.hold.wait()
        if self.away:
            return _json(503, {"code": "unavailable", "detail": "Not now."})
        return _json(200, self._standing(token))

    def _standing(self, token: str) -> dict[str, Any]:
        user, session = self.tokens.get(token, ("", ""))
        document = self.documents.get(f"user:{user}")
        if document is None or session in self.documents["revocations"] or document["identity"]["status"] != "active":
            return {"active": False}
        told = {"active": True, "session": session, "document": document, "rev": "0" * 16, "seq": self.seq}
        return told if token not in self.scopes else {**told, "scopes": self.scopes[token]}


def problem(status: int, code: str, detail: str, **headers: str) -> Response:
    """A refusal of the gateway's own."""
    named = Headers({"Content-Type": "application/problem+json", **headers})
    return Response(status, "No", named, msgspec.json.encode({"code": code, "detail": detail}))


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(status, "OK", Headers({"Content-Type": "application/json"}), msgspec.json.encode(body))


async def own_app(scope: Any, receive: Any, send: Any) -> None:
    """An application that says whose request it was; its socket says so too, then echoes."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    user = scope.get("user")
    told: dict[str, Any] = {"user": None if user is None else user.id}
    if user is not None:
        told |= {"source": user.source, "age_s": user.age_s, "permissions": sorted(user.permissions)}
    told["headers"] = sorted(name.decode() for name, _ in scope["headers"])
    if scope["type"] == "http":
        body = msgspec.json.encode(told)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})
        return
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(told["user"])})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def proxy_to(server: ScriptedServer, app: Any = own_app, **options: Any) -> AuthProxy:
    return AuthProxy(app, f"http://127.0.0.1:{server.port}", KEY, **{"issuer": ISSUER, **options})


def is_live(proxy: AuthProxy) -> bool:
    """Whether its channel is there."""
    return proxy.decider.link is not None and proxy.decider.link.live
