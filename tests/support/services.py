"""The accounts of a node that is built by hand."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Protocol

from gateway.auth.authenticator import Authenticator
from gateway.auth.master_key import load_sealer
from gateway.auth.services import Accounts
from gateway.config import AuthConfig, Config
from gateway.core.instant import Instant

MASTER_KEY = base64.b64encode(bytes(range(32))).decode()


class Clock(Protocol):
    def now(self) -> Instant: ...


def accounts(database: Any, clock: Clock, **settings: Any) -> Accounts:
    """Of a database, or what stands in for one; `settings` are those of [auth]."""
    cheap = {"argon2_memory_kib": 7168, "argon2_time": 1, "master_key": MASTER_KEY, **settings}
    config = Config(auth=AuthConfig(**cheap))
    return Accounts(config, database, load_sealer(config, make=False), lambda: clock.now().wall)


def authenticator(database: Any, wall: Callable[[], int]) -> Authenticator:
    """That of a node; `wall` gives the time in milliseconds since 1970 UTC."""

    class Wall:
        def now(self) -> Instant:
            return Instant(0.0, wall())

    return accounts(database, Wall()).authenticator
