"""The whole conversation in MessagePack: the same documents, revisions and ends."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.client import MESSAGEPACK
from tests.support.foreign_writer import ForeignWriter
from tests.support.oracle import user_document
from tests.support.seed import Seed

pytestmark = pytest.mark.storages("file", "server", "websocket")

ATTRIBUTES = """{"text":"ключ \U0001f600","float":1.5,"tiny":5e-324,"int":9007199254740991,
"negative":-9007199254740991,"zero":-0.0,"list":[1,[],{}],"deep":{"a":{"b":{"c":true}}},"empty":""}"""


async def test_documents_are_the_same_in_both_encodings(seed: Seed, foreign: ForeignWriter, connect: Connect) -> None:
    plan = seed.plan(["can_use_voice"], {"minutes": (500, "month"), "messages": (None, "day")})
    person = seed.person(plan)
    packed = await connect(person.token, subprotocol=MESSAGEPACK)
    plain = await connect(person.token)
    await packed.until(lambda: packed.data)
    foreign.execute("UPDATE users SET attributes = ? WHERE id = ?", ATTRIBUTES, person.id)
    foreign.execute("INSERT INTO user_permissions(user_id, permission) VALUES (?, 'can_fly')", person.id)
    expected = user_document(foreign, person.id)
    for client in (packed, plain):
        await client.until(lambda client=client: client.held == expected)
    assert packed.messages("update")


async def test_requests_resume_and_ends(seed: Seed, foreign: ForeignWriter, connect: Connect) -> None:
    person = seed.person()
    client = await connect(person.token, by="message", subprotocol=MESSAGEPACK)
    await client.until(lambda: client.data)
    assert (await client.request("ping", t=1.5))["t"] == 1.5
    assert (await client.request("watch", docs=["user:nobody"]))["code"] == "not_found"
    assert (await client.request("unheard"))["code"] == "unknown_op"
    assert (await client.request("sync", doc="self"))["doc"] == person.doc
    client.cut()
    back = await connect(person.token, held=client.replica.documents, subprotocol=MESSAGEPACK)
    await back.until(lambda: back.data)
    assert back.messages("current")
    foreign.execute("DELETE FROM users WHERE id = ?", person.id)
    ended = await back.end()
    assert (ended["code"], back.replica.close_code) == ("revoked", 4500)
