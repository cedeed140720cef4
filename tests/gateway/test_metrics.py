from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics, SharedMetrics


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
