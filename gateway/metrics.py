"""What the gateway counts, in the form that Prometheus scrapes. No user id is ever a label.

Hot paths keep plain integers; a source turns them into metric families when somebody scrapes.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

SHARE_EVERY_S = 1.0

Source = Callable[[], Iterable[Metric]]


class Latencies:
    """A histogram of whole milliseconds that costs a list look-up to feed: `prometheus_client`'s own takes a lock
    each time.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._bounds = [seconds * 1000 for seconds in SECONDS]
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0

    def observe(self, milliseconds: int, count: int = 1) -> None:
        """Count so many of this latency."""
        self._counts[bisect.bisect_left(self._bounds, milliseconds)] += count
        self._sum += milliseconds * count

    def family(self) -> Metric:
        """What a scrape shows."""
        totals = itertools.accumulate(self._counts)
        names = [*(str(float(bound)) for bound in SECONDS), "+Inf"]
        buckets = list(zip(names, totals, strict=True))
        return HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum / 1000)


class SharedMetrics(NamedTuple):
    """How processes on one port answer for each other: each writes its figures to a file of its own in `directory`."""

    directory: str
    worker: str

    def write(self, exposition: bytes) -> None:
        """Put this process's figures where the others find them; whole or not at all."""
        path = Path(self.directory, f"{self.worker}.prom")
        new = path.with_suffix(".new")
        new.write_bytes(exposition)
        new.replace(path)

    def read(self) -> bytes:
        """All processes' figures as one exposition, told apart by the label ``worker``."""
        families: dict[str, Metric] = {}
        for path in sorted(Path(self.directory).glob("*.prom")):
            for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    known.add_sample(sample.name, {**sample.labels, "worker": path.stem}, sample.value)
        return _text(list(families.values()))


class _Taken(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def _text(families: Sequence[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Taken(families))
    return generate_latest(registry)


class Metrics:
    """What one process counts; `shared` where several answer on one port. `monotonic`: the time in seconds.

    The text is made on a thread, one at a time: it takes a tenth of a second when there are many routes. Sources look
    at what lives on the event loop and are asked there; they are quick. `prometheus_client`'s own histogram has locks.
    """

    def __init__(self, shared: SharedMetrics | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._monotonic = monotonic
        self._sources: list[Source] = []
        self._turn = asyncio.Lock()
        self._made, self._made_at = b"", -math.inf
        self._push = Latencies(
            "gateway_commit_to_send_seconds",
            "From the commit that changed a document to its frames being handed to the sockets.",
        )
        self._closed = Latencies(
            "gateway_commit_to_closed_seconds",
            "From the commit that revoked a credential to the end of its sessions.",
        )
        self.watch(lambda: (self._push.family(), self._closed.family()))
        self._http = Histogram(
            "gateway_http_request_seconds",
            "Time to answer an HTTP request, by route and status.",
            ("route", "status"),
            buckets=SECONDS,
            registry=None,
        )

    def observe_push(self, milliseconds: int, count: int = 1) -> None:
        """So many documents reached the sockets this long after the commit that changed them."""
        self._push.observe(milliseconds, count)

    def observe_closed(self, milliseconds: int) -> None:
        """A revocation ended a session this long after its commit."""
        self._closed.observe(milliseconds)

    def observe_http(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._http.labels(route, str(status)).observe(seconds)

    def watch(self, source: Source) -> None:
        """Ask this source at every scrape."""
        self._sources.append(source)

    def exposition(self, taken: Sequence[Metric] | None = None) -> bytes:
        """The text format of Prometheus, for all processes that share a port. `taken` is what the sources gave, where
        this does not run on the thread that they belong to.
        """
        own = self._own(self._take() if taken is None else taken)
        if self._shared is None:
            return own
        self._shared.write(own)
        return self._shared.read()

    async def scraped(self, *, age_s: float = 0.0) -> bytes:
        """`exposition`, no older than so many seconds when it was asked for; the event loop is free meanwhile. Those
        who ask while one is made share the next one.
        """
        oldest = self._monotonic() - age_s
        async with self._turn:
            if self._made_at < oldest:
                now, taken = self._monotonic(), self._take()
                self._made, self._made_at = await asyncio.to_thread(self.exposition, taken), now
            return self._made

    async def keep_shared(self) -> None:
        """Write the figures for the other processes every second. Runs until cancelled; returns at once when alone."""
        while self._shared is not None:
            with contextlib.suppress(OSError):
                # A full disk leaves the others with old figures; a scrape of this process is answered all the same.
                async with self._turn:
                    await asyncio.to_thread(self._share, self._shared, self._take())
            await asyncio.sleep(SHARE_EVERY_S)

    def _take(self) -> list[Metric]:
        return [family for source in self._sources for family in source()]

    def _own(self, taken: Sequence[Metric]) -> bytes:
        return _text([*taken, *self._http.collect()])

    def _share(self, shared: SharedMetrics, taken: Sequence[Metric]) -> None:
        shared.write(self._own(taken))
