"""A client that was cut off comes back with what it holds: it is confirmed if still right, and else sent whole."""

from __future__ import annotations

import asyncio

import pytest

from tests.end_to_end.conftest import Connect, caught_up
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import fresh_document, user_document
from tests.support.seed import Person, Seed

pytestmark = pytest.mark.storages("file", "server", "replica")


async def test_what_did_not_change_is_only_confirmed(seed: Seed, foreign: ForeignWriter, connect: Connect) -> None:
    person = seed.person()
    first = await connect(person.token)
    await first.until(lambda: first.data)
    first.cut()
    back = await connect(person.token, held=first.replica.documents)
    await back.until(lambda: back.data)
    assert [message["op"] for message in back.messages()] == ["hello", "ready", "current"]
    foreign.execute("UPDATE users SET name = 'After' WHERE id = ?", person.id)
    await back.until(lambda: back.data["identity"]["name"] == "After")
    assert back.messages()[-1]["op"] == "update"


async def test_what_changed_meanwhile_is_sent_whole(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    first = await connect(person.token)
    await first.until(lambda: first.data)
    first.cut()
    foreign.execute("UPDATE users SET name = 'Meanwhile' WHERE id = ?", person.id)
    await caught_up(gateway, seed)
    back = await connect(person.token, held=first.replica.documents)
    await back.until(lambda: back.data)
    assert [message["op"] for message in back.messages()] == ["hello", "ready", "snapshot"]
    assert back.held == user_document(foreign, person.id)


async def test_a_change_that_was_undone_meanwhile_is_no_change(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    first = await connect(person.token)
    await first.until(lambda: first.data)
    first.cut()
    foreign.execute("INSERT INTO user_permissions(user_id, permission) VALUES (?, 'can_fly')", person.id)
    foreign.execute("DELETE FROM user_permissions WHERE user_id = ?", person.id)
    await caught_up(gateway, seed)
    back = await connect(person.token, by="message", held=first.replica.documents)
    await back.until(lambda: back.data)
    assert [message["op"] for message in back.messages()] == ["hello", "ready", "current"]


async def test_a_revision_that_never_was_is_answered_by_the_whole(seed: Seed, connect: Connect) -> None:
    client = await connect(seed.person().token, watch=["self@0123456789abcdef"])
    await client.until(lambda: client.data)
    assert client.messages("snapshot")


async def test_each_of_several_documents_is_answered_once(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    plan = seed.plan([], {"minutes": (10, "month")})
    person, other = seed.people(2, plan, is_admin=1)
    organization = f"org:{seed.organization(plan, {person.id: 'member'})}"
    docs = ["self", other.doc, organization]
    first = await connect(person.token, watch=docs)
    await first.until(lambda: len(first.replica.confirmed) == 3)
    first.cut()
    foreign.execute("UPDATE users SET name = 'Meanwhile' WHERE id = ?", other.id)
    await caught_up(gateway, seed)
    back = await connect(person.token, held=first.replica.documents)
    await back.until(lambda: len(back.replica.confirmed) == 3)
    await back.barrier()
    answers = {message["doc"]: message["op"] for message in back.messages() if "doc" in message}
    assert answers == {person.doc: "current", other.doc: "snapshot", organization: "current"}
    assert len(back.messages()) == 6


async def test_the_revision_is_the_entity_tag_over_http(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    await client.until(lambda: client.data)
    tag = f'"{client.held.rev}"'
    answer = await gateway.fetch("GET", "/api/identity", person.token)
    assert (answer.status, answer.headers["etag"]) == (200, tag)
    unchanged = await gateway.fetch("GET", "/api/identity", person.token, headers={"If-None-Match": tag})
    assert (unchanged.status, unchanged.body) == (304, b"")
    foreign.execute("UPDATE users SET name = 'Another' WHERE id = ?", person.id)
    await client.until(lambda: client.data["identity"]["name"] == "Another")
    changed = await gateway.fetch("GET", "/api/identity", person.token, headers={"If-None-Match": tag})
    assert (changed.status, changed.headers["etag"]) == (200, f'"{client.held.rev}"')


async def test_sync_and_watching_again_send_the_whole(seed: Seed, connect: Connect) -> None:
    client = await connect(seed.person().token)
    await client.until(lambda: client.data)
    mark = client.mark()
    assert (await client.request("sync", doc="self"))["op"] == "reply"
    await client.message("snapshot", since=mark)
    mark = client.mark()
    assert (await client.request("watch", docs=[f"self@{client.held.rev}"]))["op"] == "reply"
    await client.message("current", since=mark)
    assert (await client.request("unwatch", docs=["self"]))["docs"] == [client.own]
    client.replica.confirmed.discard(client.own)
    assert (await client.request("sync", doc="self"))["code"] == "not_found"


async def test_revisions_outlive_a_killed_gateway(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    quiet, busy = seed.people(2)
    before = [await connect(person.token) for person in (quiet, busy)]
    for client in before:
        await client.until(lambda client=client: client.data)
    epoch = before[0].messages("hello")[0]["epoch"]
    gateway.kill()
    for client in before:
        await client.until(lambda client=client: client.replica.close_code == 1006)
    foreign.execute("UPDATE users SET name = 'While it was down' WHERE id = ?", busy.id)
    gateway.start()
    after = [
        await connect(person.token, held=client.replica.documents)
        for person, client in zip((quiet, busy), before, strict=True)
    ]
    for client in after:
        await client.until(lambda client=client: client.data)
    assert [client.messages()[2]["op"] for client in after] == ["current", "snapshot"]
    assert after[0].messages("hello")[0]["epoch"] == epoch
    assert after[1].held == user_document(foreign, busy.id)
    foreign.execute("UPDATE users SET name = 'And on' WHERE id = ?", quiet.id)
    await after[0].until(lambda: after[0].data["identity"]["name"] == "And on")


async def test_kills_amid_writes_lose_nothing(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    people = seed.people(5)
    names = [(f"Name {number}", people[number % 5].id) for number in range(600)]
    clients = [await connect(person.token) for person in people]
    foreign.send_each("UPDATE users SET name = ? WHERE id = ?", names, pause_s=0.004)
    for _ in range(2):
        for client in clients:
            await client.until(lambda client=client: len(client.messages("update")) >= 5)
        await asyncio.to_thread(gateway.restart)
        clients = [
            await connect(person.token, held=client.replica.documents)
            for person, client in zip(people, clients, strict=True)
        ]
    await asyncio.to_thread(foreign.receive)
    for person, client in zip(people, clients, strict=True):
        await client.until(lambda client=client, person=person: client.data["identity"]["name"] in _last(names, person))
        assert client.held[:2] == user_document(foreign, person.id)[:2]
    assert fresh_document(gateway, people[0])[:2] == clients[0].held[:2]


def _last(names: list[tuple[str, str]], person: Person) -> set[str]:
    return {[name for name, user in names if user == person.id][-1]}


async def test_a_gateway_that_was_stopped_for_a_while_catches_up(
    gateway: GatewayProcess, seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    person, other = seed.people(2)
    clients = [await connect(someone.token) for someone in (person, other)]
    for client in clients:
        await client.until(lambda client=client: client.data)
    gateway.pause()
    for number in range(50):
        foreign.execute("UPDATE users SET name = ? WHERE id = ?", f"Name {number}", person.id)
    foreign.execute("DELETE FROM api_tokens WHERE id = ?", other.token_id)
    gateway.resume()
    await clients[0].until(lambda: clients[0].data["identity"]["name"] == "Name 49")
    assert len(clients[0].messages("update")) < 50
    assert (await clients[1].end())["code"] == "revoked"


async def test_other_peoples_documents_end_with_the_permission_to_see_them(
    seed: Seed, foreign: ForeignWriter, connect: Connect
) -> None:
    reader, other = seed.people(2)
    seed.insert("user_permissions", user_id=reader.id, permission="users.read")
    client = await connect(reader.token, watch=["self", other.doc])
    await client.until(lambda: other.doc in client.replica.confirmed)
    foreign.execute("DELETE FROM user_permissions WHERE user_id = ?", reader.id)
    gone = await client.message("gone")
    assert (gone["doc"], gone["reason"]) == (other.doc, "forbidden")
    mark = client.mark()
    foreign.execute("UPDATE users SET name = 'Secret' WHERE id = ?", other.id)
    foreign.execute("UPDATE users SET name = 'Own' WHERE id = ?", reader.id)
    await client.until(lambda: client.data["identity"]["name"] == "Own")
    assert {message["doc"] for message in client.messages("update", since=mark)} == {reader.doc}
    assert (await client.request("watch", docs=[other.doc]))["code"] == "not_found"
    assert (await client.request("watch", docs=["user:nobody"]))["code"] == "not_found"
