"""How many updates a second reach distinct users, against how many frames a second a bare server sends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.bench.broken import BenchBroken
from gateway.bench.join import Joined, join
from gateway.bench.result import Result, Target, quotient
from gateway.bench.rig import Meter, Rig
from gateway.bench.workloads.push import QUIET_S

TARGETS = (Target("ratio", at_least=0.4),)
WARM_S = 1.0


def push_max(rig: Rig, *, seconds: float, batch: int) -> Iterator[Result]:
    """Change all users again and again for `seconds`, `batch` of them a transaction, as far ahead of the clients as
    one more batch.
    """
    rig.warm()
    rig.open()
    _write(rig, WARM_S, batch, rig.meter(), "warming up")
    rig.writer.call("mark", user=0)
    payload = _repeated_frame(rig)
    meter, floor_meter = rig.meter(), rig.meter()
    joined, times, faults = _write(rig, seconds, batch, meter, "changes")
    rig.drop("gateway")
    floor_times = _stream(rig, payload, seconds, floor_meter)
    used, floor_used = meter.us_per("server", len(times)), floor_meter.us_per("floor", len(floor_times))
    per_s, floor_per_s = _per_second(times), _per_second(floor_times)
    yield Result(
        workload="push_max",
        parameters={**rig.size.parameters(), "seconds": seconds, "batch": batch, "frame_bytes": len(payload)},
        values={
            "updates_per_s": per_s,
            "delivered": len(times),
            "conflated": joined.conflated,
            "server_cpu_us_per_update": used,
            "cpu_ratio": quotient(floor_used, used),
        },
        floor={
            "sends_per_s": floor_per_s,
            "cpu_us_per_send": floor_used,
            "load_cpu_share": floor_meter.shares()["load"],
        },
        ratio=round(per_s / floor_per_s, 3),
        targets=TARGETS,
        cpu=meter.shares(),
        faults=faults,
    )


def _write(rig: Rig, seconds: float, batch: int, meter: Meter, title: str) -> tuple[Joined, Sequence[int], list[str]]:
    rig.fleet.clear()
    with rig.display.stage(title) as done, meter.running():
        answer = rig.writer.call(
            "batches",
            seconds=seconds,
            batch=batch,
            window=batch,
            sessions=rig.size.sessions,
            board=str(rig.board),
            within_s=seconds + 60,
            on_progress=done,
        )
    collected = rig.fleet.collect(QUIET_S)
    commits, _ = rig.commits(answer)
    joined = join(commits, collected.receipts)
    return joined, collected.receipts.times, joined.faults() + collected.faults


def _repeated_frame(rig: Rig) -> str:
    rig.fleet.await_one_each(range(1), 30)
    rig.fleet.collect(QUIET_S)
    return rig.fleet.last_update()


def _stream(rig: Rig, payload: str, seconds: float, meter: Meter) -> Sequence[int]:
    rig.open("floor")
    rig.fleet.clear()
    with rig.display.stage("frames of the floor"), meter.running():
        rig.floor.call("stream", payload=payload, seconds=seconds, within_s=seconds + 60)
    return rig.fleet.collect(QUIET_S).receipts.times


def _per_second(times: Sequence[int]) -> float:
    if len(times) < 2:
        raise BenchBroken("too few frames arrived to tell their rate")
    spent = (max(times) - min(times)) / 1e9
    return round((len(times) - 1) / spent, 1)
