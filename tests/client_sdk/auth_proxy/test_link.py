"""What an instance's channel watches and drops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from client_sdk.auth_proxy.link import Link
from client_sdk.instance_key import InstanceKeys
from tests.client_sdk.support.scripted_gateway import KEY, ScriptedGateway, user_document
from tests.client_sdk.support.scripted_server import Peer
from tests.support.waiting import eventually

NAMES = [f"user:u_{number}" for number in range(6)]


class Forgetful(ScriptedGateway):
    """It answers no request to drop documents before `forget` is set, and refuses as many as `refused` says."""

    def __init__(self) -> None:
        super().__init__()
        self.documents |= {name: user_document(name.removeprefix("user:")) for name in NAMES}
        self.forget = asyncio.Event()
        self.refused = 0
        self.late: set[asyncio.Task[None]] = set()

    async def _answer(self, peer: Peer, message: dict[str, Any]) -> None:
        if message["op"] != "unwatch":
            await super()._answer(peer, message)
        elif self.refused:
            self.refused -= 1
            refusal = {"op": "error", "code": "unavailable", "message": "Not now.", "id": message["id"]}
            await peer.send(refusal)
        else:
            self.late.add(asyncio.ensure_future(self._answer_late(peer, message)))

    async def _answer_late(self, peer: Peer, message: dict[str, Any]) -> None:
        await self.forget.wait()
        await super()._answer(peer, message)


def dropped(gateway: ScriptedGateway) -> list[str]:
    messages = [message for peer in gateway.peers for message in peer.received]
    return [doc for message in messages if message["op"] == "unwatch" for doc in message["docs"]]


@pytest.fixture
async def gateway() -> AsyncIterator[Forgetful]:
    async with Forgetful() as listening:
        yield listening


@pytest.fixture
async def link(gateway: Forgetful) -> AsyncIterator[Link]:
    link = Link(f"http://127.0.0.1:{gateway.port}", InstanceKeys(KEY))
    link.start()
    await link.first_word()
    await link.exact(NAMES[:3])
    yield link
    gateway.forget.set()
    await link.close()


async def test_nobody_waits_for_what_is_dropped(gateway: Forgetful, link: Link) -> None:
    link.unwant(NAMES[:1])
    await eventually(lambda: dropped(gateway) == NAMES[:1])
    await asyncio.wait_for(link.exact(NAMES[3:5]), 2.0)
    assert link.dropping == {NAMES[0]}
    assert not link.is_exact(NAMES[0])


async def test_a_document_is_watched_again_when_it_is_dropped(gateway: Forgetful, link: Link) -> None:
    """The answer to the one request would else be taken for that of the other."""
    link.unwant(NAMES[:1])
    await eventually(lambda: dropped(gateway) == NAMES[:1])
    assert not link.keep(NAMES[0])
    again = link.want(NAMES[0])
    await link.exact(NAMES[3:4])
    assert not again.done()
    gateway.forget.set()
    await asyncio.wait_for(again, 2.0)
    assert link.is_exact(NAMES[0])
    assert gateway.watched().count(NAMES[0]) == 2


async def test_what_could_not_be_dropped_is_dropped_with_what_comes_next(gateway: Forgetful, link: Link) -> None:
    gateway.refused = 1
    link.unwant(NAMES[:2])
    await eventually(lambda: not gateway.refused and not link.dropping)
    await asyncio.wait_for(link.exact(NAMES[3:4]), 2.0)
    gateway.forget.set()
    await eventually(lambda: sorted(dropped(gateway)) == sorted(NAMES[:2] * 2))
    assert gateway.watched() == NAMES[:4]


async def test_who_waits_for_a_document_that_is_dropped_hears_of_the_end(gateway: Forgetful, link: Link) -> None:
    link.unwant(NAMES[:1])
    await eventually(lambda: dropped(gateway) == NAMES[:1])
    again = link.want(NAMES[0])
    await link.close()
    assert again.exception() is not None
