"""Three copies of the sample application behind two nodes: people sign in at the gateway and are known everywhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.calls_server import CallsServer, copies
from tests.support.deployment import Deployment
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed
from tests.support.signed_in import PASSWORD, cheap_hash

pytestmark = pytest.mark.storages("file")
SOON_S = 2.0
"""What is a matter of milliseconds, on a machine that does much else."""


@pytest.fixture(scope="module")
def neighbour(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    with gateway.sibling() as process:
        yield process


def copy_of(directory: Path, node: GatewayProcess, foreign: ForeignWriter, *words: str) -> CallsServer:
    instance = Deployment(node, foreign)
    return CallsServer(directory, f"http://{node.address}", instance.id, instance.key.kid, instance.key.secret, *words)


@pytest.fixture(scope="module")
def three(
    gateway: GatewayProcess,
    neighbour: GatewayProcess,
    foreign: ForeignWriter,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[CallsServer, ...]]:
    directory = tmp_path_factory.mktemp("copies")
    with copies(*(copy_of(directory, node, foreign) for node in (gateway, gateway, neighbour))) as servers:
        yield servers


@pytest.fixture
def ada(seed: Seed) -> Person:
    return seed.person(seed.plan(["can_use_voice"]), password_hash=cheap_hash())


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline


async def post(node: GatewayProcess, path: str, body: Any, token: str | None = None) -> httpx2.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=f"http://{node.address}", timeout=20) as client:
        answer = await client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def sign_in(node: GatewayProcess, person: Person) -> dict[str, Any]:
    tokens: dict[str, Any] = (await post(node, "/auth/login", {"username": person.id, "password": PASSWORD})).json()
    node.secrets += [tokens["access_token"], tokens["refresh_token"]]
    return tokens


async def closed(socket: ClientConnection) -> tuple[int | None, float]:
    """The code that it was closed with, and when."""
    try:
        async with asyncio.timeout(10):
            while True:
                await socket.recv()
    except ConnectionClosed as end:
        return (None if end.rcvd is None else end.rcvd.code), time.monotonic()


@pytest.fixture
async def known(
    gateway: GatewayProcess, three: tuple[CallsServer, ...], ada: Person
) -> AsyncIterator[tuple[str, list[ClientConnection]]]:
    """Ada's access token, used at every copy, and a socket of hers at each."""
    token = (await sign_in(gateway, ada))["access_token"]
    for server in three:
        answer = await server.get("/me", token)
        assert (answer.status_code, answer.json()["permissions"]) == (200, ["can_use_voice"]), answer.text
        assert (await server.get("/calls", token, "POST")).status_code == 201
    sockets = [await server.socket(token) for server in three]
    yield token, sockets
    for socket in sockets:
        await socket.close()


@pytest.mark.parametrize("how", ["logout", "disable", "password", "delete"])
async def test_an_end_is_one_at_every_copy(
    gateway: GatewayProcess,
    foreign: ForeignWriter,
    three: tuple[CallsServer, ...],
    known: tuple[str, list[ClientConnection]],
    ada: Person,
    how: str,
) -> None:
    token, sockets = known
    ends = [asyncio.ensure_future(closed(socket)) for socket in sockets]
    before = [await server.counted("validations") for server in three]
    started = time.monotonic()
    if how == "logout":
        await post(gateway, "/auth/logout", {}, token)
    elif how == "password":
        other = (await sign_in(gateway, ada))["access_token"]
        change = {"old_password": PASSWORD, "new_password": "another horse that staples well"}
        started = time.monotonic()
        await post(gateway, "/auth/password", change, other)
    elif how == "disable":
        foreign.execute("UPDATE users SET status = 'disabled' WHERE id = ?", ada.id)
    else:
        foreign.execute("DELETE FROM users WHERE id = ?", ada.id)
    for code, at in await asyncio.gather(*ends):
        assert code == 4500
        assert at - started < SOON_S
    assert [(await server.get("/me", token)).status_code for server in three] == [401] * 3
    # None of them had to ask.
    assert [await server.counted("validations") for server in three] == before


async def test_a_permission_taken_away_is_gone_everywhere(
    foreign: ForeignWriter, three: tuple[CallsServer, ...], known: tuple[str, list[ClientConnection]], ada: Person
) -> None:
    token, _ = known
    foreign.execute(
        "INSERT INTO user_permissions(user_id, permission, effect) VALUES (?, 'can_use_voice', 'deny')", ada.id
    )
    for server in three:

        async def denied(server: CallsServer = server) -> bool:
            return (await server.get("/calls", token, "POST")).status_code == 403

        await until(denied)
        assert (await server.get("/me", token)).status_code == 200


async def test_an_api_token_is_asked_about_once_a_copy(
    foreign: ForeignWriter, three: tuple[CallsServer, ...], seed: Seed
) -> None:
    person = seed.person(seed.plan(["can_use_voice"]))
    for server in three:
        before = await server.counted("validations")
        answers = await asyncio.gather(*(server.get("/me", person.token) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert await server.counted("validations") == {**before, "good": before.get("good", 0) + 1}
    foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = ?", person.id)
    for server in three:

        async def refused(server: CallsServer = server) -> bool:
            return (await server.get("/me", person.token)).status_code == 401

        await until(refused)


async def test_a_key_is_replaced_while_a_copy_runs(
    gateway: GatewayProcess, foreign: ForeignWriter, tmp_path: Path, ada: Person
) -> None:
    instance = Deployment(gateway, foreign)
    url, token = f"http://{gateway.address}", (await sign_in(gateway, ada))["access_token"]
    with copies(CallsServer(tmp_path, url, instance.id, instance.key.kid, instance.key.secret)) as [server]:
        assert (await server.get("/me", token)).status_code == 200
        new = instance.add_key()
        server.write_key(url, instance.id, new.kid, new.secret)
        foreign.execute("DELETE FROM instance_keys WHERE id = ?", instance.key.kid)

        async def back() -> bool:
            answer = await server.get("/me", token)
            assert answer.status_code in (200, 503), answer.text
            return answer.status_code == 200 and answer.json()["source"] == "live"

        await until(back, 45.0)


async def test_a_disabled_instance_lets_nobody_in(
    gateway: GatewayProcess, foreign: ForeignWriter, tmp_path: Path, ada: Person
) -> None:
    instance = Deployment(gateway, foreign)
    token = (await sign_in(gateway, ada))["access_token"]
    key = instance.key
    with copies(CallsServer(tmp_path, f"http://{gateway.address}", instance.id, key.kid, key.secret)) as [server]:
        assert (await server.get("/me", token)).status_code == 200
        foreign.execute("UPDATE instances SET status = 'disabled' WHERE id = ?", instance.id)

        async def out() -> bool:
            return (await server.get("/me", token)).status_code == 503

        await until(out)


async def test_the_gateway_goes_away_and_comes_back(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, tmp_path: Path
) -> None:
    """Known users go on, known revocations stay in force, unknown ones are told to come later; and on return all is
    true again soon, although nobody asks about a token again.
    """
    alone = gateway.sibling()
    alone.start()
    people = [seed.person(seed.plan(["can_use_voice"])) for _ in range(3)]
    known, disabled, revoked_meanwhile = people
    unknown = seed.person(known.plan)
    try:
        with copies(*(copy_of(tmp_path, alone, foreign, "--max-stale", "300") for _ in range(2))) as servers:
            for server in servers:
                assert [(await server.get("/me", person.token)).status_code for person in people] == [200] * 3
            foreign.execute("UPDATE users SET status = 'disabled' WHERE id = ?", disabled.id)
            for server in servers:

                async def refused(server: CallsServer = server) -> bool:
                    return (await server.get("/me", disabled.token)).status_code == 401

                await until(refused)
            alone.kill()
            foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = ?", revoked_meanwhile.id)
            for server in servers:

                async def offline(server: CallsServer = server) -> bool:
                    return bool((await server.get("/me", known.token)).json()["source"] == "offline")

                await until(offline)
                statuses = [(await server.get("/me", person.token)).status_code for person in (*people, unknown)]
                assert statuses == [200, 401, 200, 503]
            before = [await server.counted("validations") for server in servers]
            alone.start()
            for server in servers:
                await until(server.is_live)
                answers = [await server.get("/me", person.token) for person in people]
                assert [answer.status_code for answer in answers] == [200, 401, 401]
                assert answers[0].json()["source"] == "live"
            assert [await server.counted("validations") for server in servers] == before
    finally:
        alone.end()
