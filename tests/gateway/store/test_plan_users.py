from __future__ import annotations

import pytest

from gateway.core.facts import UserFacts
from gateway.core.permissions import Grant, RoleGrant
from gateway.core.quotas import Limit, QuotaOverride, Usage
from gateway.store import plan_users
from gateway.store.database import Database, Statement
from gateway.store.plan_users import organizations_on_plan, users_on_plan
from tests.support.people import add_plan, add_user

NOW = 1_795_288_200_000


async def everybody(database: Database, plan: str, quotas: dict[str, Limit]) -> dict[str, UserFacts | None]:
    pages = [page async for page in users_on_plan(database, plan, quotas, NOW)]
    users = [user for page in pages for user in page]
    assert len(dict(users)) == len(users)
    return dict(users)


@pytest.mark.storages("file", "server")
async def test_everybody_on_the_plan_comes_with_what_counts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_users, "PAGE", 2)
    await database.write(*add_plan("pro"), *add_plan("free"))
    await database.write(*(add_user(f"u{number}", "free" if number == 3 else "pro") for number in range(6)))
    await database.write(
        Statement("UPDATE users SET status = 'disabled', timezone = 'Asia/Kolkata', anchor_at = 7 WHERE id = 'u5'"),
        Statement("INSERT INTO roles (id) VALUES ('r')"),
        Statement("INSERT INTO user_roles (user_id, role, expires_at) VALUES ('u1', 'r', 9), ('u3', 'r', NULL)"),
        Statement("INSERT INTO user_permissions VALUES ('u1', 'a', 'deny', 3, 4)"),
        Statement(
            "INSERT INTO user_quotas (user_id, quota, limit_value, period, hard) VALUES ('u1', 'q', 5, 'day', 0)"
        ),
        Statement(
            "INSERT INTO quota_usage (owner, quota, period_start, used, reserved) VALUES"
            " ('user:u1', 'q', ?1, 2, 1), ('user:u1', 'other', ?1, 9, 9), ('user:u1', 'q', ?1 - 999999999999, 9, 9),"
            " ('user:u1', 'ever', 0, 4, 0), ('user:u3', 'q', ?1, 9, 9), ('org:u1', 'q', ?1, 9, 9)",
            (NOW - 5,),
        ),
    )
    quotas = {"q": Limit(3, "month", True), "ever": Limit(3, "never", True)}
    found = await everybody(database, "pro", quotas)
    assert list(found) == ["u0", "u1", "u2", "u4", "u5"]
    assert found["u0"] == UserFacts("pro", True, False, "UTC", None)
    assert found["u1"] == UserFacts(
        *("pro", True, False, "UTC", None),
        roles=(RoleGrant("r", 9),),
        grants=(Grant("a", "deny", 3, 4),),
        overrides={"q": (QuotaOverride(Limit(5, "day", False), None, None),)},
        usages={"q": (Usage(NOW - 5, 2, 1),), "ever": (Usage(0, 4, 0),)},
    )
    assert found["u5"] == UserFacts("pro", False, False, "Asia/Kolkata", 7)
    assert await everybody(database, "none", quotas) == {}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
async def test_no_page_is_forgotten(database: Database, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(plan_users, "PAGE", 2)
    await database.write(*add_plan("pro"), *(add_user(f"u{number}", "pro") for number in range(count)))
    assert len(await everybody(database, "pro", {})) == count


async def test_who_can_have_no_document_has_no_facts(database: Database) -> None:
    await database.write(*add_plan("pro"), add_user("u1", "pro", timezone="Nowhere/Land"), add_user("u2", "pro"))
    found = await everybody(database, "pro", {})
    assert (found["u1"], found["u2"] is None) == (None, False)


async def test_organizations_are_counted(database: Database) -> None:
    await database.write(*add_plan("pro"), *add_plan("free"))
    await database.write(
        Statement("INSERT INTO organizations (id, name, plan) VALUES ('a', 'A', 'pro'), ('b', 'B', 'free')")
    )
    assert [await organizations_on_plan(database, plan) for plan in ("pro", "free", "none")] == [1, 1, 0]
