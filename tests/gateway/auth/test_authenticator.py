from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.clock import rfc3339
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.errors import AuthFailed, GatewayError, StoreUnavailable, Unavailable
from gateway.store.database import Database, Statement
from tests.conftest import Place
from tests.support.flaky_store import FlakyStore
from tests.support.people import add_plan, add_token, add_user, run, token_text
from tests.support.services import authenticator

NOW = 1_795_288_200_000
HOUR = 3_600_000
ADA, BOB = token_text("ada"), token_text("bob")


class Rig:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = FlakyStore(database)
        self.now = NOW
        self.authenticator = authenticator(self.store, lambda: self.now)

    async def refused(self, token: str) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.authenticator.authenticate(token)
        assert len(token) < 10 or token not in caught.value.message
        return caught.value


@pytest.fixture
async def rig(database: Database) -> Rig:
    await database.write(*add_plan("free"), add_user("ada"), add_user("bob"), add_token("bob", BOB))
    return Rig(database)


async def test_a_token_stands_for_its_user(rig: Rig) -> None:
    await rig.database.write(add_token("ada", ADA, expires_at=NOW + 5, scopes={"permissions": ["users.read"]}))
    principal = await rig.authenticator.authenticate(ADA)
    assert (principal.kind, principal.id, principal.document) == (PrincipalKind.USER, "ada", "user:ada")
    assert (principal.credential_kind, principal.credential_id) == (CredentialKind.API_TOKEN, "t_ada")
    assert (principal.expires_at, principal.permissions) == (NOW + 5, frozenset(("users.read",)))
    assert ADA not in repr(principal)


@pytest.mark.parametrize(
    "token",
    [
        " ",
        "gw_",
        "gw_x",
        ADA[:-1],
        ADA + "0",
        ADA.lower(),
        ADA[:-1] + "!",
        "Bearer " + ADA,
        ADA + "\n",
        "x" * 2_000_000,
        ADA[:10] + "\u0660" + ADA[11:],
        "\ud800",
        "' OR 1=1 --",
    ],
    ids=lambda token: ascii(token[:12]),
)
async def test_what_has_not_the_form_of_a_token_never_reaches_the_database(rig: Rig, token: str) -> None:
    await rig.database.write(add_token("ada", ADA))
    assert isinstance(await rig.refused(token), AuthFailed)
    assert rig.store.reads == 0


async def test_an_unknown_revoked_or_disabled_one_is_refused_in_the_same_words(rig: Rig) -> None:
    texts = [(await rig.refused(token)).message for token in (token_text(), "gw_nonsense")]
    for change in (
        "UPDATE api_tokens SET revoked_at = 1",
        "UPDATE api_tokens SET revoked_at = NULL, expires_at = 1",
        "UPDATE api_tokens SET expires_at = NULL, token_hash = 'another'",
        "UPDATE users SET status = 'disabled'",
        "DELETE FROM users WHERE id = 'bob'",
    ):
        await run(rig.database, change)
        error = await rig.refused(BOB)
        assert isinstance(error, AuthFailed)
        texts.append(error.message)
    assert len(set(texts)) == 1


async def test_a_token_ends_with_the_millisecond(rig: Rig) -> None:
    await rig.database.write(add_token("ada", ADA, expires_at=NOW))
    rig.now = NOW - 1
    assert (await rig.authenticator.authenticate(ADA)).expires_at == NOW
    rig.now = NOW
    assert isinstance(await rig.refused(ADA), AuthFailed)


@pytest.mark.parametrize("expires_at", [253_402_300_800_000, 10**17, 2**63 - 1])
async def test_an_end_beyond_the_calendar_is_no_end(rig: Rig, expires_at: int) -> None:
    await rig.database.write(add_token("ada", ADA, expires_at=expires_at))
    assert (await rig.authenticator.authenticate(ADA)).expires_at is None


async def test_the_last_moment_of_the_calendar_is_an_end(rig: Rig) -> None:
    await rig.database.write(add_token("ada", ADA, expires_at=253_402_300_799_999))
    principal = await rig.authenticator.authenticate(ADA)
    assert principal.expires_at is not None
    assert rfc3339(principal.expires_at) == "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("scopes", "permissions"),
    [
        ("{}", None),
        ('{"permissions": null}', frozenset()),
        ('{"note": "x"}', frozenset()),
        ('{"permissions": []}', frozenset()),
        ('{"permissions": ["a", "b", "a"]}', frozenset(("a", "b"))),
        ('{"permissions": "a"}', frozenset()),
        ('{"permissions": [1]}', frozenset()),
        ('{"permissions": {"a": true}}', frozenset()),
    ],
)
async def test_scopes_narrow_and_what_is_not_understood_allows_nothing(
    rig: Rig, scopes: str, permissions: frozenset[str] | None
) -> None:
    await rig.database.write(add_token("ada", ADA))
    await run(rig.database, "UPDATE api_tokens SET scopes = ? WHERE id = 't_ada'", scopes)
    assert (await rig.authenticator.authenticate(ADA)).permissions == permissions


async def test_scopes_of_any_depth_are_decided(rig: Rig) -> None:
    await rig.database.write(add_token("ada", ADA))
    scopes = '{"permissions": ' + "[" * 998 + "]" * 998 + "}"
    await run(rig.database, "UPDATE api_tokens SET scopes = ? WHERE id = 't_ada'", scopes)
    assert (await rig.authenticator.authenticate(ADA)).permissions == frozenset()


# --- together --------------------------------------------------------------------------------------------------------


async def test_look_ups_that_arrive_together_are_read_together(rig: Rig) -> None:
    tokens = [token_text() for _ in range(300)]
    await rig.database.write(*(add_token("ada", token, id=f"t_{n}") for n, token in enumerate(tokens)))
    strangers = [token_text() for _ in range(20)]
    asked = [*tokens, *strangers, *tokens]
    outcomes = await asyncio.gather(*map(rig.authenticator.authenticate, asked), return_exceptions=True)
    ids = [outcome.credential_id if isinstance(outcome, Principal) else type(outcome) for outcome in outcomes]
    expected: list[Any] = [f"t_{n}" for n in range(300)]
    assert ids == [*expected, *[AuthFailed] * 20, *expected]
    assert rig.store.reads == 2
    assert rig.authenticator.looked_up == 320


class CountedWaiting(dict[str, list[asyncio.Future[Principal]]]):
    """Those who wait, and how many of them are looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self.looked_at += 1
            yield key


async def test_a_storm_is_not_gone_through_for_each_batch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.auth.authenticator.BATCH", 10)
    rig.authenticator._waiting = waiting = CountedWaiting()
    tokens = [token_text() for _ in range(200)]
    await asyncio.gather(*map(rig.authenticator.authenticate, tokens), return_exceptions=True)
    assert rig.store.reads == 20
    assert waiting.looked_at <= 220


async def test_a_row_that_can_not_be_judged_leaves_nobody_waiting(rig: Rig) -> None:
    await rig.database.write(add_token("ada", ADA, expires_at=NOW + 5))
    rig.now = None  # type: ignore[assignment]
    async with asyncio.timeout(5):
        assert isinstance(await rig.refused(ADA), Unavailable)
    rig.now = NOW
    assert (await rig.authenticator.authenticate(ADA)).id == "ada"


async def test_who_comes_while_others_are_read_is_not_forgotten(rig: Rig) -> None:
    going, asked = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        asked.set()
        await going.wait()

    rig.store.gate = gate
    first = asyncio.create_task(rig.authenticator.authenticate(BOB))
    await asked.wait()
    second = asyncio.create_task(rig.authenticator.authenticate(BOB))
    third = asyncio.create_task(rig.refused(token_text()))
    going.set()
    assert (await first).id == (await second).id == "bob"
    assert isinstance(await third, AuthFailed)
    assert rig.store.reads == 2


async def test_who_gives_up_waiting_does_not_disturb_the_others(rig: Rig) -> None:
    waiting = [asyncio.create_task(rig.authenticator.authenticate(BOB)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(isinstance(outcome, Principal) for outcome in done[1:])


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_is_no_verdict(rig: Rig) -> None:
    rig.store.fail()
    error = await rig.refused(BOB)
    assert isinstance(error, Unavailable)
    assert error.retry_after_s == 1.0
    assert "fire" not in error.message
    rig.store.recover()
    assert (await rig.authenticator.authenticate(BOB)).id == "bob"


async def test_an_unforeseen_fault_is_logged_and_no_verdict(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.store.broken = lambda: RuntimeError("who knows")
    assert isinstance(await rig.refused(BOB), Unavailable)
    assert "reading tokens failed" in caplog.text
    assert BOB not in caplog.text


async def test_one_bad_row_keeps_nobody_out(rig: Rig) -> None:
    await rig.database.write(add_token("ada", ADA))
    await run(rig.database, "UPDATE api_tokens SET scopes = CAST(x'7b2261223a22ff227d' AS TEXT) WHERE id = 't_ada'")
    bob, ada = await asyncio.gather(
        rig.authenticator.authenticate(BOB), rig.authenticator.authenticate(ADA), return_exceptions=True
    )
    assert isinstance(bob, Principal)
    assert isinstance(ada, AuthFailed)


# --- later -----------------------------------------------------------------------------------------------------------


async def test_a_credential_is_looked_at_again_by_its_row(rig: Rig) -> None:
    await rig.database.write(add_token("ada", ADA))
    before = [await rig.authenticator.authenticate(token) for token in (ADA, BOB)]
    await run(
        rig.database,
        "UPDATE api_tokens SET expires_at = ?, scopes = ? WHERE id = 't_ada'",
        NOW + 9,
        json.dumps({"permissions": ["x"]}),
    )
    await run(rig.database, "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_bob'")
    async with rig.database.snapshot() as snapshot:
        after = await rig.authenticator.recheck(snapshot, before)
        assert await rig.authenticator.recheck(snapshot, []) == {}
    ada = after[before[0]]
    assert after[before[1]] is None
    assert ada is not None
    assert (ada.id, ada.expires_at, ada.permissions) == ("ada", NOW + 9, frozenset(("x",)))
    assert ada.same_credential(before[0])


async def test_another_secret_or_another_user_in_the_row_is_another_credential(rig: Rig) -> None:
    before = await rig.authenticator.authenticate(BOB)
    for change in (
        "UPDATE api_tokens SET token_hash = token_hash || 'x' WHERE id = 't_bob'",
        "UPDATE api_tokens SET token_hash = 'ff'",
        "UPDATE api_tokens SET user_id = 'ada'",
    ):
        await run(rig.database, change)
        after = (await rig.authenticator.recheck(rig.database, [before]))[before]
        assert after is not None
        assert not after.same_credential(before)


async def used(rig: Rig) -> int | None:
    [[(last_used_at,)]] = await rig.database.read(Statement("SELECT last_used_at FROM api_tokens WHERE id = 't_bob'"))
    return None if last_used_at is None else int(last_used_at)


async def test_use_is_written_down_once_an_hour(rig: Rig) -> None:
    await rig.authenticator.record_use()
    assert rig.store.reads == 0
    await rig.authenticator.authenticate(BOB)
    assert await used(rig) is None
    await rig.authenticator.record_use()
    assert await used(rig) == NOW
    rig.now = NOW + HOUR
    await rig.authenticator.authenticate(BOB)
    await rig.authenticator.record_use()
    assert await used(rig) == NOW
    rig.now = NOW + HOUR + 1
    await rig.authenticator.authenticate(BOB)
    await rig.authenticator.record_use()
    assert await used(rig) == NOW + HOUR + 1


async def test_use_that_could_not_be_written_is_written_later(rig: Rig) -> None:
    await rig.authenticator.authenticate(BOB)
    rig.store.fail()
    with pytest.raises(StoreUnavailable):
        await rig.authenticator.record_use()
    rig.store.recover()
    await rig.authenticator.record_use()
    assert await used(rig) == NOW


@pytest.mark.storages("replica")
async def test_beside_a_replica_a_token_is_good_at_once_and_its_user_known(
    database: Database, database_place: Place
) -> None:
    accepting = authenticator(database, lambda: NOW)
    async with await Database.open(database_place.url) as elsewhere:
        await elsewhere.write(*add_plan("free"))
        for number in range(20):
            token = token_text(f"user{number}")
            await elsewhere.write(add_user(f"user{number}"), add_token(f"user{number}", token))
            principal = await accepting.authenticate(token)
            [users] = await database.near.read(Statement("SELECT id FROM users WHERE id = ?", (principal.id,)))
            assert users == [(f"user{number}",)]
        with pytest.raises(AuthFailed):
            await accepting.authenticate(token_text("nobody"))
