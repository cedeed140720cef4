"""What is spent on the channel and over HTTP is spent once, by the same rules, from the same balance."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import WebSocketTestSession

from tests.gateway.web.conftest import Site, opened
from tests.support.api_caller import ApiCaller
from tests.support.spending_caller import CONSUME, LEASES, balance, place, taken

Json = dict[str, Any]
OF_FRAME = {"op", "id"}


@pytest.fixture
def ada(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_ada")


def asked(socket: WebSocketTestSession, op: str, **fields: Any) -> Json:
    """What is answered on the channel, without what makes it a frame."""
    socket.send_json({"op": op, "id": "r", **fields})
    while (message := socket.receive_json()).get("id") != "r":
        assert message["op"] == "update"
    return {name: value for name, value in message.items() if name not in OF_FRAME}


def test_one_key_is_one_request_on_both(site: Site, ada: ApiCaller) -> None:
    order = {"amount": 5, "key": "once"}
    with site.connect(ada.headers) as socket:
        opened(socket)
        there = asked(socket, "consume", quota="voice_minutes", **order)
        here = ada.done("POST", CONSUME, order)
        assert here == there
        pool = order | {"org": "o_acme", "key": "pool"}
        assert ada.done("POST", CONSUME, pool) == asked(socket, "consume", quota="voice_minutes", **pool)
        assert asked(socket, "consume", quota="voice_minutes", amount=6, key="once")["code"] == "conflict"
    assert taken(site) == [("org:o_acme", "voice_minutes", 5, 0), ("user:u_ada", "voice_minutes", 5, 0), (2,)]


def test_a_lease_goes_on_where_it_was_not_begun(site: Site, ada: ApiCaller) -> None:
    with site.connect(ada.headers) as socket:
        opened(socket)
        made = asked(socket, "reserve", lease="call", quota="voice_minutes", amount=10, ttl_s=60)
        assert ada.done("GET", place()) == made
        assert ada.done("POST", LEASES, {"lease": "call", "amount": 10, "ttl_s": 60}) == made
        more = {"ttl_s": 1, "amount": 5, "key": "more"}
        extended = ada.done("POST", place(action="extend"), more)
        assert asked(socket, "extend", lease="call", **more) == extended
        committed = asked(socket, "commit", lease="call", amount=7)
        assert ada.done("POST", place(action="commit"), {"amount": 7}) == committed
        assert asked(socket, "release", lease="call")["code"] == "conflict"
    assert balance(site) == (7, 0)


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"amount": 501}, "quota_exceeded"),
        ({"amount": 1, "quota": "calls"}, "not_found"),
        ({"amount": 1, "org": "o_nobody"}, "not_found"),
    ],
)
def test_both_refuse_in_the_same_words(site: Site, ada: ApiCaller, order: Json, code: str) -> None:
    order = {"quota": "voice_minutes", "key": "k"} | order
    with site.connect(ada.headers) as socket:
        opened(socket)
        there = asked(socket, "consume", **order)
    path = f"/api/quotas/{order.pop('quota')}/consume"
    here = ada("POST", path, order).json()
    assert there["code"] == code
    assert {name: here["detail" if name == "message" else name] for name in there} == there
    assert taken(site) == [(0,)]
