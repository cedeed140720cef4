from __future__ import annotations

from typing import Any

import pytest

from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.live import connection
from gateway.live.hub import INSTANCE_SESSIONS
from gateway.live.watching import INSTANCE_DOCUMENTS
from gateway.store.database import Database, Statement
from tests.support.node_rig import START_MS, Rig
from tests.support.people import add_plan, add_token, add_user, token_text

SHOP = Principal(PrincipalKind.INSTANCE, "i_shop", CredentialKind.INSTANCE_KEY, "k_shop")


@pytest.fixture
async def shop(database: Database) -> Database:
    await database.write(
        Statement("INSERT INTO instances(id, name) VALUES ('i_shop', 'Shop')"),
        Statement("INSERT INTO instance_keys(id, instance_id, secret) VALUES ('k_shop', 'i_shop', x'00')"),
        *add_plan("free"),
        add_user("ada"),
        add_token("ada", token_text("ada")),
    )
    return database


def ops(messages: list[dict[str, Any]]) -> list[str]:
    return [message["op"] for message in messages]


async def test_the_own_document_comes_by_itself_and_goes_on(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP)
        _, ready, snapshot = peer.take()
        assert (ready["principal"], "expires_at" in ready) == ("instance:i_shop", False)
        assert snapshot["data"]["keys"]["k_shop"].keys() == {"created_at"}
        await rig.run("UPDATE instances SET name = 'Kiosk'")
        [update] = peer.take()
        assert update["patch"]["identity"]["name"] == "Kiosk"
        assert update["causes"] == ["profile"]
        await rig.run("INSERT INTO instance_keys(id, instance_id, secret) VALUES ('k_2', 'i_shop', x'00')")
        [update] = peer.take()
        assert update["causes"] == ["keys"]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE instances SET status = 'disabled'",
        "DELETE FROM instances",
        "DELETE FROM instance_keys",
    ],
)
async def test_what_ends_an_instance_ends_its_sessions_before_anything_else_is_sent(shop: Database, sql: str) -> None:
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP, watch=["user:ada", "revocations"])
        peer.take()
        await rig.write(Statement("UPDATE users SET name = 'Later'"), Statement(sql))
        [ended] = peer.take()
        assert (ended["op"], ended["code"]) == ("ended", "revoked")


async def test_a_session_that_joins_after_its_end_is_ended(shop: Database) -> None:
    """The handshake was checked, then the key was deleted and the log read, then the session began."""
    async with Rig(shop) as rig:
        await rig.run("DELETE FROM instance_keys")
        peer = await rig.connect(principal=SHOP)
        assert peer.take()[-1]["code"] == "revoked"


async def test_the_end_of_a_key_is_moved(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP)
        await rig.tick()
        peer.take()
        await rig.run("UPDATE instance_keys SET expires_at = ?", START_MS + 30_000)
        assert "expiring" in ops(peer.take())
        await rig.run("UPDATE instance_keys SET expires_at = 9000000000000000")
        assert peer.take()[-1]["patch"]["keys"]["k_shop"] == {"expires_at": None}
        rig.advance(31)
        await rig.settle()
        assert "ended" not in ops(peer.take())


async def test_the_bound_of_documents_is_an_instances_own(shop: Database) -> None:
    async with Rig(shop, max_documents=2, max_frame_bytes=1_000_000) as rig:
        peer = await rig.connect(principal=SHOP)
        peer.take()
        names = [f"org:o{number}" for number in range(INSTANCE_DOCUMENTS)]
        peer.say(op="watch", id="1", docs=names)
        await rig.settle()
        assert [(message["op"], message["code"]) for message in peer.take()] == [("error", "too_many_documents")]
        peer.say(op="watch", id="2", docs=["user:ada", "revocations", "keys"])
        await rig.settle()
        assert ops(peer.take()).count("snapshot") == 3


async def test_pongs_go_through_all_documents_in_turn(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes and goes between them: what is watched all the time is told within a full round."""
    monkeypatch.setattr(connection, "REPORTED", 10)
    users = [f"u{number:02}" for number in range(45)]
    async with Rig(shop) as rig:
        await rig.write(*(add_user(user) for user in users))
        peer = await rig.connect(principal=SHOP, watch=[f"user:{user}" for user in users[:40]])
        peer.take()

        def told() -> set[str]:
            peer.say(op="ping")
            [pong] = peer.take()
            assert pong["revs"].items() <= peer.revs.items()
            assert len(pong["revs"]) == min(10, len(peer.revs))
            return set(pong["revs"])

        for _ in range(3):
            rounds = [told() for _ in range(4)]
            assert set().union(*rounds) == set(peer.revs)
        seen = told()
        gone = [*list(seen)[:3], "user:u15", "user:u35"]
        peer.say(op="unwatch", id="1", docs=gone)
        peer.say(op="watch", id="2", docs=[f"user:{user}" for user in users[40:]])
        await rig.settle()
        peer.take()
        seen |= told() | told() | told()
        assert seen >= {f"user:{user}" for user in users[:40]} - set(gone)


async def test_networks_that_are_narrowed_end_the_sessions_outside(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP)
        address = peer.connection.address
        peer.take()
        await rig.write(Statement("UPDATE instances SET networks = ?", (f'["{address}"]',)))
        assert "ended" not in ops(peer.take()), "it is inside"
        await rig.write(Statement("UPDATE instances SET networks = '[\"203.0.113.0/24\"]'"))
        assert peer.take()[-1]["code"] == "revoked"


async def test_so_many_sessions_and_no_more(shop: Database) -> None:
    """An application's own bound: whoever is refused by it is one that came last, not one that is at work."""
    async with Rig(shop) as rig:
        peers = []
        for _ in range(INSTANCE_SESSIONS):
            assert rig.hub.has_room(SHOP)
            peers.append(await rig.connect(principal=SHOP, settle=False))
        await rig.settle()
        assert not rig.hub.has_room(SHOP)
        assert rig.hub.has_room(Principal(PrincipalKind.INSTANCE, "i_other", CredentialKind.INSTANCE_KEY, "k_other"))
        assert all(peer.ended is None for peer in peers)
        peers[7].hang_up()
        assert rig.hub.has_room(SHOP)


async def test_what_is_revoked_leaves_by_the_clock(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP, watch=["revocations"])
        peer.take()
        noted = (
            "INSERT INTO revocations(id, kind, user_id, noted_at)"
            " VALUES ('s', 'login_session', 'ada', ?1), ('t', 'api_token', 'ada', ?1)"
        )
        log = "INSERT INTO change_log(doc, cause) VALUES ('revocations', 'revocation')"
        await rig.write(Statement(noted, (START_MS,)), Statement(log))
        [update] = peer.take()
        assert set(update["patch"]) == {"s", "t"}
        life_s = rig.node.authenticator.token_life_ms / 1000 + 60
        rig.advance(life_s - 1)
        await rig.settle()
        assert peer.take() == []
        rig.advance(12)
        await rig.settle()
        [update] = peer.take()
        assert (update["patch"], update["causes"]) == ({"s": None}, ["clock"])


async def test_a_long_reading_rests_and_is_made_up_for(shop: Database) -> None:
    """What comes while that rests is sent when it has rested, and nothing says that it is exact before."""
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP, watch=["revocations"])
        revoke = "INSERT INTO revocations(id, kind, user_id, noted_at) VALUES (?, 'api_token', 'ada', ?)"
        log = Statement("INSERT INTO change_log(doc, cause) VALUES ('revocations', 'revocation')")

        async def works() -> None:
            rig.clock.cpu += 0.025

        rig.store.gate = works
        await rig.write(Statement(revoke, ("t0", START_MS)), log)
        rig.store.gate = None
        peer.take()
        for id in ("t1", "t2"):
            await rig.write(Statement(revoke, (id, START_MS)), log)
        entry = rig.hub.entries["revocations"]
        assert entry.publication is not None
        assert peer.take() == []
        rig.hub.confirm(entry)
        assert entry.publication.seq < rig.feed.position
        rig.clock.advance(1)
        await rig.settle(lambda: entry.publication.seq == rig.feed.position)
        [update] = peer.take()
        assert set(update["patch"]) == {"t1", "t2"}


async def test_a_sweep_finds_what_the_log_does_not_tell(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP, watch=["revocations", "self"])
        peer.take()
        await shop.script("DROP TRIGGER instances_update; DROP TRIGGER instance_keys_delete")
        await shop.write(Statement("UPDATE instances SET name = 'Kiosk'"))
        await rig.settle()
        rig.feed.sweep(rig.feed.to_sweep())
        await rig.settle()
        [update] = peer.take()
        assert update["patch"] == {"identity": {"name": "Kiosk"}}
        assert rig.hub.counters.drift == 1
        await shop.write(Statement("DELETE FROM instance_keys"))
        await rig.settle()
        rig.feed.sweep(rig.feed.to_sweep())
        await rig.settle()
        assert peer.take()[-1]["code"] == "revoked"


async def test_a_row_that_can_not_be_read_stops_nobody(shop: Database) -> None:
    async with Rig(shop) as rig:
        peer = await rig.connect(principal=SHOP, watch=["self", "user:ada"])
        peer.take()
        await rig.run("UPDATE instances SET name = CAST(x'ff' AS TEXT)")
        [stale] = peer.take()
        assert (stale["op"], stale["doc"]) == ("status", "instance:i_shop")
        await rig.run("UPDATE users SET name = 'Ada'")
        assert ops(peer.take()) == ["update"]
        await rig.run("UPDATE instances SET name = 'Shop again'")
        assert ops(peer.take()) == ["status", "update"]


async def test_an_instance_stays_to_the_end_of_a_drain_and_may_come_back_at_once(shop: Database) -> None:
    """Until it is back nobody tells it what is revoked."""
    async with Rig(shop) as rig:
        instance, people = await rig.connect(principal=SHOP), [await rig.connect(token_text("ada")) for _ in range(3)]
        await rig.node.drain(0.2)
        assert instance.transport.ended_as > max(peer.transport.ended_as for peer in people) > 0
        assert instance.take()[-1]["retry_after_s"] == 0
