"""Somebody took a signed request down and sends it again and again: nothing opens, and its instance pays nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.conftest import StartGateway
from tests.support.deployment import Deployment, send
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import Answer, GatewayProcess
from tests.support.raw_websocket import handshake_answer
from tests.support.seed import Person, Seed

VALIDATE = "/auth/validate"
TIMES = 200
RATE = 4
"""Requests a minute: the next one is allowed a quarter of a minute later."""

Headers = list[tuple[str, str]]


@pytest.fixture
def ada(seed: Seed) -> Person:
    return seed.person()


@pytest.fixture
def shop(gateway: GatewayProcess, foreign: ForeignWriter) -> Deployment:
    return Deployment(gateway, foreign, requests_per_minute=RATE)


@pytest.fixture
def neighbour(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    with gateway.sibling() as process:
        yield process


def taken_down(shop: Deployment, ada: Person) -> Headers:
    """What somebody saw of a request that was answered."""
    headers = list(shop.signed("GET", VALIDATE, headers={"authorization": f"Bearer {ada.token}"}).items())
    assert send(shop.gateway, "GET", VALIDATE, b"", headers).json()["active"] is True
    return headers


def send_again(node: GatewayProcess, headers: Headers, host: str) -> None:
    def once(_: int) -> Answer:
        return send(node, "GET", VALIDATE, b"", headers, host=host)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(once, range(TIMES)))
    assert {(answer.status, answer.json()["code"]) for answer in answers} == {(401, "auth_failed")}
    left = [re.search(";r=([0-9]+);", answer.headers["ratelimit"]) for answer in answers]
    assert all(told is not None and int(told[1]) >= RATE - 1 for told in left), "nothing but the request itself is paid"


def statuses(shop: Deployment, ada: Person, times: int, at: GatewayProcess | None = None) -> list[int]:
    """What comes of the instance's own requests."""
    return [shop.validate(ada.token, at=at or shop.gateway).status for _ in range(times)]


def used(shop: Deployment) -> int:
    return len(shop.foreign.execute("SELECT nonce FROM nonces WHERE kid = ?", shop.key.kid))


def test_a_request_sent_again_uses_up_no_rate(shop: Deployment, ada: Person) -> None:
    headers = taken_down(shop, ada)
    send_again(shop.gateway, headers, shop.gateway.address)
    assert used(shop) == 1, "it is not written down again"
    assert statuses(shop, ada, RATE - 1) == [200] * (RATE - 1)
    assert 429 in statuses(shop, ada, RATE), "there is such a rate"


def test_nor_at_another_node_nor_after_a_restart(
    shop: Deployment, ada: Person, gateway: GatewayProcess, neighbour: GatewayProcess
) -> None:
    headers = taken_down(shop, ada)
    send_again(neighbour, headers, gateway.address)
    assert statuses(shop, ada, RATE, neighbour) == [200] * RATE
    for node in (gateway, neighbour):
        node.restart()
        send_again(node, headers, gateway.address)
        assert statuses(shop, ada, RATE, node) == [200] * RATE


def test_nor_at_the_other_process_of_a_node(own_gateway: StartGateway) -> None:
    own = own_gateway(server_workers=2)
    shop, ada = Deployment(own.process, own.foreign, requests_per_minute=RATE), own.seed.person()
    headers = taken_down(shop, ada)
    send_again(own.process, headers, own.process.address)
    assert statuses(shop, ada, RATE - 1) == [200] * (RATE - 1), "whichever process is asked"


def test_a_handshake_sent_again_uses_up_no_handshakes(shop: Deployment) -> None:
    def fresh() -> str:
        return "".join(f"{name}: {value}\r\n" for name, value in shop.signed("GET", "/ws").items())

    headers = fresh()
    assert handshake_answer(shop.gateway, headers) == 101
    assert {handshake_answer(shop.gateway, headers) for _ in range(TIMES)} == {401}
    assert [handshake_answer(shop.gateway, fresh()) for _ in range(RATE)] == [101] * (RATE - 1) + [429]


def test_what_is_replayed_at_once_everywhere_is_good_once(
    shop: Deployment, ada: Person, gateway: GatewayProcess, neighbour: GatewayProcess
) -> None:
    """Before any of them is answered; they are the instance's own as far as anybody can tell, and no more than one of
    them is let in."""
    headers = list(shop.signed("GET", VALIDATE, headers={"authorization": f"Bearer {ada.token}"}).items())

    def once(number: int) -> int:
        node = (gateway, neighbour)[number % 2]
        return send(node, "GET", VALIDATE, b"", headers, host=gateway.address).status

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(once, range(64)))
    assert answers.count(200) == 1
    assert set(answers) <= {200, 401, 429}
    assert used(shop) == 1
