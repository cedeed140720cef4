"""How long it takes until every session has its patch after one row of the plan changed, against a bare server's
broadcast.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.bench.percentiles import median
from gateway.bench.population import FIRST_LIMIT
from gateway.bench.result import Result, Target, quotient
from gateway.bench.rig import Meter, Rig

TARGETS = (Target("ratio", at_least=0.6),)
WITHIN_S = 60.0


def fanout(rig: Rig, *, rounds: int) -> Iterator[Result]:
    """Change the plan's limit `rounds` times, and broadcast the same frame from the floor in turn; medians count.

    The ratio is that of rates: the floor's time divided by the gateway's.
    """
    rig.warm()
    for target in ("gateway", "floor"):
        rig.open(target)
    meter, floor_meter = rig.meter(), rig.meter()
    _plan_changes(rig, FIRST_LIMIT + 1, rig.meter())
    payload = rig.fleet.last_update()
    _broadcast(rig, payload, rig.meter())
    times, floor_times = [], []
    for turn in rig.display.counted("rounds", rounds):
        times.append(_plan_changes(rig, FIRST_LIMIT + 2 + turn, meter))
        floor_times.append(_broadcast(rig, payload, floor_meter))
    taken, floor_taken = median(times), median(floor_times)
    count = rounds * rig.size.sessions
    used, floor_used = meter.us_per("server", count), floor_meter.us_per("floor", count)
    yield Result(
        workload="fanout",
        parameters={**rig.size.parameters(), "rounds": rounds, "frame_bytes": len(payload)},
        values={
            "commit_to_last_frame_ms": round(taken, 2),
            "worst_ms": round(max(times), 2),
            "frames_per_s": round(1e3 * rig.size.sessions / taken, 1),
            "server_cpu_us_per_frame": used,
            "cpu_ratio": quotient(floor_used, used),
        },
        floor={
            "start_to_last_frame_ms": round(floor_taken, 2),
            "worst_ms": round(max(floor_times), 2),
            "cpu_us_per_frame": floor_used,
            "load_cpu_share": floor_meter.shares()["load"],
        },
        ratio=round(floor_taken / taken, 3),
        targets=TARGETS,
        cpu=meter.shares(),
        faults=rig.fleet.collect().faults,
    )


def _plan_changes(rig: Rig, limit: int, meter: Meter) -> float:
    rig.settle()
    rig.fleet.clear()
    with meter.running():
        committed: int = rig.writer.call("limit", value=limit)["after"]
        last = rig.fleet.await_one_each(rig.all, WITHIN_S)
    return (last - committed) / 1e6


def _broadcast(rig: Rig, payload: str, meter: Meter) -> float:
    rig.settle("floor")
    rig.fleet.clear()
    with meter.running():
        started: int = rig.floor.call("broadcast", payload=payload)["started"]
        last = rig.fleet.await_one_each(rig.all, WITHIN_S)
    return (last - started) / 1e6
