"""What is held is changed by one thread and read by others."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from client_sdk.events import NOTHING, Change
from client_sdk.listeners import Changes, Listeners
from client_sdk.replica import Replica

READS = 2000


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def names(replica: Replica) -> int:
    return sum(len(doc) for doc in replica)


@pytest.mark.parametrize("read", [Replica.documents, Replica.changes, names])
def test_what_is_held_can_be_read_while_it_changes(read: Callable[[Replica], object]) -> None:
    replica = Replica(verify=False)
    for number in range(300):
        replica.expect(f"user:u_{number}")
    over = threading.Event()

    def watch_and_unwatch() -> None:
        while not over.is_set():
            for number in range(300, 310):
                replica.expect(f"user:u_{number}")
            for number in range(300, 310):
                replica.forget(f"user:u_{number}")

    changing = threading.Thread(target=watch_and_unwatch)
    changing.start()
    try:
        for _ in range(READS):
            read(replica)
    finally:
        over.set()
        changing.join()


def test_iterations_may_be_dropped_by_any_thread_and_are_forgotten() -> None:
    listeners = Listeners()
    dropped: list[Changes] = [listeners.read([]) for _ in range(2000)]
    refs = [weakref.ref(reader) for reader in dropped]
    dropping = threading.Thread(target=lambda: [dropped.pop() for _ in refs])
    dropping.start()
    while dropping.is_alive():
        listeners.changed(Change("user:u_1", "update", NOTHING, NOTHING, "r", 1, ()))
    dropping.join()
    assert [ref for ref in refs if ref() is not None] == []
