"""How long it takes until all sessions are back after all were cut at once, against the time a bare server needs to
accept them.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.bench.percentiles import Spread, median
from gateway.bench.result import Result, Target
from gateway.bench.rig import Rig

TIME = Target("ratio", at_most=2)
READS = Target("database_reads_per_user", at_most=1)


def storm(rig: Rig, *, rounds: int, reads_metric: str | None) -> Iterator[Result]:
    """Cut all sessions and bring them back with the revisions they held, `rounds` times; medians count.

    The floor accepts as many from nothing, sending the bytes that a session gets which comes back; its own way back
    after a cut is given too. `reads_metric` names the gateway's counter of database reads.
    """
    rig.warm()
    rig.open()
    rig.drop("gateway")
    rig.floor.call("greet", frames=rig.fleet.probe("gateway", rig.server.port, 0, resume=True))
    rig.fleet.cut("gateway")
    accepted, floor_back = [], []
    for _ in range(rounds):
        accepted.append(rig.open("floor").seconds)
        floor_back.append(rig.open("floor", resume=True, after_cut=True).seconds)
        rig.drop("floor")
    rig.open()
    meter = rig.meter()
    back: list[float] = []
    times: list[int] = []
    reads: list[float] = []
    for _ in range(rounds):
        rig.settle()
        before = rig.server.metric(reads_metric) if reads_metric else None
        with meter.running():
            opened = rig.open(resume=True, after_cut=True)
        back.append(opened.seconds)
        times += opened.times
        after = rig.server.metric(reads_metric) if reads_metric else None
        if before is not None and after is not None:
            reads.append((after - before) / rig.size.sessions)
    yield Result(
        workload="storm",
        parameters={**rig.size.parameters(), "rounds": rounds, "concurrency": rig.size.concurrency},
        values={
            "back_s": round(median(back), 3),
            "worst_s": round(max(back), 3),
            **Spread.of(times).named("reconnect"),
            "database_reads_per_user": round(max(reads), 3) if reads else None,
            "server_cpu_us_per_session": meter.us_per("server", rounds * rig.size.sessions),
        },
        floor={"accept_s": round(median(accepted), 3), "back_s": round(median(floor_back), 3)},
        ratio=round(median(back) / median(accepted), 3),
        targets=(TIME, READS) if reads_metric else (TIME,),
        cpu=meter.shares(),
        faults=rig.fleet.collect().faults,
    )
