"""A ticket opens one session, soon, for whoever made it, with the credential that it was made with."""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import Any

import msgspec
import pytest

from gateway.auth.signed import SignedValues
from gateway.auth.tickets import MAX_LENGTH, TICKET_S, Tickets
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.sealing import Sealer
from gateway.errors import AuthFailed, GatewayError, Unavailable
from gateway.store.database import Database, Statement
from gateway.store.tickets import KEPT_MS, prune_tickets
from tests.support.flaky_store import FlakyStore
from tests.support.people import add_plan, add_token, add_user, insert, run

NOW = 1_795_288_200_000
HOUR = 3_600_000
TTL_S = 900
KEY = bytes(range(32))
HASH = "0123456789abcdef" + 48 * "0"


class Rig:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = FlakyStore(database)
        self.now = NOW
        self.tickets = self.node(self.store)

    def node(self, database: Any, key: bytes = KEY) -> Tickets:
        """Tickets of a node at this database."""
        return Tickets(database, SignedValues(Sealer([key]), lambda: self.now), TTL_S, lambda: self.now)

    def ticket(self, principal: Principal, *, by_cookie: bool = True) -> str:
        return self.tickets.issue(principal, by_cookie=by_cookie)

    async def refused(self, text: str) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.tickets.redeem(text)
        assert len(text) < 10 or text not in caught.value.message
        return caught.value

    async def used(self) -> int:
        [[(count,)]] = await self.database.read(Statement("SELECT count(*) FROM used_tickets"))
        return int(count)


LOGIN = Principal(
    PrincipalKind.USER, "ada", CredentialKind.LOGIN_SESSION, "s_1", NOW + 60_000, credential_mark="k_signing"
)


def by_token(**fields: Any) -> Principal:
    token = Principal(PrincipalKind.USER, "ada", CredentialKind.API_TOKEN, "t_ada", credential_mark=HASH)
    return msgspec.structs.replace(token, **fields)


@pytest.fixture
async def rig(database: Database) -> Rig:
    await database.write(
        *add_plan("free"),
        add_user("ada"),
        add_user("bob"),
        insert("login_sessions", id="s_1", user_id="ada", expires_at=NOW + HOUR),
        add_token("ada", "x", token_hash=HASH, scopes={"permissions": ["a"]}),
    )
    return Rig(database)


async def test_a_ticket_of_a_cookie_stands_for_its_login_as_long_as_an_access_token_would(rig: Rig) -> None:
    principal = await rig.tickets.redeem(rig.ticket(LOGIN))
    assert principal == msgspec.structs.replace(LOGIN, expires_at=NOW + TTL_S * 1000)
    await run(rig.database, "UPDATE login_sessions SET expires_at = ?", NOW + 5000)
    assert (await rig.tickets.redeem(rig.ticket(LOGIN))).expires_at == NOW + 5000


async def test_a_ticket_of_an_access_token_ends_with_it(rig: Rig) -> None:
    principal = await rig.tickets.redeem(rig.ticket(LOGIN, by_cookie=False))
    assert principal == LOGIN
    await run(rig.database, "UPDATE login_sessions SET expires_at = ?", NOW + 5000)
    assert (await rig.tickets.redeem(rig.ticket(LOGIN, by_cookie=False))).expires_at == NOW + 5000
    last = rig.ticket(msgspec.structs.replace(LOGIN, expires_at=NOW + 1000), by_cookie=False)
    rig.now += 1000
    assert isinstance(await rig.refused(last), AuthFailed)


async def test_a_ticket_of_an_api_token_is_worth_what_the_token_is_now(rig: Rig) -> None:
    ticket = rig.ticket(by_token(expires_at=NOW + 1000), by_cookie=False)
    await run(rig.database, """UPDATE api_tokens SET scopes = '{"permissions":["b"]}', expires_at = ?""", NOW + HOUR)
    principal = await rig.tickets.redeem(ticket)
    assert principal == by_token(permissions=frozenset(("b",)), expires_at=NOW + HOUR)


async def test_it_is_text_for_a_query_and_names_no_secret(rig: Rig) -> None:
    ticket = rig.ticket(by_token())
    assert ticket.startswith("gt_")
    assert set(ticket) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert len(ticket) < 400
    assert rig.ticket(LOGIN) != rig.ticket(LOGIN)


async def test_it_works_once(rig: Rig) -> None:
    ticket = rig.ticket(LOGIN)
    await rig.tickets.redeem(ticket)
    for node in (rig.tickets, rig.node(rig.database)):
        with pytest.raises(AuthFailed):
            await node.redeem(ticket)
    assert await rig.used() == 1


async def test_of_a_hundred_at_once_on_two_nodes_one_gets_in(rig: Rig) -> None:
    ticket, nodes = rig.ticket(LOGIN), (rig.tickets, rig.node(rig.database))
    outcomes = await asyncio.gather(*(nodes[n % 2].redeem(ticket) for n in range(100)), return_exceptions=True)
    assert sum(isinstance(outcome, Principal) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AuthFailed) for outcome in outcomes) == 99


async def test_it_works_for_half_a_minute(rig: Rig) -> None:
    first, second = rig.ticket(LOGIN), rig.ticket(LOGIN)
    rig.now += TICKET_S * 1000 - 1
    await rig.tickets.redeem(first)
    rig.now += 1
    assert isinstance(await rig.refused(second), AuthFailed)
    rig.now -= 1000
    await rig.tickets.redeem(second)


async def test_what_was_signed_in_the_middle_of_a_second_lasts_as_long(rig: Rig) -> None:
    rig.now += 999
    ticket = rig.ticket(LOGIN)
    rig.now += TICKET_S * 1000 - 1
    await rig.tickets.redeem(ticket)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE login_sessions SET revoked_at = 5",
        "DELETE FROM login_sessions",
        "UPDATE login_sessions SET user_id = 'bob'",
        "UPDATE login_sessions SET expires_at = 1795288200000",
        "UPDATE users SET status = 'disabled'",
        "DELETE FROM users WHERE id = 'ada'",
    ],
)
async def test_it_is_void_with_its_login(rig: Rig, sql: str) -> None:
    ticket = rig.ticket(LOGIN)
    await run(rig.database, sql)
    assert isinstance(await rig.refused(ticket), AuthFailed)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE api_tokens SET revoked_at = 5",
        "DELETE FROM api_tokens",
        "UPDATE api_tokens SET user_id = 'bob'",
        "UPDATE api_tokens SET token_hash = 'another'",
        "UPDATE api_tokens SET token_hash = token_hash || 'x'",
        "UPDATE api_tokens SET expires_at = 1795288200000",
        "UPDATE users SET status = 'disabled'",
        "DELETE FROM users WHERE id = 'ada'",
    ],
)
async def test_it_is_void_with_its_api_token(rig: Rig, sql: str) -> None:
    ticket = rig.ticket(by_token())
    await run(rig.database, sql)
    assert isinstance(await rig.refused(ticket), AuthFailed)


async def test_what_is_not_ours_is_refused_without_a_look_at_the_database(rig: Rig) -> None:
    good = rig.ticket(LOGIN)
    signed = SignedValues(Sealer([KEY]), lambda: NOW)
    fields = ["id", NOW + 5000, "ada", "login_session", "s_1", "", None]
    assert await rig.node(rig.database).redeem("gt_" + signed.dumps("ticket", fields))
    body, _, signature = good.rpartition(".")
    strange: list[Any] = [None, {}, [], 5, fields[:-1], [*fields, 1]]
    texts = [
        "",
        "gt_",
        good[3:],
        good[:-1],
        good + "A",
        good + "=",
        f"{body}.{signature[::-1]}",
        "gt_" + base64.urlsafe_b64encode(b"[1]").decode(),
        rig.node(rig.database, bytes(32)).issue(LOGIN),
        *("gt_" + signed.dumps(use, fields) for use in ("csrf", "cookie.access", "cookie.refresh", "device")),
        *("gt_" + signed.dumps("ticket", value) for value in strange),
        "gt_" + signed.dumps("ticket", ["id", NOW + 5000, "ada", "instance", "s_1", ""]),
        "gt_" + signed.dumps("ticket", ["id", "soon", "ada", "login_session", "s_1", ""]),
        "gt_" + signed.dumps("ticket", ["id", NOW + 5000, "ada", "login_session", secrets.token_hex(MAX_LENGTH), ""]),
        "gt_" + "A" * 2_000_000,
        "gt_\ud800",
        "gt_\0",
    ]
    messages = {(await rig.refused(text)).message for text in texts}
    assert messages == {"The ticket is not valid."}
    assert rig.store.reads == 0


async def test_only_users_get_one(rig: Rig) -> None:
    instance = Principal(PrincipalKind.INSTANCE, "i", CredentialKind.API_TOKEN, "k")
    with pytest.raises(AuthFailed):
        rig.tickets.issue(instance)


async def test_a_store_that_is_away_is_no_verdict_and_uses_nothing_up(rig: Rig) -> None:
    ticket = rig.ticket(LOGIN)
    rig.store.fail()
    error = await rig.refused(ticket)
    assert isinstance(error, Unavailable)
    assert error.retry_after_s
    assert "fire" not in error.message
    rig.store.recover()
    assert (await rig.tickets.redeem(ticket)).id == "ada"


async def test_what_was_used_is_forgotten_long_after_it_could_be_used(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.tickets.PRUNE_GROUP", 10)
    ticket = rig.ticket(LOGIN)
    await rig.tickets.redeem(ticket)
    for n in range(25):
        await rig.database.write(insert("used_tickets", id=f"old{n}", expires_at=n))
    ends = NOW + TICKET_S * 1000
    assert await prune_tickets(rig.database, ends + KEPT_MS) == 25
    assert isinstance(await rig.refused(ticket), AuthFailed)
    assert await prune_tickets(rig.database, ends + KEPT_MS + 1) == 1
    assert await rig.used() == 0


async def test_looking_for_tickets_to_forget_writes_nothing_where_there_are_none(rig: Rig) -> None:
    await rig.tickets.redeem(rig.ticket(LOGIN))
    writes = rig.database.counts.operations
    assert await prune_tickets(rig.database, NOW + KEPT_MS) == 0
    assert rig.database.counts.operations == writes
