"""A browser whose clock is wrong: the page tells the gateway's moments by the gateway's clock."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.support.dashboard import Visit, somebody
from tests.support.seed import Seed, now_ms

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
WRONG_CLOCK = """{
  const True = Date;
  globalThis.Date = class Date extends True {
    constructor(...given) { given.length > 0 ? super(...given) : super(True.now() + SHIFT); }
    static now() { return True.now() + SHIFT; }
  };
}"""


@pytest.mark.parametrize("shift", [-HOUR_MS, 30 * HOUR_MS])
def test_a_wrong_clock_does_not_matter(visit: Visit, seed: Seed, shift: int) -> None:
    visit.context.add_init_script(WRONG_CLOCK.replace("SHIFT", str(shift)))
    person = somebody(seed)
    visit.arrive(person, "#/security")
    cell = visit.page.locator('[data-test^="session-"] [data-label="Signed in"]')
    expect(cell).to_have_text(re.compile("^(just now|1 minute ago)$"))
    visit.find("new-token").click()
    visit.find("new-token-name").fill("car")
    visit.find("new-token-ends").select_option("7")
    visit.find("new-token-submit").click()
    visit.gateway.secrets.append(visit.find("new-token-secret").inner_text())
    visit.find("new-token-done").click()
    [(end,)] = seed.foreign.execute("SELECT expires_at FROM api_tokens WHERE user_id = ? AND name = 'car'", person.id)
    assert abs(end - 7 * DAY_MS - now_ms()) < 60_000
    ends = visit.page.locator('[data-test^="token-"]', has_text="car").locator('[data-label="Ends"]')
    expect(ends).to_have_text(re.compile("^in (6|7) days$"))


def test_what_has_just_happened_is_not_yet_to_come(visit: Visit, seed: Seed) -> None:
    visit.arrive(somebody(seed))
    told = visit.page.evaluate(
        """async () => {
          const { fromNow } = await import("/dashboard/format.js");
          return [-40_000, -1000, 0, 1500, 30_000].map(ahead => fromNow(1e12 + ahead, 1e12));
        }"""
    )
    assert told == ["just now", "just now", "just now", "just now", "in a moment"]
