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
