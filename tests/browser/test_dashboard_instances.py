"""The server instances: what administrators see of them, and what they change."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import StartVisit
from tests.support.dashboard import Visit, somebody
from tests.support.dashboard_instances import add_network, new_shop, row
from tests.support.furnished import instance_key
from tests.support.seed import Person, Seed, now_ms


@pytest.fixture
def shop(seed: Seed) -> str:
    return new_shop(seed)


def test_what_can_not_be_is_told_in_words(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    visit.watch.expect("PATCH", "/instances/.*", 422)
    visit.watch.expect("POST", "/instances/.*/keys", 409)
    visit.arrive(admin)
    visit.go("#/admin/instances")
    visit.find("new-instance").click()
    visit.find("make-instance").click()
    expect(visit.page.locator(".field", has=visit.find("instance-name"))).to_contain_text("What is it called?")
    visit.go(f"#/admin/instances/{shop}")
    written = writes(visit.page)
    for rate in ("", "0", "1.5", "100001", "x"):
        visit.find("instance-rate").fill(rate)
        visit.find("instance-save").click()
        expect(visit.find("instance-rate")).to_have_attribute("aria-invalid", "true")
        expect(visit.find("instance-rate")).to_be_focused()
    visit.find("instance-rate").fill("10")
    add_network(visit, "nonsense!")
    expect(visit.find("add-name")).to_have_attribute("aria-invalid", "true")
    assert written == []
    visit.find("add-name").fill("10.1.2.3/8")
    visit.find("instance-save").click()
    expect(visit.find("instance-settings").get_by_role("alert").last).to_contain_text("host bits zero")
    assert row(seed, shop, "networks, requests_per_minute") == ('["10.0.0.0/8"]', 6000)
    for number in range(9):
        instance_key(seed, f"m{number}{shop}", shop, now_ms())
    visit.find("new-key").click()
    visit.find("make-key").click()
    expect(visit.page.locator("dialog").get_by_role("alert")).to_contain_text("10 keys")


def writes(page: Page) -> list[str]:
    seen: list[str] = []

    def note(request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            seen.append(request.method)

    page.on("request", note)
    return seen


def test_settings_are_saved_and_nothing_that_nobody_edited(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    seed.foreign.execute("UPDATE instances SET name = ' Shop\n' WHERE id = ?", shop)
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    visit.find("instance-save").click()
    expect(visit.find("toast")).to_contain_text("nothing to save")
    visit.find("instance-rate").fill("77")
    add_network(visit, "192.0.2.7")
    visit.find("instance-save").click()
    expect(visit.find("toast").filter(has_text="Saved")).to_be_visible()
    columns = "name, networks, requests_per_minute"
    assert row(seed, shop, columns) == (" Shop\n", '["10.0.0.0/8","192.0.2.7"]', 77)
    for network in ("10.0.0.0/8", "192.0.2.7"):
        visit.find(f"remove-{network}").click()
    visit.find("instance-save").click()
    expect(visit.page.locator("dialog")).to_contain_text("from anywhere")
    visit.find("confirm").click()
    expect(visit.page.locator("dialog")).to_have_count(0)
    assert row(seed, shop, "networks") == ("[]",)


def test_a_list_that_can_not_be_read_lets_nobody_in_until_it_is_replaced(
    visit: Visit, admin: Person, seed: Seed, shop: str
) -> None:
    seed.foreign.execute("UPDATE instances SET networks = '[1]' WHERE id = ?", shop)
    visit.arrive(admin)
    visit.go("#/admin/instances")
    expect(visit.find(f"instance-{shop}")).to_contain_text("Nowhere")
    visit.go(f"#/admin/instances/{shop}")
    expect(visit.find("instance-settings")).to_contain_text("can not be read")
    visit.find("instance-rate").fill("5")
    visit.find("instance-save").click()
    expect(visit.find("toast").filter(has_text="Saved")).to_be_visible()
    assert row(seed, shop, "networks, requests_per_minute") == ("[1]", 5)
    add_network(visit, "::1")
    visit.find("instance-save").click()
    expect(visit.find("instance-settings")).not_to_contain_text("can not be read")
    assert row(seed, shop, "networks") == ('["::1"]',)


def test_who_comes_second_is_told_and_overwrites_nothing(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    visit.watch.expect("PATCH", f"/instances/{shop}", 412)
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    visit.find("instance-name").fill("Mine")
    seed.foreign.execute("UPDATE instances SET name = 'Theirs' WHERE id = ?", shop)
    visit.find("instance-save").click()
    expect(visit.find("overtaken")).to_contain_text("Theirs")
    expect(visit.find("instance-name")).to_have_value("Mine")
    assert row(seed, shop, "name") == ("Theirs",)
    visit.find("reload").click()
    expect(visit.find("instance-name")).to_have_value("Theirs")
    expect(visit.find("overtaken")).to_be_hidden()


def test_it_is_disabled_enabled_and_deleted(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    visit.find("instance-name").fill("Half typed")
    visit.find("instance-turn").click()
    visit.find("cancel").click()
    assert row(seed, shop, "status") == ("active",)
    visit.find("instance-turn").click()
    visit.find("confirm").click()
    expect(visit.find("instance-status")).to_have_text("Disabled")
    expect(visit.find("instance-name")).to_have_value("Half typed")
    assert row(seed, shop, "status") == ("disabled",)
    visit.find("instance-turn").click()
    expect(visit.find("instance-status")).to_have_text("Active")
    visit.find("instance-save").click()
    expect(visit.find("toast").filter(has_text="Saved")).to_be_visible()
    assert row(seed, shop, "name, status") == ("Half typed", "active")
    visit.watch.expect("GET", f"/instances/{shop}.*", 404)  # what the page asks for while it is deleted
    visit.find("delete-instance").click()
    visit.find("confirm").click()
    expect(visit.page).to_have_url(f"{visit.origin}/#/admin/instances")
    expect(visit.find(f"instance-{shop}")).to_have_count(0)
    visit.go("#/admin/audit")
    entry = visit.page.locator('[data-test^="audit-"]').filter(has_text="instance.delete").filter(has_text=shop)
    expect(entry.get_by_role("link", name=f"instance:{shop}")).to_have_attribute("href", f"#/admin/instances/{shop}")


def test_what_others_change_is_shown_without_asking(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    visit.arrive(admin)
    visit.go("#/admin/instances")
    expect(visit.find(f"instance-{shop}")).to_contain_text("Active")
    seed.foreign.execute("UPDATE instances SET status = 'disabled', name = 'Closed' WHERE id = ?", shop)
    expect(visit.find(f"instance-{shop}")).to_contain_text("Closed")
    expect(visit.find(f"instance-{shop}")).to_contain_text("Disabled")
    new = new_shop(seed)
    expect(visit.find(f"instance-{new}")).to_be_visible()
    visit.go(f"#/admin/instances/{shop}")
    expect(visit.find("instance-status")).to_have_text("Disabled")
    seed.foreign.execute("UPDATE instances SET status = 'active', name = 'Open' WHERE id = ?", shop)
    expect(visit.find("instance-status")).to_have_text("Active")
    expect(visit.find("instance-name")).to_have_value("Open")
    instance_key(seed, f"n{shop}", shop, now_ms())
    expect(visit.find(f"key-n{shop}")).to_be_visible()
    seed.foreign.execute("DELETE FROM instance_keys WHERE id = ?", f"k{shop}")
    expect(visit.find(f"key-k{shop}")).to_have_count(0)
    visit.watch.expect("GET", f"/instances/{shop}.*", 404)
    seed.foreign.execute("DELETE FROM instances WHERE id = ?", shop)
    expect(visit.page.locator("main")).to_contain_text("This instance was deleted")


def test_who_signed_in_through_an_instance_is_shown(
    visit: Visit, start_visit: StartVisit, admin: Person, shop: str, seed: Seed
) -> None:
    person = somebody(seed)
    own = start_visit()
    own.arrive(person)
    seed.foreign.execute("UPDATE login_sessions SET instance_id = ? WHERE user_id = ?", shop, person.id)
    own.go("#/security")
    expect(own.page.locator('[data-test^="session-"]')).to_contain_text(f"Through {shop}")
    visit.arrive(admin)
    visit.go(f"#/admin/users/{person.id}")
    through = visit.find("credentials").get_by_role("link", name=f"instance:{shop}")
    expect(through).to_have_attribute("href", f"#/admin/instances/{shop}")


def test_an_instance_that_is_not_there(visit: Visit, admin: Person) -> None:
    visit.watch.expect("GET", "/instances/i_nowhere.*", 404)
    visit.arrive(admin)
    visit.go("#/admin/instances/i_nowhere")
    expect(visit.find("problem").first).to_contain_text("No such instance")
    expect(visit.find("retry").first).to_be_visible()


def test_the_pages_say_that_there_is_nothing(visit: Visit, admin: Person) -> None:
    nothing = '{"items": [], "next": null}'
    visit.page.route("**/instances?*", lambda route: route.fulfill(content_type="application/json", body=nothing))
    visit.arrive(admin)
    visit.go("#/admin/instances")
    expect(visit.page.locator("main")).to_contain_text("No instances")


def test_a_full_log_does_not_hide_a_change(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    """More is written in a second than the page reads."""
    person = somebody(seed)
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    name, end = "", time.monotonic() + 3
    while time.monotonic() < end:
        name = f"At {time.monotonic()}"
        with seed.transaction():
            for number in range(300):
                seed.foreign.execute("UPDATE users SET name = ? WHERE id = ?", f"before {number}", person.id)
            seed.foreign.execute("UPDATE instances SET name = ? WHERE id = ?", name, shop)
            for number in range(300):
                seed.foreign.execute("UPDATE users SET name = ? WHERE id = ?", f"after {number}", person.id)
    expect(visit.find("instance-name")).to_have_value(name)
