"""Requests through an `AuthProxy`, against a scripted gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from client_sdk.auth_proxy import AuthProxy
from tests.client_sdk.support.asgi import Socket, fields, request, request_of
from tests.client_sdk.support.clock import JumpingClock
from tests.client_sdk.support.logged import said
from tests.client_sdk.support.scripted_gateway import KEY, ScriptedGateway, own_app, proxy_to
from tests.client_sdk.support.timed_proxy import proxy_by
from tests.client_sdk.support.tokens import access_token, api_token, jwks, soon
from tests.support.waiting import eventually


@pytest.fixture
async def proxy(gateway: ScriptedGateway) -> AsyncIterator[AuthProxy]:
    async with proxy_to(gateway) as started:
        yield started


async def live(proxy: AuthProxy) -> None:
    await eventually(lambda: proxy.decider.link is not None and proxy.decider.link.live)


async def test_an_access_token_is_verified_here_and_its_user_is_watched(
    gateway: ScriptedGateway, proxy: AuthProxy
) -> None:
    token = access_token("u_ada", "s_1", soon())
    first, second = await request(proxy, token), await request(proxy, token)
    assert first.status == second.status == 200
    assert first.json["permissions"] == ["can_use_voice"]
    assert (second.json["user"], second.json["source"], second.json["age_s"]) == ("u_ada", "live", 0)
    assert gateway.asked == []
    assert gateway.watched() == ["user:u_ada"]


async def test_an_api_token_is_asked_about_once(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    token = gateway.issue("u_ada", "t_1")
    answers = [await request(proxy, token) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert gateway.asked == [token]
    await eventually(lambda: gateway.watched() == ["user:u_ada"])
    await eventually(lambda: proxy.decider.link is not None and proxy.decider.link.is_exact("user:u_ada"))
    assert (await request(proxy, token)).json["source"] == "live"


async def test_many_at_once_ask_once(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    gateway.hold = asyncio.Event()
    token = gateway.issue("u_ada", "t_1")
    asking = [asyncio.ensure_future(request(proxy, token)) for _ in range(50)]
    await eventually(lambda: gateway.asked)
    gateway.hold.set()
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
    assert gateway.asked == [token]
    assert proxy.counters["joined", "validate"] == 49


async def test_what_is_no_token_is_refused_without_a_question(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    await live(proxy)
    ended = access_token("u_ada", "s_1", soon(-5))
    for token in ("", "x", "gw_mistyped", api_token()[:-1] + "!", ended, access_token("u_ada", "s", soon(), aud="x")):
        answer = await request(proxy, token)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
        assert answer.json["code"] == "auth_failed"
    answer = await request(proxy)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert gateway.asked == []


async def test_what_the_gateway_calls_void_is_not_asked_about_again_for_a_while(
    gateway: ScriptedGateway, proxy: AuthProxy
) -> None:
    token = api_token()
    assert [(await request(proxy, token)).status for _ in range(5)] == [401] * 5
    assert gateway.asked == [token]


async def test_a_user_who_is_not_there_is_refused(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    token = access_token("u_nobody", "s_1", soon())
    assert [(await request(proxy, token)).status for _ in range(3)] == [401] * 3
    assert gateway.watched() == ["user:u_nobody"]


@pytest.mark.parametrize("end", ["revoke", "disable", "delete"])
async def test_an_end_at_the_gateway_is_one_here_and_closes_sockets(
    gateway: ScriptedGateway, proxy: AuthProxy, end: str
) -> None:
    token, other = access_token("u_ada", "s_1", soon()), access_token("u_bob", "s_2", soon())
    socket, stays = Socket(proxy, token), Socket(proxy, other)
    assert (await socket.hear(), await stays.hear()) == ("u_ada", "u_bob")
    socket.say("hello")
    assert await socket.hear() == "hello"
    if end == "revoke":
        await gateway.revoke("s_1")
    elif end == "disable":
        await gateway.set_status("u_ada", "disabled")
    else:
        await gateway.delete("u_ada")
    assert await socket.close_frame() == (4500, "revoked")
    assert (await request(proxy, token)).status == 401
    assert (await request(proxy, other)).status == 200
    stays.say("still here")
    assert await stays.hear() == "still here"
    await stays.leave()
    assert gateway.asked == []
    assert proxy.counters["sockets_closed", "revoked"] == 1
    assert len(proxy.decider.sockets) == 0


async def test_a_socket_ends_with_the_key_that_signed_its_token(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    gateway.documents["keys"] |= jwks(kid="k_second")
    forged = access_token("u_ada", "s_1", soon(80_000), iat=soon(0))
    other = access_token("u_bob", "s_2", soon(), header={"kid": "k_second"})
    socket, stays = Socket(proxy, forged), Socket(proxy, other)
    assert (await socket.hear(), await stays.hear()) == ("u_ada", "u_bob")
    await gateway.change("keys", {"k_first": None}, "keys")
    assert await socket.close_frame() == (4102, "auth_failed")
    assert (await request(proxy, forged)).status == 401
    assert (await request(proxy, other)).status == 200
    await stays.leave()


async def test_a_socket_ends_with_its_token(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    socket = Socket(proxy, access_token("u_ada", "s_1", soon(2)))
    assert await socket.hear() == "u_ada"
    assert await socket.close_frame() == (4100, "token_expired")


async def test_a_socket_ends_with_an_api_token_that_no_list_names(gateway: ScriptedGateway) -> None:
    """Its end was moved closer: that is noticed when it is asked about again, although nobody makes a request."""
    clock = JumpingClock()
    async with proxy_by(clock, f"http://127.0.0.1:{gateway.port}", recheck_s=5.0) as proxy:
        token = gateway.issue("u_ada", "t_1")
        socket = Socket(proxy, token)
        assert await socket.hear() == "u_ada"
        link = proxy.decider.link
        assert link is not None
        await eventually(lambda: link.is_exact("user:u_ada"))
        del gateway.tokens[token]
        await proxy.decider.tick()
        assert gateway.asked == [token]
        clock.ahead_s += 10.0
        await proxy.decider.tick()
        assert await socket.closed() == 4102
        assert gateway.asked == [token] * 2


async def test_a_socket_is_refused_before_it_is_one(proxy: AuthProxy) -> None:
    assert await Socket(proxy, "gw_nonsense").closed() == 4102
    refused = Socket(proxy, None, extensions={"websocket.http.response": {}})
    start = await refused.message()
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)


async def test_a_permission_that_is_taken_away_is_gone_at_once(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    token = access_token("u_ada", "s_1", soon())
    assert (await request(proxy, token)).json["permissions"] == ["can_use_voice"]
    await gateway.change("user:u_ada", {"permissions": {"can_use_voice": None}}, "permissions")
    link = proxy.decider.link
    assert link is not None
    await eventually(lambda: link.documents["user:u_ada"]["permissions"] == {})
    assert (await request(proxy, token)).json["permissions"] == []
    assert gateway.asked == []


async def test_a_narrowed_token_leaves_what_it_names(gateway: ScriptedGateway, proxy: AuthProxy) -> None:
    token = gateway.issue("u_ada", "t_1")
    gateway.scopes[token] = ["quotas.spend"]
    assert (await request(proxy, token)).json["permissions"] == []


async def test_no_header_names_a_user_but_this_one(proxy: AuthProxy) -> None:
    token = access_token("u_ada", "s_1", soon())
    answer = await request(
        proxy, token, X__User__Id="u_root", x_user_id="u_root", X__USER__IS__ADMIN="1", X__Userland="kept"
    )
    assert answer.json["headers"] == ["authorization", "x-userland"]


async def test_a_public_path_lets_everybody_through(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway, public=["/health", "/open/"]) as proxy:
        token = access_token("u_ada", "s_1", soon())
        assert (await request(proxy, path="/health")).json["user"] is None
        assert (await request(proxy, "nonsense", path="/open/door")).json["user"] is None
        assert (await request(proxy, token, path="/open/door")).json["user"] == "u_ada"
        assert (await request(proxy, path="/open/doors/")).status == 200
        assert [(await request(proxy, path=path)).status for path in ("/healthy", "/open", "/opening")] == [401] * 3
        for path in ("/open/../me", "/open/./me", "/open//me", "/open/a\\..\\me", "/open/..", "//open/a"):
            assert (await request(proxy, path=path)).status == 401, path


async def test_a_token_in_a_cookie(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway, cookie="session") as proxy:
        token = access_token("u_ada", "s_1", soon())
        assert (await request(proxy, Cookie=f"a=b; session={token}")).json["user"] == "u_ada"
        assert (await request(proxy, Cookie="a=b")).status == 401
        assert (await request(proxy, "nonsense", Cookie=f"session={token}")).status == 401


@pytest.mark.parametrize("kind", ["POST", "socket"])
async def test_a_cookie_changes_nothing_for_another_page(gateway: ScriptedGateway, kind: str) -> None:
    async with proxy_to(gateway, cookie="session", origins=["https://own.example"]) as proxy:
        token = access_token("u_ada", "s_1", soon())

        async def status(origin: str | None, *, bearer: bool = False, crumbs: int = 1) -> Any:
            cookie = "; ".join([f"session={token}"] * crumbs)
            given = {"host": "shop.example", "cookie": cookie}
            if origin is not None:
                given["origin"] = origin
            if bearer:
                given = given | {"authorization": f"Bearer {token}"}
            scope: dict[str, Any] = {"path": "/", "query_string": b"", "scheme": "https"}
            scope["headers"] = fields(None, given)
            scope |= {"type": "http", "method": "POST"} if kind == "POST" else {"type": "websocket", "extensions": {}}
            sent: list[Any] = []
            heard = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}])

            async def receive() -> Any:
                return next(heard)

            async def send(message: Any) -> None:
                sent.append(message)

            await proxy(scope, receive, send)
            return sent[0].get("status") or sent[0].get("code") or 200

        assert [await status(origin) for origin in ("https://shop.example", "https://own.example")] == [200, 200]
        no = 403 if kind == "POST" else 4505
        assert [await status(origin) for origin in ("https://evil.example", "http://shop.example", "null", None)] == [
            no
        ] * 4
        assert await status("https://evil.example", bearer=True) == 200
        assert await status("https://shop.example", crumbs=2) == (401 if kind == "POST" else 4102)


@pytest.mark.parametrize(
    ("sent", "status", "user"),
    [
        ({"origin": "https://shop.example"}, 200, "u_ada"),
        ({"sec-fetch-site": "same-origin"}, 200, "u_ada"),
        ({"sec-fetch-site": "same-site"}, 403, None),
        ({"sec-fetch-site": "none"}, 403, None),
        ({"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, 403, None),
    ],
)
async def test_where_a_cookie_comes_from_decides_whose_request_it_is(
    gateway: ScriptedGateway, sent: dict[str, str], status: int, user: str | None
) -> None:
    """Elsewhere it opens nothing, and where everybody is let in it says nothing."""
    async with proxy_to(gateway, cookie="session", public=["/open/"]) as proxy:
        given = {"host": "shop.example", "cookie": f"session={access_token('u_ada', 's_1', soon())}", **sent}
        scope = {
            "type": "http",
            "method": "POST",
            "scheme": "https",
            "query_string": b"",
            "headers": fields(None, given),
        }
        assert (await request_of(proxy, {**scope, "path": "/"})).status == status
        public = await request_of(proxy, {**scope, "path": "/open/door"})
        assert (public.status, public.json["user"]) == (200, user)


async def test_the_issuer_is_the_gateway_unless_it_is_told(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"http://127.0.0.1:{gateway.port}"
    async with AuthProxy(own_app, address, KEY) as proxy:
        assert (await request(proxy, access_token("u_ada", "s_1", soon(), iss=address))).status == 200
        assert said(caplog) == []
        for _ in range(2):
            assert (await request(proxy, access_token("u_ada", "s_1", soon()))).status == 401
        assert [address in line for line in said(caplog)] == [True]


async def test_it_begins_and_ends_with_the_lifespan(gateway: ScriptedGateway) -> None:
    proxy = proxy_to(gateway)
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    outgoing: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.ensure_future(proxy({"type": "lifespan"}, incoming.get, outgoing.put))
    incoming.put_nowait({"type": "lifespan.startup"})
    assert (await outgoing.get())["type"] == "lifespan.startup.complete"
    await live(proxy)
    incoming.put_nowait({"type": "lifespan.shutdown"})
    await running
    assert proxy.decider.link is None
    assert all(peer.closed.is_set() for peer in gateway.peers)


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise ValueError("can only handle HTTP connections")
    await own_app(scope, receive, send)


async def returning(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await own_app(scope, receive, send)


@pytest.mark.parametrize("app", [refusing, returning])
async def test_an_application_that_knows_no_lifespan(gateway: ScriptedGateway, app: Any) -> None:
    proxy = proxy_to(gateway, app)
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    outgoing: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.ensure_future(proxy({"type": "lifespan"}, incoming.get, outgoing.put))
    incoming.put_nowait({"type": "lifespan.startup"})
    assert (await asyncio.wait_for(outgoing.get(), 5))["type"] == "lifespan.startup.complete"
    for token in (access_token("u_ada", "s_1", soon()), gateway.issue("u_bob", "t_1")):
        assert (await request(proxy, token)).status == 200
    incoming.put_nowait({"type": "lifespan.shutdown"})
    await running
    assert outgoing.get_nowait()["type"] == "lifespan.shutdown.complete"


async def test_it_begins_anew_after_it_ended(gateway: ScriptedGateway) -> None:
    proxy = proxy_to(gateway)
    for turn in range(2):
        async with proxy:
            assert (await request(proxy, gateway.issue("u_ada", f"t_{turn}"))).status == 200


async def test_users_whom_nobody_asks_about_are_forgotten(gateway: ScriptedGateway) -> None:
    gateway.documents |= {f"user:u_{n}": {"identity": {"id": f"u_{n}", "status": "active"}} for n in range(20)}
    async with proxy_to(gateway, max_users=5) as proxy:
        for number in range(20):
            assert (await request(proxy, access_token(f"u_{number}", "s", soon()))).status == 200
        assert proxy.decider.cache.users == 5
        link = proxy.decider.link
        assert link is not None
        await eventually(lambda: len(link.documents) == 2 + 5)
        assert proxy.counters.total("evicted") == 15
        assert (await request(proxy, access_token("u_0", "s", soon()))).json["source"] == "live"


async def test_sockets_of_more_users_than_are_remembered_are_closed_too(gateway: ScriptedGateway) -> None:
    names = [f"u_{number}" for number in range(5)]
    gateway.documents |= {f"user:{name}": {"identity": {"id": name, "status": "active"}} for name in names}
    async with proxy_to(gateway, max_users=2, max_socket_users=4) as proxy:
        sockets = [Socket(proxy, access_token(name, "s", soon())) for name in names[:4]]
        assert [await socket.hear() for socket in sockets] == names[:4]
        assert (await request(proxy, access_token("u_ada", "s", soon()))).status == 200
        assert await Socket(proxy, access_token(names[4], "s", soon())).closed() == 1013
        assert proxy.counters.total("sockets_refused") == 1
        link = proxy.decider.link
        assert link is not None
        for name in names[:4]:
            await eventually(lambda name=name: link.is_exact(f"user:{name}"))  # type: ignore[misc]
            await gateway.set_status(name, "disabled")
        assert [await socket.closed() for socket in sockets] == [4500] * 4
        assert (await request(proxy, access_token("u_bob", "s", soon()))).status == 200
        assert proxy.decider.cache.users == 2


async def test_a_thousand_users_at_once_are_watched_in_few_messages(gateway: ScriptedGateway) -> None:
    gateway.documents |= {f"user:u_{n}": {"identity": {"id": f"u_{n}", "status": "active"}} for n in range(1000)}
    async with proxy_to(gateway, fetch_s=10.0) as proxy:
        await live(proxy)
        tokens = [access_token(f"u_{n}", "s", soon()) for n in range(1000)]
        answers = await asyncio.gather(*(request(proxy, token) for token in tokens))
        assert {answer.status for answer in answers} == {200}
        assert len(set(gateway.watched())) == 1000
        [peer] = gateway.peers
        assert sum(message["op"] == "watch" for message in peer.received) < 20
        assert max(len(str(message["docs"])) for message in peer.received if message["op"] == "watch") < 16_384
