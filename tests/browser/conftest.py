"""One browser and one gateway for each module here; a visit with cookies of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.support.chromium import running_chromium
from tests.support.dashboard import PATIENCE_MS, Visit, somebody, visiting
from tests.support.foreign_writer import ForeignWriter
from tests.support.furnished import use
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Person, Seed

expect.set_options(timeout=PATIENCE_MS)
SETTINGS = {"auth_argon2_memory_kib": 7168, "auth_argon2_time": 1, "logging_level": "debug"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The module's gateway; `SETTINGS` of the module are its settings besides."""
    settings: dict[str, Any] = {**SETTINGS, **getattr(request.module, "SETTINGS", {})}
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), **settings) as process:
        yield process
    process.check_log()


@pytest.fixture(scope="module")
def foreign(gateway: GatewayProcess) -> Iterator[ForeignWriter]:
    """Another program that writes to the module's database."""
    with gateway.foreign_writer() as writer:
        yield writer


@pytest.fixture(scope="module")
def seed(gateway: GatewayProcess, foreign: ForeignWriter) -> Seed:
    return Seed(foreign, gateway.secrets)


@pytest.fixture
def person(seed: Seed) -> Person:
    """Somebody who has used 7 of 500 minutes; modules that need others have their own."""
    one = somebody(seed, seed.plan(["can_use_voice"], {"voice_minutes": (500, "month")}))
    use(seed, one.doc, "voice_minutes", "month", 7)
    return one


@pytest.fixture
def admin(seed: Seed) -> Person:
    """An administrator."""
    return somebody(seed, is_admin=1)


StartVisit = Callable[..., Visit]


@pytest.fixture
def start_visit(gateway: GatewayProcess, browser: Browser) -> Iterator[StartVisit]:
    """Starts visits (`visiting`), each with cookies of its own; `at` is another gateway than the module's."""
    with ExitStack() as visits:

        def start(at: GatewayProcess | None = None, **options: Any) -> Visit:
            made: AbstractContextManager[Visit] = visiting(at or gateway, browser, **options)
            return visits.enter_context(made)

        yield start


@pytest.fixture
def visit(start_visit: StartVisit) -> Visit:
    return start_visit()
