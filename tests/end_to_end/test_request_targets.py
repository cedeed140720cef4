"""Targets in absolute form, which name a host themselves (RFC 9112 §3.2.2): a real gateway, real sockets."""

from __future__ import annotations

import http.client
import socket

import pytest

from tests.support.deployment import Deployment
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import Answer, GatewayProcess
from tests.support.seed import Seed
from tests.support.signing import sign

VALIDATE = "/auth/validate"


@pytest.fixture(scope="module")
def shop(gateway: GatewayProcess, foreign: ForeignWriter) -> Deployment:
    return Deployment(gateway, foreign)


def ask(gateway: GatewayProcess, target: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
    """One request with exactly this line and these fields."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "Connection: close"]
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def validate(shop: Deployment, token: str, target: str, *, signed_for: str, host: str) -> Answer:
    headers = sign(shop.key, "GET", f"http://{signed_for}{VALIDATE}", b"", {"authorization": f"Bearer {token}"})
    return ask(shop.gateway, target, ("Host", host), *headers.items())


def test_a_signature_is_for_the_host_in_the_target(shop: Deployment, seed: Seed) -> None:
    token, own = seed.person().token, shop.gateway.address
    elsewhere = "gateway.example.org"

    def status(target_host: str, signed_for: str, host: str) -> int:
        return validate(shop, token, f"http://{target_host}{VALIDATE}", signed_for=signed_for, host=host).status

    assert validate(shop, token, VALIDATE, signed_for=own, host=own).status == 200
    assert status(elsewhere, signed_for=own, host=own) == 401, "it was asked of another host"
    assert status(own, signed_for=elsewhere, host=elsewhere) == 401
    assert status(own, signed_for=own, host=own) == 200
    assert status(own, signed_for=own, host=elsewhere) == 200, "Host does not count beside it"
    assert status(f"ada@{own}", signed_for=own, host=own) == 401


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://anybody.example.org/health", 200),
        ("HTTP://anybody.example.org:80/health?x=1", 200),
        ("https://anybody.example.org/health#x", 200),
        ("http://anybody.example.org", 200),
        ("http://anybody.example.org?x=/health", 200),
        ("http://anybody.example.org/nowhere", 404),
        ("//anybody.example.org/health", 404),
    ],
)
def test_the_path_is_that_behind_the_host(gateway: GatewayProcess, target: str, status: int) -> None:
    assert ask(gateway, target, ("Host", gateway.address)).status == status


def test_a_handshake_is_for_the_host_in_the_target(shop: Deployment) -> None:
    def status(target_host: str) -> int:
        signed = sign(shop.key, "GET", f"http://{shop.gateway.address}/ws")
        upgrade = {
            **{"host": shop.gateway.address, "upgrade": "websocket", "connection": "Upgrade"},
            **{"sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="},
            "sec-websocket-protocol": "gateway.v1+json",
        }
        lines = [f"GET http://{target_host}/ws HTTP/1.1", *(f"{n}: {v}" for n, v in (upgrade | signed).items())]
        with socket.create_connection(("127.0.0.1", shop.gateway.port), timeout=20) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return int(connection.recv(12).split()[1])

    assert status(shop.gateway.address) == 101
    assert status("gateway.example.org") == 401
