"""Balances put right over HTTP: by whom, within which bounds, once, and in the trail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site, StartSite, one, opened
from tests.support.api_caller import ApiCaller, at_once, everything, rows
from tests.support.overtaken_store import overtake
from tests.support.people import add_plan
from tests.support.signed_in import ORIGIN, Browser, cheap_hash

Json = dict[str, Any]
PATH = "/users/u_ada/quotas/voice_minutes/adjust"
POOL = "/orgs/o_acme/quotas/voice_minutes/adjust"
CONSUME = "/api/quotas/voice_minutes/consume"
WHY = "a dropped call"


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


@pytest.fixture
def writer(site: Site) -> ApiCaller:
    """Grace may write users, and is no administrator."""
    return ApiCaller(site, "u_grace", "users.write")


def adjust(caller: ApiCaller, path: str = PATH, **fields: Any) -> Json:
    return caller.done("POST", path, {"reason": WHY, **fields})


def trail(site: Site) -> list[tuple[Any, ...]]:
    return rows(site, "SELECT actor, action, target, before, after FROM audit ORDER BY id")


def consume(site: Site, amount: int, user: str = "u_ada", **fields: Any) -> None:
    ApiCaller(site, user).done("POST", CONSUME, {"amount": amount, "key": f"{user} {amount} {fields}", **fields})


# --- what it does ---


def test_units_are_given_back_and_taken(site: Site, writer: ApiCaller) -> None:
    consume(site, 100)
    response = writer("POST", PATH, {"amount": -30, "reason": WHY})
    assert response.status_code == 200
    body = response.json()
    assert response.headers["gateway-seq"] == str(body["seq"])
    assert rows(site, "SELECT max(seq) FROM change_log") == [(body["seq"],)]
    assert body == {
        "quota": "voice_minutes",
        "limit": 500,
        "used": 70,
        "reserved": 0,
        "remaining": 430,
        "period": "month",
        "hard": True,
        "resets_at": body["resets_at"],
        "level": "ok",
        "seq": body["seq"],
    }
    assert adjust(writer, amount=5)["used"] == 75
    assert adjust(writer, used=3)["used"] == 3
    assert rows(site, "SELECT kind, spender, reason, used, used_after FROM quota_ledger WHERE kind = 'adjust'") == [
        ("adjust", "user:u_grace", WHY, -30, 70),
        ("adjust", "user:u_grace", WHY, 5, 75),
        ("adjust", "user:u_grace", WHY, -72, 3),
    ]
    told = ("user:u_grace", "quota.adjust", "user:u_ada")
    assert trail(site) == [
        (*told, '{"used":100}', '{"quota":"voice_minutes","amount":-30,"reason":"a dropped call"}'),
        (*told, '{"used":70}', '{"quota":"voice_minutes","amount":5,"reason":"a dropped call"}'),
        (*told, '{"used":75}', '{"quota":"voice_minutes","used":3,"reason":"a dropped call"}'),
    ]
    [entry] = writer.site.client.get(
        "/audit?action=quota.adjust&user=u_ada&limit=1", headers=ApiCaller(site, "u_admin").headers
    ).json()["items"]
    assert (entry["before"], entry["after"]["used"], entry["after"]["reason"]) == ({"used": 75}, 3, WHY)


def test_whose_balance_it_is_sees_it(site: Site, admin: ApiCaller) -> None:
    with site.connect(site.bearer("u_ada")) as socket:
        opened(socket)
        seq = adjust(admin, amount=450)["seq"]
        update = one(socket, "update")
    assert (update["seq"], update["causes"]) == (seq, ["quota_usage"])
    assert update["patch"]["quotas"]["voice_minutes"] == {"used": 450, "remaining": 50, "level": "low"}


def test_a_pool_is_corrected(site: Site) -> None:
    writer = ApiCaller(site, "u_grace", "orgs.write")
    consume(site, 20, org="o_acme")
    answered = adjust(writer, POOL, used=7)
    assert (answered["org"], answered["used"], answered["remaining"]) == ("o_acme", 7, 9_993)
    assert adjust(ApiCaller(site, "u_admin"), POOL, amount=1)["used"] == 8
    assert [entry[:3] for entry in trail(site)] == [
        ("user:u_grace", "quota.adjust", "org:o_acme"),
        ("user:u_admin", "quota.adjust", "org:o_acme"),
    ]


def test_seats_are_set_and_never_reset(site: Site, admin: ApiCaller) -> None:
    site.write(*add_plan("team", seats=(5, "never")))
    site.run("UPDATE organizations SET plan = 'team'")
    path = "/orgs/o_acme/quotas/seats/adjust"
    for used in (3, 5, 0, 5):
        answered = adjust(admin, path, used=used)
        assert (answered["used"], answered["remaining"], answered["period"]) == (used, 5 - used, "never")
        assert "resets_at" not in answered
    problem = admin.refused(409, "POST", path, {"used": 6, "reason": WHY})
    assert (problem["code"], problem["quota"], problem["remaining"]) == ("quota_exceeded", "seats", 0)


def test_what_changes_nothing_is_an_entry_all_the_same(site: Site, admin: ApiCaller) -> None:
    assert adjust(admin, used=0)["used"] == 0
    assert adjust(admin, amount=0)["used"] == 0
    assert rows(site, "SELECT kind, used FROM quota_ledger") == [("adjust", 0)] * 2
    assert len(trail(site)) == 2


def test_one_who_is_disabled_is_corrected_too(site: Site, admin: ApiCaller) -> None:
    site.run("UPDATE users SET status = 'disabled' WHERE id = 'u_ada'")
    assert adjust(admin, used=9)["used"] == 9


# --- bounds ---


def test_what_adds_obeys_a_hard_limit(site: Site, writer: ApiCaller) -> None:
    consume(site, 490)
    before = everything(site)
    for body in ({"amount": 11}, {"used": 501}, {"used": 2**53 - 1}, {"amount": 2**31}):
        problem = writer.refused(409, "POST", PATH, {"reason": WHY, **body})
        assert (problem["code"], problem["remaining"], "resets_at" in problem) == ("quota_exceeded", 10, True)
    assert everything(site) == before
    assert adjust(writer, amount=10)["remaining"] == 0
    soft = "/users/u_ada/quotas/sms_messages/adjust"
    assert adjust(writer, soft, used=5_000)["used"] == 5_000


def test_nothing_goes_below_zero(site: Site, writer: ApiCaller) -> None:
    consume(site, 10)
    before = everything(site)
    for amount in (-11, -(2**31)):
        assert writer.refused(409, "POST", PATH, {"reason": WHY, "amount": amount})["code"] == "conflict"
    assert everything(site) == before
    assert adjust(writer, amount=-10)["used"] == 0


def test_a_limit_that_was_lowered_can_be_left_by_going_down(site: Site, writer: ApiCaller) -> None:
    consume(site, 400)
    site.run("UPDATE plan_quotas SET limit_value = 100 WHERE quota = 'voice_minutes'")
    assert adjust(writer, used=300)["remaining"] == 0
    assert writer.refused(409, "POST", PATH, {"reason": WHY, "used": 301})["code"] == "quota_exceeded"


@pytest.mark.parametrize("quota", ["calls", "Voice_minutes", "1quota", "a" * 65, "%00", "user:u_ada"])
def test_a_quota_that_is_not_there(site: Site, admin: ApiCaller, quota: str) -> None:
    before = everything(site)
    for owner in ("users/u_ada", "orgs/o_acme"):
        path = f"/{owner}/quotas/{quota}/adjust"
        assert admin.refused(404, "POST", path, {"amount": 1, "reason": WHY})["code"] == "not_found"
    assert everything(site) == before


# --- keys ---


def test_one_key_is_one_correction(site: Site, writer: ApiCaller) -> None:
    consume(site, 100)
    body = {"amount": -30, "reason": WHY}
    first = writer.done("POST", PATH, body, idempotency_key="once")
    before = everything(site)
    for again in (
        writer("POST", PATH, body, idempotency_key='"once"'),
        writer("POST", PATH, body | {"key": "once"}),
        writer("POST", PATH, body | {"key": "once"}, idempotency_key="once"),
    ):
        assert (again.status_code, again.json()) == (200, first)
    for path, other in (
        (PATH, {"amount": -31}),
        (PATH, {"amount": 30}),
        (PATH, {"reason": "another"}),
        (PATH.replace("u_ada", "u_alan"), {}),
        (PATH.replace("voice_minutes", "sms_messages"), {}),
    ):
        problem = writer.refused(409, "POST", path, body | other, idempotency_key="once")
        assert problem["code"] == "conflict"
    assert everything(site) == before
    assert len(trail(site)) == 1


def test_a_key_that_consumed_corrects_nothing(site: Site) -> None:
    ada = ApiCaller(site, "u_ada", "users.write")
    ada.done("POST", CONSUME, {"amount": 5, "key": "k"})
    before = everything(site)
    assert ada.refused(409, "POST", PATH, {"amount": 5, "reason": WHY, "key": "k"})["code"] == "conflict"
    assert everything(site) == before


def test_without_a_key_each_is_another(writer: ApiCaller) -> None:
    assert [adjust(writer, amount=2)["used"] for _ in range(3)] == [2, 4, 6]


def test_corrections_at_once_all_count(site: Site, admin: ApiCaller, writer: ApiCaller) -> None:
    body = {"amount": 3, "reason": WHY}
    callers = [ApiCaller(site, "u_admin") if number % 2 else writer for number in range(20)]
    answers = at_once(site, [caller.request("POST", PATH, body) for caller in callers])
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["used"] for answer in answers) == list(range(3, 63, 3))
    same = at_once(site, [writer.request("POST", PATH, body | {"key": "k"})] * 10)
    assert {answer.json()["used"] for answer in same} == {63}


# --- bodies ---


WRONG: list[tuple[str, Any]] = [
    *(("reason", reason) for reason in ("", "x" * 201, "a\0b", "a\nb", "\x7f", "\u0085", None, 1, ["x"])),
    *(("amount", amount) for amount in (2**31 + 1, -(2**31) - 1, 2**53, 2**63, -(2**63) - 1, 2**64)),
    *(("amount", amount) for amount in (1.5, 1.0, "1", None, True, [1])),
    *(("key", key) for key in ("", "a" * 129, "a\n", None, 7)),
    *((name, 1) for name in ("kind", "owner", "actor", "period_start", "reserved", "seq")),
]
WRONG_TOTALS: list[Any] = [-1, 2**53, 2**63, 2**64, 0.5, "0", None, False, {}]
BAD: list[Json] = [
    *({}, {"reason": WHY}, {"amount": 1}, {"used": 1}, {"amount": 1, "used": 1, "reason": WHY}),
    *({"amount": 1, "reason": WHY} | {name: value} for name, value in WRONG),
    *({"used": used, "reason": WHY} for used in WRONG_TOTALS),
]


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_what_is_no_correction_is_refused(site: Site, admin: ApiCaller, body: Json) -> None:
    before = everything(site)
    for path in (PATH, POOL):
        assert admin.refused(422, "POST", path, body)["code"] == "unprocessable"
    assert everything(site) == before


def test_what_can_not_be_read_is_refused(site: Site, admin: ApiCaller) -> None:
    before = everything(site)
    headers = admin.headers | {"content-type": "application/json"}
    for text in ('{"amount": NaN, "reason": "x"}', '{"used": Infinity, "reason": "x"}', '{"amount": 1', "", "x"):
        answer = site.client.post(PATH, content=text, headers=headers)
        assert answer.status_code == 400, answer.text
    sent = [*admin.headers.items(), ("idempotency-key", "a"), ("idempotency-key", "a")]
    assert site.client.post(PATH, json={"amount": 1, "reason": WHY}, headers=sent).status_code == 400
    admin.refused(400, "POST", PATH, {"amount": 1, "reason": WHY, "key": "a"}, idempotency_key="b")
    assert everything(site) == before


def test_a_reason_is_text_and_nothing_else(site: Site, admin: ApiCaller) -> None:
    for reason in ("'; DROP TABLE users; --", "💥" * 200, "x", "{}"):
        adjust(admin, amount=1, reason=reason)
        assert rows(site, "SELECT reason FROM quota_ledger ORDER BY id DESC LIMIT 1") == [(reason,)]


# --- who ---


def test_others_correct_nothing(site: Site) -> None:
    """Neither the own balance nor another's; a user that may not be seen is not there."""
    consume(site, 10)
    ada, body = ApiCaller(site, "u_ada", "users.read", "orgs.read"), {"amount": -1, "reason": WHY}
    grace = ApiCaller(site, "u_grace")
    before = everything(site)
    assert ada.refused(403, "POST", PATH, body)["code"] == "forbidden"
    ada.refused(403, "POST", "/users/u_grace/quotas/voice_minutes/adjust", body)
    ada.refused(404, "POST", "/users/u_nobody/quotas/voice_minutes/adjust", body)
    absent = grace("POST", "/users/u_nobody/quotas/voice_minutes/adjust", body)
    foreign = grace("POST", PATH, body)
    assert (absent.status_code, absent.content) == (foreign.status_code, foreign.content)
    assert absent.status_code == 404
    assert everything(site) == before


def test_those_who_manage_an_organization_do_not_correct_its_pool(site: Site) -> None:
    consume(site, 10, org="o_acme")
    body = {"amount": -1, "reason": WHY}
    callers = [ApiCaller(site, user) for user in ("u_alan", "u_ada", "u_grace")]
    callers.append(ApiCaller(site, "u_grace", "users.write", "orgs.read"))
    before = everything(site)
    for caller in callers:
        assert caller.refused(403, "POST", POOL, body)["code"] == "forbidden"
    site.run("DELETE FROM memberships WHERE user_id = 'u_ada'")
    stranger = ApiCaller(site, "u_ada")
    absent = stranger("POST", "/orgs/o_nobody/quotas/voice_minutes/adjust", body)
    foreign = stranger("POST", POOL, body)
    assert (foreign.status_code, foreign.content) == (absent.status_code, absent.content)
    assert absent.status_code == 404
    assert everything(site) == before | {"memberships": everything(site)["memberships"]}


def test_an_administrators_balance_is_corrected_by_administrators(site: Site, writer: ApiCaller) -> None:
    path, body = "/users/u_admin/quotas/voice_minutes/adjust", {"amount": 1, "reason": WHY}
    before = everything(site)
    writer.refused(403, "POST", path, body)
    narrowed = ApiCaller(site, "u_admin", scopes={"permissions": ["users.write"]})
    narrowed.refused(403, "POST", path, body)
    assert everything(site) == before
    assert adjust(ApiCaller(site, "u_admin"), path, amount=1)["used"] == 1


@pytest.mark.parametrize("scopes", [[], ["quotas.spend"], ["users.read", "orgs.read"], ["quota.adjust"]])
def test_a_narrowed_token_needs_the_permission_among_its_scopes(site: Site, scopes: list[str]) -> None:
    before = everything(site)
    narrowed = ApiCaller(site, "u_admin", scopes={"permissions": scopes})
    for path in (PATH, POOL):
        assert narrowed("POST", path, {"amount": 1, "reason": WHY}).status_code in (403, 404)
    assert everything(site) == before


def test_a_token_narrowed_to_it_corrects(site: Site) -> None:
    assert adjust(ApiCaller(site, "u_admin", scopes={"permissions": ["users.write"]}), amount=1)["used"] == 1
    assert adjust(ApiCaller(site, "u_admin", scopes={"permissions": ["orgs.write"]}), POOL, amount=1)["used"] == 1
    site.run("INSERT INTO user_permissions(user_id, permission) VALUES ('u_grace', 'users.write')")
    assert adjust(ApiCaller(site, "u_grace", scopes={"permissions": ["users.write"]}), amount=1)["used"] == 2


def test_nobody_corrects_without_a_credential(site: Site) -> None:
    before = everything(site)
    for path in (PATH, POOL):
        assert site.client.post(path, json={"amount": 1, "reason": WHY}).status_code == 401
    assert everything(site) == before


def test_a_browser_needs_its_csrf_token_and_its_own_page(start_site: StartSite) -> None:
    site = start_site(base_url=ORIGIN)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    browser = Browser(site.client)
    browser.sign_in("root")
    body = {"amount": 1, "reason": WHY}
    for path in (PATH, POOL):
        for headers in ({"x_csrf_token": None}, {"x_csrf_token": "x"}, {"origin": "https://evil.example"}):
            assert browser.post(path, body, **headers).status_code == 403
        assert browser.post(path, body).json()["used"] == 1


# --- who is overtaken ---


@pytest.mark.parametrize("path", [PATH, POOL])
@pytest.mark.parametrize(
    ("ahead", "status"),
    [
        ("UPDATE users SET is_admin = 0 WHERE id = 'u_admin'", 403),
        ("UPDATE users SET status = 'disabled' WHERE id = 'u_admin'", 401),
        ("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = 'u_admin'", 401),
        ("DELETE FROM users WHERE id = 'u_admin'", 401),
    ],
)
def test_who_may_not_any_more_by_then_corrects_nothing(site: Site, path: str, ahead: str, status: int) -> None:
    admin = ApiCaller(site, "u_admin")
    overtaken = overtake(site, ahead)
    admin.refused(status, "POST", path, {"amount": 1, "reason": WHY})
    assert overtaken.left is not None
    assert everything(site) == overtaken.left


def test_who_became_an_administrator_by_then_is_no_writers_to_correct(site: Site, writer: ApiCaller) -> None:
    overtaken = overtake(site, "UPDATE users SET is_admin = 1 WHERE id = 'u_ada'")
    writer.refused(403, "POST", PATH, {"amount": 1, "reason": WHY})
    assert everything(site) == overtaken.left


def test_units_taken_by_then_count(site: Site, writer: ApiCaller) -> None:
    """The limit, and what the trail says was there before, are those of the write."""
    consume(site, 10)
    overtake(site, "UPDATE quota_usage SET used = 300")
    assert adjust(writer, amount=1)["used"] == 301
    assert [entry[3] for entry in trail(site)] == ['{"used":300}']
    overtake(site, "UPDATE quota_usage SET used = 500")
    problem = writer.refused(409, "POST", PATH, {"amount": 1, "reason": WHY})
    assert (problem["code"], problem["remaining"]) == ("quota_exceeded", 0)
    assert len(trail(site)) == 1
