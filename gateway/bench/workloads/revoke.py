"""How long a revoked session lives on: from the commit that revokes its token to the closed socket, while changes are
pushed.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.bench.fleet import End
from gateway.bench.join import Commits, join
from gateway.bench.percentiles import Spread
from gateway.bench.result import Result, Target
from gateway.bench.rig import Rig
from gateway.bench.workloads.push import QUIET_S, shuffled

CLOSED = Target("commit_to_closed_p99_ms", at_most=10)
CLOSED_ON_ALL_NODES = Target("commit_to_closed_p99_ms", at_most=100)
MUTE = Target("mute_commit_to_closed_max_ms", at_most=1_250)
"""A client that does not read is cut off after 1 s all the same; a quarter of a second more is measuring and
scheduling.
"""
MUTE_SHARE = 0.1
PAD_BYTES = 1024


def revoke(rig: Rig, *, rate: float, seconds: float, revocations: int) -> Iterator[Result]:
    """Push `rate` changes a second for `seconds` and revoke tokens meanwhile, one at a time; every tenth client of
    those does not read.
    """
    revoked = list(range(0, rig.size.sessions, max(1, rig.size.sessions // revocations)))[:revocations]
    mute = revoked[:: round(1 / MUTE_SHARE)]
    rig.open("gateway", [index for index in rig.all if index not in set(mute)])
    rig.open("gateway", mute, mute=True)
    rig.settle()
    rig.fleet.clear()
    meter = rig.meter()
    users = shuffled(rig.all, int(rate * seconds))
    with rig.display.stage("changes and revocations", len(users)) as done, meter.running():
        answer = rig.writer.call(
            "pace",
            rate=rate,
            users=users,
            revoked=revoked,
            pad=mute,
            pad_bytes=PAD_BYTES,
            within_s=2 * seconds + 60,
            on_progress=done,
        )
    collected = rig.fleet.collect(QUIET_S)
    rig.settle()
    changes, revocation_commits = rig.commits(answer)
    joined = join(changes, collected.receipts, ignored=frozenset(revoked))
    ends = {end.session: end for end in rig.fleet.ends(revoked)}
    values, faults = _latencies(revocation_commits, ends, frozenset(mute))
    yield Result(
        workload="revoke",
        parameters={**rig.size.parameters(), "rate": rate, "seconds": seconds, "revocations": len(revoked)},
        values={**values, **Spread.of(joined.from_commit).named("commit_to_frame")},
        targets=(CLOSED_ON_ALL_NODES if rig.place.url else CLOSED, MUTE),
        cpu=meter.shares(),
        faults=faults + joined.faults() + collected.faults,
    )


def _latencies(
    commits: Commits, ends: dict[int, End], mute: frozenset[int]
) -> tuple[dict[str, float | None], list[str]]:
    ended, closed, mute_closed, survivors, early = [], [], [], 0, 0
    for user, committed in zip(commits.users, commits.after, strict=True):
        end = ends[user]
        if not end.closed_at:
            survivors += 1
        elif user in mute:
            # One that was cut off before (nothing read for too long) says nothing about revocation.
            early += end.closed_at < committed
            mute_closed += [end.closed_at - committed] if end.closed_at >= committed else []
        else:
            ended += [end.ended_at - committed] if end.ended_at else []
            closed.append(end.closed_at - committed)
    faults = [f"{survivors} revoked sessions live on"] if survivors else []
    values: dict[str, float | None] = {"mute_gone_before": early}
    for name, times in (
        ("commit_to_ended", ended),
        ("commit_to_closed", closed),
        ("mute_commit_to_closed", mute_closed),
    ):
        if times:
            values |= Spread.of(times).named(name)
    return values, faults
