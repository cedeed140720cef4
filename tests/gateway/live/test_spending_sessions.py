"""Quotas that are spent over the channel."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store.database import Database
from tests.support.node_rig import Rig
from tests.support.people import add_plan, add_token, add_user, token_text

ADA = token_text("ada")


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[Rig]:
    await database.write(*add_plan("free", voice_minutes=500), add_user("ada"), add_token("ada", ADA))
    async with Rig(database) as rig:
        yield rig


async def test_a_consume_is_answered_with_the_balance_and_seen_in_the_document(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.say(op="consume", id="1", quota="voice_minutes", amount=3, key="k1")
    await rig.settle()
    messages = {message["op"]: message for message in ada.take()}
    assert messages["reply"] == {
        "op": "reply",
        "id": "1",
        "quota": "voice_minutes",
        "limit": 500,
        "used": 3,
        "reserved": 0,
        "remaining": 497,
        "period": "month",
        "hard": True,
        "resets_at": "2026-12-01T00:00:00.000Z",
        "level": "ok",
        "seq": messages["update"]["seq"],
    }
    assert ada.documents["user:ada"]["quotas"]["voice_minutes"]["used"] == 3


async def test_what_is_asked_of_a_lease_in_one_breath_is_done_in_that_order(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.say(op="reserve", id="1", lease="call", quota="voice_minutes", amount=5, ttl_s=60)
    ada.say(op="extend", id="2", lease="call", ttl_s=120, amount=2, key="more")
    ada.say(op="commit", id="3", lease="call", amount=4)
    await rig.settle()
    reserved, extended, committed = (message for message in ada.take() if message["op"] == "reply")
    assert (reserved["id"], reserved["held"], reserved["reserved"], reserved["state"]) == ("1", 5, 5, "open")
    assert reserved["expires_at"] == "2026-11-21T19:11:00.000Z"
    assert (extended["id"], extended["held"], extended["reserved"]) == ("2", 7, 7)
    assert extended["expires_at"] == "2026-11-21T19:12:00.000Z"
    assert committed == {
        "op": "reply",
        "id": "3",
        "lease": "call",
        "state": "committed",
        "held": 7,
        "committed": 4,
        "expires_at": "2026-11-21T19:12:00.000Z",
        "quota": "voice_minutes",
        "limit": 500,
        "used": 4,
        "reserved": 0,
        "remaining": 496,
        "period": "month",
        "hard": True,
        "resets_at": "2026-12-01T00:00:00.000Z",
        "level": "ok",
        "seq": committed["seq"],
    }
    assert reserved["seq"] < extended["seq"] < committed["seq"]
