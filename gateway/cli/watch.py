"""``gateway watch``: documents as they change, live in the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from typing import Any, NamedTuple
from urllib.parse import quote

import click
import msgspec
from rich.text import Text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from gateway.cli.addresses import channel_address, own_url
from gateway.cli.exits import printable
from gateway.cli.follower import Follower, Step
from gateway.cli.invocation import Invocation, invocation, json_option
from gateway.cli.printing import console, show_line
from gateway.cli.values import WHO
from gateway.errors import AuthFailed, ConfigError, Forbidden, GatewayError, NotFound, StoreError, Unavailable
from gateway.store.accounts import look_up_user
from gateway.store.changes import read_changes, read_position
from gateway.store.database import Database

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_DOCUMENTS = ("self", "keys", "revocations")


@click.command()
@click.argument("names", metavar="[USER or DOC]...", nargs=-1, type=WHO)
@click.option(
    "--token", help="API token; better in GATEWAY_AUTH_TOKEN, where other users of this machine do not see it."
)
@click.option("--url", help="The gateway's address; without it, that of the configuration.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many changes.")
@json_option
def watch(names: tuple[str, ...], token: str | None, url: str | None, count: int | None) -> None:
    """Follow documents live, over the channel.

    Shows what changed, why, and how long after its commit, until ^C. Without a name the token's own user is followed;
    other documents need the permission to see them.
    """
    token = token or os.environ.get("GATEWAY_AUTH_TOKEN") or os.environ.get("XSWARM_AUTH_TOKEN")
    if not token:
        raise click.UsageError("set GATEWAY_AUTH_TOKEN, or give --token")
    asyncio.run(_watch(invocation(), names, token, url, count))


async def _watch(call: Invocation, names: tuple[str, ...], token: str, url: str | None, count: int | None) -> None:
    address = channel_address(url or own_url(call.config.server))
    async with contextlib.AsyncExitStack() as stack:
        db = await _local_database(call, stack)
        asked = tuple([await _document(name, db) for name in names]) or ("self",)
        await _Watch(call, address, token, asked, db, count).run()


async def _local_database(call: Invocation, stack: contextlib.AsyncExitStack) -> Database | None:
    """The database itself, when it is at hand: it knows user names, and the moment of each commit."""
    try:
        return await stack.enter_async_context(await Database.configured(call.config, create=False))
    except (StoreError, ConfigError):
        return None


async def _document(name: str, db: Database | None) -> str:
    if ":" in name or name in _DOCUMENTS:
        return name
    return f"user:{name if db is None else (await look_up_user(db, name)).id}"


class _Ended(NamedTuple):
    """How a connection ended: what to do, and after how many seconds."""

    code: str
    message: str
    reconnect: str
    retry_after_s: float


class _Watch:
    """One run of the command, over as many connections as it takes."""

    def __init__(
        self, call: Invocation, address: str, token: str, asked: tuple[str, ...], db: Database | None, count: int | None
    ) -> None:
        self._call = call
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"}
        self._asked = asked
        self._db = db
        self._left = count
        self._follower = Follower()
        self._principal = ""
        self._same_database = False
        self._requests = itertools.count(1)
        self._out = console()

    async def run(self) -> None:
        """Until the changes asked for came; raises what can not be mended by connecting again."""
        wait_s, was_connected = FIRST_WAIT_S, False
        while self._left is None or self._left > 0:
            try:
                ended = await self._connection()
            except (OSError, InvalidHandshake, TimeoutError) as error:
                if not (was_connected and _may_pass(error)):
                    raise _refusal(error, self._address) from None
                ended = None
            else:
                was_connected, wait_s = True, FIRST_WAIT_S
            if ended is not None and ended.reconnect in ("never", "new_credential"):
                raise AuthFailed(f"The gateway ended the channel: {ended.code}. {ended.message}")
            if self._left is None or self._left > 0:
                why = f"{ended.code}: {ended.message}" if ended else "The connection is lost."
                self._say(f"{why} Connecting again.", "yellow")
                await asyncio.sleep(max(wait_s, ended.retry_after_s if ended else 0.0))
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _connection(self) -> _Ended | None:
        """One connection from its handshake to its end; what the gateway said of the end, if it did."""
        names = self._follower.names(self._asked, self._principal)
        address = f"{self._address}?{'&'.join(f'watch={quote(name)}' for name in names)}"
        async with connect(
            address,
            additional_headers=self._headers,
            subprotocols=["gateway.v1+json"],  # type: ignore[list-item]
            compression=None,
            proxy=None,
            max_size=MAX_MESSAGE_BYTES,
        ) as connection:
            try:
                while self._left is None or self._left > 0:
                    message = msgspec.json.decode(await connection.recv())
                    if message["op"] == "ended":
                        retry_after_s = message.get("retry_after_s", 0.0)
                        return _Ended(message["code"], message["message"], message["reconnect"], retry_after_s)
                    await self._receive(connection, message)
            except ConnectionClosed:
                return None
        return None

    async def _receive(self, connection: ClientConnection, message: dict[str, Any]) -> None:
        now = time.time() * 1000
        op = message["op"]
        if self._call.as_json:
            show_line(message)
        if op == "hello":
            self._same_database = await self._is_ours(message["epoch"])
        elif op == "ready":
            self._principal = message["principal"]
            self._say(f"Connected to {self._address} as {self._principal}.", "green")
        elif op == "error":
            self._refused(message)
        elif op == "status":
            self._say(f"The gateway's database is {message['store']} since {message['since']}.", "yellow")
        elif op in ("snapshot", "current", "update", "gone"):
            step = self._follower.receive(message)
            if step is None:
                sync = {"op": "sync", "id": f"sync-{next(self._requests)}", "doc": message["doc"]}
                await connection.send(msgspec.json.encode(sync).decode())
                return
            self._show(step, await self._latency_ms(step, now))
            if op != "current" and step.kind != "snapshot" and self._left is not None:
                self._left -= 1

    def _refused(self, message: dict[str, Any]) -> None:
        doc = message.get("doc", "")
        if self._asked == (doc,):
            raise NotFound(f"{doc}: {message['message']}")
        self._say(f"{doc} {message['message']}", "red")

    async def _is_ours(self, epoch: str) -> bool:
        """Whether the gateway works on the database at hand: only then its change log says when a commit was made."""
        return self._db is not None and (await read_position(self._db)).epoch == epoch

    async def _latency_ms(self, step: Step, now: float) -> float | None:
        if self._db is None or not self._same_database or step.kind != "update" or step.causes == ("clock",):
            return None
        changes = await read_changes(self._db, step.seq - 1, 1)
        return max(0.0, now - changes[0].at) if changes and changes[0].seq == step.seq else None

    def _show(self, step: Step, latency_ms: float | None) -> None:
        if self._call.as_json:
            return
        line = Text(time.strftime("%H:%M:%S  "), style="dim")
        line.append(printable(step.doc), style="bold cyan")
        line.append(f"  {printable(', '.join(step.causes) or step.kind)}", style="magenta")
        if step.seq:
            line.append(f"  seq {step.seq}", style="dim")
        if latency_ms is not None:
            line.append(f"  {latency_ms:.0f} ms after the commit", style="dim")
        self._out.print(line, soft_wrap=True)
        for change in step.lines:
            self._out.print(Text(f"    {printable(change)}"), soft_wrap=True)

    def _say(self, sentence: str, style: str) -> None:
        if not self._call.as_json:
            self._out.print(Text(printable(sentence), style=style), soft_wrap=True)


def _may_pass(error: Exception) -> bool:
    """Whether trying again can help."""
    return not isinstance(error, InvalidStatus) or error.response.status_code >= 500


def _refusal(error: Exception, address: str) -> GatewayError:
    """Why no connection came about, in one sentence."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status == 401:
            return AuthFailed("The gateway does not accept this token.")
        if status == 403:
            return Forbidden("The gateway does not let this client in.")
        return Unavailable(f"{address} answered with HTTP status {status}.")
    return Unavailable(f"{address} can not be reached: {error}")
