"""The keys that sign access tokens: made once, published before they sign, good until what they signed has ended."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
from contextlib import AsyncExitStack

import pytest

from gateway.auth.keyring import Keyring, SigningKey, signer
from gateway.core.access_token import Claims, key_id, private_key, public_key, sign, verify
from gateway.core.clock import CLOCK_SKEW_MS
from gateway.core.sealing import Sealer
from gateway.errors import AuthFailed, ConfigError, StoreUnavailable, Unavailable
from gateway.store.database import Database, Statement
from gateway.store.keys import SigningKeyRow, add_key, list_keys
from tests.conftest import Place

OLD, NEW = (Sealer([bytes([value]) * 32]) for value in (1, 2))
BOTH = Sealer([bytes([2]) * 32, bytes([1]) * 32])
NOW = 1_764_000_000_000
TTL_MS = 900_000
LEAD_MS = 600_000


def keyring(sealer: Sealer = OLD) -> Keyring:
    return Keyring(sealer, TTL_MS // 1000)


async def ensured(database: Database, sealer: Sealer = OLD, now: int = NOW) -> Keyring:
    ring = keyring(sealer)
    await ring.ensure(database, now)
    return ring


def published(ring: Keyring, now: int) -> list[str]:
    return [key["kid"] for key in ring.jwks(now)["keys"]]


async def test_a_node_makes_the_first_key(database: Database) -> None:
    ring = await ensured(database)
    [row] = await list_keys(database)
    assert (row.created_at, row.signs_from, row.verifies_until) == (NOW, NOW, None)
    key = ring.signing_key(NOW)
    assert key.kid == row.kid
    assert key.private is not None
    assert ring.verifying(NOW).keys() == {row.kid}
    assert ring.known(row.kid, NOW)
    assert not ring.known("k_other", NOW)
    assert ring.jwks(NOW) == {"keys": [json.loads(row.public_key)]}
    assert ring.jwks(NOW)["keys"][0].keys() == {"kty", "crv", "x", "kid", "use", "alg"}


async def test_a_node_that_comes_later_takes_the_key_that_is_there(database: Database) -> None:
    first = await ensured(database)
    second = await ensured(database, now=NOW + 1)
    assert second.signing_key(NOW + 1).kid == first.signing_key(NOW).kid
    assert len(await list_keys(database)) == 1


async def test_nodes_that_start_together_agree_on_one_key(database: Database, database_place: Place) -> None:
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(await Database.open(database_place.url)) for _ in range(3)]
        rings = await asyncio.gather(*(ensured(node, now=NOW + shift) for shift, node in enumerate(nodes * 2)))
    assert len({ring.signing_key(NOW).kid for ring in rings}) == 1
    assert len(await list_keys(database)) == 1


async def test_a_key_is_made_anew_when_every_one_has_ended(database: Database) -> None:
    first = (await ensured(database)).signing_key(NOW).kid
    await database.write(Statement("UPDATE signing_keys SET verifies_until = ?", (NOW + 1,)))
    assert (await ensured(database, now=NOW)).signing_key(NOW).kid == first
    assert (await ensured(database, now=NOW + 1)).signing_key(NOW + 1).kid != first


async def test_the_private_part_is_nowhere_in_the_clear(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ring = await ensured(database)
    key = ring.signing_key(NOW)
    assert key.private is not None
    secret = str(key.private.as_dict(private=True)["d"])
    seed = base64.urlsafe_b64decode(secret + "=")
    [row] = await list_keys(database)
    await keyring(NEW).load(database)
    shown = " ".join([repr(ring), repr(key), repr(row), row.public_key, caplog.text])
    assert seed not in row.private_key
    assert not any(text in shown for text in (secret, seed.hex(), repr(seed), repr(row.private_key)))
    assert key.kid in repr(ring)
    assert OLD.open(row.private_key, f"signing_keys.private_key:{row.kid}") == seed


# --- rotation ---


async def test_a_new_key_is_published_before_it_signs(database: Database) -> None:
    ring = await ensured(database)
    old = ring.signing_key(NOW).kid
    at = NOW + 5000
    new = await ring.rotate(database, at, lead_ms=LEAD_MS)
    begins = at + LEAD_MS
    assert new.signs_from == begins
    assert published(ring, at) == [old, new.kid]
    assert ring.signing_key(begins - 1).kid == old
    assert ring.signing_key(begins).kid == new.kid
    assert ring.known(new.kid, at), "another node's clock may already let it sign"
    ends = begins + TTL_MS + CLOCK_SKEW_MS
    assert ring.known(old, ends - 1)
    assert not ring.known(old, ends)
    assert ring.verifying(ends).keys() == {new.kid}
    assert published(ring, ends) == [new.kid]
    assert ring.signing_key(ends + 10**12).kid == new.kid


async def test_a_node_that_reads_the_rows_again_knows_the_same(database: Database) -> None:
    ring, other = await ensured(database), await ensured(database)
    new = await ring.rotate(database, NOW, lead_ms=LEAD_MS)
    assert not other.known(new.kid, NOW)
    await other.load(database)
    assert other.jwks(NOW) == ring.jwks(NOW)
    assert other.signing_key(NOW + LEAD_MS).kid == new.kid


async def test_a_rotation_is_in_the_change_log(database: Database) -> None:
    ring = await ensured(database)
    new = await ring.rotate(database, NOW, lead_ms=0)
    [rows] = await database.read(Statement("SELECT max(seq) FROM change_log WHERE doc = 'keys' AND cause = 'keys'"))
    assert rows == [(new.seq,)]


async def test_what_has_ended_goes_with_the_next_rotation(database: Database) -> None:
    ring = await ensured(database)
    first = await ring.rotate(database, NOW, lead_ms=0)
    ends = NOW + TTL_MS + CLOCK_SKEW_MS
    await ring.rotate(database, ends - 1, lead_ms=0)
    assert len(await list_keys(database)) == 3
    last = await ring.rotate(database, ends, lead_ms=0)
    assert first.kid in {row.kid for row in await list_keys(database)}
    assert len(await list_keys(database)) == 3
    assert ring.signing_key(ends).kid == last.kid


async def test_a_rotation_at_once_overtakes_one_that_waits(database: Database) -> None:
    ring = await ensured(database)
    waiting = await ring.rotate(database, NOW, lead_ms=LEAD_MS)
    at_once = await ring.rotate(database, NOW + 1000, lead_ms=0)
    for now in (NOW + 1000, NOW + LEAD_MS, NOW + LEAD_MS + 1000, NOW + 10 * TTL_MS):
        assert ring.signing_key(now).kid == at_once.kid
    assert ring.known(waiting.kid, NOW + LEAD_MS)


async def test_two_rotations_at_once_leave_one_key_that_lasts(database: Database) -> None:
    await ensured(database)
    rings = [keyring(), keyring()]
    made = await asyncio.gather(*(ring.rotate(database, NOW, lead_ms=LEAD_MS) for ring in rings))
    rows = {row.kid: row for row in await list_keys(database)}
    assert [rows[new.kid].verifies_until is None for new in made].count(True) == 1
    for ring in rings:
        await ring.load(database)
    assert len({ring.signing_key(NOW + LEAD_MS).kid for ring in rings}) == 1


@pytest.mark.storages("file")
@pytest.mark.parametrize("seed", range(5))
async def test_every_token_outlives_every_rotation(database: Database, seed: int) -> None:
    """Whatever rotations come one after the other, a token is good until its own end."""
    chance, now = random.Random(seed), NOW
    ring = await ensured(database)
    tokens: list[Claims] = []
    texts: dict[str, str] = {}
    for number in range(40):
        now += chance.choice([0, 1, 1000, 60_000, 500_000, 2_000_000])
        key = ring.signing_key(now)
        assert key.private is not None
        claims = Claims("u_ada", "s_1", now // 1000 * 1000 + TTL_MS, now // 1000 * 1000, f"at_{number}", "x", key.kid)
        tokens.append(claims)
        texts[claims.id] = sign(claims, key.private, issuer="i", audience="a")
        if chance.random() < 0.7:
            await ring.rotate(database, now, lead_ms=chance.choice([0, 1000, LEAD_MS, LEAD_MS, 3 * TTL_MS]))
        tokens = [claims for claims in tokens if claims.expires_at > now]
        for claims in tokens:
            found = verify(texts[claims.id], ring.verifying(now), issuer="i", audience="a", now_ms=now)
            assert found == claims
    assert len(await list_keys(database)) < 40


async def test_discarding_ends_the_older_keys_at_once(database: Database) -> None:
    ring = await ensured(database)
    old = ring.signing_key(NOW).kid
    waiting = await ring.rotate(database, NOW, lead_ms=LEAD_MS)
    new = await ring.rotate(database, NOW + 1, lead_ms=LEAD_MS, discard=True)
    assert new.signs_from == NOW + 1
    assert published(ring, NOW + 1) == [new.kid]
    assert not ring.known(old, NOW + 1)
    assert not ring.known(waiting.kid, NOW + 1)
    assert ring.signing_key(NOW + 1).kid == new.kid
    assert [row.kid for row in await list_keys(database)] == [new.kid]


async def test_the_first_rotation_of_an_empty_database_signs_at_once(database: Database) -> None:
    ring = keyring()
    new = await ring.rotate(database, NOW, lead_ms=LEAD_MS)
    assert new.signs_from == NOW
    assert ring.signing_key(NOW).kid == new.kid


async def test_a_node_whose_clock_is_behind_signs_with_the_first_key(database: Database) -> None:
    await ensured(database, now=NOW)
    behind = await ensured(database, now=NOW - 30_000)
    assert len(await list_keys(database)) == 1
    assert behind.known(behind.signing_key(NOW - 30_000).kid, NOW - 30_000)


def test_where_no_key_has_begun_the_first_to_come_signs() -> None:
    later = SigningKeyRow("k_a", "{}", b"", NOW, NOW + 9)
    sooner = SigningKeyRow("k_b", "{}", b"", NOW, NOW + 5, NOW + 99)
    assert signer([later, sooner], NOW) is sooner
    assert signer([later, sooner], NOW + 5) is sooner
    assert signer([later, sooner], NOW + 9) is later
    assert signer([later, sooner], NOW + 99) is later
    assert signer([sooner], NOW + 99) is None
    assert signer(list[SigningKeyRow](), NOW) is None


# --- the master key ---


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


async def test_a_master_key_that_does_not_open_them_stops_the_start(database: Database) -> None:
    await ensured(database)
    with pytest.raises(ConfigError) as error:
        await ensured(database, NEW)
    text = one_line(error)
    assert text.startswith("auth.master_key: does not open the signing keys of this database")
    assert text.endswith("gateway keys rotate --discard")
    assert len(await list_keys(database)) == 1


async def test_a_key_that_will_sign_must_open_too(database: Database) -> None:
    await ensured(database)
    [row] = await list_keys(database)
    await keyring(BOTH).rotate(database, NOW, lead_ms=LEAD_MS)
    ring = await ensured(database, NEW)
    assert ring.signing_key(NOW).kid != ring.signing_key(NOW + LEAD_MS).kid
    # As if the older one had not been sealed anew: the one that signs now opens, the next one does not.
    await database.write(Statement("UPDATE signing_keys SET private_key = ? WHERE kid = ?", (row.private_key, row.kid)))
    with pytest.raises(ConfigError):
        await ensured(database, OLD)


async def test_rotation_seals_the_older_keys_under_the_newest_master_key(database: Database) -> None:
    await ensured(database, OLD)
    before = [row.private_key for row in await list_keys(database)]
    await (await ensured(database, BOTH)).rotate(database, NOW, lead_ms=LEAD_MS)
    rows = await list_keys(database)
    assert len(rows) == 2
    assert all(NEW.is_newest(row.private_key) for row in rows)
    assert not {row.private_key for row in rows} & set(before)
    only_new = await ensured(database, NEW)
    assert only_new.signing_key(NOW).kid == rows[0].kid


async def test_a_rotation_needs_the_master_key_of_the_nodes(database: Database) -> None:
    await ensured(database, OLD)
    before = await list_keys(database)
    with pytest.raises(ConfigError):
        await keyring(NEW).rotate(database, NOW, lead_ms=0)
    assert await list_keys(database) == before
    ring = keyring(NEW)
    new = await ring.rotate(database, NOW, discard=True)
    assert ring.signing_key(NOW).kid == new.kid
    assert (await ensured(database, NEW)).signing_key(NOW).kid == new.kid


async def test_a_node_goes_on_verifying_what_it_can_not_open(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await ensured(database, OLD)
    other = keyring(BOTH)
    await other.rotate(database, NOW, lead_ms=0)
    ring = keyring(OLD)
    await ring.load(database)
    assert ring.verifying(NOW).keys() == other.verifying(NOW).keys()
    assert len(ring.verifying(NOW)) == 2
    assert published(ring, NOW) == published(other, NOW)
    assert caplog.text.count("can not be opened") == 2
    with pytest.raises(Unavailable):
        ring.signing_key(NOW)


async def test_a_running_node_signs_with_what_it_has_as_long_as_that_verifies(database: Database) -> None:
    """Somebody rotated with a newer master key that this node was not given yet."""
    ring = await ensured(database, OLD)
    old = ring.signing_key(NOW).kid
    new = await keyring(BOTH).rotate(database, NOW, lead_ms=0)
    await ring.load(database)
    assert ring.verifying(NOW).keys() == {old, new.kid}
    assert ring.signing_key(NOW).kid == old
    ends = NOW + TTL_MS + CLOCK_SKEW_MS
    assert ring.signing_key(ends - 1).kid == old
    with pytest.raises(Unavailable):
        ring.signing_key(ends)


# --- rows that somebody wrote ---


async def test_a_private_part_does_not_open_in_another_row(database: Database) -> None:
    ring = await ensured(database)
    await ring.rotate(database, NOW, lead_ms=0)
    first, second = await list_keys(database)
    statement = "UPDATE signing_keys SET private_key = ? WHERE kid = ?"
    await database.write(
        Statement(statement, (second.private_key, first.kid)), Statement(statement, (first.private_key, second.kid))
    )
    later = keyring()
    await later.load(database)
    assert len(later.verifying(NOW)) == 2
    with pytest.raises(Unavailable):
        later.signing_key(NOW)


async def test_a_kid_never_stands_for_another_key(database: Database) -> None:
    """A remembered verdict says only which `kid` signed: nobody may put his own key under that name."""
    ring = await ensured(database)
    [row] = await list_keys(database)
    foreign = private_key(b"\x07" * 32)
    jwk = json.dumps(dict(foreign.as_dict(private=False)) | {"kid": row.kid})
    await database.write(Statement("UPDATE signing_keys SET public_key = ?", (jwk,)))
    await ring.load(database)
    assert not ring.known(row.kid, NOW)
    assert ring.verifying(NOW) == {}
    claims = Claims("u_ada", "s_1", NOW + 1000, NOW, "at_1", "x", row.kid)
    with pytest.raises(AuthFailed):
        verify(
            sign(claims, foreign, issuer="i", audience="a"), ring.verifying(NOW), issuer="i", audience="a", now_ms=NOW
        )
    with pytest.raises(ConfigError):
        await ensured(database)


@pytest.mark.parametrize("jwk", ["{}", '{"kty":"oct","k":"c2VjcmV0"}', '{"kty":"RSA","n":"AQAB","e":"AQAB"}'])
async def test_a_row_that_is_no_key_is_left_out(database: Database, jwk: str) -> None:
    ring = await ensured(database)
    kid = ring.signing_key(NOW).kid
    await database.write(add_key(SigningKeyRow("k_bad", jwk, b"", NOW, NOW, None)))
    await ring.load(database)
    assert published(ring, NOW) == [kid]
    assert ring.signing_key(NOW).kid == kid


async def test_what_was_known_stays_when_the_database_is_away(database: Database) -> None:
    ring = await ensured(database)
    kid = ring.signing_key(NOW).kid
    await database.close()
    with pytest.raises(StoreUnavailable):
        await ring.load(database)
    assert ring.signing_key(NOW).kid == kid


def test_a_keyring_that_was_not_filled_knows_nothing() -> None:
    ring = keyring()
    assert ring.jwks(NOW) == {"keys": []}
    assert repr(ring) == "Keyring()"
    with pytest.raises(Unavailable):
        ring.signing_key(NOW)


def test_a_signing_key_shows_nothing_of_itself() -> None:
    key = private_key(b"\x07" * 32)
    public = public_key(json.dumps(dict(key.as_dict(private=False))))
    assert (
        repr(SigningKey(key_id(key), public, key, 1, 2))
        == f"SigningKey('{key_id(key)}', signs_from=1, verifies_until=2)"
    )
