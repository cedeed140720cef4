"""A gateway whose public key is known in advance."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from client_sdk import ConfigError, Disconnected
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKey
from client_sdk.pins import pinned, spki_pin
from tests.support.certificates import Certificate, openssl, self_signed

SPARE = base64.b64encode(bytes(32)).decode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def server(certificate: Certificate) -> AsyncIterator[tuple[str, list[bytes]]]:
    """What it was sent, behind TLS."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.read(65536))
            body = b'{"active":false}'
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.server_context())
    port = listening.sockets[0].getsockname()[1]
    yield f"127.0.0.1:{port}", heard
    listening.close()


def pin_of(certificate: Certificate) -> str:
    return spki_pin(ssl.PEM_cert_to_DER_cert(certificate.path.read_text()))


def test_a_pin_is_what_openssl_says(certificate: Certificate) -> None:
    public = openssl("x509", "-in", certificate.path, "-pubkey", "-noout")
    der = openssl("pkey", "-pubin", "-outform", "der", given=public)
    assert pin_of(certificate) == base64.b64encode(hashlib.sha256(der).digest()).decode()


async def test_the_right_key_is_talked_to(certificate: Certificate, server: tuple[str, list[bytes]]) -> None:
    address, heard = server
    context = pinned([SPARE, f"sha256/{pin_of(certificate)}"], cafile=str(certificate.path))
    async with InstanceClient(f"https://{address}", InstanceKey("ik_1", bytes(32)), ssl=context) as gateway:
        assert not (await gateway.validate("gw_token")).active
    assert heard[0].startswith(b"GET /auth/validate ")


async def test_another_key_is_told_nothing(certificate: Certificate, server: tuple[str, list[bytes]]) -> None:
    """Neither by a request nor by a channel, although the chain of certificates is good."""
    address, heard = server
    context = pinned([SPARE, base64.b64encode(bytes([1] * 32)).decode()], cafile=str(certificate.path))
    async with InstanceClient(f"https://{address}", InstanceKey("ik_1", bytes(32)), ssl=context, attempts=1) as gateway:
        with pytest.raises(Disconnected, match="pinned"):
            await gateway.validate("gw_token")
    with pytest.raises((ssl.SSLError, OSError, WebSocketException)):
        await connect(f"wss://{address}/ws", ssl=context, proxy=None)
    assert all(not sent for sent in heard)


async def test_a_pin_does_not_make_up_for_the_chain(certificate: Certificate, server: tuple[str, list[bytes]]) -> None:
    address, heard = server
    context = pinned([SPARE, pin_of(certificate)])
    async with InstanceClient(f"https://{address}", InstanceKey("ik_1", bytes(32)), ssl=context, attempts=1) as gateway:
        with pytest.raises(Disconnected):
            await gateway.validate("gw_token")
    assert all(not sent for sent in heard)


@pytest.mark.parametrize("pins", [[], [SPARE], [SPARE, SPARE], [SPARE, "sha1/abc"], [SPARE, "x" * 44]])
def test_two_pins_that_are_pins(pins: list[str]) -> None:
    with pytest.raises(ConfigError, match="pins"):
        pinned(pins)
