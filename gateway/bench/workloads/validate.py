"""How many decisions a second an application's `AuthProxy` takes from its cache on one core. No gateway is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from gateway.bench.broken import BenchBroken
from gateway.bench.result import Result, Target

TARGETS = (Target("decisions_per_cpu_s", at_least=100_000),)
PROGRAM = "client_sdk.auth_proxy.speed"
"""Of the SDK, which the gateway does not import: it runs in a process of its own."""
TIMEOUT_FACTOR = 60


def validate(users: int, seconds: float) -> Result:
    """Decide about the access tokens of so many users in turn, for so many seconds of the processor, and for as many
    let their requests through to an application that does nothing. Ten times a second something is revoked.
    """
    words = [sys.executable, "-m", PROGRAM, "--users", str(users), "--seconds", str(seconds)]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and a program of this project
            words, capture_output=True, text=True, check=True, timeout=seconds * TIMEOUT_FACTOR
        )
    except subprocess.SubprocessError as error:
        raise BenchBroken(f"{PROGRAM} failed: {error}") from error
    told: dict[str, Any] = json.loads(done.stdout)
    cpu_s, requests_cpu_s = told["cpu_s"], told["requests_cpu_s"]
    return Result(
        workload="validate",
        parameters={"users": users, "seconds": seconds},
        values={
            "decisions_per_cpu_s": told["decisions_per_cpu_s"],
            "decision_cpu_us": round(1e6 * cpu_s / told["decisions"], 2),
            "requests_per_cpu_s": told["requests_per_cpu_s"],
            "request_cpu_us": round(1e6 * requests_cpu_s / told["requests"], 2),
        },
        targets=TARGETS,
        cpu={"server": round((cpu_s + requests_cpu_s) / told["wall_s"], 2)},
    )
