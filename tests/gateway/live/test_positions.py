"""`seq` says up to where a document is exact, also when nothing in it changed: who waits for a write can be told."""

from __future__ import annotations

import asyncio

from gateway.store.database import Statement
from tests.support.node_rig import Rig
from tests.support.people import run, token_text
from tests.support.waiting import eventually

ADA, BOB, ROOT = (token_text(name) for name in ("ada", "bob", "root"))


async def test_a_document_that_is_sent_again_is_exact_up_to_the_last_commit(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    seq = await run(rig.database, "UPDATE users SET name = 'B' WHERE id = 'bob'")
    await rig.settle()
    assert ada.take() == []
    ada.say(op="sync", id="1", doc="self")
    reply, snapshot = ada.take()
    assert (reply["op"], snapshot["op"], snapshot["seq"]) == ("reply", "snapshot", seq)


async def test_a_revision_is_confirmed_up_to_the_last_commit(rig: Rig) -> None:
    ada = await rig.connect(ADA, watch=["self", "org:acme"])
    revs = {message["doc"]: message["rev"] for message in ada.take() if message["op"] == "snapshot"}
    seq = await run(rig.database, "UPDATE users SET name = 'B' WHERE id = 'bob'")
    await rig.settle()
    ada.say(op="watch", id="1", docs=[f"{doc}@{rev}" for doc, rev in revs.items()])
    *confirmed, reply = ada.take()
    assert [(message["op"], message["seq"]) for message in confirmed] == [("current", seq), ("current", seq)]
    assert reply["docs"] == ["user:ada", "org:acme"]


async def test_a_document_read_without_a_session_is_exact_up_to_the_last_commit(rig: Rig) -> None:
    await rig.connect(ADA)
    seq = await run(rig.database, "UPDATE users SET name = 'B' WHERE id = 'bob'")
    await rig.settle()
    publication = (await rig.node.user("ada")).publication
    assert publication is not None
    assert publication.seq == seq


async def test_nothing_is_confirmed_while_its_change_is_on_its_way(rig: Rig) -> None:
    """A round that was interrupted has read the log, and not the document yet."""
    ada = await rig.connect(ADA)
    [*_, first] = ada.take()
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        if rig.hub.work.taken:
            reading.set()
            await go_on.wait()

    rig.store.gate = gate
    await rig.database.write(
        Statement("UPDATE users SET name = 'Ada L' WHERE id = 'ada'"),
        Statement("UPDATE users SET name = 'B' WHERE id = 'bob'"),
    )
    async with asyncio.timeout(10):
        await reading.wait()
    ada.say(op="sync", id="1", doc="self")
    [_, snapshot] = ada.take()
    assert (snapshot["rev"], snapshot["seq"]) == (first["rev"], first["seq"])
    go_on.set()
    await rig.settle()
    assert ada.one("update")["seq"] == rig.feed.position > first["seq"]


async def test_what_waits_for_a_later_round_is_not_confirmed(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    [*_, first] = ada.take()
    rig.store.fail()
    await rig.database.write(Statement("UPDATE users SET name = 'Ada L' WHERE id = 'ada'"))
    await eventually(lambda: rig.feed.stale)
    ada.take()
    ada.say(op="sync", id="1", doc="self")
    [_, snapshot] = ada.take()
    assert (snapshot["rev"], snapshot["seq"]) == (first["rev"], first["seq"])
