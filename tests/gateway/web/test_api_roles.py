"""Roles, and what the roles of members grant, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.administration import OWN_PERMISSIONS
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, at_once, everything, rows
from tests.support.people import insert

PILOT: dict[str, Any] = {"id": "pilot", "name": "Pilot", "permissions": ["can_land", "can_fly"]}
OF_MEMBERS = {"owner": ["manage_billing", "manage_members"], "admin": ["manage_members"], "member": []}


@pytest.fixture
def editor(site: Site) -> ApiCaller:
    """Grace may write roles, and is no administrator."""
    return ApiCaller(site, "u_grace", "roles.write")


def test_a_role_from_its_making_to_its_end(site: Site, editor: ApiCaller) -> None:
    made = editor("POST", "/roles", PILOT)
    assert (made.status_code, made.headers["location"]) == (201, "/roles/pilot")
    shown = PILOT | {"permissions": ["can_fly", "can_land"]}
    assert made.json() == shown | {"seq": int(made.headers["gateway-seq"])}
    read = editor("GET", "/roles/pilot")
    assert (read.json(), read.headers["etag"]) == (shown, made.headers["etag"])
    assert editor.done("PATCH", "/roles/pilot", {"name": None}, if_match=read.headers["etag"])["name"] == ""
    editor.refused(412, "PATCH", "/roles/pilot", {"name": "X"}, if_match=read.headers["etag"])
    assert editor.done("PUT", "/roles/pilot", {"permissions": ["can_sit"]})["permissions"] == ["can_sit"]
    assert editor.done("GET", "/roles")["items"] == [{"id": "pilot", "name": "", "permissions": ["can_sit"]}]
    editor.done("DELETE", "/roles/pilot")
    editor.refused(404, "DELETE", "/roles/pilot")
    assert [row[0] for row in rows(site, "SELECT action FROM audit ORDER BY id")] == [
        *(["role.write"] * 3),
        "role.delete",
    ]
    assert '"permissions":["can_sit"]' in rows(site, "SELECT before FROM audit WHERE action = 'role.delete'")[0][0]


def test_the_list_is_paged(site: Site, editor: ApiCaller) -> None:
    site.write(*(insert("roles", id=f"r{number}") for number in range(5)))
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = editor.done("GET", "/roles?limit=2" + (f"&cursor={cursor}" if cursor else ""))
        seen += [role["id"] for role in page["items"]]
        cursor = page["next"]
    assert seen == ["r0", "r1", "r2", "r3", "r4"]


def test_others_neither_read_nor_write_them(site: Site) -> None:
    site.write(insert("roles", id="pilot"))
    ada, reader = ApiCaller(site, "u_ada"), ApiCaller(site, "u_alan", "users.read")
    before = everything(site)
    for method, path, body in (
        ("POST", "/roles", PILOT),
        ("PUT", "/roles/pilot", {"permissions": []}),
        ("PATCH", "/roles/pilot", {"name": "x"}),
        ("DELETE", "/roles/pilot", None),
        ("PUT", "/roles/organization", OF_MEMBERS),
    ):
        ada.refused(403, method, path, body)
        reader.refused(403, method, path, body)
    for path in ("/roles", "/roles/pilot", "/roles/organization", "/roles/nope"):
        ada.refused(403, "GET", path)
    assert reader.done("GET", "/roles")["items"][0]["id"] == "pilot"
    assert everything(site) == before


@pytest.mark.parametrize("permission", sorted(OWN_PERMISSIONS))
def test_only_administrators_put_the_gateways_permissions_into_roles_or_take_them_out(
    site: Site, editor: ApiCaller, permission: str
) -> None:
    site.write(insert("roles", id="staff"), insert("role_permissions", role="staff", permission=permission))
    site.write(insert("roles", id="own"), insert("user_roles", user_id="u_grace", role="own"))
    before = everything(site)
    editor.refused(403, "POST", "/roles", PILOT | {"permissions": [permission]})
    editor.refused(403, "PATCH", "/roles/own", {"permissions": [permission]})
    editor.refused(403, "PUT", "/roles/own", {"permissions": [permission]})
    editor.refused(403, "PUT", "/roles/staff", {"permissions": []})
    editor.refused(403, "DELETE", "/roles/staff")
    assert everything(site) == before
    assert editor.done("PATCH", "/roles/staff", {"name": "Staff"})["permissions"] == [permission]
    ApiCaller(site, "u_admin").done("DELETE", "/roles/staff")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "organization"},
        {"id": "no slash/here"},
        {"id": None},
        {"name": "x" * 201},
        {"permissions": ["1"]},
        {"permissions": [None]},
        {"permissions": None},
        {"permissions": {"can_fly": True}},
        {"is_admin": True},
    ],
)
def test_what_may_not_stand_in_a_role_is_refused(site: Site, editor: ApiCaller, change: Any) -> None:
    before = everything(site)
    editor.refused(422, "POST", "/roles", PILOT | change)
    assert everything(site) == before


def test_a_put_says_everything_and_never_renames(site: Site, editor: ApiCaller) -> None:
    site.write(insert("roles", id="pilot"))
    before = everything(site)
    for body in ({}, {"name": "X"}, {"permissions": [], "id": "other"}):
        editor.refused(422, "PUT", "/roles/pilot", body)
    editor.refused(422, "PATCH", "/roles/pilot", {"id": "other"})
    editor.refused(404, "PUT", "/roles/nope", {"permissions": []})
    editor.refused(409, "POST", "/roles", PILOT)
    assert everything(site) == before


def test_the_second_of_two_updates_of_one_role_is_refused(site: Site, editor: ApiCaller) -> None:
    site.write(insert("roles", id="pilot"))
    tag = editor("GET", "/roles/pilot").headers["etag"]
    sent = [editor.request("PATCH", "/roles/pilot", {"name": name}, if_match=tag) for name in ("One", "Two")]
    assert sorted(answer.status_code for answer in at_once(site, sent)) == [200, 412]


# --- what the roles of members grant ---


def test_what_the_roles_of_members_grant_is_shown_and_replaced(site: Site, editor: ApiCaller) -> None:
    assert editor.done("GET", "/roles/organization") == OF_MEMBERS
    wanted = OF_MEMBERS | {"member": ["see_bills"], "owner": ["manage_members"]}
    answered = editor.done("PUT", "/roles/organization", wanted)
    assert answered == wanted | {"seq": answered["seq"]}
    assert editor.done("GET", "/roles/organization") == wanted
    assert rows(site, "SELECT target, before, after FROM audit ORDER BY id") == [
        ("role:org.owner", '{"permissions":["manage_billing","manage_members"]}', '{"permissions":["manage_members"]}'),
        ("role:org.member", '{"permissions":[]}', '{"permissions":["see_bills"]}'),
    ]


@pytest.mark.parametrize("change", [{"member": ["manage_members"]}, {"admin": []}, {"owner": []}])
def test_who_manages_organizations_is_decided_by_administrators(site: Site, editor: ApiCaller, change: Any) -> None:
    before = everything(site)
    editor.refused(403, "PUT", "/roles/organization", OF_MEMBERS | change)
    assert everything(site) == before
    ApiCaller(site, "u_admin").done("PUT", "/roles/organization", OF_MEMBERS | change)


@pytest.mark.parametrize("body", [{}, {"owner": []}, OF_MEMBERS | {"guest": []}, OF_MEMBERS | {"member": ["a b"]}, []])
def test_all_three_are_named_and_no_other(site: Site, editor: ApiCaller, body: Any) -> None:
    before = everything(site)
    editor.refused(422, "PUT", "/roles/organization", body)
    assert everything(site) == before


def test_only_get_and_put_are_for_the_roles_of_members(editor: ApiCaller) -> None:
    for method, body in (("PATCH", {}), ("DELETE", None), ("POST", {})):
        answered = editor(method, "/roles/organization", body)
        assert answered.status_code == 405
        assert {"GET", "PUT"} <= set(answered.headers["allow"].split(", "))
