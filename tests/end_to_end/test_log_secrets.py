"""A whole run at debug level: no credential in any line, and no line that a client wrote itself."""

from __future__ import annotations

import contextlib
import json
import re
import socket

import pytest

from tests.end_to_end.conftest import Connect, StartGateway
from tests.support.client import MESSAGEPACK, Refused
from tests.support.raw_websocket import TEXT, RawWebSocket, frame, handshake

CONSOLE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ +[\w.]+: |    |Listening on http")
FORGED = "\n2026-11-21T19:10:00.000Z INFO    gateway.session: forged\r\n"


@pytest.mark.parametrize("style", ["console", "json"])
async def test_no_line_holds_a_secret_or_is_a_clients(style: str, own_gateway: StartGateway, connect: Connect) -> None:
    own = own_gateway(logging_level="debug", logging_format=style)
    process, seed = own.process, own.seed
    person = seed.person()
    unknown = seed.unknown_token()
    secrets = [person.token, unknown, seed.token(person.id).text]

    for by, subprotocol in (("header", None), ("message", MESSAGEPACK)):
        client = await connect(person.token, at=process, by=by, subprotocol=subprotocol)
        await client.request("auth", token=secrets[2])
        await client.request("auth", token=unknown)
        await client.request("watch", docs=[f"user:{unknown}", f"org:{FORGED}", f"self@{unknown}"])
        await client.request("sync", doc=unknown)
        await client.send(op=unknown, id=unknown[:64])
        await client.send(op=FORGED, id=FORGED[:64])
        await client.send(op="ping", id="x", token=unknown, t=unknown)
        await client.message("pong", id="x")
        await client.send(op="auth", token={"secret": unknown})
        await client.barrier()
    for token, by in ((unknown, "header"), (unknown, "message"), (unknown + "x", "message"), (unknown[:-4], "header")):
        with contextlib.suppress(Refused):
            await (await connect(token, at=process, by=by)).end()
    client = await connect(at=process)
    await client.send(op="auth", token=unknown, client={"name": FORGED, "version": unknown}, last_end=FORGED)
    await client.end()
    for data in (
        unknown.encode(),
        json.dumps({"token": unknown}).encode(),
        b'{"op":"auth","token":"' + unknown.encode(),
    ):
        raw = await RawWebSocket.connect(process)
        await raw.send(frame(TEXT, data))
        await raw.read_to_end()
        raw.close()
    for path in (
        f"/ws?token={unknown}",
        f"/ws?ticket=gt_{unknown}",
        f"/{unknown}",
        f"/api/{unknown}?a={unknown}",
        "/api/%0a%0dforged",
    ):
        process.request("GET", path, unknown)
        with contextlib.suppress(ConnectionError):
            (await RawWebSocket.connect(process, unknown, path=path)).close()
    for header in ("Cookie", "User-Agent", "X-Forwarded-For", "Origin", "Referer", "Sec-WebSocket-Protocol"):
        process.request("GET", "/api/document", person.token, headers={header: unknown})
        with contextlib.suppress(ConnectionError):
            (await RawWebSocket.connect(process, headers=f"{header}: {unknown}\r\n")).close()
    broken = handshake(process, headers=f"Authorization: Bearer {unknown}\r\nBroken {unknown}\r\n")
    with socket.create_connection(("127.0.0.1", process.port)) as sock:
        sock.sendall(broken)
        assert sock.recv(65536)
    own.foreign.execute("DELETE FROM api_tokens WHERE user_id = ?", person.id)
    assert process.terminate() == 0

    log = process.log()
    assert "session ended" in log
    for secret in secrets:
        for part in (secret, secret[3:], secret[3:35]):
            assert part not in log, log[max(0, log.index(part) - 300) :][:600]
    lines = log.splitlines()
    if style == "json":
        for line in lines:
            assert line.startswith("Listening on http") or "level" in json.loads(line), line
    else:
        for line in lines:
            assert CONSOLE.match(line), line
        assert not any(line.startswith("2026-11-21T19:10:00.000Z") for line in lines)
