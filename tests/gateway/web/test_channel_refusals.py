"""Handshakes that get no channel, and why."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.testclient import WebSocketDenialResponse

from gateway.core.principal import Principal
from gateway.web.origins import is_own_origin
from tests.gateway.web.conftest import Json, Site, StartSite, one, opened
from tests.support.people import add_token, token_text


def refusal(site: Site, headers: Any = None, **options: Any) -> WebSocketDenialResponse:
    """The HTTP answer to a handshake."""
    with pytest.raises(WebSocketDenialResponse) as refused, site.connect(headers, **options):
        pass
    answer = refused.value
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["status"] == answer.status_code
    return answer


def test_unknown_subprotocols_alone(site: Site) -> None:
    answer = refusal(site, site.bearer(), subprotocols=["gateway.v2+json", "chat"])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("path", ["/", "/ws/", "/socket", "/api/identity"])
def test_there_is_no_channel_elsewhere(site: Site, path: str) -> None:
    answer = refusal(site, site.bearer(), path=path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert not site.node.sessions


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://testserver.evil.example",
        "http://eviltestserver",
        "http://testserver:81",
        "https://testserver",
        "http://testserver/",
        "http://evil.example@testserver",
        "http://testserver@evil.example",
        "http://testserver http://evil.example",
        "testserver",
        "http://testserver:port",
    ],
)
def test_a_foreign_origin(site: Site, origin: str) -> None:
    answer = refusal(site, site.bearer() | {"origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_two_origins(site: Site) -> None:
    own = ("origin", "http://testserver")
    assert refusal(site, httpx2.Headers([own, own])).status_code == 403


@pytest.mark.parametrize("host", ["testserver", "testserver:80", "TestServer"])
def test_the_own_origin(site: Site, host: str) -> None:
    with site.connect(site.bearer() | {"origin": "http://testserver", "host": host}) as socket:
        opened(socket)


@pytest.mark.parametrize(
    "origin",
    ["HTTP://testserver", "http://TestServer", "http://testserver:80", "http://testserver:080", "http://testserver/"],
)
def test_the_own_origin_is_the_one_that_browsers_write_and_no_other(site: Site, origin: str) -> None:
    assert refusal(site, {"origin": origin}).status_code == 403


def test_configured_origins_take_the_place_of_the_own(start_site: StartSite) -> None:
    site = start_site(server={"allowed_origins": ("https://app.example",)})
    with site.connect({"origin": "https://app.example"}) as socket:
        one(socket, "hello")
    for origin in ("http://testserver", "https://app.example.evil.example", "https://app.example:443"):
        assert refusal(site, {"origin": origin}).status_code == 403


@pytest.mark.parametrize(
    ("origin", "written", "allowed"),
    [
        ("https://testserver", "https", True),
        ("https://testserver", "wss", True),
        ("https://testserver:443", "https", False),
        ("http://testserver", "https", False),
        ("http://testserver", "http", True),
        ("https://testserver", "http", False),
        ("https://evil.example", "https", False),
        ("//testserver", "nonsense", False),
        ("https://testserver", "https, nonsense", False),
    ],
)
def test_behind_a_trusted_proxy_the_own_origin_is_that_of_the_proxy(
    start_site: StartSite, origin: str, written: str, allowed: bool
) -> None:
    site = start_site(server={"trusted_proxies": ("192.0.2.7",)}, address="192.0.2.7")
    headers = {"origin": origin, "x-forwarded-proto": written}
    if allowed:
        with site.connect(headers) as socket:
            one(socket, "hello")
    else:
        assert refusal(site, headers).status_code == 403


def test_who_is_no_trusted_proxy_can_not_say_by_which_scheme_it_came(start_site: StartSite) -> None:
    site = start_site(server={"trusted_proxies": ("192.0.2.8",)}, address="192.0.2.7")
    headers = {"origin": "https://testserver", "x-forwarded-proto": "https"}
    assert refusal(site, headers).status_code == 403


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "own"),
    [
        ("https://h", "https", "h", True),
        ("https://h:443", "https", "h", False),
        ("https://h", "https", "h:443", True),
        ("https://h", "https", "H", True),
        ("https://H", "https", "h", False),
        ("HTTPS://h", "https", "h", False),
        ("https://h:08787", "https", "h:8787", False),
        ("https://h:8787", "https", "h:8787", True),
        ("https://h/", "https", "h", False),
        ("https://h\t", "https", "h", False),
        ("https://h", "https", "h/x", False),
        ("http://[::1]", "http", "[::1]:80", True),
        ("http://h:443", "https", "h", False),
        ("http://[::1]:8787", "http", "[::1]:8787", True),
        ("http://h?x", "http", "h", False),
        ("http://h#x", "http", "h", False),
        ("http://", "http", "", False),
        ("http://[::1", "http", "h", False),
        ("http://h", "http", "h:x", False),
        ("http://h", "http", "evil@h", False),
        ("http://h", "http", "@h", False),
    ],
)
def test_origins_by_scheme_host_and_port(origin: str, scheme: str, host: str, own: bool) -> None:
    assert is_own_origin(origin, scheme, host) is own


@pytest.mark.parametrize(
    "values",
    [
        ["Basic eDp5"],
        ["Bearer"],
        ["Bearer nonsense"],
        [f"Bearer {token_text('never issued')}"],
        [f"Bearer {token_text('known')}", f"Bearer {token_text('known')}"],
        [f"Bearer {token_text('known')}", "Basic eDp5"],
    ],
)
def test_a_bad_credential(site: Site, values: list[str]) -> None:
    site.write(add_token("u_ada", token_text("known")))
    answer = refusal(site, httpx2.Headers([("authorization", value) for value in values]))
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_failed")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert site.node.handshakes == {"auth_failed": 1}


def test_a_full_node(start_site: StartSite) -> None:
    site = start_site(channel={"max_sessions": 1})
    with site.connect(site.bearer()) as socket:
        opened(socket)
        answer = refusal(site, site.bearer())
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        bearer = site.bearer()
    with site.connect(bearer) as socket:
        opened(socket)


@pytest.mark.parametrize("meanwhile", ["draining", "full"])
def test_a_node_that_stops_taking_sessions_while_a_token_is_looked_up(
    site: Site, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    authenticate = site.node.authenticator.authenticate

    async def slowly(token: str) -> Principal:
        principal = await authenticate(token)
        monkeypatch.setattr(site.node, meanwhile, {"draining": True, "full": lambda **_: True}[meanwhile])
        return principal

    monkeypatch.setattr(site.node.authenticator, "authenticate", slowly)
    answer = refusal(site, site.bearer())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert site.node.handshakes == {"unavailable": 1}


def test_a_server_that_can_not_answer_a_handshake_closes_it(site: Site) -> None:
    async def handshake() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Json:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/ws", "scheme": "ws", "query_string": b"", "subprotocols": []}
        await site.client.app({**scope, "headers": [(b"authorization", b"Basic eDp5")]}, receive, send)
        return sent

    assert site.call(handshake) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert not site.node.sessions
