"""Whoever revokes a credential by SQL ends its sessions at once, whether the client reads or not; nothing follows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from string import Template

import pytest

from tests.end_to_end.conftest import Connect, ConnectRaw
from tests.support.client import Client, Refused
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_websocket import frame
from tests.support.seed import GROW, Person, Seed, growth, now_ms
from tests.support.waiting import eventually

SETTINGS = {"channel_send_buffer_bytes": 16384}
PROMPT_S = 0.5
AT_THE_LATEST_S = 1.0
CUT_S = 1.5
"""What does not read is cut 1 s after the end; the rest is for the machine."""

REVOCATIONS = {
    "token revoked": "UPDATE api_tokens SET revoked_at = $now WHERE id = '$token'",
    "token deleted": "DELETE FROM api_tokens WHERE id = '$token'",
    "user disabled": "UPDATE users SET status = 'disabled' WHERE id = '$user'",
    "user deleted": "DELETE FROM users WHERE id = '$user'",
    "token given to somebody else": "UPDATE api_tokens SET user_id = '$other' WHERE id = '$token'",
    "token's secret replaced": "UPDATE api_tokens SET token_hash = 'another' || id WHERE id = '$token'",
}
revocations = pytest.mark.parametrize("sql", REVOCATIONS.values(), ids=list(REVOCATIONS))


def _sql(text: str, person: Person, other: Person) -> str:
    return Template(text).substitute(now=now_ms(), token=person.token_id, user=person.id, other=other.id)


async def _revoked(client: Client) -> None:
    ended = await client.end()
    assert (ended["code"], ended["reconnect"]) == ("revoked", "never")
    assert client.replica.close_code == 4500


@revocations
async def test_a_reader_is_told_at_once_and_gets_nothing_after_it(
    sql: str, gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person, other = seed.people(2)
    client, bystander = await connect(person.token), await connect(other.token)
    await client.until(lambda: client.data)
    await bystander.until(lambda: bystander.data)
    foreign.execute("BEGIN")
    foreign.execute("UPDATE users SET name = 'After' WHERE id = ?", person.id)
    foreign.execute(_sql(sql, person, other))
    await foreign.run("COMMIT")
    committed = time.monotonic()
    await _revoked(client)
    assert client.replica.received[-1].at - committed < PROMPT_S
    assert client.data["identity"]["name"] != "After"
    answer = await gateway.fetch("POST", "/api/auth/validate", person.token)
    assert answer.status == 401 or answer.json()["user_id"] == other.id
    await bystander.barrier()


@revocations
async def test_one_that_never_reads_is_cut_off(
    sql: str, gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect_raw: ConnectRaw
) -> None:
    person, other = seed.people(2)
    stuffed = await connect_raw(person.token, receive_buffer=4096)
    foreign.each(GROW, growth(person, 20))
    position = seed.last_seq()
    await eventually(lambda: gateway.metric("gateway_feed_position") >= position)
    assert gateway.metric("gateway_updates_conflated_total") > 0
    idle = await connect_raw(person.token)
    foreign.execute("UPDATE users SET name = 'After' WHERE id = ?", person.id)
    foreign.execute(_sql(sql, person, other))
    committed = time.monotonic()
    await eventually(idle.was_cut, AT_THE_LATEST_S)
    await eventually(stuffed.was_cut, CUT_S)
    assert time.monotonic() - committed < CUT_S
    await idle.read_to_end()
    assert idle.replica.ended is not None
    assert idle.replica.ended["code"] == "revoked"
    await stuffed.read_to_end()
    for held in stuffed.replica.documents.values():
        assert held.data["identity"]["name"] != "After"


@pytest.mark.parametrize("how", ["end of stream", "close frame"])
async def test_one_that_never_reads_and_has_begun_to_close_is_cut_off(
    how: str, gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect_raw: ConnectRaw
) -> None:
    person = seed.person()
    stuffed = await connect_raw(person.token, receive_buffer=4096)
    foreign.each(GROW, growth(person, 20))
    position = seed.last_seq()
    await eventually(lambda: gateway.metric("gateway_feed_position") >= position)
    if how == "end of stream":
        stuffed.sock.shutdown(socket.SHUT_WR)
    else:
        await stuffed.send(frame(0x8, struct.pack("!H", 1000)))
    foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", person.token_id)
    await eventually(stuffed.was_cut, CUT_S)


async def test_only_the_revoked_tokens_sessions_end(foreign: ForeignWriter, seed: Seed, connect: Connect) -> None:
    person = seed.person()
    second = seed.token(person.id)
    first_client, second_client = await connect(person.token), await connect(second.text)
    by_message = await connect(person.token, by="message")
    foreign.execute("DELETE FROM api_tokens WHERE id = ?", person.token_id)
    await _revoked(first_client)
    await _revoked(by_message)
    foreign.execute("UPDATE users SET name = 'Still here' WHERE id = ?", person.id)
    await second_client.until(lambda: second_client.data["identity"]["name"] == "Still here")


async def test_all_sessions_of_a_disabled_user_end(foreign: ForeignWriter, seed: Seed, connect: Connect) -> None:
    person = seed.person()
    clients = [await connect(person.token) for _ in range(5)]
    foreign.execute("UPDATE users SET status = 'disabled' WHERE id = ?", person.id)
    for client in clients:
        await _revoked(client)
    foreign.execute("UPDATE users SET status = 'active' WHERE id = ?", person.id)
    back = await connect(person.token)
    await back.until(lambda: back.data)
    assert back.data["identity"]["status"] == "active"


@pytest.mark.storages("file")
async def test_a_user_deleted_by_a_program_without_foreign_keys_leaves_no_living_token(
    gateway: GatewayProcess, seed: Seed, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    with ForeignWriter(gateway.database, foreign_keys=False) as careless:
        careless.execute("DELETE FROM users WHERE id = ?", person.id)
    await _revoked(client)


async def test_a_document_of_a_deleted_user_is_gone_for_who_watched_it(
    foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    admin = seed.person(is_admin=1)
    other = seed.person()
    client = await connect(admin.token, watch=["self", other.doc])
    await client.until(lambda: other.doc in client.replica.confirmed)
    foreign.execute("DELETE FROM users WHERE id = ?", other.id)
    gone = await client.message("gone")
    assert (gone["doc"], gone["reason"]) == (other.doc, "deleted")


async def test_narrower_scopes_take_documents_away(foreign: ForeignWriter, seed: Seed, connect: Connect) -> None:
    admin = seed.person(is_admin=1)
    other = seed.person()
    token = seed.token(admin.id, scopes='{"permissions":["users.read"]}')
    client = await connect(token.text, watch=["self", other.doc])
    await client.until(lambda: other.doc in client.replica.confirmed)
    foreign.execute("""UPDATE api_tokens SET scopes = '{"permissions":[]}' WHERE id = ?""", token.id)
    gone = await client.message("gone")
    assert (gone["doc"], gone["reason"]) == (other.doc, "forbidden")
    await client.barrier()


async def test_an_end_set_by_sql_is_kept(foreign: ForeignWriter, seed: Seed, connect: Connect) -> None:
    person = seed.person()
    client = await connect(person.token)
    ends = now_ms() + 1500
    foreign.execute("UPDATE api_tokens SET expires_at = ? WHERE id = ?", ends, person.token_id)
    await client.message("expiring")
    ended = await client.end()
    assert ended["code"] == "token_expired"
    assert 0 <= now_ms() - ends < 1000
    past = await connect(seed.token(person.id).text)
    foreign.execute("UPDATE api_tokens SET expires_at = 1000 WHERE user_id = ?", person.id)
    assert (await past.end())["code"] == "token_expired"


async def test_a_token_revoked_while_its_session_opens_never_stays_open(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    """Somebody else writes as well, so that the feed passes by at every moment of the handshake."""
    people = seed.people(20)
    names = [(f"Name {number}", people[number % 20].id) for number in range(600)]

    async def attempt(token: str, by: str) -> None:
        with contextlib.suppress(Refused):
            client = await connect(token, by=by)
            assert (await client.end())["code"] in ("revoked", "auth_failed")

    with gateway.foreign_writer() as noise:
        noise.send_each("UPDATE users SET name = ? WHERE id = ?", names, pause_s=0.001)
        for _ in range(3):
            with seed.transaction():
                tokens = [seed.token(people[number % 20].id) for number in range(40)]
            foreign.send_each("DELETE FROM api_tokens WHERE id = ?", [(token.id,) for token in tokens], pause_s=0.001)
            async with asyncio.timeout(10):
                await asyncio.gather(*(attempt(token.text, by) for token in tokens for by in ("header", "message")))
            await asyncio.to_thread(foreign.receive)
        await asyncio.to_thread(noise.receive)
