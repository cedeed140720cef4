from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from gateway.bench.display import Display
from gateway.bench.result import Result, Target

RESULT = Result(
    workload="fanout",
    parameters={"sessions": 20, "workers": 1},
    values={"commit_to_last_frame_ms": 8.5, "samples": [1, 2, 3]},
    floor={"start_to_last_frame_ms": 4.25},
    ratio=0.5,
    targets=(Target("ratio", at_least=0.6), Target("commit_to_last_frame_ms", at_most=10)),
    cpu={"server": 0.9, "load": 0.4},
)


def test_a_line_holds_figures_floor_targets_machine_and_versions() -> None:
    line = RESULT.line()
    assert "\n" not in line
    found = json.loads(line)
    assert list(found) == [
        "workload",
        "parameters",
        "values",
        "floor",
        "ratio",
        "targets",
        "met",
        "cpu",
        "faults",
        "machine",
        "versions",
    ]
    assert found["targets"] == [
        {"value": "ratio", "at_least": 0.6, "met": False},
        {"value": "commit_to_last_frame_ms", "at_most": 10, "met": True},
    ]
    assert found["met"] is False
    assert found["machine"]["cores"] >= 1
    assert {"python", "uvicorn", "websockets", "msgspec", "apsw", "picows"} < set(found["versions"])
    assert found["versions"]["sqlite_gateway"].startswith("3.")
    assert found["versions"]["sqlite_writer"].startswith("3.")


@pytest.mark.parametrize(
    ("target", "figure", "met"),
    [
        (Target("x", at_most=2), 2, True),
        (Target("x", at_most=2), 2.01, False),
        (Target("x", at_least=2), 2, True),
        (Target("x", at_least=2), 1.99, False),
        (Target("x", at_most=2), None, False),
    ],
)
def test_a_target_is_a_bound_that_belongs_to_itself(target: Target, figure: float | None, met: bool) -> None:
    assert target.met_by(figure) is met


def test_without_targets_nothing_is_met_or_missed() -> None:
    assert Result("x", {}, {}).met is None


def test_the_table_says_what_was_missed_and_what_broke() -> None:
    written = io.StringIO()
    display = Display(Console(file=written, width=200))
    display.table([RESULT, Result("push", {}, {"p50": 1.0}, faults=["3 updates lost"])])
    text = written.getvalue()
    assert "≥ 0.6" in text
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    figures = {row[1].strip(): (row[2].strip(), row[4].strip()) for row in rows}
    assert figures["commit_to_last_frame_ms"] == ("8.50", "yes")
    assert figures["ratio"] == ("0.50", "no")
    assert figures["floor: start_to_last_frame_ms"] == ("4.25", "")
    assert "samples" not in figures
    assert "broken: 3 updates lost" in text


def test_progress_is_shown_without_a_terminal_too() -> None:
    written = io.StringIO()
    with Display(Console(file=written, width=120)).stage("sessions", 10) as done:
        done(4)
    assert "sessions" in written.getvalue()
    assert "10/10" in written.getvalue()
