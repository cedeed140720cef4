"""Pictures of the dashboard for the documents: ``make screenshots`` writes them; here they are only not blank."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import StartVisit
from tests.support.dashboard import DESKTOP, PHONE, Visit
from tests.support.furnished import Company, furnished, set_used, use
from tests.support.gateway_process import ROOT
from tests.support.seed import Seed

WANTED = os.environ.get("SCREENSHOTS")
"""Where `make screenshots` wants them."""
SHOWN = {
    *("dashboard-light", "dashboard-dark", "dashboard-phone", "sign-in-phone"),
    *("admin-users", "admin-user", "admin-plan", "admin-instance", "admin-changes", "admin-node"),
}
"""What the documents show; the others are only looked at."""


@pytest.fixture(scope="module")
def company(seed: Seed) -> Company:
    return furnished(seed)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = ROOT / WANTED if WANTED else tmp_path
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def colours(picture: bytes) -> int:
    """How many different bytes the rows of a PNG have, as filtered: a blank one has hardly any."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    at, data = 8, b""
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        if picture[at + 4 : at + 8] == b"IDAT":
            data += picture[at + 8 : at + 8 + length]
        at += 12 + length
    return len(set(zlib.decompress(data)))


def take(visit: Visit, place: Path, name: str, *, whole: bool = False) -> None:
    visit.page.evaluate("() => document.activeElement.blur()")
    visit.page.mouse.move(0, 0)
    picture = visit.page.screenshot(full_page=whole, animations="disabled", caret="hide")
    assert colours(picture) > 50, f"{name} is blank"
    if not WANTED or name in SHOWN:
        (place / f"{name}.png").write_bytes(picture)


def enliven(visit: Visit, company: Company, seed: Seed, page: str) -> None:
    """Let something happen that the page shows."""
    if page == "one of users":
        visit.find("grant").click()
        visit.find("grant-name").fill("can_use_whatsapp")
        visit.find("grant-apply").click()
        expect(visit.find("edit-log").locator("li").first).to_have_attribute("data-state", "shown")
        set_used(seed, company.person.doc, "voice_minutes", 190)
        expect(visit.find("edit-log").locator("li")).to_have_count(2)
        visit.page.evaluate("() => document.querySelectorAll('[data-test=toast]').forEach(toast => toast.remove())")
    elif page in ("changes", "node"):
        for used in range(200, 500 if page == "node" else 204):
            set_used(seed, company.admin.doc, "voice_minutes", used)
            visit.page.wait_for_timeout(10 * (used % 10))


def test_the_own_page(visit: Visit, company: Company, seed: Seed, place: Path) -> None:
    visit.arrive(company.person)
    for used in (121, 128, 131, 140, 152, 157, 171, 174, 183):
        set_used(seed, company.person.doc, "voice_minutes", used)
        visit.shows("voice_minutes", used)
        visit.page.wait_for_timeout(300)  # the line of usage has points a quarter of a second apart
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme=scheme)
        take(visit, place, f"dashboard-{scheme}")
    visit.page.emulate_media(color_scheme="light")
    visit.go("#/security")
    take(visit, place, "security")


def test_on_a_phone(start_visit: StartVisit, company: Company, place: Path) -> None:
    visit = start_visit(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    visit.open()
    visit.signed_out()
    take(visit, place, "sign-in-phone")
    visit.sign_in(company.person)
    take(visit, place, "dashboard-phone")
    visit.page.emulate_media(color_scheme="dark")
    take(visit, place, "dashboard-phone-dark")


def test_for_administrators(visit: Visit, company: Company, seed: Seed, place: Path) -> None:
    use(seed, company.admin.doc, "voice_minutes", "month", 12)
    visit.arrive(company.admin)
    for route in company.admin_pages:
        _, _, kind, *one = route.split("/")
        visit.go(route)
        if WANTED:
            enliven(visit, company, seed, kind if not one else f"one of {kind}")
        take(visit, place, f"admin-{kind.removesuffix('s') if one else kind}")


def test_a_blank_picture_is_found(visit: Visit) -> None:
    visit.page.set_viewport_size(DESKTOP)
    assert colours(visit.page.screenshot()) <= 50


def test_the_pictures_of_the_documents_are_small() -> None:
    pictures = sorted((ROOT / "docs" / "images").glob("*.png"))
    assert [picture.name for picture in pictures if picture.stat().st_size > 300_000] == []
    assert sum(picture.stat().st_size for picture in pictures) < 3_000_000
