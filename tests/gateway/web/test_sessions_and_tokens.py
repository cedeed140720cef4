"""The own login sessions and API tokens: seen, made and ended, by their owner alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.core.clock import parse_rfc3339, rfc3339
from gateway.core.tokens import hash_token, is_api_token
from gateway.store.audit import AuditRow, list_audit
from gateway.store.database import Database, Statement, Written
from gateway.web.credentials import MAX_TOKENS, MAX_TOKENS_A_DAY
from gateway.web.paging import write_cursor
from tests.gateway.web.conftest import Json, Site, StartSite, one, opened
from tests.support.api_caller import rows
from tests.support.signed_in import ORIGIN, PASSWORD, Browser, cheap_hash

HOUR_MS = 3_600_000


@pytest.fixture
def site(start_site: StartSite) -> Site:
    site = start_site(base_url=ORIGIN)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    return site


class Client:
    """Somebody who asks with one bearer token."""

    def __init__(self, site: Site, headers: Json) -> None:
        self._site = site
        self.headers = headers

    def get(self, path: str) -> Any:
        return self._site.client.get(path, headers=self.headers)

    def post(self, path: str, body: Any = None) -> Any:
        return self._site.client.post(path, json=body, headers=self.headers)

    def delete(self, path: str) -> Any:
        return self._site.client.delete(path, headers=self.headers)


def signed_in(site: Site, username: str = "ada", **headers: str) -> tuple[Client, str]:
    """Somebody with a new login session, and its id."""
    answer = site.client.post("/auth/login", json={"username": username, "password": PASSWORD}, headers=headers).json()
    return Client(site, {"authorization": f"Bearer {answer['access_token']}"}), answer["session"]


def with_token(site: Site, user: str = "u_ada", **columns: Any) -> Client:
    return Client(site, site.bearer(user, **columns))


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def trail(site: Site, action: str) -> list[AuditRow]:
    async def read() -> list[AuditRow]:
        return await list_audit(site.node.database, action=action)

    rows: list[AuditRow] = site.call(read)
    return rows


def now_ms(site: Site) -> int:
    return site.node.clock.now().wall


# --- login sessions ---


def test_the_own_sessions_in_force_are_listed(site: Site) -> None:
    ada, first = signed_in(site, **{"user-agent": "Telephone/1.0"})
    _, second = signed_in(site)
    signed_in(site, "grace")
    _, ended = signed_in(site)
    _, gone = signed_in(site)
    site.run("UPDATE login_sessions SET revoked_at = 1 WHERE id = ?", ended)
    site.run("UPDATE login_sessions SET expires_at = 1 WHERE id = ?", gone)
    items = ada.get("/auth/sessions").json()["items"]
    assert [(item["id"], item["current"]) for item in items] == [(first, True), (second, False)]
    shown = items[0]
    assert set(shown) == {
        *("id", "created_at", "expires_at", "revoked_at", "last_seen_at"),
        *("instance_id", "ip", "user_agent", "current"),
    }
    assert (shown["ip"], shown["user_agent"]) == ("127.0.0.1", "Telephone/1.0")
    assert parse_rfc3339(shown["created_at"]) <= now_ms(site) < parse_rfc3339(shown["expires_at"])


def test_an_api_token_sees_them_and_none_is_its_own(site: Site) -> None:
    signed_in(site)
    items = with_token(site).get("/auth/sessions").json()["items"]
    assert [item["current"] for item in items] == [False]


def test_ending_a_session_closes_its_sockets_and_is_in_the_audit_trail(site: Site) -> None:
    ada, _ = signed_in(site)
    phone, session = signed_in(site)
    with site.connect(phone.headers) as socket:
        opened(socket)
        answer = ada.delete(f"/auth/sessions/{session}")
        assert answer.json() == {"seq": int(answer.headers["gateway-seq"])}
        assert one(socket, "ended")["code"] == "revoked"
    assert phone.get("/api/identity").status_code == 401
    assert session not in ids(ada.get("/auth/sessions"))
    [row] = trail(site, "session.revoke")
    assert (row.actor, row.target, row.address) == ("user:u_ada", "user:u_ada", "127.0.0.1")
    assert row.after == {"id": session}


def test_a_session_of_somebody_else_is_as_one_that_is_not_there(site: Site) -> None:
    ada, _ = signed_in(site)
    grace, of_grace = signed_in(site, "grace")
    root, _ = signed_in(site, "root")
    _, ended = signed_in(site)
    assert ada.delete(f"/auth/sessions/{ended}").status_code == 200
    answers = [ada.delete(f"/auth/sessions/{id}") for id in (of_grace, "s_nobody", ended, "t_1", "%00", "..", "a" * 65)]
    answers += [root.delete(f"/auth/sessions/{of_grace}")]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert len({answer.text for answer in answers[:4]}) == 1
    assert grace.get("/api/identity").status_code == 200
    assert len(trail(site, "session.revoke")) == 1


# --- API tokens ---


def test_a_new_token_is_shown_once_and_works(site: Site) -> None:
    ada, _ = signed_in(site)
    end = rfc3339(now_ms(site) + HOUR_MS)
    body = {"name": "Kitchen ☕", "scopes": {"permissions": ["can_use_voice", "can_use_sms", "can_use_voice"]}}
    answer = ada.post("/auth/tokens", {**body, "expires_at": end})
    made = answer.json()
    assert answer.status_code == 201
    assert set(made) == {"token", "id", "name", "scopes", "expires_at", "seq"}
    assert made["seq"] == int(answer.headers["gateway-seq"])
    assert is_api_token(made["token"])
    assert made["scopes"] == {"permissions": ["can_use_sms", "can_use_voice"]}
    assert made["expires_at"] == end
    listed = ada.get("/auth/tokens")
    [item] = listed.json()["items"]
    assert item == {
        **{name: made[name] for name in ("id", "name", "scopes", "expires_at")},
        "created_at": item["created_at"],
        "revoked_at": None,
        "last_used_at": None,
    }
    assert made["token"] not in listed.text
    assert hash_token(made["token"]) not in listed.text
    using = Client(site, {"authorization": f"Bearer {made['token']}"})
    assert using.get("/api/identity").json()["id"] == "u_ada"
    [row] = trail(site, "token.issue")
    assert (row.actor, row.target, row.after["id"]) == ("user:u_ada", "user:u_ada", made["id"])
    assert made["token"] not in repr(row)
    assert row.after["name"] == "Kitchen ☕"


def test_a_token_without_scopes_or_end_has_all_and_lasts(site: Site) -> None:
    ada, _ = signed_in(site)
    made = ada.post("/auth/tokens", {"name": "all"}).json()
    assert (made["scopes"], made["expires_at"]) == (None, None)
    using = Client(site, {"authorization": f"Bearer {made['token']}"})
    assert using.get("/auth/tokens").status_code == 200
    validated = using.post("/api/auth/validate").json()
    assert (validated["session"], validated["expires_at"]) == (made["id"], None)


def test_the_list_has_those_in_force(site: Site) -> None:
    ada, _ = signed_in(site)
    kept, revoked, ended = (ada.post("/auth/tokens", {"name": name}).json()["id"] for name in "abc")
    with_token(site, "u_grace")
    ada.delete(f"/auth/tokens/{revoked}")
    site.run("UPDATE api_tokens SET expires_at = 1 WHERE id = ?", ended)
    site.run("UPDATE api_tokens SET expires_at = 9223372036854775807 WHERE id = ?", kept)
    assert ids(ada.get("/auth/tokens")) == [kept]


def test_revoking_a_token_closes_its_sockets(site: Site) -> None:
    ada, _ = signed_in(site)
    made = ada.post("/auth/tokens", {"name": "x"}).json()
    using = Client(site, {"authorization": f"Bearer {made['token']}"})
    with site.connect(using.headers) as socket:
        opened(socket)
        answer = ada.delete(f"/auth/tokens/{made['id']}")
        assert answer.json() == {"seq": int(answer.headers["gateway-seq"])}
        assert one(socket, "ended")["code"] == "revoked"
    assert using.get("/api/identity").status_code == 401
    again = ada.delete(f"/auth/tokens/{made['id']}")
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert len(trail(site, "token.revoke")) == 1


def test_a_token_of_somebody_else_is_as_one_that_is_not_there(site: Site) -> None:
    ada, _ = signed_in(site)
    grace, _ = signed_in(site, "grace")
    theirs = grace.post("/auth/tokens", {"name": "x"}).json()
    for id in (theirs["id"], "t_nobody", "'; DELETE FROM api_tokens; --", "%2e%2e"):
        assert ada.delete(f"/auth/tokens/{id}").status_code == 404
    assert Client(site, {"authorization": f"Bearer {theirs['token']}"}).get("/api/identity").status_code == 200


def test_a_token_may_revoke_itself(site: Site) -> None:
    token = with_token(site, id="t_self")
    assert token.delete("/auth/tokens/t_self").status_code == 200
    assert token.get("/api/identity").status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 201},
        {"name": "line\nbreak"},
        {"name": "nul\0"},
        {"name": "\x1b[31m"},
        {"name": 1},
        {"name": None},
        {"name": "x", "scopes": {}},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": {"permissions": None}},
        {"name": "x", "scopes": {"permissions": ["not a name"]}},
        {"name": "x", "scopes": {"permissions": ["'; DROP TABLE users; --"]}},
        {"name": "x", "scopes": {"permissions": [f"p{number}" for number in range(101)]}},
        {"name": "x", "scopes": {"permissions": [], "admin": True}},
        {"name": "x", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "tomorrow"},
        {"name": "x", "expires_at": "10000-01-01T00:00:00Z"},
        {"name": "x", "expires_at": 4102444800000},
        {"name": "x", "expires_at": ""},
        *({"name": "x", **more} for more in ({"user_id": "u_admin"}, {"id": "t_1"}, {"token_hash": "a" * 64})),
    ],
)
def test_what_is_no_token_is_told_so(site: Site, body: Any) -> None:
    ada, _ = signed_in(site)
    answer = ada.post("/auth/tokens", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
    assert answer.text.isprintable()
    assert ids(ada.get("/auth/tokens")) == []


def test_sql_in_a_name_is_a_name(site: Site) -> None:
    ada, _ = signed_in(site)
    name = "x'); DELETE FROM api_tokens; --"
    assert ada.post("/auth/tokens", {"name": name}).json()["name"] == name
    assert [item["name"] for item in ada.get("/auth/tokens").json()["items"]] == [name]


def test_a_user_has_so_many_tokens_and_no_more(site: Site) -> None:
    ada, _ = signed_in(site)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: ada.post("/auth/tokens", {"name": str(n)}), range(MAX_TOKENS + 20)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(201), statuses.count(409)) == (MAX_TOKENS, 20)
    tokens = ids(ada.get("/auth/tokens?limit=200"))
    assert len(tokens) == MAX_TOKENS
    assert len(trail(site, "token.issue")) == 100
    ada.delete(f"/auth/tokens/{tokens[0]}")
    site.run("UPDATE api_tokens SET expires_at = 1 WHERE id = ?", tokens[1])
    assert [ada.post("/auth/tokens", {"name": "x"}).status_code for _ in range(3)] == [201, 201, 409]


def test_a_user_makes_and_revokes_so_many_tokens_in_a_day_and_no_more(site: Site) -> None:
    """Each that is revoked is told to every instance, for a day: one user must not fill that list."""
    ada, _ = signed_in(site)
    first = ada.post("/auth/tokens", {"name": "x"}).json()["id"]
    assert ada.delete(f"/auth/tokens/{first}").status_code == 200
    made = (
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO api_tokens(id, user_id, token_hash, revoked_at)"
        " SELECT 'more' || i, (SELECT user_id FROM api_tokens), 'hash' || i, 1 FROM n"
    )
    site.run(made, MAX_TOKENS_A_DAY - 2)
    assert ada.post("/auth/tokens", {"name": "x"}).status_code == 201
    answer = ada.post("/auth/tokens", {"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 0
    site.run("UPDATE api_tokens SET created_at = created_at - 86400000 WHERE id = ?", first)
    assert ada.post("/auth/tokens", {"name": "x"}).status_code == 201


# --- credentials with scopes ---


def test_a_token_with_scopes_manages_neither_sessions_nor_tokens(site: Site) -> None:
    _, session = signed_in(site)
    for permissions in ([], ["users.read", "users.write"]):
        narrow = with_token(site, scopes={"permissions": permissions})
        own = narrow.post("/api/auth/validate").json()["session"]
        for answer in (
            *(narrow.get("/auth/sessions"), narrow.delete(f"/auth/sessions/{session}"), narrow.get("/auth/tokens")),
            *(narrow.delete(f"/auth/tokens/{own}"), narrow.post("/auth/register", {"username": "eve", "plan": "free"})),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_token_with_scopes_makes_none(site: Site) -> None:
    """It would not be revoked with the one that made it."""
    narrow = with_token(site, scopes={"permissions": ["can_use_voice"]}, id="t_narrow")
    bodies: list[Json] = [{}, {"scopes": {"permissions": []}}, {"scopes": {"permissions": ["can_use_voice"]}}]
    for body in bodies:
        answer = narrow.post("/auth/tokens", {"name": "x", **body})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert rows(site, "SELECT id FROM api_tokens WHERE user_id = 'u_ada'") == [("t_narrow",)]


# --- a credential that ends between the check of its request and the commit ---

ENDS_A_SESSION = (
    "UPDATE login_sessions SET revoked_at = 1",
    "UPDATE login_sessions SET expires_at = 1",
    "UPDATE login_sessions SET user_id = 'u_grace'",
    "DELETE FROM login_sessions",
    "UPDATE signing_keys SET verifies_until = 1",
    "DELETE FROM signing_keys",
    "UPDATE users SET status = 'disabled'",
    "DELETE FROM users WHERE id = 'u_ada'",
)
ENDS_A_TOKEN = (
    "UPDATE api_tokens SET revoked_at = 1",
    "UPDATE api_tokens SET expires_at = 1",
    "UPDATE api_tokens SET user_id = 'u_grace'",
    "UPDATE api_tokens SET token_hash = 'another'",
    """UPDATE api_tokens SET scopes = '{"permissions": []}'""",
    "DELETE FROM api_tokens",
    "UPDATE users SET status = 'disabled'",
    "DELETE FROM users WHERE id = 'u_ada'",
)


def before_a_token_is_made(monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    """Somebody else commits this right before a token is written, when its request has been checked."""
    write = Database.write

    async def written(database: Database, *statements: Statement) -> Written:
        if any(statement.sql.startswith("INSERT INTO api_tokens") for statement in statements):
            await write(database, Statement(sql))
        return await write(database, *statements)

    monkeypatch.setattr(Database, "write", written)


@pytest.mark.parametrize("sql", ENDS_A_SESSION)
def test_a_login_that_ends_meanwhile_makes_no_token(site: Site, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    ada, _ = signed_in(site)
    before_a_token_is_made(monkeypatch, sql)
    answer = ada.post("/auth/tokens", {"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_failed")
    assert rows(site, "SELECT id FROM api_tokens") == []
    assert trail(site, "token.issue") == []


@pytest.mark.parametrize("sql", ENDS_A_TOKEN)
def test_an_api_token_that_ends_meanwhile_makes_no_other(site: Site, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    token = with_token(site)
    before_a_token_is_made(monkeypatch, sql)
    answer = token.post("/auth/tokens", {"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_failed")
    assert rows(site, "SELECT id FROM api_tokens WHERE name = 'x'") == []
    assert trail(site, "token.issue") == []


def test_what_ends_somebody_elses_login_meanwhile_is_no_matter(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, _ = signed_in(site)
    signed_in(site, "grace")
    before_a_token_is_made(monkeypatch, "UPDATE login_sessions SET revoked_at = 1 WHERE user_id = 'u_grace'")
    assert ada.post("/auth/tokens", {"name": "x"}).status_code == 201


@pytest.mark.parametrize(("kind", "table"), [("sessions", "login_sessions"), ("tokens", "api_tokens")])
def test_of_several_who_end_the_same_one_does(site: Site, kind: str, table: str) -> None:
    ada, _ = signed_in(site)
    _, ended = signed_in(site)
    if kind == "tokens":
        ended = ada.post("/auth/tokens", {"name": "x"}).json()["id"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ada.delete(f"/auth/{kind}/{ended}"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[404] * 7]
    [row] = trail(site, f"{kind[:-1]}.revoke")
    assert (row.target, row.after) == ("user:u_ada", {"id": ended})
    assert rows(site, f"SELECT count(*) FROM {table} WHERE revoked_at IS NOT NULL") == [(1,)]


# --- by cookie ---


def test_a_browser_does_the_same_with_its_cookies(site: Site) -> None:
    browser = Browser(site.client)
    browser.sign_in()
    made = browser.post("/auth/tokens", {"name": "x"})
    assert made.status_code == 201
    assert ids(browser.get("/auth/tokens")) == [made.json()["id"]]
    assert browser.delete(f"/auth/tokens/{made.json()['id']}").status_code == 200
    _, other = signed_in(site)
    assert browser.delete(f"/auth/sessions/{other}").status_code == 200
    assert len(ids(browser.get("/auth/sessions"))) == 1


def test_rows_of_other_programs_are_listed_too(site: Site) -> None:
    """Whatever moments and scopes they wrote."""
    ada, _ = signed_in(site)
    far = 2**62
    site.write(
        Statement(
            "INSERT INTO login_sessions (id, user_id, created_at, expires_at, last_seen_at, ip, user_agent)"
            " VALUES ('s_far', 'u_ada', ?, ?, NULL, NULL, NULL)",
            (-far, far),
        )
    )
    for number, scopes in enumerate(('{"permissions": 1}', '{"other": []}', '{"permissions": ["a", 1]}')):
        site.run(
            "INSERT INTO api_tokens (id, user_id, token_hash, scopes) VALUES (?, 'u_ada', ?, ?)",
            *(f"t_odd{number}", f"odd{number}", scopes),
        )
    session = next(item for item in ada.get("/auth/sessions").json()["items"] if item["id"] == "s_far")
    assert session["created_at"] == "0001-01-01T00:00:00.000Z"
    assert session["expires_at"] == "9999-12-31T23:59:59.999Z"
    assert {item["id"]: item["scopes"] for item in ada.get("/auth/tokens").json()["items"]} == {
        f"t_odd{number}": {"permissions": []} for number in range(3)
    }


def test_very_many_are_listed_page_by_page_and_none_is_left_out(site: Site) -> None:
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
        " INSERT INTO login_sessions (id, user_id, created_at, expires_at, revoked_at)"
        " SELECT printf('s_%04d', i), 'u_ada', i / 7, 4102444800000, iif(i % 100, NULL, 5) FROM n"
    )
    site.run(many)
    ada, current = signed_in(site)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = ada.get("/auth/sessions?limit=200" + (f"&cursor={cursor}" if cursor else "")).json()
        assert len(page["items"]) <= 200
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert seen == [*(f"s_{number:04}" for number in range(1, 1201) if number % 100), current]
    assert ada.delete("/auth/sessions/s_0001").status_code == 200
    assert ada.delete("/auth/sessions/s_0001").status_code == 404


@pytest.mark.parametrize("kind", ["sessions", "tokens"])
def test_a_cursor_that_is_none_is_told_so(site: Site, kind: str) -> None:
    ada, _ = signed_in(site)
    positions = ("", "t_1", "x t_1", "1e3 t_1", f"{2**63} t_1", f"{-(2**63) - 1} t_1", f"{'9' * 5000} t_1")
    for cursor in ("x", write_cursor("users", "1 t_1"), *(write_cursor(kind, position) for position in positions)):
        answer = ada.get(f"/auth/{kind}?cursor={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert ids(ada.get(f"/auth/{kind}?cursor={write_cursor(kind, f'{2**63 - 1} t_1')}")) == []


def test_nobody_lists_anything_without_a_credential(site: Site) -> None:
    for path in ("/auth/sessions", "/auth/tokens"):
        assert site.client.get(path).status_code == 401
    assert site.client.post("/auth/tokens", json={"name": "x"}).status_code == 401
