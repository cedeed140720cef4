"""Two gateways behind nginx with TLS, with the configuration that is shipped."""

from __future__ import annotations

import asyncio
import http.client
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest

from client_sdk import Channel, Freshness, ServerClient
from tests.end_to_end.conftest import Connect
from tests.support.certificates import Certificate, self_signed
from tests.support.client import Refused
from tests.support.deployment import Deployment
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.nginx import Nginx, nginx_program
from tests.support.oracle import user_document
from tests.support.raw_websocket import handshake
from tests.support.seed import GROW, Person, Seed, growth
from tests.support.signing import sign
from tests.support.waiting import eventually

DRAIN_S = 2.0
SESSIONS = 200
STRANGER = "127.0.0.9"
"""An address of this machine that nobody trusts."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    nginx_program()
    return self_signed(tmp_path_factory.mktemp("tls"))


class Site:
    """Two gateways on one database, and the proxy in front."""

    def __init__(self, directory: Path, certificate: Certificate, settings: Sequence[dict[str, object]]) -> None:
        database = directory / "gateway.db"
        common = {"server_trusted_proxies": "127.0.0.1/32", "server_drain_s": DRAIN_S}
        self.nodes = [GatewayProcess(directory, database=database, **{**common, **own}) for own in settings]
        self.proxy = Nginx(directory, self.nodes, certificate)
        self.url = f"https://{self.proxy.address}"
        self.secrets = self.nodes[0].secrets

    def sessions(self) -> list[int]:
        """How many live sessions each node has."""
        return [int(node.metric("gateway_sessions", kind="user")) for node in self.nodes]


@contextmanager
def running_site(
    directory: Path, certificate: Certificate, *settings: dict[str, object]
) -> Iterator[tuple[Site, ForeignWriter]]:
    site = Site(directory, certificate, settings or ({}, {}))
    try:
        for node in site.nodes:
            node.start()
        with site.proxy, ForeignWriter(site.nodes[0].database) as foreign:
            yield site, foreign
    finally:
        for node in site.nodes:
            node.end()
    for node in site.nodes:
        node.secrets = site.secrets
        node.check_log()
    for log in (site.proxy.access_log, site.proxy.error_log):
        assert not any(secret in log.read_text() for secret in site.secrets), log


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[tuple[Site, ForeignWriter]]:
    with running_site(tmp_path_factory.mktemp("site"), certificate) as running:
        yield running


@pytest.fixture
def site(behind: tuple[Site, ForeignWriter]) -> Site:
    return behind[0]


@pytest.fixture
def foreign(behind: tuple[Site, ForeignWriter]) -> ForeignWriter:
    return behind[1]


@pytest.fixture
def seed(behind: tuple[Site, ForeignWriter]) -> Seed:
    return Seed(behind[1], behind[0].secrets)


async def test_the_channel_and_the_api_work_through_the_proxy(
    site: Site, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token, at=site.proxy)
    assert client.socket.subprotocol == "gateway.v1+json"
    await client.until(lambda: client.data)
    foreign.execute("UPDATE users SET name = 'Through' WHERE id = ?", person.id)
    await client.until(lambda: client.data["identity"]["name"] == "Through")
    assert client.held == user_document(foreign, person.id)
    transport = httpx2.AsyncHTTPTransport(verify=site.proxy.tls)
    async with ServerClient(site.url, person.token, transport=transport) as server:
        assert (await server.identity()).rev == client.held.rev
    first = await connect(person.token, at=site.proxy, by="message")
    foreign.execute("DELETE FROM api_tokens WHERE id = ?", person.token_id)
    for session in (client, first):
        ended = await session.end()
        assert (ended["code"], session.replica.close_code) == ("revoked", 4500)


async def test_a_refusal_comes_through_as_it_is(site: Site, seed: Seed, connect: Connect) -> None:
    with pytest.raises(Refused) as refused:
        await connect(seed.unknown_token(), at=site.proxy)
    assert refused.value.answer.status == 401
    assert refused.value.answer.json()["code"] == "auth_failed"


async def test_signed_requests_come_through_as_they_were_signed(
    site: Site, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    """Host, path and query; the address is the client's, whatever it forges, and a nonce is good at one node only."""
    shop = Deployment(site.nodes[0], foreign, networks='["127.0.0.1"]')
    bearer = {"authorization": f"Bearer {seed.person().token}", "x-forwarded-for": "10.1.2.3"}
    url = f"{site.url}/auth/validate?a=%2F%20&&b"
    async with httpx2.AsyncClient(verify=site.proxy.tls) as client:
        for _ in range(4):  # both nodes
            headers = sign(shop.key, "GET", url, headers=bearer)
            assert (await client.get(url, headers=headers)).json()["active"] is True
            assert (await client.get(url, headers=headers)).status_code == 401
        foreign.execute("UPDATE instances SET networks = '[\"10.1.2.3\"]' WHERE id = ?", shop.id)
        assert (await client.get(url, headers=sign(shop.key, "GET", url, headers=bearer))).status_code == 403
    foreign.execute("UPDATE instances SET networks = '[]' WHERE id = ?", shop.id)
    channel = await connect(headers=list(sign(shop.key, "GET", f"{site.url}/ws").items()), at=site.proxy)
    await channel.until(lambda: channel.replica.ready)
    assert channel.own == shop.doc


async def test_the_own_origin_is_the_public_one(site: Site, seed: Seed, connect: Connect) -> None:
    token = seed.person().token
    await connect(token, at=site.proxy, origin=site.url)
    for origin in (f"http://{site.proxy.address}", "https://127.0.0.1", "https://evil.example", "null"):
        for forged in ([], [("X-Forwarded-Proto", "http")], [("X-Forwarded-Host", "evil.example")]):
            with pytest.raises(Refused) as refused:
                await connect(token, at=site.proxy, origin=origin, headers=forged)
            assert refused.value.answer.status == 403


def from_address(address: str, port: int, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """The first line of the answer to a request that comes from another address of this machine."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0)) as plain,
        tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain as sock,
    ):
        sock.sendall(request)
        return bytes(sock.recv(4096)).partition(b"\r\n")[0]


@pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", b"101"), (STRANGER, b"403")])
async def test_only_the_trusted_proxy_says_that_it_is_asked_by_https(
    peer: str, status: bytes, site: Site, seed: Seed
) -> None:
    node = site.nodes[0]
    headers = f"Authorization: Bearer {seed.person().token}\r\nX-Forwarded-Proto: https\r\n"
    request = handshake(node, headers=f"{headers}Origin: https://{node.address}\r\n")
    assert status in await asyncio.to_thread(from_address, peer, node.port, request)


async def test_the_clients_address_reaches_the_log_and_a_forged_one_does_not(site: Site, seed: Seed) -> None:
    person = seed.person()
    headers = f"Authorization: Bearer {person.token}\r\nX-Forwarded-For: 203.0.113.7\r\n"
    answer = await asyncio.to_thread(
        from_address, STRANGER, site.proxy.port, handshake(site.proxy, headers=headers), site.proxy.tls
    )
    assert b" 101 " in answer
    ends = f"principal={person.doc} "

    def lines() -> list[str]:
        return [line for log in site.nodes for line in log.log().splitlines() if ends in line]

    await eventually(lines)
    [line] = lines()
    assert f"address={STRANGER}" in line


async def test_who_does_not_read_is_cut_off_behind_the_proxy_too(
    site: Site, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    reader = await connect(person.token, at=site.proxy)
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", site.proxy.port))
        with site.proxy.tls.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            secure.sendall(handshake(site.proxy, headers=f"Authorization: Bearer {person.token}\r\n"))
            assert secure.recv(12) == b"HTTP/1.1 101"
            foreign.each(GROW, growth(person, 300), pause_s=0.002)
            await reader.until(lambda: reader.data.get("identity", {}).get("attributes", {}).get("number") == 299)
            poll = select.poll()
            poll.register(secure, select.POLLRDHUP)
            assert not poll.poll(0)
            # What nginx and the kernel took is lost; the gateway sees a client that went.
            await eventually(lambda: poll.poll(0), timeout_s=15)
    await reader.barrier()


async def test_a_new_certificate_costs_no_session(site: Site, seed: Seed, connect: Connect) -> None:
    person = seed.person()
    before = await connect(person.token, at=site.proxy)
    old = site.proxy.workers()
    site.proxy.reload()
    after = await connect(person.token, at=site.proxy)
    for client in (before, after):
        await client.barrier()
        await client.close()
    await eventually(lambda: not site.proxy.workers() & old, timeout_s=20)


def test_plain_http_is_sent_to_tls(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.proxy.plain_port, timeout=10)
    connection.request("GET", "/api/identity?x=1", headers={"Host": "gateway.example.org"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (308, "https://gateway.example.org/api/identity?x=1")
    connection.close()


def test_figures_are_not_for_the_public(site: Site) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", site.proxy.port, context=site.proxy.tls, timeout=10)
    for path, status in (("/metrics", 404), ("/health", 200), ("/ready", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


async def test_query_strings_stay_out_of_the_proxys_log(site: Site, seed: Seed, connect: Connect) -> None:
    await connect(seed.person().token, at=site.proxy, watch=["self", "user:shown_nowhere"])
    with pytest.raises(Refused):
        await connect(seed.unknown_token(), at=site.proxy, watch=["user:shown_nowhere"])
    await eventually(lambda: '"GET /ws" 401' in site.proxy.access_log.read_text())
    assert "shown_nowhere" not in site.proxy.access_log.read_text() + site.proxy.error_log.read_text()


async def test_a_node_that_is_full_passes_the_handshake_on(
    tmp_path: Path, certificate: Certificate, connect: Connect
) -> None:
    with running_site(tmp_path, certificate, {"channel_max_sessions": 1}, {}) as (site, foreign):
        people = Seed(foreign, site.secrets).people(10)
        for person in people:
            await connect(person.token, at=site.proxy)
        assert site.sessions() == [1, 9]
        statuses = [line.split('"')[2].split()[0] for line in site.proxy.access_log.read_text().splitlines()]
        assert set(statuses) <= {"101"}
        site.nodes[1].kill()
        with pytest.raises(Refused) as refused:
            await connect(people[0].token, at=site.proxy)
        assert refused.value.answer.status in (502, 503)


async def test_strangers_who_fill_a_node_close_it_for_nobody_else(
    tmp_path: Path, certificate: Certificate, connect: Connect
) -> None:
    settings = {"channel_max_sessions": 1000, "channel_auth_timeout_s": 60}
    with running_site(tmp_path, certificate, settings, settings) as (site, foreign):
        person = Seed(foreign, site.secrets).person()
        for _ in range(10):
            await asyncio.gather(*(connect(at=site.proxy) for _ in range(20)))
        for _ in range(20):
            with pytest.raises(Refused) as refused:
                await connect(at=site.proxy)
            assert refused.value.answer.status == 503
            assert "retry-after" in refused.value.answer.headers
        for _ in range(10):
            await connect(person.token, at=site.proxy)


async def test_a_node_that_stood_still_is_ended_and_everybody_is_on_the_other(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running_site(tmp_path, certificate) as (site, foreign):
        people = Seed(foreign, site.secrets).people(40)
        async with following(site, people[:20]) as before:
            assert site.sessions() == [10, 10]
            site.nodes[0].pause()
            later = [Follower(site, person, connect_timeout_s=1.0) for person in people[20:]]
            opening = [asyncio.create_task(follower.channel.open()) for follower in later]
            # Those whose handshake goes to the other one get in.
            await eventually(lambda: any(task.done() for task in opening))
            site.nodes[0].kill()
            await asyncio.gather(*opening)
            await eventually(lambda: all(follower.live for follower in before), 20)
            assert int(site.nodes[1].metric("gateway_sessions", kind="user")) == 40
            await asyncio.gather(*(follower.channel.close() for follower in later))


class Follower:
    """A client of the SDK that remembers how long it was away, and why."""

    def __init__(self, site: Site, person: Person, connect_timeout_s: float) -> None:
        self.channel = Channel(
            site.url,
            person.token,
            ssl=site.proxy.tls,
            proxy=None,
            open_timeout_s=30.0,
            connect_timeout_s=connect_timeout_s,
        )
        self.reasons: list[str] = []
        self.away_s: list[float] = []
        self._since: float | None = None
        self.channel.on_freshness(self._changed)

    def _changed(self, freshness: Freshness) -> None:
        if freshness.state == "live":
            if self._since is not None:
                self.away_s.append(time.monotonic() - self._since)
                self._since = None
        elif freshness.state == "offline" and freshness.reason != "connecting":
            self.reasons.append(freshness.reason)
            self._since = self._since or time.monotonic()

    @property
    def live(self) -> bool:
        return self.channel.freshness.state == "live"


@asynccontextmanager
async def following(
    site: Site, people: Sequence[Person], *, connect_timeout_s: float = 10.0
) -> AsyncIterator[list[Follower]]:
    followers = [Follower(site, person, connect_timeout_s) for person in people]
    try:
        for start in range(0, len(followers), 20):
            await asyncio.gather(*(follower.channel.open() for follower in followers[start : start + 20]))
        yield followers
    finally:
        await asyncio.gather(*(follower.channel.close() for follower in followers))


async def test_a_rolling_restart_loses_no_session(tmp_path: Path, certificate: Certificate) -> None:
    with running_site(tmp_path, certificate) as (site, foreign):
        people = Seed(foreign, site.secrets).people(SESSIONS)
        async with following(site, people) as followers:
            assert site.sessions() == [SESSIONS // 2] * 2, "the better of two spreads them evenly"
            moved = 0
            for turn, (node, other) in enumerate([site.nodes, site.nodes[::-1]], start=1):
                moved += int(node.metric("gateway_sessions", kind="user"))
                assert await asyncio.to_thread(node.terminate) == 0
                await eventually(lambda moved=moved: sum(len(each.away_s) for each in followers) == moved, 20)
                assert all(follower.live for follower in followers)
                assert int(other.metric("gateway_sessions", kind="user")) == SESSIONS
                foreign.execute("UPDATE users SET name = ?", f"Turn {turn}")
                await eventually(
                    lambda turn=turn: all(
                        follower.channel.document["identity"]["name"] == f"Turn {turn}" for follower in followers
                    )
                )
                await asyncio.to_thread(node.start)
            reasons = [reason for follower in followers for reason in follower.reasons]
            assert set(reasons) == {"going_away"}
            assert len(reasons) == SESSIONS // 2 + SESSIONS
            assert all(len(follower.reasons) in (1, 2) for follower in followers)
            assert max(away for follower in followers for away in follower.away_s) < DRAIN_S + 5
            log = "".join(node.log() for node in site.nodes)
            assert log.count("reason=going_away") == len(reasons)
