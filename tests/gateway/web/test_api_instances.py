from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, rows
from tests.support.overtaken_store import overtake
from tests.support.signing import Key, sign

Json = dict[str, Any]
URL = "http://testserver"


@pytest.fixture
def root(site: Any) -> ApiCaller:
    return ApiCaller(site, "u_admin")


def ask(site: Any, key: Key, user: str = "u_ada") -> int:
    headers = sign(key, "GET", URL + "/auth/validate", headers=site.bearer(user))
    return int(site.client.get("/auth/validate", headers=headers).status_code)


def made(root: ApiCaller, **fields: Any) -> tuple[Json, Key]:
    body = root.done("POST", "/instances", {"id": "i_shop", "name": "Shop", **fields}, status=201)
    return body, Key(body["kid"], body["key"])


def test_an_instance_is_made_with_a_key_that_works(site: Any, root: ApiCaller) -> None:
    body, key = made(root, networks=["10.0.0.0/8", "127.0.0.1"], requests_per_minute=50)
    assert len(key.raw) == 32
    assert ask(site, key) == 200
    shown = root.done("GET", "/instances/i_shop")
    assert shown == {name: body[name] for name in shown}
    assert (shown["networks"], shown["requests_per_minute"], shown["status"]) == (
        ["10.0.0.0/8", "127.0.0.1"],
        50,
        "active",
    )
    [listed] = root.done("GET", "/instances")["items"]
    assert listed == shown
    [key_shown] = root.done("GET", "/instances/i_shop/keys")["items"]
    assert set(key_shown) == {"kid", "created_at", "expires_at"}
    everything = str(rows(site, "SELECT * FROM audit")) + str(rows(site, "SELECT id, instance_id FROM instance_keys"))
    assert key.secret not in everything


def test_a_secret_is_sealed(site: Any, root: ApiCaller) -> None:
    _, key = made(root)
    [(sealed,)] = rows(site, "SELECT secret FROM instance_keys")
    assert key.raw not in bytes(sealed)


@pytest.mark.parametrize(
    "fields",
    [
        {"networks": ["10.0.0.1/8"]},
        {"networks": ["x"]},
        {"networks": [""]},
        {"networks": ["0.0.0.0/0"] * 65},
        {"networks": None},
        {"requests_per_minute": 0},
        {"requests_per_minute": 100_001},
        {"status": "asleep"},
        {"id": "../x"},
        {"id": ""},
        {"name": "a\nb"},
        {"kid": "k"},
        {"created_at": "2026-01-01T00:00:00.000Z"},
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(root: ApiCaller, fields: Json) -> None:
    root.refused(422, "POST", "/instances", fields)


def test_an_id_is_there_once(root: ApiCaller) -> None:
    made(root)
    root.refused(409, "POST", "/instances", {"id": "i_shop"})


def test_instances_are_for_administrators(site: Any, root: ApiCaller) -> None:
    _, key = made(root)
    powers = ("users.read", "users.write", "plans.write", "roles.write", "orgs.write", "tokens.introspect")
    narrowed = ApiCaller(site, "u_admin", scopes={"permissions": ["users.write"]})
    for caller in (ApiCaller(site, "u_ada", *powers), narrowed):
        for method, path, body in (
            ("GET", "/instances", None),
            ("POST", "/instances", {}),
            ("GET", "/instances/i_shop", None),
            ("GET", "/instances/none", None),
            ("PUT", "/instances/i_shop", {"networks": []}),
            ("PATCH", "/instances/i_shop", {"status": "disabled"}),
            ("DELETE", "/instances/i_shop", None),
            ("GET", "/instances/i_shop/keys", None),
            ("GET", f"/instances/i_shop/keys/{key.kid}", None),
            ("POST", "/instances/i_shop/keys", {}),
            ("DELETE", f"/instances/i_shop/keys/{key.kid}", None),
        ):
            caller.refused(403, method, path, body)
    assert ask(site, key) == 200


def test_changes_are_merged_and_named_by_tags(site: Any, root: ApiCaller) -> None:
    _, key = made(root, networks=["10.0.0.0/8", "127.0.0.0/8"])
    first = root("GET", "/instances/i_shop")
    changed = root.done("PATCH", "/instances/i_shop", {"name": "Kiosk"}, if_match=first.headers["etag"])
    assert (changed["name"], changed["networks"]) == ("Kiosk", ["10.0.0.0/8", "127.0.0.0/8"])
    root.refused(412, "PATCH", "/instances/i_shop", {"name": "Late"}, if_match=first.headers["etag"])
    root.refused(422, "PATCH", "/instances/i_shop", {"networks": None})
    root.refused(422, "PUT", "/instances/i_shop", {"name": "x"})
    root.refused(422, "PATCH", "/instances/i_shop", {"id": "i_other"})
    assert root.done("PUT", "/instances/i_shop", {"networks": []})["name"] == ""
    assert ask(site, key) == 200
    root.done("PATCH", "/instances/i_shop", {"networks": ["10.0.0.0/8"]})
    assert ask(site, key) == 403
    root.done("PATCH", "/instances/i_shop", {"networks": [], "status": "disabled"})
    assert ask(site, key) == 401


def test_a_key_is_replaced_with_an_overlap(site: Any, root: ApiCaller) -> None:
    _, old = made(root)
    body = root.done("POST", "/instances/i_shop/keys", status=201)
    new = Key(body["kid"], body["key"])
    assert (body["expires_at"], body["older_until"] is not None) == (None, True)
    assert ask(site, old) == ask(site, new) == 200
    last = root.done("POST", "/instances/i_shop/keys", {"overlap_s": 0}, status=201)
    assert ask(site, old) == ask(site, new) == 401
    assert ask(site, Key(last["kid"], last["key"])) == 200
    both = root.done("POST", "/instances/i_shop/keys", {"overlap_s": None}, status=201)
    assert ask(site, Key(last["kid"], last["key"])) == ask(site, Key(both["kid"], both["key"])) == 200
    kept = {key["kid"] for key in root.done("GET", "/instances/i_shop/keys")["items"]}
    assert kept == {last["kid"], both["kid"]}, "those that ended are gone"


def test_a_key_has_an_end_of_its_own(root: ApiCaller) -> None:
    made(root)
    body = root.done("POST", "/instances/i_shop/keys", {"expires_at": "2096-01-01T00:00:00.000Z"}, status=201)
    assert body["expires_at"] == "2096-01-01T00:00:00.000Z"
    root.refused(422, "POST", "/instances/i_shop/keys", {"expires_at": "2001-01-01T00:00:00.000Z"})


def test_keys_are_listed_in_pages_and_found_where_they_were_said_to_be(site: Site, root: ApiCaller) -> None:
    _, first = made(root)
    answers = [root("POST", "/instances/i_shop/keys", {"overlap_s": None}) for _ in range(2)]
    site.run("UPDATE instance_keys SET created_at = 1000 WHERE id = ?", answers[1].json()["kid"])
    seen: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = root.done("GET", "/instances/i_shop/keys?limit=1" + (f"&cursor={cursor}" if cursor else ""))
        assert len(page["items"]) == 1
        seen, cursor = [*seen, *page["items"]], page["next"]
    assert seen == root.done("GET", "/instances/i_shop/keys")["items"]
    assert seen[0]["kid"] == answers[1].json()["kid"]
    assert {key["kid"] for key in seen} == {first.kid, *(answer.json()["kid"] for answer in answers)}
    for answer in answers:
        assert root.done("GET", answer.headers["location"]) in seen
    assert root.done("GET", "/instances/i_shop/keys")["next"] is None
    root.refused(404, "GET", "/instances/i_shop/keys/k_other")
    root.done("POST", "/instances", {"id": "i_other"}, status=201)
    root.refused(404, "GET", f"/instances/i_other/keys/{first.kid}")
    root.refused(400, "GET", f"/instances/i_other/keys?cursor={root.done('GET', '/instances?limit=1')['next']}")


def test_a_key_that_ends_sooner_by_now_is_not_the_one_that_was_looked_at(site: Any, root: ApiCaller) -> None:
    _, key = made(root)
    path = f"/instances/i_shop/keys/{key.kid}"
    tag = root("GET", path).headers["etag"]
    root.done("POST", "/instances/i_shop/keys", status=201)
    root.refused(412, "DELETE", path, if_match=tag)
    tag = root("GET", path).headers["etag"]
    overtake(site, "UPDATE instance_keys SET expires_at = 5000000000000")
    root.refused(412, "DELETE", path, if_match=tag)
    overtake(site, "UPDATE instance_keys SET expires_at = 6000000000000")
    root.done("DELETE", path, if_match="*")
    root.refused(404, "DELETE", path, if_match=tag)


def test_keys_have_a_bound(root: ApiCaller) -> None:
    made(root)
    for _ in range(9):
        root.done("POST", "/instances/i_shop/keys", {"overlap_s": None}, status=201)
    root.refused(409, "POST", "/instances/i_shop/keys", {"overlap_s": None})
    root.done("POST", "/instances/i_shop/keys", {"overlap_s": 0}, status=409)


def test_a_key_is_removed_at_once(site: Any, root: ApiCaller) -> None:
    _, key = made(root)
    root.refused(404, "DELETE", "/instances/i_shop/keys/k_other")
    root.done("POST", "/instances", {"id": "i_other"}, status=201)
    root.refused(404, "DELETE", f"/instances/i_other/keys/{key.kid}")
    root.done("DELETE", f"/instances/i_shop/keys/{key.kid}")
    assert ask(site, key) == 401


def test_a_deleted_instance_is_gone_with_its_keys(site: Any, root: ApiCaller) -> None:
    _, key = made(root)
    root.done("DELETE", "/instances/i_shop")
    assert ask(site, key) == 401
    assert rows(site, "SELECT * FROM instance_keys") == []
    for method, path in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("GET", "/keys"), ("POST", "/keys")):
        root.refused(404, method, f"/instances/i_shop{path}", {} if method in ("PATCH", "POST") else None)


def test_every_change_is_in_the_trail(site: Any, root: ApiCaller) -> None:
    _, key = made(root)
    root.done("PATCH", "/instances/i_shop", {"name": "Kiosk"})
    root.done("POST", "/instances/i_shop/keys", status=201)
    root.done("DELETE", f"/instances/i_shop/keys/{key.kid}")
    root.done("DELETE", "/instances/i_shop")
    told = rows(site, "SELECT actor, action, target FROM audit WHERE target = 'instance:i_shop' ORDER BY id")
    actions = ("instance.create", "instance.update", "instance.key", "instance.key", "instance.delete")
    assert told == [("user:u_admin", action, "instance:i_shop") for action in actions]


def test_networks_that_sql_left_unreadable_are_shown_as_none(site: Any, root: ApiCaller) -> None:
    _, key = made(root)
    site.run("UPDATE instances SET networks = '[1]'")
    assert ask(site, key) == 403
    assert root.done("GET", "/instances/i_shop")["networks"] is None
    assert root.done("PATCH", "/instances/i_shop", {"name": "Kiosk"})["networks"] is None
    root.refused(422, "PUT", "/instances/i_shop", {"networks": ["nonsense"]})
    assert root.done("PATCH", "/instances/i_shop", {"networks": []})["networks"] == []
