"""Logins at real gateways: two nodes that share a database, and requests that no HTTP library would send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.end_to_end.conftest import Connect
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed
from tests.support.signed_in import DEVICE, PASSWORD, cheap_hash
from tests.support.waiting import eventually

SETTINGS = {"auth_argon2_memory_kib": 7168, "auth_argon2_time": 1, "auth_max_address_failures": 1000}
LARGEST = 65_536


@pytest.fixture(scope="module")
def neighbour(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """Another node on the same database."""
    with gateway.sibling(**SETTINGS) as process:
        yield process
    process.check_log()


@pytest.fixture
def person(seed: Seed) -> Person:
    return seed.person(password_hash=cheap_hash())


async def ask(node: GatewayProcess, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=f"http://{node.address}", timeout=20) as client:
        return await client.request(method, path, json=body, headers=headers)


async def login(node: GatewayProcess, person: Person, password: str = PASSWORD) -> Any:
    return await ask(node, "POST", "/auth/login", {"username": person.id, "password": password})


async def signed_in(node: GatewayProcess, person: Person) -> Any:
    answer = await login(node, person)
    assert answer.status_code == 200, answer.text
    session = answer.json()
    node.secrets += [session["access_token"], session["refresh_token"]]
    return session


# --- two nodes ---


async def test_what_one_node_signs_the_other_takes_at_once(
    gateway: GatewayProcess, neighbour: GatewayProcess, person: Person
) -> None:
    for here, there in ((gateway, neighbour), (neighbour, gateway)):
        token = (await signed_in(here, person))["access_token"]
        assert (await ask(there, "GET", "/auth/sessions", token=token)).status_code == 200


async def test_a_token_that_is_renewed_at_both_nodes_at_once_has_one_successor(
    gateway: GatewayProcess, neighbour: GatewayProcess, person: Person
) -> None:
    body = {"refresh_token": (await signed_in(gateway, person))["refresh_token"]}
    nodes = [gateway, neighbour] * 10
    answers = await asyncio.gather(*(ask(node, "POST", "/auth/refresh", body) for node in nodes))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_a_logout_at_one_node_ends_the_sockets_of_the_other(
    gateway: GatewayProcess, neighbour: GatewayProcess, person: Person, connect: Connect
) -> None:
    session = await signed_in(gateway, person)
    client = await connect(session["access_token"], at=neighbour)
    assert (await ask(gateway, "POST", "/auth/logout", token=session["access_token"])).status_code == 200
    assert (await client.end())["code"] == "revoked"
    for path, body in (("/auth/ticket", None), ("/auth/refresh", {"refresh_token": session["refresh_token"]})):
        answer = await ask(neighbour, "POST", path, body, session["access_token"])
        assert answer.status_code == 401, path


async def test_guesses_at_both_nodes_are_counted_together_and_beyond_a_restart(
    gateway: GatewayProcess, neighbour: GatewayProcess, seed: Seed
) -> None:
    locked, other = seed.person(password_hash=cheap_hash()), seed.person(password_hash=cheap_hash())
    device = (await login(gateway, locked)).cookies[DEVICE]
    for node in (gateway, neighbour, gateway, neighbour, gateway):
        assert (await login(node, locked, "wrong horse battery")).status_code == 401
    for node in (gateway, neighbour):
        assert (await login(node, locked)).status_code == 401
        assert (await login(node, other)).status_code == 200
    await asyncio.to_thread(neighbour.restart)
    assert (await login(neighbour, locked)).status_code == 401
    async with httpx2.AsyncClient(
        base_url=f"http://{neighbour.address}", headers={"cookie": f"{DEVICE}={device}"}
    ) as known:
        answer = await known.post("/auth/login", json={"username": locked.id, "password": PASSWORD})
    assert answer.status_code == 200


async def test_a_ticket_works_once_at_all_nodes_together(
    gateway: GatewayProcess, neighbour: GatewayProcess, person: Person
) -> None:
    session = await signed_in(gateway, person)
    ticket = (await ask(gateway, "POST", "/auth/ticket", token=session["access_token"])).json()["ticket"]
    gateway.secrets.append(ticket)

    def shake(node: GatewayProcess) -> bytes:
        with socket.create_connection(("127.0.0.1", node.port), timeout=10) as opened:
            opened.sendall(
                f"GET /ws?ticket={ticket} HTTP/1.1\r\nHost: {node.address}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            return opened.recv(65_536)[9:12]

    statuses = await asyncio.gather(*(asyncio.to_thread(shake, node) for node in [gateway, neighbour] * 10))
    assert sorted(statuses) == [b"101"] + [b"401"] * 19


# --- what no library would send ---


def exchange(gateway: GatewayProcess, *parts: bytes) -> bytes:
    """Send these bytes, as far as they are taken; the answer."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as opened:
        try:
            for part in parts:
                opened.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return opened.recv(65_536)
        except ConnectionResetError:
            return b""


def head(*fields: str, method: str = "POST", path: str = "/auth/login") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer[9:12])


def test_a_body_in_chunks_without_end_is_refused_when_it_is_too_long(gateway: GatewayProcess) -> None:
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answer = exchange(gateway, head("Transfer-Encoding: chunked"), *[chunk] * 17)
    assert status(answer) == 413


def test_a_body_that_says_it_will_be_too_long_is_not_waited_for(gateway: GatewayProcess) -> None:
    for length in (LARGEST + 1, 10_000_000, 10**15):
        assert status(exchange(gateway, head(f"Content-Length: {length}"))) == 413
    assert status(exchange(gateway, head(f"Content-Length: {LARGEST}"), b" " * LARGEST)) == 400


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: -1",),
        ("Content-Length: 2, 2",),
        ("Content-Length: 0x10",),
        ("Content-Length: 2", "Content-Length: 30"),
        ("Content-Length: 9", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: gzip",),
        ("User-Agent: a\rb",),
        ("User-Agent: a\x00b",),
        ("Bad Header: x",),
    ],
)
def test_what_is_not_http_is_refused(gateway: GatewayProcess, fields: tuple[str, ...]) -> None:
    answer = exchange(gateway, head(*fields), b"0\r\n\r\n")
    assert 400 <= status(answer) < 500
    assert b"200 OK" not in answer
    assert gateway.request("GET", "/health").status == 200


def test_a_method_that_nobody_knows_is_told_which_there_are(gateway: GatewayProcess) -> None:
    for method in ("GET", "OPTIONS", "PROPFIND"):
        answer = exchange(gateway, head(method=method))
        assert status(answer) == 405
        assert b"\r\nallow: POST\r\n" in answer


async def test_everything_is_quiet_in_the_end(gateway: GatewayProcess) -> None:
    await eventually(lambda: gateway.request("GET", "/ready").status == 200)
    gateway.secrets.append(PASSWORD)
    gateway.check_log()
