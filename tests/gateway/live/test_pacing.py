"""When balances that move are shown: at once after a quiet time, else a document 20 times a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.spending import Order
from gateway.errors import Unavailable
from gateway.live.pacing import AT_ONCE, EVERY_S, QUIET_S, Pacing
from gateway.live.pending import PendingWork
from gateway.live.task import USAGE, Task, causes_of
from gateway.store.database import Database, Statement
from gateway.store.documents import Part
from gateway.store.spending import BUSY
from tests.support.node_rig import Peer, Rig
from tests.support.people import add_plan, add_token, add_user, insert, run, token_text
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.waiting import eventually

MOVED = Task(Part.USAGES, USAGE, 5)
ADA, BOB = token_text("ada"), token_text("bob")


class Shown:
    """A pacing on a loop whose time is moved by hand, and when it let go of what."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self.loop = loop
        self.busy = False
        self.pacing = Pacing(lambda doc, task: self.gone.append((loop.time(), doc, task)), lambda: self.busy)
        self.gone: list[tuple[float, str, Task]] = []

    def move(self, doc: str, task: Task = MOVED, pools: tuple[str, ...] = ()) -> bool:
        """A balance moves; True when it is shown at once."""
        at_once = not self.loop.inside(lambda: self.pacing.holds(doc, task, pools))
        if at_once:
            self.gone.append((self.loop.time(), doc, task))
        return at_once

    def wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    def docs(self) -> list[str]:
        """What was let go of since the last call."""
        gone, self.gone = self.gone, []
        return [doc for _, doc, _ in gone]


@pytest.fixture
def shown() -> Iterator[Shown]:
    loop = VirtualTimeLoop()
    with contextlib.closing(loop):
        yield Shown(loop)


def test_the_first_after_a_quiet_time_is_shown_at_once(shown: Shown) -> None:
    assert shown.move("user:ada")
    assert not shown.move("user:ada")
    assert shown.move("user:bob")
    shown.wait(EVERY_S)
    assert shown.docs() == ["user:ada", "user:bob", "user:ada"]
    shown.wait(QUIET_S - EVERY_S - 0.01)
    assert not shown.move("user:ada")
    shown.wait(QUIET_S + 0.01)
    assert shown.docs() == ["user:ada"]
    assert shown.move("user:ada")


def test_what_waits_is_joined_with_what_follows(shown: Shown) -> None:
    shown.move("org:a")
    for at in (9, 7, 8):
        shown.move("org:a", Task(Part.USAGES, USAGE, at))
    shown.move("org:a", Task(Part.CAPS, USAGE, 3))
    assert len(shown.pacing) == 1
    shown.wait(EVERY_S)
    _, (_, _, task) = shown.gone
    assert task == Task(Part.USAGES | Part.CAPS, USAGE, 3)
    assert not shown.pacing


def test_while_orders_wait_who_waits_longest_goes_first_and_so_many_at_a_time(shown: Shown) -> None:
    shown.busy = True
    names = [f"user:{n}" for n in range(AT_ONCE * 5 // 2)]
    for name in names[:AT_ONCE]:
        assert shown.move(name)
    for name in names[AT_ONCE:]:
        assert not shown.move(name), "so many at once are enough"
    shown.docs()
    for name in names:
        shown.move(name)
    shown.wait(EVERY_S)
    assert shown.docs() == names[AT_ONCE : 2 * AT_ONCE]
    shown.wait(EVERY_S)
    assert shown.docs() == [*names[2 * AT_ONCE :], *names[: AT_ONCE // 2]]
    shown.wait(EVERY_S)
    assert shown.docs() == names[AT_ONCE // 2 : AT_ONCE]
    assert not shown.pacing


def test_while_no_orders_wait_here_many_balances_are_shown_together(shown: Shown) -> None:
    """Somebody's SQL moved them all in one commit, and again."""
    names = [f"user:{n}" for n in range(5_000)]
    for name in names:
        assert shown.move(name)
    shown.docs()
    for name in names:
        assert not shown.move(name)
    shown.wait(EVERY_S)
    assert shown.docs() == names


def test_one_whose_pool_waits_or_moved_a_moment_ago_waits_with_it(shown: Shown) -> None:
    assert shown.move("org:a")
    assert not shown.move("user:ada", pools=("org:b", "org:a"))
    assert shown.move("user:bob", pools=("org:b",))
    shown.wait(EVERY_S)
    assert shown.docs() == ["org:a", "user:bob", "user:ada"]


def test_what_goes_along_with_another_change_waits_no_more(shown: Shown) -> None:
    shown.move("user:ada")
    shown.move("user:ada")
    assert "user:ada" in shown.pacing
    assert shown.pacing.take("user:ada") == MOVED
    assert shown.pacing.take("user:ada") is None
    shown.wait(1)
    assert shown.docs() == ["user:ada"]


def test_nothing_is_remembered_of_documents_that_are_quiet(shown: Shown) -> None:
    for n in range(1000):
        shown.move(f"user:{n}")
        shown.wait(0.01)
    assert len(shown.pacing._moved) <= QUIET_S / 0.01 + 1
    assert not shown.pacing


moves = st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.049, 0.05, 0.1, 0.24, 0.26]), st.integers(0, 3)))


@settings(max_examples=200, deadline=None)
@given(moves)
def test_each_document_is_shown_20_times_a_second_at_most_and_the_truth_last(moves: list[tuple[float, int]]) -> None:
    loop = VirtualTimeLoop()
    with contextlib.closing(loop):
        shown = Shown(loop)
        last: dict[str, int] = {}
        for number, (pause, name) in enumerate(moves):
            shown.wait(pause)
            shown.move(f"user:{name}", Task(Part.USAGES, USAGE, number))
            last[f"user:{name}"] = number
        moved_at = loop.time()
        shown.wait(1)
    times: dict[str, list[float]] = defaultdict(list)
    for at, doc, _ in shown.gone:
        times[doc].append(at)
    for doc, shown_at in times.items():
        in_a_second = max(sum(1 for at in shown_at if first <= at < first + 1) for first in shown_at)
        assert in_a_second <= 1 / EVERY_S + 2, doc
    assert times.keys() == last.keys()
    assert all(shown_at[-1] <= moved_at + EVERY_S + 1e-9 for shown_at in times.values())
    assert not shown.pacing


# --- the hub's list --------------------------------------------------------------------------------------------------


async def test_another_change_takes_along_what_waits_and_what_is_listed_takes_usage_in() -> None:
    work = PendingWork(lambda: False)
    work.balance("user:ada", MOVED)
    work.take_users(9)
    work.taken.clear()
    work.balance("user:ada", MOVED)
    work.balance("org:a", MOVED)
    work.take_organizations()
    work.taken.clear()
    work.balance("org:a", MOVED)
    assert not work
    assert work.concerns("user:ada")
    assert work.concerns("org:a")
    assert not work.reaches("user:ada")
    work.user("user:ada", Task(Part.IDENTITY, causes_of("profile"), 9))
    work.all_of(["user:bob"], Task(Part.NONE, causes_of("permissions")))
    work.organization("a", Task(Part.ALL, causes_of("organization"), 9))
    work.balance("user:bob", MOVED)
    assert not work.pacing
    assert dict(work.take_users(9)) == {
        "user:ada": Task(Part.IDENTITY | Part.USAGES, USAGE | {"profile"}, 5),
        "user:bob": Task(Part.USAGES, USAGE | {"permissions"}, 5),
    }
    assert work.take_organizations() == [("a", Task(Part.ALL, USAGE | {"organization"}, 5))]


async def test_what_is_forgotten_does_not_come_back() -> None:
    work = PendingWork(lambda: False)
    for _ in range(2):
        work.balance("user:ada", MOVED)
    work.forget("user:ada")
    assert not work.concerns("user:ada")
    await asyncio.sleep(0)
    assert not work.pacing


async def test_who_stops_watching_a_pool_takes_nothing_from_those_who_show_it() -> None:
    work = PendingWork(lambda: False)
    for _ in range(2):
        work.balance("org:a", MOVED)
        work.take_organizations()
        work.taken.clear()
    work.forget("org:a")
    assert work.concerns("org:a")


# --- on a node -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def team(database: Database) -> Database:
    await database.write(
        *add_plan("free", minutes=100_000),
        *add_plan("team", ["a"], minutes=100_000),
        *(add_user(name) for name in ("ada", "bob")),
        add_token("ada", ADA),
        add_token("bob", BOB),
        insert("organizations", id="acme", name="Acme", plan="team"),
        *(insert("memberships", org_id="acme", user_id=name, role="member") for name in ("ada", "bob")),
    )
    return database


@pytest.fixture
async def rig(team: Database) -> AsyncIterator[Rig]:
    async with Rig(team, messages_per_minute=1_000_000) as rig:
        yield rig


@pytest.fixture
async def slow(team: Database) -> AsyncIterator[Rig]:
    """What waits, waits for as long as a test lasts."""
    async with Rig(team, messages_per_minute=1_000_000, show_every_s=30.0) as rig:
        yield rig


def spend(peer: Peer, number: int, **more: str) -> None:
    peer.say(op="consume", id=str(number), quota="minutes", amount=1, key=f"k{number}", **more)


def used(peer: Peer, *, pool: bool = False) -> int:
    document = peer.documents["user:" + peer.connection.session.principal.id]  # type: ignore[union-attr]
    quotas = document["organizations"]["acme"]["quotas"] if pool else document["quotas"]
    return int(quotas["minutes"]["used"])


@pytest.mark.parametrize("pool", [False, True])
async def test_a_balance_that_moves_all_the_time_is_shown_20_times_a_second(rig: Rig, pool: bool) -> None:
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    ada.take(), bob.take()
    loop = asyncio.get_running_loop()
    began, number = loop.time(), 0
    more = {"org": "acme"} if pool else {}
    while loop.time() < began + 1:
        for _ in range(20):
            number += 1
            spend(ada, number, **more)
        await asyncio.sleep(0.001)
    await rig.settle()
    took = loop.time() - began
    for peer in (ada, bob) if pool else (ada,):
        ops = Counter(peer.ops())
        assert 5 <= ops["update"] <= took / EVERY_S + 3
        assert used(peer, pool=pool) == number
    if not pool:
        assert bob.take() == []


async def test_another_change_is_sent_at_once_with_the_balance_of_its_moment(slow: Rig) -> None:
    ada = await slow.connect(ADA)
    spend(ada, 1)
    await slow.settle()
    ada.take()
    spend(ada, 2)
    await eventually(lambda: slow.hub.work.pacing)
    told: list[dict[str, Any]] = []
    await eventually(lambda: told.extend(ada.take()) or told)
    assert [message["op"] for message in told] == ["reply"]
    await run(slow.database, "UPDATE users SET name = 'Ada' WHERE id = 'ada'")
    await eventually(lambda: not slow.hub.work.pacing)
    await slow.settle()
    update = ada.one("update")
    assert update["causes"] == ["profile", "quota_usage"]
    assert (used(ada), ada.documents["user:ada"]["identity"]["name"]) == (2, "Ada")


async def test_nothing_is_confirmed_beyond_what_was_read(slow: Rig) -> None:
    ada, bob = await slow.connect(ADA), await slow.connect(BOB)
    spend(ada, 1, org="acme")
    await slow.settle()
    bob.take()
    shown = bob.seqs["user:bob"]
    spend(ada, 2, org="acme")
    await eventually(lambda: slow.hub.work.pacing and slow.feed.position > shown)
    entry = slow.hub.entries["user:bob"]
    slow.hub.confirm(entry)
    assert entry.publication is not None
    assert entry.publication.seq == shown, "the pool that it shows has moved since"


@pytest.mark.parametrize("how", ["sync", "watch", "http"])
async def test_who_asks_does_not_wait(slow: Rig, how: str) -> None:
    ada = await slow.connect(ADA)
    spend(ada, 1)
    await slow.settle()
    spend(ada, 2)
    await eventually(lambda: slow.hub.work.pacing)
    ada.take()
    if how == "http":
        entry = await slow.node.user("ada")
        assert entry.publication is not None
        assert entry.publication.document.data()["quotas"]["minutes"]["used"] == 2
        return
    ada.say(**{"op": how, "id": "9"} | ({"doc": "self"} if how == "sync" else {"docs": ["self"]}))
    await slow.settle()
    ada.take()
    assert used(ada) == 2


async def test_http_sees_a_pool_that_moved_in_the_member_that_is_read(slow: Rig) -> None:
    ada, bob = await slow.connect(ADA), await slow.connect(BOB)
    spend(ada, 1, org="acme")
    await slow.settle()
    spend(ada, 2, org="acme")
    await eventually(lambda: slow.hub.work.pacing)
    entry = await slow.node.user("bob")
    assert entry.publication is not None
    assert entry.publication.document.data()["organizations"]["acme"]["quotas"]["minutes"]["used"] == 2
    await eventually(lambda: used(bob, pool=True) == 2 if bob.take() else False)


async def test_who_becomes_a_member_while_the_pool_moves_sees_one_state_of_both(slow: Rig) -> None:
    await slow.database.write(add_user("eve"), add_token("eve", token_text("eve")))
    ada, eve = await slow.connect(ADA), await slow.connect(token_text("eve"))
    spend(ada, 1, org="acme")
    await slow.settle()
    spend(ada, 2, org="acme")
    await eventually(lambda: slow.hub.work.pacing)
    await run(slow.database, "INSERT INTO memberships(org_id, user_id, role) VALUES ('acme', 'eve', 'member')")
    await eventually(lambda: eve.take() and "acme" in eve.documents["user:eve"]["organizations"])
    assert used(eve, pool=True) == 2
    [[(last,)]] = await slow.database.read(Statement("SELECT max(seq) FROM change_log"))
    assert eve.seqs["user:eve"] == last


async def test_what_may_be_seen_does_not_wait_for_balances(slow: Rig) -> None:
    await slow.database.write(
        Statement("INSERT INTO user_permissions(user_id, permission) VALUES ('ada', 'users.read')")
    )
    ada = await slow.connect(ADA, watch=["self", "user:bob"])
    spend(ada, 1)
    await slow.settle()
    spend(ada, 2)
    await eventually(lambda: slow.hub.work.pacing)
    ada.take()
    await run(slow.database, "UPDATE users SET name = 'Bob' WHERE id = 'bob'")
    await eventually(lambda: ada.take() and ada.documents["user:bob"]["identity"]["name"] == "Bob")


async def test_a_document_that_rests_is_read_with_its_pool_and_let_go(slow: Rig) -> None:
    ada, bob = await slow.connect(ADA), await slow.connect(BOB)
    bob.hang_up()
    assert len(slow.hub.resting) == 1
    spend(ada, 1, org="acme")
    await slow.settle()
    spend(ada, 2, org="acme")
    await eventually(lambda: slow.hub.work.pacing)
    reading = asyncio.create_task(slow.node.user("bob"))
    await slow.node.quotas.spender.consume(Order("user:bob", "user:bob", "minutes", 7, "k"))
    entry = await reading
    assert entry.publication is not None
    assert entry.publication.document.data()["organizations"]["acme"]["quotas"]["minutes"]["used"] == 2
    await eventually(lambda: not slow.hub.work)
    again = await slow.node.user("bob")
    assert again.publication is not None
    assert again.publication.document.data()["quotas"]["minutes"]["used"] == 7


async def test_who_asks_for_a_document_that_can_not_be_built_is_told(
    slow: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await slow.connect(ADA)
    spend(ada, 1)
    await slow.settle()
    spend(ada, 2)
    await eventually(lambda: slow.hub.work.pacing)
    with monkeypatch.context() as broken:
        broken.setattr("gateway.live.entry.UserEntry.build", lambda *_: 1 / 0)
        with pytest.raises(Unavailable, match="can not be built"):
            await slow.node.user("ada")


async def test_who_shows_a_pool_sees_it_move_though_another_stops_watching_it(rig: Rig) -> None:
    ada, bob = await rig.connect(ADA), await rig.connect(BOB, watch=["self", "org:acme"])
    spend(ada, 1, org="acme")
    await rig.settle()
    spend(ada, 2, org="acme")
    await eventually(lambda: rig.hub.work.pacing)
    bob.say(op="unwatch", id="9", docs=["org:acme"])
    await rig.settle()
    ada.take(), bob.take()
    assert (used(ada, pool=True), used(bob, pool=True)) == (2, 2)


async def test_a_lease_that_hangs_is_no_order_and_one_sent_by_http_is(rig: Rig) -> None:
    """Balances that somebody moved in bulk are shown at once beside the one, and wait beside the other."""
    gate = asyncio.Event()
    spender, busy = rig.node.quotas.spender, rig.hub.work.pacing._busy
    ada = await rig.connect(ADA)
    rig.store.gate = gate.wait
    for number in range(BUSY):
        ada.say(op="reserve", id=str(number), lease=f"l{number}", quota="minutes", amount=1, ttl_s=60)
    assert not busy()
    orders = (Order("user:ada", "user:ada", "minutes", 1, f"k{number}") for number in range(BUSY))
    asked = [asyncio.create_task(spender.consume(order)) for order in orders]
    await asyncio.sleep(0)
    assert busy()
    rig.store.gate = None
    gate.set()
    await asyncio.gather(*asked)
    assert not busy()
