"""Somebody sets the machine's clock by an hour: everything that depends on it follows, nobody is cut off for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.client import Client, Refused
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_thread import GatewayThread
from tests.support.oracle import user_document
from tests.support.seed import Person, Seed, now_ms

pytestmark = pytest.mark.storages("file")

HOUR_MS = 3_600_000


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayThread]:
    with GatewayThread(tmp_path_factory.mktemp("gateway"), channel_heartbeat_s=2, channel_pong_timeout_s=2) as thread:
        yield thread


@pytest.fixture
def foreign(gateway: GatewayThread) -> Iterator[ForeignWriter]:
    with ForeignWriter(gateway.database) as writer:
        yield writer


@pytest.fixture
def seed(gateway: GatewayThread, foreign: ForeignWriter) -> Seed:
    return Seed(foreign, gateway.secrets)


def _person(seed: Seed) -> Person:
    """One whose document is another one in an hour, and was another one an hour ago."""
    person = seed.person(seed.plan(["can_use_voice"], {"calls": (10, "hour"), "minutes": (500, "year")}))
    now = now_ms()
    seed.insert("user_permissions", user_id=person.id, permission="ends_soon", expires_at=now + HOUR_MS // 2)
    seed.insert("user_permissions", user_id=person.id, permission="begins_soon", starts_at=now + HOUR_MS // 2)
    seed.insert("user_permissions", user_id=person.id, permission="began_lately", starts_at=now - HOUR_MS // 2)
    seed.insert("quota_usage", owner=person.doc, quota="calls", period_start=now - now % HOUR_MS, used=9)
    return person


async def _follows(client: Client, gateway: GatewayThread, foreign: ForeignWriter, person: Person) -> None:
    """The document is the one of the present moment, within two seconds, and said to have come by the clock."""
    mark = client.mark()
    expected = user_document(foreign, person.id, at_ms=now_ms() + gateway.clock.shift_ms)
    await client.until(lambda: client.held[:2] == expected[:2], timeout_s=2)
    for update in client.messages("update", since=mark):
        assert update["causes"] == ["clock"]


@pytest.mark.parametrize("shift_ms", [HOUR_MS, -HOUR_MS], ids=["ahead", "back"])
async def test_documents_follow_the_clock_there_and_back(
    shift_ms: int, gateway: GatewayThread, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person = _person(seed)
    client = await connect(person.token)
    await client.until(lambda: client.data)
    await _follows(client, gateway, foreign, person)
    first = client.held
    gateway.clock.shift_ms = shift_ms
    await client.until(lambda: client.held.rev != first.rev, timeout_s=2)
    await _follows(client, gateway, foreign, person)
    gateway.clock.shift_ms = 0
    await client.until(lambda: client.held.rev == first.rev, timeout_s=2)
    foreign.execute("UPDATE users SET name = 'Goes on' WHERE id = ?", person.id)
    await client.until(lambda: client.data["identity"]["name"] == "Goes on")
    assert client.messages("ready")
    assert len(client.messages("snapshot")) == 1


async def test_credentials_end_by_the_clock_that_is_set(gateway: GatewayThread, seed: Seed, connect: Connect) -> None:
    short = seed.person(expires_at=now_ms() + HOUR_MS // 2)
    endless = seed.person()
    ending, lasting = await connect(short.token), await connect(endless.token)
    await ending.until(lambda: ending.data)
    gateway.clock.shift_ms = HOUR_MS
    ended = await ending.end(timeout_s=3)
    assert ended["code"] == "token_expired"
    with pytest.raises(Refused):
        await connect(short.token)
    await lasting.barrier()
    gateway.clock.shift_ms = -HOUR_MS
    back = await connect(short.token)
    await back.until(lambda: back.data)
    assert not back.messages("expiring")
    await lasting.barrier()
