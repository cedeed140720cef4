"""An `AuthProxy` whose time is a test's."""

from __future__ import annotations

from functools import partial
from typing import Any

from client_sdk.auth_proxy import AuthProxy
from client_sdk.auth_proxy.decider import Decider
from client_sdk.clock import Clock
from tests.client_sdk.support.scripted_gateway import KEY, own_app
from tests.client_sdk.support.tokens import ISSUER


def proxy_by(clock: Clock, url: str, **options: Any) -> AuthProxy:
    """It goes by this clock, and what it does by chance it does as in the middle of cases."""

    class Timed(AuthProxy):
        _new_decider = partial(Decider, clock=clock.time, chance=lambda: 0.5, link_options={"clock": clock})

    return Timed(own_app, url, KEY, **{"issuer": ISSUER, **options})
