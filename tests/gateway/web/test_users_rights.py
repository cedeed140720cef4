"""Who may see and change whom: everybody's own, readers, writers, administrators, and tokens that are narrowed."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.administration import OWN_FIELDS
from gateway.web.users import PRIVILEGED as PRIVILEGED_NAMES
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, everything, rows
from tests.support.people import add_plan, add_user

OWN = {"name": "Countess", "email": "countess@example.org", "timezone": "Europe/London", "attributes": {"a": 1}}
PRIVILEGED: dict[str, Any] = {
    **{"username": "other", "plan": "enterprise", "is_admin": True, "status": "disabled"},
    **{"anchor_at": "2026-01-01T00:00:00.000Z", "id": "u_other"},
    **{"created_at": "2001-01-01T00:00:00.000Z", "updated_at": "2001-01-01T00:00:00.000Z"},
}


@pytest.fixture
def ada(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_ada")


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


@pytest.fixture
def writer(site: Site) -> ApiCaller:
    """Grace may write users, and is no administrator."""
    return ApiCaller(site, "u_grace", "users.write")


# --- users and their own account ---


def test_users_see_themselves_and_nobody_else(ada: ApiCaller) -> None:
    assert ada.done("GET", "/users/u_ada")["username"] == "ada"
    ada.refused(403, "GET", "/users")
    absent = ada("GET", "/users/u_nobody")
    foreign = ada("GET", "/users/u_grace")
    assert (foreign.status_code, foreign.content) == (absent.status_code, absent.content)
    assert foreign.status_code == 404


def test_users_may_change_four_fields_of_their_own(site: Site, ada: ApiCaller) -> None:
    body = ada.done("PATCH", "/users/u_ada", OWN)
    assert {name: body[name] for name in OWN if name != "attributes"} == {
        n: v for n, v in OWN.items() if n != "attributes"
    }
    assert body["attributes"]["a"] == 1
    whole = ada.done("GET", "/users/u_ada")
    assert ada.done("PUT", "/users/u_ada", whole | {"name": "Again", "attributes": {}})["attributes"] == {}
    assert rows(site, "SELECT DISTINCT actor FROM audit") == [("user:u_ada",)]


@pytest.mark.parametrize("field", PRIVILEGED)
def test_a_privileged_field_is_forbidden_and_nothing_at_all_changes(site: Site, ada: ApiCaller, field: str) -> None:
    whole, before = ada.done("GET", "/users/u_ada"), everything(site)
    for method, body in (
        ("PATCH", OWN | {field: PRIVILEGED[field]}),
        ("PATCH", OWN | {field: whole[field]} if whole[field] is not None else OWN | {field: PRIVILEGED[field]}),
        ("PUT", whole | OWN | {field: PRIVILEGED[field]}),
    ):
        assert ada.refused(403, method, "/users/u_ada", body)["code"] == "forbidden"
    assert everything(site) == before


def test_a_put_that_would_drop_what_others_set_is_forbidden(site: Site, ada: ApiCaller) -> None:
    site.run("UPDATE users SET anchor_at = 5 WHERE id = 'u_ada'")
    before = everything(site)
    ada.refused(403, "PUT", "/users/u_ada", {"username": "ada", "plan": "pro", "name": "Ada"})
    assert everything(site) == before


def test_an_unknown_field_is_refused_to_everybody(site: Site, admin: ApiCaller, ada: ApiCaller) -> None:
    before = everything(site)
    for field in ("isAdmin", "bogus", "__proto__", ""):
        ada.refused(422, "PATCH", "/users/u_ada", {"name": "X", field: "x"})
    for field in ("password_hash", "password", "permissions", "roles"):
        admin.refused(422, "PATCH", "/users/u_ada", {"name": "X", field: "x"})
    ada.refused(422, "PATCH", "/users/u_ada", {"name": 5})
    assert everything(site) == before


COLUMNS = ("id", "username", "plan", "is_admin", "status", "anchor_at", "password_hash", "created_at", "updated_at")


@pytest.mark.parametrize("field", [*COLUMNS, "password", "permissions", "roles", "quotas", "organizations"])
@pytest.mark.parametrize("value", [1, 0, "true", "x", None, [], {"a": 1}, [[[]]]], ids=repr)
def test_a_name_that_is_not_the_users_is_forbidden_whatever_its_value_is(
    site: Site, ada: ApiCaller, field: str, value: Any
) -> None:
    whole, before = ada.done("GET", "/users/u_ada"), everything(site)
    for more in ({}, {"bogus": 1}, {"name": 5}):
        ada.refused(403, "PATCH", "/users/u_ada", {"name": "X", field: value, **more})
        if value is not None or whole.get(field, "") is not None:
            ada.refused(403, "PUT", "/users/u_ada", {**whole, "name": "X", field: value, **more})
            ada.refused(403, "PUT", "/users/u_ada", {"name": "X", field: value, **more})
    assert everything(site) == before


def test_columns_of_users_are_names_that_are_not_the_users(site: Site) -> None:
    columns = {name for _, name, *_ in rows(site, "PRAGMA table_info(users)")}
    assert columns - OWN_FIELDS <= PRIVILEGED_NAMES
    assert not OWN_FIELDS & PRIVILEGED_NAMES


def test_a_deep_value_under_a_name_is_refused_and_no_fault(site: Site, ada: ApiCaller) -> None:
    before = everything(site)
    for depth in (500, 900, 5_000):
        content = b'{"is_admin": ' + b"[" * depth + b"]" * depth + b"}"
        for method in ("PUT", "PATCH"):
            answer = site.client.request(
                method, "/users/u_ada", content=content, headers=ada.headers | {"content-type": "application/json"}
            )
            assert answer.status_code in (400, 403, 422)
    assert everything(site) == before


def test_a_put_of_the_own_user_leaves_user_name_and_plan_as_they_are(site: Site, ada: ApiCaller) -> None:
    before = ada.done("GET", "/users/u_ada")
    done = ada.done("PUT", "/users/u_ada", {"name": "N", "email": "n@example.org"})
    kept = ("id", "username", "plan", "is_admin", "status", "anchor_at", "created_at")
    assert [done[name] for name in kept] == [before[name] for name in kept]
    assert (done["name"], done["email"], done["attributes"], done["timezone"]) == ("N", "n@example.org", {}, "UTC")
    before = everything(site)
    ada.refused(415, "PUT", "/users/u_ada")
    assert everything(site) == before
    assert ada.done("PUT", "/users/u_ada", ada.done("GET", "/users/u_ada"))["name"] == "N"


def test_writers_make_nobody_an_administrator_in_any_type(site: Site, writer: ApiCaller) -> None:
    before = everything(site)
    for value in (1, "true", [1]):
        writer.refused(403, "PATCH", "/users/u_grace", {"is_admin": value})
    writer.refused(403, "PATCH", "/users/u_admin", {"bogus": 1})
    writer.refused(422, "PATCH", "/users/u_grace", {"is_admin": 0})
    assert everything(site) == before


def test_users_may_not_delete_themselves(site: Site, ada: ApiCaller) -> None:
    ada.refused(403, "DELETE", "/users/u_ada")
    assert rows(site, "SELECT count(*) FROM users WHERE id = 'u_ada'") == [(1,)]


OTHERS: list[tuple[str, str, Any]] = [
    ("GET", "/users/{}", None),
    ("PUT", "/users/{}", {"username": "x", "plan": "free"}),
    ("PATCH", "/users/{}", {"name": "x"}),
    ("DELETE", "/users/{}", None),
    ("GET", "/users/{}/grants", None),
    ("PUT", "/users/{}/plan", {"plan": "pro"}),
    ("PUT", "/users/{}/permissions/can_fly", {"effect": "allow"}),
    ("DELETE", "/users/{}/permissions/can_fly", None),
    ("PUT", "/users/{}/roles/pilot", {}),
    ("DELETE", "/users/{}/roles/pilot", None),
    ("PUT", "/users/{}/quotas/voice_minutes", {"limit": None}),
    ("DELETE", "/users/{}/quotas/voice_minutes", None),
    ("GET", "/users/{}/sessions", None),
    ("DELETE", "/users/{}/sessions/s_1", None),
    ("GET", "/users/{}/tokens", None),
    ("DELETE", "/users/{}/tokens/t_1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OTHERS)
def test_another_users_id_is_answered_as_an_absent_one(
    site: Site, ada: ApiCaller, method: str, path: str, body: Any
) -> None:
    before = everything(site)
    absent = ada(method, path.format("u_nobody"), body)
    for user in ("u_grace", "u_admin"):
        foreign = ada(method, path.format(user), body)
        assert foreign.status_code == 404
        assert foreign.content == absent.content
        assert foreign.headers.items() == absent.headers.items()
    assert everything(site) == before


@pytest.mark.parametrize(("method", "path", "body"), OTHERS[3:])
def test_the_own_account_gives_no_rights_over_itself(
    site: Site, ada: ApiCaller, method: str, path: str, body: Any
) -> None:
    before = everything(site)
    ada.refused(403, method, path.format("u_ada"), body)
    assert everything(site) == before


# --- readers ---


def test_readers_see_everybody_and_change_nobody(site: Site) -> None:
    reader = ApiCaller(site, "u_grace", "users.read")
    assert len(reader.done("GET", "/users")["items"]) == 4
    assert reader.done("GET", "/users/u_ada")["username"] == "ada"
    reader.refused(404, "GET", "/users/u_nobody")
    before = everything(site)
    for method, path, body in OTHERS[1:]:
        reader.refused(403, method, path.format("u_ada"), body)
        reader.refused(404, method, path.format("u_nobody"), body)
    assert everything(site) == before


# --- writers who are no administrators ---


def test_writers_change_users(site: Site, writer: ApiCaller) -> None:
    assert writer.done("GET", "/users")["next"] is None
    assert writer.done("PATCH", "/users/u_ada", {"plan": "enterprise", "status": "disabled"})["status"] == "disabled"
    assert writer.done("PATCH", "/users/u_ada", {"username": "lovelace", "status": "active"})["username"] == "lovelace"
    writer.refused(403, "DELETE", "/users/u_ada")
    assert rows(site, "SELECT count(*) FROM users") == [(4,)]


@pytest.mark.parametrize("user", ["u_ada", "u_grace"])
def test_writers_make_nobody_an_administrator(site: Site, writer: ApiCaller, user: str) -> None:
    whole, before = writer.done("GET", f"/users/{user}"), everything(site)
    writer.refused(403, "PATCH", f"/users/{user}", {"is_admin": True})
    writer.refused(403, "PATCH", f"/users/{user}", {"name": "X", "is_admin": True})
    writer.refused(403, "PUT", f"/users/{user}", whole | {"is_admin": True})
    assert everything(site) == before
    assert writer.done("PUT", f"/users/{user}", whole | {"name": "X"})["is_admin"] is False


@pytest.mark.parametrize(("method", "path", "body"), [row for row in OTHERS if row[0] != "GET"])
def test_writers_do_not_touch_administrators(site: Site, writer: ApiCaller, method: str, path: str, body: Any) -> None:
    site.run("INSERT INTO roles (id) VALUES ('pilot')")
    before = everything(site)
    writer.refused(403, method, path.format("u_admin"), body)
    assert everything(site) == before


def test_writers_do_not_disable_enable_or_demote_administrators(site: Site, writer: ApiCaller) -> None:
    site.write(add_user("u_off", is_admin=1, status="disabled"))
    before = everything(site)
    for user, patch in (
        ("u_admin", {"status": "disabled"}),
        ("u_off", {"status": "active"}),
        ("u_off", {"is_admin": False}),
    ):
        writer.refused(403, "PATCH", f"/users/{user}", patch)
    assert everything(site) == before


def test_writers_put_nobody_on_a_plan_that_opens_the_gateway_or_off_one(site: Site, writer: ApiCaller) -> None:
    site.write(*add_plan("staff", ["users.read", "can_fly"]), *add_plan("plain", ["can_fly"]))
    site.run("UPDATE users SET plan = 'staff' WHERE id = 'u_alan'")
    before = everything(site)
    for user in ("u_ada", "u_grace"):
        writer.refused(403, "PATCH", f"/users/{user}", {"plan": "staff"})
        writer.refused(403, "PUT", f"/users/{user}/plan", {"plan": "staff"})
        writer.refused(403, "PUT", f"/users/{user}", writer.done("GET", f"/users/{user}") | {"plan": "staff"})
    writer.refused(403, "PUT", "/users/u_alan/plan", {"plan": "plain"})
    assert everything(site) == before
    assert writer.done("PATCH", "/users/u_alan", {"plan": "staff", "name": "Turing"})["name"] == "Turing"
    assert writer.done("PUT", "/users/u_ada/plan", {"plan": "plain"}).keys() == {"seq"}
    ApiCaller(site, "u_admin").done("PUT", "/users/u_ada/plan", {"plan": "staff"})


# --- narrowed tokens, and callers who are no more ---


def narrowed(site: Site, user: str, *permissions: str) -> ApiCaller:
    return ApiCaller(site, user, scopes={"permissions": list(permissions)})


def test_a_narrowed_token_of_an_administrator_is_no_administrators(site: Site) -> None:
    caller = narrowed(site, "u_admin", "users.read", "users.write")
    assert caller.done("PATCH", "/users/u_ada", {"name": "A"})["name"] == "A"
    before = everything(site)
    caller.refused(403, "PATCH", "/users/u_ada", {"is_admin": True})
    caller.refused(403, "PATCH", "/users/u_admin", {"name": "X"})
    caller.refused(403, "DELETE", "/users/u_ada")
    caller.refused(403, "PUT", "/users/u_ada/permissions/users.read", {"effect": "allow"})
    caller.refused(403, "GET", "/audit")
    caller.refused(403, "POST", "/admin/revoke-before", {"at": "2026-01-01T00:00:00Z"})
    assert everything(site) == before


@pytest.mark.parametrize("permissions", [(), ("can_use_voice",), ("users.read",)])
def test_a_narrowed_token_does_not_change_its_own_account(site: Site, permissions: tuple[str, ...]) -> None:
    caller = narrowed(site, "u_ada", *permissions)
    assert caller.done("GET", "/users/u_ada")["username"] == "ada"
    before = everything(site)
    caller.refused(403, "PATCH", "/users/u_ada", {"email": "thief@example.org"})
    whole = caller.done("GET", "/users/u_ada")
    caller.refused(403, "PUT", "/users/u_ada", whole | {"email": "thief@example.org"})
    assert everything(site) == before


def test_scopes_give_nothing_that_the_user_does_not_hold(site: Site) -> None:
    caller = narrowed(site, "u_ada", "users.read", "users.write")
    caller.refused(403, "GET", "/users")
    caller.refused(404, "PATCH", "/users/u_grace", {"name": "X"})


def test_scopes_that_can_not_be_understood_give_nothing(site: Site) -> None:
    caller = ApiCaller(site, "u_admin", scopes={"everything": True})
    caller.refused(403, "GET", "/users")
    caller.refused(404, "PATCH", "/users/u_ada", {"name": "X"})


def test_callers_who_are_gone_or_disabled_are_refused_everywhere(site: Site) -> None:
    gone, off = ApiCaller(site, "u_grace", "users.write"), ApiCaller(site, "u_alan", "users.write")
    site.run("DELETE FROM users WHERE id = 'u_grace'")
    site.run("UPDATE users SET status = 'disabled' WHERE id = 'u_alan'")
    before = everything(site)
    for caller in (gone, off):
        for method, path, body in OTHERS:
            caller.refused(401, method, path.format("u_ada"), body)
    assert everything(site) == before


def test_without_a_credential_nothing_is_told(site: Site) -> None:
    answers = [site.client.get(path) for path in ("/users", "/users/u_ada", "/users/u_nobody", "/users/%00")]
    assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
