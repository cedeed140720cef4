"""Signing in, going on and signing out, by token; what a failure tells, and what a refusal never tells."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.auth.logins import FAILURE_FLOOR_S
from gateway.auth.passwords import hash_now
from gateway.config import AuthConfig
from gateway.core.access_token import looks_like
from gateway.core.clock import parse_rfc3339
from gateway.core.tokens import is_refresh_token
from gateway.store.audit import AuditRow, list_audit
from gateway.store.database import Statement
from tests.gateway.web.conftest import Json, Site, StartSite, one, opened
from tests.support.signed_in import (
    DEVICE,
    ORIGIN,
    OTHER_PASSWORD,
    PASSWORD,
    bearer,
    cheap_hash,
    set_cookies,
    sign_in,
    signed_in,
)


def give_password(site: Site, *users: str) -> None:
    """Let these users sign in with `PASSWORD`."""
    for user in users:
        site.run("UPDATE users SET password_hash = ? WHERE id = ?", cheap_hash(), user)


@pytest.fixture
def site(start_site: StartSite) -> Site:
    site = start_site(base_url=ORIGIN)
    give_password(site, "u_ada", "u_grace", "u_admin")
    return site


def trail(site: Site, action: str) -> list[AuditRow]:
    """The audit entries of an action, the newest first."""

    async def read() -> list[AuditRow]:
        return await list_audit(site.node.database, action=action)

    rows: list[AuditRow] = site.call(read)
    return rows


# --- signing in ---


def test_a_login_gives_tokens_and_says_who_it_is(site: Site) -> None:
    before = time.time()
    answer = sign_in(site.client)
    session = answer.json()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["gateway-seq"] == str(session["seq"])
    assert set(session) == {
        *("session", "expires_at", "expires_in", "refresh_expires_at", "seq"),
        *("access_token", "token_type", "refresh_token", "user"),
    }
    assert session["token_type"] == "Bearer"
    assert looks_like(session["access_token"])
    assert is_refresh_token(session["refresh_token"])
    assert 890 <= session["expires_in"] <= 900
    assert parse_rfc3339(session["expires_at"]) / 1000 == pytest.approx(before + 900, abs=10)
    assert parse_rfc3339(session["refresh_expires_at"]) / 1000 == pytest.approx(before + 604_800, abs=10)
    identity = site.client.get("/api/identity", headers=bearer(session)).json()
    for name in ("id", "username", "name", "email", "plan", "status", "is_admin", "created_at"):
        assert session["user"][name] == identity[name]
    assert "password_hash" not in answer.text
    assert site.call(site.node.database.read, Statement("SELECT max(seq) FROM change_log"))[0][0][0] >= session["seq"]


def test_an_access_token_opens_the_channel_and_every_route(site: Site) -> None:
    session = signed_in(site.client)
    validated = site.client.post("/api/auth/validate", headers=bearer(session)).json()
    assert validated == {
        "valid": True,
        "user_id": "u_ada",
        "session": session["session"],
        "expires_at": session["expires_at"],
    }
    with site.connect(bearer(session)) as socket:
        assert opened(socket)["doc"] == "user:u_ada"


@pytest.mark.parametrize(
    "who", [{"username": "ada"}, {"username": "ADA"}, {"email": "ada@example.org"}, {"email": "Ada@Example.org"}]
)
def test_a_user_name_or_an_address_in_any_case_will_do(site: Site, who: Json) -> None:
    answer = site.client.post("/auth/login", json={**who, "password": PASSWORD})
    assert answer.json()["user"]["id"] == "u_ada"


def test_a_login_by_token_leaves_nothing_in_a_browser_but_that_it_was_there(site: Site) -> None:
    assert set(set_cookies(sign_in(site.client))) == {DEVICE}


@pytest.mark.parametrize(
    "body",
    [
        {"password": PASSWORD},
        {"username": "ada", "email": "ada@example.org", "password": PASSWORD},
        {"username": "ada"},
        {"username": "ada", "password": None},
        {"username": "ada", "password": 1},
        {"username": ["ada"], "password": PASSWORD},
        {"username": "ada", "password": PASSWORD, "cookie": "yes"},
        {"username": "ada", "password": PASSWORD, "is_admin": True},
        {"username": "ada", "password": PASSWORD, "expires_in": 10**9},
        [],
        "ada",
        7,
    ],
)
def test_what_is_no_login_is_told_so(site: Site, body: Any) -> None:
    answer = site.client.post("/auth/login", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
    assert PASSWORD not in answer.text
    assert "set-cookie" not in answer.headers


# --- failing ---


def test_all_failures_look_alike(site: Site) -> None:
    site.run("UPDATE users SET status = 'disabled' WHERE id = 'u_grace'")
    for _ in range(5):
        assert sign_in(site.client, "root", "wrong horse battery").status_code == 401
    answers = {
        "wrong": sign_in(site.client, "ada", "wrong horse battery"),
        "unknown": sign_in(site.client, "nobody"),
        "disabled": sign_in(site.client, "grace"),
        "locked": sign_in(site.client, "root"),
        "without a password": sign_in(site.client, "alan"),
        "empty": sign_in(site.client, "ada", ""),
        "NUL": sign_in(site.client, "ada", f"{PASSWORD}\0"),
        "long": sign_in(site.client, "ada", "x" * 60_000),
        "no name": sign_in(site.client, ""),
        "SQL": sign_in(site.client, "' OR 1=1 --"),
        "long name": sign_in(site.client, "a" * 5_000),
    }
    for why, answer in answers.items():
        assert (answer.status_code, answer.json()) == (401, answers["wrong"].json()), why
        assert answer.headers.keys() == answers["wrong"].headers.keys(), why
        assert "set-cookie" not in answer.headers
        assert answer.elapsed.total_seconds() >= FAILURE_FLOOR_S * 0.95, why
    assert {row.outcome for row in trail(site, "session.login_failed")} == {
        *("wrong_password", "unknown", "disabled", "locked", "no_password")
    }


def test_the_sixth_attempt_fails_with_the_right_password_too_but_not_for_a_browser_that_was_there(site: Site) -> None:
    device = set_cookies(sign_in(site.client))[DEVICE]["value"]
    site.client.cookies.clear()
    for _ in range(5):
        assert sign_in(site.client, "ada", "wrong horse battery").status_code == 401
    assert sign_in(site.client).status_code == 401
    known = site.client.post(
        "/auth/login", json={"username": "ada", "password": PASSWORD}, headers={"cookie": f"{DEVICE}={device}"}
    )
    assert known.status_code == 200
    forged = f"{device[:-2]}{'A' if device[-2] != 'A' else 'B'}{device[-1]}"
    strange = site.client.post(
        "/auth/login", json={"username": "ada", "password": PASSWORD}, headers={"cookie": f"{DEVICE}={forged}"}
    )
    assert strange.status_code == 401


def test_an_address_that_fails_too_often_is_told_when_to_come_back(start_site: StartSite) -> None:
    site = start_site(auth={"max_address_failures": 3, "lockout_s": 60})
    give_password(site, "u_ada")
    for number in range(3):
        assert sign_in(site.client, f"nobody{number}").status_code == 401
    answer = sign_in(site.client)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_more_logins_than_can_be_hashed_are_asked_to_wait(start_site: StartSite) -> None:
    cost: Json = {"argon2_memory_kib": 65_536, "argon2_time": 2}
    site = start_site(auth={"argon2_workers": 1, "argon2_queue": 2, **cost})
    site.run("UPDATE users SET password_hash = ?", hash_now(PASSWORD, AuthConfig(**cost)))
    names = ["ada", "grace", "alan", "root"] * 8
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: sign_in(site.client, name), names))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
    assert site.client.get("/health").status_code == 200


# --- going on ---


def test_a_refresh_token_gives_its_successor_and_within_the_grace_the_same_again(site: Site) -> None:
    session = signed_in(site.client)
    old = {"refresh_token": session["refresh_token"]}
    renewed = site.client.post("/auth/refresh", json=old).json()
    again = site.client.post("/auth/refresh", json=old).json()
    assert set(renewed) == set(session) - {"user"}
    assert renewed["session"] == session["session"]
    assert renewed["refresh_token"] == again["refresh_token"] != session["refresh_token"]
    assert site.client.get("/api/identity", headers=bearer(renewed)).status_code == 200
    assert "set-cookie" not in site.client.post("/auth/refresh", json=old).headers


def test_fifty_at_once_get_one_successor(site: Site) -> None:
    body = {"refresh_token": signed_in(site.client)["refresh_token"]}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: site.client.post("/auth/refresh", json=body), range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


def test_a_refresh_token_that_is_shown_again_later_ends_the_session_and_its_sockets(site: Site) -> None:
    session = signed_in(site.client)
    old = {"refresh_token": session["refresh_token"]}
    renewed = site.client.post("/auth/refresh", json=old).json()
    with site.connect(bearer(renewed)) as socket:
        opened(socket)
        site.run("UPDATE refresh_tokens SET used_at = used_at - 10000 WHERE used_at IS NOT NULL")
        assert site.client.post("/auth/refresh", json=old).status_code == 401
        assert one(socket, "ended")["code"] == "revoked"
    assert site.client.get("/api/identity", headers=bearer(renewed)).status_code == 401
    assert site.client.post("/auth/refresh", json={"refresh_token": renewed["refresh_token"]}).status_code == 401
    [row] = trail(site, "session.refresh_reused")
    assert (row.target, row.after) == ("user:u_ada", {"id": session["session"]})


def test_nothing_else_is_a_refresh_token(site: Site) -> None:
    session = signed_in(site.client)
    ticket = site.client.post("/auth/ticket", headers=bearer(session)).json()["ticket"]
    first = site.client.post("/auth/refresh", json={"refresh_token": "gr_wrong"})
    for text in (session["access_token"], ticket, site.token(), "", "\0", "x" * 60_000, session["refresh_token"] + "x"):
        answer = site.client.post("/auth/refresh", json={"refresh_token": text})
        assert (answer.status_code, answer.json()) == (401, first.json())
    for body in ({"refresh_token": 1}, {"refresh_token": session["refresh_token"], "user": "u_admin"}):
        assert site.client.post("/auth/refresh", json=body).status_code == 422
    assert site.client.post("/auth/refresh", json={}).status_code == 401
    assert site.client.post("/auth/refresh").status_code == 401


def test_a_refresh_token_or_a_ticket_is_no_access_token(site: Site) -> None:
    session = signed_in(site.client)
    ticket = site.client.post("/auth/ticket", headers=bearer(session)).json()["ticket"]
    for text in (session["refresh_token"], ticket):
        assert site.client.get("/api/identity", headers={"authorization": f"Bearer {text}"}).status_code == 401


# --- signing out ---


def test_a_logout_ends_this_session_and_its_sockets_at_once(site: Site) -> None:
    session, other = signed_in(site.client), signed_in(site.client)
    api_token = site.bearer()
    with site.connect(bearer(session)) as socket, site.connect(bearer(other)) as staying:
        opened(socket)
        opened(staying)
        answer = site.client.post("/auth/logout", headers=bearer(session))
        assert answer.status_code == 200
        assert answer.json() == {"seq": int(answer.headers["gateway-seq"])}
        assert one(socket, "ended")["code"] == "revoked"
    assert "set-cookie" not in answer.headers
    for body in ({}, {"everywhere": True}):
        assert site.client.post("/auth/logout", json=body, headers=bearer(session)).status_code == 401
    assert site.client.post("/auth/refresh", json={"refresh_token": session["refresh_token"]}).status_code == 401
    assert site.client.get("/api/identity", headers=bearer(other)).status_code == 200
    assert site.client.get("/api/identity", headers=api_token).status_code == 200
    [row] = trail(site, "session.logout")
    assert (row.actor, row.target, row.after) == ("user:u_ada", "user:u_ada", {"id": session["session"]})


def test_everywhere_ends_all_sessions_and_no_api_token(site: Site) -> None:
    sessions, stranger, api_token = (
        [signed_in(site.client) for _ in range(3)],
        signed_in(site.client, "grace"),
        site.bearer(),
    )
    assert site.client.post("/auth/logout", json={"everywhere": True}, headers=bearer(sessions[1])).status_code == 200
    for session in sessions:
        assert site.client.get("/api/identity", headers=bearer(session)).status_code == 401
        body = {"refresh_token": session["refresh_token"]}
        assert site.client.post("/auth/refresh", json=body).status_code == 401
    for headers in (bearer(stranger), api_token):
        assert site.client.get("/api/identity", headers=headers).status_code == 200


def test_an_api_token_has_no_session_to_end_but_may_end_all(site: Site) -> None:
    session, whole, narrow = signed_in(site.client), site.bearer(), site.bearer(scopes={"permissions": []})
    assert site.client.post("/auth/logout", headers=whole).status_code == 403
    assert site.client.post("/auth/logout", json={"everywhere": True}, headers=narrow).status_code == 403
    assert site.client.get("/api/identity", headers=bearer(session)).status_code == 200
    assert site.client.post("/auth/logout", json={"everywhere": True}, headers=whole).status_code == 200
    assert site.client.get("/api/identity", headers=bearer(session)).status_code == 401
    assert site.client.get("/api/identity", headers=whole).status_code == 200


# --- passwords ---


def test_a_new_password_ends_the_other_sessions(site: Site) -> None:
    session, other = signed_in(site.client), signed_in(site.client)
    with site.connect(bearer(session)) as staying, site.connect(bearer(other)) as socket:
        opened(staying)
        opened(socket)
        body = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
        answer = site.client.post("/auth/password", json=body, headers=bearer(session))
        assert answer.json() == {"seq": int(answer.headers["gateway-seq"])}
        assert one(socket, "ended")["code"] == "revoked"
    assert site.client.get("/api/identity", headers=bearer(other)).status_code == 401
    assert site.client.get("/api/identity", headers=bearer(session)).status_code == 200
    assert sign_in(site.client).status_code == 401
    assert sign_in(site.client, password=OTHER_PASSWORD).status_code == 200
    [row] = trail(site, "password.change")
    assert PASSWORD not in repr(row)
    assert OTHER_PASSWORD not in repr(row)


def test_a_password_is_not_changed_by_whoever_does_not_know_it(site: Site) -> None:
    session = signed_in(site.client)
    body = {"old_password": "wrong horse battery", "new_password": OTHER_PASSWORD}
    for _ in range(5):
        assert site.client.post("/auth/password", json=body, headers=bearer(session)).status_code == 403
    locked = site.client.post("/auth/password", json={**body, "old_password": PASSWORD}, headers=bearer(session))
    assert locked.status_code == 429
    assert "retry-after" in locked.headers
    assert sign_in(site.client).status_code == 200


@pytest.mark.parametrize(
    "new", ["short", "ada" * 6, "passwordpassword", "a" * 2000, "0123456789012345", "x\0" * 10, ""]
)
def test_a_bad_new_password_is_refused_with_a_sentence(site: Site, new: str) -> None:
    session = signed_in(site.client)
    body = {"old_password": PASSWORD, "new_password": new}
    answer = site.client.post("/auth/password", json=body, headers=bearer(session))
    assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
    assert answer.json()["detail"].endswith(".")
    assert not new or new not in answer.text
    assert sign_in(site.client).status_code == 200


def test_a_token_with_scopes_changes_no_password(site: Site) -> None:
    body = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
    narrow = site.bearer(scopes={"permissions": ["can_use_voice"]})
    assert site.client.post("/auth/password", json=body, headers=narrow).status_code == 403
    assert site.client.post("/auth/password", json=body).status_code == 401
    assert site.client.post("/auth/password", json=body, headers=site.bearer()).status_code == 200


# --- tickets ---


def test_a_ticket_stands_for_its_credential_once(site: Site) -> None:
    session = signed_in(site.client)
    answer = site.client.post("/auth/ticket", headers=bearer(session)).json()
    assert set(answer) == {"ticket", "expires_in"}
    assert answer["expires_in"] == 30
    with site.connect() as socket:
        one(socket, "hello")
        socket.send_json({"op": "auth", "token": answer["ticket"]})
        assert one(socket, "ready")["principal"] == "user:u_ada"
    with site.connect() as socket:
        one(socket, "hello")
        socket.send_json({"op": "auth", "token": answer["ticket"]})
        assert one(socket, "ended")["code"] == "auth_failed"


def test_a_ticket_is_no_wider_than_the_token_that_made_it(site: Site) -> None:
    site.run("INSERT INTO user_permissions (user_id, permission) VALUES ('u_ada', 'users.read')")
    for scopes, op in ((None, "snapshot"), ({"permissions": []}, "error")):
        headers = site.bearer(scopes=scopes)
        ticket = site.client.post("/auth/ticket", headers=headers).json()["ticket"]
        with site.connect() as socket:
            one(socket, "hello")
            socket.send_json({"op": "auth", "token": ticket, "watch": ["user:u_grace"]})
            one(socket, "ready")
            assert one(socket, op)


def test_a_ticket_made_before_a_logout_is_void_after_it(site: Site) -> None:
    session = signed_in(site.client)
    ticket = site.client.post("/auth/ticket", headers=bearer(session)).json()["ticket"]
    site.client.post("/auth/logout", headers=bearer(session))
    with site.connect() as socket:
        one(socket, "hello")
        socket.send_json({"op": "auth", "token": ticket})
        assert one(socket, "ended")["code"] == "auth_failed"
