"""Balances that wait are lost in no way: whoever comes, goes, watches or stops watching meanwhile, everybody holds what
is so in the end."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate
from tests.support.node_rig import Peer, Rig
from tests.support.people import add_plan, add_token, add_user, insert, run, token_text

NAMES = ("ada", "bob", "eve")
POOLS = ("acme", "beta")

a_session = st.tuples(st.sampled_from(NAMES), st.integers(0, 1))
steps = st.one_of(
    st.tuples(st.just("consume"), a_session, st.sampled_from([None, "acme", "acme", "beta"])),
    st.tuples(st.sampled_from(["watch", "unwatch", "sync"]), a_session, st.sampled_from(POOLS)),
    st.tuples(st.sampled_from(["come", "go", "stall", "read on"]), a_session, st.none()),
    st.tuples(st.sampled_from(["join", "leave", "read", "rename"]), a_session, st.sampled_from(POOLS)),
    st.tuples(st.just("sql"), a_session, st.sampled_from([None, "acme", "beta"])),
    st.tuples(st.just("pause"), st.none(), st.sampled_from([0.0, 0.001, 0.01, 0.06])),
)
ADA, BOB = ("ada", 0), ("bob", 0)
POOL_LEFT = [
    *[
        ("come", ADA, None),
        ("come", BOB, None),
        ("watch", BOB, "acme"),
        ("consume", ADA, "acme"),
        ("pause", None, 0.06),
    ],
    *[("consume", ADA, "acme"), ("pause", None, 0.01), ("unwatch", BOB, "acme")],
]


class Course:
    """Three users with up to two sessions each, all members of two organizations at first."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.peers: dict[tuple[str, int], Peer] = {}
        self.stalled: set[tuple[str, int]] = set()
        """Whose sockets take nothing."""
        self.number = 0

    async def step(self, kind: str, session: tuple[str, int] | None, what: Any) -> None:
        if kind == "pause" or session is None:
            await asyncio.sleep(what)
            return
        name = session[0]
        if kind in ("consume", "watch", "unwatch", "sync", "go"):
            if peer := self.peers.get(session):
                self.say(kind, peer, what)
            if kind == "go":
                self.peers.pop(session, None)
                self.stalled.discard(session)
        elif kind in ("stall", "read on"):
            self.stall(session, kind == "stall")
        elif kind == "come":
            if session not in self.peers:
                self.peers[session] = await self.rig.connect(token_text(name), settle=False)
        elif kind == "read":
            await self.rig.node.user(name)
        else:
            await self.change(kind, name, what)

    def stall(self, session: tuple[str, int], stalls: bool) -> None:
        peer = self.peers.get(session)
        if peer is not None and stalls is (session not in self.stalled):
            self.stalled ^= {session}
            (peer.pause if stalls else peer.resume)()

    def say(self, kind: str, peer: Peer, what: str | None) -> None:
        self.number += 1
        id = str(self.number)
        if kind == "consume":
            pool = {} if what is None else {"org": what}
            peer.say(op="consume", id=id, quota="minutes", amount=1, key=f"k{id}", **pool)
        elif kind == "go":
            peer.hang_up()
        elif kind == "sync":
            peer.say(op="sync", id=id, doc="self")
        else:
            peer.say(op=kind, id=id, docs=[f"org:{what}"])

    async def change(self, kind: str, name: str, what: str | None) -> None:
        database = self.rig.database
        if kind == "join":
            statement = "INSERT INTO memberships(org_id, user_id, role) VALUES (?, ?, 'member') ON CONFLICT DO NOTHING"
            await run(database, statement, what, name)
        elif kind == "leave":
            await run(database, "DELETE FROM memberships WHERE org_id = ? AND user_id = ?", what, name)
        elif kind == "rename":
            await run(database, "UPDATE users SET name = coalesce(name, '') || 'x' WHERE id = ?", name)
        else:
            owner = f"user:{name}" if what is None else f"org:{what}"
            await run(database, "UPDATE quota_usage SET used = used + 1 WHERE owner = ?", owner)

    async def check(self) -> None:
        """All hold what a node that has just begun reads, and every request to watch was answered."""
        await self.rig.settle()
        for session in tuple(self.stalled):
            self.stall(session, stalls=False)
        assert self.rig.feed.failures == self.rig.hub.counters.faults == 0
        async with Rig(self.rig.database, name="n2") as other:
            for (name, _), peer in self.peers.items():
                peer.take()
                assert peer.watches.open == {}
                entry = await other.node.user(name)
                assert entry.publication is not None
                assert peer.documents[f"user:{name}"] == entry.publication.document.data()


async def follow(course: list[tuple[str, Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with await Database.open(f"file:{folder}/gateway.db") as database:
            await migrate(database)
            await database.write(
                *add_plan("free", minutes=100_000),
                *add_plan("team", ["a"], minutes=100_000),
                *(add_user(name) for name in NAMES),
                *(add_token(name, token_text(name)) for name in NAMES),
                Statement("INSERT INTO org_role_permissions(role, permission) VALUES ('member', 'a')"),
                *(insert("organizations", id=pool, name=pool, plan="team") for pool in POOLS),
                *(insert("memberships", org_id=p, user_id=n, role="member") for n in NAMES for p in POOLS),
            )
            async with Rig(database, messages_per_minute=1_000_000) as rig:
                run = Course(rig)
                for step in course:
                    await run.step(*step)
                await run.check()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(POOL_LEFT)
@given(st.lists(steps, min_size=5, max_size=40))
def test_everybody_holds_what_is_so_in_the_end(course: list[tuple[str, Any, Any]]) -> None:
    asyncio.run(follow([("come", ADA, None), ("come", BOB, None), ("come", ("bob", 1), None), *course]))
