from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from client_sdk import (
    Disconnected,
    Lease,
    LeaseExpired,
    Meter,
    MeterStopped,
    QuotaExceeded,
    Revoked,
    SyncChannel,
    SyncLease,
    SyncMeter,
)
from tests.client_sdk.support.driver import SELF
from tests.client_sdk.support.threaded_server import ThreadedServer

QUICK: dict[str, Any] = {"backoff_base_s": 0.02, "backoff_cap_s": 0.05, "close_timeout_s": 0.2}
VOICE = "voice_minutes"


@pytest.fixture
def threaded() -> Iterator[ThreadedServer]:
    with ThreadedServer() as running:
        yield running


@pytest.fixture
def channel(threaded: ThreadedServer) -> Iterator[SyncChannel]:
    with SyncChannel(threaded.server.url, "t1", **QUICK) as opened:
        yield opened


def parameters(function: Any) -> dict[str, Any]:
    found = inspect.signature(function).parameters.values()
    return {one.name: (one.kind, one.default) for one in found if one.name not in ("self", "channel")}


def surface(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_what_blocks_has_the_names_and_the_defaults_of_what_does_not() -> None:
    from client_sdk import Channel

    assert parameters(SyncChannel.consume) == parameters(Channel.consume)
    assert parameters(SyncChannel.lease) == parameters(Channel.lease)
    assert parameters(SyncMeter) == parameters(Meter)
    lease = Lease(None, "q", 1, ttl_s=60.0, name=None, org=None, timeout_s=1.0)  # type: ignore[arg-type]
    assert surface(SyncLease) == surface(Lease) | {name for name in vars(lease) if not name.startswith("_")}
    assert surface(SyncMeter) - {"key", "wait"} == surface(Meter)


def test_consuming(threaded: ThreadedServer, channel: SyncChannel) -> None:
    assert channel.consume(VOICE, 4, key="k").remaining == 6
    threaded.cut()
    assert channel.consume(VOICE, 4, key="k").remaining == 6
    with pytest.raises(QuotaExceeded):
        channel.consume(VOICE, 7)
    with pytest.raises(ValueError, match="amount"):
        channel.consume(VOICE, 0)


def test_a_lease(threaded: ThreadedServer, channel: SyncChannel) -> None:
    with channel.lease(VOICE, 2, name="call", org="o_acme") as lease:
        lease.use(2)
        lease.add(3)
        lease.use()
        assert (lease.name, lease.quota, lease.org, lease.held, lease.used, lease.left) == (
            *("call", VOICE, "o_acme"),
            *(5, 3, 2),
        )
        assert lease.expires_at is not None
        with pytest.raises(QuotaExceeded):
            lease.use(3)
    assert lease.balance.used == threaded.server.bank.used(VOICE) == 3
    assert lease.settle().used == 3


def test_a_lease_of_a_body_that_fails(threaded: ThreadedServer, channel: SyncChannel) -> None:
    with pytest.raises(ZeroDivisionError) as failed, channel.lease(VOICE, 2) as lease:  # noqa: PT012
        lease.use()
        threaded.server.bank.leases[lease.name].state = "expired"
        _ = 1 / 0
    assert "not settled" in failed.value.__notes__[0]
    with pytest.raises(LeaseExpired), channel.lease(VOICE, 2) as lease:  # noqa: PT012
        lease.use()
        threaded.server.bank.leases[lease.name].state = "expired"


def test_a_lease_of_a_channel_that_is_closed_meanwhile(channel: SyncChannel) -> None:
    with pytest.raises(Disconnected), channel.lease(VOICE, 2):
        channel.close()
    with pytest.raises(Disconnected), channel.lease(VOICE, 2):
        raise AssertionError("entered")


def test_a_meter(threaded: ThreadedServer, channel: SyncChannel) -> None:
    with SyncMeter(channel, VOICE, permission="can_use_voice") as meter:
        assert not meter.wait(0.01)
        assert (meter.units, meter.stopped) == (1, None)
        assert meter.balance is not None
        assert meter.balance.used == 1
    assert meter.wait()
    assert list(threaded.server.bank.charges) == [f"{meter.key}.0"]


def test_a_meter_that_stops(threaded: ThreadedServer, channel: SyncChannel) -> None:
    with pytest.raises(MeterStopped) as stopped, SyncMeter(channel, VOICE, permission="can_use_voice") as meter:  # noqa: PT012
        threaded.call(threaded.server.change(SELF, {"permissions": {"can_use_voice": None}}, "permissions"))
        assert meter.wait(5)
    assert stopped.value is meter.stopped
    assert stopped.value.reason == "forbidden"


def test_a_meter_that_does_not_begin(threaded: ThreadedServer, channel: SyncChannel) -> None:
    threaded.server.bank.limits[VOICE] = 0
    with pytest.raises(MeterStopped) as stopped, SyncMeter(channel, VOICE):
        raise AssertionError("entered")
    assert stopped.value.reason == "exhausted"


def test_an_error_of_the_body_goes_before_a_stop(threaded: ThreadedServer, channel: SyncChannel) -> None:
    with pytest.raises(ZeroDivisionError), SyncMeter(channel, VOICE) as meter:  # noqa: PT012
        threaded.call(threaded.call(threaded.server.peer()).end("revoked", "never", 4500))
        assert meter.wait(5)
        _ = 1 / 0
    assert meter.stopped is not None
    assert isinstance(meter.stopped.__cause__, Revoked)


def test_a_meter_of_a_channel_that_is_closed_meanwhile(channel: SyncChannel) -> None:
    with pytest.raises(MeterStopped) as stopped, SyncMeter(channel, VOICE) as meter:  # noqa: PT012
        channel.close()
        assert meter.wait(5)
    assert stopped.value.reason == "stopped"


def test_warnings_come_on_the_thread_of_the_channel(threaded: ThreadedServer, channel: SyncChannel) -> None:
    threads: list[str] = []
    threaded.server.bank.limits[VOICE] = 1
    with SyncMeter(channel, VOICE, on_low=lambda _: threads.append(threading.current_thread().name)):
        assert threads == ["client_sdk.sync"]
