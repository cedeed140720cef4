"""Without the permission nothing goes on that calls what `require` guards, whatever it makes of the result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from client_sdk.auth_proxy import require
from tests.client_sdk.support.asgi import Socket, request
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.tokens import access_token, soon

DENIAL: dict[str, Any] = {"websocket.http.response": {}}


@require("can_use_voice")
async def helper(connection: HTTPConnection) -> None:
    return None


@require("can_use_voice")
def blocking_helper(connection: HTTPConnection) -> None:
    return None


async def calls_helper(request: Request) -> Response:
    await helper(request)
    return PlainTextResponse("went on")


async def calls_blocking_helper(request: Request) -> Response:
    blocking_helper(request)
    return PlainTextResponse("went on")


def dropping(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that makes the answer itself."""

    @functools.wraps(function)
    async def around(request: Request) -> Response:
        await function(request)
        return PlainTextResponse("went on")

    return around


def going_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a socket."""

    @functools.wraps(function)
    async def around(websocket: WebSocket) -> None:
        await function(websocket)
        await websocket.accept()
        await websocket.send_text("went on")

    return around


@dropping
@require("can_use_voice")
async def decorated(request: Request) -> Response:
    return PlainTextResponse("dropped")


class Page(HTTPEndpoint):
    @require("can_use_voice")
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("went on")


class Pages:
    @require("can_use_voice")
    async def page(self, request: Request) -> Response:
        return PlainTextResponse("went on")


async def talk_by_helper(websocket: WebSocket) -> None:
    await helper(websocket)
    await websocket.accept()
    await websocket.send_text("went on")


async def talk_by_blocking_helper(websocket: WebSocket) -> None:
    blocking_helper(websocket)
    await websocket.accept()
    await websocket.send_text("went on")


@going_on
@require("can_use_voice")
async def talk_decorated(websocket: WebSocket) -> None:
    return None


async def talk_then_helper(websocket: WebSocket) -> None:
    await websocket.accept()
    await helper(websocket)
    await websocket.send_text("went on")


REQUESTS: dict[str, Any] = {
    "helper": calls_helper,
    "blocking": calls_blocking_helper,
    "decorated": decorated,
    "class": Page,
}
SOCKETS: dict[str, Any] = {
    "helper": talk_by_helper,
    "blocking": talk_by_blocking_helper,
    "decorated": talk_decorated,
}


def allowed() -> str:
    """A token of somebody who has the permission."""
    return access_token("u_ada", "s_1", soon())


def without() -> str:
    """A token of somebody who has not."""
    return access_token("u_bob", "s_1", soon())


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_does_not_go_on(gateway: ScriptedGateway, name: str) -> None:
    app = Starlette(routes=[Route("/", REQUESTS[name])])
    async with proxy_to(gateway, app, public=["/"]) as proxy:
        assert (await request(proxy, allowed())).body == b"went on"
        refused, nobody = await request(proxy, without()), await request(proxy)
    assert (refused.status, refused.body) == (403, b"This needs the permission can_use_voice.")
    assert (nobody.status, nobody.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_socket_does_not_go_on(gateway: ScriptedGateway, name: str) -> None:
    app = Starlette(routes=[WebSocketRoute("/", SOCKETS[name])])
    async with proxy_to(gateway, app, public=["/"]) as proxy:
        let_in = Socket(proxy, allowed())
        assert await let_in.hear() == "went on"
        await let_in.leave()
        assert await Socket(proxy, without()).closed() == 4505
        assert await Socket(proxy, None).closed() == 4102
        for token, status in ((without(), 403), (None, 401)):
            start = await Socket(proxy, token, extensions=DENIAL).message()
            assert (start["type"], start["status"]) == ("websocket.http.response.start", status)


async def test_a_socket_that_is_accepted_is_closed(gateway: ScriptedGateway) -> None:
    """There is no other way then, whatever its server can."""
    app = Starlette(routes=[WebSocketRoute("/", talk_then_helper)])
    async with proxy_to(gateway, app) as proxy:
        socket = Socket(proxy, without(), extensions=DENIAL)
        assert [(await socket.message())["type"] for _ in range(2)] == ["websocket.accept", "websocket.close"]
        await socket.task


async def test_a_bound_method_that_is_the_endpoint_answers(gateway: ScriptedGateway) -> None:
    """The router calls it, and sends what it returns."""
    async with proxy_to(gateway, Starlette(routes=[Route("/", Pages().page)])) as proxy:
        assert (await request(proxy, allowed())).body == b"went on"
        assert (await request(proxy, without())).json["code"] == "forbidden"
