"""What a node reads of `revocations` when something changes, and that it ends up with the truth."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.core.clock import CLOCK_SKEW_MS, parse_rfc3339
from gateway.core.instance_documents import STEP_MS, RevocationList
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.live.entry import REVOCATIONS
from gateway.live.revocations import REST_SHARE
from gateway.store.database import Database, Statement
from gateway.store.instance_documents import MAX_REVOCATIONS, NEWS, load_revocations
from gateway.store.logins import LIFE_STEP_MS, longest_life, note_life
from tests.support.node_rig import Peer, Rig
from tests.support.people import add_plan, add_user
from tests.support.waiting import eventually

SHOP = Principal(PrincipalKind.INSTANCE, "i_shop", CredentialKind.INSTANCE_KEY, "k_shop")
LOG = Statement("INSERT INTO change_log(doc, cause) VALUES ('revocations', 'revocation')")
TOKENS = 40
FIRST, ALL = False, True
WORK_S = 0.01


@pytest.fixture
async def shop(database: Database) -> Database:
    await database.write(
        Statement("INSERT INTO instances(id, name) VALUES ('i_shop', 'Shop')"),
        Statement("INSERT INTO instance_keys(id, instance_id, secret) VALUES ('k_shop', 'i_shop', x'00')"),
        *add_plan("free"),
        add_user("ada"),
        *(
            Statement("INSERT INTO api_tokens(id, user_id, token_hash) VALUES (?, 'ada', ?)", (f"t{n}", f"h{n}"))
            for n in range(TOKENS)
        ),
    )
    return database


async def watched(rig: Rig) -> Peer:
    """The rows are noted by the database's clock: the node's goes by that."""
    rig.clock.wall = rig.database.clock()
    peer = await rig.connect(principal=SHOP, watch=["revocations"])
    peer.take()
    return peer


def shown(peer: Peer) -> dict[str, Any]:
    """The document as the client holds it by now."""
    peer.take()
    return peer.documents["revocations"]


def revoke(id: str) -> Statement:
    return Statement("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", (id,))


def unrevoke(id: str) -> Statement:
    return Statement("UPDATE api_tokens SET revoked_at = NULL WHERE id = ?", (id,))


def sweep(rig: Rig) -> None:
    rig.feed.sweep(rig.feed.to_sweep())


async def resting(rig: Rig, id: str, *, whole: bool = False) -> None:
    """A reading, of all or of this one that is revoked, that takes `WORK_S` of the processor with each look at the
    database: two of them for one that is revoked."""

    async def works() -> None:
        rig.clock.cpu += WORK_S

    rig.store.gate = works
    if whole:
        sweep(rig)
    await rig.write(revoke(id))
    rig.store.gate = None


async def test_a_change_costs_what_was_noted(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer, readings = await watched(rig), rig.feed.shared.revocations.readings
        for number in range(5):
            await rig.write(revoke(f"t{number}"))
            [update] = peer.take()
            assert set(update["patch"]) == {f"t{number}"}
        await rig.write(*map(revoke, ("t7", "t8", "t9")))
        assert set(peer.take()[-1]["patch"]) == {"t7", "t8", "t9"}
        await rig.write(Statement("DELETE FROM api_tokens WHERE id = 't20'"))
        assert set(peer.take()[-1]["patch"]) == {"t20"}
        assert readings == {FIRST: 7, ALL: 1}


async def test_what_is_good_again_leaves(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await watched(rig)
        await rig.write(revoke("t1"))
        await rig.write(unrevoke("t1"))
        assert shown(peer) == {}
        await rig.write(revoke("t2"), revoke("t3"))
        await rig.write(unrevoke("t2"), revoke("t4"))
        assert set(shown(peer)) == {"t3", "t4"}


@pytest.mark.parametrize("late_ms", [1, 3_600_000])
async def test_a_clock_that_lags_hides_nothing(shop: Database, late_ms: int) -> None:
    """Of whoever writes: what it notes is older than what was noted last."""
    async with Rig(shop) as rig:
        peer = await watched(rig)
        await rig.write(revoke("t1"))
        insert = "INSERT INTO revocations(id, kind, user_id, noted_at) VALUES ('late', 'api_token', 'ada', ?)"
        await rig.write(Statement(insert, (rig.clock.wall - late_ms,)), LOG)
        assert set(shown(peer)) == {"t1", "late"}


async def test_two_in_the_same_millisecond(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer, now = await watched(rig), rig.clock.wall
        insert = "INSERT INTO revocations(id, kind, user_id, noted_at) VALUES (?, 'api_token', 'ada', ?)"
        for id in ("first", "second", "third"):
            await rig.write(Statement(insert, (id, now)), LOG)
            assert id in shown(peer)
        assert rig.feed.shared.revocations.readings == {FIRST: 3, ALL: 1}


async def test_more_than_the_log_tells_of_is_read_with_all(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await watched(rig)
        many = (
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO revocations(id, kind, user_id, noted_at) SELECT 'm' || i, 'api_token', 'ada', ? FROM n"
        )
        await rig.write(Statement(many, (NEWS + 1, rig.clock.wall)), LOG)
        assert len(shown(peer)) == NEWS + 1
        await rig.write(revoke("t1"))
        assert len(shown(peer)) == NEWS + 2


async def test_rows_changed_by_sql_are_found_by_the_sweep_and_counted(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await watched(rig)
        await rig.write(*map(revoke, ("t1", "t2", "t3")))
        peer.take()
        await shop.write(
            Statement("DELETE FROM revocations WHERE id = 't1'"),
            Statement("UPDATE revocations SET noted_at = noted_at - 60000 WHERE id = 't2'"),
        )
        await rig.settle()
        assert peer.take() == []
        for drift in (1, 1):
            sweep(rig)
            await rig.settle()
            assert rig.hub.counters.drift == drift
        [update] = peer.take()
        assert set(update["patch"]) == {"t1", "t2"}
        assert update["patch"]["t1"] is None
        assert rig.feed.shared.revocations.readings[ALL] == 3


async def test_who_comes_after_the_last_has_gone_is_told_everything(shop: Database) -> None:
    async with Rig(shop) as rig:
        (await watched(rig)).hang_up()
        await rig.write(revoke("t1"))
        peer = await watched(rig)
        assert set(shown(peer)) == {"t1"}
        await rig.write(revoke("t2"))
        assert set(shown(peer)) == {"t1", "t2"}


async def test_when_tokens_live_longer_or_shorter_all_is_read(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rig(shop) as rig:
        peer, now = await watched(rig), rig.clock.wall
        insert = "INSERT INTO revocations(id, kind, user_id, noted_at) VALUES ('s', 'login_session', 'ada', ?)"
        await rig.write(Statement(insert, (now,)), LOG)
        until, life = shown(peer)["s"], rig.node.authenticator.token_life_ms
        monkeypatch.setattr(type(rig.node.authenticator), "token_life_ms", life + 60_000)
        await rig.write(revoke("t1"))
        assert shown(peer)["s"] > until


async def test_tokens_of_a_longer_life_are_thought_of_after_the_setting_was_made_shorter(shop: Database) -> None:
    """What was issued before lives on, and is told as revoked as long."""
    hour, life = 3_600_000, 900_000
    async with Rig(shop) as rig:
        peer, now = await watched(rig), rig.clock.wall
        insert = "INSERT INTO revocations(id, kind, user_id, noted_at) VALUES ('s', 'login_session', 'ada', ?)"
        await rig.write(note_life(hour, now + hour), Statement(insert, (now,)), LOG)
        assert hour <= parse_rfc3339(shown(peer)["s"]) - now <= hour + 2 * CLOCK_SKEW_MS + STEP_MS
        rig.clock.wall += hour + 3 * LIFE_STEP_MS
        await rig.write(Statement(insert.replace("'s'", "'later'"), (rig.clock.wall,)), LOG)
        assert list(shown(peer)) == ["later"]
        assert parse_rfc3339(shown(peer)["later"]) - rig.clock.wall <= life + 2 * CLOCK_SKEW_MS + STEP_MS


async def test_a_reading_that_failed_loses_nothing(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await watched(rig)
        await rig.write(revoke("t1"))
        rig.store.fail()
        await shop.write(revoke("t2"))
        await shop.write(unrevoke("t1"))
        await eventually(lambda: rig.feed.stale)
        rig.store.recover()
        await rig.settle()
        assert set(shown(peer)) == {"t2"}


async def test_what_took_long_on_a_busy_machine_keeps_nobody_waiting(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await watched(rig)

        async def waits() -> None:
            rig.clock.mono += 0.5

        rig.store.gate = waits
        for id in ("t1", "t2", "t3"):
            await rig.write(revoke(id))
            assert id in shown(peer)


async def test_it_rests_for_what_a_reading_took_of_the_processor(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await watched(rig)
        await resting(rig, "t1")
        assert set(shown(peer)) == {"t1"}
        await rig.write(revoke("t2"))
        await rig.write(revoke("t3"))
        rig.clock.advance(2 * WORK_S * REST_SHARE)
        rig.hub.work.resume(REVOCATIONS)
        await rig.settle()
        assert set(shown(peer)) == {"t1", "t2", "t3"}
        assert rig.feed.shared.revocations.readings == {FIRST: 2, ALL: 1}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("back", [False, True])
async def test_the_last_who_watches_may_go_while_it_is_looked_at(
    shop: Database, monkeypatch: pytest.MonkeyPatch, whole: bool, back: bool
) -> None:
    """While it rests, too; whoever comes back is told everything, and nobody else's document is read again."""
    async with Rig(shop) as rig:
        peer = await watched(rig)
        await resting(rig, "t1", whole=whole)
        came: list[Peer] = []

        async def goes(*arguments: Any) -> int:
            if not came:
                peer.hang_up()
                came.append(await rig.connect(principal=SHOP, watch=["revocations"] if back else [], settle=False))
            return await longest_life(*arguments)

        monkeypatch.setattr("gateway.live.revocations.longest_life", goes)
        await rig.write(revoke("t2"))
        if whole:
            sweep(rig)
            await rig.settle()
        assert came
        assert rig.feed.resyncs == 0
        assert rig.hub.work.concerns(REVOCATIONS) == back
        rig.clock.advance(1.0)
        rig.hub.work.resume(REVOCATIONS)
        await rig.settle()
        if back:
            assert set(shown(came[0])) == {"t1", "t2"}


async def test_a_moment_without_words_is_told_as_a_fault_and_mended(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await watched(rig)
        insert = "INSERT INTO revocations(id, kind, user_id, noted_at) VALUES ('odd', 'api_token', 'ada', ?)"
        await rig.write(Statement(insert, (9_000_000_000_000_000,)), LOG)
        assert [message["op"] for message in peer.take()] == ["status"]
        await rig.run("UPDATE users SET name = 'Ada'")
        await rig.write(Statement("DELETE FROM revocations"), revoke("t1"))
        assert set(shown(peer)) == {"t1"}


@pytest.mark.storages("file")
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_written_the_document_is_the_truth(shop: Database, seed: int) -> None:
    chance = random.Random(seed)
    async with Rig(shop) as rig:
        peer = await watched(rig)
        for _ in range(60):
            ids = [f"t{chance.randrange(TOKENS)}" for _ in range(chance.choice((1, 1, 2, 4)))]
            do = chance.choice(
                (revoke, revoke, unrevoke, lambda id: Statement("DELETE FROM api_tokens WHERE id = ?", (id,)))
            )
            await rig.write(*map(do, ids))
            if chance.random() < 0.2:
                rig.clock.advance(chance.choice((1, 10, 40)))
                rig.feed.clock_moved(rig.clock.wall)
                await rig.settle()
            now = rig.clock.wall
            known = await load_revocations(shop, now - now % STEP_MS, rig.node.authenticator.token_life_ms)
            truth = RevocationList(known.revoked, MAX_REVOCATIONS).document
            entry = rig.hub.entries[REVOCATIONS]
            assert entry.publication is not None
            assert entry.publication.document.data() == truth.data() == shown(peer)
        readings = rig.feed.shared.revocations.readings
        assert readings[FIRST] > readings[ALL], "most changes cost what they are"
        assert rig.hub.counters.drift == 0
