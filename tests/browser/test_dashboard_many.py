"""Documents with thousands of quotas and permissions: drawn in parts, what is about to end first."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.dashboard import Visit, somebody
from tests.support.fault_rig import report
from tests.support.furnished import set_used, use
from tests.support.seed import Person, Seed

MANY = 2000
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"


@pytest.fixture
def person(seed: Seed) -> Person:
    one = somebody(seed, seed.plan())
    seed.foreign.execute(
        "INSERT INTO plan_quotas(plan, quota, limit_value, period)"
        f" {NUMBERS} SELECT ?, printf('quota%05d', i), 1000, 'month' FROM n",
        *(MANY, one.plan),
    )
    seed.foreign.execute(
        f"INSERT INTO plan_permissions(plan, permission) {NUMBERS} SELECT ?, printf('permission%05d', i) FROM n",
        *(MANY, one.plan),
    )
    for number, used in ((MANY, 1000), (MANY - 1, 960), (MANY - 2, 810), (7, 3)):
        use(seed, one.doc, f"quota{number:05d}", "month", used)
    return one


LONGEST = """() => {
  globalThis.longest = 0;
  new PerformanceObserver(list => list.getEntries().forEach(one => {
    globalThis.longest = Math.max(globalThis.longest, one.duration);
  })).observe({ type: "longtask" });
}"""
NAMES = "tiles => tiles.slice(0, 4).map(tile => tile.dataset.test)"


@pytest.mark.parametrize("by_administrator", [False, True])
def test_very_many_quotas_are_drawn_in_parts(
    visit: Visit, person: Person, seed: Seed, by_administrator: bool, request: pytest.FixtureRequest
) -> None:
    if by_administrator:
        visit.arrive(somebody(seed, is_admin=1))
        visit.go(f"#/admin/users/{person.id}")
    else:
        visit.arrive(person)
    tiles = visit.page.locator(".quotas > .quota")
    expect(tiles).to_have_count(48)
    last = [f"quota-quota{number:05d}" for number in (MANY, MANY - 1, MANY - 2, 1)]
    assert tiles.evaluate_all(NAMES) == last
    visit.page.evaluate(LONGEST)
    for used in (4, 5, 6):
        set_used(seed, person.doc, "quota00007", used)
        visit.shows("quota00007", used)
    report(request, longest_task_of_a_change_ms=visit.page.evaluate("globalThis.longest"))
    permissions = visit.page.locator('[data-test^="permission-"]')
    expect(permissions).to_have_count(48)
    visit.page.evaluate(LONGEST)
    visit.page.locator(".quotas-all").locator('[data-test="show-all"]').click()
    expect(tiles).to_have_count(MANY)
    expect(visit.page.locator(".quotas-all").locator('[data-test="show-all"]')).to_be_hidden()
    longest = visit.page.evaluate("globalThis.longest")
    report(request, longest_task_of_all_ms=longest)
    assert longest < 1000
    assert tiles.evaluate_all(NAMES)[0] == "quota-quota00001"
    set_used(seed, person.doc, f"quota{MANY:05d}", 500)
    visit.shows(f"quota{MANY:05d}", 500)


def test_a_quota_that_is_about_to_end_comes_forward(visit: Visit, person: Person, seed: Seed) -> None:
    visit.arrive(person)
    name = f"quota{MANY - 9:05d}"
    expect(visit.find(f"quota-{name}")).to_have_count(0)
    use(seed, person.doc, name, "month", 999)
    expect(visit.find(f"quota-{name}")).to_be_visible()
