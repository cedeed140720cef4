"""Plans, permissions, roles and quotas of one user over HTTP, and a user's sessions and tokens."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.administration import OWN_PERMISSIONS
from gateway.web.paging import write_cursor
from tests.gateway.web.conftest import Site, one, opened
from tests.support.api_caller import ApiCaller, everything, rows
from tests.support.people import add_plan, insert

ADA = "/users/u_ada"
LATER, LATER_MS = "2100-01-01T00:00:00.000Z", 4_102_444_800_000


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


@pytest.fixture
def writer(site: Site) -> ApiCaller:
    """Grace may write users, and is no administrator."""
    return ApiCaller(site, "u_grace", "users.write")


def add_role(site: Site, role: str, *permissions: str) -> None:
    site.write(
        insert("roles", id=role), *(insert("role_permissions", role=role, permission=name) for name in permissions)
    )


def last_entry(site: Site) -> Any:
    return rows(site, "SELECT actor, action, target, before, after FROM audit ORDER BY id DESC LIMIT 1")[0]


def test_every_grant_is_written_shown_audited_and_taken_back(site: Site, writer: ApiCaller) -> None:
    add_role(site, "pilot", "can_fly")
    changes = [
        ("user.plan", "plan", {"plan": "free"}),
        ("user.permission", "permissions/can_dance", {"effect": "allow", "expires_at": LATER}),
        ("user.permission", "permissions/can_use_sms", {"effect": "deny", "starts_at": "2020-01-01T00:00:00+01:00"}),
        ("user.role", "roles/pilot", {"expires_at": LATER}),
        ("user.quota", "quotas/voice_minutes", {"limit": None, "period": "year", "hard": False}),
        ("user.quota", "quotas/sms:extra", {"limit": 0, "starts_at": "2020-01-01T00:00:00Z", "expires_at": LATER}),
    ]
    for action, place, body in changes:
        answered = writer("PUT", f"{ADA}/{place}", body)
        assert answered.status_code == 200
        assert answered.headers["gateway-seq"] == str(answered.json()["seq"])
        assert rows(site, "SELECT max(seq) FROM change_log") == [(answered.json()["seq"],)]
        actor, done, target, _, after = last_entry(site)
        assert (actor, done, target) == ("user:u_grace", action, "user:u_ada")
        assert after is not None
    assert writer.done("GET", f"{ADA}/grants") == {
        "plan": "free",
        "roles": [{"role": "pilot", "expires_at": LATER}],
        "permissions": [
            {"permission": "can_dance", "effect": "allow", "starts_at": None, "expires_at": LATER},
            {
                **{"permission": "can_use_sms", "effect": "deny"},
                **{"starts_at": "2019-12-31T23:00:00.000Z", "expires_at": None},
            },
        ],
        "quotas": [
            {
                **{"quota": "sms:extra", "limit": 0, "period": "month", "hard": True},
                **{"starts_at": "2020-01-01T00:00:00.000Z", "expires_at": LATER},
            },
            {
                **{"quota": "voice_minutes", "limit": None, "period": "year", "hard": False},
                **{"starts_at": None, "expires_at": None},
            },
        ],
    }
    for action, place, _ in changes[1:]:
        writer.done("DELETE", f"{ADA}/{place}")
        assert last_entry(site)[1] == action
        assert last_entry(site)[3] is not None
        writer.refused(404, "DELETE", f"{ADA}/{place}")
    left = writer.done("GET", f"{ADA}/grants")
    assert (left["roles"], left["permissions"], left["quotas"]) == ([], [], [])


def test_the_users_document_changes_at_once(site: Site, writer: ApiCaller) -> None:
    with site.connect(site.bearer("u_ada")) as socket:
        assert "can_dance" not in opened(socket)["data"]["permissions"]
        writer.done("PUT", f"{ADA}/permissions/can_dance", {"effect": "allow"})
        update = one(socket, "update")
        assert update["patch"] == {"permissions": {"can_dance": True}}


def test_the_last_word_about_a_permission_counts(site: Site, writer: ApiCaller) -> None:
    for effect in ("allow", "deny", "deny", "allow"):
        writer.done("PUT", f"{ADA}/permissions/can_dance", {"effect": effect})
        assert rows(site, "SELECT effect FROM user_permissions WHERE user_id = 'u_ada'") == [(effect,)]


def test_a_role_needs_no_body(site: Site, writer: ApiCaller) -> None:
    add_role(site, "pilot")
    writer.done("PUT", f"{ADA}/roles/pilot")
    assert rows(site, "SELECT role, expires_at FROM user_roles") == [("pilot", None)]


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("plan", {}),
        ("plan", {"plan": "no_such"}),
        ("plan", {"plan": None}),
        ("plan", {"plan": "x' OR 1=1 --"}),
        ("plan", {"plan": "free", "is_admin": True}),
        ("permissions/p", {}),
        ("permissions/p", {"effect": "grant"}),
        ("permissions/p", {"effect": "allow", "expires_at": 5}),
        ("permissions/p", {"effect": "allow", "expires_at": "soon"}),
        ("permissions/p", {"effect": "allow", "starts_at": LATER, "expires_at": LATER}),
        ("permissions/p", {"effect": "allow", "starts_at": LATER, "expires_at": "2020-01-01T00:00:00Z"}),
        ("permissions/p", {"effect": "allow", "user_id": "u_admin"}),
        ("roles/pilot", {"expires_at": "never"}),
        ("roles/pilot", {"role": "admin"}),
        ("quotas/q", {}),
        ("quotas/q", {"limit": -1}),
        ("quotas/q", {"limit": 2**53}),
        ("quotas/q", {"limit": 2**63}),
        ("quotas/q", {"limit": 1.5}),
        ("quotas/q", {"limit": "5"}),
        ("quotas/q", {"limit": True}),
        ("quotas/q", {"limit": 5, "period": "decade"}),
        ("quotas/q", {"limit": 5, "hard": 1}),
        ("quotas/q", {"limit": 5, "used": 0}),
        ("quotas/q", {"limit": 5, "starts_at": LATER, "expires_at": "2020-01-01T00:00:00Z"}),
    ],
)
def test_what_may_not_stand_in_a_grant_is_refused(site: Site, writer: ApiCaller, place: str, body: Any) -> None:
    add_role(site, "pilot")
    before = everything(site)
    writer.refused(422, "PUT", f"{ADA}/{place}", body)
    assert everything(site) == before


@pytest.mark.parametrize(
    "place", ["permissions/1st", "permissions/-x", "quotas/9", "roles/no_such", "permissions/a%20b"]
)
def test_what_nothing_can_be_called_is_not_found(site: Site, writer: ApiCaller, place: str) -> None:
    before = everything(site)
    writer.refused(
        404, "PUT", f"{ADA}/{place}", {"effect": "allow"} if "perm" in place else {"limit": 1} if "quo" in place else {}
    )
    writer.refused(404, "DELETE", f"{ADA}/{place}")
    assert everything(site) == before


# --- handing out the gateway's own permissions ---


@pytest.mark.parametrize("permission", sorted(OWN_PERMISSIONS))
@pytest.mark.parametrize("user", ["u_ada", "u_grace"])
def test_writers_hand_out_and_take_no_permission_of_the_gateway(
    site: Site, writer: ApiCaller, permission: str, user: str
) -> None:
    site.write(
        insert("user_permissions", user_id="u_alan", permission=permission, effect="deny"),
        insert("user_permissions", user_id="u_ada", permission=permission, effect="deny"),
    )
    add_role(site, "staff", "can_fly", permission)
    site.write(insert("user_roles", user_id="u_alan", role="staff"), *add_plan("staff", [permission]))
    before = everything(site)
    for effect in ("allow", "deny"):
        body = {"effect": effect, "starts_at": LATER}
        writer.refused(403, "PUT", f"/users/{user}/permissions/{permission}", body)
    for target in (user, "u_alan"):
        writer.refused(403, "DELETE", f"/users/{target}/permissions/{permission}")
        writer.refused(403, "PUT", f"/users/{target}/roles/staff", {})
        writer.refused(403, "DELETE", f"/users/{target}/roles/staff")
        writer.refused(403, "PUT", f"/users/{target}/plan", {"plan": "staff"})
    assert everything(site) == before


def test_administrators_hand_them_out(site: Site, admin: ApiCaller) -> None:
    add_role(site, "staff", "users.read")
    admin.done("PUT", f"{ADA}/roles/staff", {})
    admin.done("PUT", f"{ADA}/permissions/plans.write", {"effect": "allow"})
    ada = ApiCaller(site, "u_ada")
    assert ada.done("GET", "/users")["next"] is None
    assert ada.done("POST", "/plans", {"id": "own"}, status=201)["id"] == "own"
    admin.done("DELETE", f"{ADA}/roles/staff")
    ada.refused(403, "GET", "/users")


def test_a_grant_that_has_ended_or_not_begun_gives_nothing(site: Site, admin: ApiCaller) -> None:
    ada = ApiCaller(site, "u_ada")
    for dates in ({"starts_at": LATER}, {"expires_at": "2020-01-01T00:00:00Z"}):
        admin.done("PUT", f"{ADA}/permissions/users.read", {"effect": "allow", **dates})
        ada.refused(403, "GET", "/users")


# --- sessions and tokens ---


def add_session(site: Site, session: str, user: str) -> None:
    site.write(
        insert("login_sessions", id=session, user_id=user, expires_at=LATER_MS, ip="192.0.2.1", user_agent="X/1")
    )


def test_sessions_are_shown_and_ended(site: Site, writer: ApiCaller) -> None:
    add_session(site, "s_1", "u_ada")
    [shown] = writer.done("GET", f"{ADA}/sessions")["items"]
    assert (shown["id"], shown["expires_at"], shown["ip"], shown["revoked_at"]) == ("s_1", LATER, "192.0.2.1", None)
    answered = writer("DELETE", f"{ADA}/sessions/s_1")
    assert answered.headers["gateway-seq"] == str(answered.json()["seq"])
    assert writer.done("GET", f"{ADA}/sessions")["items"][0]["revoked_at"] is not None
    assert site.accounts.revocations.void("u_ada", "s_1")
    assert last_entry(site)[:3] == ("user:u_grace", "session.revoke", "user:u_ada")


def test_tokens_are_shown_without_their_secret_and_revoked(site: Site, writer: ApiCaller) -> None:
    ada = ApiCaller(site, "u_ada", id="t_ada", name="kitchen")
    answered = writer("GET", f"{ADA}/tokens")
    [shown] = answered.json()["items"]
    assert (shown["id"], shown["name"], shown["revoked_at"]) == ("t_ada", "kitchen", None)
    [(token_hash,)] = rows(site, "SELECT token_hash FROM api_tokens WHERE id = 't_ada'")
    assert token_hash not in answered.text
    with site.connect(ada.headers) as socket:
        opened(socket)
        writer.done("DELETE", f"{ADA}/tokens/t_ada")
        assert one(socket, "ended")["code"] == "revoked"
    ada.refused(401, "GET", ADA)
    assert last_entry(site)[:3] == ("user:u_grace", "token.revoke", "user:u_ada")


@pytest.mark.parametrize("kind", ["sessions", "tokens"])
def test_what_is_somebody_elses_is_not_there(site: Site, writer: ApiCaller, kind: str) -> None:
    add_session(site, "s_admin", "u_admin")
    ApiCaller(site, "u_admin", id="t_admin")
    before = everything(site)
    foreign = writer("DELETE", f"{ADA}/{kind}/{kind[0]}_admin")
    absent = writer("DELETE", f"{ADA}/{kind}/{kind[0]}_nothing")
    assert (foreign.status_code, foreign.content) == (404, absent.content)
    assert everything(site) == before
    assert rows(site, "SELECT count(*) FROM login_sessions WHERE revoked_at IS NOT NULL") == [(0,)]


@pytest.mark.parametrize(("kind", "table"), [("sessions", "login_sessions"), ("tokens", "api_tokens")])
@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
def test_what_is_over_is_shown_and_can_not_be_ended_again(
    site: Site, writer: ApiCaller, kind: str, table: str, column: str
) -> None:
    add_session(site, "c_over", "u_ada")
    ApiCaller(site, "u_ada", id="c_over")
    site.run(f"UPDATE {table} SET {column} = 5 WHERE id = 'c_over'")
    before = everything(site)
    over = writer("DELETE", f"{ADA}/{kind}/c_over")
    assert (over.status_code, over.content) == (404, writer("DELETE", f"{ADA}/{kind}/c_nothing").content)
    assert everything(site) == before
    [shown] = writer.done("GET", f"{ADA}/{kind}")["items"]
    assert shown[column] == "1970-01-01T00:00:00.005Z"


@pytest.mark.parametrize("kind", ["sessions", "tokens"])
def test_the_user_and_who_may_change_users_are_shown_the_same(site: Site, writer: ApiCaller, kind: str) -> None:
    add_session(site, "s_1", "u_ada")
    ada = ApiCaller(site, "u_ada", id="t_ada", scopes=None)
    site.token("u_ada", id="t_odd", scopes={"other": []})
    own, others = ada.done("GET", f"/auth/{kind}"), writer.done("GET", f"{ADA}/{kind}")
    for item in own["items"]:
        assert item.pop("current", False) is False
    assert own == others
    assert len(own["items"]) == (1 if kind == "sessions" else 2)


@pytest.mark.parametrize("kind", ["sessions", "tokens"])
def test_many_are_shown_page_by_page(site: Site, writer: ApiCaller, kind: str) -> None:
    for number in (3, 1, 4, 2, 5):
        if kind == "sessions":
            columns = {"id": f"c_{number}", "user_id": "u_ada", "created_at": number // 2, "expires_at": LATER_MS}
            site.write(insert("login_sessions", **columns))
        else:
            site.token("u_ada", id=f"c_{number}", created_at=number // 2)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = writer.done("GET", f"{ADA}/{kind}?limit=2" + (f"&cursor={cursor}" if cursor else ""))
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
    assert seen == ["c_1", "c_2", "c_3", "c_4", "c_5"]
    for forged in ("x", write_cursor(kind, "c_1"), write_cursor("users", "1 c_1")):
        writer.refused(400, "GET", f"{ADA}/{kind}?cursor={forged}")
