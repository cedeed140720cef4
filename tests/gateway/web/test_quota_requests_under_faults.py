"""A database that fails while quotas are spent over HTTP: what is told, and that asking again does nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.config import Config
from gateway.errors import StoreUnavailable, StoreUncertain
from gateway.store.database import Database, Statement, Written
from gateway.store.quotas import Quotas
from gateway.store.spending import Spender
from gateway.web.routes import routes
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, at_once
from tests.support.spending_caller import CONSUME, LEASES, balance, held, place, reserve, spend, taken

Json = dict[str, Any]
ADJUST = "/users/u_ada/quotas/voice_minutes/adjust"


class LosingStore:
    """A database whose next write is `lost` (its answer does not come back, or it does not reach the database), and
    works otherwise."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lost: Callable[[tuple[Statement, ...]], Any] | None = None

    def lose_answer(self) -> None:
        """The next write is made, and nobody is told."""

        async def lose(statements: tuple[Statement, ...]) -> Any:
            await self._database.write(*statements)
            raise StoreUncertain("the connection broke off")

        self.lost = lose

    def lose_write(self, error: Exception) -> None:
        """The next write is not made."""

        async def lose(statements: tuple[Statement, ...]) -> Any:
            raise error

        self.lost = lose

    async def write(self, *statements: Statement) -> Written:
        lose, self.lost = self.lost, None
        if lose is not None:
            await lose(statements)
        return await self._database.write(*statements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def use(site: Site, quotas: Quotas, database: Database) -> None:
    """The routes spend, and write, by these."""
    node = site.node
    own = node.quotas, node.database
    node.quotas, node.database = quotas, database
    try:
        site.client.app.router.routes[:] = routes(node, site.accounts, Config())  # type: ignore[attr-defined]
    finally:
        node.quotas, node.database = own


@pytest.fixture
def store(site: Site) -> LosingStore:
    store = LosingStore(site.node.database)
    database = cast(Database, store)
    use(site, Quotas(database, lambda: site.node.clock.now().wall), database)
    return store


@pytest.fixture
def admin(site: Site, store: LosingStore) -> ApiCaller:
    """Known to the node, so that what is lost is what is asked for next."""
    caller = ApiCaller(site, "u_admin")
    spend(caller)
    return caller


REQUESTS: dict[str, tuple[str, Json]] = {
    "consume": (CONSUME, {"amount": 3, "key": "k"}),
    "reserve": (LEASES, {"amount": 3, "ttl_s": 60, "lease": "new"}),
    "extend": (place(action="extend"), {"ttl_s": 90, "amount": 3, "key": "k"}),
    "commit": (place(action="commit"), {"amount": 3}),
    "release": (place(action="release"), {}),
    "adjust": (ADJUST, {"amount": 3, "reason": "x", "key": "k"}),
}


@pytest.mark.parametrize("action", REQUESTS)
def test_who_is_not_told_asks_again_and_it_is_done_once(
    site: Site, store: LosingStore, admin: ApiCaller, action: str
) -> None:
    reserve(admin)
    path, body = REQUESTS[action]
    store.lose_answer()
    answer = admin("POST", path, body)
    assert (answer.status_code, answer.json()["code"]) == (503, "uncertain")
    assert "retry-after" not in answer.headers
    assert "gateway-seq" not in answer.headers
    done = taken(site)
    again = [admin.done("POST", path, body) for _ in range(2)]
    # A lease lasts from the last time it was extended.
    first, second = ({**one, "expires_at": ""} for one in again)
    assert first == second
    assert taken(site) == done


@pytest.mark.parametrize("action", REQUESTS)
def test_what_did_not_reach_the_database_was_not_done(
    site: Site, store: LosingStore, admin: ApiCaller, action: str
) -> None:
    reserve(admin)
    before = held(site)
    path, body = REQUESTS[action]
    store.lose_write(StoreUnavailable("the disk is full"))
    answer = admin("POST", path, body)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "disk" not in answer.text
    assert held(site) == before
    assert admin("POST", path, body).status_code in (200, 201)
    assert held(site) != before


def test_when_too_many_wait_the_next_is_told_to_come_back(site: Site) -> None:
    database = site.node.database
    quotas = Quotas(database, lambda: site.node.clock.now().wall)
    quotas.spender = Spender(database, quotas.bases, lambda: site.node.clock.now().wall, batch_limit=1, queue_limit=3)
    use(site, quotas, database)
    ada = ApiCaller(site, "u_ada")
    asked = [ada.request("POST", CONSUME, {"amount": 1, "key": f"k{number}"}) for number in range(40)]
    answers = at_once(site, asked)
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {(answer.json()["code"], answer.headers["retry-after"]) for answer in refused} == {("unavailable", "1")}
    assert balance(site) == (40 - len(refused), 0)
    while asked:
        answers = at_once(site, asked)
        asked = [one for one, answer in zip(asked, answers, strict=True) if answer.status_code == 503]
    assert balance(site) == (40, 0)
