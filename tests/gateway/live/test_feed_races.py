"""What happens between any two reads of a round: sessions that come, go, watch and stop, other commits, the sweep.

A database of this machine answers at once; one across a network does not. The oracle is a second node that was just
started on the same file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.store.database import Database, Statement
from tests.support.node_rig import START_MS, Peer, Rig
from tests.support.people import add_token, add_user, insert, run, token_text
from tests.support.waiting import eventually

ADA, BOB, EVE, ROOT = (token_text(name) for name in ("ada", "bob", "eve", "root"))
EVERYTHING = ["self", "user:ada", "user:bob", "user:eve", "org:acme"]


class Scene:
    """Ada, Bob and Root are connected; Eve is not. One round is under way when `event` happens."""

    def __init__(self, rig: Rig, ada: Peer, bob: Peer, root: Peer) -> None:
        self.rig, self.ada, self.bob, self.root = rig, ada, bob, root
        self.peers = {ADA: ada, BOB: bob, ROOT: root}

    async def come(self, token: str, watch: list[str]) -> None:
        self.peers[token] = await self.rig.connect(token, watch=watch, settle=False)

    def go(self, token: str) -> None:
        self.peers.pop(token).hang_up()


Event = Callable[[Scene], Awaitable[None]]


async def others_leave(scene: Scene) -> None:
    """The only sessions that held the organization in the node's memory."""
    scene.go(ADA)
    scene.go(BOB)


async def root_leaves(scene: Scene) -> None:
    scene.go(ROOT)


async def ada_comes_back(scene: Scene) -> None:
    scene.go(ADA)
    await scene.come(ADA, EVERYTHING)


async def eve_comes(scene: Scene) -> None:
    await scene.come(EVE, EVERYTHING)


async def root_asks(scene: Scene) -> None:
    scene.root.say(op="unwatch", id="1", docs=["org:acme", "user:ada"])
    scene.root.say(op="watch", id="2", docs=["org:acme", "user:ada", "user:eve"])


async def somebody_writes(scene: Scene) -> None:
    await run(scene.rig.database, "UPDATE organizations SET name = name || '!'")
    await run(scene.rig.database, "UPDATE users SET plan = 'pro', name = name || '!' WHERE id IN ('ada', 'eve')")


async def rights_change(scene: Scene) -> None:
    await scene.rig.database.write(
        Statement("DELETE FROM memberships WHERE user_id = 'bob'"),
        Statement("UPDATE memberships SET role = 'member' WHERE user_id = 'ada'"),
        Statement("UPDATE users SET is_admin = 1 - is_admin WHERE id IN ('ada', 'root')"),
    )


async def everything_is_swept(scene: Scene) -> None:
    scene.rig.feed.sweep(scene.rig.feed.to_sweep())
    scene.rig.feed.sweep_catalog()


async def the_clock_is_set(scene: Scene) -> None:
    scene.rig.clock.set_wall(-3_700_000)
    scene.rig.feed.clock_jumped()


async def the_clock_moves(scene: Scene) -> None:
    scene.rig.advance(3_700)


async def a_token_is_revoked_and_the_sweep_looks(scene: Scene) -> None:
    await run(scene.rig.database, "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_bob'")
    scene.rig.feed.sweep(scene.rig.feed.to_sweep())


EVENTS: list[Event] = [
    others_leave,
    root_leaves,
    ada_comes_back,
    eve_comes,
    root_asks,
    somebody_writes,
    rights_change,
    everything_is_swept,
    the_clock_is_set,
    the_clock_moves,
    a_token_is_revoked_and_the_sweep_looks,
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
async def test_whatever_happens_between_two_reads(cast: Database, event: Event) -> None:
    await cast.write(
        insert("user_roles", user_id="eve", role="r1"),
        insert("memberships", org_id="acme", user_id="eve", role="member"),
        insert("user_permissions", user_id="ada", permission="x", expires_at=START_MS + 3_600_000),
    )
    for read in range(1, 12):
        async with Rig(cast) as rig:
            peers = [await rig.connect(token, watch=EVERYTHING, settle=False) for token in (ADA, BOB, ROOT)]
            await rig.settle()
            scene = Scene(rig, *peers)
            happened = at_read(scene, read, event)
            await cast.write(
                Statement("UPDATE users SET name = name || 'x' WHERE id IN ('ada', 'root')"),
                Statement("UPDATE organizations SET attributes = json_set(attributes, '$.n', ?)", (read,)),
                Statement("UPDATE plan_quotas SET limit_value = ? WHERE plan = 'pro'", (100 + read,)),
            )
            await rig.settle()
            if rig.store.gate is not None:
                await rig.store.gate(read)
            await happened.wait()
            await caught_up(rig)
            await compare_with_a_new_node(cast, scene)


def at_read(scene: Scene, read: int, event: Event) -> asyncio.Event:
    """Let it happen before the store answers so many reads from now; what is returned is set when it has happened."""
    store, happened, left = scene.rig.store, asyncio.Event(), read

    async def gate(reads: int = 1) -> None:
        nonlocal left
        left -= reads
        if left <= 0:
            store.gate = None
            await event(scene)
            happened.set()

    store.gate = gate
    return happened


async def caught_up(rig: Rig) -> None:
    def nothing_due() -> bool:
        rig.feed.clock_moved(rig.clock.wall)
        return not rig.hub.work

    await rig.settle(nothing_due)


async def compare_with_a_new_node(database: Database, scene: Scene) -> None:
    async with Rig(database) as fresh:
        fresh.clock.set_wall(scene.rig.clock.wall - fresh.clock.wall)
        for token, peer in scene.peers.items():
            peer.take()
            [[(revoked,)]] = await database.read(
                Statement("SELECT revoked_at FROM api_tokens WHERE id = ?", (peer_token(token),))
            )
            if revoked is not None:
                assert peer.ended == "revoked"
                continue
            assert peer.ended is None
            reference = await fresh.connect(token, watch=EVERYTHING)
            reference.take()
            for doc, document in peer.documents.items():
                assert document == reference.documents.get(doc), doc
            principal = peer.connection.session.principal
            assert principal is not None
            assert principal.document in peer.documents
            peer.say(op="watch", id="last", docs=EVERYTHING)
        await caught_up(scene.rig)
        for token, peer in scene.peers.items():
            if peer.ended is None:
                peer.take()
                reference = await fresh.connect(token, watch=EVERYTHING)
                reference.take()
                assert peer.documents == reference.documents
    await undo(database)


def peer_token(token: str) -> str:
    return {ADA: "t_ada", BOB: "t_bob", EVE: "t_eve", ROOT: "t_root"}[token]


async def undo(database: Database) -> None:
    """As it was before, for the next round."""
    await database.write(
        Statement("DELETE FROM memberships"),
        *(
            insert("memberships", org_id="acme", user_id=user, role=role)
            for user, role in (("ada", "owner"), ("bob", "member"), ("eve", "member"))
        ),
        Statement("UPDATE api_tokens SET revoked_at = NULL"),
        Statement("UPDATE users SET is_admin = (id = 'root'), plan = iif(id = 'eve', 'pro', 'free'), name = ''"),
        Statement("UPDATE organizations SET name = 'Acme'"),
    )


async def test_an_organization_that_is_watched_while_it_is_read_for_others_is_whole(rig: Rig) -> None:
    """Read for its members' documents, it comes without the member list: that is not its document."""
    for read in range(1, 9):
        ada = await rig.connect(ADA)
        root = await rig.connect(ROOT)

        async def watch(scene: Scene, root: Peer = root) -> None:
            root.say(op="watch", id="1", docs=["org:acme"])

        happened = at_read(Scene(rig, ada, ada, root), read, watch)
        await rig.run("UPDATE organizations SET name = name || 'x'")
        if rig.store.gate is not None:
            await rig.store.gate(read)
        await happened.wait()
        await rig.settle()
        root.take()
        for state in root.history["org:acme"]:
            assert state["members"].keys() == {"ada", "bob"}
        ada.hang_up()
        root.hang_up()


async def test_an_organization_that_others_let_go_of_is_read_again(rig: Rig) -> None:
    """Eve is a member of two: one that the node knows until the others leave, one that it has to read."""
    await rig.write(
        insert("organizations", id="beta", name="Beta", plan="free"),
        insert("memberships", org_id="beta", user_id="eve", role="member"),
        insert("memberships", org_id="acme", user_id="eve", role="member"),
    )
    for read in range(1, 12):
        ada = await rig.connect(ADA)

        async def leave(scene: Scene) -> None:
            scene.ada.hang_up()

        happened = at_read(Scene(rig, ada, ada, ada), read, leave)
        eve = await rig.connect(EVE)
        if rig.store.gate is not None:
            await rig.store.gate(read)
        await happened.wait()
        await rig.settle()
        eve.take()
        for state in eve.history["user:eve"]:
            assert state["organizations"].keys() == {"acme", "beta"}
        eve.hang_up()


async def test_a_session_that_begins_while_its_user_is_read_gets_the_newest_state(rig: Rig) -> None:
    """Joined first, loaded then: whatever is committed after the join is not missed."""
    ada: list[Peer] = []
    reads = 0

    async def gate() -> None:
        nonlocal reads
        reads += 1
        if reads == 2:
            await run(rig.database, "UPDATE users SET name = 'During' WHERE id = 'ada'")

    rig.store.gate = gate
    ada.append(await rig.connect(ADA, settle=False))
    await eventually(lambda: reads > 4)
    await rig.settle()
    ada[0].take()
    assert ada[0].documents["user:ada"]["identity"]["name"] == "During"


async def test_who_is_created_and_connects_within_a_round_is_not_taken_for_deleted(rig: Rig) -> None:
    """The round's moment is older than the user: what it does not see is no revocation."""
    for read in range(1, 8):
        user, joined = f"new{read}", list[Peer]()

        async def arrive(scene: Scene, user: str = user, joined: list[Peer] = joined) -> None:
            await scene.rig.database.write(add_user(user), add_token(user, token_text(user)))
            joined.append(await scene.rig.connect(token_text(user), settle=False))

        await arrives_within_a_round(rig, read, arrive)
        joined[0].take()
        assert joined[0].ended is None
        assert joined[0].documents.keys() == {f"user:{user}"}


async def test_who_is_enabled_and_connects_within_a_round_is_not_taken_for_disabled(rig: Rig) -> None:
    root = await rig.connect(ROOT, watch=["self", "user:ada"])
    for read in range(1, 8):
        await rig.run("UPDATE users SET status = 'disabled' WHERE id = 'ada'")
        joined = list[Peer]()

        async def arrive(scene: Scene, joined: list[Peer] = joined) -> None:
            await scene.rig.database.write(Statement("UPDATE users SET status = 'active' WHERE id = 'ada'"))
            joined.append(await scene.rig.connect(ADA, settle=False))
            scene.rig.feed.sweep(["user:ada"])

        await arrives_within_a_round(rig, read, arrive)
        joined[0].take()
        assert joined[0].ended is None
        assert joined[0].documents["user:ada"]["identity"]["status"] == "active"
        joined[0].hang_up()
    root.take()
    assert root.documents["user:ada"]["identity"]["status"] == "active"


async def test_a_token_that_is_given_to_another_and_shown_within_a_round_is_good(rig: Rig) -> None:
    """The round sees it as it was: that is neither a revocation, nor the other one's document."""
    for read in range(1, 8):
        joined = list[Peer]()
        await rig.run("UPDATE api_tokens SET user_id = 'ada' WHERE id = 't_ada'")

        async def arrive(scene: Scene, joined: list[Peer] = joined) -> None:
            await scene.rig.database.write(Statement("UPDATE api_tokens SET user_id = 'eve' WHERE id = 't_ada'"))
            joined.append(await scene.rig.connect(ADA, settle=False))
            scene.rig.feed.sweep(["user:eve"])

        await arrives_within_a_round(rig, read, arrive)
        joined[0].take()
        assert joined[0].ended is None
        assert joined[0].documents.keys() == {"user:eve"}
        joined[0].hang_up()


async def arrives_within_a_round(rig: Rig, read: int, arrive: Event) -> None:
    """Before the given read of a round that other changes keep busy, or after it where it has fewer."""
    root = await rig.connect(ROOT)
    happened = at_read(Scene(rig, root, root, root), read, arrive)
    # The round reads what is revoked and the plans, in its own moment, before it takes users from the list.
    await rig.write(
        Statement("UPDATE plan_quotas SET limit_value = limit_value + 1 WHERE plan = 'pro'"),
        Statement("UPDATE api_tokens SET scopes = json_object('n', ?) WHERE id = 't_bob'", (read,)),
    )
    if rig.store.gate is not None:
        await rig.store.gate(read)
    await happened.wait()
    await rig.settle()
    root.hang_up()
