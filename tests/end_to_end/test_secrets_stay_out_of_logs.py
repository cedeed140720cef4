"""A whole run of a gateway at debug level with everything that is secret: none of it is in a log line, or in clear in
the database's file, and no line is a client's."""

from __future__ import annotations

import base64
import json
import socket
import zlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.end_to_end.conftest import Connect, OwnGateway, StartGateway
from tests.end_to_end.test_log_secrets import CONSOLE, FORGED
from tests.support.client import Refused
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person
from tests.support.signed_in import CSRF, cheap_hash

pytestmark = pytest.mark.storages("file")
CHEAP = {"auth_argon2_memory_kib": 7168, "auth_argon2_time": 1}

PASSWORD = "old-harvest-mice-beneath-oaks"
NEW_PASSWORD = "new-harvest-mice-beneath-elms"
WRONG_PASSWORD = "wrong-harvest-mice-beneath-firs"
TYPED_AS_NAME = "typed-in-the-wrong-field-mice"
FIRST_PASSWORD = "first-harvest-mice-beneath-yews"


class Run:
    """One gateway, the client that uses it, and every secret that came up."""

    def __init__(self, own: OwnGateway) -> None:
        self.process: GatewayProcess = own.process
        self.person: Person = own.seed.person(password_hash=cheap_hash(PASSWORD), is_admin=1)
        self.client = httpx2.Client(base_url=f"http://{self.process.address}", timeout=10)
        self.origin = f"http://{self.process.address}"
        self.secrets = [PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, TYPED_AS_NAME, FIRST_PASSWORD, self.person.token]
        self.secrets += [cheap_hash(PASSWORD).rpartition("$")[2]]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, path, json=body, headers=shown)

    def note(self, answer: Any) -> Any:
        """The answer's body; what is secret in it and in its cookies is remembered."""
        body = answer.json()
        for name in ("access_token", "refresh_token", "csrf_token", "ticket", "token"):
            if name in body:
                self.secrets.append(body[name])
        for field in answer.headers.get_list("set-cookie"):
            value = field.partition("=")[2].partition(";")[0]
            self.secrets += [value, *_within(value)] if len(value) > 20 else []
        return body

    def login(self, password: str = PASSWORD, **fields: Any) -> Any:
        return self.ask("POST", "/auth/login", {"username": self.person.id, "password": password, **fields})


def _within(value: str) -> list[str]:
    """The tokens that a cookie's value holds, which anybody who has it can read."""
    payload = value.strip('"').rsplit(".", 2)[0]
    packed, payload = payload.startswith("."), payload.lstrip(".")
    raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    held = json.loads(zlib.decompress(raw) if packed else raw)
    return [text for text in ([held] if isinstance(held, str) else held) if len(text) > 40]


def by_token(run: Run) -> None:
    """Sign in, go on, make and revoke tokens, change the password, make a user."""
    session = run.note(run.login())
    headers = {"authorization": f"Bearer {session['access_token']}"}
    renewed = run.note(run.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]}))
    run.note(run.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]}))
    made = run.note(run.ask("POST", "/auth/tokens", {"name": "x"}, **headers))
    assert run.ask("GET", "/auth/tokens", authorization=f"Bearer {made['token']}").status_code == 200
    assert run.ask("DELETE", f"/auth/tokens/{made['id']}", **headers).status_code == 200
    assert run.ask("GET", "/auth/tokens", authorization=f"Bearer {made['token']}").status_code == 401
    registered = {"username": "new-user", "plan": run.person.plan, "password": FIRST_PASSWORD}
    assert run.ask("POST", "/auth/register", registered, **headers).status_code == 201
    assert run.ask("POST", "/auth/register", registered, **headers).status_code == 409
    assert run.ask("POST", "/auth/register", {**registered, "status": "x"}, **headers).status_code == 422
    for old, new, status in (
        (WRONG_PASSWORD, NEW_PASSWORD, 403),
        (PASSWORD, "short", 422),
        (PASSWORD, NEW_PASSWORD, 200),
    ):
        body = {"old_password": old, "new_password": new}
        assert run.ask("POST", "/auth/password", body, **headers).status_code == status
    assert run.ask("POST", "/auth/refresh", {"refresh_token": renewed["refresh_token"]}).status_code == 200
    assert run.ask("POST", "/auth/logout", {"everywhere": True}, **headers).status_code == 200
    assert run.ask("POST", "/auth/refresh", {"refresh_token": renewed["refresh_token"]}).status_code == 401


def by_cookie(run: Run) -> None:
    """The same in a browser; the cookies are sent by hand, because the jar keeps them from plain HTTP."""
    answer = run.login(NEW_PASSWORD, cookie=True)
    csrf = run.note(answer)["csrf_token"]
    cookies = "; ".join(field.partition(";")[0] for field in answer.headers.get_list("set-cookie"))
    headers = {"cookie": cookies, "origin": run.origin, CSRF: csrf}
    assert run.note(run.ask("POST", "/auth/ticket", **headers))
    assert run.ask("POST", "/auth/ticket", **{**headers, CSRF: csrf + "x"}).status_code == 403
    assert run.ask("POST", "/auth/ticket", **{**headers, "origin": f"https://{csrf}"}).status_code == 403
    assert run.note(run.ask("GET", "/auth/csrf", cookie=cookies))
    assert run.note(run.ask("POST", "/auth/refresh", **headers))
    for field in answer.headers.get_list("set-cookie"):
        value = field.partition("=")[2].partition(";")[0]
        assert run.ask("GET", "/api/identity", authorization=f"Bearer {value}").status_code == 401
        run.ask("GET", f"/{value}?{value}", cookie=f"x={value}", referer=value)
    assert run.ask("POST", "/auth/logout", **headers).status_code == 200


def failures(run: Run) -> None:
    """Secrets where they do not belong, and where nothing understands them."""
    session = run.note(run.login(NEW_PASSWORD))
    for body in (
        {"username": TYPED_AS_NAME, "password": WRONG_PASSWORD},
        {"username": f"{TYPED_AS_NAME}{FORGED}", "password": WRONG_PASSWORD + FORGED},
        {"username": run.person.id, "password": NEW_PASSWORD, NEW_PASSWORD: 1},
        {"username": run.person.id, "password": [NEW_PASSWORD]},
        {"username": run.person.id, "email": TYPED_AS_NAME, "password": NEW_PASSWORD},
        {"username": session["access_token"], "password": session["refresh_token"]},
    ):
        assert run.ask("POST", "/auth/login", body).status_code in (401, 422)
    for secret in (session["access_token"], session["refresh_token"], NEW_PASSWORD, run.person.token[:-1] + "0"):
        for wrong in ({"refresh_token": secret}, {"refresh_token": {"x": secret}}, {secret: "x"}, [secret]):
            assert run.ask("POST", "/auth/refresh", wrong).status_code in (200, 401, 422)
        run.client.post(
            "/auth/login", content=f'{{"password": "{secret}"', headers={"content-type": "application/json"}
        )
        run.client.post("/auth/login", content=secret, headers={"content-type": secret})
        # A path is logged: there only what is made by the gateway can be known again.
        shown = "x" if secret == NEW_PASSWORD else secret
        for path in (f"/auth/tokens/{shown}", f"/auth/sessions/{shown}", f"/users/{shown}", f"/{shown}"):
            for method in ("GET", "DELETE", "POST"):
                run.ask(method, path, authorization=f"Bearer {session['access_token']}")
                run.ask(method, f"{path}?token={secret}&password={secret}", authorization=f"Basic {secret}")
        for header in (
            "cookie",
            "user-agent",
            "origin",
            "referer",
            "x-forwarded-for",
            "x-csrf-token",
            "if-match",
            "host",
        ):
            run.client.get("/api/identity", headers={header: secret})
            run.client.post("/auth/login", json={}, headers={header: secret})


async def channels(run: Run, connect: Connect) -> None:
    """Tickets in the query string: good, used, cut off, and of nobody; and in messages."""
    session = run.note(run.login(NEW_PASSWORD))
    headers = {"authorization": f"Bearer {session['access_token']}"}
    ticket, second, third = (run.note(run.ask("POST", "/auth/ticket", **headers))["ticket"] for _ in range(3))
    # `Client` adds what is to be watched to the query string itself.
    opened = raw_handshake(run.process, f"/ws?ticket={ticket}")
    assert opened.startswith(b"HTTP/1.1 101")
    for path in (
        f"/ws?ticket={ticket}",
        f"/ws?ticket={second[:-3]}",
        f"/ws?x=1&ticket={NEW_PASSWORD}",
        f"/ws/{second}",
    ):
        assert not raw_handshake(run.process, path).startswith(b"HTTP/1.1 101")
    raw_handshake(run.process, f"/ws?ticket={second}&ticket={second}")
    raw_handshake(run.process, f"/ws?ticket={second}", f"Authorization: Bearer {session['access_token']}\r\n")
    client = await connect(session["access_token"], at=run.process)
    await client.request("auth", token=third)
    await client.request("auth", token=third)
    await client.request("auth", token=session["refresh_token"])
    await client.request("watch", docs=[f"user:{second}", f"org:{NEW_PASSWORD}"])
    await client.send(op=second, id=second[:64])
    await client.barrier()
    for token in (third, session["refresh_token"], session["access_token"][:-2]):
        try:
            await (await connect(token, at=run.process, by="message")).end()
        except Refused:
            continue


def raw_handshake(process: GatewayProcess, path: str, headers: str = "") -> bytes:
    """Open a WebSocket by hand; what is answered first."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {process.address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as opened:
        opened.sendall(request.encode())
        return opened.recv(65_536)


def forged_lines(run: Run) -> None:
    """Ends of lines where a client writes a text, as bytes that no HTTP library would send."""
    line = FORGED.encode()
    for request in (
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nUser-Agent: a" + line + b"x: y\r\nContent-Length: 0\r\n\r\n",
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nUser-Agent: a\rb\x0bc\r\nContent-Length: 0\r\n\r\n",
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nUser-Agent: a\n forged\r\nContent-Length: 0\r\n\r\n",
        b"POST /auth/" + line + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /auth/login%0a%0d2026-11-21T19:10:00.000Z HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
        b"ffffffffffffffffffff\r\n{}",
    ):
        with socket.create_connection(("127.0.0.1", run.process.port), timeout=10) as opened:
            opened.sendall(request)
            opened.settimeout(5)
            opened.recv(65_536)


@pytest.mark.parametrize("style", ["console", "json"])
async def test_a_whole_run_tells_no_secret(
    style: str, own_gateway: StartGateway, connect: Connect, tmp_path: Path
) -> None:
    run = Run(own_gateway(logging_level="debug", logging_format=style, auth_max_address_failures=1000, **CHEAP))
    run.secrets.append(run.process.environment["GATEWAY_AUTH_MASTER_KEY"])
    by_token(run)
    by_cookie(run)
    failures(run)
    await channels(run, connect)
    forged_lines(run)
    reused(run)
    assert run.ask("GET", "/health").status_code == 200
    run.client.close()
    assert run.process.terminate() == 0
    check_log(run, style)
    check_database(run, tmp_path)


def reused(run: Run) -> None:
    """A stolen refresh token, which is worth a warning."""
    session = run.note(run.login(NEW_PASSWORD))
    run.note(run.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]}))
    with run.process.foreign_writer() as foreign:
        foreign.execute("UPDATE refresh_tokens SET used_at = used_at - 20000 WHERE used_at IS NOT NULL")
    assert run.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]}).status_code == 401


def check_log(run: Run, style: str) -> None:
    log = run.process.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
    assert "shown again" in log
    assert len(run.secrets) > 40
    for secret in run.secrets:
        # Parts too: a line may cut it, and a cookie's value holds a token.
        for part in {secret, secret[3:], secret[-24:], secret[len(secret) // 2 :][:24]}:
            assert part not in log, log[max(0, log.index(part) - 300) :][:600]
    for line in log.splitlines():
        if style == "json":
            assert line.startswith("Listening on http") or "level" in json.loads(line), line
        else:
            assert CONSOLE.match(line), line
            assert not line.startswith("2026-11-21T19:10:00.000Z"), line


def check_database(run: Run, directory: Path) -> None:
    """What is stored of secrets is hashes and seals."""
    files = [path for path in directory.glob("gateway.db*") if path.suffix != ".key"]
    assert files
    content = b"".join(path.read_bytes() for path in files)
    stored = cheap_hash(PASSWORD).rpartition("$")[2]
    for secret in run.secrets:
        if secret != stored:
            assert secret.encode() not in content
