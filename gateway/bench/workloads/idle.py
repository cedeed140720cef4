"""What a live session that does nothing costs: resident memory, and CPU time for all of them together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from gateway.bench import processes
from gateway.bench.processes import Memory
from gateway.bench.result import Result, Target, quotient
from gateway.bench.rig import Rig

MEMORY = Target("rss_kib_per_session", at_most=25)
WARM_SESSIONS = 10
"""Few: what they leave behind is used again by those that are measured."""
REST = Target("server_cpu_percent", at_most=2)
REST_SESSIONS = 5_000
"""CPU at rest has a target up to this many sessions."""


def idle(rig: Rig, *, steps: Sequence[int], seconds: float) -> Iterator[Result]:
    """Open sessions up to each of `steps` (ascending), let them rest for `seconds` each time; the floor's sessions
    rest beside them.
    """
    rig.warm(WARM_SESSIONS)
    targets = {"gateway": rig.server_pids, "floor": [rig.floor.pid]}
    before = {target: processes.memory(pids) for target, pids in targets.items()}
    opened = 0
    for step in steps:
        for target in targets:
            rig.open(target, range(opened, step))
        opened = step
        for target in targets:
            rig.settle(target)
        after = {target: processes.memory(pids) for target, pids in targets.items()}
        meter = rig.meter()
        with rig.display.stage("rest", seconds) as done, meter.running():
            _rest(seconds, done)
        values = {target: _per_session(before[target], after[target], step) for target in targets}
        shares = meter.shares()
        yield Result(
            workload="idle",
            parameters={**rig.size.parameters(), "sessions": step, "seconds": seconds},
            values={**values["gateway"], "server_cpu_percent": round(100 * shares["server"], 2)},
            floor={**values["floor"], "cpu_percent": round(100 * shares["floor"], 2)},
            ratio=quotient(values["gateway"]["rss_kib_per_session"], values["floor"]["rss_kib_per_session"]),
            targets=(MEMORY, REST) if step <= REST_SESSIONS else (MEMORY,),
            cpu=shares,
            faults=rig.fleet.collect().faults,
        )


def _per_session(before: Memory, after: Memory, sessions: int) -> dict[str, float]:
    grown = {
        name: round((new - old) / sessions, 2) for name, old, new in zip(Memory._fields, before, after, strict=True)
    }
    return {f"{name}_kib_per_session": value for name, value in grown.items()} | {"rss_mib": round(after.rss / 1024, 1)}


def _rest(seconds: float, done: processes.Progress) -> None:
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        done(passed)
        time.sleep(min(0.5, seconds - passed))
