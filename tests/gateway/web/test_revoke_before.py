"""``POST /admin/revoke-before``: everything issued before a moment is void."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.clock import parse_rfc3339, rfc3339
from tests.gateway.web.conftest import Site, one, opened
from tests.support.api_caller import ApiCaller, everything, rows
from tests.support.people import insert

PATH = "/admin/revoke-before"
OLD = 1_000_000
AT = rfc3339(OLD + 1)


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


def add_sessions(site: Site) -> None:
    for session, user, instance in (
        ("s_ada", "u_ada", None),
        ("s_grace", "u_grace", "i_1"),
        ("s_alan", "u_alan", "i_2"),
    ):
        columns = {"id": session, "user_id": user, "instance_id": instance, "created_at": OLD, "expires_at": 2**45}
        site.write(insert("login_sessions", **columns))


def revoked(site: Site) -> set[str]:
    ended = "SELECT id FROM {} WHERE revoked_at IS NOT NULL"
    found = rows(site, f"{ended.format('login_sessions')} UNION {ended.format('api_tokens')}")
    return {row[0] for row in found}


def test_what_was_issued_before_is_void_for_all(site: Site, admin: ApiCaller) -> None:
    add_sessions(site)
    old = ApiCaller(site, "u_ada", id="t_old", created_at=OLD)
    young = ApiCaller(site, "u_ada", id="t_young", created_at=OLD + 1)
    answered = admin("POST", PATH, {"at": AT})
    assert answered.json() == {"seq": int(answered.headers["gateway-seq"]), "revoked": 4}
    assert revoked(site) == {"s_ada", "s_grace", "s_alan", "t_old"}
    old.refused(401, "GET", "/users/u_ada")
    assert young.done("GET", "/users/u_ada")["id"] == "u_ada"
    assert site.accounts.revocations.void("u_ada", "s_ada")
    assert rows(site, "SELECT actor, action, target, after FROM audit") == [
        ("user:u_admin", "revoke.before", "all", f'{{"at":"{AT}"}}')
    ]
    assert admin.done("POST", PATH, {"at": AT})["revoked"] == 0


@pytest.mark.parametrize(
    ("whose", "void", "target"),
    [({"user": "u_ada"}, {"s_ada"}, "user:u_ada"), ({"instance": "i_1"}, {"s_grace"}, "instance:i_1")],
)
def test_of_one_user_or_one_instance(site: Site, admin: ApiCaller, whose: Any, void: set[str], target: str) -> None:
    add_sessions(site)
    assert admin.done("POST", PATH, {"at": AT, **whose})["revoked"] == len(void)
    assert revoked(site) == void
    assert rows(site, "SELECT target FROM audit") == [(target,)]


def test_sockets_are_closed(site: Site, admin: ApiCaller) -> None:
    with site.connect(site.bearer("u_ada", created_at=OLD)) as socket:
        opened(socket)
        admin.done("POST", PATH, {"at": AT})
        assert one(socket, "ended")["code"] == "revoked"


def test_the_callers_own_credential_may_be_among_them(site: Site) -> None:
    admin = ApiCaller(site, "u_admin", created_at=OLD)
    assert admin.done("POST", PATH, {"at": AT, "user": "u_admin"})["revoked"] == 1
    admin.refused(401, "POST", PATH, {"at": AT})


def test_without_a_moment_everything_issued_up_to_now_is_void(site: Site, admin: ApiCaller) -> None:
    """By what is in the database: the clock of a node that issued something may be ahead, and the caller's is not
    asked."""
    now = site.node.clock.now().wall
    ApiCaller(site, "u_ada", id="t_now", created_at=now)
    ApiCaller(site, "u_ada", id="t_ahead", created_at=now + 59_000)
    ApiCaller(site, "u_grace", id="t_grace", created_at=OLD)
    assert admin.done("POST", PATH, {"user": "u_ada"})["revoked"] == 2
    assert revoked(site) == {"t_now", "t_ahead"}
    [(target, after)] = rows(site, "SELECT target, after FROM audit")
    assert target == "user:u_ada"
    assert now <= parse_rfc3339(json.loads(after)["at"]) <= site.node.clock.now().wall
    assert admin.done("POST", PATH, {"user": "u_ada"})["revoked"] == 0
    admin.refused(404, "POST", PATH, {"user": "u_nobody"})
    assert admin.done("POST", PATH, {})["revoked"] == 2
    admin.refused(401, "GET", "/users")


def test_a_minute_ahead_will_do_and_more_will_not(site: Site, admin: ApiCaller) -> None:
    now = site.node.clock.now().wall
    before = everything(site)
    admin.refused(422, "POST", PATH, {"at": rfc3339(now + 90_000)})
    admin.refused(422, "POST", PATH, {"at": "9999-12-31T23:59:59Z"})
    assert everything(site) == before
    assert admin.done("POST", PATH, {"at": rfc3339(now + 30_000)})["revoked"] == 1
    admin.refused(401, "GET", "/users")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"at": None}),
        (422, {"at": 5}),
        (422, {"at": "now"}),
        (422, {"at": "2026-02-30T00:00:00Z"}),
        (422, {"at": AT, "user": "u_ada", "instance": "i_1"}),
        (422, {"at": AT, "user": "a\u0000b"}),
        (422, {"at": AT, "instance": "x' OR 1=1"}),
        (422, {"at": AT, "users": ["u_ada"]}),
        (404, {"at": AT, "user": "u_nobody"}),
        (404, {"at": AT, "user": "ada"}),
    ],
)
def test_what_can_not_be_meant_revokes_nothing(site: Site, admin: ApiCaller, status: int, body: Any) -> None:
    add_sessions(site)
    before = everything(site)
    admin.refused(status, "POST", PATH, body)
    assert revoked(site) == set()
    assert everything(site) == before


def test_it_is_for_administrators(site: Site) -> None:
    add_sessions(site)
    writer = ApiCaller(site, "u_grace", "users.write")
    narrowed = ApiCaller(site, "u_admin", scopes={"permissions": ["users.write"]})
    for caller in (writer, narrowed):
        caller.refused(403, "POST", PATH, {"at": AT})
        caller.refused(403, "POST", PATH, {"at": AT, "user": caller.user})
    assert revoked(site) == set()
