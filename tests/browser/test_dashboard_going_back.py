"""Going back to a page that was left, in a browser that keeps such pages: it shows what is true now."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.chromium import running_chromium
from tests.support.dashboard import Visit, somebody
from tests.support.furnished import set_used, use
from tests.support.seed import Person, Seed, now_ms

QUOTA = "voice_minutes"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium(keeps_pages=True) as running:
        yield running


@pytest.fixture
def person(seed: Seed) -> Person:
    one = somebody(seed, seed.plan((), {QUOTA: (500, "month")}))
    use(seed, one.doc, QUOTA, "month", 7)
    return one


def leave(visit: Visit, person: Person) -> None:
    """Sign in, see the page, and go away from it."""
    visit.arrive(person)
    visit.shows(QUOTA, 7)
    visit.page.goto(f"{visit.origin}/health")


def test_what_is_true_now_is_shown(visit: Visit, person: Person, seed: Seed) -> None:
    leave(visit, person)
    set_used(seed, person.doc, QUOTA, 64)
    visit.page.go_back(wait_until="commit")
    visit.live()
    visit.shows(QUOTA, 64)


def test_after_the_end_of_the_session_nothing_is_shown(visit: Visit, person: Person, seed: Seed) -> None:
    leave(visit, person)
    seed.foreign.execute("UPDATE login_sessions SET revoked_at = ? WHERE user_id = ?", now_ms(), person.id)
    visit.page.go_back(wait_until="commit")
    visit.signed_out()
    expect(visit.find(f"quota-{QUOTA}")).to_have_count(0)


def test_a_page_that_was_signed_in_before_shows_nothing_of_who_came_after(
    visit: Visit, person: Person, seed: Seed
) -> None:
    """Another person signs in, in another tab of the same browser, while the page of the first one is away."""
    leave(visit, person)
    somebody_else = somebody(seed, seed.plan((), {"fax_pages": (5, "month")}))
    other = visit.context.new_page()
    visit.open(page=other)
    visit.live(other)
    visit.find("sign-out", other).click()
    visit.sign_in(somebody_else, page=other)
    visit.page.go_back(wait_until="commit")
    expect(visit.find("quota-fax_pages")).to_be_visible()
    expect(visit.find(f"quota-{QUOTA}")).to_have_count(0)
