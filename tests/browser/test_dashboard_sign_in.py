"""Signing in and out, in one tab and in several: what ends a session ends it everywhere, and no page keeps a secret."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, WebSocket, expect

from tests.browser.conftest import StartVisit
from tests.support.dashboard import OWN_ROUTES, Visit, somebody
from tests.support.fault_rig import report
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed, now_ms
from tests.support.signed_in import ACCESS, DEVICE, REFRESH


@pytest.fixture
def person(seed: Seed) -> Person:
    return somebody(seed, seed.plan(["can_use_voice"], {"voice_minutes": (500, "month")}))


# When the form to sign in appeared, by the clock of the machine.
NOTE_THE_END = """() => {
  const look = () => {
    if (document.querySelector('[data-test="sign-in"]') && !window.endedAt) { window.endedAt = Date.now(); }
  };
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


def ended_at(page: Page) -> int:
    page.wait_for_function("() => window.endedAt")
    at: int = page.evaluate("() => window.endedAt")
    return at


def test_who_signs_in_sees_who_they_are(visit: Visit, person: Person) -> None:
    visit.open()
    visit.signed_out()
    visit.sign_in(person)
    expect(visit.find("identity-name").first).to_contain_text(person.id.title())
    expect(visit.find("identity-plan").first).to_contain_text(person.plan)
    expect(visit.find("quota-voice_minutes")).to_be_visible()
    visit.holds("can_use_voice")


def test_a_wrong_password_is_told_and_the_form_stays(visit: Visit, person: Person) -> None:
    visit.watch.expect("POST", "/auth/login", 401)
    visit.open()
    visit.find("sign-in-name").fill(person.id)
    visit.find("sign-in-password").fill("not the right one at all")
    visit.find("sign-in-submit").click()
    told = visit.find("sign-in").locator('[data-test="problem"]')
    expect(told).to_be_visible()
    assert (told.text_content() or "").strip()
    expect(visit.find("sign-in-name")).to_have_value(person.id)
    visit.sign_in(person)


def test_a_page_that_is_loaded_again_goes_on(visit: Visit, person: Person) -> None:
    visit.arrive(person)
    visit.page.reload()
    visit.live()
    visit.open("#/security")
    visit.page.reload()
    visit.live()
    assert visit.page.url.endswith("#/security")


def test_a_session_whose_access_has_run_out_is_renewed(visit: Visit, person: Person) -> None:
    for method, path in (("GET", "/auth/.*"), ("GET", "/orgs.*")):
        visit.watch.expect(method, path, 401)
    visit.arrive(person)
    before = visit.cookies()
    visit.context.clear_cookies(name=ACCESS)
    visit.open("#/security")
    expect(visit.page.locator('[data-test^="session-"]')).to_have_count(1)
    assert visit.cookies()[ACCESS]
    assert visit.cookies()[REFRESH] != before[REFRESH]
    visit.live()


def test_a_session_that_is_over_leads_to_the_form(visit: Visit, person: Person, seed: Seed) -> None:
    visit.arrive(person)
    seed.foreign.execute("UPDATE login_sessions SET revoked_at = ? WHERE user_id = ?", now_ms(), person.id)
    visit.signed_out()
    expect(visit.find("sign-in-reason")).to_contain_text("revoked")
    visit.page.reload()
    visit.signed_out()


@pytest.mark.parametrize(
    "sql",
    ["UPDATE users SET status = 'disabled' WHERE id = ?", "DELETE FROM users WHERE id = ?"],
    ids=["disabled", "deleted"],
)
def test_who_is_disabled_or_deleted_is_signed_out(visit: Visit, person: Person, seed: Seed, sql: str) -> None:
    visit.arrive(person)
    visit.page.evaluate(NOTE_THE_END)
    seed.foreign.execute(sql, person.id)
    visit.signed_out()
    assert person.id.title() not in visit.page.inner_text("body")


def test_signing_out_ends_it_in_every_tab(visit: Visit, person: Person) -> None:
    visit.arrive(person)
    other = visit.context.new_page()
    visit.open("#/organizations", other)
    visit.live(other)
    visit.find("sign-out").click()
    visit.signed_out()
    visit.signed_out(other)
    assert set(visit.cookies()) == {DEVICE}
    visit.sign_in(person, page=other)
    visit.live()


def revoke(visit: Visit, row: str, page: Page) -> None:
    """Press the button of this row, and confirm."""
    visit.find(row, page).get_by_role("button").first.click()
    visit.find("confirm", page).click()


def sessions_of(seed: Seed, person: Person) -> list[str]:
    rows = seed.foreign.execute(
        "SELECT id FROM login_sessions WHERE user_id = ? AND revoked_at IS NULL ORDER BY created_at, id", person.id
    )
    return [row[0] for row in rows]


def test_revoking_the_session_in_another_tab_signs_this_one_out_at_once(
    visit: Visit, start_visit: StartVisit, person: Person, seed: Seed, request: pytest.FixtureRequest
) -> None:
    visit.arrive(person)
    [own] = sessions_of(seed, person)
    elsewhere = start_visit()
    elsewhere.arrive(person, "#/security")
    visit.page.evaluate(NOTE_THE_END)
    revoke(elsewhere, f"session-{own}", elsewhere.page)
    visit.signed_out()
    [(revoked,)] = seed.foreign.execute("SELECT revoked_at FROM login_sessions WHERE id = ?", own)
    delay = ended_at(visit.page) - revoked
    report(request, revocation_to_form_ms=delay)
    assert delay <= 3000
    expect(elsewhere.find(f"session-{own}")).to_have_count(0)
    elsewhere.live()


def test_the_session_of_both_tabs_ends_in_both(
    visit: Visit, start_visit: StartVisit, person: Person, seed: Seed
) -> None:
    """Ended as an administrator's click or a program with SQL access ends it."""
    visit.arrive(person)
    other = visit.context.new_page()
    visit.open("#/security", other)
    visit.live(other)
    [own] = sessions_of(seed, person)
    seed.foreign.execute("UPDATE login_sessions SET revoked_at = ? WHERE id = ?", now_ms(), own)
    visit.signed_out()
    visit.signed_out(other)


def test_two_tabs_show_the_same(visit: Visit, person: Person, seed: Seed) -> None:
    visit.arrive(person)
    other = visit.context.new_page()
    visit.open(page=other)
    visit.live(other)
    seed.insert("user_permissions", user_id=person.id, permission="can_use_fax")
    for page in (visit.page, other):
        visit.holds("can_use_fax", page)


def test_a_new_password_keeps_this_session_and_ends_the_others(
    visit: Visit, start_visit: StartVisit, person: Person
) -> None:
    visit.arrive(person, "#/account")
    phone = start_visit()
    phone.arrive(person)
    form = visit.find("password-form")
    words = form.locator('input[type="password"]')
    new = "rings of saturn, very many"
    visit.gateway.secrets.append(new)
    words.nth(0).fill("moons of jupiter, four")
    for index in range(1, words.count()):
        words.nth(index).fill(new)
    form.locator('[type="submit"]').click()
    phone.signed_out()
    visit.live()
    phone.sign_in(person, new)


# --- what a page keeps ---

KEPT = """async () => JSON.stringify({
  html: document.documentElement.outerHTML,
  values: [...document.querySelectorAll("input, textarea")].map(field => field.value),
  local: {...localStorage},
  session: {...sessionStorage},
  cookies: document.cookie,
  name: window.name,
  address: location.href,
  history: history.state,
  caches: await caches.keys(),
  databases: await indexedDB.databases(),
  workers: (await navigator.serviceWorker.getRegistrations()).length,
  globals: Object.keys(window).filter(name => typeof window[name] === "string").map(name => window[name]),
  requests: performance.getEntries().map(entry => entry.name),
})"""


class Secrets:
    """Everything secret that passes between the pages of a visit and the gateway."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.sent: set[str] = set()
        self.csrf: set[str] = set()
        visit.context.on("request", self._request)
        visit.page.on("websocket", self._socket)

    def _request(self, request: Request) -> None:
        token = request.headers.get("x-csrf-token")
        if token:
            self.csrf.add(token)

    def _socket(self, socket: WebSocket) -> None:
        socket.on("framesent", self._sent)

    def _sent(self, frame: str | bytes) -> None:
        token = json.loads(frame).get("token")
        if token:
            self.sent.add(token)

    def all(self) -> set[str]:
        return self.sent | self.csrf | {value for value in self._visit.cookies().values() if value}


def test_no_secret_is_kept_shown_or_written(visit: Visit, person: Person, gateway: GatewayProcess, seed: Seed) -> None:
    secrets = Secrets(visit)
    visit.arrive(person)
    cookies = {cookie["name"]: cookie for cookie in visit.context.cookies()}
    assert set(cookies) == {ACCESS, REFRESH, DEVICE}
    assert all(cookie["httpOnly"] and cookie["secure"] for cookie in cookies.values())
    made = make_token(visit)
    visit.page.reload()
    visit.live()
    for route in OWN_ROUTES:
        visit.go(route)
        kept = visit.page.evaluate(KEPT)
        found = [secret for secret in {*secrets.all(), made} if secret in kept]
        assert found == [], route
        told = json.loads(kept)
        assert set(told["local"]) <= {"theme"}
        assert (told["session"], told["cookies"], told["caches"], told["databases"], told["workers"]) == (
            {},
            "",
            [],
            [],
            0,
        )
    assert len(secrets.sent) >= 2
    assert secrets.csrf
    written = "\n".join([*visit.watch.addresses, *visit.watch.console])
    assert [secret for secret in {*secrets.all(), made} if secret in written] == []
    gateway.secrets += {*secrets.all(), made}
    gateway.check_log()


def make_token(visit: Visit, name: str = "kitchen speaker") -> str:
    """Make an API token by the form; its secret, when the dialog that shows it is closed again."""
    visit.open("#/security")
    visit.find("new-token").click()
    dialog = visit.page.locator("dialog[open]")
    dialog.locator("input").first.fill(name)
    dialog.locator('[type="submit"]').click()
    shown = visit.find("new-token-secret")
    expect(shown).to_be_visible()
    read: Callable[[], str] = lambda: shown.evaluate("place => place.value || place.textContent")  # noqa: E731
    secret = read().strip()
    assert secret.startswith("gw_")
    visit.find("new-token-done").click()
    expect(visit.find("new-token-secret")).to_have_count(0)
    return secret


def test_a_new_token_is_shown_once_and_can_be_revoked(visit: Visit, person: Person, gateway: GatewayProcess) -> None:
    visit.arrive(person)
    secret = make_token(visit, "car")
    gateway.secrets.append(secret)
    assert secret not in visit.page.content()
    assert gateway.request("GET", "/api/identity", secret).status == 200
    row = visit.page.locator('[data-test^="token-"]', has_text="car")
    expect(row).to_have_count(1)
    row.get_by_role("button").first.click()
    visit.find("confirm").click()
    expect(row).to_have_count(0)
    assert gateway.request("GET", "/api/identity", secret).status == 401
