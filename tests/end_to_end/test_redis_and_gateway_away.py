"""Copies of an application that share a Redis, and a gateway: each dies, stands still and comes back, in any order.

Whoever is known to be revoked is refused throughout, nobody is refused because something is away, and nobody waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.core.tokens import hash_token
from tests.support.calls_server import CallsServer
from tests.support.deployment import Deployment
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.seed import Person, Seed
from tests.support.signed_in import PASSWORD, cheap_hash

pytestmark = [pytest.mark.storages("file"), pytest.mark.timeout(120)]

GOOD, BAD = "good", "bad"
PATIENCE_S = 30.0
LONGEST_S = 10.0
"""How long a request may take: two seconds for the gateway, half of one for Redis, the rest for a busy machine."""


class Site:
    """Three copies of one instance, what they rest on, and the tokens that they know: good ones, and bad ones."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.gateway = GatewayProcess(directory)
        self.gateway.start()
        self.redis = RedisServer()
        self.redis.start()
        self._foreign = self.gateway.foreign_writer()
        self._seed = Seed(self._foreign, self.gateway.secrets)
        self._instance = Deployment(self.gateway, self._foreign)
        self.copies = [self._begin() for _ in range(3)]
        self.late: list[CallsServer] = []
        self.tokens: dict[str, list[str]] = {GOOD: [], BAD: []}
        self.gateway_is_there = self.redis_is_there = True

    def _begin(self) -> CallsServer:
        key = self._instance.key
        url = f"http://{self.gateway.address}"
        return CallsServer(self._directory, url, self._instance.id, key.kid, key.secret, "--redis", self.redis.url)

    def end_late_ones(self) -> list[str]:
        """What they wrote."""
        late, self.late = self.late, []
        return [server.end() for server in late]

    def end(self) -> None:
        self._foreign.close()
        logs = [*self.end_late_ones(), *(server.end() for server in self.copies)]
        self.redis.end()
        self.gateway.end()
        self.gateway.check_log()
        assert not any("Traceback" in log for log in logs), "\n".join(logs)

    # --- people ---

    def person(self) -> Person:
        return self._seed.person(password_hash=cheap_hash())

    async def sign_in(self, person: Person) -> str:
        body = {"username": person.id, "password": PASSWORD}
        answer = await self._http.post(f"http://{self.gateway.address}/auth/login", json=body)
        token: str = answer.json()["access_token"]
        return token

    async def become_known(self) -> None:
        """Two who stay and two who are put out, with both kinds of tokens; every copy has seen them all."""
        self._http = httpx2.AsyncClient(timeout=20, limits=httpx2.Limits(max_keepalive_connections=0))
        stays, out = [self.person(), self.person()], [self.person(), self.person()]
        self.tokens[GOOD] = [token for person in stays for token in (person.token, await self.sign_in(person))]
        going = [token for person in out for token in (person.token, await self.sign_in(person))]
        for token in (*self.tokens[GOOD], *going):
            assert [await self.ask(server, token) for server in self.copies] == [200] * 3
        self._foreign.execute("UPDATE users SET status = 'disabled' WHERE id = ?", out[0].id)
        self._foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = ?", out[1].id)
        self._foreign.execute("UPDATE login_sessions SET revoked_at = 1 WHERE user_id = ?", out[1].id)
        self.tokens[BAD] = going
        await self._refuse_the_bad()

    async def one_is_put_out(self) -> None:
        """Of those who were good; all copies hear of it."""
        token = self.tokens[GOOD].pop(0)
        self._foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE token_hash = ?", hash_token(token))
        self.tokens[BAD].append(token)
        await self._refuse_the_bad()

    async def tidy_up(self) -> None:
        """Whoever came late goes; an order ends with everything there."""
        assert self.gateway_is_there
        assert self.redis_is_there
        await self._http.aclose()
        assert not any("Traceback" in log for log in self.end_late_ones())

    # --- what they say ---

    async def ask(self, server: CallsServer, token: str) -> int:
        began = time.monotonic()
        answer = await self._http.get(f"{server.url}/me", headers={"Authorization": f"Bearer {token}"})
        assert time.monotonic() - began < LONGEST_S, "nobody waits for what is away"
        return answer.status_code

    async def statuses(self, server: CallsServer, tokens: list[str]) -> list[int]:
        return list(await asyncio.gather(*(self.ask(server, token) for token in tokens)))

    async def _refuse_the_bad(self) -> None:
        for server in self.copies:

            async def refused(server: CallsServer = server) -> bool:
                return set(await self.statuses(server, self.tokens[BAD])) == {401}

            await until(refused)

    async def check(self) -> None:
        """Of everybody, at every copy. Whoever is new to all of them can be let in where the gateway is there alone."""
        for server in self.copies:
            good, bad = self.tokens[GOOD], self.tokens[BAD]
            assert await self.statuses(server, good) == [200] * len(good)
            # That an API token is not good was the gateway's answer, which is not kept for long.
            refusals = [{401} if self.gateway_is_there or by_login(token) else {401, 503} for token in bad]
            found = await self.statuses(server, bad)
            assert all(status in allowed for status, allowed in zip(found, refusals, strict=True)), found
            assert await self.ask(server, self.person().token) == (200 if self.gateway_is_there else 503)
            assert await self.ask(server, "gw_nonsense") == 401
        for server in self.late:
            found = await self.statuses(server, self.tokens[GOOD])
            assert set(found) <= ({200} if self.gateway_is_there else {200, 503}), found
            assert 200 not in await self.statuses(server, self.tokens[BAD])
            assert await self.ask(server, self.person().token) == (200 if self.gateway_is_there else 503)

    # --- what happens ---

    async def redis_dies(self) -> None:
        self.redis.kill()
        self.redis_is_there = False

    async def redis_freezes(self) -> None:
        self.redis.freeze()
        self.redis_is_there = False

    async def redis_is_back(self) -> None:
        """With nothing in it, or as it stood still. Who comes late is let in by what the others tell it."""
        if self.redis.runs:
            self.redis.thaw()
        else:
            self.redis.start()
        self.redis_is_there = True
        await self.late_ones_know()

    async def gateway_dies(self) -> None:
        self.gateway.kill()
        self.gateway_is_there = False
        for server in (*self.copies, *self.late):

            async def offline(server: CallsServer = server) -> bool:
                return not await server.is_live()

            await until(offline)

    async def gateway_is_back(self) -> None:
        self.gateway.start()
        self.gateway_is_there = True
        for server in (*self.copies, *self.late):
            await until(server.is_live)

    async def a_worker_begins(self) -> None:
        self.late.append(self._begin())
        await self.late_ones_know()

    async def late_ones_know(self) -> None:
        """What is to be had: from Redis users by access token, whom others know; and never anybody who is out."""
        if not self.redis_is_there or self.gateway_is_there:
            return
        tokens = [token for token in self.tokens[GOOD] if by_login(token)]
        out = [token for token in self.tokens[BAD] if by_login(token)]
        for server in self.late:

            async def known(server: CallsServer = server) -> bool:
                return set(await self.statuses(server, tokens)) == {200}

            await until(known)
            assert await self.statuses(server, out) == [401] * len(out)


def by_login(token: str) -> bool:
    """Whether it is an access token, which can be judged without asking."""
    return not token.startswith("gw_")


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():  # type: ignore[misc]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.end()


ORDERS = [
    "redis_dies, one_is_put_out, redis_is_back, gateway_dies, a_worker_begins, gateway_is_back",
    "redis_dies, gateway_dies, a_worker_begins, redis_is_back, gateway_is_back",
    "redis_dies, gateway_dies, gateway_is_back, one_is_put_out, redis_is_back",
    "gateway_dies, redis_dies, a_worker_begins, gateway_is_back, one_is_put_out, redis_is_back",
    "gateway_dies, redis_dies, redis_is_back, a_worker_begins, gateway_is_back",
    "redis_freezes, one_is_put_out, gateway_dies, a_worker_begins, redis_is_back, gateway_is_back",
    "gateway_dies, redis_freezes, a_worker_begins, gateway_is_back, redis_is_back",
]


@pytest.mark.parametrize("order", ORDERS)
async def test_decisions_stay_right_in_any_order(site: Site, order: str) -> None:
    before = [await server.counted("storage_errors") for server in site.copies]
    await site.become_known()
    await site.check()
    for step in order.split(", "):
        print(step)
        await getattr(site, step)()
        await site.check()
    await site.tidy_up()
    for server, earlier in zip(site.copies, before, strict=True):
        counted = await server.counted("decisions")
        assert counted["live"] > 0
        assert counted["offline"] > 0
        assert (await server.counted("storage_errors"))[""] > earlier.get("", 0)
        assert (await server.counted("faults")) == {}
