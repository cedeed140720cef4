"""Whoever runs an application is told of pages that are refused for their origin; the pages are told no more."""

from __future__ import annotations

import logging

import pytest

from client_sdk.auth_proxy import complaint
from client_sdk.auth_proxy.complaint import Complaint
from tests.client_sdk.support.asgi import Answer, fields, request_of
from tests.client_sdk.support.clock import JumpingClock
from tests.client_sdk.support.logged import records_of, said
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.timed_proxy import proxy_by
from tests.client_sdk.support.tokens import access_token, soon


async def test_a_refusal_for_the_origin_says_so_and_the_log_names_the_setting(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    crumb = f"session={access_token('u_ada', 's_1', soon())}"
    async with proxy_to(gateway, cookie="session") as proxy:

        async def post(origin: str) -> Answer:
            named = fields(None, {"host": "shop.example", "cookie": crumb, "origin": origin})
            scope = {"type": "http", "method": "POST", "path": "/", "scheme": "http", "query_string": b""}
            return await request_of(proxy, {**scope, "headers": named})

        answers = [await post("https://shop.example") for _ in range(3)]
    assert {answer.status for answer in answers} == {403}
    assert {(answer.json["code"], answer.json["detail"]) for answer in answers} == {
        ("forbidden", "This origin may not do this.")
    }
    [record] = records_of(caplog)
    assert record.levelno == logging.WARNING
    for word in ("cookie", "'https://shop.example'", "'http://shop.example'", "the setting origins"):
        assert word in record.getMessage()
    assert crumb not in record.getMessage()


def test_what_happens_over_and_over_is_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    told = Complaint("something")
    each = [told.happened(f"for this: {now}", now) for now in (0.0, 1.0, complaint.EVERY_S - 1, complaint.EVERY_S)]
    assert each == [True, False, False, True]
    assert said(caplog) == ["something: for this: 0.0", "something: for this: 30.0"]


async def test_the_next_page_is_said_when_time_has_passed_for_the_proxy(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """By the clock that all else of it goes by."""
    clock = JumpingClock()
    named = fields(None, {"host": "shop.example", "cookie": "session=t", "origin": "https://evil.example"})
    scope = {"type": "http", "method": "POST", "path": "/", "scheme": "http", "query_string": b"", "headers": named}
    async with proxy_by(clock, f"http://127.0.0.1:{gateway.port}", cookie="session") as proxy:
        for ahead_s, lines in ((0.0, 1), (complaint.EVERY_S - 5, 1), (complaint.EVERY_S, 2)):
            clock.ahead_s = ahead_s
            assert (await request_of(proxy, scope)).status == 403
            assert len(said(caplog)) == lines
