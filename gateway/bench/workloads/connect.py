"""How many authenticated sessions a second are opened, up to their document, against a bare server's accepts."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.bench.percentiles import Spread, median
from gateway.bench.result import Result, Target, quotient
from gateway.bench.rig import Rig

TARGETS = (Target("ratio", at_least=0.6),)


def connect(rig: Rig, *, rounds: int) -> Iterator[Result]:
    """Open all sessions and cut them, `rounds` times at the gateway and at the floor in turn; medians count."""
    rig.warm()
    meters = {target: rig.meter() for target in ("gateway", "floor")}
    rates: dict[str, list[float]] = {"gateway": [], "floor": []}
    times: list[int] = []
    for _ in range(rounds):
        for target, meter in meters.items():
            with meter.running():
                opened = rig.open(target)
            rates[target].append(rig.size.sessions / opened.seconds)
            times += opened.times if target == "gateway" else ()
            rig.drop(target)
    per_s = {target: round(median(values), 1) for target, values in rates.items()}
    count = rounds * rig.size.sessions
    used, floor_used = meters["gateway"].us_per("server", count), meters["floor"].us_per("floor", count)
    yield Result(
        workload="connect",
        parameters={**rig.size.parameters(), "rounds": rounds, "concurrency": rig.size.concurrency},
        values={
            "connects_per_s": per_s["gateway"],
            **Spread.of(times).named("connect"),
            "server_cpu_us_per_connect": used,
            "cpu_ratio": quotient(floor_used, used),
        },
        floor={
            "accepts_per_s": per_s["floor"],
            "cpu_us_per_accept": floor_used,
            "load_cpu_share": meters["floor"].shares()["load"],
        },
        ratio=round(per_s["gateway"] / per_s["floor"], 3),
        targets=TARGETS,
        cpu=meters["gateway"].shares(),
        faults=rig.fleet.collect().faults,
    )
