"""The server instances: what administrators see of them, and what they change."""

from __future__ import annotations

import base64
import itertools
import json
import time
import tomllib
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, Request, expect
from websockets.sync.client import connect

from tests.browser.conftest import StartVisit
from tests.support.accessibility import findings, small_targets
from tests.support.dashboard import DESKTOP, PHONE, SMALL_PHONE, STILL, Visit, somebody
from tests.support.furnished import instance_key
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed, now_ms
from tests.support.signing import Key, sign

DAY_MS = 86_400_000
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
NUMBERS = itertools.count(1)


@pytest.fixture
def admin(seed: Seed) -> Person:
    return somebody(seed, is_admin=1)


@pytest.fixture
def shop(seed: Seed) -> str:
    """An instance with one key, `kid` of which is that of the instance with a `k`."""
    id = f"i_shop{next(NUMBERS)}"
    seed.insert("instances", id=id, name="Shop", networks='["10.0.0.0/8"]')
    instance_key(seed, f"k{id}", id, now_ms() - 30 * DAY_MS)
    return id


def row(seed: Seed, id: str, columns: str) -> tuple[Any, ...]:
    [found] = seed.foreign.execute(f"SELECT {columns} FROM instances WHERE id = ?", id)
    return tuple(found)


def ends(seed: Seed, id: str) -> dict[str, int | None]:
    sql = "SELECT id, expires_at FROM instance_keys WHERE instance_id = ?"
    return {str(kid): end for kid, end in seed.foreign.execute(sql, id)}


def add_network(visit: Visit, network: str) -> None:
    visit.find("add-name").fill(network)
    visit.find("add-name").press("Enter")


def configuration(visit: Visit) -> dict[str, str]:
    """What the dialog shows, as an application would read it."""
    shown: dict[str, str] = tomllib.loads(visit.find("instance-secret").inner_text())["gateway"]
    return shown


EVERYWHERE = """secret => [
  document.documentElement.outerHTML, location.href, document.cookie, JSON.stringify(history.state),
  ...[localStorage, sessionStorage].flatMap(store => Object.entries(store).flat()),
  ...[...document.querySelectorAll("input, textarea")].map(field => field.value),
].filter(text => text.includes(secret)).length"""


def test_an_instance_is_made_and_its_secret_is_shown_once(
    visit: Visit, admin: Person, seed: Seed, gateway: GatewayProcess
) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.arrive(admin)
    visit.go("#/admin/instances")
    visit.find("new-instance").click()
    expect(visit.find("instance-name")).to_be_focused()
    visit.find("instance-name").fill("Kiosk")
    visit.find("instance-rate").fill("120")
    add_network(visit, "192.0.2.0/24")
    visit.find("add-name").fill("::1")
    visit.find("make-instance").click()
    told = configuration(visit)
    gateway.secrets.append(told["secret"])
    id = told["instance"]
    assert set(told) == {"url", "instance", "kid", "secret"}
    issuer = visit.page.request.get(f"{visit.origin}/.well-known/oauth-authorization-server").json()["issuer"]
    assert told["url"] == issuer
    assert len(base64.urlsafe_b64decode(told["secret"] + "=")) == 32
    assert row(seed, id, "name, networks, requests_per_minute") == ("Kiosk", '["192.0.2.0/24","::1"]', 120)
    assert ends(seed, id) == {told["kid"]: None}
    visit.page.get_by_role("button", name="Copy configuration").click()
    expect(visit.page.get_by_role("button", name="Copied")).to_be_visible()
    copied = visit.page.evaluate("() => navigator.clipboard.readText()")
    assert tomllib.loads(copied)["gateway"] == told
    visit.find("instance-secret-done").click()
    expect(visit.page).to_have_url(f"{visit.origin}/#/admin/instances/{id}")
    expect(visit.find(f"key-{told['kid']}")).to_be_visible()
    assert visit.page.evaluate(EVERYWHERE, told["secret"]) == 0
    visit.page.reload()
    visit.live()
    expect(visit.find(f"key-{told['kid']}")).to_be_visible()
    assert visit.page.evaluate(EVERYWHERE, told["secret"]) == 0
    assert not [text for text in (*visit.watch.addresses, *visit.watch.console) if told["secret"] in text]


def test_the_secret_goes_with_the_dialog_however_it_is_closed(
    visit: Visit, admin: Person, shop: str, gateway: GatewayProcess
) -> None:
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    visit.find("new-key").press("Enter")
    visit.find("make-key").press("Enter")
    secret = configuration(visit)["secret"]
    gateway.secrets.append(secret)
    assert visit.page.evaluate(EVERYWHERE, secret) == 1
    visit.page.keyboard.press("Escape")
    expect(visit.find("instance-secret")).to_have_count(0)
    assert visit.page.evaluate(EVERYWHERE, secret) == 0


@pytest.mark.parametrize(("overlap", "lasts_ms"), [(None, DAY_MS), ("0", 0), ("", None)])
def test_another_key_lets_the_older_one_end(
    visit: Visit, admin: Person, seed: Seed, shop: str, overlap: str | None, lasts_ms: int | None
) -> None:
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    visit.find("new-key").click()
    if overlap is not None:
        visit.find("new-key-overlap").select_option(overlap)
    before = now_ms()
    visit.find("make-key").click()
    kid = configuration(visit)["kid"]
    visit.find("instance-secret-done").click()
    expect(visit.find(f"key-{kid}")).to_contain_text("In force")
    found = ends(seed, shop)
    assert found.pop(kid) is None
    if lasts_ms == 0:
        assert found.get(f"k{shop}", 0) is not None
        expect(visit.find(f"key-k{shop}").get_by_text("In force")).to_have_count(0)
    else:
        end = found[f"k{shop}"]
        assert (end is None) if lasts_ms is None else before <= int(end or 0) - lasts_ms <= now_ms()


def test_a_key_is_deleted_after_a_question(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    instance_key(seed, f"l{shop}", shop, now_ms())
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    visit.page.get_by_role("button", name=f"Delete the key k{shop}").click()
    expect(visit.page.locator("dialog")).not_to_contain_text("No other key")
    visit.find("cancel").click()
    assert set(ends(seed, shop)) == {f"k{shop}", f"l{shop}"}
    visit.page.get_by_role("button", name=f"Delete the key k{shop}").click()
    visit.find("confirm").click()
    expect(visit.find(f"key-k{shop}")).to_have_count(0)
    visit.page.get_by_role("button", name=f"Delete the key l{shop}").click()
    expect(visit.page.locator("dialog")).to_contain_text("No other key is in force")
    visit.find("confirm").click()
    expect(visit.find("instance-keys")).to_contain_text("No keys")
    assert ends(seed, shop) == {}


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
    new = f"i_new{next(NUMBERS)}"
    seed.insert("instances", id=new)
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


def test_its_connections_are_shown_and_end_with_its_key(
    visit: Visit, admin: Person, seed: Seed, shop: str, gateway: GatewayProcess
) -> None:
    seed.foreign.execute("UPDATE instances SET networks = '[]' WHERE id = ?", shop)
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    expect(visit.find("instance-connections")).to_contain_text("No connections")
    visit.find("new-key").click()
    visit.find("make-key").click()
    told = configuration(visit)
    gateway.secrets.append(told["secret"])
    visit.find("instance-secret-done").click()
    key = Key(told["kid"], told["secret"])
    headers = sign(key, "GET", f"{visit.origin}/ws?watch=self")
    with connect(f"ws://127.0.0.1:{gateway.port}/ws?watch=self", additional_headers=headers) as socket:
        session = next(message for message in map(json.loads, socket) if message["op"] == "ready")["session"]
        row = visit.find(f"session-{session}")
        expect(visit.find("instance-connections").locator(row)).to_contain_text(told["kid"])
        visit.go("#/admin/instances")
        mark = visit.find(f"instance-{shop}").locator("[data-connected]")
        expect(mark).to_have_attribute("data-connected", "1")
        visit.go("#/admin/sessions")
        expect(row).to_contain_text("Key of the instance")
        expect(row.get_by_role("button")).to_have_count(0)
        row.get_by_role("link", name=f"instance:{shop}").click()
        visit.page.get_by_role("button", name=f"Delete the key {told['kid']}").click()
        visit.find("confirm").click()
        assert next(message for message in map(json.loads, socket) if message["op"] == "ended")["code"] == "revoked"
        expect(visit.find("instance-connections")).to_contain_text("No connections")


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


def look(visit: Visit, where: str) -> list[str]:
    wrong = []
    for size in (DESKTOP, PHONE, SMALL_PHONE):
        visit.page.set_viewport_size(size)
        for scheme in SCHEMES:
            visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            visit.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            visit.page.evaluate(STILL)
            wrong += [f"{where}, {size['width']} wide, {scheme}: {one}" for one in findings(visit.page)]
        wrong += [f"{where}, {size['width']} wide: {one}" for one in visit.too_wide()]
    return wrong


def test_everybody_can_use_the_dialogs(start_visit: StartVisit, admin: Person, shop: str) -> None:
    visit = start_visit(has_touch=True)
    visit.arrive(admin)
    visit.go("#/admin/instances")
    visit.find("new-instance").click()
    add_network(visit, "10.0.0.0/8")
    wrong = look(visit, "a new instance")
    visit.page.set_viewport_size(PHONE)
    assert small_targets(visit.page) == []
    visit.page.keyboard.press("Escape")
    expect(visit.find("new-instance")).to_be_focused()
    visit.go(f"#/admin/instances/{shop}")
    visit.find("new-key").click()
    wrong += look(visit, "a new key")
    visit.find("make-key").click()
    expect(visit.find("instance-secret")).to_be_visible()
    wrong += look(visit, "its secret")
    visit.page.set_viewport_size(PHONE)
    assert small_targets(visit.page) == []
    visit.find("instance-secret-done").click()
    assert wrong == []


def test_a_full_log_does_not_hide_a_change(visit: Visit, admin: Person, seed: Seed, shop: str) -> None:
    """More is written in a second than the page reads."""
    person = somebody(seed)
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        with seed.transaction():
            for number in range(300):
                seed.foreign.execute("UPDATE users SET name = ? WHERE id = ?", f"{number}", person.id)
            seed.foreign.execute("UPDATE instances SET name = ? WHERE id = ?", f"At {time.monotonic()}", shop)
            for number in range(300):
                seed.foreign.execute("UPDATE users SET name = ? WHERE id = ?", f"{number}", person.id)
    seed.foreign.execute("UPDATE instances SET name = 'Last' WHERE id = ?", shop)
    expect(visit.find("instance-name")).to_have_value("Last")
