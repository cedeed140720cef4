"""How long it takes until all sessions are back after all were cut at once, against the time a bare server needs to
accept them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.bench.broken import BenchBroken
from gateway.bench.percentiles import Spread, median
from gateway.bench.result import Result, Target
from gateway.bench.rig import Meter, Rig

TIME = Target("ratio", at_most=2)
READS = Target("database_reads_per_user", at_most=1)


def storm(rig: Rig, *, rounds: int, reads_metrics: Sequence[str]) -> Iterator[Result]:
    """Cut all sessions and bring them back with the revisions they held, `rounds` times; medians count.

    The floor accepts as many from nothing, sending the bytes that a session gets which comes back; its own way back
    after a cut is given too. `reads_metrics` are the gateway's counters of database reads; with several gateway
    processes they are not looked at, since only one of those answers.
    """
    rig.warm()
    floor_meter = rig.meter()
    accepted, floor_back = _floor_storms(rig, rounds, floor_meter)
    rig.open()
    meter = rig.meter()
    names = reads_metrics if rig.size.workers == 1 else ()
    back, times, reads = _storms(rig, rounds, names, meter)
    yield Result(
        workload="storm",
        parameters={**rig.size.parameters(), "rounds": rounds, "concurrency": rig.size.concurrency},
        values={
            "back_s": round(median(back), 3),
            "worst_s": round(max(back), 3),
            **Spread.of(times).named("reconnect"),
            **_reads_per_user(reads),
            "server_cpu_us_per_session": meter.us_per("server", rounds * rig.size.sessions),
        },
        floor={
            "accept_s": round(median(accepted), 3),
            "back_s": round(median(floor_back), 3),
            "cpu_us_per_session": floor_meter.us_per("floor", rounds * rig.size.sessions),
            "load_cpu_share": floor_meter.shares()["load"],
        },
        ratio=round(median(back) / median(accepted), 3),
        targets=(TIME, READS) if reads else (TIME,),
        cpu=meter.shares(),
        faults=rig.fleet.collect().faults,
    )


def _storms(
    rig: Rig, rounds: int, names: Sequence[str], meter: Meter
) -> tuple[list[float], list[int], dict[str, list[float]]]:
    """Seconds of each storm, nanoseconds of each session's way back, and each storm's reads per user by counter."""
    back: list[float] = []
    times: list[int] = []
    reads: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        rig.settle()
        before = _counters(rig, names)
        with meter.running():
            opened = rig.open(resume=True, after_cut=True)
        back.append(opened.seconds)
        times += opened.times
        for name, count in _counters(rig, names).items():
            reads[name].append((count - before[name]) / rig.size.sessions)
    return back, times, reads


def _floor_storms(rig: Rig, rounds: int, meter: Meter) -> tuple[list[float], list[float]]:
    """Seconds that the floor needs to accept all sessions, and to have them back after a cut."""
    rig.open()
    rig.drop("gateway")
    rig.floor.call("greet", frames=rig.fleet.probe("gateway", rig.ports("gateway"), 0, resume=True))
    rig.drop("gateway")
    accepted, back = [], []
    for _ in range(rounds):
        with meter.running():
            accepted.append(rig.open("floor").seconds)
        back.append(rig.open("floor", resume=True, after_cut=True).seconds)
        rig.drop("floor")
    return accepted, back


def _counters(rig: Rig, names: Sequence[str]) -> dict[str, float]:
    counts = {name: rig.metric(name) for name in names}
    if absent := [name for name, count in counts.items() if count is None]:
        raise BenchBroken(f"the gateway has no metric {', '.join(absent)}")
    return {name: count for name, count in counts.items() if count is not None}


def _reads_per_user(reads: dict[str, list[float]]) -> dict[str, float]:
    """The worst round of each counter, and of their sum."""
    if not reads:
        return {}
    each = {f"{name}_per_user": round(max(values), 3) for name, values in reads.items()}
    return {"database_reads_per_user": round(max(map(sum, zip(*reads.values(), strict=True))), 3), **each}
