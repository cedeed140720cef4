from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Conflict, NotFound
from gateway.store.database import Database, Statement
from gateway.store.instances import (
    MAX_KEYS,
    Instance,
    SealedKey,
    add_instance,
    add_instance_key,
    delete_instance,
    find_signing,
    keys_in_force,
    list_instance_keys,
)
from gateway.store.nonces import Nonce, Use, prune_nonces, use_nonce

NOW = 1_795_288_200_000
LIFE = 150_000


@pytest.fixture
async def shop(database: Database) -> Database:
    """With the instances `i` and `other`, whose keys are `k` and `o`."""
    for instance, key in (("i", "k"), ("other", "o")):
        await add_instance(database, Instance(id=instance), SealedKey(key, b"sealed"))
    return database


async def use(db: Database, text: str, kid: str = "k", instance: str = "i", now: int = NOW, most: int = 100) -> Use:
    return await use_nonce(db, Nonce(kid, text, now + LIFE), instance, now, most=most)


async def remembered(db: Database) -> dict[str, int]:
    rows, counts = await db.read(
        Statement("SELECT kid, count(*) FROM nonces GROUP BY kid"),
        Statement("SELECT kid, remembered FROM nonce_counts WHERE remembered <> 0"),
    )
    assert dict(rows) == dict(counts), "the count is that of the rows"
    return dict(rows)


async def test_a_nonce_is_used_once_for_each_key(shop: Database) -> None:
    assert await use(shop, "n") is Use.FIRST
    assert await use(shop, "n") is Use.AGAIN
    assert await use(shop, "n", "o", "other") is Use.FIRST
    assert await remembered(shop) == {"k": 1, "o": 1}


async def test_of_many_at_once_one_is_the_first(shop: Database) -> None:
    uses = await asyncio.gather(*(use(shop, "n") for _ in range(50)))
    assert sorted(each.name for each in uses) == ["AGAIN"] * 49 + ["FIRST"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM instance_keys WHERE id = 'k'",
        "DELETE FROM instances WHERE id = 'i'",
        "UPDATE instances SET status = 'disabled'",
        f"UPDATE instance_keys SET expires_at = {NOW}",
        "UPDATE instance_keys SET instance_id = 'other' WHERE id = 'k'",
    ],
)
async def test_a_key_that_ended_meanwhile_uses_nothing(shop: Database, sql: str) -> None:
    assert await use(shop, "before") is Use.FIRST
    await shop.write(Statement(sql))
    assert await use(shop, "n") is Use.NO_KEY
    assert await use(shop, "before") is Use.NO_KEY
    assert await remembered(shop) == {"k": 1}, "what was used stays used, also of a key that is gone"


async def test_a_full_store_refuses_its_key_alone(shop: Database) -> None:
    for number in range(3):
        assert await use(shop, f"n{number}", most=3) is Use.FIRST
    assert await use(shop, "n3", most=3) is Use.FULL
    assert await use(shop, "n0", most=3) is Use.FULL
    assert await use(shop, "n", "o", "other", most=3) is Use.FIRST
    assert await remembered(shop) == {"k": 3, "o": 1}


async def test_a_full_key_gets_room_again_though_nobody_else_asks(shop: Database) -> None:
    for number in range(3):
        assert await use(shop, f"n{number}", most=3) is Use.FIRST
    assert await prune_nonces(shop, NOW + 86_400_000, LIFE) == 0
    later = NOW + LIFE + 1
    assert await use(shop, "late", now=later, most=3) is Use.FULL
    assert await prune_nonces(shop, later, LIFE) == 3
    assert await use(shop, "late", now=later, most=3) is Use.FIRST


async def test_what_is_forgotten_has_ended_by_the_clock_and_by_the_newest(shop: Database) -> None:
    for second in range(0, 400, 50):
        await use(shop, f"n{second}", now=NOW + second * 1000)
    assert await prune_nonces(shop, NOW + 150_000, LIFE) == 0, "an end that has come just now"
    assert await prune_nonces(shop, NOW + 200_001, LIFE) == 2
    assert await prune_nonces(shop, NOW + 86_400_000, LIFE) == 2, "a clock that is a day ahead forgets no more"
    assert await remembered(shop) == {"k": 4}
    assert await prune_nonces(shop, 0, LIFE) == 0
    for second in (350, 300, 250):
        assert await use(shop, f"n{second}", now=NOW + second * 1000) is Use.AGAIN


async def test_what_was_forgotten_is_never_taken_again(shop: Database) -> None:
    """Neither by a clock that is set back: the nonce is gone, and that it is gone is known."""
    for second in (0, 1, 200):
        await use(shop, f"n{second}", now=NOW + second * 1000)
    assert await prune_nonces(shop, NOW + 200_000, LIFE) == 2
    for second in (0, 1):
        assert await use(shop, f"n{second}", now=NOW + second * 1000) is Use.TOO_OLD
        assert await use(shop, f"another {second}", now=NOW + second * 1000) is Use.TOO_OLD
    assert await use(shop, "later", now=NOW + 1_001) is Use.FIRST, "of then nothing was forgotten"
    assert await use(shop, "n0", "o", "other") is Use.FIRST, "a key's time is its own"


async def test_an_instance_whose_clock_is_ahead_forgets_nothing_of_others(shop: Database) -> None:
    await use(shop, "n")
    await use(shop, "n", "o", "other", now=NOW + 3_600_000)
    assert await prune_nonces(shop, NOW + 3_600_000, LIFE) == 0
    assert await use(shop, "n") is Use.AGAIN


async def test_nothing_is_left_of_a_key_that_is_gone(shop: Database) -> None:
    await use(shop, "n")
    await delete_instance(shop, "i")
    assert await prune_nonces(shop, NOW + LIFE, LIFE) == 0
    assert await prune_nonces(shop, NOW + LIFE + 1, LIFE) == 1
    assert await prune_nonces(shop, NOW + LIFE + 1, LIFE) == 0
    assert (await shop.read(Statement("SELECT * FROM nonce_counts")))[0] == []


async def test_nothing_is_pruned_of_nothing(database: Database) -> None:
    assert await prune_nonces(database, NOW, LIFE) == 0


async def test_keys_are_added_ended_and_bounded(shop: Database) -> None:
    await add_instance_key(shop, "i", SealedKey("k2", b"x", NOW + 9_000), NOW, older_until=NOW + 5_000)
    assert {key.id: key.expires_at for key in await list_instance_keys(shop, "i")} == {
        "k": NOW + 5_000,
        "k2": NOW + 9_000,
    }
    await add_instance_key(shop, "i", SealedKey("k3", b"x"), NOW + 1, older_until=NOW + 7_000)
    assert {key.id: key.expires_at for key in await list_instance_keys(shop, "i")} == {
        "k": NOW + 5_000,
        "k2": NOW + 7_000,
        "k3": None,
    }
    await add_instance_key(shop, "i", SealedKey("k4", b"x"), NOW + 6_000, older_until=None)
    assert {key.id for key in await list_instance_keys(shop, "i")} == {"k2", "k3", "k4"}
    for number in range(MAX_KEYS - 3):
        await add_instance_key(shop, "i", SealedKey(f"more{number}", b"x"), NOW, older_until=None)
    with pytest.raises(Conflict):
        await add_instance_key(shop, "i", SealedKey("last", b"x"), NOW, older_until=None)
    with pytest.raises(Conflict):
        await add_instance_key(shop, "other", SealedKey("k3", b"x"), NOW, older_until=None)
    with pytest.raises(NotFound):
        await add_instance_key(shop, "nobody", SealedKey("n", b"x"), NOW, older_until=None)
    assert [key.id for key in await list_instance_keys(shop, "other")] == ["o"]


async def test_who_signs_with_a_key(shop: Database) -> None:
    found = await find_signing(shop, "k")
    assert found is not None
    assert (found.instance.id, found.secret, found.expires_at) == ("i", b"sealed", None)
    assert "sealed" not in repr(found)
    assert await find_signing(shop, "K") is None
    await shop.write(Statement("UPDATE instances SET name = CAST(x'ff' AS TEXT) WHERE id = 'other'"))
    assert await find_signing(shop, "o") is None, "a row that is not text stands for nobody"
    assert set(await keys_in_force(shop, ["k", "o", "none"])) == {"k", "o"}
    await delete_instance(shop, "i")
    assert set(await keys_in_force(shop, ["k", "o"])) == {"o"}
