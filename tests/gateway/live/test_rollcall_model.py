"""Whatever a user's clients and the nodes do, and in whatever order the nodes get to their lists: in the end there are
no more sessions than may be, and none was ended that did not have to be.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from typing import NamedTuple

from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.live.rollcall import PATIENCE_S
from gateway.store.database import Database
from gateway.store.migrate import migrate
from tests.support.node_rig import Peer, Rig
from tests.support.people import add_plan, add_token, add_user, token_text

NODES = 3
MAXIMUM = 4
ADA = token_text("ada")


class Opened(NamedTuple):
    """A session, in the order in which they were opened."""

    rig: Rig
    peer: Peer


class World:
    """Nodes on one file, and the sessions of one user. `crowd` is how many newer ones each session had beside it, at
    the most: what may have ended it.
    """

    def __init__(self, rigs: list[Rig]) -> None:
        self.living = list(rigs)
        self.sessions: list[Opened] = []
        self.crowd: dict[Peer, int] = {}

    @property
    def open(self) -> list[Opened]:
        return [one for one in self.sessions if one.rig in self.living and one.peer.ended is None]

    def node(self, number: int) -> Rig:
        return self.living[number % len(self.living)]

    async def connect(self, number: int) -> None:
        for rig in self.living:
            rig.clock.advance(1)
        before, rig = self.open, self.node(number)
        for place, (_, peer) in enumerate(before):
            self.crowd[peer] = max(self.crowd[peer], len(before) - place)
        peer = await rig.connect(ADA, settle=False)
        self.crowd[peer] = 0
        self.sessions.append(Opened(rig, peer))

    async def hang_up(self, number: int) -> None:
        if self.open:
            one = self.open[number % len(self.open)]
            one.peer.hang_up()
            self.sessions.remove(one)
            await self.rest()

    async def kill(self, number: int) -> None:
        if len(self.living) > 1:
            self.living.remove(self.node(number))
            event("killed")

    async def turn(self, number: int) -> None:
        rig = self.node(number)
        await rig.settle()
        await rig.node.roll_call.turn()

    async def beat(self, number: int) -> None:
        await self.node(number).node.neighbours.beat()

    async def rest(self) -> None:
        """Everybody does what there is to do, until nothing is left."""
        for _ in range(8):
            for number, rig in enumerate(self.living):
                rig.clock.advance(PATIENCE_S)
                await self.turn(number)
                await self.beat(number)

    def check(self) -> None:
        for rig, peer in self.sessions:
            if rig in self.living and peer.ended is not None:
                assert peer.ended == "replaced"
                assert self.crowd[peer] >= MAXIMUM, "ended without need"
                event("replaced")


async def play(directory: str, actions: list[tuple[str, int]]) -> None:
    async with AsyncExitStack() as stack:
        rigs = []
        for number in range(NODES):
            database = await stack.enter_async_context(await Database.open(f"file:{directory}/gateway.db"))
            if number == 0:
                await migrate(database)
                await database.write(*add_plan("free"), add_user("ada"), add_token("ada", ADA))
            rig = Rig(database, name=f"n{number}", max_sessions_per_user=MAXIMUM)
            rigs.append(await stack.enter_async_context(rig))
        for rig in (*rigs, *rigs):
            await rig.node.neighbours.beat()
        world = World(rigs)
        for name, number in actions:
            await getattr(world, name)(number)
            world.check()
        await world.rest()
        world.check()
        assert len(world.open) <= MAXIMUM


ACTIONS = st.sampled_from(["connect", "connect", "connect", "turn", "turn", "beat", "hang_up", "kill"])


@settings(max_examples=30)
@given(st.lists(st.tuples(ACTIONS, st.integers(0, NODES - 1)), min_size=8, max_size=30))
def test_as_many_as_may_be_and_nobody_without_need(actions: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(directory, actions))
