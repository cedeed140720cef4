"""An application's own check beside the gateway's, and permissions that endpoints require."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from client_sdk import ConfigError
from client_sdk.auth_proxy import AuthProxy, Difference, require, user_of
from tests.client_sdk.support.asgi import Socket, request
from tests.client_sdk.support.scripted_gateway import KEY, ScriptedGateway, own_app, proxy_to
from tests.client_sdk.support.tokens import access_token
from tests.support.waiting import eventually


def token_for(user: str) -> str:
    return access_token(user, "s_1", int(time.time() + 600))


OWN = {"id": "u_ada", "username": "ada"}


def checking(answers: dict[str, Mapping[str, Any] | None]) -> Any:
    async def check(token: str | None, scope: Any) -> Mapping[str, Any] | None:
        return answers.get(token or "")

    return check


async def test_local_asks_the_own_check_alone(gateway: ScriptedGateway) -> None:
    check = checking({"mine": {"identity": OWN, "permissions": {"can_fly": True}}})
    async with proxy_to(gateway, mode="local", own_check=check) as proxy:
        answer = await request(proxy, "mine")
        assert (answer.json["user"], answer.json["permissions"], answer.json["source"]) == ("u_ada", ["can_fly"], None)
        assert (await request(proxy, "other")).status == 401
        assert (await request(proxy)).headers["www-authenticate"] == "Bearer"
        assert proxy.decider.link is None
    assert (gateway.handshakes, gateway.asked) == (0, [])


async def test_both_answers_with_the_own_check_and_reports_what_differs(gateway: ScriptedGateway) -> None:
    same, less, unknown, foreign = (token_for(user) for user in ("u_ada", "u_ada", "u_bob", "u_bob"))
    check = checking(
        {
            same: {"identity": OWN, "permissions": {"can_use_voice": True}},
            less: {"identity": OWN, "permissions": {"can_fly": True}},
            foreign: {"identity": OWN, "permissions": {}},
            "own": {"identity": OWN, "permissions": {}},
        }
    )
    found: list[Difference] = []
    async with proxy_to(gateway, mode="both", own_check=check, on_difference=found.append) as proxy:
        asked = (same, less, unknown, foreign, "own")
        statuses = [(await request(proxy, token, path="/x")).status for token in asked]
        assert statuses == [200, 200, 401, 200, 200]
        await eventually(lambda: proxy.counters.total("compared") == 5)
        told = {(entry.what, str(entry.own), str(entry.gateway)) for entry in found}
        assert told == {
            ("permissions", "['can_fly']", "['can_use_voice']"),
            ("allowed", "invalid", "yes"),
            ("user", "u_ada", "u_bob"),
            ("allowed", "yes", "invalid"),
        }
        assert {entry.path for entry in found} == {"/x"}
        assert not any(token in str(entry) for entry in found for token in asked if len(token) > 5)
        assert proxy.counters.total("differences") == 4


async def test_a_gateway_that_is_away_changes_nothing_for_both(gateway: ScriptedGateway) -> None:
    check = checking({"own": {"identity": OWN, "permissions": {}}})
    await gateway.stop()
    async with proxy_to(gateway, mode="both", own_check=check, fetch_s=0.3) as proxy:
        started = time.monotonic()
        assert [(await request(proxy, token)).status for token in ("own", token_for("u_ada"))] == [200, 401]
        assert time.monotonic() - started < 0.3
        await eventually(lambda: proxy.counters["uncompared", "unavailable"] == 1)
    await gateway.start()


def test_a_mode_that_asks_the_own_check_needs_one() -> None:
    with pytest.raises(ConfigError, match="own_check"):
        AuthProxy(own_app, "http://127.0.0.1:1", KEY, mode="both")
    with pytest.raises(ConfigError, match="keys"):
        AuthProxy(own_app, "http://127.0.0.1:1")


@require("can_use_voice")
async def voice(request: Request) -> Response:
    return PlainTextResponse(user_of(request).id)


@require("can_use_voice")
def blocking(request: Request) -> Response:
    return PlainTextResponse("blocking")


@require("can_use_voice")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")


APP = Starlette(
    routes=[
        Route("/voice", voice),
        Route("/blocking", blocking),
        Mount("/raw", require("can_use_voice")(own_app)),
        Mount("/open", require()(own_app)),
        WebSocketRoute("/talk", talk),
    ]
)


@pytest.mark.parametrize("path", ["/voice", "/blocking", "/raw/"])
async def test_an_endpoint_that_requires_a_permission(gateway: ScriptedGateway, path: str) -> None:
    async with proxy_to(gateway, APP, public=[path]) as proxy:
        assert (await request(proxy, token_for("u_ada"), path=path)).status == 200
        refused, nobody = await request(proxy, token_for("u_bob"), path=path), await request(proxy, path=path)
    told = {"type": "about:blank", "title": "Forbidden", "status": 403, "code": "forbidden"}
    assert (refused.status, refused.json) == (403, {**told, "detail": "This needs the permission can_use_voice."})
    assert (nobody.status, nobody.json["code"], nobody.headers["www-authenticate"]) == (401, "auth_failed", "Bearer")
    for answer in (refused, nobody):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert int(answer.headers["content-length"]) == len(answer.body)


async def test_every_permission_that_is_missing_is_named(gateway: ScriptedGateway) -> None:
    """And none that is there."""

    @require("can_use_voice", "can_fly", "can_dive")
    async def endpoint(request: Request) -> Response:
        raise AssertionError("nobody has all of these")

    async with proxy_to(gateway, Starlette(routes=[Route("/", endpoint)])) as proxy:
        answer = await request(proxy, token_for("u_ada"))
    assert answer.json["detail"] == "This needs the permissions can_fly, can_dive."


async def test_a_function_that_asks_for_the_user_names_what_is_missing(gateway: ScriptedGateway) -> None:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(user_of(request, "can_use_voice").id)

    async with proxy_to(gateway, Starlette(routes=[Route("/", endpoint)])) as proxy:
        assert (await request(proxy, token_for("u_ada"))).body == b"u_ada"
        answer = await request(proxy, token_for("u_bob"))
    assert (answer.status, answer.body) == (403, b"This needs the permission can_use_voice.")


@pytest.mark.parametrize("path", ["/talk", "/raw/", "/open/"])
async def test_a_socket_without_a_user(gateway: ScriptedGateway, path: str) -> None:
    """Whatever it is that requires one, a function or an application."""
    async with proxy_to(gateway, APP, public=[path]) as proxy:
        assert await Socket(proxy, None, path).closed() == 4102
        refused = Socket(proxy, None, path, extensions={"websocket.http.response": {}})
        start = await refused.message()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
        assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
        assert dict(start["headers"])[b"www-authenticate"] == b"Bearer"


@pytest.mark.parametrize(("path", "code"), [("/talk", 4505), ("/raw/", 4505), ("/open/", None)])
async def test_a_socket_of_a_user_without_the_permission(gateway: ScriptedGateway, path: str, code: int | None) -> None:
    async with proxy_to(gateway, APP) as proxy:
        socket = Socket(proxy, token_for("u_bob"), path)
        if code is None:
            assert await socket.hear() == "u_bob"
            await socket.leave()
        else:
            assert await socket.closed() == code


async def test_a_socket_that_requires_a_permission(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway, APP) as proxy:
        socket = Socket(proxy, token_for("u_ada"), "/talk")
        assert await socket.hear() == "hello"
        await socket.leave()
        refused = Socket(proxy, token_for("u_bob"), "/talk", extensions={"websocket.http.response": {}})
        assert (await refused.message())["status"] == 403
        body = msgspec.json.decode((await refused.message())["body"])
        assert (body["code"], body["detail"]) == ("forbidden", "This needs the permission can_use_voice.")


async def test_everything_counted_is_told_to_prometheus(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        registry = CollectorRegistry()
        registry.register(proxy.collector())
        await request(proxy, token_for("u_ada"))
        await asyncio.gather(*(request(proxy, token_for("u_ada")) for _ in range(4)))
        text = generate_latest(registry).decode()
        assert 'auth_proxy_decisions_total{what="live"} 5.0' in text
        assert "auth_proxy_users 1.0" in text
        assert "u_ada" not in text


async def test_a_socket_without_the_permission_is_closed_where_the_server_can_do_no_more(
    gateway: ScriptedGateway,
) -> None:
    app = Starlette(routes=[WebSocketRoute("/talk", talk)])
    async with proxy_to(gateway, app) as proxy:
        assert await Socket(proxy, token_for("u_bob"), "/talk").close_frame() == (4505, "forbidden")
        refused = Socket(proxy, token_for("u_bob"), "/talk", extensions={"websocket.http.response": {}})
        start = await refused.message()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)


async def test_an_endpoint_that_is_called_by_names(gateway: ScriptedGateway) -> None:
    """As FastAPI does."""

    async def calling(scope: Any, receive: Any, send: Any) -> None:
        await (await voice(request=Request(scope)))(scope, receive, send)

    async with proxy_to(gateway, Starlette(routes=[Mount("/", calling)])) as proxy:
        assert (await request(proxy, token_for("u_ada"))).body == b"u_ada"
        assert (await request(proxy, token_for("u_bob"))).status == 403


async def test_a_document_is_a_requests_own(gateway: ScriptedGateway) -> None:
    async def promoting(scope: Any, receive: Any, send: Any) -> None:
        permissions = scope["user"].document["permissions"]
        permissions["can_do_all"] = True
        assert scope["user"].document["permissions"] is permissions
        await PlainTextResponse(" ".join(sorted(scope["user"].permissions)))(scope, receive, send)

    async with proxy_to(gateway, promoting) as proxy:
        token = token_for("u_ada")
        assert [(await request(proxy, token)).body for _ in range(3)] == [b"can_use_voice"] * 3
