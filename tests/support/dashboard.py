"""A person in front of the dashboard: a real browser on a real gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, ViewportSize, expect

from tests.support.gateway_process import GatewayProcess
from tests.support.page_watch import PageWatch
from tests.support.seed import Person, Seed
from tests.support.signed_in import PASSWORD, cheap_hash

PATIENCE_MS = 20_000
"""How long a page may take for anything on a machine that does much else."""
PHONE: ViewportSize = {"width": 390, "height": 844}
SMALL_PHONE: ViewportSize = {"width": 320, "height": 640}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
OWN_ROUTES = ("#/", "#/security", "#/organizations", "#/account")


def own_routes(organization: str) -> tuple[str, ...]:
    """What everybody sees, and a member of this organization."""
    return (*OWN_ROUTES, f"#/organizations/{organization}")


def admin_routes(user: str, plan: str, role: str, organization: str, instance: str) -> tuple[str, ...]:
    """What administrators see, about these where it is about one."""
    return (
        "#/admin/users",
        f"#/admin/users/{user}",
        "#/admin/organizations",
        f"#/admin/organizations/{organization}",
        "#/admin/plans",
        f"#/admin/plans/{plan}",
        "#/admin/roles",
        f"#/admin/roles/{role}",
        "#/admin/instances",
        f"#/admin/instances/{instance}",
        "#/admin/sessions",
        "#/admin/changes",
        "#/admin/audit",
        "#/admin/node",
    )


def somebody(seed: Seed, plan: str | None = None, **columns: Any) -> Person:
    """A user who can sign in with `PASSWORD`."""
    return seed.person(plan, password_hash=cheap_hash(), **columns)


class Visit:
    """One browser with cookies of its own, on the dashboard of `gateway` or of what stands in front of it at `port`."""

    def __init__(self, gateway: GatewayProcess, context: BrowserContext, port: int | None = None) -> None:
        self.gateway = gateway
        self.context = context
        self.origin = f"http://127.0.0.1:{port or gateway.port}"
        self.watch = PageWatch(context, self.origin)
        context.set_default_timeout(PATIENCE_MS)
        context.set_default_navigation_timeout(PATIENCE_MS)
        self.page = context.new_page()

    def find(self, name: str, page: Page | None = None) -> Locator:
        """What has this ``data-test``."""
        return (page or self.page).locator(f'[data-test="{name}"]')

    def open(self, route: str = "#/", page: Page | None = None) -> None:
        """Go to a place of the dashboard; within the page when it is open already."""
        page = page or self.page
        page.goto(f"{self.origin}/{route}")

    def sign_in(self, person: Person, password: str = PASSWORD, page: Page | None = None) -> None:
        """Fill in the form that is shown, and wait for the live page."""
        page = page or self.page
        self.gateway.secrets.append(password)
        self.find("sign-in-name", page).fill(person.id)
        self.find("sign-in-password", page).fill(password)
        self.find("sign-in-submit", page).click()
        self.live(page)
        self.gateway.secrets += self.cookies().values()

    def arrive(self, person: Person, route: str = "#/") -> None:
        """Open the dashboard, sign in, and wait for the page."""
        self.open(route)
        self.sign_in(person)
        self.page.wait_for_function(SETTLED)

    def live(self, page: Page | None = None) -> None:
        """Wait until the page says that what it shows is live."""
        self.state("live", page)

    def state(self, state: str, page: Page | None = None) -> None:
        """Wait until the badge says ``live``, ``stale`` or ``offline``."""
        expect(self.find("freshness", page)).to_have_attribute("data-state", state, timeout=PATIENCE_MS)

    def signed_out(self, page: Page | None = None) -> None:
        """Wait for the form to sign in."""
        expect(self.find("sign-in", page)).to_be_visible(timeout=PATIENCE_MS)

    def go(self, route: str) -> None:
        """Go to a place within the dashboard, and wait until everything there is shown."""
        if self.page.url.startswith(f"{self.origin}/#"):
            self.page.evaluate("() => { (document.querySelector('main > *') ?? {}).left = true; }")
            if self.page.url == f"{self.origin}/{route}":
                self.page.reload()
        self.open(route)
        self.live()
        self.page.wait_for_function(SETTLED)
        self.page.evaluate(STILL)

    def shows(self, quota: str, used: int, page: Page | None = None) -> None:
        """Wait until the bar of a quota shows that this much is used."""
        expect(self.bar(quota, page)).to_have_attribute("aria-valuenow", str(used), timeout=PATIENCE_MS)

    def holds(self, permission: str, page: Page | None = None) -> None:
        """Wait until the page shows that its user has a permission."""
        shown = self.find(f"permission-{permission}", page)
        expect(shown).to_have_attribute("data-held", re.compile("held|gained"), timeout=PATIENCE_MS)

    def figure(self, quota: str, page: Page | None = None) -> Locator:
        """The figure of a quota: what is left, or what was used when there is no limit."""
        return self.find(f"quota-{quota}", page).locator('[data-part="figure"]')

    def bar(self, quota: str, page: Page | None = None) -> Locator:
        """The bar of a quota."""
        return self.find(f"quota-{quota}", page).locator('[data-part="bar"]')

    def cookies(self) -> dict[str, str]:
        return {cookie["name"]: cookie["value"] for cookie in self.context.cookies()}

    def too_wide(self, page: Page | None = None) -> list[str]:
        """What stands out of the window's width: nothing, unless it can be scrolled for itself."""
        found: list[str] = (page or self.page).evaluate(TOO_WIDE)
        return found


# The page of another place is there, and has all that it asked for.
SETTLED = """() => {
  const content = document.querySelector("main > *");
  return content && !content.left && !document.querySelector('main [aria-busy="true"]')
    && document.querySelector("main h1")?.textContent !== "Loading";
}"""
STILL = """() => Promise.race([
  Promise.all(document.getAnimations().filter(one => one.effect.getComputedTiming().endTime !== Infinity)
    .map(one => one.finished.catch(() => null))),
  new Promise(done => setTimeout(done, 2000)),
])"""
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) { return []; }
  return [...document.querySelectorAll("body *")]
    .filter(element => element.getBoundingClientRect().right > width + 1)
    .map(element => `${element.tagName}.${element.className} ${element.textContent.slice(0, 30)}`)
    .concat(`the page is ${document.documentElement.scrollWidth} wide, the window ${width}`);
}"""


@contextmanager
def visiting(gateway: GatewayProcess, browser: Browser, *, port: int | None = None, **options: Any) -> Iterator[Visit]:
    """A visit with cookies of its own; what went wrong in its pages is raised at its end. `options` are those of
    Playwright's contexts."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    try:
        visit = Visit(gateway, context, port)
        yield visit
        visit.gateway.secrets += visit.cookies().values()
        visit.watch.check()
    finally:
        context.close()
