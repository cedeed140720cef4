"""Nodes that stand still, and nodes that are restarted one after the other, on a file and on a server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.crowd import Crowd, Visitor
from tests.support.fault_rig import SCALE, Site, a_site, percentiles, report, scaled
from tests.support.gateway_process import wait_for
from tests.support.noise import Noise, numbered_people
from tests.support.seed import Person
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(60 * SCALE)

DRAIN_S = 1.0


@pytest.fixture
def site(storage: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    template = request.getfixturevalue("migrated_server") if storage == "server" else None
    with a_site(tmp_path, template) as running:
        yield running


async def test_one_of_two_nodes_stands_still_for_a_while(site: Site, request: pytest.FixtureRequest) -> None:
    nodes = [site.add(), site.add()]
    people = numbered_people(site.seed, int(scaled(30, 200)))
    revoked: dict[Person, int] = {}
    async with Crowd(people, nodes) as crowd:
        still, going = crowd.at(nodes[0]), crowd.at(nodes[1])
        with Noise(people, [site.endpoint()]) as noise:
            commits = noise.commits
            await asyncio.to_thread(wait_for, lambda: noise.commits > commits + 20)
            nodes[0].pause()
            for visitor in (still[0], going[0]):
                token = visitor.person.token_id
                await site.foreign.run("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", token)
                revoked[visitor.person] = _revoked_at(site, visitor.person)
            await crowd.until(lambda v: v.dismissed == "revoked", 5.0, among=[going[0]])
            seen, frozen = _states(going), _states(still)
            await asyncio.sleep(scaled(3, 20))
            assert _states(going) > seen + 20, "the other one goes on"
            assert _states(still) == frozen
            nodes[0].resume()
            took = await crowd.until(lambda v: v.dismissed == "revoked", 5.0, among=[still[0]])
        settle_s = await crowd.settle(site.writer, noise.acknowledged)
        crowd.check_revoked(revoked)
        assert crowd.reconnects == 0
        report(request, commits=noise.commits, sessions=len(people), revoked_s=took, settle_s=settle_s)
    for node in nodes:
        await eventually(lambda n=node: n.request("GET", "/ready").status == 200)


def _states(visitors: Sequence[Visitor]) -> int:
    return sum(len(visitor.client.states) for visitor in visitors)


def _revoked_at(site: Site, person: Person) -> int:
    sql = "SELECT max(seq) FROM change_log WHERE doc = ? AND cause = 'revocation'"
    [(seq,)] = site.foreign.execute(sql, person.doc)
    return int(seq)


async def test_three_nodes_are_restarted_one_after_the_other(site: Site, request: pytest.FixtureRequest) -> None:
    """Under load; clients come back to another node. Nobody is away for longer than that takes."""
    drain_s = scaled(DRAIN_S, 5.0)
    nodes = [site.add(server_drain_s=drain_s) for _ in range(3)]
    people = numbered_people(site.seed, int(scaled(45, 1000)))
    revoked: dict[Person, int] = {}
    async with Crowd(people, nodes) as crowd:
        assert [len(crowd.at(node)) for node in nodes] == [len(people) // 3 + (i < len(people) % 3) for i in range(3)]
        with Noise(people, [site.endpoint()], per_s=50) as noise:
            for node in nodes:
                leaving = crowd.at(node)
                os.kill(node.pid, signal.SIGTERM)
                gone = leaving[0].person
                await site.foreign.run("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", gone.token_id)
                revoked[gone] = _revoked_at(site, gone)
                assert await asyncio.to_thread(node.wait) == 0
                await crowd.until(lambda v: v.live or v.dismissed is not None)
                await asyncio.to_thread(node.start)
                assert len(crowd.at(node)) == 0, "nobody is drawn away from a node that is well"
        settle_s = await crowd.settle(site.writer, noise.acknowledged)
        crowd.check_revoked(revoked)
        assert {found.code for found in crowd.returns} == {"going_away"}
        assert max(len(visitor.connections) for visitor in crowd.visitors) <= len(nodes) + 1
        outages = [(found.seconds - found.asked) * 1000 for found in crowd.returns]
        report(
            request,
            sessions=len(people),
            returns=len(outages),
            away_ms_beyond_what_was_asked=percentiles(outages),
            asked_s=max(found.asked for found in crowd.returns),
            commits=noise.commits,
            settle_s=settle_s,
        )
        assert max(outages) < 5000
