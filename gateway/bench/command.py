"""``gateway bench``: the workloads as commands. Results go to stdout, one JSON line each; progress and the table to
stderr.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import click
import picows  # noqa: F401 - without the extra `bench`, this and not a child says so

from gateway.bench.broken import BenchBroken
from gateway.bench.display import Display
from gateway.bench.result import Result
from gateway.bench.rig import Rig, Size
from gateway.bench.server import Place
from gateway.bench.workloads.applications import NODES, applications
from gateway.bench.workloads.connect import connect
from gateway.bench.workloads.consume import SETTINGS as CONSUME_SETTINGS
from gateway.bench.workloads.consume import consume
from gateway.bench.workloads.fanout import fanout
from gateway.bench.workloads.idle import idle
from gateway.bench.workloads.outage import outage
from gateway.bench.workloads.push import push
from gateway.bench.workloads.push_max import push_max
from gateway.bench.workloads.renew import renew
from gateway.bench.workloads.revoke import revoke
from gateway.bench.workloads.slow import slow
from gateway.bench.workloads.storm import storm
from gateway.bench.workloads.validate import validate

BROKEN = 1
"""Exit code of a run that can not be trusted. A missed target is a figure, not a failure: its exit code is 0."""

READS_METRICS = ("gateway_documents_read_total", "gateway_credentials_read_total")

Workload = Callable[[Rig], Iterator[Result]]
Decorator = Callable[[Callable[..., int]], Callable[..., int]]

SESSIONS = click.IntRange(10, 1_000_000)
SECONDS = click.FloatRange(1, 3600)
RATE = click.FloatRange(1, 100_000)
ROUNDS = click.IntRange(1, 1000)
RENEWAL_SECONDS = click.FloatRange(1, 600)
"""The access tokens that the sessions begin with must not end before they are renewed."""


@click.group()
def bench() -> None:
    """Measure this machine: a gateway, its clients and a bare server side by side."""


def _size_options(default_sessions: int | None) -> list[Decorator]:
    sessions = click.option(
        "--sessions", type=SESSIONS, default=default_sessions, show_default=True, help="Sessions, one a user."
    )
    options: list[Decorator] = [
        click.option(
            "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes of the gateway."
        ),
        click.option(
            "--loaders", type=click.IntRange(1, 64), default=1, show_default=True, help="Load generators, at least."
        ),
        click.option(
            "--concurrency",
            type=click.IntRange(1, 4000),
            default=128,
            show_default=True,
            help="Sessions opened at a time.",
        ),
    ]
    return options if default_sessions is None else [*options, sessions]


_PLACE_OPTIONS: list[Decorator] = [
    click.option(
        "--replica",
        default="",
        metavar="URL",
        help="A read replica of it: half of the sessions go to a second node that reads it.",
    ),
    click.option(
        "--database",
        "url",
        default="",
        metavar="URL",
        help="A libSQL server in place of a file; its database must be empty, or an earlier run's.",
    ),
]


def _sized(default_sessions: int | None = 5000) -> Decorator:
    """The options of every workload: `Place` and `Size`."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        for option in (*_PLACE_OPTIONS, *_size_options(default_sessions)):
            command = option(command)
        return command

    return decorate


def _seconds(default: float) -> Decorator:
    return click.option(
        "--seconds", type=SECONDS, default=default, show_default=True, help="How long the measurement lasts."
    )


def _rate(default: float) -> Decorator:
    return click.option("--rate", type=RATE, default=default, show_default=True, help="Commits a second, one row each.")


def _rounds(default: int) -> Decorator:
    return click.option("--rounds", type=ROUNDS, default=default, show_default=True, help="Repetitions; medians count.")


@bench.command("idle")
@click.option(
    "--sessions",
    "steps",
    type=SESSIONS,
    multiple=True,
    default=(5_000, 15_000),
    show_default=True,
    help="Sessions; repeatable.",
)
@_seconds(30)
@_sized(None)
def idle_command(steps: tuple[int, ...], seconds: float, **size: Any) -> int:
    """Memory and CPU time of sessions at rest."""
    ordered = sorted(set(steps))
    return _run(lambda rig: idle(rig, steps=ordered, seconds=seconds), {"sessions": ordered[-1], **size}, both=True)


@bench.command("connect")
@_rounds(5)
@_sized()
def connect_command(rounds: int, **size: Any) -> int:
    """Authenticated connects a second."""
    return _run(lambda rig: connect(rig, rounds=rounds), size)


@bench.command("push")
@_rate(1000)
@_seconds(20)
@_sized()
def push_command(rate: float, seconds: float, **size: Any) -> int:
    """From another process's commit to the frame at the client."""
    return _run(lambda rig: push(rig, rate=rate, seconds=seconds), size)


@bench.command("push_max")
@click.option(
    "--batch",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Users changed in one transaction.",
)
@_seconds(10)
@_sized()
def push_max_command(batch: int, seconds: float, **size: Any) -> int:
    """Updates a second to distinct users."""
    if 3 * batch > size["sessions"]:
        raise click.UsageError(
            "--batch must be at most a third of --sessions: else changes overtake each other and are conflated."
        )
    return _run(lambda rig: push_max(rig, seconds=seconds, batch=batch), size)


@bench.command("fanout")
@_rounds(15)
@_sized()
def fanout_command(rounds: int, **size: Any) -> int:
    """From one changed plan row to the last session's patch."""
    return _run(lambda rig: fanout(rig, rounds=rounds), size, both=True)


@bench.command("storm")
@click.option(
    "--reads-metric",
    "reads_metrics",
    multiple=True,
    default=READS_METRICS,
    show_default=True,
    help="A counter of the gateway's database reads; repeatable.",
)
@_rounds(5)
@_sized()
def storm_command(reads_metrics: tuple[str, ...], rounds: int, **size: Any) -> int:
    """All sessions cut at once, and back."""
    return _run(lambda rig: storm(rig, rounds=rounds, reads_metrics=reads_metrics), size)


@bench.command("slow")
@click.option(
    "--share",
    type=click.FloatRange(0.001, 0.5),
    default=0.01,
    show_default=True,
    help="Share of the clients that never read.",
)
@_rate(1000)
@_seconds(30)
@_sized()
def slow_command(share: float, rate: float, seconds: float, **size: Any) -> int:
    """What clients that never read do to the others."""
    return _run(lambda rig: slow(rig, rate=rate, seconds=seconds, share=share), size)


@bench.command("revoke")
@click.option(
    "--revocations",
    type=click.IntRange(1, 100_000),
    default=200,
    show_default=True,
    help="Tokens revoked, one at a time.",
)
@_rate(1000)
@_seconds(15)
@_sized()
def revoke_command(revocations: int, rate: float, seconds: float, **size: Any) -> int:
    """From a token's revocation to the closed socket."""
    if revocations > size["sessions"]:
        raise click.UsageError("--revocations must be at most --sessions.")
    return _run(lambda rig: revoke(rig, rate=rate, seconds=seconds, revocations=revocations), size)


@bench.command("renew")
@click.option("--logins", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Users who log in.")
@click.option(
    "--login-connections",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="Logins on their way at a time.",
)
@click.option(
    "--seconds",
    type=RENEWAL_SECONDS,
    default=60,
    show_default=True,
    help="How long the renewals of all sessions take, evenly spread.",
)
@_rate(1000)
@_sized()
def renew_command(rate: float, seconds: float, logins: int, login_connections: int, **size: Any) -> int:
    """What logins and token renewals do to the latency of changes."""
    if logins > size["sessions"]:
        raise click.UsageError("--logins must be at most --sessions.")
    return _run(lambda rig: renew(rig, rate=rate, seconds=seconds, logins=logins, connections=login_connections), size)


@bench.command("consume")
@click.option("--rate", type=RATE, default=7500, show_default=True, help="Requests a second in the second stretch.")
@_seconds(10)
@_sized(1000)
def consume_command(rate: float, seconds: float, **size: Any) -> int:
    """Units taken from quotas, durably, with an answer."""
    return _run(lambda rig: consume(rig, seconds=seconds, rate=rate), size, settings=CONSUME_SETTINGS)


def _copies_options(command: Callable[..., int]) -> Callable[..., int]:
    copies = click.option(
        "--copies", type=click.IntRange(1, 16), default=3, show_default=True, help="Copies of the application."
    )
    nodes = click.option(
        "--nodes", type=click.IntRange(1, 8), default=NODES, show_default=True, help="Nodes of the gateway."
    )
    return copies(nodes(command))


def _spacing(default: float) -> Decorator:
    return click.option(
        "--spacing-ms",
        type=click.FloatRange(0.5, 1000),
        default=default,
        show_default=True,
        help="How far apart the requests are that find out what a copy knows.",
    )


@bench.command("applications")
@click.option(
    "--revocations", type=click.IntRange(4, 100_000), default=400, show_default=True, help="Users whose login ends."
)
@click.option("--rate", type=RATE, default=10, show_default=True, help="Revocations a second.")
@_spacing(2)
@_copies_options
@_sized(1000)
def applications_command(revocations: int, rate: float, spacing_ms: float, copies: int, nodes: int, **size: Any) -> int:
    """From a revocation to the refused request and the closed socket at every copy of an application."""
    if revocations > size["sessions"]:
        raise click.UsageError("--revocations must be at most --sessions.")
    return _run(
        lambda rig: applications(rig, copies=copies, revocations=revocations, rate=rate, spacing_ms=spacing_ms),
        size,
        nodes=nodes,
    )


@bench.command("outage")
@click.option(
    "--changed", type=click.IntRange(3, 10_000), default=30, show_default=True, help="Users who change meanwhile."
)
@_spacing(20)
@_copies_options
@_sized(9000)
def outage_command(changed: int, spacing_ms: float, copies: int, nodes: int, **size: Any) -> int:
    """From the gateway's return to an application whose every copy is right about everybody."""
    if 3 * changed > size["sessions"]:
        raise click.UsageError("--changed must be at most a third of --sessions.")
    return _run(lambda rig: outage(rig, copies=copies, changed=changed, spacing_ms=spacing_ms), size, nodes=nodes)


@bench.command("validate")
@click.option("--users", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Users, a token each.")
@_seconds(5)
def validate_command(users: int, seconds: float) -> int:
    """Decisions of an application's AuthProxy from its cache, on one core."""
    display = Display()
    try:
        result = validate(users, seconds)
    except BenchBroken as error:
        display.console.print(f"bench: {error}", style="red", highlight=False, soft_wrap=True)
        return BROKEN
    click.echo(result.line())
    display.table([result])
    return 0


class _Stopped(BaseException):
    """The signal `number` came: the rig ends its processes and removes its directory on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stopped(number: int, _frame: Any) -> NoReturn:
    raise _Stopped(number)


def _run(
    workload: Workload,
    size: dict[str, Any],
    *,
    both: bool = False,
    nodes: int = 1,
    settings: Mapping[str, str] | None = None,
) -> int:
    """Run one workload; every process that it started has ended when this returns its exit code or raises."""
    place = Place(size.pop("url"), size.pop("replica"))
    if place.replica and not place.url:
        raise click.UsageError("--replica needs --database.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stopped)
    display = Display()
    results: list[Result] = []
    try:
        with Rig(Size(**size), display, place, both=both, nodes=nodes, settings=settings) as rig:
            for result in workload(rig):
                results.append(result)
                click.echo(result.line())
    except BenchBroken as error:
        display.console.print(f"bench: {error}", style="red", highlight=False, soft_wrap=True)
        return BROKEN
    except _Stopped as stopped:
        return 128 + stopped.number
    finally:
        if results:
            display.table(results)
    return BROKEN if any(result.faults for result in results) else 0
