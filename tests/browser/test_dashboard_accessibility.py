"""Everybody can use every page: axe finds nothing grave, in both schemes, on every screen; the keyboard is enough."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import StartVisit
from tests.support.accessibility import findings, focused, small_targets, tab_to
from tests.support.dashboard import DESKTOP, PHONE, SETTLED, SMALL_PHONE, STILL, Visit
from tests.support.furnished import Company, furnished
from tests.support.seed import Seed
from tests.support.signed_in import PASSWORD

Scheme = Literal["light", "dark"]
CONTRAST = ("color-contrast",)
LOOKS: dict[str, tuple[Scheme, Any, tuple[str, ...]]] = {
    "light desktop": ("light", DESKTOP, ()),
    "dark desktop": ("dark", DESKTOP, CONTRAST),
    "light phone": ("light", PHONE, CONTRAST),
    "dark phone": ("dark", PHONE, ()),
}
"""A size by all rules once; what the other scheme changes besides is colours."""


@pytest.fixture(scope="module")
def company(seed: Seed) -> Company:
    return furnished(seed)


def look(visit: Visit, where: str) -> list[str]:
    """What is wrong with the page in each look."""
    wrong = []
    for name, (scheme, size, rules) in LOOKS.items():
        visit.page.set_viewport_size(size)
        visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        visit.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        visit.page.evaluate(STILL)
        wrong += [f"{where}, {name}: {one}" for one in findings(visit.page, *rules)]
    for size in (PHONE, SMALL_PHONE):
        visit.page.set_viewport_size(size)
        wrong += [f"{where}, {size['width']} wide: {one}" for one in visit.too_wide()]
    visit.page.set_viewport_size(DESKTOP)
    return wrong


def test_the_form_to_sign_in(visit: Visit) -> None:
    visit.open()
    visit.signed_out()
    assert look(visit, "sign-in") == []


def test_the_own_pages(visit: Visit, company: Company) -> None:
    visit.arrive(company.person)
    wrong = []
    for route in company.own_pages:
        visit.go(route)
        wrong += look(visit, route)
    assert wrong == []


@pytest.mark.parametrize("part", range(4))
def test_the_pages_of_administrators(visit: Visit, company: Company, part: int) -> None:
    visit.arrive(company.admin)
    wrong = []
    for route in company.admin_pages[part::4]:
        visit.go(route)
        wrong += look(visit, route)
    assert wrong == []


def test_dialogs(visit: Visit, company: Company) -> None:
    visit.arrive(company.person, "#/security")
    visit.go("#/security")
    visit.find("new-token").click()
    expect(visit.page.locator("dialog[open]")).to_be_visible()
    assert look(visit, "a new token") == []
    visit.page.keyboard.press("Escape")
    visit.page.locator('[data-test^="session-"]').first.get_by_role("button").first.click()
    expect(visit.find("confirm")).to_be_visible()
    assert look(visit, "a confirmation") == []


def test_targets_of_a_finger_are_large(start_visit: StartVisit, company: Company) -> None:
    visit = start_visit(viewport=PHONE, has_touch=True, is_mobile=True)
    visit.open()
    visit.signed_out()
    assert small_targets(visit.page) == []
    visit.sign_in(company.admin)
    wrong = {}
    for route in (*company.own_pages, *company.admin_pages):
        visit.go(route)
        small = small_targets(visit.page)
        if small:
            wrong[route] = small
    assert wrong == {}


# --- the keyboard ---


def sign_in_by_keyboard(visit: Visit, company: Company) -> None:
    visit.open()
    visit.signed_out()
    page = visit.page
    if focused(page)["test"] != "sign-in-name":
        tab_to(page, "sign-in-name")
    page.keyboard.type(company.person.id)
    tab_to(page, "sign-in-password", most=2)
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    visit.live()


def test_signing_in_moving_about_and_revoking_by_keyboard_alone(visit: Visit, company: Company) -> None:
    sign_in_by_keyboard(visit, company)
    page = visit.page
    follow(page, "Security")
    expect(page.locator("main h1")).to_contain_text("Security")
    assert page.evaluate("() => document.querySelector('main').contains(document.activeElement)")
    rows = page.locator('[data-test^="token-"]')
    expect(rows.first).to_be_visible()
    count = rows.count()
    name = rows.first.get_attribute("data-test")
    rows.first.get_by_role("button").first.focus()
    page.keyboard.press("Enter")
    expect(visit.find("confirm")).to_be_visible()
    assert focused(page)["dialog"]
    page.keyboard.press("Escape")
    expect(visit.find("confirm")).to_have_count(0)
    # The focus is back where it was.
    assert page.evaluate("name => document.activeElement.closest(`[data-test='${name}']`) !== null", name)
    page.keyboard.press("Enter")
    if focused(page)["test"] != "confirm":
        tab_to(page, "confirm", most=6)
    page.keyboard.press("Enter")
    expect(rows).to_have_count(count - 1)
    # The row is gone, and with it what had the focus: it is not lost all the same.
    assert focused(page)["tag"] != "BODY"


def follow(page: Page, name: str) -> None:
    """Tab to the link of this name, and press Enter."""
    for _ in range(30):
        page.keyboard.press("Tab")
        here = focused(page)
        if here["tag"] == "A" and name in here["name"]:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"no link {name}")


def test_the_focus_is_seen_and_goes_everywhere_in_order(visit: Visit, company: Company) -> None:
    visit.arrive(company.admin)
    page = visit.page
    for route in ("#/", "#/security", "#/admin/users"):
        visit.go(route)
        assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0
        page.reload()
        visit.live()
        page.wait_for_function(SETTLED)
        way: list[dict[str, Any]] = []
        for _ in range(25):
            page.keyboard.press("Tab")
            way.append(focused(page))
            if way[-1]["tag"] == "BODY":
                break
        stops = [step for step in way if step["tag"] != "BODY"]
        assert len({step["name"] for step in stops}) >= 6
        assert [step for step in stops if not step["ring"] or not step["seen"]] == []
        assert "content" in stops[0]["name"].lower()  # skips what every page begins with


def test_a_page_has_one_heading_a_title_and_landmarks(visit: Visit, company: Company) -> None:
    visit.arrive(company.admin)
    titles = set()
    for route in (*company.own_pages, *company.admin_pages):
        visit.go(route)
        page = visit.page
        assert page.locator("h1:visible").count() == 1, route
        assert page.locator("main").count() == 1
        assert page.get_by_role("navigation").count() >= 1
        titles.add(page.title())
        assert page.locator("nav [aria-current]").count() >= 1, route
    assert len(titles) >= 9


def test_nothing_moves_for_who_wants_no_motion(start_visit: StartVisit, company: Company) -> None:
    visit = start_visit(reduced_motion="reduce")
    visit.arrive(company.person)
    moving = """() => document.getAnimations()
      .map(one => one.effect.getComputedTiming()).filter(one => one.activeDuration > 10 || one.endTime > 10).length"""
    longest = """() => Math.max(...[...document.querySelectorAll("body *")].flatMap(element => {
      const style = getComputedStyle(element);
      return [style.transitionDuration, style.animationDuration].flatMap(all => all.split(",").map(parseFloat));
    }))"""
    for route in company.own_pages:
        visit.go(route)
        assert visit.page.evaluate(moving) == 0
        assert visit.page.evaluate(longest) <= 0.01


def test_the_theme_can_be_chosen_and_is_remembered(visit: Visit, company: Company) -> None:
    visit.page.emulate_media(color_scheme="light")
    visit.arrive(company.person)
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(paper)
    seen = {light}
    for _ in range(3):
        visit.find("theme").first.click()
        seen.add(visit.page.evaluate(paper))
        if len(seen) > 1:
            break
    dark = visit.page.evaluate(paper)
    assert dark != light
    visit.page.reload()
    visit.live()
    assert visit.page.evaluate(paper) == dark
