from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.facts import Membership, UserFacts
from gateway.core.permissions import RoleGrant
from gateway.live.entry import UserEntry
from gateway.live.related import Related

facts = st.builds(
    lambda plan, roles, organizations: UserFacts(
        plan,
        True,
        False,
        "UTC",
        None,
        roles=tuple(RoleGrant(role, None) for role in roles),
        memberships=tuple(Membership(organization, "member") for organization in organizations),
    ),
    st.sampled_from(["p1", "p2"]),
    st.sets(st.sampled_from(["r1", "r2"])),
    st.sets(st.sampled_from(["o1", "o2"])),
)


@settings(max_examples=80)
@given(course=st.lists(st.tuples(st.integers(0, 2), st.none() | facts), max_size=12))
def test_the_way_back_from_plans_roles_and_organizations(course: list[tuple[int, UserFacts | None]]) -> None:
    related = Related()
    entries = [UserEntry(f"user:{number}", str(number)) for number in range(3)]
    known: dict[UserEntry, UserFacts] = {}
    for number, after in course:
        entry = entries[number]
        related.update(entry, known.get(entry), after)
        known.pop(entry, None)
        if after is not None:
            known[entry] = after
        for plan in ("p1", "p2", "p3"):
            assert set(related.on_plan(plan)) == {e for e, f in known.items() if f.plan == plan}
        for role in ("r1", "r2"):
            assert set(related.with_role(role)) == {e for e, f in known.items() if role in [g.role for g in f.roles]}
        for organization in ("o1", "o2"):
            members = {e for e, f in known.items() if organization in [m.organization for m in f.memberships]}
            assert set(related.members(organization)) == members
        assert set(related.in_organizations()) == {e for e, f in known.items() if f.memberships}
    for entry in entries:
        related.update(entry, known.get(entry), None)
    assert not any((related._plans, related._roles, related._organizations))
