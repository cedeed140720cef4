"""The wake-up of a libSQL server: streams and positions that the tests make up, on the event loop's real clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.errors import StoreUnavailable
from gateway.store.http_streams import HttpServer, NotOffered
from gateway.store.server_wakeup import ECHOES_S, SILENT_S, ServerWakeup
from tests.support.sqld import SqldReplica, SqldServer
from tests.support.waiting import eventually


class Source:
    """A stream of changes and a position, in the test's hands. `failures` are raised by the next attempts to open."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[BaseException | None] = asyncio.Queue()
        self.failures: list[Exception] = []
        self.opened = 0
        self.polls = 0
        self.at = 0
        self.away = False
        self.frozen = False
        self.held: asyncio.Event | None = None
        self.waiting = False

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[None]]:
        if self.failures:
            raise self.failures.pop(0)
        self.opened += 1
        yield self._events()

    async def _events(self) -> AsyncIterator[None]:
        while True:
            event = await self.events.get()
            if event is not None:
                raise event
            yield None

    async def position(self) -> int:
        self.polls += 1
        at = self.at
        if self.held is not None:
            self.waiting = True
            await self.held.wait()
            self.waiting = False
            return at
        if self.frozen:
            await asyncio.Event().wait()
        if self.away:
            raise StoreUnavailable("away")
        return self.at


@pytest.fixture
def source() -> Source:
    return Source()


@contextlib.asynccontextmanager
async def waking(source: Source, *, stream: bool = True, **times: float) -> AsyncIterator[ServerWakeup]:
    settings = {"poll_s": 0.005, "net_s": 3600.0, "not_offered_s": 3600.0} | times
    wakeup = ServerWakeup(source.listen if stream else None, source.position, **settings)
    try:
        yield wakeup
    finally:
        await wakeup.close()


async def quiet(wakeup: ServerWakeup) -> None:
    """Take every ring there is, until none comes for longer than the echoes last."""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(ECHOES_S[-1] + 0.1):
                await wakeup.wait()


async def rings(wakeup: ServerWakeup, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        await wakeup.wait()


class TestStream:
    async def test_an_event_rings(self, source: Source) -> None:
        async with waking(source) as wakeup:
            await eventually(lambda: wakeup.streaming)
            await quiet(wakeup)
            source.events.put_nowait(None)
            await rings(wakeup)

    async def test_it_rings_again_for_what_could_not_be_read_yet(self, source: Source) -> None:
        async with waking(source) as wakeup:
            await eventually(lambda: wakeup.streaming)
            await quiet(wakeup)
            source.events.put_nowait(None)
            for _ in range(1 + len(ECHOES_S)):
                await rings(wakeup)
            with pytest.raises(TimeoutError):
                await rings(wakeup, ECHOES_S[-1] + 0.1)

    async def test_an_own_commit_rings_at_once(self, source: Source) -> None:
        async with waking(source, stream=False, poll_s=3600.0) as wakeup:
            await quiet(wakeup)
            wakeup.committed()
            await rings(wakeup, 0.5)

    async def test_a_stream_that_breaks_is_opened_again(self, source: Source) -> None:
        async with waking(source) as wakeup:
            await eventually(lambda: wakeup.streaming)
            source.failures = [StoreUnavailable("still away")]
            source.events.put_nowait(StoreUnavailable("gone"))
            await eventually(lambda: source.opened == 2)
            await quiet(wakeup)
            source.events.put_nowait(None)
            await rings(wakeup)

    async def test_what_was_committed_while_it_was_broken_is_not_missed(self, source: Source) -> None:
        async with waking(source, poll_s=3600.0) as wakeup:
            await eventually(lambda: wakeup.streaming)
            await quiet(wakeup)
            source.events.put_nowait(StoreUnavailable("gone"))
            await rings(wakeup)
            await eventually(lambda: source.opened == 2)
            await rings(wakeup)

    async def test_one_that_is_not_offered_is_not_asked_for_all_the_time(self, source: Source) -> None:
        source.failures = [NotOffered("404")]
        async with waking(source) as wakeup:
            await eventually(lambda: source.polls > 20)
            assert source.opened == 0
            assert not wakeup.streaming

    async def test_a_silent_one_is_noticed_and_opened_again(self, source: Source) -> None:
        async with waking(source, net_s=0.02) as wakeup:
            await eventually(lambda: wakeup.streaming and source.polls > 2)
            source.at = 1
            await rings(wakeup)
            await eventually(lambda: source.opened == 2)

    async def test_one_that_was_silent_is_trusted_when_it_speaks(self, source: Source) -> None:
        """A proxy that keeps events back lets each new stream begin well."""
        async with waking(source, net_s=0.02) as wakeup:
            await eventually(lambda: wakeup.streaming and source.polls > 2)
            source.at = 1
            await eventually(lambda: source.opened == 2)
            assert not wakeup.streaming
            polled = source.polls
            await eventually(lambda: source.polls > polled + 20, 2.0)  # at the full rate
            source.events.put_nowait(None)
            await eventually(lambda: wakeup.streaming)

    async def test_an_event_that_comes_while_its_change_can_not_be_read_yet_counts(self, source: Source) -> None:
        async with waking(source, net_s=0.02) as wakeup:
            await eventually(lambda: wakeup.streaming and source.polls > 1)
            for at in range(1, 8):
                source.held = asyncio.Event()
                await eventually(lambda: source.waiting)
                source.events.put_nowait(None)  # while the answer, an old one, is on its way
                await eventually(source.events.empty)
                await asyncio.sleep(0)
                source.held.set()
                source.held = None
                source.at = at
                polled = source.polls
                await eventually(lambda polled=polled: source.polls > polled + 1)  # type: ignore[misc]
            with pytest.raises(TimeoutError):
                await eventually(lambda: source.opened > 1, SILENT_S + 0.3)

    async def test_one_that_speaks_is_trusted(self, source: Source) -> None:
        async with waking(source, net_s=0.01) as wakeup:
            await eventually(lambda: wakeup.streaming)
            for at in range(1, 60):
                source.at = at
                source.events.put_nowait(None)
                polled = source.polls
                await eventually(lambda polled=polled: source.polls > polled)  # type: ignore[misc]
            assert source.opened == 1
            assert wakeup.streaming


class TestPolls:
    async def test_without_a_stream_a_change_is_polled_for(self, source: Source) -> None:
        async with waking(source, stream=False) as wakeup:
            await eventually(lambda: source.polls > 1)
            await quiet(wakeup)
            source.at = 1
            await rings(wakeup)

    async def test_they_are_rare_where_the_stream_is_trusted(self, source: Source) -> None:
        async with waking(source) as wakeup:
            await eventually(lambda: wakeup.streaming)
            before = source.polls
            await quiet(wakeup)
            assert source.polls - before <= 1

    async def test_they_are_rare_where_nothing_happens(self, source: Source) -> None:
        async with waking(source, stream=False, poll_s=0.01):
            await eventually(lambda: source.polls > 0)
            before, started = source.polls, asyncio.get_running_loop().time()
            await eventually(lambda: source.polls >= before + 4)
            assert asyncio.get_running_loop().time() - started > 3 * 0.1

    async def test_an_event_asks_where_the_log_stands(self, source: Source) -> None:
        """Not a second later: what a replica shows may be old."""
        async with waking(source) as wakeup:
            await eventually(lambda: wakeup.streaming)
            await quiet(wakeup)
            before = source.polls
            source.events.put_nowait(None)
            await eventually(lambda: source.polls == before + 1, 0.5)

    async def test_the_calm_lasts_since_nothing_had_changed(self, source: Source) -> None:
        async with waking(source, stream=False) as wakeup:
            await eventually(lambda: source.polls > 3)
            assert wakeup.calm_s() < 0.2
            source.away = True
            await eventually(lambda: wakeup.calm_s() > 0.3)
            source.away = False
            source.at = 1
            polled = source.polls
            await eventually(lambda: source.polls > polled + 2)
            assert wakeup.calm_s() < 0.3

    async def test_a_database_that_is_away_rings(self, source: Source) -> None:
        """The follower has to meet the failure itself."""
        async with waking(source, stream=False) as wakeup:
            await eventually(lambda: source.polls > 1)
            await quiet(wakeup)
            source.away = True
            await rings(wakeup)

    async def test_a_database_that_is_frozen_rings(self, source: Source) -> None:
        async with waking(source, stream=False) as wakeup:
            await eventually(lambda: source.polls > 1)
            await quiet(wakeup)
            source.frozen = True
            await rings(wakeup)


async def test_closing_lets_go_of_everybody(source: Source) -> None:
    async with waking(source) as wakeup:
        await quiet(wakeup)
        waiting = asyncio.ensure_future(wakeup.wait())
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting, 5.0)


async def test_a_real_server_announces_its_commits(tmp_path_factory: pytest.TempPathFactory) -> None:
    with SqldServer(tmp_path_factory.mktemp("p")) as primary:
        primary.script("CREATE TABLE change_log(seq INTEGER PRIMARY KEY AUTOINCREMENT, doc TEXT)")
        server, source = HttpServer(primary.url, None), Source()
        wakeup = ServerWakeup(lambda: server.changes("change_log"), source.position, poll_s=3600.0, net_s=3600.0)
        await eventually(lambda: wakeup.streaming)
        await quiet(wakeup)
        primary.execute("INSERT INTO change_log(doc) VALUES ('x')")
        await rings(wakeup)
        primary.restart()
        await eventually(lambda: wakeup.streaming)
        await quiet(wakeup)
        primary.execute("INSERT INTO change_log(doc) VALUES ('y')")
        await rings(wakeup)
        await wakeup.close()
        await server.close()


async def test_a_replicas_stream_is_not_followed_to_another_host(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A replica sends who listens on to its primary: another host, which is not to get the token."""
    with (
        SqldServer(tmp_path_factory.mktemp("p")) as primary,
        SqldReplica(primary, tmp_path_factory.mktemp("r")) as near,
    ):
        server = HttpServer(near.url, "SECRET")
        with pytest.raises(NotOffered, match="307"):
            async with server.changes("change_log"):
                pass
        await server.close()


async def test_events_that_pour_in_ring_now_and_then(source: Source) -> None:
    """A hundred events within a moment are a few looks, and the last of them is followed by one."""
    async with waking(source) as wakeup:
        await eventually(lambda: wakeup.streaming)
        await quiet(wakeup)
        looks = 0

        async def look() -> None:
            nonlocal looks
            while True:
                await wakeup.wait()
                looks += 1

        looking = asyncio.ensure_future(look())
        for _ in range(100):
            source.events.put_nowait(None)
        await eventually(source.events.empty)
        assert looks <= 3
        before = looks
        await eventually(lambda: looks > before)
        looking.cancel()
