"""The keys of server instances: their secrets are shown once, older ones end, and what they opened ends with them."""

from __future__ import annotations

import base64
import json
import tomllib
from typing import Literal

import pytest
from playwright.sync_api import Route, expect
from websockets.sync.client import connect

from tests.browser.conftest import StartVisit
from tests.support.accessibility import findings, small_targets
from tests.support.dashboard import DESKTOP, PHONE, SMALL_PHONE, STILL, Visit
from tests.support.dashboard_instances import DAY_MS, add_network, configuration, ends, new_shop, row
from tests.support.furnished import instance_key
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed, now_ms
from tests.support.signing import Key, sign

SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


@pytest.fixture
def shop(seed: Seed) -> str:
    return new_shop(seed)


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


def test_a_secret_that_comes_late_is_shown_all_the_same(visit: Visit, admin: Person, gateway: GatewayProcess) -> None:
    visit.arrive(admin)
    visit.go("#/admin/instances")
    asked: list[Route] = []
    visit.page.route("**/instances", lambda route: asked.append(route))  # it marks what it is given
    visit.find("new-instance").click()
    visit.find("instance-name").fill("Kiosk")
    visit.find("make-instance").click()
    expect(visit.find("make-instance")).to_have_attribute("data-busy", "")
    visit.page.keyboard.press("Escape")
    expect(visit.find("make-instance")).to_have_count(0)
    asked[0].continue_()
    gateway.secrets.append(configuration(visit)["secret"])


def test_no_key_too_many_takes_the_secret_away(visit: Visit, admin: Person, shop: str, gateway: GatewayProcess) -> None:
    visit.arrive(admin)
    visit.go(f"#/admin/instances/{shop}")
    visit.find("new-key").press("Enter")
    visit.find("make-key").press("Enter")
    secret = configuration(visit)["secret"]
    gateway.secrets.append(secret)
    assert visit.page.evaluate(EVERYWHERE, secret) == 1
    for key in ("Escape", "Escape", "Enter", "Escape"):
        visit.page.keyboard.press(key)
    expect(visit.find("instance-secret")).to_be_visible()
    visit.go("#/admin/instances")
    expect(visit.find("instance-secret")).to_be_visible()
    visit.find("instance-secret-done").press("Enter")
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
