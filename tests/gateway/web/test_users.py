"""Users over HTTP: the list, one of them, replacing, merging, deleting; lost updates and the last administrator."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, at_once, everything, rows
from tests.support.people import add_user

ADA = "/users/u_ada"
FIELDS = {
    *("id", "username", "name", "email", "plan", "is_admin", "status", "attributes", "timezone", "anchor_at"),
    *("created_at", "updated_at"),
}


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


def entries(site: Site, action: str = "user.update") -> list[Any]:
    sql = "SELECT actor, target, address, before, after FROM audit WHERE action = ? ORDER BY id"
    return rows(site, sql, action)


# --- the list ---


def test_the_list_has_everybody_in_the_order_of_their_names_and_no_secret(site: Site, admin: ApiCaller) -> None:
    site.run("UPDATE users SET password_hash = 'argon-of-ada' WHERE id = 'u_ada'")
    answered = admin("GET", "/users")
    assert [user["username"] for user in answered.json()["items"]] == ["ada", "alan", "grace", "root"]
    assert all(user.keys() == FIELDS for user in answered.json()["items"])
    assert answered.json()["next"] is None
    assert "argon-of-ada" not in answered.text
    assert answered.headers["cache-control"] == "no-store"


def test_pages_follow_one_another_and_miss_nobody(site: Site, admin: ApiCaller) -> None:
    site.write(*(add_user(f"u_{number:03}") for number in range(25)))
    seen, cursor = [], None
    while True:
        page = admin.done("GET", "/users?limit=7" + (f"&cursor={cursor}" if cursor else ""))
        assert len(page["items"]) <= 7
        seen += [user["username"] for user in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [row[0] for row in rows(site, "SELECT username FROM users ORDER BY username")]
    assert len(seen) == 29


def test_a_page_that_is_just_full_has_no_next_one(admin: ApiCaller) -> None:
    assert admin.done("GET", "/users?limit=4")["next"] is None
    assert admin.done("GET", "/users?limit=3")["next"] is not None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("query=A", ["ada", "alan"]),
        ("query=grace%40", ["grace"]),
        ("query=%25", []),
        ("query=_da", []),
        ("plan=enterprise", ["alan", "root"]),
        ("plan=nothing", []),
        ("status=disabled", ["grace"]),
        ("status=active&plan=pro&query=ad", ["ada"]),
    ],
)
def test_the_list_can_be_narrowed(site: Site, admin: ApiCaller, query: str, found: list[str]) -> None:
    site.run("UPDATE users SET status = 'disabled' WHERE id = 'u_grace'")
    assert [user["username"] for user in admin.done("GET", f"/users?{query}")["items"]] == found


# --- one user ---


def test_a_user_is_shown_with_an_entity_tag_that_follows_the_content(site: Site, admin: ApiCaller) -> None:
    first, again = admin("GET", ADA), admin("GET", ADA)
    assert first.json()["email"] == "ada@example.org"
    assert first.json()["anchor_at"] is None
    assert first.headers["etag"] == again.headers["etag"]
    site.run("UPDATE users SET anchor_at = 1000 WHERE id = 'u_ada'")
    after = admin("GET", ADA)
    assert after.json()["anchor_at"] == "1970-01-01T00:00:01.000Z"
    assert after.headers["etag"] != first.headers["etag"]


def test_users_are_found_by_id_and_by_nothing_else(admin: ApiCaller) -> None:
    for name in ("ada", "ADA", "U_ADA", "root"):
        assert admin.refused(404, "GET", f"/users/{name}")["detail"] == "No such user."


def test_a_row_that_no_client_of_ours_would_have_written_can_be_looked_at_and_mended(
    site: Site, admin: ApiCaller
) -> None:
    odd = '{"n": 123456789012345678901234567890, "x": null}'
    site.run("UPDATE users SET attributes = ?, created_at = ?, name = ? WHERE id = 'u_grace'", odd, 2**62, "a\x07b")
    shown = admin("GET", "/users/u_grace")
    assert shown.json()["created_at"].startswith("9999-12-31T23:59:59")
    tag = shown.headers["etag"]
    assert admin.done("PATCH", "/users/u_grace", {"timezone": "Europe/Berlin"}, if_match=tag)["name"] == "a\x07b"
    mended = admin.done("PATCH", "/users/u_grace", {"attributes": {"n": None}, "name": None})
    assert (mended["attributes"], mended["name"]) == ({}, "")


# --- PATCH ---


def test_a_patch_merges_answers_with_the_commit_and_leaves_an_entry(site: Site, admin: ApiCaller) -> None:
    patch = {"name": "Ada", "attributes": {"persona": None, "wake_word": "ada", "nested": {"a": 1}}, "email": None}
    response = admin("PATCH", ADA, patch)
    body = response.json()
    assert response.status_code == 200
    assert (body["name"], body["email"]) == ("Ada", None)
    assert body["attributes"].items() >= {"wake_word": "ada", "nested": {"a": 1}}.items()
    assert "persona" not in body["attributes"]
    assert "user_phone" in body["attributes"]
    assert str(body["seq"]) == response.headers["gateway-seq"]
    assert rows(site, "SELECT max(seq) FROM change_log") == [(body["seq"],)]
    read = admin("GET", ADA)
    assert read.headers["etag"] == response.headers["etag"]
    assert read.json() == {name: value for name, value in body.items() if name != "seq"}
    [(actor, target, address, before, after)] = entries(site)
    assert (actor, target, address) == ("user:u_admin", "user:u_ada", "127.0.0.1")
    assert '"name":"Ada Lovelace"' in before
    assert '"name":"Ada"' in after


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/merge-patch+json", "application/JSON; charset=utf-8"]
)
def test_a_patch_may_say_that_it_is_a_merge_patch(site: Site, admin: ApiCaller, media_type: str) -> None:
    headers = admin.headers | {"content-type": media_type}
    assert site.client.patch(ADA, headers=headers, content='{"name": "A"}').json()["name"] == "A"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/json-patch+json", "", "application/x-www-form-urlencoded"]
)
def test_other_media_types_are_refused(site: Site, admin: ApiCaller, method: str, media_type: str) -> None:
    headers = admin.headers | {"content-type": media_type}
    assert site.client.request(method, ADA, headers=headers, content='{"name": "A"}').status_code == 415


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x", "identity, gzip", "gzip, identity"])
def test_an_encoded_body_is_refused_and_not_guessed_at(site: Site, admin: ApiCaller, coding: str) -> None:
    before = everything(site)
    for body in ({"name": "X"}, {"bogus": 1}):
        assert admin.refused(415, "PATCH", ADA, body, content_encoding=coding)["code"] == "unsupported_media_type"
    assert everything(site) == before
    for plain in ("Identity", "identity, identity", ""):
        assert admin.done("PATCH", ADA, {"name": plain}, content_encoding=plain)["name"] == plain


def test_a_merge_patch_is_for_patch_alone(site: Site, admin: ApiCaller) -> None:
    headers = admin.headers | {"content-type": "application/merge-patch+json"}
    assert site.client.put(ADA, headers=headers, content="{}").status_code == 415


def test_null_means_the_default(site: Site, admin: ApiCaller) -> None:
    site.run("UPDATE users SET timezone = 'Europe/Berlin', anchor_at = 5, status = 'disabled' WHERE id = 'u_ada'")
    patch = dict.fromkeys(("name", "email", "is_admin", "status", "attributes", "timezone", "anchor_at"))
    body = admin.done("PATCH", ADA, patch)
    assert {name: body[name] for name in patch} == {
        **{"name": "", "email": None, "is_admin": False, "status": "active", "attributes": {}},
        **{"timezone": "UTC", "anchor_at": None},
    }


@pytest.mark.parametrize(
    "patch",
    [
        {"username": None},
        {"plan": None},
        {"plan": "no_such_plan"},
        {"username": "has space"},
        {"username": "a@b.example"},
        {"email": "not an address"},
        {"email": ""},
        {"name": "a\u0000b"},
        {"name": "a\r\nb"},
        {"name": "x" * 201},
        {"timezone": "Mars/Olympus"},
        {"anchor_at": "yesterday"},
        {"anchor_at": 5},
        {"status": "deleted"},
        {"is_admin": 1},
        {"is_admin": "true"},
        {"attributes": []},
        {"attributes": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}},
        {"attributes": {"a": "x" * 17_000}},
        {"attributes": {"n": 2**60}},
        {"attributes": {"\u00e4": 1}},
        {"id": "u_other"},
        {"created_at": "2001-01-01T00:00:00.000Z"},
        {"updated_at": "2001-01-01T00:00:00.000Z"},
        {"password_hash": "x"},
        {"password": "x"},
        {"seq": 1},
        {"": 1},
        [],
        "name",
        5,
    ],
)
def test_what_may_not_stand_there_is_refused_and_changes_nothing(site: Site, admin: ApiCaller, patch: Any) -> None:
    before = everything(site)
    assert admin.refused(422, "PATCH", ADA, patch)["code"] == "unprocessable"
    assert everything(site) == before


def test_what_is_taken_is_a_conflict(site: Site, admin: ApiCaller) -> None:
    before = everything(site)
    for patch in ({"username": "GRACE"}, {"email": "Grace@Example.org"}):
        assert admin.refused(409, "PATCH", ADA, patch)["code"] == "conflict"
    assert everything(site) == before


def test_an_empty_patch_changes_nothing_but_is_answered(site: Site, admin: ApiCaller) -> None:
    before = rows(site, "SELECT * FROM users ORDER BY id")
    assert admin.done("PATCH", ADA, {})["username"] == "ada"
    assert admin.done("PATCH", ADA)["username"] == "ada"
    assert rows(site, "SELECT * FROM users ORDER BY id") == before


# --- PUT ---


def test_a_put_replaces_and_what_is_left_out_takes_its_default(site: Site, admin: ApiCaller) -> None:
    body = admin.done("PUT", ADA, {"username": "countess", "plan": "free"})
    fields = {name: body[name] for name in FIELDS - {"id", "created_at", "updated_at"}}
    assert fields == {
        **{"username": "countess", "plan": "free", "name": "", "email": None, "is_admin": False, "status": "active"},
        **{"attributes": {}, "timezone": "UTC", "anchor_at": None},
    }
    assert body["id"] == "u_ada"


def test_what_was_read_can_be_put_back_as_it_is(site: Site, admin: ApiCaller) -> None:
    site.run("UPDATE users SET anchor_at = 86400000 WHERE id = 'u_ada'")
    read = admin.done("GET", ADA)
    before = rows(site, "SELECT * FROM users ORDER BY id")
    body = admin.done("PUT", ADA, read)
    assert read.items() <= body.items()
    assert rows(site, "SELECT * FROM users ORDER BY id") == before


@pytest.mark.parametrize("field", ["id", "created_at", "updated_at"])
def test_a_put_can_not_change_what_is_fixed(site: Site, admin: ApiCaller, field: str) -> None:
    read, before = admin.done("GET", ADA), everything(site)
    assert field in admin.refused(422, "PUT", ADA, read | {field: "2001-01-01T00:00:00.000Z"})["detail"]
    assert everything(site) == before


def test_a_put_needs_what_has_no_default(site: Site, admin: ApiCaller) -> None:
    before = everything(site)
    for body in ({}, {"username": "ada"}, {"plan": "pro"}, None):
        assert admin("PUT", ADA, body).status_code in (415, 422)
    assert everything(site) == before


# --- lost updates ---


def test_the_second_of_two_updates_of_one_state_is_refused(site: Site, admin: ApiCaller) -> None:
    tag = admin("GET", ADA).headers["etag"]
    answers = at_once(
        site,
        [
            admin.request("PATCH", ADA, {"name": "First"}, if_match=tag),
            admin.request("PATCH", ADA, {"timezone": "Europe/Paris"}, if_match=tag),
        ],
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    stands = admin.done("GET", ADA)
    assert (stands["name"] == "First") != (stands["timezone"] == "Europe/Paris")
    assert len(entries(site)) == 1


@pytest.mark.parametrize("tag", ['"0123456789abcdef"', "garbage", '""', "", 'W/"x"', '"a", "b"'])
def test_another_entity_tag_is_a_failed_precondition(site: Site, admin: ApiCaller, tag: str) -> None:
    before = everything(site)
    assert admin.refused(412, "PATCH", ADA, {"name": "X"}, if_match=tag)["code"] == "precondition_failed"
    read = admin.done("GET", ADA)
    assert admin.refused(412, "PUT", ADA, read | {"name": "X"}, if_match=tag)["code"] == "precondition_failed"
    assert everything(site) == before


def test_a_weak_tag_does_not_do_and_a_list_or_a_star_does(admin: ApiCaller) -> None:
    tag = admin("GET", ADA).headers["etag"]
    admin.refused(412, "PATCH", ADA, {"name": "X"}, if_match=f"W/{tag}")
    tag = admin("PATCH", ADA, {"name": "Y"}, if_match=f'"other", {tag}').headers["etag"]
    assert admin.done("PATCH", ADA, {"name": "Z"}, if_match=tag)["name"] == "Z"
    assert admin.done("PATCH", ADA, {"name": "!"}, if_match="*")["name"] == "!"


def test_an_old_copy_of_the_own_user_is_old_and_not_forbidden(site: Site) -> None:
    """`updated_at` of it is another by now, which users may not change."""
    ada = ApiCaller(site, "u_ada")
    read = ada("GET", ADA)
    site.run("UPDATE users SET timezone = 'Europe/Paris', updated_at = updated_at + 1000 WHERE id = 'u_ada'")
    ada.refused(412, "PUT", ADA, read.json() | {"name": "Countess"}, if_match=read.headers["etag"])
    ada.refused(403, "PUT", ADA, read.json() | {"name": "Countess"})


def test_a_change_by_sql_fails_the_precondition(site: Site, admin: ApiCaller) -> None:
    tag = admin("GET", ADA).headers["etag"]
    site.run("UPDATE users SET name = 'SQL' WHERE id = 'u_ada'")
    admin.refused(412, "PATCH", ADA, {"name": "HTTP"}, if_match=tag)
    assert admin.done("GET", ADA)["name"] == "SQL"


def test_fifty_patches_at_once_are_all_kept(site: Site, admin: ApiCaller) -> None:
    sent = [admin.request("PATCH", ADA, {"attributes": {f"key{number}": number}}) for number in range(50)]
    assert [answer.status_code for answer in at_once(site, sent)] == [200] * 50
    attributes = admin.done("GET", ADA)["attributes"]
    assert {f"key{number}": number for number in range(50)}.items() <= attributes.items()
    assert len(entries(site)) == 50


# --- disabling, the last administrator, deleting ---


def test_a_disabled_user_is_refused_with_the_very_next_request(site: Site, admin: ApiCaller) -> None:
    ada = ApiCaller(site, "u_ada")
    assert ada.done("GET", ADA)["status"] == "active"
    assert admin.done("PATCH", ADA, {"status": "disabled", "name": "Gone"})["name"] == "Gone"
    assert ada("GET", ADA).status_code == 401
    assert admin.done("PATCH", ADA, {"status": "active"})["status"] == "active"
    [(_, _, _, before, after), _] = entries(site)
    assert '"status":"active"' in before
    assert '"status":"disabled"' in after


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PATCH", {"is_admin": False}),
        ("PATCH", {"status": "disabled"}),
        ("PATCH", {"status": "disabled", "is_admin": False}),
        ("PUT", {"username": "root", "plan": "pro"}),
        ("DELETE", None),
    ],
)
def test_the_last_active_administrator_stays(site: Site, admin: ApiCaller, method: str, body: Any) -> None:
    site.write(add_user("u_off", is_admin=1, status="disabled"))
    before = everything(site)
    assert admin.refused(409, method, "/users/u_admin", body)["code"] == "conflict"
    assert everything(site) == before


@pytest.mark.parametrize("body", [{"is_admin": False}, {"status": "disabled"}, None])
def test_of_two_who_demote_one_another_exactly_one_wins(site: Site, admin: ApiCaller, body: Any) -> None:
    site.write(add_user("u_second", is_admin=1))
    second = ApiCaller(site, "u_second")
    method = "DELETE" if body is None else "PATCH"
    answers = at_once(
        site, [admin.request(method, "/users/u_second", body), second.request(method, "/users/u_admin", body)]
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes[0] == 200
    assert codes[1] in (401, 403, 409)
    assert rows(site, "SELECT count(*) FROM users WHERE is_admin = 1 AND status = 'active'") == [(1,)]


def test_many_administrators_who_all_step_back_at_once_leave_one(site: Site) -> None:
    site.write(*(add_user(f"u_a{number}", is_admin=1) for number in range(9)))
    callers = [ApiCaller(site, user) for user in ("u_admin", *(f"u_a{number}" for number in range(9)))]
    sent = [caller.request("PATCH", f"/users/{caller.user}", {"is_admin": False}) for caller in callers]
    codes = sorted(answer.status_code for answer in at_once(site, sent))
    assert codes == [200] * 9 + [409]
    assert rows(site, "SELECT count(*) FROM users WHERE is_admin = 1 AND status = 'active'") == [(1,)]


def test_deleting_takes_all_that_is_the_users(site: Site, admin: ApiCaller) -> None:
    grace = ApiCaller(site, "u_grace", "can_fly")
    assert admin.done("DELETE", "/users/u_grace").keys() == {"seq"}
    assert grace("GET", "/users/u_grace").status_code == 401
    admin.refused(404, "GET", "/users/u_grace")
    admin.refused(404, "DELETE", "/users/u_grace")
    for table in ("api_tokens", "user_permissions", "memberships"):
        assert rows(site, f"SELECT count(*) FROM {table} WHERE user_id = 'u_grace'") == [(0,)]
    [(actor, target, _, before, after)] = entries(site, "user.delete")
    assert (actor, target, after) == ("user:u_admin", "user:u_grace", None)
    assert '"status":"active"' in before
