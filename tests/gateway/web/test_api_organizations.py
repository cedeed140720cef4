"""Organizations and their members over HTTP: for writers, managers, members and strangers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, at_once, everything, rows
from tests.support.people import add_user, insert

ACME, MEMBERS = "/orgs/o_acme", "/orgs/o_acme/members"


@pytest.fixture
def writer(site: Site) -> ApiCaller:
    """Holds ``orgs.write``, and is a member of nothing."""
    site.write(add_user("u_writer"))
    return ApiCaller(site, "u_writer", "orgs.write")


@pytest.fixture
def owner(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_alan")


@pytest.fixture
def manager(site: Site) -> ApiCaller:
    """An administrator of the organization, no owner."""
    return ApiCaller(site, "u_ada")


@pytest.fixture
def member(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_grace")


@pytest.fixture
def stranger(site: Site) -> ApiCaller:
    site.write(add_user("u_stranger"))
    return ApiCaller(site, "u_stranger")


def roles_of_acme(site: Site) -> dict[str, str]:
    return dict(rows(site, "SELECT user_id, role FROM memberships WHERE org_id = 'o_acme'"))


# --- organizations ---


def test_an_organization_from_its_making_to_its_end(site: Site, writer: ApiCaller) -> None:
    new = {"id": "o_new", "plan": "pro", "name": "New", "attributes": {"a": 1}, "owner": "u_grace"}
    made = writer("POST", "/orgs", new)
    assert (made.status_code, made.headers["location"]) == (201, "/orgs/o_new")
    assert made.json()["seq"] == int(made.headers["gateway-seq"])
    read = writer("GET", "/orgs/o_new")
    assert read.headers["etag"] == made.headers["etag"]
    assert read.json() == {name: value for name, value in made.json().items() if name != "seq"}
    assert [row["user"] for row in writer.done("GET", "/orgs/o_new/members")["items"]] == ["u_grace"]
    patch = {
        "plan": "free",
        "status": "disabled",
        "attributes": {"a": None, "b": 2},
        "anchor_at": "2026-01-31T00:00:00Z",
    }
    body = writer.done("PATCH", "/orgs/o_new", patch, if_match=read.headers["etag"])
    assert (body["plan"], body["status"], body["attributes"]) == ("free", "disabled", {"b": 2})
    assert body["anchor_at"] == "2026-01-31T00:00:00.000Z"
    writer.refused(412, "PATCH", "/orgs/o_new", {"name": "X"}, if_match=read.headers["etag"])
    body = writer.done("PUT", "/orgs/o_new", {"plan": "free"})
    assert (body["name"], body["status"], body["attributes"], body["anchor_at"]) == ("", "active", {}, None)
    assert writer.done("DELETE", "/orgs/o_new").keys() == {"seq"}
    writer.refused(404, "DELETE", "/orgs/o_new")
    assert rows(site, "SELECT actor, action, target FROM audit ORDER BY id") == [
        ("user:u_writer", action, "org:o_new") for action in ("org.create", "org.update", "org.update", "org.delete")
    ]


def test_an_organization_gets_an_id(writer: ApiCaller) -> None:
    made = [writer.done("POST", "/orgs", body, status=201)["id"] for body in ({"plan": "free"}, {"name": "N"}, {})]
    assert {writer.done("GET", f"/orgs/{one}")["plan"] for one in made} == {"free"}
    assert len(set(made)) == 3
    assert all(name.startswith("o_") and len(name) == 18 for name in made)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, {"id": "o_acme", "plan": "free"}),
        (422, {"plan": "nope"}),
        (422, {"plan": "free", "owner": "u_nobody"}),
        (422, {"id": "o_x", "plan": None}),
        (422, {"id": "o_x", "plan": ""}),
        (422, {"id": "a b", "plan": "free"}),
        (422, {"id": "", "plan": "free"}),
        (422, {"plan": "free", "timezone": "Nowhere"}),
        (422, {"plan": "free", "name": "a\u0007"}),
        (422, {"plan": "free", "attributes": {"a": "x" * 20_000}}),
        (422, {"plan": "free", "created_at": "2001-01-01T00:00:00.000Z"}),
        (422, {"plan": "free", "members": []}),
    ],
)
def test_what_may_not_be_made_is_not(site: Site, writer: ApiCaller, status: int, body: Any) -> None:
    before = everything(site)
    writer.refused(status, "POST", "/orgs", body)
    assert everything(site) == before


@pytest.mark.parametrize(
    "patch",
    [
        {"id": "o_other"},
        {"created_at": "2001-01-01T00:00:00.000Z"},
        {"plan": "nope"},
        {"plan": None},
        {"status": "gone"},
        {"anchor_at": "x"},
        {"owner": "u_writer"},
        {"members": {}},
        {"attributes": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}},
    ],
)
def test_what_may_not_stand_there_is_refused(site: Site, writer: ApiCaller, patch: Any) -> None:
    before = everything(site)
    writer.refused(422, "PATCH", ACME, patch)
    assert everything(site) == before


def test_the_list_has_all_for_readers_and_the_own_ones_for_others(
    site: Site, writer: ApiCaller, member: ApiCaller, stranger: ApiCaller
) -> None:
    site.write(*(insert("organizations", id=f"o_{number}", plan="free") for number in range(4)))
    site.write(*(insert("memberships", org_id=f"o_{number}", user_id="u_grace") for number in (1, 2)))
    site.run("UPDATE organizations SET status = 'disabled' WHERE id = 'o_2'")
    reader = ApiCaller(site, "u_ada", "orgs.read")
    for caller, names in (
        (writer, ["o_0", "o_1", "o_2", "o_3", "o_acme"]),
        (reader, ["o_0", "o_1", "o_2", "o_3", "o_acme"]),
        (member, ["o_1", "o_acme"]),
        (stranger, []),
    ):
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = caller.done("GET", "/orgs?limit=2" + (f"&cursor={cursor}" if cursor else ""))
            seen += [organization["id"] for organization in page["items"]]
            cursor = page["next"]
        assert seen == names


def test_organizations_that_are_not_shown_leave_no_gaps_in_pages(site: Site, stranger: ApiCaller) -> None:
    for number in range(6):
        status = "disabled" if number < 3 else "active"
        site.write(insert("organizations", id=f"o_{number}", plan="free", status=status))
        site.write(insert("memberships", org_id=f"o_{number}", user_id="u_stranger", role="member"))
    page = stranger.done("GET", "/orgs?limit=2")
    assert [organization["id"] for organization in page["items"]] == ["o_3", "o_4"]
    page = stranger.done("GET", f"/orgs?limit=2&cursor={page['next']}")
    assert ([organization["id"] for organization in page["items"]], page["next"]) == (["o_5"], None)


def test_members_look_and_managers_see_the_list(member: ApiCaller, manager: ApiCaller, site: Site) -> None:
    assert member.done("GET", ACME)["name"] == "Acme"
    member.refused(403, "GET", MEMBERS)
    shown = manager.done("GET", f"{MEMBERS}?limit=2")
    assert [(row["user"], row["role"]) for row in shown["items"]] == [("u_ada", "admin"), ("u_alan", "owner")]
    assert [row["username"] for row in manager.done("GET", f"{MEMBERS}?cursor={shown['next']}")["items"]] == ["grace"]
    assert len(ApiCaller(site, "u_admin", "orgs.read").done("GET", MEMBERS)["items"]) == 3


def test_a_member_is_made_and_found_where_it_was_said_to_be(site: Site, manager: ApiCaller, member: ApiCaller) -> None:
    site.write(add_user("u_new"))
    answer = manager("POST", MEMBERS, {"user": "u_new", "role": "member"})
    body = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"{MEMBERS}/u_new")
    assert body["seq"] == int(answer.headers["gateway-seq"])
    shown = manager("GET", answer.headers["location"])
    assert shown.json() == {name: value for name, value in body.items() if name != "seq"}
    assert shown.json() in manager.done("GET", MEMBERS)["items"]
    assert shown.headers["etag"] == answer.headers["etag"]
    assert (shown.json()["user"], shown.json()["role"]) == ("u_new", "member")
    [(action, target)] = rows(site, "SELECT action, target FROM audit")
    assert (action, target) == ("org.member", "org:o_acme")
    before = everything(site)
    manager.refused(409, "POST", MEMBERS, {"user": "u_new", "role": "admin"})
    manager.refused(403, "POST", MEMBERS, {"user": "u_stranger", "role": "owner"})
    member.refused(403, "POST", MEMBERS, {"user": "u_stranger", "role": "member"})
    assert everything(site) == before


@pytest.mark.parametrize(
    "body",
    [
        {"user": "u_nobody", "role": "member"},
        {"user": "a b", "role": "member"},
        {"user": "a\u0000", "role": "member"},
        {"user": "u_admin"},
        {"role": "member"},
        {"user": "u_admin", "role": "guest"},
        {"user": "u_admin", "role": "member", "since": "2001-01-01T00:00:00.000Z"},
    ],
)
def test_who_can_be_no_member_is_made_none(site: Site, manager: ApiCaller, body: Any) -> None:
    before = everything(site)
    manager.refused(422, "POST", MEMBERS, body)
    assert everything(site) == before


def test_members_see_themselves_and_managers_every_one(site: Site, member: ApiCaller, manager: ApiCaller) -> None:
    assert member.done("GET", f"{MEMBERS}/u_grace")["role"] == "member"
    for nobody in ("u_ada", "u_nobody"):
        member.refused(403, "GET", f"{MEMBERS}/{nobody}")
    assert manager.done("GET", f"{MEMBERS}/u_grace")["username"] == "grace"
    manager.refused(404, "GET", f"{MEMBERS}/u_nobody")
    assert ApiCaller(site, "u_admin", "orgs.read").done("GET", f"{MEMBERS}/u_ada")["role"] == "admin"


WRITES: list[tuple[str, str, Any]] = [
    ("GET", "/orgs/{}", None),
    ("PUT", "/orgs/{}", {"plan": "enterprise", "name": "X"}),
    ("PATCH", "/orgs/{}", {"name": "X"}),
    ("DELETE", "/orgs/{}", None),
    ("GET", "/orgs/{}/members", None),
    ("PUT", "/orgs/{}/members/u_stranger", {"role": "owner"}),
    ("PUT", "/orgs/{}/members/u_ada", {"role": "member"}),
    ("DELETE", "/orgs/{}/members/u_ada", None),
    ("DELETE", "/orgs/{}/members/u_stranger", None),
    ("GET", "/orgs/{}/members/u_ada", None),
    ("GET", "/orgs/{}/members/u_stranger", None),
    ("POST", "/orgs/{}/members", {"user": "u_stranger", "role": "member"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_another_organizations_id_is_answered_as_an_absent_one(
    site: Site, stranger: ApiCaller, method: str, path: str, body: Any
) -> None:
    before = everything(site)
    absent, foreign = stranger(method, path.format("o_nothing"), body), stranger(method, path.format("o_acme"), body)
    assert (foreign.status_code, foreign.content) == (404, absent.content)
    assert foreign.headers.items() == absent.headers.items()
    assert everything(site) == before


def test_strangers_make_none(site: Site, stranger: ApiCaller, owner: ApiCaller) -> None:
    before = everything(site)
    for caller in (stranger, owner):
        caller.refused(403, "POST", "/orgs", {"plan": "free", "owner": caller.user})
    assert everything(site) == before


def test_plain_members_change_nothing(site: Site, member: ApiCaller) -> None:
    before = everything(site)
    for method, path, body in (row for row in WRITES[1:] if "u_stranger" not in row[1]):
        member.refused(403, method, path.format("o_acme"), body)
    member.refused(403, "PUT", f"{MEMBERS}/u_grace", {"role": "admin"})
    assert everything(site) == before


def test_readers_change_nothing(site: Site, stranger: ApiCaller) -> None:
    reader = ApiCaller(site, "u_stranger", "orgs.read")
    before = everything(site)
    for method, path, body in WRITES[1:4] + WRITES[5:8]:
        reader.refused(403, method, path.format("o_acme"), body)
    assert everything(site) == before


@pytest.mark.parametrize("who", ["owner", "manager"])
def test_managers_change_three_fields(site: Site, who: str, request: pytest.FixtureRequest) -> None:
    caller: ApiCaller = request.getfixturevalue(who)
    wanted = {"name": "Acme Ltd", "timezone": "Europe/Rome", "attributes": {"website": None, "city": "Rome"}}
    body = caller.done("PATCH", ACME, wanted)
    assert (body["name"], body["timezone"], body["attributes"]) == ("Acme Ltd", "Europe/Rome", {"city": "Rome"})
    whole = caller.done("GET", ACME)
    assert caller.done("PUT", ACME, whole | {"name": "Acme"})["name"] == "Acme"
    before = everything(site)
    for field, value in (
        *(("plan", "free"), ("status", "disabled"), ("anchor_at", "2026-01-01T00:00:00.000Z"), ("id", "o_x")),
        ("created_at", "2001-01-01T00:00:00.000Z"),
    ):
        caller.refused(403, "PATCH", ACME, {"name": "X", field: value})
        caller.refused(403, "PUT", ACME, whole | {"name": "X", field: value})
    caller.refused(403, "DELETE", ACME)
    assert everything(site) == before


def test_a_disabled_organization_is_there_for_readers_alone(site: Site, owner: ApiCaller, writer: ApiCaller) -> None:
    site.run("UPDATE organizations SET status = 'disabled'")
    before = everything(site)
    for method, path, body in WRITES:
        assert owner(method, path.format("o_acme"), body).status_code == 404
    assert everything(site) == before
    assert writer.done("PATCH", ACME, {"status": "active"})["status"] == "active"
    assert owner.done("GET", ACME)["status"] == "active"


def test_a_membership_that_has_ended_gives_nothing_at_once(site: Site, manager: ApiCaller) -> None:
    assert manager.done("GET", ACME)["id"] == "o_acme"
    site.run("DELETE FROM memberships WHERE user_id = 'u_ada'")
    manager.refused(404, "GET", ACME)
    manager.refused(404, "PUT", f"{MEMBERS}/u_ada", {"role": "owner"})


def test_what_a_role_does_not_grant_is_not_theirs(site: Site, manager: ApiCaller, owner: ApiCaller) -> None:
    site.run("DELETE FROM org_role_permissions WHERE permission = 'manage_members'")
    for caller in (manager, owner):
        caller.refused(403, "PATCH", ACME, {"name": "X"})
        caller.refused(403, "PUT", f"{MEMBERS}/u_grace", {"role": "admin"})


# --- members ---


def test_managers_take_in_change_and_take_out(site: Site, manager: ApiCaller, stranger: ApiCaller) -> None:
    manager.done("PUT", f"{MEMBERS}/u_stranger", {"role": "member"})
    assert stranger.done("GET", ACME)["id"] == "o_acme"
    manager.done("PUT", f"{MEMBERS}/u_stranger", {"role": "admin"})
    manager.done("DELETE", f"{MEMBERS}/u_stranger")
    manager.refused(404, "DELETE", f"{MEMBERS}/u_stranger")
    stranger.refused(404, "GET", ACME)
    assert rows(site, "SELECT actor, action, target, before, after FROM audit ORDER BY id") == [
        ("user:u_ada", "org.member", "org:o_acme", None, '{"user_id":"u_stranger","role":"member"}'),
        (
            *("user:u_ada", "org.member", "org:o_acme"),
            *('{"user_id":"u_stranger","role":"member"}', '{"user_id":"u_stranger","role":"admin"}'),
        ),
        ("user:u_ada", "org.member", "org:o_acme", '{"user_id":"u_stranger","role":"admin"}', None),
    ]


def test_managers_neither_make_nor_remove_owners(site: Site, manager: ApiCaller) -> None:
    before = everything(site)
    for user in ("u_ada", "u_grace", "u_admin"):
        manager.refused(403, "PUT", f"{MEMBERS}/{user}", {"role": "owner"})
    for role in ("owner", "admin", "member"):
        manager.refused(403, "PUT", f"{MEMBERS}/u_alan", {"role": role})
    manager.refused(403, "DELETE", f"{MEMBERS}/u_alan")
    assert everything(site) == before


def test_owners_do(site: Site, owner: ApiCaller, manager: ApiCaller) -> None:
    owner.done("PUT", f"{MEMBERS}/u_ada", {"role": "owner"})
    manager.done("PUT", f"{MEMBERS}/u_alan", {"role": "member"})
    owner.refused(403, "PUT", f"{MEMBERS}/u_alan", {"role": "owner"})
    assert roles_of_acme(site) == {"u_ada": "owner", "u_alan": "member", "u_grace": "member"}


def test_the_last_owner_stays(site: Site, owner: ApiCaller, writer: ApiCaller) -> None:
    before = everything(site)
    for caller in (owner, writer):
        assert caller.refused(409, "DELETE", f"{MEMBERS}/u_alan")["code"] == "conflict"
        for role in ("admin", "member"):
            caller.refused(409, "PUT", f"{MEMBERS}/u_alan", {"role": role})
    assert everything(site) == before


def test_of_two_owners_who_leave_at_once_one_stays(site: Site, owner: ApiCaller, manager: ApiCaller) -> None:
    owner.done("PUT", f"{MEMBERS}/u_ada", {"role": "owner"})
    sent = [owner.request("DELETE", f"{MEMBERS}/u_alan"), manager.request("DELETE", f"{MEMBERS}/u_ada")]
    assert sorted(answer.status_code for answer in at_once(site, sent)) == [200, 409]
    assert list(roles_of_acme(site).values()).count("owner") == 1


def test_members_leave(site: Site, member: ApiCaller, manager: ApiCaller) -> None:
    member.done("DELETE", f"{MEMBERS}/u_grace")
    manager.done("DELETE", f"{MEMBERS}/u_ada")
    assert roles_of_acme(site) == {"u_alan": "owner"}
    member.refused(404, "DELETE", f"{MEMBERS}/u_grace")


@pytest.mark.parametrize(
    "body", [{}, {"role": "king"}, {"role": None}, {"role": "member", "org_id": "o_other"}, [], None]
)
def test_a_membership_is_a_role_and_nothing_else(site: Site, manager: ApiCaller, body: Any) -> None:
    before = everything(site)
    assert manager("PUT", f"{MEMBERS}/u_admin", body).status_code == (415 if body is None else 422)
    assert everything(site) == before


def test_only_users_become_members(site: Site, manager: ApiCaller) -> None:
    before = everything(site)
    for user in ("u_nobody", "ada", "o_acme"):
        manager.refused(404, "PUT", f"{MEMBERS}/{user}", {"role": "member"})
    assert everything(site) == before


# --- narrowed tokens ---


def test_a_narrowed_token_manages_only_what_it_names(site: Site) -> None:
    narrow = ApiCaller(site, "u_ada", scopes={"permissions": ["can_use_voice"]})
    wide = ApiCaller(site, "u_ada", scopes={"permissions": ["manage_members"]})
    assert narrow.done("GET", ACME)["id"] == "o_acme"
    before = everything(site)
    narrow.refused(403, "PATCH", ACME, {"name": "X"})
    narrow.refused(403, "GET", MEMBERS)
    narrow.refused(403, "PUT", f"{MEMBERS}/u_admin", {"role": "member"})
    narrow.refused(403, "DELETE", f"{MEMBERS}/u_grace")
    for caller in (narrow, wide):
        caller.refused(403, "DELETE", f"{MEMBERS}/u_ada")
    assert everything(site) == before
    assert wide.done("PATCH", ACME, {"name": "Wide"})["name"] == "Wide"


# --- lost updates ---


def test_the_second_of_two_updates_of_one_organization_is_refused(site: Site, writer: ApiCaller) -> None:
    tag = writer("GET", ACME).headers["etag"]
    sent = [writer.request("PATCH", ACME, {"name": name}, if_match=tag) for name in ("One", "Two")]
    assert sorted(answer.status_code for answer in at_once(site, sent)) == [200, 412]


def test_many_patches_at_once_are_all_kept(site: Site, owner: ApiCaller) -> None:
    sent = [owner.request("PATCH", ACME, {"attributes": {f"key{number}": number}}) for number in range(30)]
    assert [answer.status_code for answer in at_once(site, sent)] == [200] * 30
    assert owner.done("GET", ACME)["attributes"].keys() >= {f"key{number}" for number in range(30)}
