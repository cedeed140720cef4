from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.core.instant import Instant
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.session import Session, SessionLimits
from gateway.core.wire import JSON
from gateway.errors import Ending
from gateway.live.connection import Connection
from gateway.live.outbox import Outbox

LIMITS = SessionLimits(25.0, 10.0, 10.0, 60.0, 16_384, 120)
NOW = Instant(100.0, 1_795_288_200_000)


class FailingHub:
    """A hub with a fault of ours in it."""

    epoch = "e"
    outbox = Outbox()

    def entry_of(self, connection: Connection) -> None:
        raise LookupError("a fault of ours")


class Sent:
    def __init__(self) -> None:
        self.ended: list[tuple[bytes, int]] = []

    def send_message(self, payload: bytes, binary: bool) -> None:
        pass

    def end(self, payload: bytes, binary: bool, code: int, reason: str, linger_s: float) -> None:
        self.ended.append((payload, code))


def test_a_fault_of_ours_ends_the_session_and_is_logged_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[Ending] = []
    node = SimpleNamespace(
        name="n",
        hub=FailingHub(),
        clock=SimpleNamespace(now=lambda: NOW),
        opened=lambda connection: None,
        schedule=lambda connection: None,
        ended=lambda connection, ending: ended.append(ending),
    )
    transport = Sent()
    session = Session("s_1", JSON, LIMITS, NOW, jitter=0.5)
    connection = Connection(cast("Any", node), session, cast("Any", transport), "127.0.0.1")
    principal = Principal(PrincipalKind.USER, "ada", CredentialKind.API_TOKEN, "t_1")
    with caplog.at_level(logging.ERROR, "gateway.session"):
        connection.greet(principal, [])
    assert ended == [Ending.INTERNAL]
    [(payload, code)] = transport.ended
    assert code == 4000
    assert b'"code":"internal"' in payload
    assert b"LookupError" not in payload
    assert [vars(record)["session"] for record in caplog.records] == ["s_1"]
