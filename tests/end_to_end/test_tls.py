"""TLS in the gateway's own process."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.certificates import Certificate, openssl, self_signed
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_websocket import handshake
from tests.support.seed import GROW, Seed, growth
from tests.support.waiting import eventually

pytestmark = pytest.mark.storages("file")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def gateway(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        tmp_path_factory.mktemp("gateway"),
        tls_ca=certificate.path,
        server_use_https="true",
        server_tls_cert=certificate.path,
        server_tls_key=certificate.key,
        server_drain_s=1,
    )
    with process:
        yield process
    process.check_log()


async def test_the_channel_and_the_api_work_over_tls(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    await client.until(lambda: client.data)
    foreign.execute("UPDATE users SET name = 'Secure' WHERE id = ?", person.id)
    await client.until(lambda: client.data["identity"]["name"] == "Secure")
    body = (await gateway.fetch("GET", "/api/document", person.token)).json()
    assert body["rev"] == client.held.rev
    own_origin = await connect(person.token, origin=f"https://{gateway.address}")
    await own_origin.until(lambda: own_origin.data)
    foreign.execute("DELETE FROM api_tokens WHERE id = ?", person.token_id)
    for session in (client, own_origin):
        ended = await session.end()
        assert (ended["code"], session.replica.close_code) == ("revoked", 4500)


async def test_one_that_never_reads_over_tls_is_cut_off(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    reader = await connect(person.token)
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", gateway.port))
        assert gateway.tls is not None
        with gateway.tls.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            secure.sendall(handshake(gateway, headers=f"Authorization: Bearer {person.token}\r\n"))
            assert secure.recv(12) == b"HTTP/1.1 101"
            poll = select.poll()
            poll.register(secure, select.POLLRDHUP)
            foreign.each(GROW, growth(person, 200), pause_s=0.002)
            await reader.until(lambda: reader.data.get("identity", {}).get("attributes", {}).get("number") == 199)
            assert gateway.metric("gateway_updates_conflated_total") > 0
            assert not poll.poll(0)
            foreign.execute("DELETE FROM api_tokens WHERE id = ?", person.token_id)
            await eventually(lambda: poll.poll(0), timeout_s=1.5)
    assert (await reader.end())["code"] == "revoked"


async def test_an_older_protocol_is_refused(gateway: GatewayProcess, certificate: Certificate) -> None:
    old = ssl.create_default_context(cafile=str(certificate.path))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        _request_with(gateway, old)


def _request_with(gateway: GatewayProcess, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        secure.recv(10)


async def test_plain_text_is_no_tls(gateway: GatewayProcess, tmp_path: Path, seed: Seed, connect: Connect) -> None:
    plain = GatewayProcess(tmp_path)
    plain.port = gateway.port
    with pytest.raises((ConnectionError, OSError), match=r"no HTTP answer|reset|closed"):
        plain.request("GET", "/health", timeout_s=5)
    client = await connect(seed.person().token)
    await client.barrier()


@pytest.mark.parametrize("fault", ["no such file", "not a certificate", "another key", "no key"])
def test_files_that_can_not_be_used_stop_the_start_with_one_line(
    fault: str, certificate: Certificate, tmp_path: Path
) -> None:
    path, key = certificate
    match fault:
        case "no such file":
            path = tmp_path / "missing.pem"
        case "not a certificate":
            path = tmp_path / "bad.pem"
            path.write_text("nonsense\n")
        case "another key":
            key = tmp_path / "other.pem"
            openssl("genrsa", "-out", key, "2048")
        case _:
            key = Path()
    settings = {"server_tls_key": key} if fault != "no key" else {}
    process = GatewayProcess(tmp_path, server_use_https="true", server_tls_cert=path, **settings)
    process.start(ready=False)
    assert process.wait() != 0
    lines = process.log().strip().splitlines()
    assert len(lines) == 1, lines
    assert "tls" in lines[0]
