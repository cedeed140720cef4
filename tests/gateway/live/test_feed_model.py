"""Whatever is written, whenever the clock moves and however slowly clients read: what they hold is what a plain model
of the data says, and they never saw anything else."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.document import canonical, revision
from gateway.errors import Unavailable
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate
from tests.support.document_model import Tables, canonical_bytes, organization_document, user_document
from tests.support.node_rig import START_MS, Peer, Rig
from tests.support.people import add_token, token_text
from tests.support.waiting import eventually
from tests.support.worlds import NOW, ORGANIZATIONS, USERS, World, changes, worlds

assert NOW == START_MS
DOCUMENTS = [f"user:{user}" for user in USERS] + [f"org:{organization}" for organization in ORGANIZATIONS]

steps = st.one_of(
    st.tuples(st.just("change"), st.lists(changes, min_size=1, max_size=3)),
    st.tuples(st.just("change"), st.lists(changes, min_size=1, max_size=1)),
    st.tuples(st.just("advance"), st.integers(1, 30 * 3600)),
    st.tuples(st.just("set the clock"), st.integers(-30 * 3600, 30 * 3600)),
    st.tuples(st.just("pause"), st.sampled_from(USERS)),
    st.tuples(st.just("resume"), st.sampled_from(USERS)),
    st.tuples(st.just("come back"), st.sampled_from(USERS)),
    st.tuples(st.just("fail"), st.integers(1, 9)),
    st.tuples(st.just("sweep"), st.none()),
)


class Course:
    """One run: three users, each with one session that watches everything it may."""

    def __init__(self, rig: Rig, world: World) -> None:
        self.rig = rig
        self.world = world
        self.peers: dict[str, Peer] = {}
        self.paused: set[str] = set()
        self.states: dict[str, set[str]] = {doc: set() for doc in DOCUMENTS}

    async def run(self, course: list[tuple[str, Any]]) -> None:
        for user in USERS:
            await self.come(user)
        await self.check()
        for kind, what in course:
            match kind:
                case "change":
                    for change in what:
                        self.world.change(*change)
                        self.note()
                case "advance":
                    self.rig.advance(what)
                case "set the clock":
                    self.rig.clock.set_wall(what * 1000)
                    self.rig.feed.clock_jumped()
                case "pause" if what in self.peers and what not in self.paused:
                    self.paused.add(what)
                    self.peers[what].pause()
                case "resume" if what in self.paused:
                    self.resume(what)
                case "come back":
                    await self.leave(what)
                    await self.come(what)
                case "fail":
                    self.fail_at(what)
                case "sweep":
                    self.rig.feed.sweep(self.rig.feed.to_sweep())
                    self.rig.feed.sweep_catalog()
            await self.check()
        for user in tuple(self.paused):
            self.resume(user)
        await self.check()
        for user in tuple(self.peers):
            await self.leave(user)
        self.rig.let_rested_go()
        assert self.rig.hub.entries == {}
        assert self.rig.hub.catalog.organizations == {}

    async def come(self, user: str) -> None:
        [(status,)] = self.world.execute("SELECT status FROM users WHERE id = ?", user)
        while status == "active" and user not in self.peers:
            with contextlib.suppress(Unavailable):
                self.peers[user] = await self.rig.connect(token_text(user), watch=DOCUMENTS, settle=False)

    async def leave(self, user: str) -> None:
        peer = self.peers.pop(user, None)
        self.paused.discard(user)
        if peer is not None:
            peer.hang_up()

    def resume(self, user: str) -> None:
        self.paused.discard(user)
        self.peers[user].resume()

    def fail_at(self, read: int) -> None:
        """The store fails once, some reads from now."""
        store = self.rig.store
        at = store.reads + read

        async def gate() -> None:
            await asyncio.sleep(0)
            store.broken = None
            if store.reads == at:
                store.fail()

        store.gate = gate

    # --- the oracle ---

    def note(self) -> None:
        """Remember what everything looks like after this commit."""
        tables, now = self.world.tables(), self.rig.clock.wall
        for doc in DOCUMENTS:
            for document in self.model(tables, doc, now):
                self.states[doc].add(revision(canonical_bytes(document)))

    def model(self, tables: Tables, doc: str, now: int) -> list[dict[str, Any]]:
        """The document, of an organization both forms of it: whole, and without the members."""
        kind, _, id = doc.partition(":")
        if kind == "user":
            return [user_document(tables, id, now) or {}]
        return [organization_document(tables, id, now, members=members) or {} for members in (True, False)]

    def may_see(self, tables: Tables, user: str, doc: str) -> list[dict[str, Any]]:
        """What of a document a user may see: nothing, or one form of it."""
        now = self.rig.clock.wall
        own, forms = self.model(tables, f"user:{user}", now)[0], self.model(tables, doc, now)
        kind, _, id = doc.partition(":")
        if kind == "user":
            allowed = id == user or own["identity"]["is_admin"] or "users.read" in own["permissions"]
            return forms if allowed else []
        if own["identity"]["is_admin"] or "orgs.read" in own["permissions"]:
            return forms[:1]
        membership = own["organizations"].get(id)
        if membership is None:
            return []
        return forms[:1] if "manage_members" in membership["permissions"] else forms[1:]

    async def check(self) -> None:
        """Settle, and compare what everybody holds."""
        seq = await last_seq(self.rig.database)
        feed, hub = self.rig.feed, self.rig.hub

        def settled() -> bool:
            feed.clock_moved(self.rig.clock.wall)
            return feed.position >= seq and not (hub.work or hub.work.pacing or hub.work.taken) and not feed.stale

        await eventually(settled, every_s=0.0005)
        self.note()
        tables = self.world.tables()
        for user, peer in tuple(self.peers.items()):
            for message in peer.take():
                assert message["op"] != "error" or message["code"] == "not_found"
            for doc, history in peer.history.items():
                assert {revision(canonical(state)) for state in history} <= self.states[doc], (user, doc)
            peer.history.clear()
            [row] = [row for row in tables["users"] if row["id"] == user]
            if row["status"] != "active":
                assert peer.ended == "revoked"
                await self.leave(user)
            elif user not in self.paused:
                assert peer.ended is None
                self.compare(tables, user, peer)
        for user, peer in self.peers.items():
            if user not in self.paused:
                peer.say(op="watch", id="again", docs=[f"{doc}@{peer.revs.get(doc, '0' * 16)}" for doc in DOCUMENTS])
        await self.rig.settle(lambda: not feed.stale)
        for user, peer in self.peers.items():
            if user not in self.paused:
                self.told_again(peer)
                for doc in DOCUMENTS:
                    held = [peer.documents[doc]] if doc in peer.documents else []
                    assert held == self.may_see(tables, user, doc), (user, doc)

    def compare(self, tables: Tables, user: str, peer: Peer) -> None:
        """What is held is allowed and right; the own document is always held."""
        assert f"user:{user}" in peer.documents
        for doc, document in peer.documents.items():
            assert [document] == self.may_see(tables, user, doc), (user, doc)

    def told_again(self, peer: Peer) -> None:
        """What was held was right: it is confirmed, and not sent again."""
        held = dict(peer.revs)
        for message in peer.take():
            if message["op"] in ("snapshot", "update"):
                assert message["doc"] not in held, "sent again although it was held"
            else:
                assert message["op"] in ("current", "reply", "error", "status"), message


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "gateway.db"

    async def create() -> None:
        async with await Database.open(str(path)) as database:
            await migrate(database)

    asyncio.run(create())
    return path


@settings(max_examples=40)
@given(tables=worlds, course=st.lists(steps, min_size=1, max_size=8))
def test_clients_hold_what_the_database_gives(file: Path, tables: Tables, course: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        world = World(file)
        try:
            world.fill(tables)
            async with await Database.open(str(file)) as database:
                await database.write(
                    Statement("UPDATE users SET status = 'active' WHERE id = 'u1'"),
                    *(add_token(user, token_text(user)) for user in USERS),
                )
                async with Rig(database) as rig:
                    await Course(rig, world).run(course)
        finally:
            world.close()

    asyncio.run(run())
