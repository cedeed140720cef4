"""How many units a second are taken from quotas, durably and with an answer, and how long an answer takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.bench.broken import BenchBroken
from gateway.bench.columns import read_columns
from gateway.bench.fleet import Dashboard, Taken
from gateway.bench.percentiles import Spread
from gateway.bench.result import Result, Target, quotient
from gateway.bench.rig import Meter, Rig

TARGETS = (Target("consumes_per_s", at_least=15_000), Target("paced_p99_ms", at_most=30))
STORE_TARGETS = (Target("store_consumes_per_s", at_least=60_000),)
"""Of a database in a file alone: a server's store is the server."""
SETTINGS = {"GATEWAY_CHANNEL_MESSAGES_PER_MINUTE": "10000000"}
LIMIT = 2**50
"""Nobody is refused: what is measured is taking."""
WARM_S = 1.0
DASHBOARD_OUTSTANDING = 256


def consume(rig: Rig, *, seconds: float, rate: float) -> Iterator[Result]:
    """All sessions take units: each the next one when it has the last, for `seconds`, then `rate` a second together for
    as long; then one balance moves as fast as it can while somebody watches it; and the store without sockets.
    """
    store = {} if rig.place.url else _store(rig, seconds)
    rig.warm()
    rig.writer.call("limit", value=LIMIT)
    rig.open()
    rig.fleet.take("gateway", WARM_S)
    total = rig.meter()
    closed, meter = _take(rig, "as fast as answers come", seconds, total=total)
    paced, paced_meter = _take(rig, "at a steady rate", seconds, rate, total=total)
    with rig.display.stage("one balance, watched"), total.running():
        watched = rig.fleet.dashboard(rig.ports("gateway"), 0, seconds / 2, DASHBOARD_OUTSTANDING)
    faults = rig.fleet.collect().faults + watched.faults
    rig.drop("gateway")
    floor = _floor(rig, seconds, closed.reply)
    per_s, used = _per_second(closed), meter.us_per("server", len(closed.due))
    yield Result(
        workload="consume",
        parameters={**rig.size.parameters(), "seconds": seconds, "rate": rate, "frame_bytes": len(closed.reply)},
        values={
            "consumes_per_s": per_s,
            **Spread.of(closed.times()).named("closed"),
            "server_cpu_us_per_consume": used,
            "cpu_ratio": quotient(floor["cpu_us_per_answer"], used),
            "paced_per_s": _per_second(paced),
            **Spread.of(paced.times()).named("paced"),
            "paced_server_cores": paced_meter.shares()["server"],
            **_watched(watched),
            **store,
        },
        floor=floor,
        ratio=round(per_s / floor["answers_per_s"], 3),
        targets=TARGETS if rig.place.url else TARGETS + STORE_TARGETS,
        cpu=total.shares(),
        faults=faults,
    )


def _store(rig: Rig, seconds: float) -> dict[str, Any]:
    directory = rig.directory / "store"
    directory.mkdir()
    alone = rig.child("gateway.bench.store_orders", str(directory))
    with rig.display.stage("the store alone"):
        answer = alone.call("spend", seconds=seconds, clients=rig.size.sessions, within_s=seconds + 60)
    alone.close()
    if answer["refused"]:
        raise BenchBroken(f"the store refused {answer['refused']} orders")
    [times] = read_columns(Path(answer["times"]), 1)
    return {
        "store_consumes_per_s": round(answer["per_s"], 1),
        "store_cpu_us_per_consume": round(answer["cpu_us"], 1),
        **Spread.of(times).named("store"),
    }


def _take(rig: Rig, title: str, seconds: float, rate: float = 0.0, *, total: Meter) -> tuple[Taken, Meter]:
    rig.settle()
    rig.fleet.clear()
    meter = rig.meter()
    with rig.display.stage(title), total.running(), meter.running():
        taken = rig.fleet.take("gateway", seconds, rate)
    return taken, meter


def _floor(rig: Rig, seconds: float, reply: str) -> dict[str, Any]:
    rig.floor.call("answer", frame=reply)
    rig.open("floor")
    rig.fleet.take("floor", WARM_S)
    meter = rig.meter()
    with rig.display.stage("answers of the floor"), meter.running():
        taken = rig.fleet.take("floor", seconds)
    rig.fleet.collect()
    return {
        "answers_per_s": _per_second(taken),
        "cpu_us_per_answer": meter.us_per("floor", len(taken.due)),
        **Spread.of(taken.times()).named("closed"),
        "load_cpu_share": meter.shares()["load"],
    }


def _watched(watched: Dashboard) -> dict[str, Any]:
    return {
        "watched_consumes_per_s": round(watched.taken / watched.seconds, 1),
        "watched_frames_per_s": round(watched.frames / watched.seconds, 1),
        "watched_settled_ms": round(watched.settled_ms, 1),
    }


def _per_second(taken: Taken) -> float:
    """Answers a second, from the first request to the last answer."""
    if len(taken.due) < 2:
        raise BenchBroken("too few requests were answered to tell their rate")
    return round(len(taken.due) / ((max(taken.answered) - min(taken.due)) / 1e9), 1)
