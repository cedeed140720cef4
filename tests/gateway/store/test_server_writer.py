"""The writer of a libSQL server, on a real one, over a network that fails as the tests say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import NoRowChanged, StoreConflict, StoreError, StoreUnavailable, StoreUncertain
from gateway.store.driver import Statement, Written
from gateway.store.http_streams import HttpServer
from gateway.store.server_writer import GROUP_BYTES, GROUP_LIMIT, ServerWriter
from tests.support.faulty_streams import Fault, FaultyServer
from tests.support.sqld import SqldServer
from tests.support.waiting import eventually

TABLES = """
CREATE TABLE writers(id TEXT PRIMARY KEY, batch INTEGER NOT NULL, found INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL)
  STRICT;
CREATE TABLE change_log(seq INTEGER PRIMARY KEY AUTOINCREMENT, doc TEXT);
CREATE TABLE made(name TEXT PRIMARY KEY, times INTEGER NOT NULL DEFAULT 1 CHECK (times > 0)) STRICT;
CREATE TRIGGER log AFTER INSERT ON made BEGIN INSERT INTO change_log(doc) VALUES (NEW.name); END;
"""
MAKE = "INSERT INTO made(name) VALUES (?) ON CONFLICT(name) DO UPDATE SET times = times + 1 RETURNING name, times"
TOO_MUCH = "SELECT randomblob(4000000), randomblob(4000000), randomblob(4000000)"
INSERT_R = "INSERT INTO made VALUES ('r', 1)"


@pytest.fixture(scope="module")
def sqld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqldServer]:
    with SqldServer(tmp_path_factory.mktemp("writer")) as server:
        server.script(TABLES)
        yield server


@pytest.fixture
async def server(sqld: SqldServer) -> AsyncIterator[HttpServer]:
    sqld.script("DELETE FROM made; DELETE FROM change_log; DELETE FROM writers")
    async with opened(sqld) as found:
        yield found


@contextlib.asynccontextmanager
async def opened(sqld: SqldServer) -> AsyncIterator[HttpServer]:
    server = HttpServer(sqld.url, None)
    try:
        yield server
    finally:
        await server.close()


class Rig:
    """A writer over a network with faults."""

    def __init__(self, server: HttpServer, faults: tuple[Fault, ...] = (), **options: float) -> None:
        self.network = FaultyServer(server, faults)
        self.rings: list[int] = []
        self.writer = ServerWriter(
            self.network.stream, self.rings.append, clock=lambda: 1_000, timeout_s=5.0, **options
        )

    async def __aenter__(self) -> Rig:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.writer.close()

    async def make(self, name: str) -> Written:
        return await self.writer.submit([Statement(MAKE, (name,))])


def made(sqld: SqldServer) -> dict[str, int]:
    return dict(sqld.execute("SELECT name, times FROM made"))


class TestGroups:
    async def test_an_answer_has_the_position_and_the_rows(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server) as rig:
            first = await rig.make("a")
            second = await rig.make("b")
        assert first.rows == [[("a", 1)]]
        assert second.seq == first.seq + 1
        assert rig.rings == [first.seq, second.seq]
        assert made(sqld) == {"a": 1, "b": 1}

    async def test_those_that_wait_are_committed_together(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server) as rig:
            await asyncio.gather(*(rig.make(f"n{i}") for i in range(2 * GROUP_LIMIT + 50)))
            assert rig.writer.counts.groups <= 4
        assert made(sqld) == {f"n{i}": 1 for i in range(2 * GROUP_LIMIT + 50)}

    async def test_one_that_fails_spares_the_others(self, server: HttpServer, sqld: SqldServer) -> None:
        insert = "INSERT INTO made(name, times) VALUES (?, ?)"
        operations = [
            [Statement(insert, ("good", 1))],
            [Statement(insert, ("bad", 0))],
            [Statement(insert, ("half", 1)), Statement(insert, ("good", 1))],
            [Statement("UPDATE made SET times = 9 WHERE name = 'none'", (), must_change=True)],
            [Statement(insert, ("half", 1)), Statement("DELETE FROM made WHERE name = 'none'", (), must_change=True)],
            [Statement("SELECT x FROM nowhere")],
            [Statement(insert, ("last", 1)), Statement("UPDATE made SET times = 2 WHERE name = 'last'", (), True)],
        ]
        async with Rig(server) as rig:
            results = await asyncio.gather(*map(rig.writer.submit, operations), return_exceptions=True)
            assert rig.writer.counts.groups == 1
        good, bad, half, none, second, nowhere, last = results
        assert isinstance(good, Written)
        assert (good.rows, good.seq) == ([[]], last.seq)  # type: ignore[union-attr]
        assert isinstance(bad, StoreConflict)
        assert (bad.kind, bad.what) == ("check", "times > 0")
        assert isinstance(half, StoreConflict)
        assert (half.kind, half.what) == ("unique", "made.name")
        assert isinstance(none, NoRowChanged)
        assert isinstance(second, NoRowChanged)
        assert (none.index, second.index) == (0, 1)
        assert "no such table" in str(nowhere)
        assert made(sqld) == {"good": 1, "last": 2}

    async def test_a_value_that_can_not_be_sent_harms_nobody(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server) as rig:
            for value in (2**63, "\ud800", object(), float("nan")):
                with pytest.raises((OverflowError, ValueError, TypeError)):
                    rig.writer.submit([Statement(MAKE, (value,))])  # type: ignore[arg-type]
            await rig.make("a")
        assert made(sqld) == {"a": 1}

    async def test_a_cancelled_one_that_waits_is_not_made(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server) as rig:
            rig.writer.submit([Statement(MAKE, ("a",))]).cancel()
            await rig.make("b")
        assert made(sqld) == {"b": 1}

    async def test_closing_commits_what_was_accepted(self, server: HttpServer, sqld: SqldServer) -> None:
        rig = Rig(server)
        waiting = [asyncio.ensure_future(rig.make(f"n{i}")) for i in range(300)]
        await asyncio.sleep(0)
        await rig.writer.close()
        assert {(await one).rows[0][0][1] for one in waiting} == {1}
        assert len(made(sqld)) == 300
        with pytest.raises(StoreUnavailable):
            await rig.make("late")

    async def test_a_stream_that_is_not_used_is_not_kept(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server, idle_s=0.05) as rig:
            for name in "abc":
                await rig.make(name)
                assert rig.network.open == 1
                await eventually(lambda: rig.network.open == 0)
        assert made(sqld) == {"a": 1, "b": 1, "c": 1}

    async def test_too_many_that_wait_are_refused(self, server: HttpServer) -> None:
        async with Rig(server, queue_limit=2) as rig:
            waiting = [rig.writer.submit([Statement(MAKE, (name,))]) for name in "ab"]
            with pytest.raises(StoreUnavailable, match="2 writes are waiting"):
                rig.writer.submit([Statement(MAKE, ("c",))])
            await asyncio.gather(*waiting)

    async def test_a_group_is_not_longer_than_a_server_takes(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server) as rig:
            text = "x" * (GROUP_BYTES // 3)
            await asyncio.gather(*(rig.make(f"{number}{text}") for number in range(7)))
            assert rig.writer.counts.groups >= 3
        assert set(made(sqld).values()) == {1}
        assert len(made(sqld)) == 7

    @pytest.mark.parametrize("poison", ["nonsense", "SELECT CAST(x'ff41' AS TEXT)", TOO_MUCH])
    async def test_one_that_the_server_can_not_answer_harms_no_other(
        self, server: HttpServer, sqld: SqldServer, poison: str
    ) -> None:
        async with Rig(server) as rig:
            bad = rig.writer.submit([Statement(poison)])
            good = [rig.make(name) for name in "abc"]
            results = await asyncio.gather(bad, *good, return_exceptions=True)
        assert isinstance(results[0], StoreError | UnicodeDecodeError)
        assert [written.rows for written in results[1:]] == [[[(name, 1)]] for name in "abc"]  # type: ignore[union-attr]
        assert made(sqld) == {"a": 1, "b": 1, "c": 1}


class TestFaults:
    async def test_a_busy_server_is_asked_again_and_no_stream_is_left_behind(
        self, server: HttpServer, sqld: SqldServer
    ) -> None:
        async with Rig(server, ("busy", "busy", "works", *["busy"] * 4)) as rig:
            await rig.make("a")
            assert rig.network.open == 1
            with pytest.raises(StoreUnavailable, match="locked"):
                await rig.make("b")
            assert rig.network.open == 0
        assert made(sqld) == {"a": 1}

    async def test_behind_one_that_is_not_answered_the_others_do_not_wait_one_by_one(
        self, server: HttpServer, sqld: SqldServer
    ) -> None:
        """What was never sent was not made, and can be said at once."""
        faults: tuple[Fault, ...] = ("unanswered", *["unreachable"] * 50)
        async with Rig(server, faults, fence_timeout_s=0.2) as rig:
            many = [rig.writer.submit([Statement(MAKE, (f"n{i}",))]) for i in range(5 * GROUP_LIMIT)]
            results = await asyncio.gather(*many, return_exceptions=True)
            assert {type(result) for result in results[GROUP_LIMIT:]} == {StoreUnavailable}
            assert all(isinstance(result, StoreUncertain) for result in results[:GROUP_LIMIT])
            rig.network.faults.clear()
            await rig.make("after")
        assert made(sqld) == {"after": 1}

    async def test_what_was_never_sent_was_not_made(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server, ("unreachable",)) as rig:
            with pytest.raises(StoreUnavailable):
                await rig.make("a")
            await rig.make("b")
        assert made(sqld) == {"b": 1}

    async def test_a_kept_stream_that_was_lost_is_replaced(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server, ("works", "unreachable")) as rig:
            await rig.make("a")
            await rig.make("b")
        assert made(sqld) == {"a": 1, "b": 1}

    async def test_what_was_lost_on_the_way_is_sent_again(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server, ("unanswered", "works")) as rig:
            assert (await rig.make("a")).rows == [[("a", 1)]]
        assert made(sqld) == {"a": 1}

    async def test_what_was_made_is_not_made_again(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server, ("lost",)) as rig:
            with pytest.raises(StoreUncertain, match="answer was lost"):
                await rig.make("a")
            assert rig.rings == [0]  # whoever follows the log is to look
            await rig.make("b")
        assert made(sqld) == {"a": 1, "b": 1}

    async def test_a_fence_that_was_lost_still_tells(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server, ("lost", "lost", "unanswered", "unreachable")) as rig:
            with pytest.raises(StoreUncertain, match="answer was lost"):
                await rig.make("a")
        async with Rig(server, ("unanswered", "lost", "lost")) as rig:
            await rig.make("b")
        assert made(sqld) == {"a": 1, "b": 1}

    async def test_a_request_that_arrives_after_the_fence_is_refused(
        self, server: HttpServer, sqld: SqldServer
    ) -> None:
        async with Rig(server, ("late",)) as rig:
            assert (await rig.make("a")).rows == [[("a", 1)]]
            [outcomes] = await rig.network.arrive()
            assert not outcomes[-2].ok
        assert made(sqld) == {"a": 1}

    async def test_when_nothing_can_be_found_out_nobody_claims_to_know(
        self, server: HttpServer, sqld: SqldServer
    ) -> None:
        async with Rig(server, ("late", *["unreachable"] * 50), fence_timeout_s=0.2) as rig:  # type: ignore[arg-type]
            with pytest.raises(StoreUncertain, match="not known"):
                await rig.make("a")
            rig.network.faults.clear()
            await rig.make("b")  # has a higher number: what is late is refused from now on
            [outcomes] = await rig.network.arrive()
            assert not outcomes[-2].ok
        assert made(sqld) == {"b": 1}

    async def test_it_waits_for_a_foreign_writer(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server) as rig:
            with sqld.client() as client:
                client.execute("BEGIN IMMEDIATE")
                writing = asyncio.ensure_future(rig.make("a"))
                await eventually(lambda: rig.network.batches == 1)
                client.execute("COMMIT")
            assert (await writing).rows == [[("a", 1)]]

    async def test_a_server_killed_under_load_loses_nothing_acknowledged(
        self, server: HttpServer, sqld: SqldServer
    ) -> None:
        acknowledged: set[str] = set()
        uncertain: set[str] = set()
        refused: set[str] = set()

        async def caller(rig: Rig, number: int) -> None:
            for i in range(60):
                name = f"{number}-{i}"
                try:
                    await rig.make(name)
                    acknowledged.add(name)
                except StoreUncertain:
                    uncertain.add(name)
                except StoreUnavailable:
                    refused.add(name)
                    await asyncio.sleep(0.01)

        async with Rig(server) as rig:
            callers = asyncio.gather(*(caller(rig, n) for n in range(8)))
            for target in (60, 180):
                await eventually(lambda target=target: len(acknowledged) >= target)  # type: ignore[misc]
                await asyncio.to_thread(sqld.restart)
            await callers
        there = made(sqld)
        assert acknowledged <= there.keys()
        assert not refused & there.keys()
        assert there.keys() <= acknowledged | uncertain
        assert set(there.values()) == {1}


class TestScripts:
    async def test_a_script_and_its_record_are_one(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server) as rig:
            await rig.writer.script("INSERT INTO made VALUES ('s', 1); SELECT 1", [Statement(MAKE, ("r",))])
            assert made(sqld) == {"s": 1, "r": 1}
            with pytest.raises(StoreConflict):
                await rig.writer.script(
                    "INSERT INTO made VALUES ('t', 1)", [Statement("INSERT INTO made VALUES ('r', 1)")]
                )
            with pytest.raises(StoreConflict):
                await rig.writer.script(f"INSERT INTO made VALUES ('t', 1); {INSERT_R}", [])
            with pytest.raises(StoreError, match="parsed"):
                await rig.writer.script("INSERT INTO made VALUES ('t', 1); nonsense; SELECT 1", [])
            assert made(sqld) == {"s": 1, "r": 1}
            await rig.make("after")
        assert made(sqld) == {"s": 1, "r": 1, "after": 1}

    async def test_a_script_that_was_not_answered_is_uncertain(self, server: HttpServer, sqld: SqldServer) -> None:
        async with Rig(server, ("lost",)) as rig:
            with pytest.raises(StoreUncertain):
                await rig.writer.script("INSERT INTO made VALUES ('s', 1)", [])
        assert made(sqld) == {"s": 1}


FAULTS = st.lists(st.sampled_from(["works", "busy", "unreachable", "unanswered", "lost", "late"]), max_size=12)


@given(faults=FAULTS, groups=st.lists(st.integers(1, 5), min_size=1, max_size=6), arrivals=st.sets(st.integers(0, 5)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_nothing_is_made_twice_and_nothing_acknowledged_is_lost(
    sqld: SqldServer, faults: list[Fault], groups: list[int], arrivals: set[int]
) -> None:
    async def run() -> None:
        results: dict[str, object] = {}
        async with opened(sqld) as server, Rig(server, tuple(faults), fence_timeout_s=0.3) as rig:
            for turn, size in enumerate(groups):
                names = [f"{turn}.{i}" for i in range(size)]
                answers = await asyncio.gather(*map(rig.make, names), return_exceptions=True)
                results.update(zip(names, answers, strict=True))
                if turn in arrivals:
                    await rig.network.arrive()
            rig.network.faults.clear()
            await rig.make("end")
            await rig.network.arrive()
        there = made(sqld)
        for name, result in results.items():
            if isinstance(result, Written):
                assert there.get(name) == 1, (name, there)
            elif isinstance(result, StoreUncertain):
                assert there.get(name, 1) == 1, (name, there)
            else:
                assert isinstance(result, StoreUnavailable), result
                assert name not in there, (name, there)

    sqld.script("DELETE FROM made; DELETE FROM writers")
    asyncio.run(run())
