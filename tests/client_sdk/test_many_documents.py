"""A channel that watches many documents: what comes costs the same, however many there are."""

from __future__ import annotations

import time

from client_sdk.replica import Replica
from client_sdk.wire import Current, Snapshot


def resumed(count: int) -> float:
    """Seconds of the processor until so many documents are known to be what they were before the connection broke."""
    replica = Replica(verify=False)
    docs = [f"user:u_{number}" for number in range(count)]
    for doc in docs:
        replica.expect(doc)
        replica.snapshot(Snapshot(doc, "0" * 16, 1, {}))
    assert replica.amiss() is None
    replica.disconnect(1.0)
    started = time.process_time()
    for doc in docs:
        assert replica.amiss() == "document"
        replica.current(Current(doc, "0" * 16, 1))
    assert replica.amiss() is None
    return time.process_time() - started


def test_what_is_amiss_is_known_without_looking_at_all_of_them() -> None:
    """Eight times as many take about eight times as long; to look at all that are to come would take 64 times."""
    few = min(resumed(1_000) for _ in range(5))
    many = min(resumed(8_000) for _ in range(3))
    assert many < 24 * few


def test_a_document_that_is_not_what_its_revision_says_is_told_apart() -> None:
    replica = Replica()
    for doc in ("user:u_1", "user:u_2"):
        replica.expect(doc)
    replica.snapshot(Snapshot("user:u_1", "44136fa355b3678a", 1, {}))
    assert replica.amiss() == "document"
    assert replica.snapshot(Snapshot("user:u_2", "0" * 16, 1, {})).sync
    replica.suspect("user:u_2")
    assert replica.amiss() == "document"
    replica.expect_answer("user:u_2")
    replica.snapshot(Snapshot("user:u_2", "0" * 16, 1, {}))
    assert replica.amiss() == "unverified"
    replica.mark_stale("user:u_2", is_stale=True)
    assert replica.amiss() == "document"
    replica.mark_stale("user:u_2", is_stale=False)
    assert replica.amiss() == "unverified"
    replica.forget("user:u_2")
    assert replica.amiss() is None
