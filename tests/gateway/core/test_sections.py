from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.document import Document
from gateway.core.facts import (
    Cap,
    Catalog,
    Member,
    Membership,
    OrganizationFacts,
    Plan,
    Section,
    UserFacts,
    UserSections,
)
from gateway.core.permissions import Grant, RoleGrant
from gateway.core.quotas import Limit, QuotaOverride, Usage
from gateway.core.sections import (
    OrganizationRow,
    UserRow,
    identity_section,
    members_section,
    organization_section,
    organizations_section,
    override_rows,
    permissions_section,
    pool_quotas,
    quotas_section,
    user_permissions,
    user_sections,
)


def ms(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


NOW = ms(2026, 11, 21, 19, 10)
NOVEMBER, DECEMBER = ms(2026, 11, 1), ms(2026, 12, 1)
ROW = UserRow("u_1", "ada", "Ada", "a@example.org", "pro", "active", 0, "{}", NOW, NOW + 1)


def user(**fields: Any) -> UserFacts:
    return UserFacts("pro", True, False, "UTC", None)._replace(**fields)


def catalog(*permissions: str, **quotas: Limit) -> Catalog:
    made = Catalog()
    made.plans["pro"] = Plan(frozenset(permissions), quotas)
    return made


# --- identity --------------------------------------------------------------------------------------------------------


def test_the_identity_is_canonical_and_has_no_nulls() -> None:
    expected = {
        "id": "u_1",
        "username": "ada",
        "name": "Ada",
        "email": "a@example.org",
        "plan": "pro",
        "status": "active",
        "is_admin": False,
        "created_at": "2026-11-21T19:10:00.000Z",
        "updated_at": "2026-11-21T19:10:00.001Z",
        "attributes": {},
    }
    assert identity_section(ROW) == rfc8785.dumps(expected)
    del expected["email"]
    expected |= {"is_admin": True, "attributes": {"a": {"b": 1}, "list": [1]}}
    row = ROW._replace(email=None, is_admin=1, attributes='{ "a":{"b":1.0,"c":null}, "list":[null,1] }')
    assert identity_section(row) == rfc8785.dumps(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": "[]"},
        {"attributes": '{"a":9007199254740992}'},
        {"attributes": '{"a":1e400}'},
        {"attributes": '{"a":' + "[" * 100 + "]" * 100 + "}"},
        {"attributes": "{"},
        {"created_at": 10**18},
        {"updated_at": -(10**18)},
    ],
)
def test_a_row_that_no_document_can_hold_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        identity_section(ROW._replace(**change))
    if "attributes" in change:
        with pytest.raises(ValueError, match=r"."):
            organization_section(OrganizationRow("o", "O", "pro", "active", change["attributes"], 0, 0))


def test_an_organization_shows_itself() -> None:
    row = OrganizationRow("o_1", "Acme", "pro", "disabled", '{"z":1,"a":"é"}', NOW, NOW)
    at = "2026-11-21T19:10:00.000Z"
    expected = {"id": "o_1", "name": "Acme", "plan": "pro", "status": "disabled", "created_at": at, "updated_at": at}
    assert organization_section(row) == rfc8785.dumps(expected | {"attributes": {"z": 1, "a": "é"}})


# --- permissions -----------------------------------------------------------------------------------------------------


def test_equal_permissions_are_the_same_bytes() -> None:
    first = permissions_section(frozenset(("b", "a")))
    assert first == b'{"a":true,"b":true}'
    assert permissions_section(frozenset(("a", "b"))) is first
    assert permissions_section(frozenset()) == b"{}"


def test_permissions_come_from_plan_roles_and_rows_each_within_its_dates() -> None:
    known = catalog("plan_a", "plan_b")
    known.roles = {"r1": frozenset(("role_a",)), "r2": frozenset(("role_b",))}
    mine = user(
        roles=(RoleGrant("r1", NOW + 5), RoleGrant("r2", NOW), RoleGrant("gone", None)),
        grants=(Grant("plan_b", "deny", None, NOW + 9), Grant("own", "allow", NOW + 3, None)),
    )
    assert user_permissions(mine, known, NOW) == (frozenset(("plan_a", "role_a")), NOW + 3)
    assert user_permissions(mine, known, NOW + 3) == (frozenset(("plan_a", "role_a", "own")), NOW + 5)
    assert user_permissions(mine, known, NOW + 5) == (frozenset(("plan_a", "own")), NOW + 9)
    assert user_permissions(mine, known, NOW + 9) == (frozenset(("plan_a", "plan_b", "own")), None)
    assert user_permissions(mine._replace(active=False), known, NOW) == (frozenset(), None)
    assert user_permissions(user(plan="gone"), known, NOW) == (frozenset(), None)


# --- quotas ----------------------------------------------------------------------------------------------------------


def test_the_plans_quotas_with_what_was_used() -> None:
    known = catalog(minutes=Limit(500, "month", True), sms=Limit(None, "month", True), ever=Limit(3, "never", False))
    mine = user(usages={"minutes": (Usage(NOVEMBER, 12, 5),), "ever": (Usage(0, 3, 0),)})
    section = quotas_section(mine, known, NOW)
    assert section.changes_at == DECEMBER
    resets_at = "2026-12-01T00:00:00.000Z"
    assert json.loads(section.content) == {
        "minutes": {
            "limit": 500,
            "used": 12,
            "reserved": 5,
            "remaining": 483,
            "period": "month",
            "hard": True,
            "resets_at": resets_at,
            "level": "ok",
        },
        "sms": {"used": 0, "period": "month", "resets_at": resets_at, "level": "ok"},
        "ever": {
            "limit": 3,
            "used": 3,
            "reserved": 0,
            "remaining": 0,
            "period": "never",
            "hard": False,
            "level": "exhausted",
        },
    }
    assert section.content == rfc8785.dumps(json.loads(section.content))


def quotas_of(sections: UserSections) -> Any:
    return json.loads(sections.contents[2])


def test_who_has_nothing_but_a_plan_shares_all_sections_with_others_of_the_plan() -> None:
    known = catalog(minutes=Limit(500, "month", True))
    first = user_sections(user(), known, NOW)
    assert user_sections(user(), known, NOW + 1) is first
    assert first.permissions == known.plan("pro").permissions
    assert first.contents == (
        organizations_section(user(), known, NOW).content,
        permissions_section(first.permissions),
        quotas_section(user(), known, NOW).content,
    )
    assert user_sections(user(active=False), known, NOW).permissions == frozenset()
    assert user_sections(user(timezone="Asia/Tokyo"), known, NOW).contents[2] != first.contents[2]
    assert user_sections(user(anchor_at=ms(2026, 1, 5)), known, NOW).changes_at == ms(2026, 12, 5)
    assert user_sections(user(usages={"minutes": (Usage(NOVEMBER, 3, 0),)}), known, NOW) is not first
    assert quotas_of(user_sections(user(), known, DECEMBER))["minutes"]["resets_at"].startswith("2027-01-01")


def test_what_is_shared_is_built_again_when_the_clock_is_set_back() -> None:
    known = catalog(minutes=Limit(500, "month", True))
    later = user_sections(user(), known, DECEMBER)
    assert quotas_of(user_sections(user(), known, NOW))["minutes"]["resets_at"].startswith("2026-12-01")
    assert user_sections(user(), known, DECEMBER).contents == later.contents


def test_an_override_replaces_the_plans_row_while_it_is_in_force() -> None:
    known = catalog(minutes=Limit(500, "month", True))
    mine = user(
        overrides={
            "minutes": (QuotaOverride(Limit(7, "day", False), NOW + 10, NOW + 20),),
            "extra": (QuotaOverride(Limit(None, "never", True), None, None),),
        }
    )
    by_time = {at: quotas_section(mine, known, at) for at in (NOW, NOW + 10, NOW + 20)}
    limits = {at: json.loads(section.content)["minutes"]["limit"] for at, section in by_time.items()}
    assert limits == {NOW: 500, NOW + 10: 7, NOW + 20: 500}
    assert [section.changes_at for section in by_time.values()] == [NOW + 10, NOW + 20, DECEMBER]
    assert all(
        json.loads(s.content)["extra"] == {"used": 0, "period": "never", "level": "ok"} for s in by_time.values()
    )


def test_without_quotas_nothing_changes_by_the_clock() -> None:
    assert quotas_section(user(), catalog("a"), NOW) == Section(b"{}", None)


def test_rows_of_one_quota_stay_together() -> None:
    first, second = (QuotaOverride(Limit(number, "day", True), None, None) for number in (1, 2))
    assert override_rows([("a", first), ("b", first), ("a", second)]) == {"a": (first, second), "b": (first,)}


# --- organizations ---------------------------------------------------------------------------------------------------


def acme(**fields: Any) -> OrganizationFacts:
    return OrganizationFacts("Acme", "pro", True, "UTC", None, b"{}")._replace(**fields)


def member(*caps: Cap, **fields: Any) -> UserFacts:
    return user(memberships=(Membership("acme", "admin"),), caps=caps)._replace(**fields)


def test_a_member_sees_the_pool_the_own_cap_and_what_the_role_grants() -> None:
    known = catalog(minutes=Limit(1000, "month", True))
    known.organizations["acme"] = acme(usages={"minutes": (Usage(NOVEMBER, 900, 0),)})
    known.organization_roles = {"admin": frozenset(("manage_members",))}
    mine = member(
        Cap("acme", "minutes", 10),
        Cap("other", "minutes", 5),
        Cap("acme", "unknown", 5),
        member_usages={
            ("acme", "minutes"): (Usage(NOVEMBER, 4, 1), Usage(NOW, 2, 0), Usage(NOVEMBER - 1, 90, 0)),
            ("other", "minutes"): (Usage(NOVEMBER, 90, 0),),
        },
    )
    section = organizations_section(mine, known, NOW)
    assert section.changes_at == DECEMBER
    assert section.content == rfc8785.dumps(
        {
            "acme": {
                "name": "Acme",
                "role": "admin",
                "permissions": {"manage_members": True},
                "quotas": {
                    "minutes": {
                        "limit": 1000,
                        "used": 900,
                        "reserved": 0,
                        "remaining": 100,
                        "period": "month",
                        "hard": True,
                        "resets_at": "2026-12-01T00:00:00.000Z",
                        "level": "low",
                        "cap": 10,
                        "cap_remaining": 3,
                    }
                },
            }
        }
    )
    assert pool_quotas(known.organizations["acme"], known, NOW)[1] == DECEMBER


def test_a_cap_without_a_limit_is_absent() -> None:
    known = catalog(minutes=Limit(1000, "month", True))
    known.organizations["acme"] = acme()
    section = organizations_section(member(Cap("acme", "minutes", None)), known, NOW)
    assert {"cap", "cap_remaining"}.isdisjoint(json.loads(section.content)["acme"]["quotas"]["minutes"])


@pytest.mark.parametrize(("limit", "hard"), [(1000, True), (1000, False), (None, True)])
def test_what_a_cap_leaves_begins_anew_with_the_pools_period(limit: int | None, hard: bool) -> None:
    """By the organization's zone and anchor, not by the member's; and a row that is there already is announced."""
    known = catalog(minutes=Limit(limit, "day", hard))
    known.organizations["acme"] = acme(timezone="Asia/Kolkata")
    midnight = ms(2026, 11, 22, 18, 30)
    mine = member(
        Cap("acme", "minutes", 10),
        timezone="America/New_York",
        member_usages={
            ("acme", "minutes"): (Usage(midnight - 1, 9, 3), Usage(midnight, 1, 0), Usage(midnight + 5, 2, 0))
        },
    )
    left = {}
    for at in (midnight - 2, midnight - 1, midnight, midnight + 4, midnight + 5):
        section = organizations_section(mine, known, at)
        left[at] = json.loads(section.content)["acme"]["quotas"]["minutes"]["cap_remaining"]
        assert section.changes_at is not None
        later = organizations_section(mine, known, section.changes_at - 1)
        assert later == section
    assert list(left.values()) == [10, 0, 9, 9, 7]


def test_an_organization_that_is_disabled_or_gone_is_not_shown() -> None:
    known = catalog()
    assert organizations_section(member(), known, NOW) == Section(b"{}", None)
    known.organizations["acme"] = acme(active=False)
    assert organizations_section(member(), known, NOW) == Section(b"{}", None)


def test_a_member_who_is_not_active_may_nothing() -> None:
    known = catalog()
    known.organizations["acme"] = acme()
    known.organization_roles = {"admin": frozenset(("manage_members",))}
    section = organizations_section(member(active=False), known, NOW)
    assert json.loads(section.content)["acme"]["permissions"] == {}


def test_the_members_of_an_organization() -> None:
    listed = acme(members=(Member("u_2", "member", NOW), Member("u_1", "owner", NOW + 1)))
    assert members_section(listed) == rfc8785.dumps(
        {
            "u_1": {"role": "owner", "since": "2026-11-21T19:10:00.001Z"},
            "u_2": {"role": "member", "since": "2026-11-21T19:10:00.000Z"},
        }
    )
    assert members_section(acme()) == b"{}"


# --- the clock -------------------------------------------------------------------------------------------------------

moments = st.none() | st.integers(-4, 4).map(lambda step: NOW + step * 6 * 3_600_000)
limits = st.builds(
    Limit, st.none() | st.integers(0, 20), st.sampled_from(["hour", "day", "week", "never"]), st.booleans()
)
usages = st.lists(
    st.builds(Usage, st.integers(-4, 4).map(lambda step: NOW + step * 6 * 3_600_000), st.integers(0, 9), st.just(0)),
    max_size=3,
    unique_by=lambda usage: usage.period_start,
).map(tuple)
by_quota = st.sampled_from(["q1", "q2"])
any_user = st.builds(
    user,
    timezone=st.sampled_from(["UTC", "Asia/Kolkata"]),
    anchor_at=st.none() | st.just(ms(2026, 1, 5, 3)),
    roles=st.lists(st.builds(RoleGrant, st.sampled_from(["r1", "r2"]), moments), max_size=2).map(tuple),
    grants=st.lists(
        st.builds(Grant, st.sampled_from(["a", "b"]), st.sampled_from(["allow", "deny"]), moments, moments), max_size=3
    ).map(tuple),
    overrides=st.dictionaries(
        by_quota, st.lists(st.builds(QuotaOverride, limits, moments, moments), min_size=1, max_size=2).map(tuple)
    ),
    usages=st.dictionaries(by_quota, usages),
    memberships=st.just((Membership("acme", "admin"),)),
    caps=st.lists(
        st.builds(Cap, st.just("acme"), by_quota, st.none() | st.integers(0, 20)),
        max_size=2,
        unique_by=lambda cap: cap.quota,
    ).map(tuple),
    member_usages=st.dictionaries(st.tuples(st.just("acme"), by_quota), usages),
)


@settings(max_examples=60)
@given(mine=any_user, plan=st.dictionaries(by_quota, limits), pool=st.dictionaries(by_quota, usages))
def test_nothing_changes_before_the_moment_that_was_named(mine: UserFacts, plan: Any, pool: Any) -> None:
    """Between two moments that the sections themselves name, a document built at any other moment is the same."""

    def known() -> Catalog:
        """A new one every time: what a catalog keeps for sharing must not hide a change."""
        made = catalog("a", **plan)
        made.roles = {"r1": frozenset(("b",)), "r2": frozenset(("c",))}
        made.organizations["acme"] = acme(usages=pool)
        return made

    def built(at: int) -> tuple[str, int | None]:
        permissions, first = user_permissions(mine, known(), at)
        quotas, organizations = quotas_section(mine, known(), at), organizations_section(mine, known(), at)
        parts = {"p": permissions_section(permissions), "q": quotas.content, "o": organizations.content}
        times = [moment for moment in (first, quotas.changes_at, organizations.changes_at) if moment is not None]
        return Document(parts.items()).rev, min(times, default=None)

    now = NOW - 30 * 3_600_000
    rev, changes_at = built(now)
    while now < NOW + 30 * 3_600_000:
        assert changes_at is None or changes_at > now
        until = NOW + 30 * 3_600_000 if changes_at is None else min(changes_at, NOW + 30 * 3_600_000)
        for between in (now + 1, (now + until) // 2, until - 1):
            if now < between < until:
                assert built(between) == (rev, changes_at)
        now = until
        rev, changes_at = built(now)
