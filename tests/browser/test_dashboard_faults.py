"""The page when the gateway or the network fails: it says so, and recovers by itself without being loaded again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from tests.support.dashboard import Visit, somebody, visiting
from tests.support.fault_rig import report
from tests.support.furnished import set_used
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed, now_ms
from tests.support.tcp_proxy import TcpProxy

QUOTA = "voice_minutes"
SETTINGS = {"channel_heartbeat_s": 1, "channel_pong_timeout_s": 1, "server_drain_s": 0.5}


@pytest.fixture
def wire(gateway: GatewayProcess) -> Iterator[TcpProxy]:
    with TcpProxy(gateway.port) as proxy:
        yield proxy


@pytest.fixture
def far_visit(gateway: GatewayProcess, browser: Browser, wire: TcpProxy) -> Iterator[Visit]:
    """A visit whose way to the gateway can be cut, and which ends before that does."""
    with visiting(gateway, browser, port=wire.port) as visit:
        yield visit


def mark(page: Page) -> None:
    """Leave something in the page that does not outlive it."""
    page.evaluate("() => { window.stillHere = true; }")


def still_here(page: Page) -> bool:
    return bool(page.evaluate("() => window.stillHere === true"))


def test_a_gateway_that_is_killed_and_restarted_is_found_again_and_nothing_is_lost(
    visit: Visit, person: Person, gateway: GatewayProcess, seed: Seed, request: pytest.FixtureRequest
) -> None:
    visit.arrive(person)
    visit.shows(QUOTA, 7)
    mark(visit.page)
    loaded = visit.watch.documents
    visit.watch.offline = True
    gateway.kill()
    expect(visit.find("freshness")).not_to_have_attribute("data-state", "live")
    set_used(seed, person.doc, QUOTA, 311)
    seed.insert("user_permissions", user_id=person.id, permission="can_use_fax")
    expect(visit.find("quota-voice_minutes")).to_be_visible()
    gateway.start()
    ready = time.monotonic()
    visit.live()
    report(request, ready_to_live_s=time.monotonic() - ready)
    visit.shows(QUOTA, 311)
    visit.holds("can_use_fax")
    assert still_here(visit.page)
    assert visit.watch.documents == loaded
    set_used(seed, person.doc, QUOTA, 312)
    visit.shows(QUOTA, 312)


def test_after_a_short_restart_the_page_is_not_away_for_much_longer(
    visit: Visit, person: Person, gateway: GatewayProcess, request: pytest.FixtureRequest
) -> None:
    """A ticket that nobody is there to give is no ticket that was refused: it is asked for again soon."""
    visit.arrive(person)
    visit.page.wait_for_timeout(5500)  # so long a session has to live to count as healthy
    visit.page.evaluate("() => { Math.random = () => 0.999; }")
    visit.watch.offline = True
    gateway.kill()
    visit.state("offline")
    began = len(visit.watch.addresses)
    visit.page.wait_for_timeout(2500)
    asked = [one for one in visit.watch.addresses[began:] if one.endswith("/auth/ticket")]
    gateway.start()
    visit.live()
    report(request, tickets_asked_for=len(asked))
    assert 2 <= len(asked) <= 6


def test_a_gateway_that_drains_is_found_again(
    visit: Visit, person: Person, gateway: GatewayProcess, seed: Seed
) -> None:
    visit.arrive(person)
    mark(visit.page)
    visit.watch.offline = True
    assert gateway.terminate() == 0
    expect(visit.find("freshness")).not_to_have_attribute("data-state", "live")
    set_used(seed, person.doc, QUOTA, 99)
    gateway.start()
    visit.live()
    visit.shows(QUOTA, 99)
    assert still_here(visit.page)


def test_a_page_that_can_not_be_filled_says_so_and_is_filled_later(
    visit: Visit, person: Person, gateway: GatewayProcess
) -> None:
    visit.arrive(person)
    mark(visit.page)
    visit.watch.offline = True
    gateway.kill()
    expect(visit.find("freshness")).not_to_have_attribute("data-state", "live")
    visit.open("#/security")
    expect(visit.find("retry").first).to_be_visible()
    expect(visit.page.locator("main")).to_contain_text("could not be loaded")
    gateway.start()
    visit.live()
    again = visit.find("retry")
    rows = visit.page.locator('[data-test^="session-"]')
    for _ in range(20):
        if again.count() == 0:
            break
        again.evaluate_all("buttons => buttons.forEach(button => button.click())")  # it may go by itself meanwhile
        visit.page.wait_for_timeout(250)
    expect(rows).to_have_count(1)
    assert still_here(visit.page)


SECURITY = "**/dashboard/pages/security.js"


def test_a_page_of_another_version_is_loaded_with_all_the_others(visit: Visit, person: Person) -> None:
    """The dashboard was renewed while it was open: one module of it wants what the others do not have yet."""
    renewed = 'import { notThereYet } from "../dom.js"; export const mount = notThereYet;'
    visit.page.route(SECURITY, lambda route: route.fulfill(body=renewed, content_type="text/javascript"))
    visit.arrive(person)
    visit.open("#/security")
    expect(visit.page.locator("main")).to_contain_text("reload it")
    expect(visit.find("retry")).to_have_count(0)
    assert ["notThereYet" in fault for fault in visit.watch.faults] == [True]
    visit.watch.faults.clear()
    visit.page.unroute(SECURITY)
    loaded = visit.watch.documents
    visit.find("reload").click()
    expect(visit.page.locator('[data-test^="session-"]')).to_have_count(1)
    assert visit.watch.documents == loaded + 1


def test_a_browser_without_network_says_so_at_once_and_recovers(
    visit: Visit, person: Person, seed: Seed, request: pytest.FixtureRequest
) -> None:
    visit.arrive(person)
    mark(visit.page)
    visit.watch.offline = True
    began = time.monotonic()
    visit.context.set_offline(True)
    visit.state("offline")
    said = time.monotonic() - began
    set_used(seed, person.doc, QUOTA, 123)
    began = time.monotonic()
    visit.context.set_offline(False)
    visit.live()
    report(request, offline_said_s=said, live_again_s=time.monotonic() - began)
    assert said < 2
    visit.shows(QUOTA, 123)
    assert still_here(visit.page)


def test_a_wire_that_swallows_everything_is_noticed(
    far_visit: Visit, wire: TcpProxy, person: Person, seed: Seed, request: pytest.FixtureRequest
) -> None:
    far_visit.arrive(person)
    mark(far_visit.page)
    far_visit.watch.offline = True
    began = time.monotonic()
    wire.cut(silent=True)
    expect(far_visit.find("freshness")).not_to_have_attribute("data-state", "live")
    said = time.monotonic() - began
    set_used(seed, person.doc, QUOTA, 222)
    began = time.monotonic()
    wire.cut()  # the other side has long given up what was open
    wire.restore()
    far_visit.live()
    report(request, silence_said_s=said, live_again_s=time.monotonic() - began)
    far_visit.shows(QUOTA, 222)
    assert still_here(far_visit.page)


def test_a_wire_that_is_cut_again_and_again(far_visit: Visit, wire: TcpProxy, person: Person, seed: Seed) -> None:
    far_visit.arrive(person)
    mark(far_visit.page)
    far_visit.watch.offline = True
    for number in range(3):
        wire.cut()
        expect(far_visit.find("freshness")).not_to_have_attribute("data-state", "live")
        set_used(seed, person.doc, QUOTA, 300 + number)
        wire.restore()
        far_visit.live()
        far_visit.shows(QUOTA, 300 + number)
    assert still_here(far_visit.page)


def test_a_slow_wire_is_slow_and_no_fault(far_visit: Visit, wire: TcpProxy, person: Person, seed: Seed) -> None:
    wire.delay(0.2)
    far_visit.arrive(person)
    far_visit.shows(QUOTA, 7)
    set_used(seed, person.doc, QUOTA, 8)
    far_visit.shows(QUOTA, 8)
    far_visit.open("#/security")
    expect(far_visit.page.locator('[data-test^="session-"]')).to_have_count(1)
    far_visit.live()


# Everything that the badge showed, and that was said.
LISTEN = """() => {
  const said = window.said = [];
  const note = () => said.push(document.querySelector('[data-test="freshness"]').dataset.state,
    document.querySelector('[data-test="announcer"]').textContent);
  new MutationObserver(note).observe(document.body,
    {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["data-state"]});
}"""


def test_a_document_that_was_only_just_asked_for_is_not_stale(
    visit: Visit, far_visit: Visit, wire: TcpProxy, person: Person, seed: Seed
) -> None:
    admin = somebody(seed, is_admin=1)
    far_visit.arrive(admin)
    wire.delay(0.1)
    far_visit.page.evaluate(LISTEN)
    for one in (person, somebody(seed), somebody(seed)):
        far_visit.open(f"#/admin/users/{one.id}")
        expect(far_visit.find("user-identity")).to_contain_text(one.id)
        far_visit.page.wait_for_timeout(400)
    said = far_visit.page.evaluate("() => window.said")
    assert "live" in said
    assert [one for one in said if "stale" in one.lower()] == []


def test_a_document_that_does_not_come_is_stale(visit: Visit, person: Person, seed: Seed) -> None:
    sockets: list[WebSocketRoute] = []
    held: list[str | bytes] = []

    def pass_on(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        of_them = f'"doc":"{person.doc}"'
        server = socket.connect_to_server()
        server.on_message(lambda frame: held.append(frame) if of_them in str(frame) else socket.send(frame))

    visit.page.route_web_socket(re.compile("/ws$"), pass_on)
    visit.arrive(somebody(seed, is_admin=1))
    visit.open(f"#/admin/users/{person.id}")
    visit.state("stale")
    expect(visit.find("announcer")).to_contain_text("Stale")
    for frame in held:
        sockets[-1].send(frame)
    visit.live()
    expect(visit.find("announcer")).to_contain_text("Live again")


def test_a_revocation_while_there_is_no_network_is_learnt_afterwards(visit: Visit, person: Person, seed: Seed) -> None:
    visit.arrive(person)
    visit.watch.offline = True
    visit.context.set_offline(True)
    visit.state("offline")
    seed.foreign.execute("UPDATE login_sessions SET revoked_at = ? WHERE user_id = ?", now_ms(), person.id)
    visit.context.set_offline(False)
    visit.signed_out()


def test_a_page_that_slept_catches_up(visit: Visit, person: Person, seed: Seed) -> None:
    visit.arrive(person)
    visit.watch.offline = True
    session = visit.context.new_cdp_session(visit.page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    for used in (41, 42, 43):
        set_used(seed, person.doc, QUOTA, used)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    visit.shows(QUOTA, 43)
    visit.live()
