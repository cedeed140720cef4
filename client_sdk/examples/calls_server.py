"""An application's server that hands sign-in to the gateway: two routes and one socket behind an `AuthProxy`.

    gateway instance add calls > gateway.toml
    python -m client_sdk.examples.calls_server --config gateway.toml

Any number of copies may run; with ``--redis`` those on one machine share what they know. Then, with a user's token:

    curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/me
    curl -H "Authorization: Bearer $TOKEN" -X POST http://127.0.0.1:8080/calls

``/me`` says who that is and how sure the server is, ``/calls`` needs the permission can_use_voice, and the socket at
``/live`` echoes for as long as the token is good. ``/health`` needs none, and ``/stats`` shows what was counted.
"""

from __future__ import annotations

import argparse
import logging
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from client_sdk.auth_proxy import AuthProxy, RedisStorage, load_instance, require, user_of
from client_sdk.config import ConfigError


async def me(request: Request) -> Response:
    """Who asks."""
    user = user_of(request)
    return JSONResponse(
        {
            "id": user.id,
            "name": user.display_name,
            "permissions": sorted(user.permissions),
            "minutes_left": {name: quota.remaining for name, quota in user.quotas.items()},
            "source": user.source,
            "age_s": round(user.age_s, 3),
        }
    )


@require("can_use_voice")
async def call(request: Request) -> Response:
    """Begin a call."""
    return JSONResponse({"calling": True, "for": user_of(request).id}, status_code=201)


async def live(websocket: WebSocket) -> None:
    """Echo until somebody leaves, or the token is not good any more."""
    user = user_of(websocket)
    await websocket.accept()
    try:
        await websocket.send_text(user.id)
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


async def health(request: Request) -> Response:
    """Whether this is alive."""
    return Response("ok")


def application() -> Starlette:
    """The application itself: it knows nothing of tokens."""
    return Starlette(
        routes=[
            Route("/health", health),
            Route("/me", me),
            Route("/calls", call, methods=["POST"]),
            WebSocketRoute("/live", live),
        ]
    )


def protected(arguments: argparse.Namespace) -> AuthProxy:
    """The application behind the gateway."""
    settings = load_instance(arguments.config)
    app = application()
    proxy = AuthProxy(
        app,
        settings,
        public=["/health", "/stats"],
        storage=None if arguments.redis is None else RedisStorage(arguments.redis, prefix=f"{settings.instance}:"),
        issuer=arguments.issuer or settings.url,
        max_stale_s=arguments.max_stale,
    )

    async def stats(request: Request) -> Response:
        """What was counted, and how much is held."""
        return JSONResponse({"counters": proxy.counters.read(), "sizes": proxy.sizes()})

    app.router.routes.append(Route("/stats", stats))
    return proxy


def main(words: list[str] | None = None) -> None:
    """Run the server until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m client_sdk.examples.calls_server", description=__doc__)
    parser.add_argument("--config", help="the file with the section [gateway]; without it, the environment")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument("--redis", help="an address, to share what is known with other workers")
    parser.add_argument("--issuer", help="auth.issuer of the gateway, where that is not its address")
    parser.add_argument("--max-stale", type=float, default=300.0, help="seconds without the gateway")
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO)
    try:
        app = protected(arguments)
    except ConfigError as error:
        parser.error(str(error))
    listener = socket.create_server((arguments.host, arguments.port))
    print("listening on http://{}:{}".format(*listener.getsockname()[:2]), flush=True)
    config = uvicorn.Config(app, ws="websockets-sansio", log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
