"""Instances that sign with other people's libraries are let in by a real gateway, and what the SDK signs is good there,
as it was on the wire."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator

import pytest

from client_sdk import Channel
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKeys, instance_key
from tests.support.deployment import Deployment
from tests.support.foreign_signers import SIGNERS, Sent, Signer
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.recording_wire import RecordingWire
from tests.support.seed import Person, Seed
from tests.support.signing import Key, new_nonce
from tests.support.waiting import eventually

pytestmark = pytest.mark.storages("file")
CONSUME = "/api/quotas/calls/consume"
JSON = {"content-type": "application/json"}


@pytest.fixture
def shop(gateway: GatewayProcess, foreign: ForeignWriter) -> Deployment:
    return Deployment(gateway, foreign)


@pytest.fixture
def ada(seed: Seed) -> Person:
    return seed.person(seed.plan(quotas={"calls": (10, "day")}))


@pytest.fixture(params=SIGNERS)
def signer(request: pytest.FixtureRequest) -> Signer:
    return SIGNERS[request.param]


@pytest.fixture
def url(gateway: GatewayProcess) -> str:
    return f"http://{gateway.address}"


# --- theirs at our door ---


QUERIES = ["", "?a=1&b=%20&c", "?a=%2F&&b==&a=1", "?q=%C3%A9+x&plus=%2B", "?:@/?!$'()*,;"]


@pytest.mark.parametrize("query", QUERIES)
def test_a_question_with_a_query_and_a_users_token(
    signer: Signer, shop: Deployment, ada: Person, url: str, query: str
) -> None:
    bearer = {"authorization": f"Bearer {ada.token}"}
    answer = signer.ask(shop.key, "GET", f"{url}/auth/validate{query}", bearer)
    assert answer.status == 200, answer
    assert answer.json()["document"]["identity"]["id"] == ada.id
    assert "ratelimit" in answer.headers


def test_a_body_and_a_query_that_means_something(signer: Signer, shop: Deployment, ada: Person, url: str) -> None:
    held = json.dumps({"amount": 3, "ttl_s": 60, "lease": "call-1", "user": ada.id}).encode()
    assert signer.ask(shop.key, "POST", f"{url}/api/quotas/calls/leases", JSON, held).status == 201
    found = signer.ask(shop.key, "GET", f"{url}/api/quotas/calls/leases/call-1?user={ada.id}")
    assert (found.status, found.json()["held"]) == (200, 3)
    strange = '{"amount": 2, "key": "k", "user": "u_é☎"}'.encode()
    answer = signer.ask(shop.key, "POST", url + CONSUME, JSON, strange)
    assert (answer.status, "ratelimit" in answer.headers) == (422, True), "the signature is good, the id is not"


def test_a_users_token_and_a_body(signer: Signer, shop: Deployment, ada: Person, url: str) -> None:
    headers = {**JSON, "authorization": f"Bearer {ada.token}"}
    answer = signer.ask(shop.key, "POST", url + CONSUME, headers, b'{"amount": 4, "key": "order-7"}')
    assert (answer.status, answer.json()["used"]) == (200, 4)


@pytest.mark.parametrize("path", ["/ws", "/ws?watch=revocations&watch=keys"])
def test_a_channel(signer: Signer, shop: Deployment, url: str, path: str) -> None:
    assert signer.principal(shop.key, url + path) == shop.doc


def test_another_secret_is_refused(signer: Signer, shop: Deployment, ada: Person, url: str) -> None:
    other = Key(shop.key.kid, "A" * 43)
    bearer = {"authorization": f"Bearer {ada.token}"}
    answer = signer.ask(other, "GET", f"{url}/auth/validate", bearer)
    assert (answer.status, answer.json()["credential"]) == (401, "signature")


# --- ours at theirs ---


Work = Callable[[str, Deployment, Person], Awaitable[None]]


def keys_of(shop: Deployment) -> InstanceKeys:
    return InstanceKeys(instance_key(shop.key.kid, shop.key.secret))


async def validating(url: str, shop: Deployment, ada: Person) -> None:
    async with InstanceClient(url, keys_of(shop)) as client:
        assert (await client.validate(ada.token)).active


async def introspecting(url: str, shop: Deployment, ada: Person) -> None:
    async with InstanceClient(url, keys_of(shop)) as client:
        assert (await client.introspect(ada.token))["active"] is True


async def spending(url: str, shop: Deployment, ada: Person) -> None:
    async with InstanceClient(url, keys_of(shop)) as client:
        assert (await client.consume("calls", 2, user=ada.id, key="order-7")).used == 2


async def watching(url: str, shop: Deployment, ada: Person) -> None:
    async with Channel(url, keys_of(shop), watch=["revocations", ada.doc]) as channel:
        await eventually(lambda: ada.doc in channel.documents)


WORK: dict[str, Work] = {each.__name__: each for each in (validating, introspecting, spending, watching)}


@pytest.fixture
def wire(gateway: GatewayProcess) -> Iterator[RecordingWire]:
    with RecordingWire(gateway.port) as recording:
        yield recording


@pytest.mark.parametrize("work", WORK)
async def test_what_the_sdk_sends_is_good_elsewhere(
    signer: Signer, wire: RecordingWire, shop: Deployment, ada: Person, work: str
) -> None:
    """The gateway took it, and so does the other implementation; changed in any way it does not."""
    await WORK[work](f"http://{wire.address}", shop, ada)
    [sent] = wire.sent
    assert signer.verifies(shop.key, sent)
    for changed in changes(sent):
        assert not signer.verifies(shop.key, changed), changed
    assert not signer.verifies(Key(shop.key.kid, "A" * 43), sent)


def changes(sent: Sent) -> Iterator[Sent]:
    """The same request with something else in it."""
    yield sent._replace(method="DELETE")
    yield sent._replace(url=sent.url.replace("127.0.0.1", "127.0.0.2"))
    yield sent._replace(url=sent.url + ("&" if "?" in sent.url else "?") + "x=1")
    written = sent.headers["signature-input"]
    yield sent._replace(
        headers={**sent.headers, "signature-input": written.replace('nonce="', f'nonce="{new_nonce()}')}
    )
    if "authorization" in sent.headers:
        yield sent._replace(headers={**sent.headers, "authorization": "Bearer gw_another"})
    if sent.body:
        yield sent._replace(body=sent.body + b" ")
