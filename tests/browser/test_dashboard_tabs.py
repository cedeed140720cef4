"""Several tabs of one user: more than the gateway lets be connected at a time."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.dashboard import Visit, somebody
from tests.support.seed import Seed

SETTINGS = {"channel_max_sessions_per_user": 2}

# Whether somebody looks at a page can not be seen by a browser without a screen: it is told.
LOOK = """seen => {
  Object.defineProperty(document, "hidden", {configurable: true, get: () => !seen});
  Object.defineProperty(document, "visibilityState", {configurable: true, get: () => seen ? "visible" : "hidden"});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_tab_that_nobody_sees_makes_room_until_it_is_looked_at(visit: Visit, seed: Seed) -> None:
    person = somebody(seed, seed.plan())
    visit.arrive(person)
    seen, unseen = visit.page, visit.context.new_page()
    visit.open(page=unseen)
    visit.live(unseen)
    unseen.evaluate(LOOK, False)
    third = visit.context.new_page()
    visit.open(page=third)
    # The first makes room and comes back, because somebody looks at it; the second then makes room, and stays away.
    visit.state("offline", unseen)
    visit.live(seen)
    visit.live(third)
    expect(visit.find("freshness", unseen)).to_have_text("Too many tabs")
    assert "Too many tabs or programs" in (visit.find("freshness", unseen).get_attribute("title") or "")
    sockets, tickets = len(visit.watch.sockets), asked(visit)
    third.wait_for_timeout(6000)  # nothing is to happen: longer than the longest of the first waits
    assert (len(visit.watch.sockets), asked(visit)) == (sockets, tickets)
    assert states(visit, seen, unseen, third) == ["live", "offline", "live"]
    # Whoever is looked at has the place of one that is not.
    seen.evaluate(LOOK, False)
    third.evaluate(LOOK, False)
    unseen.evaluate(LOOK, True)
    visit.live(unseen)
    unseen.wait_for_timeout(1000)
    assert sorted(states(visit, seen, third)) == ["live", "offline"]


def asked(visit: Visit) -> int:
    return sum(address.endswith("/auth/ticket") for address in visit.watch.addresses)


def states(visit: Visit, *pages: Page) -> list[str | None]:
    return [visit.find("freshness", page).get_attribute("data-state") for page in pages]
