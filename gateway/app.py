"""The composition root: builds every object once and closes them in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gateway.auth.services import Accounts
from gateway.config import Config, load_config
from gateway.core.instant import Instant
from gateway.errors import NotFound
from gateway.live.clock import Clock, SystemClock
from gateway.live.node import Node
from gateway.live.report import node_metrics
from gateway.metrics import Metrics, SharedMetrics
from gateway.store.database import Database
from gateway.store.migrate import migrate
from gateway.store.quotas import Quotas
from gateway.web.channel import Channel, refuse
from gateway.web.problem import http_problem, internal_problem, problem
from gateway.web.routes import CHANNEL_PATH, channel, routes

log = logging.getLogger("gateway")

NO_LIFESPAN = (
    "The gateway's ASGI lifespan has not run, so no database is open: let the server run it (uvicorn: lifespan on),"
    " or use TestClient as a context manager (with TestClient(app) as client)."
)


def node_name() -> str:
    """A name for this process that no other node has."""
    return f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(3)}"


class Gateway(Starlette):
    """Starlette, with the channel in front of its layers: they would be a tenth of what a connection costs."""

    channel: Channel | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        elif self.channel is None:
            raise RuntimeError(NO_LIFESPAN)
        elif scope["type"] != "websocket":
            await super().__call__(scope, receive, send)
        elif scope["path"] == CHANNEL_PATH:
            await self.channel(scope, receive, send)
        else:
            await refuse(problem(NotFound("No such resource.")), scope, receive, send)


def create_app(
    config: Config | None = None, *, clock: Clock | None = None, shared_metrics: SharedMetrics | None = None
) -> Starlette:
    """The ASGI application, for any server and for Starlette's ``TestClient`` (used as a context manager, so that
    its lifespan runs).

    Without `config` it is read as the command line does. The database is opened, and brought up to date, when the
    lifespan starts; a request before that is a `RuntimeError`.
    """
    config = config or load_config()

    @asynccontextmanager
    async def lifespan(app: Gateway) -> AsyncIterator[None]:
        async with running_node(config, clock or SystemClock(), shared_metrics) as (node, accounts):
            app.state.node, app.state.accounts = node, accounts
            app.channel = channel(node, accounts, config)
            app.router.routes[:] = routes(node, accounts, config)
            yield

    handlers = {HTTPException: http_problem, Exception: internal_problem}
    app = Gateway(lifespan=lifespan, exception_handlers=handlers)
    # A redirect to the path without its last slash would go wherever the Host header says.
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def running_node(
    config: Config, clock: Clock, shared_metrics: SharedMetrics | None = None
) -> AsyncIterator[tuple[Node, Accounts]]:
    """A node at work: database open, feed following, ticker ticking; and the services of its accounts."""
    async with AsyncExitStack() as stack:
        database = await Database.configured(config)
        stack.push_async_callback(database.close)
        await migrate(database)
        accounts = await Accounts.open(config, database, lambda: clock.now().wall)
        stack.callback(accounts.close)
        metrics = Metrics(shared_metrics)
        settings = (config.channel, config.changes)
        quotas = Quotas(database, lambda: clock.now().wall)
        stack.push_async_callback(quotas.close)

        async def keep_records(at: Instant) -> None:
            await accounts.keep_house(at)
            await quotas.keep_house(config.quotas.keep_s * 1000, at.wall)

        node = Node(node_name(), database, accounts.authenticator, clock, *settings, metrics, keep_records, quotas)
        metrics.watch(lambda: node_metrics(node, accounts))
        await node.feed.start()
        stack.push_async_callback(node.neighbours.leave)
        own = (node.feed.run(), node.tick(), node.housekeeping.run(), node.neighbours.run(), node.roll_call.run())
        for work in (*own, node.reaper.run(), metrics.keep_shared()):
            task = asyncio.create_task(work)
            task.add_done_callback(node.task_ended)
            stack.push_async_callback(_stop, task)
        stack.push_async_callback(node.spending.close)
        stack.callback(node.stop)
        yield node, accounts


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
