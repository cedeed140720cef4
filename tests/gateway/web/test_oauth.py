from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
from httpx2 import Response

from gateway.config import AuthConfig
from gateway.core.tokens import hash_token, new_refresh_token
from gateway.store.audit import AuditRow, list_audit
from tests.gateway.web.conftest import Json, Site, one, opened
from tests.support.people import insert, token_text

HOUR_MS = 3_600_000
INACTIVE = {"active": False}
_numbers = itertools.count(1)


class Login(NamedTuple):
    """A login session of Ada's as it is stored, and what it was given."""

    session: str
    access: str
    refresh: str

    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.access}"}


def login(site: Site, user: str = "u_ada", *, lasts_ms: int = HOUR_MS, **used: Any) -> Login:
    """`used` are columns of the refresh token's row."""
    number, now = next(_numbers), site.node.clock.now().wall
    session, refresh = f"s_{number}", new_refresh_token(number.to_bytes(32, "big"))
    ends = now + lasts_ms
    site.write(
        insert("login_sessions", id=session, user_id=user, created_at=now, expires_at=ends),
        insert(
            "refresh_tokens",
            **{"token_hash": hash_token(refresh), "session_id": session, "created_at": now, "expires_at": ends} | used,
        ),
    )
    access, _ = site.accounts.access_tokens.issue(user, session)
    return Login(session, access, refresh)


def introspect(site: Site, token: str, **more: str) -> Json:
    answer = site.client.post("/oauth/introspect", data={"token": token, **more}, headers=site.bearer("u_admin"))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), answer.text
    body = answer.json()
    assert isinstance(body, dict)
    return body


def revoke(site: Site, token: str, **more: str) -> Response:
    return site.client.post("/oauth/revoke", data={"token": token, **more}, headers=site.bearer("u_admin"))


def trail(site: Site, action: str) -> list[AuditRow]:
    async def read() -> list[AuditRow]:
        return await list_audit(site.node.database, action=action)

    rows = site.call(read)
    assert isinstance(rows, list)
    return rows


# --- introspection ---


def test_an_api_token(site: Site) -> None:
    now, auth = site.node.clock.now().wall, AuthConfig()
    told = introspect(site, site.token("u_ada", id="t_ada", created_at=now - 5_000, expires_at=now + HOUR_MS))
    assert told == {
        "active": True,
        "token_type": "Bearer",
        "sub": "u_ada",
        "username": "ada",
        "client_id": "gateway",
        "iss": auth.issuer,
        "aud": auth.audience,
        "iat": (now - 5_000) // 1000,
        "exp": (now + HOUR_MS) // 1000,
        "jti": "t_ada",
    }


def test_an_api_token_without_end_has_no_end(site: Site) -> None:
    told = introspect(site, site.token("u_grace"))
    assert (told["sub"], told["username"], "exp" in told, "scope" in told) == ("u_grace", "grace", False, False)


@pytest.mark.parametrize(
    ("scopes", "scope"),
    [({"permissions": ["b", "a"]}, "a b"), ({"permissions": []}, ""), ({"what": 1}, "")],
)
def test_a_narrowed_token_says_to_what(site: Site, scopes: Json, scope: str) -> None:
    assert introspect(site, site.token(scopes=scopes))["scope"] == scope


def test_an_access_token(site: Site) -> None:
    ada, auth = login(site), AuthConfig()
    claims = site.accounts.access_tokens.check(ada.access)
    assert introspect(site, ada.access) == {
        "active": True,
        "token_type": "Bearer",
        "sub": "u_ada",
        "username": "ada",
        "client_id": "gateway",
        "iss": auth.issuer,
        "aud": auth.audience,
        "iat": claims.issued_at // 1000,
        "exp": claims.expires_at // 1000,
        "sid": ada.session,
        "jti": claims.id,
    }


def test_a_refresh_token_is_told_from_a_bearer_token(site: Site) -> None:
    ada, now = login(site), site.node.clock.now().wall
    told = introspect(site, ada.refresh)
    assert {name: told[name] for name in ("active", "token_type", "sub", "sid")} == {
        "active": True,
        "token_type": "refresh_token",
        "sub": "u_ada",
        "sid": ada.session,
    }
    assert now < told["exp"] * 1000 <= now + 2 * HOUR_MS


@pytest.mark.parametrize("kind", ["access", "refresh"])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE login_sessions SET revoked_at = 1",
        "UPDATE login_sessions SET expires_at = 1",
        "DELETE FROM login_sessions",
        "UPDATE users SET status = 'disabled' WHERE id = 'u_ada'",
        "DELETE FROM users WHERE id = 'u_ada'",
        "UPDATE login_sessions SET user_id = 'u_grace'",
    ],
)
def test_what_a_login_was_given_ends_with_it_at_once(site: Site, kind: str, sql: str) -> None:
    """By the database: this node need not have heard of it."""
    token = getattr(login(site), kind)
    assert introspect(site, token)["active"]
    site.run(sql)
    told = introspect(site, token)
    assert told == INACTIVE or (told["sub"], kind) == ("u_grace", "refresh")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE api_tokens SET revoked_at = 1 WHERE user_id = 'u_ada'",
        "UPDATE api_tokens SET expires_at = 1 WHERE user_id = 'u_ada'",
        "DELETE FROM api_tokens WHERE user_id = 'u_ada'",
        "UPDATE users SET status = 'disabled' WHERE id = 'u_ada'",
        "DELETE FROM users WHERE id = 'u_ada'",
    ],
)
def test_an_api_token_ends_at_once(site: Site, sql: str) -> None:
    token = site.token("u_ada")
    assert introspect(site, token)["active"]
    site.run(sql)
    assert introspect(site, token) == INACTIVE


def test_everything_else_stands_for_nothing_and_nobody_learns_why(site: Site) -> None:
    ada = login(site)
    header, payload, signature = ada.access.split(".")
    garbage = [
        "x",
        "gw_mistyped",
        token_text("never issued"),
        new_refresh_token(b"\1" * 32),
        f"{header}.{payload}.{signature[:-4]}AAAA",
        f"{header}.{payload}.",
        "\0",
        "💥" * 1000,
        "x" * 60_000,
        "' OR 1 = 1 --",
        login(site, used_at=1).refresh,
        login(site, expires_at=1).refresh,
    ]
    principal = site.call(site.node.authenticator.authenticate, ada.access)
    garbage.append(site.accounts.tickets.issue(principal))
    assert [introspect(site, token) for token in garbage] == [INACTIVE] * len(garbage)
    assert introspect(site, ada.access)["active"]


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "urn:unheard", ""])
def test_a_hint_is_a_hint(site: Site, hint: str) -> None:
    ada = login(site)
    api = site.token()
    for token in (api, ada.access, ada.refresh):
        assert introspect(site, token, token_type_hint=hint, resource="ignored")["active"]
    for token in (api, ada.access):
        assert "seq" in revoke(site, token, token_type_hint=hint, resource="ignored").json()


def test_to_be_looked_at_is_no_use_of_a_token(site: Site) -> None:
    """Nothing is used up, and nothing written."""
    ada, api = login(site), site.token("u_ada", id="t_ada")
    principal = site.call(site.node.authenticator.authenticate, ada.access)
    ticket = site.accounts.tickets.issue(principal)
    tables = ["login_sessions", "refresh_tokens", "used_tickets", "audit"]

    def rows() -> list[Any]:
        from gateway.store.database import Statement

        return [
            site.call(site.node.database.read, *(Statement(f"SELECT * FROM {table}") for table in tables)),
            site.call(site.node.database.read, Statement("SELECT * FROM api_tokens WHERE id = 't_ada'")),
        ]

    before = rows()
    for token in (ada.access, ada.refresh, api, ticket) * 2:
        introspect(site, token)
    site.call(site.node.authenticator.record_use)
    assert rows() == before
    with site.connect(path=f"/ws?ticket={ticket}") as socket:
        opened(socket)


@pytest.mark.parametrize("path", ["/oauth/introspect", "/oauth/revoke"])
@pytest.mark.parametrize("body", [{"data": {"token": "x"}}, {"data": {}}, {"json": {}}, {"content": b"\xff" * 70_000}])
def test_strangers_are_told_nothing_whatever_they_send(site: Site, path: str, body: Any) -> None:
    assert site.client.post(path, **body).status_code == 401
    answer = site.client.post(path, headers=site.bearer("u_ada"), **body)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_token_is_voided_by_those_alone_who_may_look_at_tokens(site: Site) -> None:
    token = site.token("u_ada", id="t_ada")
    bearer = {"authorization": f"Bearer {token}"}
    for headers, status in (({}, 401), (bearer, 403), (site.bearer("u_grace"), 403)):
        answer = site.client.post("/oauth/revoke", data={"token": token}, headers=headers)
        assert (answer.status_code, "gateway-seq" in answer.headers) == (status, False)
    assert site.client.get("/api/identity", headers=bearer).status_code == 200
    assert trail(site, "token.revoke") == []
    site.write(
        insert("roles", id="resource"),
        insert("role_permissions", role="resource", permission="tokens.introspect"),
        insert("user_roles", user_id="u_grace", role="resource"),
    )
    answer = site.client.post("/oauth/revoke", data={"token": token}, headers=site.bearer("u_grace"))
    assert answer.json()["seq"] == int(answer.headers["gateway-seq"])
    assert site.client.get("/api/identity", headers=bearer).status_code == 401
    [row] = trail(site, "token.revoke")
    assert (row.actor, row.target) == ("user:u_grace", "user:u_ada")


def test_only_for_who_may(site: Site) -> None:
    token = {"token": site.token("u_grace")}
    path = "/oauth/introspect"
    assert site.client.post(path, data=token).status_code == 401
    assert site.client.post(path, data=token, headers=site.bearer("u_ada")).status_code == 403
    assert site.client.post(path, data={"token": "x"}, headers=site.bearer("u_ada")).status_code == 403
    site.write(
        insert("roles", id="resource"),
        insert("role_permissions", role="resource", permission="tokens.introspect"),
        insert("user_roles", user_id="u_ada", role="resource"),
    )
    assert site.client.post(path, data=token, headers=site.bearer("u_ada")).json()["sub"] == "u_grace"
    scopes = {"permissions": ["tokens.introspect"]}
    narrowed = site.bearer("u_ada", scopes=scopes)
    assert site.client.post(path, data=token, headers=narrowed).json()["active"]
    other = site.bearer("u_admin", scopes={"permissions": ["users.read"]})
    assert site.client.post(path, data=token, headers=other).status_code == 403
    own = {"token": narrowed["authorization"].partition(" ")[2]}
    assert site.client.post(path, data=own, headers=site.bearer("u_admin")).json()["scope"] == "tokens.introspect"


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is_one(site: Site) -> None:
    token = site.token("u_ada")
    site.run("UPDATE users SET username = CAST(x'ff' AS TEXT) WHERE id = 'u_ada'")
    told = introspect(site, token)
    assert (told["active"], told["username"]) == (True, "\ufffd")
    assert revoke(site, token).status_code == 200
    assert introspect(site, token) == INACTIVE


# --- revocation ---


def test_an_api_token_is_revoked(site: Site) -> None:
    token = site.token("u_ada", id="t_ada")
    bearer = {"authorization": f"Bearer {token}"}
    with site.connect(bearer) as socket:
        opened(socket)
        answer = revoke(site, token)
        assert (answer.status_code, answer.headers["gateway-seq"]) == (200, str(answer.json()["seq"]))
        assert one(socket, "ended")["code"] == "revoked"
    assert site.client.get("/api/identity", headers=bearer).status_code == 401
    [row] = trail(site, "token.revoke")
    assert (row.actor, row.target, row.address, row.outcome) == ("user:u_admin", "user:u_ada", "127.0.0.1", "ok")
    assert row.after == {"id": "t_ada"}


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_an_access_or_refresh_token_ends_its_login_session(site: Site, kind: str) -> None:
    ada, other = login(site), login(site)
    with site.connect(ada.bearer()) as socket:
        opened(socket)
        assert revoke(site, getattr(ada, kind)).json()["seq"] > 0
        assert one(socket, "ended")["code"] == "revoked"
    assert site.client.get("/api/identity", headers=ada.bearer()).status_code == 401
    assert [introspect(site, token) for token in (ada.access, ada.refresh)] == [INACTIVE] * 2
    assert site.client.get("/api/identity", headers=other.bearer()).status_code == 200
    [row] = trail(site, "session.revoke")
    assert (row.actor, row.target, row.after) == ("user:u_admin", "user:u_ada", {"id": ada.session})


def test_a_refresh_token_that_was_used_up_ends_its_session_too(site: Site) -> None:
    used = login(site, used_at=1)
    assert "seq" in revoke(site, used.refresh).json()
    assert introspect(site, used.access) == INACTIVE


def test_what_is_void_or_unknown_is_answered_like_what_is_revoked(site: Site) -> None:
    ada, api = login(site), site.token("u_ada")
    ended = login(site, expires_at=1)
    for token in (ada.refresh, api):
        assert revoke(site, token).status_code == 200
    count = len(trail(site, "session.revoke")) + len(trail(site, "token.revoke"))
    void = [
        ada.refresh,
        ada.access,
        api,
        ended.refresh,
        "x",
        token_text("never"),
        new_refresh_token(b"\2" * 32),
        "a.b.c",
    ]
    for token in void:
        answer = revoke(site, token)
        assert (answer.status_code, answer.json()) == (200, {}), token
    assert len(trail(site, "session.revoke")) + len(trail(site, "token.revoke")) == count


def test_a_ticket_or_a_cookie_is_nothing_to_revoke(site: Site) -> None:
    ada = login(site)
    principal = site.call(site.node.authenticator.authenticate, ada.access)
    ticket = site.accounts.tickets.issue(principal)
    cookie = site.accounts.signed.dumps("cookie.access", ada.access)
    for text in (ticket, cookie):
        assert revoke(site, text).json() == {}
    assert introspect(site, ada.access)["active"]


# --- forms ---


@pytest.mark.parametrize("path", ["/oauth/introspect", "/oauth/revoke"])
@pytest.mark.parametrize(
    "content",
    [b"", b"token=", b"token_type_hint=x", b"token=a&token=b", b"token=%ff", b"token=\xff", b"&".join([b"a=1"] * 40)],
)
def test_a_bad_form_is_answered_in_oauths_words_too(site: Site, path: str, content: bytes) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = site.client.post(path, content=content, headers=form | site.bearer("u_admin"))
    body = answer.json()
    assert (answer.status_code, body["code"], body["error"]) == (400, "bad_request", "invalid_request")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/oauth/introspect", "/oauth/revoke"])
def test_json_is_no_form(site: Site, path: str) -> None:
    answer = site.client.post(path, json={"token": "x"}, headers=site.bearer("u_admin"))
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_parameters_that_nobody_knows_do_not_count(site: Site) -> None:
    """RFC 8707, for one, has a parameter that may be there more than once."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    content = b"resource=https%3A%2F%2Fa&token=" + site.token().encode() + b"&resource=https%3A%2F%2Fb&x"
    for path, done in (("/oauth/introspect", "active"), ("/oauth/revoke", "seq")):
        answer = site.client.post(path, content=content, headers=form | site.bearer("u_admin"))
        assert (answer.status_code, bool(answer.json()[done])) == (200, True)


def test_a_form_may_say_its_charset(site: Site) -> None:
    form = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"} | site.bearer("u_admin")
    assert site.client.post("/oauth/revoke", content=b"token=x", headers=form).status_code == 200
    assert site.client.get("/oauth/revoke").status_code == 405
