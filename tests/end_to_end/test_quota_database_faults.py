"""The database is locked, restarted or cut off while thousands of units are spent: nothing is charged that was said not
to be, nothing twice, and who asks again gets the answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.fault_rig import SCALE, Site, a_site, report, scaled
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import wait_for
from tests.support.quota_books import charges, check_books, taken
from tests.support.remembering_spender import RememberingSpender
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120 * SCALE)

SETTINGS = {"channel_messages_per_minute": 10_000_000}
QUOTA = "units"
LIMIT = 3_000
ENOUGH = 200
ROUNDS = int(scaled(3, 30))
NOT_MADE = "unavailable"


class Load:
    """Two people, one of whom does not have enough, at two nodes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.nodes = [site.add(**SETTINGS), site.add(**SETTINGS)]
        self.rich = site.seed.person(site.seed.plan(quotas={QUOTA: (10**12, "year")}))
        self.poor = site.seed.person(site.seed.plan(quotas={QUOTA: (LIMIT, "year")}))
        self.spenders = [
            RememberingSpender(person, QUOTA, f"{person.id}-{number}")
            for person in (self.rich, self.poor)
            for number in range(2)
        ]
        self.chance = random.Random(7)
        self.failed = 0

    def answers(self) -> int:
        return sum(len(spender.answers) for spender in self.spenders)

    def failures(self) -> int:
        return sum(len(spender.failed) for spender in self.spenders)

    async def through(self, fault: Callable[[Load], object]) -> None:
        """Spend, break something, and go on spending, some times; then look at the books."""
        async with AsyncExitStack() as stack:
            for number, spender in enumerate(self.spenders):
                await stack.enter_async_context(spender.push(self.nodes[number % 2], window=40))
            for _ in range(ROUNDS):
                before = self.answers()
                await eventually(lambda before=before: self.answers() >= before + ENOUGH, 30)
                await asyncio.to_thread(fault, self)
            before = self.answers()
            await eventually(lambda: self.answers() >= before + ENOUGH, 30)
        self.failed = self.failures()
        with self.site.writer() as foreign:
            self.check_what_was_said(foreign)
            for spender in self.spenders:
                await spender.ask_again(self.nodes[0], self.chance)
            check_books(foreign)
            for person in (self.rich, self.poor):
                spenders = [spender for spender in self.spenders if spender.person == person]
                said = {key: amount for spender in spenders for key, amount in spender.charged().items()}
                assert said == charges(foreign, person.doc, QUOTA)
                assert taken(foreign, person.doc, QUOTA) == (sum(said.values()), 0)
            assert taken(foreign, self.poor.doc, QUOTA)[0] <= LIMIT

    def check_what_was_said(self, foreign: ForeignWriter) -> None:
        for spender in self.spenders:
            booked = charges(foreign, spender.person.doc, QUOTA)
            assert spender.charged().items() <= booked.items(), "answered, and not in the ledger"
            assert set(spender.failed.values()) <= {NOT_MADE, "uncertain"}
            not_made = {key for key, code in spender.failed.items() if code == NOT_MADE}
            assert not not_made & booked.keys(), "said not to be taken, and taken"


async def test_somebody_locks_the_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """For as long as it takes until somebody is refused."""

    def lock(load: Load) -> None:
        before = load.failures()
        foreign = load.site.foreign
        foreign.execute("BEGIN IMMEDIATE")
        try:
            wait_for(lambda: load.failures() > before, 15, "somebody is refused")
        finally:
            foreign.execute("COMMIT")

    with a_site(tmp_path, None) as site:
        load = Load(site)
        await load.through(lock)
        report(request, answers=load.answers(), failures=load.failed)


@pytest.mark.parametrize("fault", ["the server is killed", "the wire is cut"])
async def test_the_server_is_away(
    fault: str, tmp_path: Path, migrated_server: Path, request: pytest.FixtureRequest
) -> None:
    def kill(load: Load) -> None:
        load.site.server.kill()
        load.site.server.start()

    def cut(load: Load) -> None:
        before = load.failures()
        load.site.wire.cut()
        try:
            wait_for(lambda: load.failures() > before, 15, "somebody is refused")
        finally:
            load.site.wire.restore()

    with a_site(tmp_path, migrated_server) as site:
        load = Load(site)
        await load.through(kill if fault == "the server is killed" else cut)
        report(request, answers=load.answers(), failures=load.failed)
