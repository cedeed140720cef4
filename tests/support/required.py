"""What tests need of the machine they run on."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """What the test needs is not there: skip it, or fail it where nothing may be skipped."""
    if os.environ.get("GATEWAY_REQUIRE_ALL"):
        pytest.fail(what)
    pytest.skip(what)
