"""Text that would be markup, script or layout elsewhere is text, on every page, in every field that somebody fills."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import StartVisit
from tests.support.dashboard import DESKTOP, PHONE, Visit, admin_routes, own_routes, somebody
from tests.support.furnished import instance_key
from tests.support.seed import Person, Seed, now_ms

RAN = "window.ran = (window.ran || 0) + 1"
MARKUP = (
    f"<img src=x onerror='{RAN}'>",
    f'"><script>{RAN}</script><svg onload="{RAN}">',
    "{{constructor.constructor('" + RAN + "')()}}${" + RAN + "}",
    "<style>body{display:none!important}</style><base href=//example.org/>",
    "</script></title></textarea><iframe srcdoc='<script>parent.ran=1</script>'>",
)
ADDRESSES = (f"javascript:{RAN}", "data:text/html,<script>parent.ran=1</script>", "//example.org/x")
TURNED = "\u202egnihtyna \u2066\u2067 \u200f\u061c\u0301\u0301\u0301\u0301"
TEXTS = {"markup": "".join(MARKUP), "address": ADDRESSES[0], "turned": TURNED, "long": "W" * 10_000}
"""The last one has no place to break it."""
KEYS = ("__proto__", "constructor", "toString", "hasOwnProperty", "<img src=x onerror=ran=1>", '"]onclick="ran=1')
"""Names that are not only names where objects serve as maps."""


class Scene(NamedTuple):
    """Who looks, and at whom."""

    admin: Person
    person: Person
    plan: str
    role: str
    organization: str
    instance: str


def spoilt(seed: Seed, text: str) -> Scene:
    """Rows as a program with SQL access writes them, past all checks: `text` in every column that is shown."""
    plan, role = seed.plan(), seed.role()
    seed.foreign.execute("UPDATE plans SET name = ? WHERE id = ?", text, plan)
    seed.foreign.execute("UPDATE roles SET name = ? WHERE id = ?", text, role)
    with seed.transaction():
        for name in (text, *KEYS, *ADDRESSES[1:]):
            seed.insert("plan_permissions", plan=plan, permission=name)
            seed.insert("plan_quotas", plan=plan, quota=name, limit_value=10)
            seed.insert("role_permissions", role=role, permission=f"{name}.role")
    attributes = (
        {"persona": text, "list": [text, {text[:60]: text}, *ADDRESSES]}
        | {"at": ADDRESSES[1]}
        | {key: text for key in KEYS if key.isidentifier()}
    )
    person = somebody(
        seed, plan, name=text, email=f"{text}@{plan}", attributes=json.dumps(attributes, ensure_ascii=False)
    )
    admin = somebody(seed, plan, name=text, is_admin=1)
    organization = seed.organization(plan, {person.id: "owner", admin.id: "member"})
    with seed.transaction():
        seed.foreign.execute("UPDATE organizations SET name = ? WHERE id = ?", text, organization)
        seed.insert("user_roles", user_id=person.id, role=role)
        seed.insert("user_permissions", user_id=person.id, permission=f"{text}.own")
        seed.insert("user_quotas", user_id=person.id, quota=f"{text}.own", limit_value=5)
        seed.foreign.execute("UPDATE api_tokens SET name = ? WHERE user_id = ?", text, person.id)
        login = {"user_id": person.id, "expires_at": now_ms() + 3_600_000, "ip": text, "user_agent": text}
        seed.insert("login_sessions", id=f"s{plan}", **login)
        instance = f"i{plan}"
        seed.insert("instances", id=instance, name=text, networks=json.dumps([text]))
        instance_key(seed, f"{text}.{plan}", instance, now_ms())
        seed.insert("instances", id=f"{text}.{plan}", name="", networks='["10.0.0.0/8"]')
    return Scene(admin, person, plan, role, organization, instance)


def look_around(visit: Visit, routes: tuple[str, ...]) -> list[str]:
    """What is wrong on these pages: something ran, something was made, or something stands out."""
    wrong = []
    for route in routes:
        visit.go(route)
        for size in (DESKTOP, PHONE):
            visit.page.set_viewport_size(size)
            wrong += [f"{route}, {size['width']} wide: {one}" for one in visit.too_wide()]
        made = visit.page.evaluate(
            """() => [...document.querySelectorAll("body script, iframe, object, embed, base, body style, img[src=x]")]
              .map(element => element.outerHTML.slice(0, 200))
              .concat([...document.querySelectorAll("*")].flatMap(element => [...element.attributes])
                .filter(one => /^on/i.test(one.name) || /^(javascript|data):/i.test(one.value) && one.name === "href")
                .map(one => `${one.name}=${one.value.slice(0, 80)}`))"""
        )
        wrong += [f"{route}: {one}" for one in made]
        assert visit.page.evaluate("() => window.ran") is None, route
        assert visit.page.evaluate("() => Object.keys(Object.prototype)") == []
    return wrong


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_text_is_text_on_every_page(start_visit: StartVisit, seed: Seed, text: str) -> None:
    scene = spoilt(seed, text)
    own = start_visit()
    own.arrive(scene.person)
    seed.foreign.execute("UPDATE users SET username = ? WHERE id = ?", f"{scene.plan}{text}", scene.person.id)
    assert look_around(own, own_routes(scene.organization)) == []
    shown = own.page.evaluate("() => document.body.textContent")
    assert text[:40] in shown
    above = start_visit()
    above.arrive(scene.admin)
    assert look_around(above, admin_routes(scene.person.id, *scene[2:])) == []


def test_names_that_objects_have_already_are_names(visit: Visit, seed: Seed) -> None:
    names = [name for name in KEYS if name.isidentifier()]
    plan = seed.plan(names, dict.fromkeys(names, (10, "month")))
    person = somebody(seed, plan)
    visit.arrive(person)
    for name in names:
        if name == "__proto__":
            continue
        expect(visit.find(f"quota-{name}")).to_be_visible()
        visit.holds(name)
    visit.holds("__proto__")
    expect(visit.find("quota-__proto__")).to_be_visible()


def test_addresses_can_not_make_the_page_do_anything(visit: Visit, seed: Seed) -> None:
    admin = somebody(seed, is_admin=1)
    visit.watch.expect("GET", "/(users|plans|orgs|api/explain|admin).*", 404)
    visit.watch.expect("GET", "/(users|plans|orgs|api/explain|admin).*", 422)
    visit.watch.expect("GET", "/(users|plans|orgs|api/explain|admin).*", 400)
    visit.arrive(admin)
    for part in (
        *MARKUP,
        *ADDRESSES,
        "../../auth/logout",
        "%2e%2e%2fauth%2flogout",
        "..%2f..",
        "%",
        "\u0000",
        "?limit=0#x",
    ):
        for route in (f"#/{part}", f"#/admin/users/{part}", f"#/admin/plans/{part}"):
            visit.page.evaluate("to => { location.hash = to; }", route)
            visit.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert visit.page.evaluate("() => window.ran") is None
    visit.go("#/")


def test_what_a_browser_calls_itself_is_text(start_visit: StartVisit, seed: Seed) -> None:
    agent = f"<img src=x onerror='{RAN}'> {'Q' * 3000}"
    visit = start_visit(user_agent=agent)
    person = somebody(seed)
    visit.arrive(person)
    assert look_around(visit, ("#/security",)) == []
    expect(visit.page.locator('[data-test^="session-"]')).to_have_count(1)
