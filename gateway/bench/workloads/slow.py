"""What clients that never read do to the others, and to the gateway's memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.bench import processes
from gateway.bench.join import join
from gateway.bench.percentiles import Spread
from gateway.bench.result import Result, Target
from gateway.bench.rig import Rig
from gateway.bench.workloads.push import QUIET_S, WARM_S, shuffled

TARGETS = (Target("rss_growth_percent", at_most=3), Target("p99_change_ms", at_most=1))
PAD_BYTES = 1024
SAMPLE_S = 0.5


class Phase(NamedTuple):
    """One stretch of changes: latencies of those who read, resident memory of the gateway in KiB by second, CPU
    shares, faults.
    """

    spread: Spread
    rss: list[tuple[float, int]]
    cpu: dict[str, float]
    faults: list[str]


def slow(rig: Rig, *, rate: float, seconds: float, share: float) -> Iterator[Result]:
    """Commit `rate` changes a second for `seconds`, half of them to a `share` of the users; then again while those do
    not read.
    """
    count = max(1, int(share * rig.size.sessions))
    slow_users, others = list(range(count)), list(range(count, rig.size.sessions))
    rig.open()
    rig.settle()
    _phase(rig, slow_users, others, rate, WARM_S, "warming up")
    everybody = _phase(rig, slow_users, others, rate, seconds, "everybody reads")
    rig.fleet.cut("gateway", slow_users)
    rig.open("gateway", slow_users, mute=True)
    rig.settle()
    muted = _phase(rig, slow_users, others, rate, seconds, f"{count} do not read")
    settled, worst = everybody.rss[-1][1], max(rss for _, rss in muted.rss)
    gone = sum(1 for end in rig.fleet.ends(slow_users) if end.closed_at)
    yield Result(
        workload="slow",
        parameters={**rig.size.parameters(), "rate": rate, "seconds": seconds, "slow": count},
        values={
            **everybody.spread.named("everybody"),
            **muted.spread.named("others"),
            "p99_change_ms": round(muted.spread.p99 - everybody.spread.p99, 3),
            "rss_growth_percent": round(100 * (worst - settled) / settled, 2),
            "rss_growth_kib_per_slow": round((worst - settled) / count, 1),
            "rss_mib": round(worst / 1024, 1),
            "slow_cut_off": gone,
            "rss_kib_by_second": muted.rss,
        },
        targets=TARGETS,
        cpu=muted.cpu,
        faults=everybody.faults + muted.faults,
    )


def _phase(
    rig: Rig, slow_users: Sequence[int], others: Sequence[int], rate: float, seconds: float, title: str
) -> Phase:
    """Every other change is one of the slow users', with `PAD_BYTES` of new text, so that nothing but reading empties
    their sockets.
    """
    half = max(1, int(rate * seconds) // 2)
    users = [user for pair in zip(shuffled(slow_users, half), shuffled(others, half), strict=True) for user in pair]
    rig.fleet.clear()
    meter = rig.meter()
    rss: list[tuple[float, int]] = []
    started = time.monotonic()

    def sample() -> None:
        passed = time.monotonic() - started
        if not rss or passed >= rss[-1][0] + SAMPLE_S:
            rss.append((round(passed, 1), processes.rss_kib(rig.server_pids)))

    with rig.display.stage(title, len(users)) as done, meter.running():
        answer = rig.writer.call(
            "pace",
            rate=rate,
            users=users,
            revoked=[],
            pad=list(slow_users),
            pad_bytes=PAD_BYTES,
            within_s=2 * seconds + 60,
            on_progress=done,
            on_tick=sample,
        )
    collected = rig.fleet.collect(QUIET_S)
    joined = join(rig.commits(answer)[0], collected.receipts, ignored=frozenset(slow_users))
    return Phase(Spread.of(joined.from_commit), rss, meter.shares(), joined.faults() + collected.faults)
