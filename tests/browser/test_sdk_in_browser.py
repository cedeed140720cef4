"""The JavaScript SDK in a real browser, on a real gateway: on its own origin and others, on good wires and bad ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.chromium import blank_pages
from tests.support.dashboard import PATIENCE_MS
from tests.support.furnished import set_used, use
from tests.support.gateway_process import GatewayProcess, wait_for
from tests.support.oracle import user_document
from tests.support.seed import Person, Seed, now_ms
from tests.support.tcp_proxy import TcpProxy

QUOTA = "voice_minutes"

# Opens a channel with the SDK that the gateway serves; `window.channel` is it, `window.seen` what it told.
OPEN = """async ([sdk, server, token, options]) => {
  const gateway = await import(sdk);
  const channel = window.channel = new gateway.Channel(server, token, options);
  const seen = window.seen = {changes: [], freshness: [], troubles: [], ended: null, verified: null};
  channel.on("change", ({doc, seq, rev, causes}) => seen.changes.push({doc, seq, rev, causes: [...causes]}));
  channel.on("freshness", now => seen.freshness.push(now.state));
  channel.on("trouble", error => seen.troubles.push(error.code));
  channel.on("ended", error => { seen.ended = error ? error.code : "closed"; });
  try { await channel.open(); } catch (error) { return {failed: error.code ?? String(error), name: error.name}; }
  seen.verified = channel.verified;
  return {principal: channel.principal, document: channel.document, verified: channel.verified};
}"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    with blank_pages() as port:
        yield port


@pytest.fixture(scope="module")
def gateway(elsewhere: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """It lets in the pages of its own origin and of one other, by one of its names."""
    process = GatewayProcess(
        tmp_path_factory.mktemp("gateway"), channel_heartbeat_s=1, channel_pong_timeout_s=1, logging_level="debug"
    )
    allowed = f"http://127.0.0.1:{process.port},http://127.0.0.1:{elsewhere}"
    process.environment["GATEWAY_SERVER_ALLOWED_ORIGINS"] = allowed
    with process:
        yield process
    process.check_log()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context()
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    opened.close()


@pytest.fixture
def person(seed: Seed) -> Person:
    one = seed.person(seed.plan(["can_use_voice"], {QUOTA: (500, "month")}))
    use(seed, one.doc, QUOTA, "month", 7)
    return one


class Client:
    """A page with a channel."""

    def __init__(self, context: BrowserContext, page_at: str, sdk: str, server: str | None) -> None:
        self.page: Page = context.new_page()
        self._sdk = sdk
        self._server = server
        self.page.goto(page_at)

    def open(self, token: str, **options: Any) -> Any:
        return self.page.evaluate(OPEN, [self._sdk, self._server, token, options])

    @property
    def seen(self) -> Any:
        return self.page.evaluate("() => window.seen")

    @property
    def document(self) -> Any:
        return self.page.evaluate("() => window.channel.document")

    def until(self, condition: str) -> None:
        """Wait for a condition on the `channel`."""
        self.page.wait_for_function(f"() => {{ const channel = window.channel; return {condition}; }}")


@pytest.fixture
def client(gateway: GatewayProcess, context: BrowserContext) -> Client:
    """A page of the gateway's own origin."""
    origin = f"http://127.0.0.1:{gateway.port}"
    return Client(context, f"{origin}/health", "/sdk/gateway.js", None)


def test_a_channel_holds_what_the_database_gives(client: Client, person: Person, seed: Seed) -> None:
    opened = client.open(person.token)
    assert opened["principal"] == person.doc
    assert opened["verified"]
    assert opened["document"] == user_document(seed.foreign, person.id).data
    set_used(seed, person.doc, QUOTA, 8)
    client.until(f"channel.quotas.{QUOTA}.used === 8")
    assert client.document == user_document(seed.foreign, person.id).data
    assert client.seen["changes"][-1]["causes"] == ["quota_usage"]
    assert client.page.evaluate("() => channel.freshness.state") == "live"
    assert client.page.evaluate("() => channel.mismatches") == 0
    assert 0 <= client.page.evaluate("() => channel.ping()") < PATIENCE_MS


def test_units_are_taken_and_held(client: Client, person: Person, seed: Seed) -> None:
    client.open(person.token)
    balance = client.page.evaluate("quota => channel.consume(quota, 3)", QUOTA)
    assert (balance["used"], balance["remaining"]) == (10, 490)
    held = client.page.evaluate(
        """async quota => {
          const work = async lease => { lease.use(5); return "done"; };
          return channel.lease(quota, 20, {ttlS: 30}, work);
        }""",
        QUOTA,
    )
    assert held == "done"
    client.until(f"channel.quotas.{QUOTA}.used === 15 && !channel.quotas.{QUOTA}.reserved")
    refused = client.page.evaluate("quota => channel.consume(quota, 9000).catch(error => error.code)", QUOTA)
    assert refused == "quota_exceeded"


def test_without_digests_it_works_and_says_so(client: Client, person: Person, seed: Seed) -> None:
    client.page.evaluate("() => Object.defineProperty(crypto, 'subtle', {value: undefined})")
    assert client.open(person.token)["verified"] is False
    set_used(seed, person.doc, QUOTA, 8)
    client.until(f"channel.quotas.{QUOTA}.used === 8")


def test_a_token_that_is_not_good_is_told(client: Client, seed: Seed) -> None:
    told = client.open(seed.unknown_token())
    assert (told["failed"], told["name"]) == ("auth_failed", "AuthFailed")


def test_a_revocation_ends_the_channel_for_good(client: Client, person: Person, seed: Seed) -> None:
    client.open(person.token)
    seed.foreign.execute("UPDATE api_tokens SET revoked_at = ? WHERE id = ?", now_ms(), person.token_id)
    client.until("window.seen.ended !== null")
    assert client.seen["ended"] == "revoked"


def test_a_page_of_another_origin_that_is_allowed(
    context: BrowserContext, gateway: GatewayProcess, elsewhere: int, person: Person, seed: Seed
) -> None:
    origin = f"http://127.0.0.1:{gateway.port}"
    client = Client(context, f"http://127.0.0.1:{elsewhere}/", f"{origin}/sdk/gateway.js", origin)
    assert client.open(person.token)["principal"] == person.doc
    set_used(seed, person.doc, QUOTA, 9)
    client.until(f"channel.quotas.{QUOTA}.used === 9")


def test_a_page_of_another_origin_that_is_not(
    context: BrowserContext, gateway: GatewayProcess, elsewhere: int, person: Person
) -> None:
    origin = f"http://127.0.0.1:{gateway.port}"
    client = Client(context, f"http://localhost:{elsewhere}/", f"{origin}/sdk/gateway.js", origin)
    assert client.open(person.token, openTimeoutMs=1500)["failed"] == "disconnected"


def test_noise_on_the_wire_leaves_the_truth(
    context: BrowserContext, gateway: GatewayProcess, person: Person, seed: Seed
) -> None:
    """Cuts, silences and delays, while another program writes: at no moment back in time, and the truth at the end."""
    chance = random.Random(20261122)
    with TcpProxy(gateway.port) as wire:
        origin = f"http://127.0.0.1:{gateway.port}"
        client = Client(context, f"{origin}/health", "/sdk/gateway.js", f"http://127.0.0.1:{wire.port}")
        client.open(person.token)
        for number in range(12):
            fault = chance.choice(["cut", "silent", "slow", "none"])
            if fault == "slow":
                wire.delay(0.05)
            elif fault != "none":
                wire.cut(silent=fault == "silent")
            for step in range(3):
                set_used(seed, person.doc, QUOTA, 10 + number * 3 + step)
            client.page.wait_for_timeout(chance.randrange(20, 200))
            wire.restore()
            wire.delay(0)
        wait_for(lambda: client.document == user_document(seed.foreign, person.id).data, 30, "the truth", every_s=0.05)
        client.until("channel.freshness.state === 'live'")
        seen = [change["seq"] for change in client.seen["changes"]]
        assert seen == sorted(seen)
        assert client.page.evaluate("() => channel.mismatches") == 0
