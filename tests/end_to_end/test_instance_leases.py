"""An application's server holds and spends quota for the users whom it serves, by the SDK's client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from client_sdk import Channel, Conflict, InstanceClient, LeaseNotFound, QuotaExceeded
from client_sdk.instance_key import instance_key
from tests.support.deployment import Deployment
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed

pytestmark = pytest.mark.storages("file")
QUOTA = "voice_minutes"


@pytest.fixture
def ada(seed: Seed) -> Person:
    return seed.person(seed.plan(quotas={QUOTA: (10, "month")}))


@pytest.fixture
async def shop(gateway: GatewayProcess, foreign: ForeignWriter) -> AsyncIterator[InstanceClient]:
    instance = Deployment(gateway, foreign)
    key = instance_key(instance.key.kid, instance.key.secret)
    async with InstanceClient(f"http://{gateway.address}", key) as client:
        yield client


async def test_a_lease_from_reserving_to_its_end(shop: InstanceClient, ada: Person) -> None:
    held = await shop.reserve(QUOTA, 4, user=ada.id, ttl_s=30)
    assert (held.quota, held.held, held.reserved, held.remaining, held.state) == (QUOTA, 4, 4, 6, "open")
    assert held.expires_at is not None
    again = await shop.reserve(QUOTA, 4, user=ada.id, ttl_s=30, name=held.lease)
    assert (again.lease, again.held, again.remaining) == (held.lease, 4, 6)
    more = [await shop.extend(held, ttl_s=60.5, amount=2, key="more") for _ in range(2)][1]
    assert (more.held, more.remaining) == (6, 4)
    assert str(more.expires_at) > held.expires_at
    with pytest.raises(QuotaExceeded):
        await shop.reserve(QUOTA, 5, user=ada.id)
    done = [await shop.commit(held, 5) for _ in range(2)][1]
    assert (done.state, done.used, done.reserved, done.remaining) == ("committed", 5, 0, 5)
    with pytest.raises(Conflict):
        await shop.release(held)


async def test_what_is_not_used_is_given_back(shop: InstanceClient, ada: Person) -> None:
    first = await shop.reserve(QUOTA, 10, user=ada.id, name="call 1?")
    with pytest.raises(QuotaExceeded):
        await shop.consume(QUOTA, user=ada.id)
    assert (await shop.release(first)).state == "released"
    nothing = await shop.commit(await shop.reserve(QUOTA, 10, user=ada.id), 0)
    assert (nothing.state, nothing.remaining) == ("committed", 10)
    assert (await shop.consume(QUOTA, 3, user=ada.id)).remaining == 7


async def test_a_refusal_is_the_same_as_on_the_channel(
    shop: InstanceClient, gateway: GatewayProcess, ada: Person
) -> None:
    await shop.consume(QUOTA, 3, user=ada.id)
    said = []
    async with Channel(f"http://{gateway.address}", ada.token) as channel:
        for asking in (channel.consume(QUOTA, 8), shop.consume(QUOTA, 8, user=ada.id)):
            with pytest.raises(QuotaExceeded) as refused:
                await asking
            error = refused.value
            said.append((error.code, error.message, error.quota, error.remaining, error.resets_at))
    assert said[0] == said[1]
    assert said[0][2:4] == (QUOTA, 7)
    assert said[0][4] is not None


async def test_a_lease_is_the_instances_own(
    shop: InstanceClient, gateway: GatewayProcess, foreign: ForeignWriter, ada: Person
) -> None:
    held = await shop.reserve(QUOTA, 4, user=ada.id, name="call-1")
    other = Deployment(gateway, foreign)
    async with InstanceClient(f"http://{gateway.address}", instance_key(other.key.kid, other.key.secret)) as stranger:
        with pytest.raises(LeaseNotFound):
            await stranger.release(held)
    assert (await shop.commit(held, 4)).used == 4
