"""A whole run with server instances at debug level: no secret of an instance, no token and no signature is in any line,
of the gateway or of the SDK, or in clear in the database's file."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from client_sdk.auth_proxy import AuthProxy
from client_sdk.errors import ChannelError
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKeys, instance_key
from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.scripted_gateway import own_app
from tests.end_to_end.conftest import Connect, OwnGateway, StartGateway
from tests.end_to_end.test_log_secrets import CONSOLE, FORGED
from tests.support.client import Refused
from tests.support.deployment import Deployment, send
from tests.support.gateway_process import GatewayProcess
from tests.support.signing import Key, new_nonce

pytestmark = pytest.mark.storages("file")

VALIDATE = "/auth/validate"
CONSUME = "/api/quotas/calls/consume"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Run:
    """One gateway with an instance, and every secret that came up."""

    def __init__(self, own: OwnGateway) -> None:
        self.process: GatewayProcess = own.process
        self.foreign = own.foreign
        self.root, self.ada = own.seed.person(is_admin=1), own.seed.person()
        self.secrets = [self.root.token, self.ada.token, self.process.environment["GATEWAY_AUTH_MASTER_KEY"]]
        self.shop = Deployment(self.process, self.foreign)
        self.note(self.shop.key)

    def note(self, key: Key) -> Key:
        """The secret in all forms in which somebody may write it."""
        raw = key.raw
        self.secrets += [key.secret, base64.b64encode(raw).decode(), raw.hex(), repr(raw)[2:-1]]
        return key

    def manage(self, method: str, path: str, body: Any = None) -> Any:
        headers = JSON | {"authorization": f"Bearer {self.root.token}"}
        content = b"" if body is None else json.dumps(body).encode()
        answer = send(self.process, method, path, content, headers.items())
        return answer.json() if answer.body else None

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}, **how: Any) -> int:
        signed = self.shop.signed(method, path, body, headers, **how)
        self.secrets.append(signed["signature"].partition(":")[2].strip(":"))
        for _ in range(2):  # the second time it is a replay
            status = send(self.process, method, path, body, signed.items()).status
        return status


def good(run: Run) -> None:
    """Keys are made, used, replaced and deleted."""
    bearer = {"authorization": f"Bearer {run.ada.token}"}
    made = run.manage("POST", "/instances", {"id": "i_made", "name": "Made"})
    run.note(Key(made["kid"], made["key"]))
    second = run.manage("POST", "/instances/i_made/keys", {})
    run.note(Key(second["kid"], second["key"]))
    for key in (Key(made["kid"], made["key"]), Key(second["kid"], second["key"]), run.shop.key):
        assert run.shop.validate(run.ada.token, key=key).status == 200
    assert run.ask("GET", VALIDATE, headers=bearer) == 401
    assert run.ask("POST", "/oauth/introspect", f"token={run.ada.token}".encode(), FORM) == 401
    assert run.ask("POST", CONSUME, json.dumps({"amount": 1, "key": "k", "user": run.ada.id}).encode(), JSON) == 401
    run.manage("DELETE", f"/instances/i_made/keys/{made['kid']}")
    run.manage("DELETE", "/instances/i_made")


def bad(run: Run) -> None:
    """Secrets where they do not belong, and signatures that are none."""
    secret, token = run.shop.key.secret, run.ada.token
    bearer = {"authorization": f"Bearer {token}"}
    for how in (
        {"keyid": secret}, {"nonce": secret * 4}, {"tag": secret}, {"label": "sig1", "alg": secret},
        {"covered": []}, {"created": 1}, {"keyid": FORGED}, {"key": Key(run.shop.key.kid, "A" * 43)},
        {"drop": ["nonce"]},
    ):  # fmt: skip
        with contextlib.suppress(ValueError):  # what no header can hold
            run.ask("GET", VALIDATE, headers=bearer, **how)
    for header in ("signature", "signature-input", "content-digest", "user-agent", "x-forwarded-for", "host"):
        signed = run.shop.signed("GET", VALIDATE, headers=bearer) | {header: secret}
        status = send(run.process, "GET", VALIDATE, b"", signed.items()).status
        assert status in ((200,) if header in ("user-agent", "x-forwarded-for") else (400, 401)), header
    for body in (
        secret.encode(),
        json.dumps({"amount": secret, secret: token}).encode(),
        f'{{"key": "{secret}'.encode(),
    ):
        run.ask("POST", CONSUME, body, JSON | bearer)
        run.ask("POST", "/oauth/revoke", body, FORM)
    run.ask("GET", f"{VALIDATE}?secret={secret}&token={token}", headers=bearer)
    for networks in ('["10.0.0.0/8"]', '["nonsense"]', "[]"):
        run.foreign.execute("UPDATE instances SET networks = ? WHERE id = ?", networks, run.shop.id)
        run.ask("GET", VALIDATE, headers=bearer)
    # A key that was sealed for another row can not be opened, which is worth a line.
    broken = run.note(run.shop.add_key())
    run.foreign.execute("UPDATE instance_keys SET secret = x'00' WHERE id = ?", broken.kid)
    run.ask("GET", VALIDATE, headers=bearer, key=broken)


async def channels(run: Run, connect: Connect) -> None:
    """Signed handshakes, good and bad, and a secret in every field of a message."""
    secret = run.shop.key.secret
    client = await run.shop.connect(connect, ["revocations", "keys", run.ada.doc])
    await client.request("watch", docs=[f"user:{secret}", f"instance:{run.ada.token}", FORGED])
    await client.request("consume", quota=secret, amount=1, key=secret)
    await client.send(op=secret, id=secret[:64])
    await client.barrier()
    for how in ({"key": Key(run.shop.key.kid, "A" * 43)}, {"nonce": "a b"}, {"keyid": secret}):
        with pytest.raises(Refused):
            await run.shop.connect(connect, **how)  # type: ignore[arg-type]
    run.foreign.execute("UPDATE instances SET status = 'disabled' WHERE id = ?", run.shop.id)
    assert (await client.end())["code"] == "revoked"
    assert run.shop.validate(run.ada.token).status == 401
    run.foreign.execute("UPDATE instances SET status = 'active' WHERE id = ?", run.shop.id)


async def applications(run: Run) -> None:
    """What the SDK writes, at debug level too: with a good key, with a bad one, and with the gateway gone."""
    url, good_key = f"http://{run.process.address}", instance_key(*run.shop.key)
    async with AuthProxy(own_app, url, good_key) as proxy:
        for token in (run.ada.token, new_nonce(), f"gw_{new_nonce()}"):
            await request(proxy, token)
        run.foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", run.ada.token_id)
        await request(proxy, run.ada.token)
    for key in (good_key, instance_key(run.shop.key.kid, "A" * 43)):
        async with InstanceClient(url, InstanceKeys(key), wall=lambda: 1_700_000_000) as client:
            with contextlib.suppress(ChannelError):
                await client.validate(run.ada.token)


async def without_gateway(run: Run) -> None:
    async with AuthProxy(own_app, f"http://{run.process.address}", instance_key(*run.shop.key)) as proxy:
        assert (await request(proxy, run.ada.token)).status == 503


@pytest.mark.parametrize("style", ["console", "json"])
async def test_a_whole_run_with_instances_tells_no_secret(
    style: str, own_gateway: StartGateway, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(own_gateway(logging_level="debug", logging_format=style))
    good(run)
    bad(run)
    await channels(run, connect)
    with caplog.at_level(logging.DEBUG):
        caplog.clear()
        await applications(run)
        assert run.process.terminate() == 0
        await without_gateway(run)
        told = caplog.text
    log = run.process.log()
    assert "Traceback" not in log
    assert "an instance's key was used from a foreign address" in log
    assert "an instance's key can not be opened" in log
    assert run.shop.id in log
    assert "client_sdk" in told
    assert len(run.secrets) > 40
    content = b"".join(path.read_bytes() for path in tmp_path.glob("gateway.db*") if path.suffix != ".key")
    for secret in {part for text in run.secrets for part in (text, text[3:], text[-24:], text[len(text) // 2 :][:24])}:
        assert secret not in log, log[max(0, log.index(secret) - 300) :][:600]
        assert secret not in told, told[max(0, told.index(secret) - 300) :][:600]
        assert secret.encode() not in content
    for line in log.splitlines():
        if style == "json":
            assert line.startswith("Listening on http") or "level" in json.loads(line), line
        else:
            assert CONSOLE.match(line), line
            assert not line.startswith("2026-11-21T19:10:00.000Z"), line
