"""What administrators see and steer: everybody's documents, live; and what follows for those whom it concerns."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import StartVisit
from tests.support.dashboard import Visit
from tests.support.furnished import set_used
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed

QUOTA = "voice_minutes"


@pytest.fixture
def theirs(start_visit: StartVisit, person: Person) -> Visit:
    """The person's own page, open meanwhile."""
    visit = start_visit()
    visit.arrive(person)
    return visit


def test_a_user_is_found_and_their_document_is_live(visit: Visit, admin: Person, person: Person, seed: Seed) -> None:
    visit.arrive(admin, "#/admin/users")
    visit.find("user-search").fill(person.id)
    expect(visit.find(f"user-{person.id}")).to_be_visible()
    visit.find(f"user-{person.id}").get_by_role("link").first.click()
    expect(visit.find("user-identity")).to_contain_text(person.id.title())
    visit.shows(QUOTA, 7)
    set_used(seed, person.doc, QUOTA, 77)
    visit.shows(QUOTA, 77)
    seed.foreign.execute("UPDATE users SET name = 'Another Name' WHERE id = ?", person.id)
    expect(visit.find("user-identity")).to_contain_text("Another Name")


def test_a_grant_shows_its_patch_and_arrives(visit: Visit, theirs: Visit, admin: Person, person: Person) -> None:
    visit.arrive(admin)
    visit.go(f"#/admin/users/{person.id}")
    visit.find("grant").click()
    visit.find("grant-name").fill("can_use_fax")
    visit.find("grant-apply").click()
    theirs.holds("can_use_fax")
    entry = visit.find("edit-log").locator("li").first
    expect(entry).to_have_attribute("data-state", "shown")
    expect(entry).to_contain_text("can_use_fax")
    patch = json.loads(entry.locator("pre").inner_text())
    assert patch["permissions"] == {"can_use_fax": True}
    expect(visit.find("permission-can_use_fax")).to_have_attribute("data-held", "held")


def test_a_change_of_a_plan_is_tried_before_it_is_made(
    visit: Visit, theirs: Visit, admin: Person, person: Person, seed: Seed
) -> None:
    seed.people(3, person.plan)
    visit.arrive(admin)
    visit.go(f"#/admin/plans/{person.plan}")
    part = visit.find("plan-permissions")
    part.locator('[data-test="add-name"]').fill("can_use_fax")
    part.locator('[data-test="add-name-button"]').click()
    part.locator('[data-test="remove-can_use_voice"]').click()
    visit.find("plan-save").click()
    figures = "row => [...row.querySelectorAll('[data-kind=number]')].map(cell => cell.textContent)"
    expect(visit.find("preview-gained-can_use_fax")).to_be_visible()
    assert visit.find("preview-gained-can_use_fax").evaluate(figures) == ["4", "1"]
    assert visit.find("preview-lost-can_use_voice").evaluate(figures) == ["4", "1"]
    visit.find("cancel").click()
    expect(theirs.find("permission-can_use_voice")).to_have_attribute("data-held", "held")
    expect(theirs.find("permission-can_use_fax")).to_have_count(0)
    visit.find("plan-save").click()
    visit.find("confirm").click()
    theirs.holds("can_use_fax")
    expect(visit.find("preview")).to_have_count(0)


def test_a_session_that_an_administrator_ends_is_over_at_once(
    visit: Visit, theirs: Visit, admin: Person, person: Person, seed: Seed
) -> None:
    [(session,)] = seed.foreign.execute("SELECT id FROM login_sessions WHERE user_id = ?", person.id)
    visit.arrive(admin)
    visit.go(f"#/admin/users/{person.id}")
    visit.find(f"session-{session}").get_by_role("button").first.click()
    visit.find("confirm").click()
    theirs.signed_out()
    expect(theirs.find("sign-in-reason")).to_contain_text("revoked")


@pytest.mark.parametrize("fast_s", [-3600, 3600])
def test_everything_of_a_user_is_ended_whatever_the_clock_of_the_page_says(
    visit: Visit, theirs: Visit, admin: Person, person: Person, seed: Seed, fast_s: int
) -> None:
    wrong = "const now = Date.now; Date.now = () => now() + %d; Date = class extends Date {"
    wrong += " constructor(...given) { super(...(given.length > 0 ? given : [Date.now()])); } };"
    visit.context.add_init_script(wrong % (fast_s * 1000))
    visit.arrive(admin)
    visit.go(f"#/admin/users/{person.id}")
    visit.find("end-all").click()
    visit.find("confirm").click()
    theirs.signed_out()
    in_force = "SELECT (SELECT count(*) FROM login_sessions WHERE user_id = ?1 AND revoked_at IS NULL)"
    in_force += " + (SELECT count(*) FROM api_tokens WHERE user_id = ?1 AND revoked_at IS NULL)"
    assert seed.foreign.execute(in_force, person.id) == [(0,)]
    expect(visit.find("toast").first).to_contain_text("2 sessions and tokens ended")
    visit.find("end-all").click()
    visit.find("confirm").click()
    expect(visit.find("toast").last).to_contain_text("Nothing was ended")


def test_the_change_log_grows_while_one_looks(visit: Visit, admin: Person, person: Person, seed: Seed) -> None:
    visit.arrive(admin)
    visit.go("#/admin/changes")
    set_used(seed, person.doc, QUOTA, 8)
    row = visit.find(f"change-{seed.last_seq()}")
    expect(row).to_be_visible()
    expect(row).to_contain_text(person.doc)


def test_connections_and_figures_of_the_node(visit: Visit, theirs: Visit, admin: Person, person: Person) -> None:
    visit.arrive(admin)
    visit.go("#/admin/sessions")
    shown = visit.page.locator('tr[data-test^="session-"]')
    expect(shown.filter(has_text=person.id)).to_have_count(1)
    expect(visit.page.locator('[data-test^="node-"]')).to_have_count(1)
    visit.go("#/admin/node")
    for chart in ("connected", "pushes", "latency", "http", "ended"):
        expect(visit.find(f"chart-{chart}")).to_be_visible()


def test_who_is_no_administrator_is_shown_nothing_of_it(theirs: Visit, person: Person, gateway: GatewayProcess) -> None:
    expect(theirs.page.get_by_role("navigation").locator('a[href^="#/admin"]:visible')).to_have_count(0)
    asked = len(theirs.watch.addresses)
    for route in ("#/admin/users", f"#/admin/users/{person.id}", "#/admin/plans", "#/admin/changes", "#/admin/node"):
        theirs.go(route)
        expect(theirs.page.locator("main")).to_contain_text("You may not see this")
    allowed = f"http://127.0.0.1:{gateway.port}/dashboard/"
    assert [one for one in theirs.watch.addresses[asked:] if not one.startswith(allowed) and "/#/" not in one] == []


def test_a_permission_that_is_lost_takes_its_pages_along(visit: Visit, person: Person, seed: Seed) -> None:
    seed.insert("user_permissions", user_id=person.id, permission="users.read")
    visit.arrive(person, "#/admin/users")
    expect(visit.find(f"user-{person.id}")).to_be_visible()
    seed.foreign.execute("DELETE FROM user_permissions WHERE user_id = ?", person.id)
    expect(visit.page.locator("main")).to_contain_text("You may not see this")
    expect(visit.find(f"user-{person.id}")).to_have_count(0)
