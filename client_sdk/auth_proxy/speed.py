"""How many decisions a second one core takes from memory.

python -m client_sdk.auth_proxy.speed [--seconds 2] [--users 1000]

Prints one line of JSON. A decider is filled with users, each with a document and a token, and a channel that holds them
all; then it is asked about one after the other, as an `AuthProxy` asks it. No network is used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from client_sdk.auth_proxy.decider import Decider
from client_sdk.auth_proxy.decision import Source
from client_sdk.auth_proxy.known import KEYS, REVOCATIONS, Fact, Passport, Rules
from client_sdk.instance_key import InstanceKey
from client_sdk.replica import Held, Replica
from client_sdk.wire import Snapshot

HOUR_MS = 3_600_000
REVOKED = 1000
TOKEN_CHARACTERS = 400
"""As long as an access token is."""


class HeldWorld:
    """A channel that is live and holds everything."""

    live = True

    def __init__(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        self._replica = Replica(verify=False)
        for doc, data in documents.items():
            self._replica.expect(doc)
            self._replica.snapshot(Snapshot(doc=doc, rev="0" * 16, seq=1, data=dict(data)))

    @property
    def copies(self) -> Mapping[str, Held]:
        """The documents."""
        return self._replica.copies

    def known_at(self, now: float) -> float | None:
        """All of it is true now."""
        return now


def document(user: str) -> dict[str, Any]:
    """A user."""
    return {
        "identity": {"id": user, "username": user, "plan": "pro", "status": "active"},
        "permissions": {"can_use_voice": True, "can_use_sms": True},
        "quotas": {"voice_minutes": {"limit": 500, "used": 12, "remaining": 488, "level": "ok"}},
        "organizations": {},
    }


def filled(users: int) -> tuple[Decider, list[str]]:
    """A decider that knows so many users, and the token of each."""
    names = [f"u_{number}" for number in range(users)]
    documents: dict[str, Mapping[str, Any]] = {f"user:{name}": document(name) for name in names}
    revoked = {f"s_void_{number}": "2030-01-01T00:00:00.000Z" for number in range(REVOKED)}
    key = InstanceKey("k_speed", bytes(32))
    decider = Decider("http://127.0.0.1:9", key, Rules(max_users=users, max_tokens=users))
    decider.judge.enter(HeldWorld({**documents, REVOCATIONS: revoked, KEYS: {}}))
    now, ends = time.monotonic(), int(time.time() * 1000) + HOUR_MS
    tokens = [secrets.token_urlsafe(TOKEN_CHARACTERS)[:TOKEN_CHARACTERS] for _ in names]
    for name, token in zip(names, tokens, strict=True):
        passport = Passport(name, f"user:{name}", f"s_{name}", ends, good_at=now, recheck_at=now + 300.0)
        decider.judge.learn(sha256(token.encode()).digest(), passport, Fact(document(name), now))
    return decider, tokens


async def measure(seconds: float, users: int) -> dict[str, Any]:
    """Decide for so long; what came of it. Seconds are those of the processor: what else the machine does costs
    nothing.
    """
    decider, tokens = filled(users)
    decisions, begun, began = 0, time.process_time(), time.monotonic()
    while (spent := time.process_time() - begun) < seconds:
        for token in tokens:
            if (await decider.decide(token)).source is not Source.LIVE:
                raise AssertionError("every one of these is known")
        decisions += len(tokens)
    await decider.stop()
    return {
        "workload": "validate",
        "users": users,
        "decisions": decisions,
        "cpu_s": round(spent, 3),
        "wall_s": round(time.monotonic() - began, 3),
        "decisions_per_cpu_s": round(decisions / spent),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m client_sdk.auth_proxy.speed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of the processor's time")
    parser.add_argument("--users", type=int, default=1000)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.seconds, arguments.users))))


if __name__ == "__main__":
    main()
