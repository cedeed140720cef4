"""The channel of server instances: who opens one, what it shows, and when it ends. Another program writes the rows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest

from gateway.core.clock import rfc3339
from gateway.live.hub import INSTANCE_SESSIONS
from tests.end_to_end.conftest import Connect
from tests.support.client import Client, Refused
from tests.support.deployment import Deployment
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Seed, now_ms

pytestmark = pytest.mark.storages("file", "server", "replica")
HOUR = 3_600_000


@pytest.fixture
def shop(gateway: GatewayProcess, foreign: ForeignWriter) -> Deployment:
    return Deployment(gateway, foreign, networks='["127.0.0.0/8"]')


async def held(client: Client, doc: str) -> dict[str, Any]:
    """The document as the client holds it, once it came."""
    await client.until(lambda: doc in client.replica.confirmed)
    return dict(client.replica.documents[doc].data)


async def test_a_signed_handshake_opens_the_channel_of_the_instance(shop: Deployment, connect: Connect) -> None:
    client = await shop.connect(connect)
    assert client.own == shop.doc
    own = await held(client, shop.doc)
    assert own["identity"]["name"] == "Shop"
    assert own["limits"] == {"networks": ["127.0.0.0/8"], "requests_per_minute": 6000}
    assert set(own["keys"]) == {shop.key.kid}
    assert set(own["keys"][shop.key.kid]) == {"created_at"}


async def test_a_handshake_is_good_once(shop: Deployment, connect: Connect) -> None:
    headers = list(shop.signed("GET", "/ws").items())
    client = await connect(headers=headers)
    await client.until(lambda: client.replica.ready)
    with pytest.raises(Refused) as refused:
        await connect(headers=headers)
    assert refused.value.answer.status == 401
    assert refused.value.answer.json()["credential"] == "signature"


@pytest.mark.parametrize("how", [{"tag": "other"}, {"created": 1}, {"covered": ["@method"]}])
async def test_a_bad_handshake_is_refused(shop: Deployment, connect: Connect, how: Any) -> None:
    with pytest.raises(Refused) as refused:
        await shop.connect(connect, **how)
    assert refused.value.answer.status == 401


async def test_one_credential_is_enough(shop: Deployment, seed: Seed, connect: Connect) -> None:
    bearer = {"authorization": f"Bearer {seed.person().token}"}
    with pytest.raises(Refused) as refused:
        await connect(headers=list(shop.signed("GET", "/ws", headers=bearer).items()))
    assert refused.value.answer.status == 400


async def test_any_user_and_any_organization_can_be_watched(shop: Deployment, seed: Seed, connect: Connect) -> None:
    ada = seed.person(seed.plan(["can_fly"]))
    org = seed.organization(ada.plan, {ada.id: "owner"})
    client = await shop.connect(connect, [ada.doc, f"org:{org}"])
    assert (await held(client, ada.doc))["permissions"] == {"can_fly": True}
    assert set((await held(client, f"org:{org}"))["members"]) == {ada.id}
    mark = client.mark()
    seed.insert("user_permissions", user_id=ada.id, permission="can_fly", effect="deny")
    update = await client.message("update", since=mark, doc=ada.doc)
    assert update["patch"] == {"permissions": {"can_fly": None}}
    seed.foreign.execute("DELETE FROM users WHERE id = ?", ada.id)
    await client.message("gone", doc=ada.doc)


async def test_others_documents_do_not_exist(shop: Deployment, foreign: ForeignWriter, connect: Connect) -> None:
    other = Deployment(shop.gateway, foreign)
    client = await shop.connect(connect)
    for doc in (other.doc, "plan:free", "user:", "user:nobody", "audit", "instance:"):
        answer = await client.request("watch", docs=[doc])
        assert (answer["op"], answer["code"]) == ("error", "not_found"), doc


async def test_a_user_sees_none_of_it(shop: Deployment, seed: Seed, connect: Connect) -> None:
    root = seed.person(is_admin=1)
    client = await connect(root.token)
    for doc in (shop.doc, "revocations", "keys"):
        assert (await client.request("watch", docs=[doc]))["code"] == "not_found"


async def test_an_instance_does_not_spend_on_the_channel(shop: Deployment, connect: Connect) -> None:
    client = await shop.connect(connect)
    answer = await client.request("consume", quota="calls", amount=1, key="k")
    assert (answer["op"], answer["code"]) == ("error", "forbidden")


async def test_the_public_keys_are_a_document(shop: Deployment, gateway: GatewayProcess, connect: Connect) -> None:
    client = await shop.connect(connect, ["keys"])
    keys = await held(client, "keys")
    published = gateway.request("GET", "/.well-known/jwks.json").json()["keys"]
    assert keys == {key["kid"]: key for key in published}


async def test_what_is_revoked_is_told_at_once(shop: Deployment, seed: Seed, connect: Connect) -> None:
    ada = seed.person()
    session = f"s_{ada.id}"
    seed.insert("login_sessions", id=session, user_id=ada.id, expires_at=now_ms() + HOUR)
    client = await shop.connect(connect, ["revocations"])
    before = await held(client, "revocations")
    assert not {session, ada.token_id} & before.keys()
    for table, id, life_s in (("login_sessions", session, 900 + 120), ("api_tokens", ada.token_id, 86_400)):
        mark, began = client.mark(), time.time()
        seed.foreign.execute(f"UPDATE {table} SET revoked_at = ? WHERE id = ?", now_ms(), id)
        update = await client.message("update", since=mark, doc="revocations")
        assert set(update["patch"]) == {id}
        assert update["causes"] == ["revocation"]
        until = time.mktime(time.strptime(update["patch"][id][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        assert life_s - 2 <= until - began <= life_s + 15
    seed.foreign.execute("UPDATE api_tokens SET revoked_at = NULL WHERE id = ?", ada.token_id)
    await client.until(lambda: ada.token_id not in client.replica.documents["revocations"].data)


ENDS = {
    "disabled": "UPDATE instances SET status = 'disabled' WHERE id = :id",
    "deleted": "DELETE FROM instances WHERE id = :id",
    "key deleted": "DELETE FROM instance_keys WHERE id = :kid",
    "key moved": "UPDATE instance_keys SET instance_id = 'i_taker' WHERE id = :kid",
    "renamed": "UPDATE instances SET id = :id || 'x' WHERE id = :id",
}


@pytest.mark.parametrize("way", ENDS)
async def test_sql_ends_the_sockets(shop: Deployment, foreign: ForeignWriter, connect: Connect, way: str) -> None:
    other = Deployment(shop.gateway, foreign)
    foreign.execute("INSERT INTO instances(id) VALUES ('i_taker') ON CONFLICT DO NOTHING")
    client, bystander = await shop.connect(connect, ["revocations"]), await other.connect(connect)
    sql = ENDS[way].replace(":kid", f"'{shop.key.kid}'").replace(":id", f"'{shop.id}'")
    foreign.execute(sql)
    ended = await client.end()
    assert (ended["code"], ended["reconnect"]) == ("revoked", "never")
    await bystander.barrier()
    if way not in ("key moved", "renamed"):
        with pytest.raises(Refused) as refused:
            await shop.connect(connect)
        assert refused.value.answer.status == 401
        assert shop.validate("gw_x").status == 401


async def test_another_key_of_the_same_instance_goes_on(shop: Deployment, connect: Connect) -> None:
    second = shop.add_key()
    old, new = await shop.connect(connect), await shop.connect(connect, key=second)
    shop.foreign.execute("DELETE FROM instance_keys WHERE id = ?", shop.key.kid)
    assert (await old.end())["code"] == "revoked"
    await new.until(lambda: set(new.data.get("keys", {})) == {second.kid})


async def test_a_key_ends_at_its_date(shop: Deployment, connect: Connect) -> None:
    client = await shop.connect(connect)
    shop.foreign.execute("UPDATE instance_keys SET expires_at = ? WHERE id = ?", now_ms() + 1_500, shop.key.kid)
    await client.message("expiring")
    ended = await client.end()
    assert (ended["code"], ended["reconnect"]) == ("token_expired", "new_credential")
    with pytest.raises(Refused):
        await shop.connect(connect)


async def test_the_own_document_follows_its_rows(shop: Deployment, connect: Connect) -> None:
    client = await shop.connect(connect)
    await held(client, shop.doc)
    shop.foreign.execute("UPDATE instances SET name = 'Kiosk', requests_per_minute = 5 WHERE id = ?", shop.id)
    await client.until(lambda: client.data["identity"]["name"] == "Kiosk")
    assert client.data["limits"]["requests_per_minute"] == 5
    another = shop.add_key(now_ms() + HOUR)
    await client.until(lambda: another.kid in client.data["keys"])
    assert "expires_at" in client.data["keys"][another.kid]


async def test_a_users_token_does_not_take_the_channel_over(shop: Deployment, seed: Seed, connect: Connect) -> None:
    client = await shop.connect(connect)
    assert (await client.request("auth"))["op"] == "ready"
    await client.send(op="auth", id="x", token=seed.person().token)
    assert (await client.end())["code"] == "principal_changed"


async def test_many_users_are_watched_on_one_socket(shop: Deployment, seed: Seed, connect: Connect) -> None:
    """More than a user may, with many messages; the answers to pings stay small."""
    plan = seed.plan()
    people = [person for _ in range(12) for person in await asyncio.to_thread(seed.people, 100, plan)]
    client = await shop.connect(connect)
    for start in range(0, len(people), 8):
        await client.send(op="watch", id=f"w{start}", docs=[person.doc for person in people[start : start + 8]])
    await client.until(lambda: len(client.replica.confirmed) == len(people) + 1, timeout_s=40)
    assert len((await client.request("ping"))["revs"]) == 1_000
    seed.foreign.execute("UPDATE users SET name = 'All' WHERE plan = ?", people[0].plan)
    docs = client.replica.documents
    await client.until(lambda: all(docs[p.doc].data["identity"]["name"] == "All" for p in people), timeout_s=40)


async def test_of_too_many_revocations_the_newest_are_named(shop: Deployment, seed: Seed, connect: Connect) -> None:
    """However many there were before; and when there are fewer again all are named."""
    client = await shop.connect(connect, ["revocations"])
    await held(client, "revocations")
    made = (
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " INSERT INTO revocations(id, kind, user_id, noted_at) SELECT 'many' || i, 'api_token', 'u', ? FROM n"
    )
    with seed.transaction():
        seed.foreign.execute(made, now_ms())
        seed.insert("change_log", doc="revocations", cause="revocation")
    people, revoked = [seed.person(), seed.person()], client.replica.documents
    for person in people:
        seed.foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", person.token_id)
        await client.until(lambda person=person: person.token_id in revoked["revocations"].data, timeout_s=30)
        assert len(revoked["revocations"].data) == 20_001
        assert revoked["revocations"].data["*"] <= rfc3339(now_ms())
    with seed.transaction():
        seed.foreign.execute("DELETE FROM revocations WHERE id LIKE 'many%'")
        seed.insert("change_log", doc="revocations", cause="revocation")
    await client.until(lambda: "*" not in revoked["revocations"].data, timeout_s=30)
    assert {each.token_id for each in people} <= revoked["revocations"].data.keys()


@pytest.mark.storages("file")
async def test_one_session_more_than_an_instance_may_have_is_told_to_come_later(
    shop: Deployment, connect: Connect
) -> None:
    """Who is connected stays so."""
    clients = [await shop.connect(connect) for _ in range(INSTANCE_SESSIONS)]
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await shop.connect(connect)
        answer = refused.value.answer
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert (answer.headers["retry-after"], answer.json()["retry_after_s"]) == ("10", 10)
        assert str(INSTANCE_SESSIONS) in answer.json()["detail"]
    assert not any(client.replica.ended for client in clients)
    await clients.pop().close()
    waiting = asyncio.get_running_loop().time() + 10
    while True:
        try:
            await shop.connect(connect)
        except Refused:
            assert asyncio.get_running_loop().time() < waiting
        else:
            break


async def test_a_rotated_key_is_told_before_it_signs(
    shop: Deployment, gateway: GatewayProcess, connect: Connect
) -> None:
    client = await shop.connect(connect, ["keys"])
    before = await held(client, "keys")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "gateway", "keys", "rotate"],
        cwd=gateway.directory,
        env=gateway.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    await client.until(lambda: len(client.replica.documents["keys"].data) == len(before) + 1)
    [update] = client.messages("update", doc="keys")
    assert update["causes"] == ["keys"]


async def test_a_resumed_channel_is_told_what_is_current(shop: Deployment, connect: Connect) -> None:
    first = await shop.connect(connect, ["revocations", "keys", "self"])
    for doc in ("revocations", "keys", shop.doc):
        await held(first, doc)
    kept = dict(first.replica.documents)
    names = [f"{doc}@{document.rev}" for doc, document in kept.items()]
    await first.close()
    again = await connect(
        headers=list(shop.signed("GET", "/ws?" + "&".join(f"watch={name}" for name in names)).items()),
        url=f"{shop.gateway.channel_url}?" + "&".join(f"watch={name}" for name in names),
        held=kept,
    )
    await again.until(lambda: len(again.messages("current")) == 3)


@pytest.mark.parametrize("headers", [{"origin": "https://elsewhere.example.org"}])
async def test_a_page_elsewhere_does_not_sign(shop: Deployment, connect: Connect, headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        await connect(headers=list((shop.signed("GET", "/ws") | headers).items()))
    assert refused.value.answer.status == 403
