"""Three copies of the sample application behind two nodes: people sign in at the gateway and are known everywhere.

How soon is measured by `gateway bench applications` and `gateway bench outage`; the bounds here are those of a machine
that does much else.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
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

SOON_S = 1.0
"""From the commit to the last copy: a matter of milliseconds where nothing else is done."""
BACK_S = 3.0
"""From the gateway's being ready to the last copy: within a second where nothing else is done."""
SPACING_S = 0.005
REVOKED, INVALID = 4500, 4102


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
        async with asyncio.timeout(20):
            while True:
                await socket.recv()
    except ConnectionClosed as end:
        return (None if end.rcvd is None else end.rcvd.code), time.monotonic()


async def refused(server: CallsServer, token: str) -> float:
    """When a copy that is asked all the time refused a token; until then it has to let it in."""
    async with asyncio.timeout(20), httpx2.AsyncClient(base_url=server.url, timeout=20) as client:
        while True:
            answer = await client.get("/me", headers={"Authorization": f"Bearer {token}"})
            if answer.status_code == 401:
                return time.monotonic()
            assert (answer.status_code, answer.json()["source"]) == (200, "live"), answer.text
            await asyncio.sleep(SPACING_S)


class Watch:
    """Asks every copy with one token and listens to its sockets, and counts what the copies ask the gateway for."""

    def __init__(self, nodes: tuple[GatewayProcess, ...], servers: tuple[CallsServer, ...]) -> None:
        self._nodes = nodes
        self._servers = servers

    async def begin(self, token: str, sockets: list[ClientConnection]) -> None:
        self._before = await self._asked()
        self._refused = [asyncio.ensure_future(refused(server, token)) for server in self._servers]
        self._closed = [asyncio.ensure_future(closed(socket)) for socket in sockets]
        await asyncio.sleep(0)

    async def end(self, since: float, code: int = REVOKED) -> None:
        """Every copy refuses the token and closes the socket, soon after the moment `since`, and none has to ask."""
        ends = await asyncio.gather(*self._closed)
        times = [at - since for at in (*await asyncio.gather(*self._refused), *(at for _, at in ends))]
        assert [told for told, _ in ends] == [code] * len(ends)
        assert max(times) < SOON_S, times
        assert await self._asked() == self._before
        print(f"the last copy: {1000 * max(times):.1f} ms")

    async def _asked(self) -> list[Any]:
        return [
            *(signed_requests(node) for node in self._nodes),
            *[await server.counted("validations") for server in self._servers],
        ]


def signed_requests(node: GatewayProcess) -> float:
    """How many requests of instances a node has seen, their handshakes among them."""
    series = (line.rpartition(" ") for line in node.request("GET", "/metrics").body.decode().splitlines())
    return sum(float(value) for name, _, value in series if name.startswith("gateway_signed_requests_total"))


@pytest.fixture
def watch(gateway: GatewayProcess, neighbour: GatewayProcess, three: tuple[CallsServer, ...]) -> Watch:
    return Watch((gateway, neighbour), three)


def rotate(gateway: GatewayProcess, *words: str) -> None:
    """Make a new signing key."""
    command = [sys.executable, "-m", "gateway", "keys", "rotate", *words]
    subprocess.run(command, cwd=gateway.directory, env=gateway.environment, check=True, capture_output=True, timeout=50)


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


BY_SQL = {
    "disable": "UPDATE users SET status = 'disabled' WHERE id = ?",
    "revoke": "UPDATE login_sessions SET revoked_at = unixepoch() * 1000 WHERE user_id = ?",
    "delete": "DELETE FROM users WHERE id = ?",
}


@pytest.mark.parametrize("how", ["logout", "password", *BY_SQL])
async def test_an_end_is_one_at_every_copy(
    gateway: GatewayProcess,
    foreign: ForeignWriter,
    watch: Watch,
    known: tuple[str, list[ClientConnection]],
    ada: Person,
    how: str,
) -> None:
    token, sockets = known
    other = (await sign_in(gateway, ada))["access_token"] if how == "password" else None
    await watch.begin(token, sockets)
    if how == "logout":
        await post(gateway, "/auth/logout", {}, token)
    elif how == "password":
        change = {"old_password": PASSWORD, "new_password": "another horse that staples well"}
        await post(gateway, "/auth/password", change, other)
    else:
        await foreign.run(BY_SQL[how], ada.id)
    await watch.end(time.monotonic())


async def test_signing_keys_are_replaced(
    gateway: GatewayProcess,
    three: tuple[CallsServer, ...],
    watch: Watch,
    known: tuple[str, list[ClientConnection]],
    ada: Person,
) -> None:
    """A new key signs for everybody while the old one is good for what it signed; an old one that is discarded ends
    that, sockets too."""
    token, sockets = known
    before = [await server.counted("validations") for server in three]
    await asyncio.to_thread(rotate, gateway, "--lead", "0")

    async def signs_anew() -> bool:
        fresh: str = (await sign_in(gateway, ada))["access_token"]
        return fresh.split(".")[0] != token.split(".")[0]

    await until(signs_anew)
    fresh = (await sign_in(gateway, ada))["access_token"]
    for server in three:

        async def lets_in(server: CallsServer = server) -> bool:
            return (await server.get("/me", fresh)).status_code == 200

        await until(lets_in)
        assert (await server.get("/me", token)).status_code == 200
    assert [await server.counted("validations") for server in three] == before
    await watch.begin(token, sockets)
    await asyncio.to_thread(rotate, gateway, "--discard")
    await watch.end(time.monotonic(), INVALID)


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

        await until(back, 10.0)


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
            foreign.execute(BY_SQL["disable"], disabled.id)
            await asyncio.gather(*(refused(server, disabled.token) for server in servers))
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
            ready = time.monotonic()
            for server in servers:

                async def true_again(server: CallsServer = server) -> bool:
                    answers = [await server.get("/me", person.token) for person in people]
                    is_live = answers[0].json()["source"] == "live"
                    return is_live and [answer.status_code for answer in answers] == [200, 401, 401]

                await until(true_again)
            assert time.monotonic() - ready < BACK_S
            assert [await server.counted("validations") for server in servers] == before
            assert signed_requests(alone) <= 2 * len(servers)
    finally:
        alone.end()


async def test_nobody_is_known_for_longer_than_that(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, tmp_path: Path
) -> None:
    alone, person, longest_s = gateway.sibling(), seed.person(), 2.0
    alone.start()
    try:
        with copies(copy_of(tmp_path, alone, foreign, "--max-stale", str(longest_s))) as [server]:

            async def sure() -> bool:
                return bool((await server.get("/me", person.token)).json()["source"] == "live")

            await until(sure)
            alone.kill()
            killed = asked = known_at = time.monotonic()
            while (answer := await server.get("/me", person.token)).status_code == 200:
                assert answer.json()["age_s"] <= longest_s
                known_at = asked - answer.json()["age_s"]
                asked = time.monotonic()
                assert asked - killed < 20
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert time.monotonic() - known_at >= longest_s - 0.001, "ages are told in milliseconds"
    finally:
        alone.end()
