"""What an attacker sends to the routes of administration: every route, every part of a path, every field."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.store.database import Statement
from gateway.web.paging import write_cursor
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, everything, rows
from tests.support.people import add_user, insert

WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "/users/u_ada", {"username": "ada", "plan": "pro"}),
    ("PATCH", "/users/u_ada", {"name": "X"}),
    ("PUT", "/users/u_ada/plan", {"plan": "free"}),
    ("PUT", "/users/u_ada/permissions/can_fly", {"effect": "allow"}),
    ("PUT", "/users/u_ada/roles/pilot", {}),
    ("PUT", "/users/u_ada/quotas/q", {"limit": 1}),
    ("POST", "/users/u_ada/quotas/voice_minutes/adjust", {"amount": 1, "reason": "x"}),
    ("POST", "/plans", {"id": "gold"}),
    ("PUT", "/plans/pro", {"permissions": [], "quotas": {}}),
    ("PATCH", "/plans/pro", {"name": "X"}),
    ("POST", "/roles", {"id": "new"}),
    ("PUT", "/roles/pilot", {"permissions": []}),
    ("PATCH", "/roles/pilot", {"name": "X"}),
    ("PUT", "/roles/organization", {"owner": [], "admin": [], "member": []}),
    ("POST", "/orgs", {"plan": "pro"}),
    ("PUT", "/orgs/o_acme", {"plan": "pro"}),
    ("PATCH", "/orgs/o_acme", {"name": "X"}),
    ("PUT", "/orgs/o_acme/members/u_admin", {"role": "member"}),
    ("POST", "/orgs/o_acme/quotas/voice_minutes/adjust", {"amount": 1, "reason": "x"}),
    ("POST", "/admin/revoke-before", {"at": "2001-01-01T00:00:00Z"}),
]
PATHS: list[tuple[str, str, Any]] = [
    *WRITES,
    *(("GET", path, None) for path in ("/users/u_ada", "/users/u_ada/grants", "/plans/pro", "/roles/pilot")),
    *(("GET", path, None) for path in ("/orgs/o_acme", "/orgs/o_acme/members", "/users/u_ada/sessions")),
    *(("DELETE", path, None) for path in ("/users/u_ada", "/plans/pro", "/roles/pilot", "/orgs/o_acme")),
    *(("DELETE", f"/users/u_ada/{part}", None) for part in ("permissions/x", "roles/pilot", "quotas/q")),
    *(("DELETE", f"/users/u_ada/{part}", None) for part in ("sessions/s_1", "tokens/t_1")),
    ("DELETE", "/orgs/o_acme/members/u_grace", None),
]
LISTS = ("/users", "/plans", "/roles", "/orgs", "/orgs/o_acme/members", "/audit")
SQL = (
    "x' OR '1'='1",
    "1; DROP TABLE users; --",
    "u_ada' UNION SELECT password_hash FROM users --",
    '"; DELETE FROM users',
)


@pytest.fixture
def site(site: Site) -> Site:
    site.write(insert("roles", id="pilot"))
    site.run("UPDATE users SET password_hash = 'hash-of-' || id")
    return site


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


# --- mass assignment ---


EXTRAS: list[dict[str, Any]] = [
    *({"password_hash": "x"}, {"user_id": "u_admin"}, {"actor": "user:u_ada"}, {"seq": 0}, {"Is_Admin": True}),
    *({"__proto__": {"is_admin": True}}, {"constructor": {}}, {"\u0000": 1}, {"is_admin\u0000": True}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_no_field_slips_in(site: Site, admin: ApiCaller, method: str, path: str, body: dict[str, Any]) -> None:
    before = everything(site)
    for extra in EXTRAS:
        admin.refused(422, method, path, body | extra)
    assert everything(site) == before


@pytest.mark.parametrize("field", ["is_admin", "status", "plan", "password_hash", "id", "anything"])
def test_users_get_no_field_of_theirs_by_any_route(site: Site, field: str) -> None:
    values = {"is_admin": True, "status": "disabled", "plan": "enterprise", "id": "u_admin"}
    ada = ApiCaller(site, "u_ada")
    before = everything(site)
    for method, path, body in WRITES:
        if not path.startswith("/orgs/"):
            assert ada(method, path, body | {field: values.get(field, "x")}).status_code in (403, 422)
    assert everything(site) == before


# --- odd paths ---


ODD_PARTS = [
    *(
        "%00",
        "u_ada%00",
        "%2e%2e",
        "..%2f..",
        "u_ada%2f",
        "%20",
        "u_ada%20",
        "u_ada%0d%0aX-Injected:1",
        "-",
        "_",
    ),
    *("'", "%27%20OR%201=1", "u_ada;", "u_ada%3b", "*", "%25", "%F0%9F%91%A4", "%ff", "a" * 65, "A" * 5000, "u:ada%5c"),
]


@pytest.mark.parametrize("part", ODD_PARTS)
def test_odd_names_in_paths_name_nothing(site: Site, admin: ApiCaller, part: str) -> None:
    before = everything(site)
    for method, path, body in PATHS:
        pieces = path.split("/")
        for place in range(2, len(pieces), 2):
            odd = "/".join([*pieces[:place], part, *pieces[place + 1 :]])
            if path != "/roles/organization" and path != "/admin/revoke-before":
                answered = admin(method, odd, body)
                assert answered.status_code in (404, 405), (method, odd, answered.status_code, answered.text)
                assert "x-injected" not in answered.headers
    assert everything(site) == before


# --- SQL ---


@pytest.mark.parametrize("text", SQL)
def test_sql_in_a_field_is_text_or_refused(site: Site, admin: ApiCaller, text: str) -> None:
    tables = everything(site)
    for method, path, body in WRITES:
        for field in body:
            if isinstance(body[field], str) and field not in ("name", "reason"):
                admin.refused(422, method, path, body | {field: text})
    for query in ("query", "plan"):
        found = site.client.get("/users", params={query: text}, headers=admin.headers)
        assert found.json() == {"items": [], "next": None}
    assert site.client.get("/audit", params={"user": text}, headers=admin.headers).json()["items"] == []
    assert everything(site) == tables
    assert admin.done("PATCH", "/users/u_ada", {"name": text, "attributes": {text[:64]: text}})["name"] == text
    assert admin.done("PATCH", "/plans/pro", {"name": text})["name"] == text
    assert admin.done("PATCH", "/roles/pilot", {"name": text})["name"] == text
    assert admin.done("PATCH", "/orgs/o_acme", {"name": text})["name"] == text
    assert rows(site, "SELECT count(*), count(password_hash) FROM users") == [(4, 4)]


def test_no_answer_and_no_entry_holds_a_secret(site: Site, admin: ApiCaller) -> None:
    texts = [admin(method, path, body).text for method, path, body in PATHS]
    texts += [admin("GET", path).text for path in LISTS]
    texts += [str(row) for row in rows(site, "SELECT * FROM audit")]
    hashes = [row[0] for row in rows(site, "SELECT token_hash FROM api_tokens")]
    for text in texts:
        assert "hash" not in text
        assert not any(secret in text for secret in hashes)
        assert admin.headers["authorization"].removeprefix("Bearer ") not in text


# --- hostile JSON ---


HOSTILE = [
    *(
        b"",
        b"{",
        b'{"name": NaN}',
        b'{"name": "x"} x',
        b"\xef\xbb\xbf{}",
        '{"name": "x"}'.encode("utf-16"),
        b'{"name": "\xff"}',
    ),
    *(
        b'{"attributes": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"attributes": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    ),
    *(
        b'{"attributes": {"a": 1e999}}',
        b'{"attributes": {"a": 1' + b"0" * 4000 + b"}}",
        b'{"name": "\\ud800"}',
        b"null",
        b"[]",
        b'"x"',
    ),
    *(b'{"attributes": {"\\ud800": 1}}', b'{"attributes": {"a": "\\u0000"}}', b"1", b'{"is_admin": "true"}'),
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/users/u_ada"), ("PUT", "/users/u_ada"), ("PATCH", "/orgs/o_acme")]
)
def test_hostile_json_is_refused(site: Site, admin: ApiCaller, method: str, path: str, content: bytes) -> None:
    before = rows(site, "SELECT * FROM users ORDER BY id"), rows(site, "SELECT * FROM organizations")
    headers = admin.headers | {"content-type": "application/json"}
    answered = site.client.request(method, path, headers=headers, content=content)
    if content or method == "PUT":
        assert answered.status_code in (400, 415, 422), answered.text
    assert (rows(site, "SELECT * FROM users ORDER BY id"), rows(site, "SELECT * FROM organizations")) == before


@pytest.mark.parametrize(
    "levels", [9, 100, 400, 700, 800, 850, 880, 900, 910, 920, 930, 940, 950, 960, 970, 980, 990, 1000]
)
def test_no_depth_of_nesting_is_a_fault(site: Site, admin: ApiCaller, levels: int) -> None:
    headers = admin.headers | {"content-type": "application/json"}
    for opening, closing in ((b'{"a":', b"}"), (b"[", b"]")):
        content = b'{"attributes": {"a": ' + opening * levels + b"1" + closing * levels + b"}}"
        for path in ("/users/u_ada", "/orgs/o_acme"):
            assert site.client.patch(path, headers=headers, content=content).status_code in (400, 422)
        assert site.client.post("/orgs", headers=headers, content=content).status_code in (400, 422)


def test_a_body_that_is_too_large_is_refused(site: Site, admin: ApiCaller) -> None:
    before = everything(site)
    for method, path, body in WRITES:
        admin.refused(413, method, path, body | {"name": "x" * 70_000})
    assert everything(site) == before


def test_of_a_name_that_is_there_twice_one_value_is_looked_at_and_taken(site: Site, admin: ApiCaller) -> None:
    ada = ApiCaller(site, "u_ada")
    for content in (
        '{"name": "A", "is_admin": true, "is_admin": false}',
        '{"is_admin": false, "name": "A", "is_admin": true}',
    ):
        headers = ada.headers | {"content-type": "application/json"}
        assert site.client.patch("/users/u_ada", headers=headers, content=content).status_code == 403
    assert rows(site, "SELECT is_admin, name FROM users WHERE id = 'u_ada'") == [(0, "Ada Lovelace")]


# --- cursors and limits ---


def test_cursors_that_nobody_gave_out_are_bad_requests(site: Site, admin: ApiCaller) -> None:
    site.write(*(add_user(f"u_{number}") for number in range(3)))
    good = {path: admin.done("GET", f"{path}?limit=1").get("next") for path in LISTS}
    users = good["/users"]
    assert users is not None
    raw = base64.urlsafe_b64decode(users + "=" * (-len(users) % 4))
    forged = [
        *(
            "",
            "x",
            "=",
            "====",
            "ada",
            "0",
            "-1",
            "null",
            "%00",
            "\u00e4",
            "' OR 1=1 --",
            users[:-1],
            users + "A",
            users + "=",
            users[1:],
        ),
        *(
            users.swapcase(),
            " " + users,
            base64.urlsafe_b64encode(raw[:6] + b'"zzz"').decode(),
            base64.urlsafe_b64encode(raw).decode() + "=",
        ),
        *(
            base64.urlsafe_b64encode(b'"ada"').decode(),
            base64.urlsafe_b64encode(json.dumps({"after": "ada"}).encode()).decode(),
        ),
        *(write_cursor("somewhere", "ada"), "A" * 10_000),
    ]
    for path, cursor in itertools.product(LISTS, forged):
        answered = site.client.get(path, params={"cursor": cursor}, headers=admin.headers)
        assert answered.status_code == 400, (path, cursor, answered.text)
    for path in LISTS:
        if path != "/users":
            admin.refused(400, "GET", f"{path}?cursor={users}")
    admin.refused(400, "GET", f"/audit?cursor={write_cursor('audit', 'ada')}")
    admin.refused(400, "GET", f"/users?cursor={write_cursor('users', 5)}")


@pytest.mark.parametrize("path", LISTS)
def test_limits_out_of_range_are_bad_requests(admin: ApiCaller, path: str) -> None:
    for limit in (
        "0",
        "-1",
        "201",
        "1000000",
        "9" * 30,
        "1.5",
        "x",
        "",
        "%00",
        "NaN",
        "true",
        "null",
        "0x10",
        " 5x",
    ):
        admin.refused(400, "GET", f"{path}?limit={limit}")
    admin.refused(400, "GET", f"{path}?limit=5&limit=6")
    for limit in ("1", "200"):
        admin.done("GET", f"{path}?limit={limit}")


# --- callers who lose their rights on the way ---


async def slow_patch(site: Site, caller: ApiCaller, path: str, body: Any, meanwhile: str) -> Any:
    """A request whose body comes only after `meanwhile` was committed."""
    content = json.dumps(body).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield content[:1]
        await asyncio.sleep(0)
        await site.node.database.write(Statement(meanwhile))
        yield content[1:]

    transport = httpx2.ASGITransport(app=site.client.app)
    headers = caller.headers | {"content-type": "application/json"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.patch(path, headers=headers, content=chunks())


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE users SET status = 'disabled' WHERE id = 'u_second'",
        "DELETE FROM users WHERE id = 'u_second'",
        "UPDATE users SET is_admin = 0 WHERE id = 'u_second'",
    ],
)
def test_rights_that_end_while_the_body_comes_are_no_rights(site: Site, meanwhile: str) -> None:
    site.write(add_user("u_second", is_admin=1))
    second = ApiCaller(site, "u_second")
    answered = site.call(slow_patch, site, second, "/users/u_ada", {"is_admin": True}, meanwhile)
    assert answered.status_code in (401, 403, 404)
    assert rows(site, "SELECT is_admin FROM users WHERE id = 'u_ada'") == [(0,)]
    assert rows(site, "SELECT count(*) FROM audit") == [(0,)]


@pytest.mark.parametrize(
    "meanwhile", ["UPDATE users SET status = 'disabled' WHERE id = 'u_ada'", "DELETE FROM users WHERE id = 'u_ada'"]
)
def test_nobody_who_is_gone_changes_even_the_own_account(site: Site, meanwhile: str) -> None:
    ada = ApiCaller(site, "u_ada")
    answered = site.call(slow_patch, site, ada, "/users/u_ada", {"name": "Ghost"}, meanwhile)
    assert answered.status_code == 401
    assert rows(site, "SELECT count(*) FROM users WHERE name = 'Ghost'") == [(0,)]


@pytest.mark.parametrize("path", ["/users/u_admin", "/users/u_ada", "/plans/pro", "/orgs/o_acme"])
def test_a_credential_that_is_revoked_while_the_body_comes_is_refused(site: Site, path: str) -> None:
    caller = ApiCaller(site, "u_admin", id="t_slow")
    meanwhile = "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_slow'"
    answered = site.call(slow_patch, site, caller, path, {"name": "Ghost"}, meanwhile)
    assert answered.status_code == 401
    for table in ("users", "plans", "organizations"):
        assert rows(site, f"SELECT count(*) FROM {table} WHERE name = 'Ghost'") == [(0,)]


# --- a permission is not its neighbour ---


OWNS: dict[str, set[str]] = {
    "users.read": {"GET /users", "GET /users/u_alan", "GET /plans", "GET /plans/pro", "GET /roles"},
    "users.write": {
        *("GET /users", "GET /users/u_alan", "GET /users/u_alan/grants", "GET /plans", "GET /plans/pro", "GET /roles"),
        *("PATCH /users/u_alan", "PUT /users/u_alan/permissions/can_fly"),
    },
    "plans.write": {"GET /plans", "GET /plans/pro", "PATCH /plans/pro"},
    "roles.write": {"GET /roles", "PATCH /roles/pilot"},
    "orgs.read": {"GET /orgs/o_beta", "GET /orgs/o_beta/members"},
    "orgs.write": {
        *("GET /orgs/o_beta", "GET /orgs/o_beta/members", "PATCH /orgs/o_beta", "PUT /orgs/o_beta/members/u_grace"),
        *("GET /plans", "GET /plans/pro"),
    },
    "tokens.introspect": set(),
    "users": set(),
    "users.*": set(),
    "*": set(),
    "is_admin": set(),
}


@pytest.mark.parametrize("permission", OWNS)
def test_each_permission_opens_its_own_routes_and_no_others(site: Site, permission: str) -> None:
    site.write(insert("organizations", id="o_beta", plan="free"))
    caller = ApiCaller(site, "u_grace", permission)
    opened = set()
    for method, path, body in (
        *(("GET", path, None) for path in ("/users", "/users/u_alan", "/users/u_alan/grants", "/plans", "/plans/pro")),
        *(("GET", path, None) for path in ("/roles", "/orgs/o_beta", "/orgs/o_beta/members", "/audit")),
        ("PATCH", "/users/u_alan", {"name": "X"}),
        ("PUT", "/users/u_alan/permissions/can_fly", {"effect": "allow"}),
        ("PATCH", "/plans/pro", {"name": "X"}),
        ("PATCH", "/roles/pilot", {"name": "X"}),
        ("PATCH", "/orgs/o_beta", {"name": "X"}),
        ("PUT", "/orgs/o_beta/members/u_grace", {"role": "member"}),
        ("POST", "/admin/revoke-before", {"at": "2001-01-01T00:00:00Z"}),
    ):
        answered = caller(method, path, body)
        assert answered.status_code in (200, 403, 404)
        if answered.status_code == 200:
            opened.add(f"{method} {path}")
    assert opened == OWNS[permission]
