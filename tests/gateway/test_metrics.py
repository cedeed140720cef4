from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics as metrics_module
from gateway.metrics import Metrics, SharedMetrics
from tests.support.waiting import eventually


def samples(exposition: bytes) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("worker", "") + sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(exposition.decode())
        for sample in family.samples
    }


def test_latencies_are_counted_in_the_bucket_that_holds_them() -> None:
    metrics = Metrics()
    for milliseconds in (0, 1, 3):
        metrics.observe_push(milliseconds)
    metrics.observe_push(9, 2)
    metrics.observe_push(60_000)
    found = samples(metrics.exposition())
    name = "gateway_commit_to_send_seconds"
    assert [found[f"{name}_bucket", le] for le in ("0.0005", "0.001", "0.002", "0.004", "0.008", "0.015", "10.0")] == [
        1,
        2,
        2,
        3,
        3,
        5,
        5,
    ]
    assert found[f"{name}_bucket", "+Inf"] == found[f"{name}_count", ""] == 6
    assert found[f"{name}_sum", ""] == 60.022


def test_processes_on_one_port_answer_for_each_other(tmp_path: Path) -> None:
    first, second = (Metrics(SharedMetrics(str(tmp_path), worker)) for worker in ("0", "1"))
    first.observe_closed(4)
    first.observe_http("/health", 200, 0.01)
    second.observe_closed(6)
    second.observe_closed(7)
    first.exposition()
    found = samples(second.exposition())
    assert found["gateway_commit_to_closed_seconds_count", "0"] == 1
    assert found["gateway_commit_to_closed_seconds_count", "1"] == 2
    assert found["gateway_http_request_seconds_count", "0"] == 1


async def test_a_process_alone_shares_nothing(tmp_path: Path) -> None:
    await Metrics().keep_shared()
    assert list(tmp_path.iterdir()) == []


# --- made on a thread, one at a time ---


class Making:
    """Figures whose time is set by hand, and a thread that makes their text only as far as it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shared: SharedMetrics | None = None) -> None:
        self.now = 100.0
        self.metrics = Metrics(shared, monotonic=lambda: self.now)
        self.taken: list[int] = []
        self.begun: list[int] = []
        self.together = self.most_together = 0
        self.go = threading.Event()
        self.metrics.watch(self._source)
        self._generate = metrics_module.generate_latest
        monkeypatch.setattr(metrics_module, "generate_latest", self._slowly)

    def _source(self) -> Iterator[Metric]:
        self.taken.append(threading.get_ident())
        yield GaugeMetricFamily("taken", "How often.", value=len(self.taken))

    def _slowly(self, registry: object) -> bytes:
        self.begun.append(threading.get_ident())
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        assert self.go.wait(20)
        self.together -= 1
        return self._generate(registry)  # type: ignore[arg-type]


def taken(exposition: bytes) -> float:
    return samples(exposition)["taken", ""]


async def test_the_text_is_made_on_another_thread_from_what_was_taken_on_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making, own = Making(monkeypatch), threading.get_ident()
    scraping = asyncio.create_task(making.metrics.scraped())
    await eventually(lambda: making.begun)
    making.go.set()
    assert taken(await scraping) == 1
    assert making.taken == [own]
    assert own not in making.begun


async def test_those_who_ask_meanwhile_share_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    first = asyncio.create_task(making.metrics.scraped())
    await eventually(lambda: making.begun)
    making.now += 0.1
    others = [asyncio.create_task(making.metrics.scraped()) for _ in range(5)]
    await asyncio.sleep(0)
    making.now += 0.1
    making.go.set()
    assert [taken(text) for text in await asyncio.gather(first, *others)] == [1, 2, 2, 2, 2, 2]
    assert making.most_together == 1


async def test_it_may_be_as_old_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    making.go.set()
    told = []
    for seconds, age_s in ((0, 1.0), (0.9, 1.0), (0.05, 0.0), (0.9, 1.0), (0.2, 1.0)):
        making.now += seconds
        told.append(taken(await making.metrics.scraped(age_s=age_s)))
    assert told == [1, 1, 2, 2, 3]


async def test_what_others_are_given_is_made_on_another_thread_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making, own = Making(monkeypatch, SharedMetrics(str(tmp_path), "0")), threading.get_ident()
    keeping = asyncio.create_task(making.metrics.keep_shared())
    await eventually(lambda: making.begun)
    scraping = asyncio.create_task(making.metrics.scraped())
    await asyncio.sleep(0)
    making.go.set()
    assert taken_by_worker(await scraping) == {"0": 2}
    assert making.most_together == 1
    assert own not in making.begun
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


def taken_by_worker(exposition: bytes) -> dict[str, float]:
    return {worker: value for (name, worker), value in samples(exposition).items() if name == "taken"}
