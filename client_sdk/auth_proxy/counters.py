"""What an `AuthProxy` did, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

NAMES = {
    "decisions": "Decisions, by what they were: a source for yes, a reason for no.",
    "validations": "Questions to the gateway about a token, by how they ended.",
    "watches": "Users whose document was asked for, by how that ended.",
    "joined": "Requests that waited for a question that another one had asked.",
    "evicted": "Users forgotten, because others came or nobody asked.",
    "storage_errors": "Times that the storage did not answer.",
    "stored": "Answers found in the storage, by kind.",
    "differences": "Requests about which the application's own check and the gateway disagree, by what.",
    "compared": "Requests that both were asked about.",
    "uncompared": "Requests that only the own check was asked about, by why.",
    "sockets_closed": "Sockets of the application that were closed, by reason.",
    "sockets_refused": "Sockets refused, because too many users have one.",
    "faults": "Times that the proxy's own upkeep failed; the log says how.",
    "links": "Connections of the instance's channel, by what happened to them.",
}
"""Every counter, and what it counts."""


class Counters:
    """Numbers that only grow, by name and label; ``counters["decisions", "live"]`` is one of them."""

    def __init__(self) -> None:
        self._counted: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, label: str = "", amount: int = 1) -> None:
        """Count. `name` is one of `NAMES`."""
        self._counted[name, label] += amount

    def __getitem__(self, key: tuple[str, str]) -> int:
        return self._counted[key]

    def total(self, name: str) -> int:
        """The sum over all labels."""
        return sum(number for (counted, _), number in self._counted.items() if counted == name)

    def read(self) -> dict[str, dict[str, int]]:
        """Everything that was counted, by name and label."""
        told: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        for (name, label), number in sorted(self._counted.items()):
            told[name][label] = number
        return told


class PrometheusCollector:
    """For ``prometheus_client.REGISTRY.register``: the counters as ``auth_proxy_NAME_total``, and the sizes that
    `gauges` gives as ``auth_proxy_NAME``. No label holds a user or a token.
    """

    def __init__(self, counters: Counters, gauges: Callable[[], dict[str, float]]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, labels in self._counters.read().items():
            family = CounterMetricFamily(f"auth_proxy_{name}", NAMES[name], labels=["what"])
            for label, number in labels.items():
                family.add_metric([label], number)
            yield family
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"auth_proxy_{name}", f"{name}, now.", value=value)
