"""The first load of the dashboard: what a browser asks for before anything can be shown."""

from __future__ import annotations

from playwright.sync_api import Response

from tests.support.dashboard import Visit

NAMED = """all => all.map(one => one.getAttribute("href"))"""


def test_the_page_asks_once_for_each_module_and_all_come_compressed(visit: Visit) -> None:
    """Those that the page names, its two scripts, the page of the address with what is its own, and nothing more."""
    answers: list[Response] = []
    visit.page.on("response", lambda answer: answers.append(answer))
    visit.open()
    visit.signed_out()
    visit.page.wait_for_load_state("networkidle")
    named = visit.page.locator('link[rel="modulepreload"]').evaluate_all(NAMED)
    scripts = {answer.url.removeprefix(visit.origin): answer for answer in answers if answer.url.endswith(".js")}
    asked = sorted(answer.url.removeprefix(visit.origin) for answer in answers if answer.url.endswith(".js"))
    assert len(asked) == len(set(asked)) >= len(named) + 2
    of_the_page = set(asked) - {*named, "/dashboard/app.js", "/dashboard/first_paint.js"}
    assert "/dashboard/pages/overview.js" in of_the_page
    assert not [path for path in of_the_page if not path.startswith("/dashboard/") or "/admin/" in path]
    assert set(named) <= set(asked)
    assert {path for path, answer in scripts.items() if answer.headers.get("content-encoding") != "gzip"} == set()
