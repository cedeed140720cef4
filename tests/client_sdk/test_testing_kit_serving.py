"""What the testing kit runs is served as ``gateway serve`` does it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from client_sdk import Channel
from client_sdk.testing import RunningGateway
from gateway.errors import ConfigError
from tests.support.certificates import Certificate, self_signed


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return self_signed(tmp_path)


async def test_a_request_whose_head_never_ends_is_given_up(tmp_path: Path) -> None:
    with RunningGateway(tmp_path / "gateway.db", channel={"auth_timeout_s": 0.1}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
        writer.write(b"GET /health HTTP/1.1\r\nHost: gateway\r\n")
        await asyncio.wait_for(reader.read(), 10)
        assert reader.at_eof()
        writer.close()


async def test_it_serves_over_tls(tmp_path: Path, certificate: Certificate) -> None:
    path, key = certificate
    server = {"use_https": True, "tls_cert": str(path), "tls_key": str(key)}
    with RunningGateway(tmp_path / "gateway.db", server=server) as running:
        ada = running.add_user("ada", permissions=["can_use_voice"])
        context = ssl.create_default_context(cafile=path)
        async with Channel(running.url, running.token(ada), ssl=context) as channel:
            assert channel.can("can_use_voice")
        with pytest.raises(RuntimeError, match="use_https"):
            _ = running.faults.url


def test_tls_files_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    server = {"use_https": True, "tls_cert": str(tmp_path / "absent.pem")}
    with pytest.raises(RuntimeError, match="does not start") as caught:
        RunningGateway(tmp_path / "gateway.db", server=server).open()
    assert isinstance(caught.value.__cause__, ConfigError)
    assert "server.tls_cert" in str(caught.value.__cause__)
