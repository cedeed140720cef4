"""Making users: by administrators alone, with the fields that there are, and with a password that may be one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.store.audit import AuditRow, list_audit
from gateway.store.database import Statement
from tests.gateway.web.conftest import Json, Site, StartSite, opened
from tests.support.signed_in import ORIGIN, PASSWORD, Browser, cheap_hash

MARY: Json = {
    "username": "mary",
    "name": "Mary Somerville",
    "email": "mary@example.org",
    "plan": "pro",
    "password": PASSWORD,
}


@pytest.fixture
def site(start_site: StartSite) -> Site:
    return start_site(base_url=ORIGIN)


def register(site: Site, body: Any = MARY, headers: Any = None, **fields: Any) -> Any:
    body = {**body, **fields} if isinstance(body, dict) else body
    return site.client.post("/auth/register", json=body, headers=headers or site.bearer("u_admin"))


def users(site: Site) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = site.call(
        site.node.database.read,
        Statement("SELECT id, username, email, plan, is_admin, status, password_hash FROM users ORDER BY id"),
    )[0]
    return rows


def trail(site: Site) -> list[AuditRow]:
    async def read() -> list[AuditRow]:
        return await list_audit(site.node.database, action="user.create")

    rows: list[AuditRow] = site.call(read)
    return rows


def test_a_new_user_can_sign_in_at_once(site: Site) -> None:
    answer = register(site, attributes={"persona": "boss"}, timezone="Europe/London")
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/users/{made['id']}"
    assert made["seq"] == int(answer.headers["gateway-seq"])
    for name in ("username", "name", "email", "plan"):
        assert made[name] == MARY[name]
    assert (made["is_admin"], made["status"], made["timezone"]) == (False, "active", "Europe/London")
    assert made["attributes"] == {"persona": "boss"}
    assert PASSWORD not in answer.text
    assert "hash" not in answer.text
    session = site.client.post("/auth/login", json={"username": "mary", "password": PASSWORD}).json()
    headers = {"authorization": f"Bearer {session['access_token']}"}
    identity = site.client.get("/api/identity", headers=headers).json()
    assert (identity["id"], identity["name"], identity["persona"]) == (made["id"], "Mary Somerville", "boss")
    with site.connect(headers) as socket:
        assert opened(socket)["doc"] == f"user:{made['id']}"
    read = site.client.get(answer.headers["location"], headers=headers)
    assert read.json()["id"] == made["id"]


def test_it_is_in_the_audit_trail_without_the_password(site: Site) -> None:
    made = register(site).json()
    [row] = trail(site)
    assert (row.actor, row.target, row.outcome) == ("user:u_admin", f"user:{made['id']}", "ok")
    assert row.after["username"] == "mary"
    assert PASSWORD not in repr(row)
    assert "argon2" not in repr(row)


def test_the_least_that_is_needed(site: Site) -> None:
    made = register(site, {"username": "eve", "plan": "free"}).json()
    assert (made["name"], made["email"], made["attributes"], made["timezone"]) == ("", None, {}, "UTC")
    assert register(site, {"username": "may"}).json()["plan"] == made["plan"] == "free"
    assert site.client.post("/auth/login", json={"username": "eve", "password": ""}).status_code == 401
    assert site.client.post("/auth/login", json={"username": "eve", "password": PASSWORD}).status_code == 401


def test_an_id_may_be_given_and_an_administrator_made(site: Site) -> None:
    made = register(site, id="u_mary", is_admin=True).json()
    assert (made["id"], made["is_admin"]) == ("u_mary", True)
    assert register(site, {"username": "eve", "plan": "free"}, site.bearer("u_mary")).status_code == 201


def test_without_the_plan_of_those_who_name_none_one_has_to_be_named(site: Site) -> None:
    site.run("UPDATE users SET plan = 'pro' WHERE plan = 'free'")
    site.run("UPDATE organizations SET plan = 'pro' WHERE plan = 'free'")
    site.run("DELETE FROM plans WHERE id = 'free'")
    assert register(site, {"username": "eve"}).status_code == 422
    assert register(site, {"username": "eve", "plan": "pro"}).status_code == 201


# --- who may ---


def test_administrators_alone_make_users(site: Site) -> None:
    site.run("INSERT INTO user_permissions (user_id, permission) VALUES ('u_ada', 'users.write')")
    before = users(site)
    for headers, status in (
        (site.bearer("u_ada"), 403),
        (site.bearer("u_grace"), 403),
        (site.bearer("u_admin", scopes={"permissions": ["users.write"]}), 403),
        (site.bearer("u_admin", scopes={"permissions": []}), 403),
        ({"authorization": "Bearer nonsense"}, 401),
        ({"x-user-id": "u_admin"}, 401),
    ):
        assert register(site, headers=headers).status_code == status
        assert register(site, headers=headers, is_admin=True).status_code == status
    site.run("UPDATE users SET is_admin = 0 WHERE id = 'u_admin'")
    admin = site.bearer("u_admin")
    assert site.client.post("/auth/register", json=MARY, headers=admin).status_code in (401, 403)
    assert [row[:4] for row in users(site)] == [row[:4] for row in before]
    assert trail(site) == []


def test_an_administrator_in_a_browser_needs_the_csrf_token(site: Site) -> None:
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    browser = Browser(site.client)
    browser.sign_in("root")
    assert browser.post("/auth/register", MARY, x_csrf_token=None).status_code == 403
    assert browser.post("/auth/register", MARY, origin="https://evil.example").status_code == 403
    assert browser.post("/auth/register", MARY).status_code == 201


# --- what may stand there ---


@pytest.mark.parametrize(
    "more",
    [
        {"status": "disabled"},
        {"password_hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA"},
        {"created_at": "2001-01-01T00:00:00.000Z"},
        {"updated_at": 1},
        {"anchor_at": 1},
        {"permissions": ["users.write"]},
        {"roles": ["admin"]},
        {"quotas": {}},
        {"organizations": []},
        {"seq": 1},
        {"Is_Admin": True},
        {"isAdmin": True},
        {"__proto__": {"is_admin": True}},
    ],
)
def test_other_fields_are_refused(site: Site, more: Json) -> None:
    before = users(site)
    answer = register(site, **more)
    assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
    assert users(site) == before


BAD_VALUES: dict[str, list[Any]] = {
    "username": ["", "a" * 65, "two words", "a@b", "line\n", "nul\0", "-x", "a\u200bb", 1, None],
    "email": ["", "mary", "mary@", "m@localhost", "a\n@example.org", "m\u00e4ry@example.org", 1],
    "name": ["x" * 201, "a\nb", "\x1b[31m", None, []],
    "plan": ["", "no such plan", "nobodysplan", "../pro", None],
    "timezone": ["", "Mars/Olympus", "../../etc/passwd", None],
    "id": ["", "a" * 65, "a/b", "user:x", "a@b", ".x", "a b", "\u00e4"],
    "is_admin": ["true", 1, None],
    "attributes": [None, [], "x", {"": 1}, {"a\0": 1}, {"a": "b\0"}, {"a": 2**53}, {"\u00e4": 1}],
}
BAD_VALUES["attributes"] += [{"a": "x" * 17_000}, json.loads('{"a":' * 9 + "1" + "}" * 9)]


@pytest.mark.parametrize("more", [{name: value} for name, values in BAD_VALUES.items() for value in values])
def test_values_out_of_bounds_are_refused_with_a_sentence(site: Site, more: Json) -> None:
    before = users(site)
    answer = register(site, **more)
    assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable"), answer.text
    assert answer.json()["detail"].isprintable()
    assert PASSWORD not in answer.text
    assert users(site) == before
    assert trail(site) == []


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "at least 15"),
        ("password12345678", "common word"),
        ("aaaaaaaaaaaaaaaaaaaa", "repetitions"),
        ("123456789012345678", "sequences"),
        ("mary somerville", "name"),
        ("x" * 1025, "at most 1024"),
        ("moons of\0 jupiter, four", "NUL"),
        ("", "empty"),
    ],
)
def test_a_password_that_may_not_be_one_is_refused_with_a_sentence(site: Site, password: str, why: str) -> None:
    before = users(site)
    answer = register(site, password=password)
    assert answer.status_code == 422
    assert why in answer.json()["detail"]
    assert answer.json()["detail"].endswith(".")
    assert not password or password not in answer.text
    assert users(site) == before


def test_words_of_the_place_are_refused(start_site: StartSite) -> None:
    site = start_site(auth={"blocked_words": ("xylophone",), "min_password_length": 10})
    assert register(site, password="Xylophone2026!").status_code == 422
    assert register(site, password="moons of j").status_code == 201


def test_any_unicode_may_be_a_password_in_any_spelling(site: Site) -> None:
    """NFKC: the same characters typed another way are the same password."""
    assert register(site, password="\uff2donde des Ju\u0308piter ☕ \ufb01nal").status_code == 201
    answer = site.client.post("/auth/login", json={"username": "mary", "password": "Monde des Jüpiter ☕ final"})
    assert answer.status_code == 200


def test_names_that_are_taken_are_a_conflict(site: Site) -> None:
    before = users(site)
    for more in (
        {"username": "ada"},
        {"username": "ADA"},
        {"username": "\uff41\uff44\uff41"},
        {"email": "ada@example.org"},
        {"email": "ADA@example.org"},
        {"id": "u_ada"},
    ):
        answer = register(site, **more)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), more
    assert users(site) == before
    assert trail(site) == []


@pytest.mark.parametrize("field", ["username", "email", "name", "plan", "timezone", "id", "password"])
def test_sql_in_a_field_does_nothing(site: Site, field: str) -> None:
    before = users(site)
    answer = register(site, **{field: "x'); DROP TABLE users; -- 12345"})
    assert answer.status_code in (201, 422)
    assert [row for row in users(site) if row in before] == before


def test_bodies_that_nest_without_end_are_refused(site: Site) -> None:
    headers: Json = site.bearer("u_admin") | {"content-type": "application/json"}
    for deep in (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"[" * 30_000 + b"]" * 30_000):
        content = b'{"username":"eve","plan":"free","attributes":' + deep + b"}"
        answer = site.client.post("/auth/register", content=content, headers=headers)
        assert answer.status_code in (400, 413, 422)
    for number in (b"NaN", b"1e999", b"-Infinity", b"1" + b"0" * 5_000):
        content = b'{"username":"eve","plan":"free","attributes":{"a":' + number + b"}}"
        answer = site.client.post("/auth/register", content=content, headers=headers)
        assert answer.status_code in (400, 422), number
    assert site.client.get("/health").status_code == 200
