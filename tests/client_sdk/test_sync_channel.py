from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from client_sdk import Change, Channel, Disconnected, Freshness, NotFound, Revoked, SyncChannel
from tests.client_sdk.support.driver import ADA, SELF
from tests.client_sdk.support.threaded_server import ThreadedServer

QUICK: dict[str, Any] = {"backoff_base_s": 0.02, "backoff_cap_s": 0.05, "close_timeout_s": 0.2}


@pytest.fixture
def threaded() -> Iterator[ThreadedServer]:
    with ThreadedServer() as running:
        yield running


@pytest.fixture
def channel(threaded: ThreadedServer) -> Iterator[SyncChannel]:
    with SyncChannel(threaded.server.url, "t1", **QUICK) as opened:
        yield opened


def facade_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "client_sdk.sync"]


def test_it_has_the_surface_of_the_channel() -> None:
    def surface(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}

    assert surface(SyncChannel) == surface(Channel)


def test_everything_can_be_read(channel: SyncChannel) -> None:
    assert channel.document == ADA
    assert channel.documents == {SELF: ADA}
    assert channel.can("can_use_voice")
    assert channel.permissions == {"can_use_voice", "can_use_sms"}
    assert channel.quotas["voice_minutes"].remaining == 483
    assert (channel.principal, channel.session_id, channel.seq, channel.mismatches) == (SELF, "s1", 10, 0)
    assert channel.freshness.state == "live"
    assert channel.trouble is None
    assert channel.expires_at is None


def test_iterating_blocks_until_something_changes(threaded: ThreadedServer, channel: SyncChannel) -> None:
    changes = iter(channel)
    assert next(changes).kind == "snapshot"
    threaded.call(threaded.server.change(SELF, {"identity": {"name": "Ada"}}, "profile"))
    assert next(changes).causes == ("profile",)


def test_closing_from_another_thread_ends_an_iteration_that_blocks(channel: SyncChannel) -> None:
    changes = iter(channel)
    next(changes)
    closing = threading.Thread(target=channel.close)
    closing.start()
    assert list(changes) == []
    closing.join()


def test_requests(threaded: ThreadedServer, channel: SyncChannel) -> None:
    threaded.server.documents["user:u_bob"] = {"identity": {"id": "u_bob"}}
    assert channel.watch(["user:u_bob"]).docs == ("user:u_bob",)
    channel.unwatch("user:u_bob")
    with pytest.raises(NotFound):
        channel.watch("user:u_nobody")
    assert channel.sync() == ADA
    assert channel.ping() > 0
    assert channel.wait_for(10) == 10
    with pytest.raises(TimeoutError):
        channel.wait_for(1000, timeout_s=0.01)


def test_callbacks_run_on_the_thread_and_can_not_block_it(threaded: ThreadedServer, channel: SyncChannel) -> None:
    calls: queue.Queue[tuple[str, object]] = queue.Queue()

    def callback(change: Change) -> None:
        try:
            channel.ping()
        except RuntimeError as exc:
            calls.put((threading.current_thread().name, exc))

    remove = channel.on_change(callback)
    threaded.call(threaded.server.change(SELF, {"identity": {"name": "Ada"}}, "profile"))
    name, error = calls.get(timeout=5)
    assert name == "client_sdk.sync"
    assert isinstance(error, RuntimeError)
    remove()
    assert channel.ping() > 0


def test_freshness_is_told(threaded: ThreadedServer, channel: SyncChannel) -> None:
    states: queue.Queue[Freshness] = queue.Queue()
    channel.on_freshness(states.put)
    peer = threaded.call(threaded.server.peer())
    threaded.call(peer.send({"op": "status", "store": "stale", "since": "", "age_s": 2.0}))
    assert states.get(timeout=5).state == "stale"


def test_it_reconnects_by_itself(threaded: ThreadedServer, channel: SyncChannel) -> None:
    states: queue.Queue[str] = queue.Queue()
    channel.on_freshness(lambda freshness: states.put(freshness.state))
    threaded.cut()
    assert [states.get(timeout=5) for _ in range(3)] == ["offline", "stale", "live"]


def test_what_ends_it_for_good_is_raised(threaded: ThreadedServer, channel: SyncChannel) -> None:
    changes = iter(channel)
    next(changes)
    peer = threaded.call(threaded.server.peer())
    threaded.call(peer.end("revoked", "never", 4500))
    assert next(changes).kind == "gone"
    with pytest.raises(Revoked):
        next(changes)


def test_a_closed_channel_says_so_and_leaves_no_thread(threaded: ThreadedServer) -> None:
    channel = SyncChannel(threaded.server.url, "t1", **QUICK)
    with pytest.raises(Disconnected):
        channel.ping()
    with channel:
        assert len(facade_threads()) == 1
    channel.close()
    assert facade_threads() == []
    assert channel.document == ADA
    with pytest.raises(Disconnected):
        channel.ping()
    with pytest.raises(Disconnected):
        list(channel)


def test_an_opening_that_fails_leaves_no_thread() -> None:
    channel = SyncChannel("ws://127.0.0.1:1", "t1", open_timeout_s=0.05, **QUICK)
    with pytest.raises(Disconnected):
        channel.open()
    assert facade_threads() == []


def test_a_provider_that_blocks_may_close_the_channel(threaded: ThreadedServer) -> None:
    after: list[str] = []

    def provide() -> str:
        blocked.close()
        after.append("closed")
        return "t1"

    blocked = SyncChannel(threaded.server.url, provide, **QUICK)
    with pytest.raises(Disconnected) as caught:
        blocked.open()
    assert (caught.value.code, after) == ("closed", ["closed"])
    assert facade_threads() == []


def test_tasks_of_callbacks_do_not_outlive_the_channel(threaded: ThreadedServer) -> None:
    tasks: queue.Queue[asyncio.Task[bool]] = queue.Queue()
    with SyncChannel(threaded.server.url, "t1", **QUICK) as channel:
        channel.on_change(lambda change: tasks.put(asyncio.ensure_future(asyncio.Event().wait())))
        threaded.call(threaded.server.change(SELF, {"identity": {"name": "Ada"}}, "profile"))
        task = tasks.get(timeout=5)
    assert task.cancelled()


def test_closing_while_many_threads_ask_leaves_nobody_waiting(threaded: ThreadedServer) -> None:
    for _ in range(5):
        channel = SyncChannel(threaded.server.url, "t1", **QUICK)
        channel.open()
        codes: queue.Queue[str] = queue.Queue()

        def ask(channel: SyncChannel = channel, codes: queue.Queue[str] = codes) -> None:
            try:
                while True:
                    channel.ping()
            except Disconnected as exc:
                codes.put(exc.code)

        def read(channel: SyncChannel = channel, codes: queue.Queue[str] = codes) -> None:
            try:
                list(channel)
                codes.put("ended")
            except Disconnected as exc:
                codes.put(exc.code)

        threads = [threading.Thread(target=target) for target in (ask, ask, read, read)]
        for thread in threads:
            thread.start()
        channel.ping()
        channel.close()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert {codes.get(timeout=5) for _ in threads} <= {"closed", "ended"}


def test_many_threads_may_ask_at_once(channel: SyncChannel) -> None:
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(5):
                channel.ping()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
