"""Clocks that are wrong: the gateway's, an instance's, or both at once. What was signed once is never taken again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sdk import Channel
from client_sdk.errors import AuthFailed, Disconnected
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKeys, instance_key
from gateway.auth.instances import NONCE_LIFE_MS
from gateway.store.nonces import MAX_NONCES
from tests.support.deployment import Deployment, send
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import Answer
from tests.support.gateway_thread import GatewayThread
from tests.support.seed import Person, Seed

pytestmark = pytest.mark.storages("file")

VALIDATE = "/auth/validate"
MINUTE, HOUR = 60, 3_600
TOO_OLD_OR_NEW = "The signature is too old, from the future, or has ended."
FORGOTTEN = "The signature is of a time whose nonces are forgotten."
USED = "The nonce was used before."


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayThread]:
    with GatewayThread(tmp_path) as thread:
        yield thread


@pytest.fixture
def foreign(gateway: GatewayThread) -> Iterator[ForeignWriter]:
    with ForeignWriter(gateway.database) as writer:
        yield writer


@pytest.fixture
def ada(gateway: GatewayThread, foreign: ForeignWriter) -> Person:
    return Seed(foreign, gateway.secrets).person()


class Instance(Deployment):
    """One that signs by a clock of its own, `ahead_s` seconds ahead of what time it is."""

    def __init__(self, gateway: GatewayThread, foreign: ForeignWriter, ada: Person) -> None:
        super().__init__(gateway, foreign)
        self._gateway = gateway
        self._bearer = {"authorization": f"Bearer {ada.token}"}
        self.ahead_s = 0

    @property
    def now_s(self) -> int:
        """What time it is for this instance, in seconds since 1970 UTC."""
        gateway = self._gateway.clock
        return (gateway.now().wall - gateway.shift_ms) // 1000 + self.ahead_s

    def write(self) -> list[tuple[str, str]]:
        """A request that nobody has sent yet."""
        return list(self.signed("GET", VALIDATE, headers=self._bearer, created=self.now_s).items())

    def send(self, headers: list[tuple[str, str]]) -> Answer:
        return send(self.gateway, "GET", VALIDATE, b"", headers)

    def asks(self) -> str:
        """What comes of a new request: ``ok``, or why not."""
        return said(self.send(self.write()))

    def used(self) -> list[tuple[str, str]]:
        """A request that was answered."""
        headers = self.write()
        assert said(self.send(headers)) == "ok"
        return headers

    def remembered(self) -> int:
        return int(self.foreign.execute("SELECT count(*) FROM nonces WHERE kid = ?", self.key.kid)[0][0])


def said(answer: Answer) -> str:
    if answer.status == 200:
        return "ok"
    assert answer.status in (401, 429)
    return str(answer.json()["detail"])


@pytest.fixture
def shop(gateway: GatewayThread, foreign: ForeignWriter, ada: Person) -> Instance:
    return Instance(gateway, foreign, ada)


@pytest.fixture
def other(gateway: GatewayThread, foreign: ForeignWriter, ada: Person) -> Instance:
    return Instance(gateway, foreign, ada)


def time_passes(gateway: GatewayThread, seconds: int) -> None:
    """The gateway keeps house once a minute meanwhile."""
    for _ in range(seconds // MINUTE):
        gateway.clock.pass_by(MINUTE)
        gateway.keep_house()
    gateway.clock.pass_by(seconds % MINUTE)


# --- the gateway's clock ---


@pytest.mark.parametrize("jump_s", [HOUR, -HOUR, 10 * MINUTE, -10 * MINUTE, 95, -95])
def test_a_gateways_clock_that_jumps_and_is_put_right_opens_nothing(
    gateway: GatewayThread, shop: Instance, jump_s: int
) -> None:
    """Only the gateway's: nobody's requests are timely meanwhile, and nobody's nonces are forgotten."""
    used, written = shop.used(), shop.write()
    gateway.clock.shift_ms = jump_s * 1000
    for _ in range(4):
        assert said(shop.send(used)) == TOO_OLD_OR_NEW
        assert shop.asks() == TOO_OLD_OR_NEW
        gateway.keep_house()
    gateway.clock.shift_ms = 0
    assert said(shop.send(used)) == USED
    assert said(shop.send(written)) == "ok", "what was refused for its time was not used up"
    assert shop.asks() == "ok"


@pytest.mark.parametrize(("minutes", "after"), [(1, "ok"), (3, "ok"), (20, FORGOTTEN)])
def test_who_jumped_together_with_the_gateway_lets_nothing_be_taken_again(
    gateway: GatewayThread, shop: Instance, other: Instance, minutes: int, after: str
) -> None:
    """One machine, one wrong clock: the gateway's and one instance's agree for a while, and house is kept. For as long
    as the wrong time had gone on its key takes nothing of the right one, which a new key does."""
    used, others = shop.used(), other.used()
    gateway.clock.shift_ms = 10 * MINUTE * 1000
    shop.ahead_s = 10 * MINUTE
    for _ in range(minutes):
        assert shop.asks() == "ok"
        time_passes(gateway, MINUTE)
    assert other.remembered() == 1, "whose clock was right lost nothing"
    assert other.asks() == TOO_OLD_OR_NEW
    gateway.clock.shift_ms = 0
    shop.ahead_s = 0
    assert said(shop.send(used)) in (USED, FORGOTTEN, TOO_OLD_OR_NEW)
    assert said(other.send(others)) in (USED, TOO_OLD_OR_NEW)
    assert other.asks() == "ok"
    assert shop.asks() == after
    shop.key = shop.add_key()
    assert shop.asks() == "ok"


def test_a_clock_that_is_set_back_takes_nothing_of_then(gateway: GatewayThread, shop: Instance) -> None:
    """The nonces of then were forgotten when it was time, and it is known that they were."""
    used, written = shop.used(), shop.write()
    for _ in range(6):
        time_passes(gateway, MINUTE)
        assert shop.asks() == "ok"
    assert shop.remembered() < 7
    gateway.clock.shift_ms = -6 * MINUTE * 1000
    assert said(shop.send(used)) == FORGOTTEN
    assert said(shop.send(written)) == FORGOTTEN, "it may have been used"
    assert shop.asks() == TOO_OLD_OR_NEW
    shop.ahead_s = -6 * MINUTE
    assert shop.asks() == FORGOTTEN, "whose clock was set back too is told the same"
    gateway.clock.shift_ms = 0
    shop.ahead_s = 0
    assert shop.asks() == "ok"


# --- an instance's clock ---


SKEWS = {20: True, -20: True, 40: False, -40: True, 100: False, -100: False}


@pytest.mark.parametrize("off_s", SKEWS)
async def test_an_instances_clock_that_is_off(shop: Instance, ada: Person, off_s: int) -> None:
    """30 s ahead and 60 s behind are let in; who is further off is told by how much."""
    key = instance_key(shop.key.kid, shop.key.secret)

    def wall() -> float:
        return shop.now_s + off_s

    async with InstanceClient(f"http://{shop.gateway.address}", key, wall=wall) as client:
        if SKEWS[off_s]:
            assert (await client.validate(ada.token)).active
            return
        with pytest.raises(AuthFailed) as refused:
            await client.validate(ada.token)
    side = "ahead of" if off_s > 0 else "behind"
    found = str(refused.value)
    assert found.startswith(TOO_OLD_OR_NEW), found
    assert any(f"The clock here is {abs(off_s) + d} s {side} the gateway's." in found for d in (-2, -1, 0, 1, 2)), found


@pytest.mark.parametrize("off_s", SKEWS)
async def test_a_channel_of_an_instance_whose_clock_is_off(shop: Instance, off_s: int) -> None:
    keys = InstanceKeys(instance_key(shop.key.kid, shop.key.secret), wall=lambda: shop.now_s + off_s)
    channel = Channel(f"http://{shop.gateway.address}", keys, watch=["revocations"], open_timeout_s=2.0)
    if SKEWS[off_s]:
        async with channel:
            assert channel.principal == shop.doc
        return
    with pytest.raises(Disconnected, match=TOO_OLD_OR_NEW):
        await channel.open()


# --- a key that is full ---


def fill(shop: Instance, count: int) -> None:
    """So many nonces of the last minute, as if they had been used one by one."""
    end = shop.now_s * 1000 + NONCE_LIFE_MS
    shop.foreign.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO nonces SELECT ?, 'flood_of_nonces_' || i, ? - (i % 60000) FROM n",
        count,
        shop.key.kid,
        end,
    )


def test_a_key_that_is_full_has_room_again(gateway: GatewayThread, shop: Instance, other: Instance) -> None:
    """Not before its nonces may be forgotten, and soon after; nobody else feels it. Nothing of then is taken again."""
    full = "The key was used so often that no more nonces can be remembered for it."
    fill(shop, MAX_NONCES - 1)
    used = shop.used()
    answers = []
    for _ in range(6):
        answers.append(shop.asks())
        if answers[-1] == full:
            refused = shop.send(shop.write())
            assert (refused.status, refused.headers["retry-after"]) == (429, "10")
        assert other.asks() == "ok"
        time_passes(gateway, MINUTE)
    early = NONCE_LIFE_MS // 1000 // MINUTE
    assert answers[: early + 1] == [full] * (early + 1), answers
    assert answers[-1] == "ok", answers
    assert shop.remembered() < 10
    assert said(shop.send(used)) == TOO_OLD_OR_NEW
    gateway.clock.shift_ms = -6 * MINUTE * 1000
    assert said(shop.send(used)) == FORGOTTEN


def test_a_key_that_was_full_long_ago_has_room_a_minute_after_it_asks(gateway: GatewayThread, shop: Instance) -> None:
    """It says what time it is by asking, also by a request for which there is no room."""
    fill(shop, MAX_NONCES)
    time_passes(gateway, 10 * MINUTE)
    assert shop.remembered() == MAX_NONCES, "who is silent is not known to be late"
    assert shop.asks() != "ok"
    time_passes(gateway, MINUTE)
    assert shop.asks() == "ok"
    assert shop.remembered() == 1
