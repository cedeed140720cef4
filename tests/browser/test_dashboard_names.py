"""Names that nobody chose for a page: what SQL wrote stays as it is, what can not be named is told in words."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Request, expect

from tests.support.dashboard import Visit, somebody
from tests.support.seed import Person, Seed

UNUSABLE = ["a b", "<b>x</b>", "x" * 300, "..", "1st"]


def writes(page: Page) -> list[str]:
    """What this page writes from now on, by method and path."""
    seen: list[str] = []

    def note(request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            seen.append(f"{request.method} {request.url}")

    page.on("request", note)
    return seen


# --- what nobody edited ---


def test_a_plan_that_is_saved_keeps_the_names_of_its_quotas(visit: Visit, admin: Person, seed: Seed) -> None:
    plan = seed.plan([], {"two\nlines": (5, "month"), " space ": (6, "day"), "plain": (7, "month")})
    seed.foreign.execute("UPDATE plans SET name = '  Broad  ' WHERE id = ?", plan)
    visit.arrive(admin)
    visit.go(f"#/admin/plans/{plan}")
    visit.find("plan-save").click()
    expect(visit.find("toast")).to_contain_text("nothing to save")
    visit.find("limit-plain").fill("70")
    visit.find("plan-save").click()
    visit.find("confirm").click()
    expect(visit.find("preview")).to_have_count(0)
    rows = seed.foreign.execute("SELECT quota, limit_value FROM plan_quotas WHERE plan = ? ORDER BY limit_value", plan)
    assert [tuple(row) for row in rows] == [("two\nlines", 5), (" space ", 6), ("plain", 70)]
    assert [tuple(row) for row in seed.foreign.execute("SELECT name FROM plans WHERE id = ?", plan)] == [("  Broad  ",)]


def test_a_role_that_is_saved_keeps_its_name(visit: Visit, admin: Person, seed: Seed) -> None:
    role = seed.role(["reports.read"])
    seed.foreign.execute("UPDATE roles SET name = ' Two ' WHERE id = ?", role)
    visit.arrive(admin)
    visit.go(f"#/admin/roles/{role}")
    visit.find("role-save").click()
    expect(visit.find("toast")).to_contain_text("nothing to save")
    visit.find("add-name").fill("reports.write")
    visit.find("role-save").click()
    expect(visit.find("toast").filter(has_text="Saved")).to_be_visible()
    assert seed.foreign.execute("SELECT name FROM roles WHERE id = ?", role)[0][0] == " Two "
    assert seed.foreign.execute("SELECT count(*) FROM role_permissions WHERE role = ?", role)[0][0] == 2


@pytest.mark.parametrize("own_page", [False, True])
def test_an_account_that_is_saved_keeps_what_nobody_edited(
    visit: Visit, admin: Person, seed: Seed, own_page: bool
) -> None:
    person = admin if own_page else somebody(seed)
    seed.foreign.execute("UPDATE users SET name = ? WHERE id = ?", " Fay\n  ", person.id)
    visit.arrive(admin)
    visit.go("#/account" if own_page else f"#/admin/users/{person.id}")
    written = writes(visit.page)
    save = visit.find("account-save")
    save.click()
    expect(visit.find("toast")).to_contain_text("nothing to save")
    assert written == []
    mail = visit.page.get_by_label("E-mail")
    mail.fill(f"{person.id}@example.org")
    save.click()
    expect(visit.find("toast").filter(has_text="Saved") if own_page else visit.find("edit-log")).to_contain_text(
        "Saved" if own_page else "Change email"
    )
    expect(visit.page.locator(f'input[value="{person.id}@example.org"]').or_(mail)).to_have_value(
        f"{person.id}@example.org"
    )
    rows = seed.foreign.execute("SELECT name, email FROM users WHERE id = ?", person.id)
    assert [tuple(row) for row in rows] == [(" Fay\n  ", f"{person.id}@example.org")]


# --- what can not be a part of a path ---


@pytest.mark.parametrize("place", ["users", "plans", "roles", "organizations"])
def test_an_address_that_leads_upwards_finds_nothing(visit: Visit, admin: Person, place: str) -> None:
    visit.arrive(admin)
    for name in ("..", ".", "%2E%2E", "a%2Fb"):
        visit.go(f"#/admin/{place}/{name}")
        expect(visit.find("problem").first).to_contain_text("Not found")


@pytest.mark.parametrize("name", ["..", ".", "a/../..", "no/slash"])
def test_what_has_such_a_name_is_not_changed_and_neither_is_what_stands_above(
    visit: Visit, admin: Person, seed: Seed, name: str
) -> None:
    person = somebody(seed)
    seed.insert("user_permissions", user_id=person.id, permission=name)
    visit.arrive(admin)
    visit.go(f"#/admin/users/{person.id}")
    written = writes(visit.page)
    visit.page.get_by_role("button", name=f"Why: {name}", exact=True).click()
    visit.find("grant-remove").click()
    expect(visit.page.locator("dialog").get_by_text("by SQL it can")).to_be_visible()
    visit.find("grant-apply").click()
    expect(visit.page.locator("dialog").get_by_text("can not be changed here")).to_have_count(2)
    assert written == []
    assert seed.foreign.execute("SELECT count(*) FROM users WHERE id = ?", person.id)[0][0] == 1


def test_an_answer_that_is_no_data_is_told_in_words(visit: Visit, admin: Person) -> None:
    visit.arrive(admin)
    page = "<!doctype html><title>Sign in to this network</title>"
    visit.page.route("**/auth/sessions*", lambda route: route.fulfill(status=200, content_type="text/html", body=page))
    visit.go("#/security")
    expect(visit.find("problem").first).to_contain_text("What answered was not the gateway")


@pytest.mark.parametrize("name", ["constructor", "toString", "__proto__", "hasOwnProperty", "nowhere"])
def test_there_is_no_organization_that_objects_inherit(visit: Visit, admin: Person, name: str) -> None:
    visit.arrive(admin)
    visit.go(f"#/organizations/{name}")
    expect(visit.page.locator("main")).to_contain_text("No such organization")
    expect(visit.find("leave")).to_be_hidden()


def test_a_quota_may_be_called_as_what_objects_inherit(visit: Visit, admin: Person, seed: Seed) -> None:
    plan = seed.plan([], {"constructor": (5, "month"), "toString": (6, "month")})
    visit.arrive(admin)
    visit.go(f"#/admin/plans/{plan}")
    visit.find("plan-quota-constructor").get_by_role("button").click()
    visit.find("limit-toString").fill("7")
    visit.find("plan-save").click()
    visit.find("confirm").click()
    expect(visit.find("preview")).to_have_count(0)
    rows = seed.foreign.execute("SELECT quota, limit_value FROM plan_quotas WHERE plan = ?", plan)
    assert [tuple(row) for row in rows] == [("toString", 7)]


# --- names that are typed ---


def told(visit: Visit, field: str) -> None:
    """The field is marked and says which names there are."""
    expect(visit.find(field)).to_have_attribute("aria-invalid", "true")
    expect(visit.find(field)).to_be_focused()
    expect(visit.page.locator(".field", has=visit.find(field))).to_contain_text("Letters, digits and . _ : -")


def test_names_that_nothing_can_have_are_told_before_they_are_sent(visit: Visit, admin: Person, seed: Seed) -> None:
    person = somebody(seed)
    visit.arrive(admin)
    visit.go(f"#/admin/users/{person.id}")
    written = writes(visit.page)
    for opening, field, sending in (
        ("grant", "grant-name", "grant-apply"),
        ("override", "override-name", "override-apply"),
        ("give-role", "role-choice", "role-give"),
    ):
        visit.find(opening).click()
        for name in UNUSABLE:
            visit.find(field).fill(name)
            visit.find(sending).click()
            told(visit, field)
            visit.find(field).fill("")
        visit.page.keyboard.press("Escape")
    visit.find("account-plan").fill("a b")
    visit.find("account-save").click()
    told(visit, "account-plan")
    assert written == []


@pytest.mark.parametrize("kind", ["plan", "role"])
def test_a_new_plan_or_role_has_a_name_that_there_can_be(visit: Visit, admin: Person, kind: str) -> None:
    visit.arrive(admin)
    visit.go(f"#/admin/{kind}s/new?new")
    written = writes(visit.page)
    for name in UNUSABLE:
        visit.find(f"{kind}-id").fill(name)
        visit.find(f"{kind}-save").click()
        told(visit, f"{kind}-id")
    visit.find(f"{kind}-id").fill("good")
    visit.find("add-name").fill("<b>x</b>")
    visit.find(f"{kind}-save").click()
    told(visit, "add-name")
    if kind == "plan":
        visit.find("add-name").fill("")
        visit.find("add-quota").click()
        visit.find("quota-name-").fill("a b")
        visit.find("plan-save").click()
        told(visit, "quota-name-")
    assert written == []


def test_a_plan_beyond_a_thousand_can_be_chosen(visit: Visit, admin: Person, seed: Seed) -> None:
    seed.foreign.execute(
        "INSERT INTO plans(id, name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1300)"
        " SELECT printf('many%04d', i), '' FROM n"
    )
    person = somebody(seed)
    visit.arrive(admin)
    visit.go(f"#/admin/users/{person.id}")
    plan = visit.find("account-plan")
    expect(visit.page.locator(".field", has=plan).locator("datalist option")).not_to_have_count(0)
    plan.fill("many1300")
    visit.find("account-save").click()
    expect(visit.find("user-plan")).to_contain_text("many1300")
