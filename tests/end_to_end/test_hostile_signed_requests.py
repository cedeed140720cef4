"""Whoever holds an instance's key is an instance and no more: hostile bodies that are signed well, and what instances
may not ask. And from which address a request is said to come."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.deployment import Deployment, send, send_to
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import Answer, GatewayProcess
from tests.support.required import missing
from tests.support.seed import Person, Seed

pytestmark = pytest.mark.storages("file")

CONSUME = "/api/quotas/calls/consume"
JSON = {"content-type": "application/json"}
VALIDATE = "/auth/validate"


@pytest.fixture(scope="module")
def shop(gateway: GatewayProcess, foreign: ForeignWriter) -> Deployment:
    return Deployment(gateway, foreign)


@pytest.fixture(scope="module")
def ada(seed: Seed) -> Person:
    return seed.person(seed.plan(quotas={"calls": (10, "day")}))


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, str(answer.json()["code"])


# --- bodies ---


BODIES: dict[str, bytes] = {
    "deep": b'{"user":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep objects": b'{"user":' * 7_000 + b"1" + b"}" * 7_000,
    "NaN": b'{"amount":NaN,"key":"k"}',
    "an endless number": b'{"amount":1e999,"key":"k"}',
    "a BOM": b'\xef\xbb\xbf{"amount":1,"key":"k"}',
    "UTF-16": '{"amount":1,"key":"k"}'.encode("utf-16"),
    "no UTF-8": b'{"amount":1,"key":"\xff\xfe"}',
    "a lone surrogate": b'{"amount":1,"key":"\\ud800","user":"u"}',
    "NUL": b'{"amount":1,"key":"k","user":"u\\u0000"}',
    "no object": b"[1]",
    "nothing of it": b"{",
    "two of them": b'{"amount":1,"key":"k"}{"amount":2,"key":"l"}',
    "zero": b'{"amount":0,"key":"k","user":"u"}',
    "negative": b'{"amount":-5,"key":"k","user":"u"}',
    "half": b'{"amount":0.5,"key":"k","user":"u"}',
    "true": b'{"amount":true,"key":"k","user":"u"}',
    "2^63": b'{"amount":9223372036854775808,"key":"k","user":"u"}',
    "a field more": b'{"amount":1,"key":"k","user":"u","is_admin":true}',
    "spender": b'{"amount":1,"key":"k","user":"u","spender":"user:other"}',
    "an instance": b'{"amount":1,"key":"k","user":"u","instance":"i_other"}',
    "SQL": json.dumps({"amount": 1, "key": "k", "user": "u'; DROP TABLE users; --"}).encode(),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_hostile_body_is_refused_although_it_is_signed(shop: Deployment, ada: Person, what: str) -> None:
    """It is the instance's, so that its rate is told; nothing is taken of anybody."""
    for headers in (JSON, JSON | {"authorization": f"Bearer {ada.token}"}):
        answer = shop.ask("POST", CONSUME, BODIES[what], headers)
        assert answer.status in (400, 403, 404, 422), answer
        assert "ratelimit" in answer.headers
    assert shop.foreign.execute("SELECT count(*) FROM quota_ledger WHERE spender = ?", ada.doc) == [(0,)]
    assert shop.validate(ada.token).status == 200


def test_of_a_name_that_is_there_twice_one_value_is_meant_by_all(shop: Deployment, ada: Person, seed: Seed) -> None:
    """The last, for the check and for what is done: nobody is charged whom the answer does not name."""
    other = seed.person(ada.plan)
    body = f'{{"amount":1,"key":"twice","user":"{other.id}","user":"{ada.id}"}}'.encode()
    refused = shop.ask("POST", CONSUME, body, JSON | {"authorization": f"Bearer {other.token}"})
    assert code(refused) == (403, "forbidden")
    found = shop.foreign.execute(
        "SELECT DISTINCT spender FROM quota_ledger WHERE spender IN (?, ?)", ada.doc, other.doc
    )
    assert found == []


def test_a_form_that_is_hostile(shop: Deployment, ada: Person) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for body in (b"", b"token=", b"token=%00", b"token=%ff%fe", b"token=" + b"x" * 60_000, b"&" * 5_000, b"token"):
        answer = shop.ask("POST", "/oauth/introspect", body, form)
        assert answer.status in (400, 422) or answer.json() == {"active": False}, (body[:20], answer)
    twice = shop.ask("POST", "/oauth/introspect", f"token=x&token={ada.token}".encode(), form)
    assert twice.status in (400, 422), "of two tokens none is meant (RFC 6749 §3.2)"


# --- what an instance may not ---


ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/users", None), ("GET", "/instances", None), ("GET", "/audit", None), ("GET", "/plans", None),
    ("GET", "/api/identity", None), ("GET", "/api/document", None), ("GET", "/api/explain", None),
    ("POST", "/users", {"id": "u_made", "name": "x"}), ("POST", "/instances", {"id": "i_made", "name": "x"}),
    ("POST", "/instances/{id}/keys", {}), ("PATCH", "/instances/{id}", {"networks": []}),
    ("DELETE", "/instances/{id}", None),
    ("DELETE", "/users/{user}", None), ("PATCH", "/users/{user}", {"is_admin": True}),
    ("POST", "/auth/tokens", {"name": "x"}), ("GET", "/auth/tokens", None), ("GET", "/auth/sessions", None),
    ("POST", "/auth/ticket", None), ("POST", "/auth/password", {"old_password": "x", "new_password": "y"}),
    ("POST", "/admin/revoke-before", {"before": "2030-01-01T00:00:00.000Z"}),
]  # fmt: skip


def counted(shop: Deployment) -> list[tuple[Any, ...]]:
    """What the routes could have made, changed or ended."""
    tables = ("users", "instances", "instance_keys", "api_tokens", "login_sessions", "audit", "change_log")
    return shop.foreign.execute("SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables))


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=lambda value: str(value)[:40])
def test_an_instance_is_neither_a_user_nor_an_administrator(
    shop: Deployment, ada: Person, method: str, path: str, body: Any
) -> None:
    before = counted(shop)
    content = b"" if body is None else json.dumps(body).encode()
    answer = shop.ask(method, path.format(id=shop.id, user=ada.id), content, JSON if content else {})
    assert answer.status in (401, 404, 405), answer
    assert counted(shop) == before


async def test_users_see_nothing_of_an_instances_channel(
    shop: Deployment, ada: Person, seed: Seed, connect: Connect
) -> None:
    """Not even an administrator on the channel, and not in the handshake."""
    for person in (ada, seed.person(is_admin=1)):
        client = await connect(person.token, watch=["self", shop.doc, "revocations", "keys"])
        await client.until(lambda client=client: client.own in client.replica.confirmed)  # type: ignore[misc]
        await client.barrier()
        refused = {message["doc"]: message["code"] for message in client.messages("error")}
        assert refused == dict.fromkeys((shop.doc, "revocations", "keys"), "not_found")
        for doc in (shop.doc, "revocations", "keys"):
            assert (await client.request("sync", doc=doc))["op"] == "error"


async def test_an_instance_takes_nothing_on_its_channel(shop: Deployment, ada: Person, connect: Connect) -> None:
    client = await shop.connect(connect, [ada.doc])
    for op, fields in (
        ("consume", {"quota": "calls", "amount": 1, "key": "k", "user": ada.id}),
        ("reserve", {"quota": "calls", "amount": 1, "lease": "l", "ttl_s": 60, "user": ada.id}),
        ("extend", {"quota": "calls", "lease": "l", "ttl_s": 60}),
        ("commit", {"quota": "calls", "lease": "l", "amount": 1}),
        ("release", {"quota": "calls", "lease": "l"}),
    ):
        answer = await client.request(op, **fields)
        assert (answer["op"], answer["code"]) in (("error", "forbidden"), ("error", "unknown_op")), (op, answer)
    assert shop.foreign.execute("SELECT count(*) FROM quota_ledger WHERE spender = ?", ada.doc) == [(0,)]


# --- addresses ---


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Listens on all addresses of both kinds: one who comes by IPv4 has a mapped address."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            missing("this machine has no IPv6")
    directory: Path = tmp_path_factory.mktemp("double")
    with GatewayProcess(directory, server_host="::", server_trusted_proxies="::1/128") as process:
        yield process
    process.check_log()


@pytest.fixture(scope="module")
def there(double: GatewayProcess) -> Iterator[ForeignWriter]:
    with double.foreign_writer() as writer:
        yield writer


@pytest.mark.parametrize(
    ("networks", "ip", "forwarded", "status"),
    [
        (["127.0.0.0/8"], "127.0.0.1", None, 200),
        (["::ffff:127.0.0.0/104"], "127.0.0.1", None, 200),
        (["::1"], "127.0.0.1", None, 403),
        (["127.0.0.0/8"], "::1", None, 403),
        (["::1"], "::1", None, 200),
        # Who is nobody's proxy says nothing of addresses; the proxy does, but what a client wrote before it does not.
        (["10.0.0.0/8"], "127.0.0.1", "10.1.2.3", 403),
        (["10.0.0.0/8"], "::1", "10.1.2.3", 200),
        (["10.0.0.0/8"], "::1", "::ffff:10.1.2.3", 200),
        (["10.0.0.0/8"], "::1", "10.1.2.3, 203.0.113.9", 403),
        (["203.0.113.9"], "::1", "10.1.2.3, 203.0.113.9", 200),
        (["10.0.0.0/8"], "::1", "10.1.2.3, nonsense", 403),
    ],
)
def test_where_a_request_comes_from(
    double: GatewayProcess, there: ForeignWriter, networks: list[str], ip: str, forwarded: str | None, status: int
) -> None:
    shop = Deployment(double, there, networks=json.dumps(networks))
    person = Seed(there, double.secrets).person()
    headers = shop.signed("GET", VALIDATE, headers={"authorization": f"Bearer {person.token}"})
    told = headers if forwarded is None else headers | {"x-forwarded-for": forwarded}
    answer = send_to(double.port, double.address, "GET", VALIDATE, b"", told.items(), ip=ip)
    assert answer.status == status, answer
    # From a foreign address no nonce is used up, so that who took it down has stopped nothing.
    assert there.execute("SELECT count(*) FROM nonces WHERE kid = ?", shop.key.kid) == [(int(status == 200),)]


def test_forwarding_fields_are_signed_by_nobody_and_change_nothing(shop: Deployment, ada: Person) -> None:
    headers = shop.signed("GET", VALIDATE, headers={"authorization": f"Bearer {ada.token}"})
    forged = {
        "forwarded": "for=10.0.0.1;host=evil.example;proto=https", "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "https", "x-original-url": "/users", "x-rewrite-url": "/users",
        "x-http-method-override": "DELETE",
    }  # fmt: skip
    answer = send(shop.gateway, "GET", VALIDATE, b"", (headers | forged).items())
    assert (answer.status, answer.json()["active"]) == (200, True)
