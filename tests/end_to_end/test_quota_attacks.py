"""What nobody gets by asking for it oddly: amounts, keys, other people's leases and pools, on the channel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.client import JSON, MESSAGEPACK, Client
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.http_spender import consume
from tests.support.quota_books import check_books, taken
from tests.support.seed import Person, Seed

SETTINGS = {"channel_messages_per_minute": 100_000}
MOST = 2**31
BAD_AMOUNTS: list[Any] = [
    *(-1, 0, MOST + 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 0.5, 1.5, 1e300, -1.0),
    *("1", "", "1e3", True, False, None, [1], {"amount": 1}, [], {}),
]
BAD_NAMES: list[Any] = ["", "x" * 129, "a\0b", "\n", "\x7f", "\x1b[2J", 1, 1.5, True, None, ["k"], {}]
BAD_TIMES: list[Any] = [0, -1, 0.5, 3600.5, 3601, 2**31, 2**63, 1e300, "60", True, None, [60]]
CODECS = [JSON, MESSAGEPACK]


@pytest.fixture
def person(seed: Seed) -> Person:
    """With units without end, and ten of another quota."""
    return seed.person(seed.plan(quotas={"units": (None, "year"), "few": (10, "year")}))


def sendable(value: Any, codec: str) -> bool:
    """MessagePack has no integers beyond 64 bits."""
    return codec == JSON or not isinstance(value, int) or -(2**63) <= value < 2**64


async def refused(client: Client, code: str, op: str, **fields: Any) -> dict[str, Any]:
    answer = await client.request(op, **fields)
    assert (answer["op"], answer.get("code")) == ("error", code), (op, fields, answer)
    return answer


def untouched(foreign: ForeignWriter, person: Person, *quotas: str) -> bool:
    return all(taken(foreign, person.doc, quota) == (0, 0) for quota in quotas)


COMMITTABLE = (2**31 + 1, 2**53 - 1)
"""A lease may hold more than one request asks for: it was extended."""


@pytest.mark.parametrize("codec", CODECS, ids=["json", "msgpack"])
async def test_amounts_keys_and_times_out_of_bounds(
    codec: str, person: Person, foreign: ForeignWriter, connect: Connect
) -> None:
    client = await connect(person.token, subprotocol=codec)
    for bad in BAD_AMOUNTS:
        if sendable(bad, codec):
            await refused(client, "bad_request", "consume", quota="units", amount=bad, key="k")
            await refused(client, "bad_request", "reserve", quota="units", amount=bad, ttl_s=60, lease="l")
            if bad != 0 or isinstance(bad, bool | float):
                await refused(client, "bad_request", "extend", lease="l", ttl_s=60, amount=bad, key="k")
                code = "lease_not_found" if bad in COMMITTABLE else "bad_request"
                await refused(client, code, "commit", lease="l", amount=bad)
    for bad in BAD_NAMES:
        await refused(client, "bad_request", "consume", quota="units", amount=1, key=bad)
        await refused(client, "bad_request", "reserve", quota="units", amount=1, ttl_s=60, lease=bad)
        if bad is not None:
            await refused(client, "bad_request", "extend", lease="l", ttl_s=60, amount=1, key=bad)
        await refused(client, "bad_request", "commit", lease=bad, amount=1)
        await refused(client, "bad_request", "release", lease=bad)
    for bad in BAD_TIMES:
        if sendable(bad, codec):
            await refused(client, "bad_request", "reserve", quota="units", amount=1, ttl_s=bad, lease="l")
            await refused(client, "bad_request", "extend", lease="l", ttl_s=bad)
    for missing in ("quota", "amount", "key"):
        fields = {"quota": "units", "amount": 1, "key": "k"}
        del fields[missing]
        await refused(client, "bad_request", "consume", **fields)
    assert untouched(foreign, person, "units")
    assert foreign.execute("SELECT count(*) FROM leases WHERE spender = ?", person.doc) == [(0,)]
    assert (await client.request("consume", quota="units", amount=MOST, key="x" * 128))["used"] == MOST
    assert (await client.request("consume", quota="units", amount=MOST, key="\u00e9\U0001f600 %'\";--"))[
        "used"
    ] == 2 * MOST
    check_books(foreign)


ODD = ['"amount":1e400', f'"amount":{"9" * 400}', '"amount":-0', '"amount":0x1', '"amount":NaN', '"amount":01']
ODD_KEYS = ['"amount":1,"key":"\\ud800"', '"amount":1,"key":"\\u0000"', '"amount":1,"key":"\\u001b"']


@pytest.mark.parametrize("part", [*(f'{amount},"key":"k"' for amount in ODD), *ODD_KEYS])
async def test_what_no_encoder_would_send(part: str, person: Person, foreign: ForeignWriter, connect: Connect) -> None:
    """It is refused, or no JSON to begin with."""
    client = await connect(person.token)
    await client.socket.send(f'{{"op":"consume","id":"odd","quota":"units",{part}}}')
    await client.until(lambda: client.messages(id="odd") or client.replica.ended)
    codes = [answer["code"] for answer in client.messages("error", id="odd") + client.messages("ended")]
    assert codes in (["bad_request"], ["bad_frame"])
    assert untouched(foreign, person, "units")


async def test_quotas_that_are_not_there(person: Person, foreign: ForeignWriter, connect: Connect) -> None:
    client = await connect(person.token)
    for quota in ("nope", "units ", "UNITS", "units'--", "*"):
        await refused(client, "not_found", "consume", quota=quota, amount=1, key="k")
    for quota in ("", "u\0", "x" * 10_000, 7, None):
        await refused(client, "bad_request", "consume", quota=quota, amount=1, key="k")
    assert untouched(foreign, person, "units")


async def test_of_a_field_that_comes_twice_the_last_counts(person: Person, connect: Connect) -> None:
    client = await connect(person.token)
    await client.socket.send('{"op":"consume","id":"twice","quota":"few","amount":100,"amount":2,"key":"k"}')
    assert (await client.message(id="twice"))["used"] == 2


async def test_a_balance_at_the_end_of_all_numbers(person: Person, foreign: ForeignWriter, connect: Connect) -> None:
    """What is used stays below 2^53 whatever the limit lets."""
    client = await connect(person.token)
    await client.request("consume", quota="units", amount=1, key="first")
    foreign.execute("UPDATE quota_usage SET used = ? WHERE owner = ? AND quota = 'units'", 2**53 - 3, person.doc)
    assert (await client.request("consume", quota="units", amount=2, key="last"))["used"] == 2**53 - 1
    await refused(client, "bad_request", "consume", quota="units", amount=1, key="one more")
    await refused(client, "bad_request", "reserve", quota="units", amount=1, ttl_s=60, lease="one more")
    assert taken(foreign, person.doc, "units") == (2**53 - 1, 0)
    await client.until(lambda: client.data["quotas"]["units"]["used"] == 2**53 - 1)
    foreign.execute("DELETE FROM quota_usage WHERE owner = ?", person.doc)
    check_books(foreign)


async def test_a_key_is_one_request(
    person: Person, seed: Seed, foreign: ForeignWriter, connect: Connect, gateway: GatewayProcess
) -> None:
    client, phone = await connect(person.token), await connect(person.token, subprotocol=MESSAGEPACK)
    first = await client.request("consume", quota="few", amount=3, key="k")
    again = await phone.request("consume", quota="few", amount=3, key="k")
    assert first | {"id": ""} == again | {"id": ""}
    for other in ({"amount": 4}, {"quota": "units"}, {"org": "nowhere"}):
        await refused(phone, "conflict", "consume", **({"quota": "few", "amount": 3, "key": "k"} | other))
    await client.request("reserve", quota="few", amount=2, ttl_s=60, lease="k")
    await refused(client, "conflict", "extend", lease="k", ttl_s=60, amount=3, key="k")
    added = await client.request("extend", lease="k", ttl_s=60, amount=1, key="e")
    assert (added["held"], added["reserved"], added["remaining"]) == (3, 3, 4)
    assert (await phone.request("extend", lease="k", ttl_s=60, amount=1, key="e"))["held"] == 3
    await refused(phone, "conflict", "extend", lease="k", ttl_s=60, amount=2, key="e")
    await refused(phone, "conflict", "consume", quota="few", amount=1, key="e")
    assert (await consume(gateway, person.token, "few", 3, "k")).json()["used"] == 3
    assert (await consume(gateway, person.token, "few", 1, "e")).status == 409
    stranger = await connect(seed.person(person.plan).token)
    assert (await stranger.request("consume", quota="few", amount=1, key="k"))["used"] == 1, "a key is its spender's"
    assert taken(foreign, person.doc, "few") == (3, 3)
    check_books(foreign)


async def test_a_refused_request_leaves_its_key_free(person: Person, foreign: ForeignWriter, connect: Connect) -> None:
    client = await connect(person.token)
    answer = await refused(client, "quota_exceeded", "consume", quota="few", amount=11, key="k")
    assert (answer["quota"], answer["remaining"]) == ("few", 10)
    answer = await refused(client, "quota_exceeded", "consume", quota="few", amount=MOST, key="k")
    assert (await client.request("consume", quota="few", amount=10, key="k"))["remaining"] == 0
    await refused(client, "quota_exceeded", "reserve", quota="few", amount=1, ttl_s=60, lease="l")
    await refused(client, "lease_not_found", "commit", lease="l", amount=0)


async def test_a_lease_is_settled_once_and_by_its_spender(
    person: Person, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    client = await connect(person.token)
    thief = await connect(seed.person(person.plan).token)
    for name in ("a", "b"):
        await client.request("reserve", quota="few", amount=4, ttl_s=60, lease=name)
    for op, fields in (
        ("extend", {"ttl_s": 60}),
        ("commit", {"amount": 0}),
        ("commit", {"amount": 4}),
        ("release", {}),
    ):
        theirs = await refused(thief, "lease_not_found", op, lease="a", **fields)
        nobodys = await refused(thief, "lease_not_found", op, lease="nope", **fields)
        assert theirs | {"id": ""} == nobodys | {"id": ""}, "there is nothing to be learnt"
    assert (await thief.request("reserve", quota="few", amount=9, ttl_s=60, lease="a"))["held"] == 9, (
        "a name of its own"
    )
    for amount in (5, 10, MOST):
        await refused(client, "bad_request", "commit", lease="a", amount=amount)
    done = await client.request("commit", lease="a", amount=3)
    assert (done["state"], done["committed"], done["used"], done["reserved"]) == ("committed", 3, 3, 4)
    again = await client.request("commit", lease="a", amount=3)
    assert (again["state"], again["committed"], again["used"]) == ("committed", 3, 3)
    for amount in (0, 2, 4, MOST):
        await refused(client, "conflict", "commit", lease="a", amount=amount)
    await refused(client, "conflict", "release", lease="a")
    await refused(client, "conflict", "extend", lease="a", ttl_s=60)
    await refused(client, "conflict", "reserve", quota="few", amount=4, ttl_s=60, lease="a")
    assert (await client.request("release", lease="b"))["state"] == "released"
    assert (await client.request("release", lease="b"))["state"] == "released"
    await refused(client, "conflict", "commit", lease="b", amount=0)
    await refused(client, "conflict", "extend", lease="b", ttl_s=60, amount=1, key="more")
    assert taken(foreign, person.doc, "few") == (3, 0)
    check_books(foreign)


class TestPools:
    """Whose pool it is not."""

    @pytest.fixture
    def pool(self, seed: Seed, person: Person) -> str:
        return seed.organization(seed.plan(quotas={"units": (100, "year")}), {person.id: "member"})

    async def test_others_see_no_difference_to_none(
        self, pool: str, seed: Seed, foreign: ForeignWriter, connect: Connect
    ) -> None:
        stranger = await connect(seed.person(seed.plan(["orgs.read", "orgs.write", "users.write"])).token)
        answers = [
            await refused(stranger, "not_found", op, quota=quota, amount=1, org=org, **fields)
            for op, fields in (("consume", {"key": "k"}), ("reserve", {"ttl_s": 60, "lease": "l"}))
            for org, quota in ((pool, "units"), (pool, "nope"), ("nope", "units"), (f"org:{pool}", "units"))
        ]
        assert len({json.dumps(answer | {"id": ""}, sort_keys=True) for answer in answers}) == 1
        assert taken(foreign, f"org:{pool}", "units") == (0, 0)

    async def test_a_member_who_was_removed_takes_nothing_more(
        self, pool: str, person: Person, foreign: ForeignWriter, connect: Connect
    ) -> None:
        client = await connect(person.token)
        held = await client.request("reserve", quota="units", amount=30, ttl_s=60, lease="l", org=pool)
        assert (held["org"], held["reserved"]) == (pool, 30)
        foreign.execute("DELETE FROM memberships WHERE user_id = ?", person.id)
        await refused(client, "not_found", "consume", quota="units", amount=1, key="k", org=pool)
        await refused(client, "not_found", "reserve", quota="units", amount=1, ttl_s=60, lease="m", org=pool)
        await refused(client, "not_found", "extend", lease="l", ttl_s=60, amount=1, key="k")
        await refused(client, "not_found", "extend", lease="l", ttl_s=3600)
        done = await client.request("commit", lease="l", amount=10)
        assert done["state"] == "committed", "what was used before is paid"
        assert taken(foreign, f"org:{pool}", "units") == (10, 0)
        check_books(foreign)

    async def test_a_closed_organization_gives_nothing(
        self, pool: str, person: Person, foreign: ForeignWriter, connect: Connect
    ) -> None:
        client = await connect(person.token)
        foreign.execute("UPDATE organizations SET status = 'disabled' WHERE id = ?", pool)
        await refused(client, "not_found", "consume", quota="units", amount=1, key="k", org=pool)


async def test_a_user_who_is_disabled_takes_nothing_more(
    person: Person, foreign: ForeignWriter, connect: Connect, gateway: GatewayProcess
) -> None:
    """From the commit that disables on, whether or not the gateway has ended the session yet."""
    client = await connect(person.token)
    assert (await client.request("consume", quota="few", amount=1, key="before"))["used"] == 1
    foreign.execute("UPDATE users SET status = 'disabled' WHERE id = ?", person.id)
    await client.send(op="consume", id="after", quota="few", amount=1, key="after")
    assert (await client.end())["code"] == "revoked"
    assert not client.messages("reply", id="after")
    assert (await consume(gateway, person.token, "few", 1, "after")).status == 401
    assert taken(foreign, person.doc, "few") == (1, 0)


async def test_a_narrowed_credential_spends_only_if_it_says_so(
    person: Person, seed: Seed, foreign: ForeignWriter, connect: Connect, gateway: GatewayProcess
) -> None:
    narrow = seed.token(person.id, scopes='{"permissions":["users.read"]}').text
    client = await connect(narrow)
    await refused(client, "forbidden", "consume", quota="few", amount=1, key="k")
    await refused(client, "forbidden", "reserve", quota="few", amount=1, ttl_s=60, lease="l")
    for op, fields in (("extend", {"ttl_s": 60}), ("commit", {"amount": 0}), ("release", {})):
        await refused(client, "forbidden", op, lease="l", **fields)
    assert (await consume(gateway, narrow, "few", 1, "k")).status == 403
    assert untouched(foreign, person, "few")
    spender = await connect(seed.token(person.id, scopes='{"permissions":["quotas.spend"]}').text)
    assert (await spender.request("consume", quota="few", amount=1, key="k"))["used"] == 1


async def test_before_the_session_there_is_nothing_to_spend(person: Person, connect: Connect) -> None:
    client = await connect()
    await client.send(op="consume", id="r", quota="few", amount=1, key="k")
    assert (await client.end())["code"] == "not_authenticated"
