"""What an `AuthProxy` says in the log; other loggers may say something at any moment."""

from __future__ import annotations

import logging

import pytest

LOGGER = "client_sdk.auth_proxy"


def records_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of its logger."""
    return [record for record in caplog.records if record.name == LOGGER]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Its lines of level WARNING and above."""
    return [record.getMessage() for record in records_of(caplog) if record.levelno >= logging.WARNING]
