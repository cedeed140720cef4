"""How long it takes until copies of an application are right about everybody again after the gateway was away, and
what that costs it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

from gateway.auth.passwords import hash_now
from gateway.bench.broken import BenchBroken
from gateway.bench.copies import Copies
from gateway.bench.result import Result, Target
from gateway.bench.rig import Meter, Rig
from gateway.bench.server import READY_S, Server
from gateway.config import AuthConfig

TARGETS = (
    Target("ready_to_true_max_ms", at_most=1000),
    Target("asked_per_copy", at_most=2),
    Target("asked_about_tokens", at_most=0),
)
"""A copy asks once, for its channel, and once more where it was too early."""
AT_ONCE = 4
WITHIN_S = 60.0
NODES = 2
METRICS = ("documents_read", "documents_built")
"""Of the gateway, since it came back."""


def outage(rig: Rig, *, copies: int, changed: int, spacing_ms: float) -> Iterator[Result]:
    """Everybody is known to each of so many copies. The gateway is killed; of `changed` users a third is disabled, a
    third loses the login and a third loses a permission; the gateway comes back.
    """
    behind = Copies(rig, copies)
    behind.sign_in(hash_now(secrets.token_urlsafe(24), AuthConfig()))
    behind.meet(sockets=False)
    rig.settle()
    users, third = list(rig.all), changed // 3
    groups = {"disable": users[:third], "revoke": users[third : 2 * third], "deny": users[-third:]}
    validations = sum(behind.counted("validations").values())
    _change_unseen(rig, groups)
    rest = users[2 * third : -third]
    behind.clients.send(
        "truth",
        gone=groups["disable"] + groups["revoke"],
        denied=groups["deny"],
        same=rest[:: max(1, len(rest) // changed)][:changed],
        spacing_ms=spacing_ms,
        at_once=AT_ONCE,
        within_s=WITHIN_S,
    )
    ready = _start(rig.servers)
    meter = rig.meter(copies=behind.pids(), clients=[behind.clients.pid])
    with rig.display.stage("the gateway is back"), meter.running():
        rows = behind.clients.answer(within_s=WITHIN_S + 10)["rows"]
    rig.settle()
    times = [(at - ready[copy.server.port]) / 1e6 for copy, (at, _) in zip(behind.all, rows, strict=True)]
    about_tokens = sum(behind.counted("validations").values()) - validations
    yield Result(
        workload="outage",
        parameters={**rig.size.parameters(), "nodes": len(rig.servers), "copies": copies, "changed": 3 * third},
        values={
            **_figures(rig, behind, times, meter),
            "asked_about_tokens": about_tokens,
            "requests_of_clients": sum(requests for _, requests in rows),
        },
        targets=TARGETS,
        cpu=meter.shares(),
    )


def _change_unseen(rig: Rig, groups: Mapping[str, list[int]]) -> None:
    """Kill the gateway and change these users, by how."""
    for server in rig.servers:
        server.kill()
    for how, users in groups.items():
        rig.writer.call("change", how=how, users=users)


def _figures(rig: Rig, behind: Copies, times: Sequence[float], meter: Meter) -> dict[str, float]:
    """`times` are those of the copies, in ms from when their node was ready."""
    documents = len(times) * rig.size.sessions
    return {
        "ready_to_true_max_ms": round(max(times), 1),
        **{f"copy_{copy}_ready_to_true_ms": round(took, 1) for copy, took in enumerate(times)},
        "asked_per_copy": round(behind.asked() / len(times), 2),
        **{name: round(rig.metric(f"gateway_{name}_total") or 0) for name in METRICS},
        "server_cpu_us_per_document": meter.us_per("server", documents),
        "copy_cpu_us_per_document": meter.us_per("copies", documents),
    }


def _start(servers: Sequence[Server]) -> dict[int, int]:
    """Start them together; when each was ready, in monotonic ns, by its port."""
    for server in servers:
        server.begin()
    ready: dict[int, int] = {}
    deadline = time.monotonic() + READY_S
    while len(ready) < len(servers):
        for server in servers:
            if server.port not in ready and server.is_ready():
                ready[server.port] = time.monotonic_ns()
        if time.monotonic() > deadline:
            raise BenchBroken("the gateway was not ready in time")
        time.sleep(0.005)
    return ready
