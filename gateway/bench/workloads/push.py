"""How long a committed change takes to reach the client: single-row commits of a foreign process, evenly spaced."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from gateway.bench.join import Joined, join
from gateway.bench.percentiles import Spread
from gateway.bench.result import Result, Target
from gateway.bench.rig import Meter, Rig

TARGETS = (Target("commit_to_frame_p50_ms", at_most=2), Target("commit_to_frame_p99_ms", at_most=8))
ON_A_SERVER = (Target("commit_to_frame_p50_ms", at_most=6), Target("commit_to_frame_p99_ms", at_most=30))
"""A server's commit returns by network, often after the frame came: then the time is negative. Look at
`start_to_frame` too, which holds the commit itself.
"""
WARM_S = 1.0
QUIET_S = 0.5
"""No update for so long means that all have come, in seconds."""


def shuffled(users: Sequence[int], count: int, seed: int = 1) -> list[int]:
    """`count` users in random order, each as often as the others (give or take one)."""
    draw = random.Random(seed)
    order: list[int] = []
    while len(order) < count:
        order += draw.sample(users, len(users))
    return order[:count]


def paced(
    rig: Rig, users: Sequence[int], rate: float, meter: Meter, title: str = "changes"
) -> tuple[Joined, dict[str, float], list[str]]:
    """Change `users` in order, `rate` a second; the join, the writer's own figures, and faults."""
    rig.fleet.clear()
    with rig.display.stage(title, len(users)) as done, meter.running():
        answer = rig.writer.call(
            "pace",
            rate=rate,
            users=users,
            revoked=[],
            pad=[],
            pad_bytes=0,
            within_s=2 * len(users) / rate + 60,
            on_progress=done,
        )
    collected = rig.fleet.collect(QUIET_S)
    commits, _ = rig.commits(answer)
    joined = join(commits, collected.receipts)
    transactions = answer.get("transactions", len(users))
    figures = {
        "changes": len(users),
        "changes_per_commit": round(len(users) / transactions, 2),
        "writer_late_ms": round(answer["late_ms"], 2),
    }
    return joined, figures, joined.faults() + collected.faults


def push(rig: Rig, *, rate: float, seconds: float) -> Iterator[Result]:
    """Commit `rate` changes a second for `seconds`, each of a random user, and time each one's frame."""
    rig.open()
    rig.settle()
    paced(rig, shuffled(rig.all, int(rate * WARM_S), seed=0), rate, rig.meter(), "warming up")
    meter = rig.meter()
    joined, figures, faults = paced(rig, shuffled(rig.all, int(rate * seconds)), rate, meter)
    yield Result(
        workload="push",
        parameters={**rig.size.parameters(), "rate": rate, "seconds": seconds},
        values={
            **Spread.of(joined.from_commit).named("commit_to_frame"),
            **Spread.of(joined.from_start).named("start_to_frame"),
            "conflated": joined.conflated,
            "server_cpu_us_per_change": meter.us_per("server", len(joined.from_commit)),
            **figures,
        },
        targets=ON_A_SERVER if rig.place.url else TARGETS,
        cpu=meter.shares(),
        faults=faults,
    )
