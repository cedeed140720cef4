"""What logins and renewals do to the time a change takes to reach the client: changes alone, in a storm of logins, and
while every session is renewed.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gateway.auth.passwords import hash_now
from gateway.bench.child import Child
from gateway.bench.columns import read_columns
from gateway.bench.fleet import Collected, End, Renewed
from gateway.bench.join import Commits, join
from gateway.bench.percentiles import Spread
from gateway.bench.result import Result, Target
from gateway.bench.rig import Meter, Rig
from gateway.bench.workloads.push import ON_A_SERVER, QUIET_S, TARGETS, WARM_S, shuffled
from gateway.config import AuthConfig

PHASES = ("alone", "during_logins", "during_renewal")
ALONE_S = 20.0
"""The yardstick lasts no longer than this, in seconds."""
STRETCH_S = 1.0
"""The writer gets changes for so long at a time while logins go on, whose end is not known before."""
LOGINS_S = 60.0
RENEWALS_S = 60.0
"""How long renewals may go on after the last change, in seconds."""


class Phase(NamedTuple):
    """What was written and received in one of `PHASES`, and the CPU time of all processes meanwhile."""

    name: str
    commits: Commits
    collected: Collected
    late_ms: float
    meter: Meter


class LoggedIn(NamedTuple):
    """A storm of logins: monotonic ns of its beginning and its end, each one's time in ns, refusals, and faults."""

    started: int
    finished: int
    times: list[int]
    refused: int
    faults: list[str]


def renew(rig: Rig, *, rate: float, seconds: float, logins: int, connections: int) -> Iterator[Result]:
    """Push `rate` changes a second: alone, then while `logins` users log in on so many connections, then for `seconds`
    while every session is renewed once.
    """
    bench = _Bench(rig, rate)
    bench.open()
    alone = bench.alone(min(seconds, ALONE_S))
    storm, logged_in = bench.during_logins(logins, connections)
    renewal, renewed = bench.during_renewal(seconds)
    values: dict[str, Any] = {}
    faults = [*logged_in.faults]
    for phase in (alone, storm, renewal):
        counted = phase.commits.between(logged_in.started, logged_in.finished) if phase is storm else phase.commits
        values |= _latencies(phase, counted)
        faults += [f"{phase.name}: {fault}" for fault in _faults(phase)]
    values |= _login_figures(logged_in) | _renewal_figures(renewed)
    yield Result(
        workload="renew",
        parameters={
            **rig.size.parameters(),
            "rate": rate,
            "seconds": seconds,
            "logins": logins,
            "login_connections": connections,
        },
        values=values,
        targets=_targets(ON_A_SERVER if rig.place.url else TARGETS),
        cpu=bench.total.shares(),
        faults=faults + losses(rig.size.sessions, renewed, rig.fleet.ends(rig.all)),
    )


class _Bench:
    """The phases, one after the other. `total` counts the CPU time of all of them."""

    def __init__(self, rig: Rig, rate: float) -> None:
        self._rig = rig
        self._rate = rate
        self._password = secrets.token_urlsafe(24)
        self._storm: Child = rig.child("gateway.bench.logins", str(rig.directory))
        self.total = self._meter()

    def open(self) -> None:
        """Open all sessions with access tokens, and warm up."""
        rig = self._rig
        answer = rig.writer.call(
            "add_logins",
            count=rig.size.sessions,
            password_hash=hash_now(self._password, AuthConfig()),
            within_s=300,
        )
        with rig.display.stage("access tokens", rig.size.sessions) as done:
            rig.fleet.exchange(rig.ports("gateway"), answer["refresh_tokens"], rig.all, done)
        rig.open()
        rig.settle()
        with rig.display.stage("warming up", self._rate * WARM_S) as done:
            self._write([WARM_S], done)
        rig.fleet.collect(QUIET_S)

    def alone(self, seconds: float) -> Phase:
        """Changes and nothing else."""
        self._rig.fleet.clear()
        meter = self._meter()
        with self._rig.display.stage("changes", self._rate * seconds) as done, self.total.running(), meter.running():
            commits, late_ms = self._write([seconds], done)
        return Phase(PHASES[0], commits, self._rig.fleet.collect(QUIET_S), late_ms, meter)

    def during_logins(self, logins: int, connections: int) -> tuple[Phase, LoggedIn]:
        """Changes for as long as it takes so many users to log in."""
        rig = self._rig
        users = list(rig.all)[:: max(1, rig.size.sessions // logins)][:logins]
        rig.settle()
        rig.fleet.clear()
        meter = self._meter()
        with rig.display.stage("logins", logins) as done, self.total.running(), meter.running():
            self._storm.send(
                "log_in", ports=rig.ports("gateway"), users=users, password=self._password, connections=connections
            )
            commits, late_ms = self._write(self._until_logged_in(done))
        answer = self._storm.answer(within_s=LOGINS_S)
        [times] = read_columns(Path(answer.pop("times")), 1)
        faults = [f"{count} {kind}" for kind, count in answer.pop("faults").items()]
        phase = Phase(PHASES[1], commits, rig.fleet.collect(QUIET_S), late_ms, meter)
        return phase, LoggedIn(times=times.tolist(), faults=faults, **answer)

    def during_renewal(self, seconds: float) -> tuple[Phase, Renewed]:
        """Changes while every session is renewed once, evenly spread."""
        rig = self._rig
        rig.settle()
        rig.fleet.clear()
        meter = self._meter()
        title = "changes and renewals"
        with rig.display.stage(title, self._rate * seconds) as done, self.total.running(), meter.running():
            rig.fleet.begin_renewals(rig.all, seconds)
            commits, late_ms = self._write([seconds], done)
            renewed = rig.fleet.end_renewals(RENEWALS_S)
        return Phase(PHASES[2], commits, rig.fleet.collect(QUIET_S), late_ms, meter), renewed

    def _until_logged_in(self, done: Callable[[int], None]) -> Iterator[float]:
        while not self._storm.answered(done):
            yield STRETCH_S

    def _meter(self) -> Meter:
        return self._rig.meter(logins=[self._storm.pid])

    def _write(
        self, stretches: Iterable[float], on_progress: Callable[[int], None] | None = None
    ) -> tuple[Commits, float]:
        """Have changes committed for each of the stretches, in seconds, one right after the other; the commits, and
        how late the latest one was begun, in ms.
        """
        columns = [array("q") for _ in Commits._fields]
        late_ms = 0.0
        for turn, seconds in enumerate(stretches):
            answer = self._rig.writer.call(
                "pace",
                rate=self._rate,
                users=shuffled(self._rig.all, max(1, int(self._rate * seconds)), seed=turn),
                revoked=[],
                pad=[],
                pad_bytes=0,
                within_s=2 * seconds + 60,
                on_progress=on_progress,
            )
            for column, part in zip(columns, self._rig.commits(answer)[0], strict=True):
                column.extend(part)
            late_ms = max(late_ms, answer["late_ms"])
        return Commits(*columns), late_ms


def _targets(bounds: Iterable[Target]) -> tuple[Target, ...]:
    return tuple(bound._replace(value=f"{phase}_{bound.value}") for bound in bounds for phase in PHASES)


def _latencies(phase: Phase, counted: Commits) -> dict[str, Any]:
    """The figures of a phase, its times those of the commits that are `counted`; no times where there are none."""
    joined = join(counted, phase.collected.receipts)
    values: dict[str, Any] = {}
    if joined.from_commit:
        values |= Spread.of(joined.from_commit).named(f"{phase.name}_commit_to_frame")
        values |= Spread.of(joined.from_start).named(f"{phase.name}_start_to_frame")
    values[f"{phase.name}_changes"] = len(counted.numbers)
    values[f"{phase.name}_conflated"] = joined.conflated
    values[f"{phase.name}_writer_late_ms"] = round(phase.late_ms, 2)
    cores = phase.meter.shares()
    return values | {f"{phase.name}_{name}_cores": cores[name] for name in cores if name != "floor"}


def _faults(phase: Phase) -> list[str]:
    return join(phase.commits, phase.collected.receipts).faults() + phase.collected.faults


def _login_figures(logged_in: LoggedIn) -> dict[str, Any]:
    seconds = (logged_in.finished - logged_in.started) / 1e9
    values: dict[str, Any] = {
        "logins_per_s": round(len(logged_in.times) / seconds, 1),
        "logins_refused": logged_in.refused,
    }
    return values | (Spread.of(logged_in.times).named("login") if logged_in.times else {})


def _renewal_figures(renewed: Renewed) -> dict[str, Any]:
    values: dict[str, Any] = {"renewals_refused": renewed.refused}
    for name, times in (("renewal", renewed.renewals), ("refresh", renewed.refreshes)):
        if times:
            values |= Spread.of(times).named(name)
    return values


def losses(sessions: int, renewed: Renewed, ends: Iterable[End]) -> list[str]:
    """Which of so many sessions were not renewed, and which ended, as words; none is the rule."""
    ended = sum(bool(end.ended_at or end.closed_at) for end in ends)
    counts = {"were not renewed": sessions - len(renewed.renewals), "ended": ended}
    return [f"{count} sessions {what}" for what, count in counts.items() if count]
