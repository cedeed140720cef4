"""Requests that wait for a change, at a real server: clients that leave, and a gateway that stops."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator

from tests.end_to_end.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import eventually

ROUTE = {"route": "/admin/changes", "status": "200"}


@contextlib.contextmanager
def asked(port: int, token: str, path: str) -> Iterator[socket.socket]:
    """A connection on which this was asked and nothing was answered yet."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        request = f"GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\r\n"
        connection.sendall(request.encode())
        yield connection


async def calm(gateway: GatewayProcess, token: str) -> int:
    """The position at which nothing happens any more: the first use of a token is written down as well."""
    after, told = 0, True
    while told:
        answer = (await gateway.fetch("GET", f"/admin/changes?after={after}&wait_s=0.5", token)).json()
        after, told = answer["next"], answer["items"]
    return after


def full(gateway: GatewayProcess, token: str, after: int) -> bool:
    return gateway.request("GET", f"/admin/changes?after={after}&wait_s=0.01", token).status == 503


async def test_clients_that_leave_make_room_and_a_change_answers_who_stays(own_gateway: StartGateway) -> None:
    own = own_gateway()
    admin = own.seed.person(is_admin=1)
    after = await calm(own.process, admin.token)
    path = f"/admin/changes?after={after}&wait_s=25"
    for _ in range(2):  # each time as many as may wait
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(asked(own.process.port, admin.token, path))

            await eventually(lambda: full(own.process, admin.token, after))
        await eventually(lambda: not full(own.process, admin.token, after))
    waiting = asyncio.create_task(own.process.fetch("GET", path, admin.token))
    began = time.monotonic()
    await asyncio.sleep(0)
    person = await asyncio.to_thread(own.seed.person)
    answer = await waiting
    assert answer.status == 200
    assert time.monotonic() - began < 20
    assert {row["doc"] for row in answer.json()["items"]} & {f"user:{person.id}", f"plan:{person.plan}"}


async def test_a_gateway_that_stops_does_not_wait_for_who_waits(own_gateway: StartGateway) -> None:
    own = own_gateway(server_drain_s=1)
    admin = own.seed.person(is_admin=1)
    after = await calm(own.process, admin.token)
    before = own.process.metric("gateway_http_request_seconds_count", **ROUTE)
    with asked(own.process.port, admin.token, f"/admin/changes?after={after}&wait_s=25") as connection:
        # A second request on its way through the server shows that the first one has been taken.
        await own.process.fetch("GET", "/admin/changes?limit=1", admin.token)
        await eventually(lambda: own.process.metric("gateway_http_request_seconds_count", **ROUTE) == before + 1)
        began = time.monotonic()
        own.process.signal(signal.SIGTERM)
        answer = await asyncio.to_thread(connection.recv, 65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert await asyncio.to_thread(own.process.wait) == 0
    assert time.monotonic() - began < 10
