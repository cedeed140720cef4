"""One result of a benchmark: the figures, what they are held against, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.bench.machine import machine, versions


class Target(NamedTuple):
    """A bound for one figure (``ratio`` names the ratio to the floor); exactly one of the two is set."""

    value: str
    at_most: float | None = None
    at_least: float | None = None

    def met_by(self, figure: float | None) -> bool:
        """Whether a figure keeps the bound; one that could not be measured does not."""
        if figure is None:
            return False
        return (self.at_most is None or figure <= self.at_most) and (self.at_least is None or figure >= self.at_least)

    def words(self) -> str:
        """The bound as a reader writes it."""
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"


def quotient(part: float, whole: float) -> float | None:
    """`part` divided by `whole`; None when the whole was too small to be measured."""
    return round(part / whole, 3) if whole else None


@dataclass(frozen=True)
class Result:
    """The figures of one workload.

    `floor` are those of the bare server in the same run and `ratio` the main figure divided by the floor's (None: the
    target is absolute). `cpu` are shares of one core by process while the figures were taken. `faults` say what makes
    them worthless: none is the rule.
    """

    workload: str
    parameters: Mapping[str, Any]
    values: Mapping[str, Any]
    floor: Mapping[str, Any] | None = None
    ratio: float | None = None
    targets: Sequence[Target] = ()
    cpu: Mapping[str, float] = field(default_factory=dict)
    faults: Sequence[str] = ()

    def figure(self, target: Target) -> float | None:
        """The figure that a target bounds."""
        return self.ratio if target.value == "ratio" else self.values.get(target.value)

    @property
    def met(self) -> bool | None:
        """Whether every target is met; None without any."""
        return all(target.met_by(self.figure(target)) for target in self.targets) if self.targets else None

    def line(self) -> str:
        """The result as one line of JSON."""
        targets = [
            {name: bound for name, bound in target._asdict().items() if bound is not None}
            | {"met": target.met_by(self.figure(target))}
            for target in self.targets
        ]
        return json.dumps(
            {
                "workload": self.workload,
                "parameters": self.parameters,
                "values": self.values,
                "floor": self.floor,
                "ratio": self.ratio,
                "targets": targets,
                "met": self.met,
                "cpu": self.cpu,
                "faults": list(self.faults),
                "machine": machine(),
                "versions": versions(),
            }
        )
