"""The rows of the keys that sign access tokens."""

from __future__ import annotations

import pytest

from gateway.errors import StoreConflict
from gateway.store.database import Database, Statement
from gateway.store.keys import (
    SigningKeyRow,
    add_first_key,
    add_key,
    delete_ended,
    delete_keys,
    end_keys,
    list_keys,
    reseal,
)

NOW = 1_764_000_000_000


def row(kid: str, signs_from: int = NOW, verifies_until: int | None = None) -> SigningKeyRow:
    return SigningKeyRow(kid, '{"kty":"OKP"}', b"sealed " + kid.encode(), NOW, signs_from, verifies_until)


async def kids(database: Database) -> list[str]:
    return [key.kid for key in await list_keys(database)]


async def logged(database: Database) -> int:
    """How often the change log told of keys."""
    [rows] = await database.read(Statement("SELECT count(*) FROM change_log WHERE doc = 'keys' AND cause = 'keys'"))
    return int(rows[0][0])


async def test_keys_are_listed_in_the_order_in_which_they_sign(database: Database) -> None:
    assert await list_keys(database) == []
    keys = [row("k_b", NOW + 2), row("k_c", NOW + 1, NOW + 9), row("k_a", NOW + 2)]
    await database.write(*map(add_key, keys))
    assert await list_keys(database) == [keys[1], keys[2], keys[0]]


async def test_the_first_key_is_added_where_none_verifies(database: Database) -> None:
    await database.write(add_first_key(row("k_a"), NOW), add_first_key(row("k_b"), NOW))
    assert await kids(database) == ["k_a"]
    await database.write(end_keys("k_none", NOW + 5))
    await database.write(add_first_key(row("k_b"), NOW + 4))
    assert await kids(database) == ["k_a"]
    await database.write(add_first_key(row("k_b"), NOW + 5))
    assert await kids(database) == ["k_a", "k_b"]


async def test_keys_end_and_never_later_than_they_did(database: Database) -> None:
    await database.write(*map(add_key, [row("k_a"), row("k_b", NOW, NOW + 3), row("k_c", NOW, NOW + 9), row("k_d")]))
    await database.write(end_keys("k_d", NOW + 5))
    ends = {key.kid: key.verifies_until for key in await list_keys(database)}
    assert ends == {"k_a": NOW + 5, "k_b": NOW + 3, "k_c": NOW + 5, "k_d": None}


async def test_ended_keys_and_all_keys_but_one_are_removed(database: Database) -> None:
    keys = [row("k_a", NOW, NOW), row("k_b", NOW, NOW + 1), row("k_c"), row("k_d")]
    await database.write(*map(add_key, keys))
    await database.write(delete_ended(NOW))
    assert await kids(database) == ["k_b", "k_c", "k_d"]
    await database.write(delete_keys("k_c"))
    assert await kids(database) == ["k_c"]


async def test_a_private_part_is_replaced_only_where_it_is_what_was_read(database: Database) -> None:
    key = row("k_a")
    await database.write(add_key(key))
    await database.write(reseal(key, b"first"))
    await database.write(reseal(key, b"second"))
    assert (await list_keys(database))[0].private_key == b"first"


async def test_the_change_log_tells_of_keys_but_not_of_how_they_are_sealed(database: Database) -> None:
    key = row("k_a")
    await database.write(add_key(key))
    assert await logged(database) == 1
    await database.write(reseal(key, b"other"))
    assert await logged(database) == 1
    await database.write(end_keys("k_none", NOW))
    assert await logged(database) == 2
    await database.write(delete_ended(NOW))
    assert await logged(database) == 3


async def test_two_keys_never_have_one_name(database: Database) -> None:
    await database.write(add_key(row("k_a")))
    with pytest.raises(StoreConflict):
        await database.write(add_key(row("k_a")))


def test_a_row_does_not_show_its_private_part() -> None:
    assert repr(row("k_a")) == f"SigningKeyRow('k_a', signs_from={NOW}, verifies_until=None)"
