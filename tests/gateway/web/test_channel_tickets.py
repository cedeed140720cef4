"""Handshakes that show a ticket: it opens the channel once, and is not used up by a refusal that was certain."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from starlette.testclient import WebSocketDenialResponse
from starlette.types import Message

from gateway.core.clock import rfc3339
from gateway.store.database import Statement
from gateway.web.routes import CHANNEL_PATH
from tests.gateway.web.conftest import Json, Site, StartSite, one, opened, take
from tests.support.people import insert

USER = "u_ada"
_numbers = itertools.count(1)


def log_in(site: Site) -> str:
    """A login session of Ada's; its id."""
    id = f"s_{next(_numbers)}"
    ends = site.node.clock.now().wall + 86_400_000
    site.write(insert("login_sessions", id=id, user_id=USER, expires_at=ends))
    return id


def access_token(site: Site, session: str) -> str:
    return site.accounts.access_tokens.issue(USER, session)[0]


def ticket(site: Site, session: str | None = None) -> str:
    """A ticket of a login session, of a new one unless told."""
    token = access_token(site, session or log_in(site))
    principal = site.call(site.node.authenticator.authenticate, token)
    return site.accounts.tickets.issue(principal)


def refused(site: Site, query: str, headers: Any = None, **options: Any) -> WebSocketDenialResponse:
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        site.connect(headers, path=f"{CHANNEL_PATH}?{query}", **options),
    ):
        pass
    return caught.value


def used(site: Site) -> int:
    [[(count,)]] = site.call(site.node.database.read, Statement("SELECT count(*) FROM used_tickets"))
    return int(count)


def test_a_ticket_leads_to_the_document_at_once(site: Site) -> None:
    with site.connect(path=f"/ws?watch=self&ticket={ticket(site)}&watch=org:o_acme") as socket:
        _, ready, *snapshots = take(socket, "hello", "ready", "snapshot", "snapshot")
    assert ready["principal"] == "user:u_ada"
    assert {snapshot["doc"] for snapshot in snapshots} == {"user:u_ada", "org:o_acme"}


def test_a_ticket_of_a_page_on_an_allowed_origin(site: Site) -> None:
    with site.connect({"origin": "http://testserver"}, path=f"/ws?ticket={ticket(site)}") as socket:
        opened(socket)


def test_twice_is_once_too_often(site: Site) -> None:
    text = ticket(site)
    with site.connect(path=f"/ws?ticket={text}") as socket:
        opened(socket)
    answer = refused(site, f"ticket={text}")
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_failed")
    assert answer.headers["content-type"] == "application/problem+json"
    assert text not in answer.text


@pytest.mark.parametrize("text", ["", "x", "gt_", "gt_nonsense", "gt_" + "A" * 5000, "%00", "gw_x", "gr_x"])
def test_what_is_no_ticket_is_refused_before_the_upgrade(site: Site, text: str) -> None:
    answer = refused(site, f"ticket={text}")
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_failed")
    assert used(site) == 0


def test_a_ticket_that_an_access_token_asked_for_opens_no_more_than_that(site: Site) -> None:
    ends = (site.node.clock.now().wall + 120_000) // 1000 * 1000
    token, expires_at = site.accounts.access_tokens.issue(USER, log_in(site), until=ends)
    assert expires_at == ends
    text = site.client.post("/auth/ticket", headers={"authorization": f"Bearer {token}"}).json()["ticket"]
    with site.connect(path=f"/ws?ticket={text}") as socket:
        assert take(socket, "hello", "ready")[1]["expires_at"] == rfc3339(ends)


def test_other_credentials_are_no_tickets(site: Site) -> None:
    session = log_in(site)
    for text in (access_token(site, session), site.token()):
        assert refused(site, f"ticket={text}").status_code == 401


def test_a_ticket_is_no_bearer_token(site: Site) -> None:
    text = ticket(site)
    headers = {"authorization": f"Bearer {text}"}
    assert refused(site, "", headers).status_code == 401
    assert site.client.get("/api/identity", headers=headers).status_code == 401
    with site.connect(path=f"/ws?ticket={text}") as socket:
        opened(socket)


def test_one_credential_is_enough(site: Site) -> None:
    first, second = ticket(site), ticket(site)
    for query, headers in (
        (f"ticket={first}", site.bearer()),
        (f"ticket={first}", {"authorization": "Basic x"}),
        (f"ticket={first}&ticket={second}", None),
        (f"ticket={first}&ticket={first}", None),
    ):
        answer = refused(site, query, headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert used(site) == 0


def test_the_cookie_of_a_session_opens_nothing(site: Site) -> None:
    token = access_token(site, log_in(site))
    cookies = "; ".join(f"{name}={token}" for name in ("__Host-access", "__Host-gateway-access", "access_token"))
    with site.connect({"cookie": cookies, "origin": "http://testserver"}) as socket:
        one(socket, "hello")
        socket.send_json({"op": "watch", "id": "w", "docs": ["self"]})
        assert one(socket, "ended")["code"] == "not_authenticated"


# --- a refusal that was certain uses nothing up ----------------------------------------------------------------------


def test_a_foreign_origin_or_an_unknown_subprotocol_uses_nothing_up(site: Site) -> None:
    text = ticket(site)
    assert refused(site, f"ticket={text}", {"origin": "https://evil.example"}).status_code == 403
    assert refused(site, f"ticket={text}", subprotocols=["gateway.v9"]).status_code == 400
    with site.connect(path=f"/ws?ticket={text}") as socket:
        opened(socket)


def test_a_node_that_is_full_or_goes_away_uses_nothing_up(start_site: StartSite) -> None:
    site = start_site(channel={"max_sessions": 1})
    text = ticket(site)
    with site.connect(site.bearer()) as socket:
        opened(socket)
        assert refused(site, f"ticket={text}").status_code == 503
    site.node.draining = True
    assert refused(site, f"ticket={text}").status_code == 503
    site.node.draining = False
    assert used(site) == 0
    with site.connect(path=f"/ws?ticket={text}") as socket:
        opened(socket)


def test_where_strangers_have_no_room_a_ticket_gets_in(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.node.STRANGERS_AT_LEAST", 0)
    site = start_site(channel={"max_sessions": 5})
    text = ticket(site)
    assert refused(site, "").status_code == 503
    with site.connect(path=f"/ws?ticket={text}") as socket:
        opened(socket)


def test_a_node_that_begins_to_drain_meanwhile_takes_the_session_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ticket is used up, so there must be a session: it is told to come back as all others are."""
    text, redeem = ticket(site), site.node.authenticator.redeem

    async def slow(shown: str) -> Any:
        principal = await redeem(shown)
        site.node.draining = True
        return principal

    monkeypatch.setattr(site.node.authenticator, "redeem", slow)
    with site.connect(path=f"/ws?ticket={text}") as socket:
        opened(socket)


# --- between the check and the greeting ------------------------------------------------------------------------------


def test_who_is_revoked_while_the_upgrade_is_answered_gets_an_end_and_no_document(site: Site) -> None:
    session = log_in(site)
    headers = [(b"authorization", f"Bearer {access_token(site, session)}".encode())]
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.disconnect", "code": 1006} if sent else {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.accept":
            site.accounts.revocations.note(10**9, sessions=[(USER, session)])
        sent.append(message)

    scope: Json = {
        "type": "websocket",
        "path": CHANNEL_PATH,
        "query_string": b"",
        "headers": headers,
        "subprotocols": [],
        "client": ("192.0.2.1", 5),
        "server": ("testserver", 80),
        "scheme": "ws",
        "extensions": {},
    }
    site.call(site.client.app.channel, scope, receive, send)  # type: ignore[attr-defined]
    texts = "".join(message.get("text") or "" for message in sent)
    assert "hello" in texts
    assert '"revoked"' in texts
    assert "snapshot" not in texts
