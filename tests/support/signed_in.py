"""People who sign in to an application under Starlette's test client: by token, or with a browser's cookies."""

from __future__ import annotations

from functools import cache
from typing import Any

from starlette.testclient import TestClient

from gateway.auth.passwords import hash_now
from gateway.config import AuthConfig

ORIGIN = "https://testserver"
PASSWORD = "moons of jupiter, four"
OTHER_PASSWORD = "rings of saturn, many"
CSRF = "X-CSRF-Token"
ACCESS = "__Host-gateway_access"
REFRESH = "__Host-gateway_refresh"
DEVICE = "__Host-gateway_device"

Json = dict[str, Any]


@cache
def cheap_hash(password: str = PASSWORD) -> str:
    """A hash of the least cost that settings allow."""
    return hash_now(password, AuthConfig(argon2_memory_kib=7168, argon2_time=1))


def client_of(client: TestClient) -> TestClient:
    """Another client of the same running application, with cookies of its own."""
    other = TestClient(client.app, ORIGIN, client=("127.0.0.1", 50_000))
    other.portal = client.portal
    return other


def sign_in(client: TestClient, username: str = "ada", password: str = PASSWORD, **fields: Any) -> Any:
    """Sign in by token; the answer."""
    return client.post("/auth/login", json={"username": username, "password": password, **fields})


def signed_in(client: TestClient, username: str = "ada", password: str = PASSWORD) -> Json:
    """A new login session with its tokens."""
    answer = sign_in(client, username, password)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def bearer(session: Json) -> dict[str, str]:
    """The header that shows a session's access token."""
    return {"authorization": f"Bearer {session['access_token']}"}


class Browser:
    """A browser on a page of `origin`: it keeps cookies, names the page's origin with every write, and the page knows
    its CSRF token once it signed in."""

    def __init__(self, client: TestClient, origin: str | None = ORIGIN) -> None:
        self.client = client_of(client)
        self.origin = origin
        self.csrf: str | None = None

    def sign_in(self, username: str = "ada", password: str = PASSWORD) -> Json:
        """Sign in with cookies; what is answered."""
        answer = self.post("/auth/login", {"username": username, "password": password, "cookie": True})
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        self.csrf = body["csrf_token"]
        return body

    def request(self, method: str, path: str, body: Any = None, **headers: str | None) -> Any:
        """One request, with the page's headers unless `headers` (``_`` for ``-``; None: without) says otherwise."""
        sent = {"origin": self.origin if method != "GET" else None, "x-csrf-token": self.csrf}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        shown = {name: value.encode() for name, value in sent.items() if value is not None}
        return self.client.request(method, path, json=body, headers=shown)  # type: ignore[arg-type]

    def post(self, path: str, body: Any = None, **headers: str | None) -> Any:
        return self.request("POST", path, body, **headers)

    def get(self, path: str, **headers: str | None) -> Any:
        return self.request("GET", path, **headers)

    def delete(self, path: str, **headers: str | None) -> Any:
        return self.request("DELETE", path, **headers)

    @property
    def cookies(self) -> dict[str, str]:
        """Those that it keeps."""
        return {cookie.name: cookie.value or "" for cookie in self.client.cookies.jar}


def set_cookies(answer: Any) -> dict[str, Json]:
    """The ``Set-Cookie`` fields of an answer by name: ``value`` and the attributes in lower case."""
    found: dict[str, Json] = {}
    for field in answer.headers.get_list("set-cookie"):
        pair, *attributes = [part.strip() for part in field.split(";")]
        name, _, value = pair.partition("=")
        assert name not in found, f"{name} is set twice"
        parts = [attribute.partition("=") for attribute in attributes]
        found[name] = {"value": value.strip('"'), **{key.lower(): text or True for key, _, text in parts}}
    return found
