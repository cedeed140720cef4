"""A real browser signs in with cookies: what its pages can do, and what pages of other origins can not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.chromium import blank_pages, running_chromium
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess, wait_for
from tests.support.seed import Person, Seed
from tests.support.signed_in import ACCESS, DEVICE, OTHER_PASSWORD, PASSWORD, REFRESH, cheap_hash

pytestmark = pytest.mark.storages("file")
SETTINGS = {"auth_argon2_memory_kib": 7168, "auth_argon2_time": 1, "logging_level": "debug"}
COOKIES = {ACCESS, REFRESH, DEVICE}

ASK = """async ([method, path, body, headers]) => {
  const sent = {method, headers: {...headers}};
  if (body !== null) { sent.body = JSON.stringify(body); sent.headers["Content-Type"] = "application/json"; }
  const answer = await fetch(path, sent);
  const text = await answer.text();
  return {status: answer.status, text, body: text ? JSON.parse(text) : null};
}"""
# Opens a channel; `window.channels[name]` tells what came and how it ended.
OPEN = """([name, address, first]) => {
  window.channels = window.channels || {};
  const seen = window.channels[name] = {ops: [], messages: [], close: null};
  const socket = new WebSocket(address, "gateway.v1+json");
  socket.onmessage = event => {
    const message = JSON.parse(event.data);
    seen.messages.push(message);
    seen.ops.push(message.op);
    if (message.op === "hello" && first !== null) socket.send(JSON.stringify(first));
  };
  socket.onclose = event => { seen.close = event.code; };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    with blank_pages() as port:
        yield port


@pytest.fixture
def person(seed: Seed) -> Person:
    return seed.person(password_hash=cheap_hash())


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context()
    opened.set_default_timeout(15_000)
    yield opened
    opened.close()


class Visit:
    """A page of the gateway's own origin, and what it knows."""

    def __init__(self, gateway: GatewayProcess, context: BrowserContext, host: str = "127.0.0.1") -> None:
        self.gateway = gateway
        self.context = context
        self.page = context.new_page()
        self.origin = f"http://{host}:{gateway.port}"
        self.csrf = ""
        self.page.goto(f"{self.origin}/health")

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One `fetch` of the page; status and body."""
        return self.page.evaluate(ASK, [method, path, body, headers])

    def write(self, method: str, path: str, body: Any = None) -> Any:
        """The same with the CSRF token."""
        return self.page.evaluate(ASK, [method, path, body, {"X-CSRF-Token": self.csrf}])

    def sign_in(self, person: Person, password: str = PASSWORD) -> Any:
        self.gateway.secrets.append(password)
        answer = self.ask("POST", "/auth/login", {"username": person.id, "password": password, "cookie": True})
        assert answer["status"] == 200, answer
        self.csrf = answer["body"]["csrf_token"]
        self.gateway.secrets += [self.csrf, *self.cookies().values()]
        return answer["body"]

    def cookies(self) -> dict[str, str]:
        return {cookie["name"]: cookie["value"] for cookie in self.context.cookies()}

    def ticket(self) -> str:
        ticket: str = self.write("POST", "/auth/ticket")["body"]["ticket"]
        self.gateway.secrets.append(ticket)
        return ticket

    def open(self, name: str, query: str = "", first: Any = None) -> Channel:
        return Channel(self.page, name, f"ws://{self.origin[7:]}/ws{query}", first)

    def signed_in_as(self) -> str | None:
        answer = self.ask("GET", "/api/identity")
        return answer["body"]["id"] if answer["status"] == 200 else None


class Channel:
    """A WebSocket of a page."""

    def __init__(self, page: Page, name: str, address: str, first: Any = None) -> None:
        self._page = page
        self._name = name
        page.evaluate(OPEN, [name, address, first])

    @property
    def seen(self) -> Any:
        return self._page.evaluate("name => window.channels[name]", self._name)

    def until(self, *ops: str) -> list[Any]:
        """Wait for these messages, from the first one on."""
        wait_for(lambda: len(self.seen["ops"]) >= len(ops) or self.seen["close"] is not None, what=str(ops))
        seen = self.seen
        assert seen["ops"][: len(ops)] == list(ops), seen
        messages: list[Any] = seen["messages"]
        return messages

    def closed(self) -> int:
        """Wait for its end; the close code."""
        wait_for(lambda: self.seen["close"] is not None, what="the socket is closed")
        code: int = self.seen["close"]
        return code


@pytest.fixture
def visit(gateway: GatewayProcess, context: BrowserContext) -> Visit:
    return Visit(gateway, context)


# --- the own page ---


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_cookies_are_kept_and_no_script_sees_them(
    gateway: GatewayProcess, context: BrowserContext, person: Person, host: str
) -> None:
    visit = Visit(gateway, context, host)
    shown = visit.sign_in(person)
    cookies = {cookie["name"]: cookie for cookie in context.cookies()}
    assert set(cookies) == COOKIES
    for cookie in cookies.values():
        assert cookie["httpOnly"]
        assert cookie["secure"]
        assert (cookie["sameSite"], cookie["path"], cookie["domain"]) == ("Lax", "/", host)
    assert visit.page.evaluate("document.cookie") == ""
    assert visit.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert visit.page.evaluate("indexedDB.databases().then(found => found.length)") == 0
    assert not {"access_token", "refresh_token"} & set(shown)
    assert not [value for value in visit.cookies().values() if value in repr(shown)]
    assert visit.signed_in_as() == person.id


def test_scripts_can_not_set_them_either(visit: Visit, person: Person) -> None:
    visit.sign_in(person)
    before = visit.cookies()
    for name in (ACCESS, REFRESH):
        visit.page.evaluate("name => { document.cookie = `${name}=x; path=/; secure`; }", name)
    assert visit.cookies() == before


def test_a_write_needs_the_csrf_token(visit: Visit, person: Person) -> None:
    visit.sign_in(person)
    before = visit.ask("GET", "/auth/tokens")["body"]["items"]
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": visit.cookies()[ACCESS]}):
        assert visit.ask("POST", "/auth/tokens", {"name": "evil"}, **headers)["status"] == 403
    assert visit.ask("GET", "/auth/tokens")["body"]["items"] == before
    made = visit.write("POST", "/auth/tokens", {"name": "good"})
    visit.gateway.secrets.append(made["body"]["token"])
    assert made["status"] == 201
    assert len(visit.ask("GET", "/auth/tokens")["body"]["items"]) == len(before) + 1


def test_a_page_that_is_loaded_again_goes_on(visit: Visit, person: Person) -> None:
    visit.sign_in(person)
    visit.page.reload()
    visit.context.clear_cookies(name=ACCESS)
    assert visit.signed_in_as() is None
    visit.csrf = visit.ask("GET", "/auth/csrf")["body"]["csrf_token"]
    assert visit.write("POST", "/auth/refresh")["status"] == 200
    visit.gateway.secrets += visit.cookies().values()
    assert visit.signed_in_as() == person.id


def test_two_tabs_that_renew_at_once_stay_signed_in(visit: Visit, person: Person) -> None:
    visit.sign_in(person)
    both = """csrf => Promise.all([1, 2, 3].map(() => fetch("/auth/refresh",
        {method: "POST", headers: {"X-CSRF-Token": csrf}}).then(answer => answer.status)))"""
    assert visit.page.evaluate(both, visit.csrf) == [200, 200, 200]
    assert visit.write("POST", "/auth/refresh")["status"] == 200
    assert visit.signed_in_as() == person.id


def test_a_ticket_opens_one_channel_and_the_logout_closes_it(visit: Visit, person: Person) -> None:
    visit.sign_in(person)
    ticket = visit.ticket()
    channel = visit.open("first", f"?ticket={ticket}")
    _, ready, snapshot = channel.until("hello", "ready", "snapshot")
    assert ready["principal"] == snapshot["doc"] == person.doc
    again = visit.open("again", f"?ticket={ticket}")
    assert again.closed() == 1006
    assert again.seen["ops"] == []
    assert visit.write("POST", "/auth/logout")["status"] == 200
    assert channel.closed() == 4500
    assert channel.seen["ops"] == ["hello", "ready", "snapshot", "ended"]
    assert channel.seen["messages"][-1]["code"] == "revoked"
    assert set(visit.cookies()) == {DEVICE}
    assert visit.signed_in_as() is None
    assert visit.ask("GET", "/auth/csrf")["status"] == 401


def test_a_new_ticket_renews_the_channel(visit: Visit, person: Person) -> None:
    visit.sign_in(person)
    channel = visit.open("old", f"?ticket={visit.ticket()}", {"op": "auth", "id": "renewal", "token": visit.ticket()})
    messages = channel.until("hello", "ready", "snapshot", "ready")
    assert messages[3]["session"] == messages[1]["session"]


def test_the_cookie_alone_opens_no_channel(visit: Visit, person: Person) -> None:
    visit.sign_in(person)
    channel = visit.open("bare", first={"op": "auth"})
    assert channel.closed() == 4102
    assert channel.seen["ops"] == ["hello", "ended"]


def test_a_new_password_ends_the_other_browser(
    gateway: GatewayProcess, browser: Browser, visit: Visit, person: Person
) -> None:
    visit.sign_in(person)
    other = browser.new_context()
    try:
        phone = Visit(gateway, other)
        phone.sign_in(person)
        channel = phone.open("phone", f"?ticket={phone.ticket()}")
        channel.until("hello", "ready", "snapshot")
        change = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
        gateway.secrets.append(OTHER_PASSWORD)
        assert visit.write("POST", "/auth/password", change)["status"] == 200
        assert channel.closed() == 4500
        assert phone.signed_in_as() is None
        assert phone.write("POST", "/auth/refresh")["status"] == 401
        assert set(phone.cookies()) == {DEVICE}
    finally:
        other.close()
    assert visit.signed_in_as() == person.id


# --- pages of other origins ---

READ = """async address => {
  try { const answer = await fetch(address, {credentials: "include"}); return await answer.text(); }
  catch (error) { return error.name; }
}"""
SEND = """async ([address, options]) => {
  try { const answer = await fetch(address, {method: "POST", credentials: "include", ...options}); return answer.type; }
  catch (error) { return error.name; }
}"""
FORM = """([address, kind]) => {
  const form = document.createElement("form");
  Object.assign(form, {method: "POST", action: address, enctype: kind});
  const field = document.createElement("input");
  field.name = '{"everywhere": true, "x": "'; field.value = '"}';
  form.append(field); document.body.append(form); form.submit();
}"""
# The same site as far as cookies go (another port), and another site.
STRANGERS = ("127.0.0.1", "localhost")


@pytest.fixture(params=STRANGERS)
def stranger(request: pytest.FixtureRequest, elsewhere: int, context: BrowserContext) -> Page:
    """A page of another origin in the same browser."""
    page = context.new_page()
    page.goto(f"http://{request.param}:{elsewhere}/")
    return page


@pytest.mark.parametrize("path", ["/auth/csrf", "/auth/sessions", "/auth/tokens", "/api/identity", "/api/document"])
def test_another_origins_page_reads_nothing(visit: Visit, person: Person, stranger: Page, path: str) -> None:
    visit.sign_in(person)
    assert stranger.evaluate(READ, f"{visit.origin}{path}") == "TypeError"
    assert visit.ask("GET", path)["status"] == 200


def test_another_origins_page_writes_nothing_by_fetch(
    visit: Visit, person: Person, stranger: Page, foreign: ForeignWriter
) -> None:
    visit.sign_in(person)
    before = foreign.execute("SELECT max(seq) FROM change_log")
    for path in ("/auth/logout", "/auth/refresh", "/auth/ticket", "/auth/tokens"):
        for options in (
            {"mode": "no-cors"},
            {"mode": "no-cors", "headers": {"Content-Type": "text/plain"}, "body": '{"name": "evil"}'},
            {"mode": "cors"},
            {"mode": "cors", "headers": {"Content-Type": "application/json"}, "body": '{"name": "evil"}'},
            {"mode": "cors", "headers": {"X-CSRF-Token": visit.csrf}},
        ):
            assert stranger.evaluate(SEND, [f"{visit.origin}{path}", options]) in ("opaque", "TypeError")
    assert foreign.execute("SELECT max(seq) FROM change_log") == before
    assert visit.signed_in_as() == person.id
    assert set(visit.cookies()) == COOKIES
    assert visit.write("POST", "/auth/refresh")["status"] == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_another_origins_page_writes_nothing_by_form(
    visit: Visit, person: Person, stranger: Page, foreign: ForeignWriter, kind: str
) -> None:
    visit.sign_in(person)
    before = foreign.execute("SELECT max(seq) FROM change_log")
    back = stranger.url
    # The cookies come along from another port, and not from another site.
    refused = 403 if "127.0.0.1" in back else 401
    for path, status in (
        ("/auth/logout", refused),
        ("/auth/tokens", refused),
        ("/auth/refresh", 415),
        ("/auth/login", 415),
    ):
        with stranger.expect_navigation() as navigation:
            stranger.evaluate(FORM, [f"{visit.origin}{path}", kind])
        assert navigation.value is not None
        assert navigation.value.status == status, path
        stranger.goto(back)
    assert foreign.execute("SELECT max(seq) FROM change_log") == before
    assert visit.signed_in_as() == person.id
    assert set(visit.cookies()) == COOKIES


def test_another_origins_page_signs_nobody_in(visit: Visit, seed: Seed, person: Person, stranger: Page) -> None:
    attacker = seed.person(password_hash=cheap_hash())
    visit.sign_in(person)
    body = f'{{"username": "{attacker.id}", "password": "{PASSWORD}", "cookie": true}}'
    for mode, kind in (("no-cors", "text/plain"), ("cors", "application/json"), ("cors", "text/plain")):
        options = {"mode": mode, "headers": {"Content-Type": kind}, "body": body}
        assert stranger.evaluate(SEND, [f"{visit.origin}/auth/login", options]) in ("opaque", "TypeError")
    assert visit.signed_in_as() == person.id


def test_another_origins_page_opens_no_channel(visit: Visit, person: Person, stranger: Page) -> None:
    visit.sign_in(person)
    address = f"ws://{visit.origin[7:]}/ws"
    for name, query in (("bare", ""), ("ticket", f"?ticket={visit.ticket()}")):
        channel = Channel(stranger, name, address + query, {"op": "auth"})
        assert channel.closed() == 1006
        assert channel.seen["ops"] == []


def test_the_log_holds_no_secret_of_all_this(gateway: GatewayProcess) -> None:
    assert len(gateway.secrets) > 50
    gateway.check_log()
