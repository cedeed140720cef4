"""Whichever way a credential is revoked: its sockets end, the HTTP API refuses it, at every node, and nobody else
notices."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest

from gateway.auth.revoker import (
    IssuedBefore,
    OtherSessions,
    SessionEnded,
    Target,
    TokenRevoked,
    UserDeleted,
    UserDisabled,
)
from gateway.auth.services import Accounts
from gateway.core.clock import rfc3339
from gateway.core.tokens import hash_token, new_refresh_token
from gateway.live.clock import SystemClock
from gateway.store.database import Database
from tests.end_to_end.conftest import Connect
from tests.support.client import MESSAGEPACK, Client, Refused
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import Answer, GatewayProcess
from tests.support.seed import Person, Seed, now_ms
from tests.support.services import accounts

HOUR = 3_600_000
PROMPT_S = 2.0
_numbers = itertools.count(1)


class Login(NamedTuple):
    """A login session and an access token of it."""

    id: str
    token: str


class World:
    """Ada, with two login sessions and an API token that were made an hour ago; Bob and Root of this moment; and
    another process at the same database, as the command line is one."""

    def __init__(
        self,
        gateway: GatewayProcess,
        neighbour: GatewayProcess,
        foreign: ForeignWriter,
        seed: Seed,
        services: Accounts,
    ) -> None:
        self.gateway = gateway
        self.neighbour = neighbour
        self.foreign = foreign
        self.seed = seed
        self.services = services
        self.ada, self.bob = seed.people(2)
        self.root = seed.person(is_admin=1)
        self.first, self.second = self.log_in(self.ada, HOUR), self.log_in(self.ada, HOUR)
        foreign.execute("UPDATE api_tokens SET created_at = ? WHERE user_id = ?", now_ms() - HOUR, self.ada.id)
        self.bobs = self.log_in(self.bob)

    def log_in(self, person: Person, ago_ms: int = 0) -> Login:
        id, now = f"s_{os.getpid()}_{next(_numbers)}", now_ms()
        self.seed.insert(
            "login_sessions", id=id, user_id=person.id, created_at=now - ago_ms, expires_at=now + 100 * HOUR
        )
        token, _ = self.services.access_tokens.issue(person.id, id)
        self.gateway.secrets.append(token)
        return Login(id, token)

    async def revoke(self, target: Target | IssuedBefore) -> None:
        """By another process."""
        await self.services.revoker.revoke(target)

    async def sql(self, sql: str, *args: Any) -> None:
        await self.foreign.run(sql, *args)

    async def ask(self, method: str, path: str, token: str | None, body: Any = None) -> Answer:
        return await asyncio.to_thread(self._ask, method, path, token, body)

    def _ask(self, method: str, path: str, token: str | None, body: Any) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    async def done(self, method: str, path: str, token: str | None, body: Any = None, status: int = 200) -> None:
        answer = await self.ask(method, path, token, body)
        assert answer.status == status, answer.body

    async def ticket(self, token: str) -> str:
        answer = await self.ask("POST", "/auth/ticket", token)
        assert answer.status == 200, answer.body
        ticket: str = answer.json()["ticket"]
        self.gateway.secrets.append(ticket)
        return ticket

    async def good(self, token: str, at: GatewayProcess | None = None) -> bool:
        answer = await (at or self.gateway).fetch("GET", "/api/identity", token)
        assert answer.status in (200, 401)
        return answer.status == 200


@pytest.fixture(scope="module")
def neighbour(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """A second node of the same database."""
    process = gateway.sibling()
    process.secrets = gateway.secrets
    with process:
        yield process
    process.check_log()


@pytest.fixture
async def world(
    gateway: GatewayProcess, neighbour: GatewayProcess, foreign: ForeignWriter, seed: Seed
) -> AsyncIterator[World]:
    async with await Database.open(gateway.database_url) as database:
        services = accounts(database, SystemClock(), master_key=gateway.environment["GATEWAY_AUTH_MASTER_KEY"])
        await services.start()
        yield World(gateway, neighbour, foreign, seed, services)
        services.close()


FIRST, SECOND, TOKEN = "first", "second", "token"
LOGINS, ALL = {FIRST, SECOND}, {FIRST, SECOND, TOKEN}


class Way(NamedTuple):
    """A way to revoke, what it ends of Ada's, and how that is called. `at_once`: the gateway did it itself, so that its
    next answer knows."""

    do: Callable[[World], Awaitable[None]]
    ends: set[str]
    code: str = "revoked"
    at_once: bool = False


def by_sql(sql: str, ends: set[str], code: str = "revoked") -> Way:
    """By a statement of any program; ``{first}`` and so on stand for what is Ada's, ``{bob}`` for Bob."""

    async def do(world: World) -> None:
        names = {"first": world.first.id, "ada": world.ada.id, "bob": world.bob.id, "token": world.ada.token_id}
        await world.sql(sql.format(now=now_ms(), **names))

    return Way(do, ends, code)


def by_function(target: Callable[[World], Target | IssuedBefore], ends: set[str]) -> Way:
    """By another process of this program."""
    return Way(lambda world: world.revoke(target(world)), ends)


def by_http(do: Callable[[World], Awaitable[None]], ends: set[str]) -> Way:
    """By a request to the gateway."""
    return Way(do, ends, at_once=True)


async def reuse(world: World) -> None:
    """Somebody shows a refresh token of the first session that was used a minute ago."""
    token, now = new_refresh_token(os.urandom(32)), now_ms()
    world.gateway.secrets.append(token)
    for secret, used_at in ((token, now - 60_000), (new_refresh_token(os.urandom(32)), None)):
        world.seed.insert(
            "refresh_tokens",
            token_hash=hash_token(secret),
            session_id=world.first.id,
            created_at=now - HOUR,
            expires_at=now + HOUR,
            used_at=used_at,
        )
    await world.done("POST", "/auth/refresh", None, {"refresh_token": token}, 401)


def an_hour_ago() -> int:
    return now_ms() - HOUR // 2


WAYS = {
    "SQL: session revoked": by_sql("UPDATE login_sessions SET revoked_at = {now} WHERE id = '{first}'", {FIRST}),
    "SQL: session deleted": by_sql("DELETE FROM login_sessions WHERE id = '{first}'", {FIRST}),
    "SQL: session given away": by_sql("UPDATE login_sessions SET user_id = '{bob}' WHERE id = '{first}'", {FIRST}),
    "SQL: session renamed": by_sql("UPDATE login_sessions SET id = id || 'x' WHERE id = '{first}'", {FIRST}),
    "SQL: session ended": by_sql(
        "UPDATE login_sessions SET expires_at = {now} WHERE id = '{first}'", {FIRST}, "token_expired"
    ),
    "SQL: session ended long ago": by_sql(
        "UPDATE login_sessions SET expires_at = 1000 WHERE id = '{first}'", {FIRST}, "token_expired"
    ),
    "SQL: token revoked": by_sql("UPDATE api_tokens SET revoked_at = {now} WHERE id = '{token}'", {TOKEN}),
    "SQL: token deleted": by_sql("DELETE FROM api_tokens WHERE id = '{token}'", {TOKEN}),
    "SQL: token ended": by_sql(
        "UPDATE api_tokens SET expires_at = {now} WHERE id = '{token}'", {TOKEN}, "token_expired"
    ),
    "SQL: user disabled": by_sql("UPDATE users SET status = 'disabled' WHERE id = '{ada}'", ALL),
    "SQL: user deleted": by_sql("DELETE FROM users WHERE id = '{ada}'", ALL),
    "session ended": by_function(lambda world: SessionEnded(world.first.id), {FIRST}),
    "other sessions ended": by_function(lambda world: OtherSessions(world.ada.id, world.second.id), {FIRST}),
    "all sessions ended": by_function(lambda world: OtherSessions(world.ada.id, None), LOGINS),
    "token revoked": by_function(lambda world: TokenRevoked(world.ada.token_id, world.ada.id), {TOKEN}),
    "user disabled": by_function(lambda world: UserDisabled(world.ada.id), ALL),
    "user deleted": by_function(lambda world: UserDeleted(world.ada.id), ALL),
    "issued before, of a user": by_function(lambda world: IssuedBefore(an_hour_ago(), world.ada.id), ALL),
    "issued before, of all": by_function(lambda world: IssuedBefore(an_hour_ago()), ALL),
    "logout": by_http(lambda world: world.done("POST", "/auth/logout", world.first.token), {FIRST}),
    "logout everywhere": by_http(
        lambda world: world.done("POST", "/auth/logout", world.second.token, {"everywhere": True}), LOGINS
    ),
    "DELETE /auth/sessions": by_http(
        lambda world: world.done("DELETE", f"/auth/sessions/{world.first.id}", world.second.token), {FIRST}
    ),
    "DELETE /auth/tokens": by_http(
        lambda world: world.done("DELETE", f"/auth/tokens/{world.ada.token_id}", world.first.token), {TOKEN}
    ),
    "PATCH /users": by_http(
        lambda world: world.done("PATCH", f"/users/{world.ada.id}", world.root.token, {"status": "disabled"}), ALL
    ),
    "DELETE /users": by_http(lambda world: world.done("DELETE", f"/users/{world.ada.id}", world.root.token), ALL),
    "revoke-before": by_http(
        lambda world: world.done(
            "POST", "/admin/revoke-before", world.root.token, {"at": rfc3339(an_hour_ago()), "user": world.ada.id}
        ),
        ALL,
    ),
    "a refresh token used twice": by_http(reuse, {FIRST}),
}


async def opened(world: World, connect: Connect, token: str) -> list[Client]:
    """A socket of each kind that a token can open, and one at the other node."""
    ticket = await world.ticket(token)
    clients = [
        await connect(token),
        await connect(token, at=world.neighbour),
        await connect(token, by="message", subprotocol=MESSAGEPACK),
        await connect(url=f"{world.gateway.channel_url}?ticket={ticket}"),
    ]
    for client in clients:
        await client.until(lambda client=client: client.replica.ready and client.data)  # type: ignore[misc]
    return clients


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
async def test_its_sockets_end_its_token_is_refused_and_others_stay(way: Way, world: World, connect: Connect) -> None:
    tokens = {FIRST: world.first.token, SECOND: world.second.token, TOKEN: world.ada.token}
    clients = {name: await opened(world, connect, token) for name, token in tokens.items()}
    others = [await connect(token) for token in (world.bob.token, world.bobs.token, world.root.token)]
    unused = {name: await world.ticket(token) for name, token in tokens.items()}
    nodes = (world.gateway, world.neighbour)
    for token, node in itertools.product((*tokens.values(), world.bobs.token), nodes):
        assert await world.good(token, node)

    await way.do(world)

    if way.at_once:
        assert {name for name, token in tokens.items() if not await world.good(token)} == way.ends
    for name in way.ends:
        for client in clients[name]:
            ended = await client.end(PROMPT_S)
            assert ended["code"] == way.code
    for node in nodes:
        assert {name for name, token in tokens.items() if not await world.good(token, node)} == way.ends
        assert await world.good(world.bobs.token, node)
    for client in (*others, *(client for name in tokens.keys() - way.ends for client in clients[name])):
        await client.barrier()
    for name, ticket in unused.items():
        await assert_ticket(world, ticket, good=name not in way.ends)


async def assert_ticket(world: World, ticket: str, *, good: bool) -> None:
    """A ticket that was made before is worth what its credential is."""
    connecting = Client.connect(world.gateway, url=f"{world.gateway.channel_url}?ticket={ticket}")
    if good:
        client = await connecting
        await client.until(lambda: client.replica.ready)
        await client.close()
    else:
        with pytest.raises(Refused) as refused:
            await connecting
        assert refused.value.answer.status == 401


async def test_a_hundred_sockets_at_once_with_one_ticket_are_one(world: World) -> None:
    ticket = await world.ticket(world.first.token)
    url = f"{world.gateway.channel_url}?ticket={ticket}"
    outcomes = await asyncio.gather(
        *(Client.connect(world.gateway, url=url) for _ in range(100)), return_exceptions=True
    )
    clients = [outcome for outcome in outcomes if isinstance(outcome, Client)]
    refusals = [outcome.answer.status for outcome in outcomes if isinstance(outcome, Refused)]
    for client in clients:
        await client.until(lambda client=client: client.replica.ready)  # type: ignore[misc]
        await client.close()
    assert (len(clients), refusals) == (1, [401] * 99)
