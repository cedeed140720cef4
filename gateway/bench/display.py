"""What a reader sees on stderr: progress while a workload runs, a table when all are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.bench.result import Result


class Display:
    """Writes to `console`; stdout is left to the results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def stage(self, title: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Show one stage as a bar while the block runs; call what it yields with how much of `total` is done."""
        columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, refresh_per_second=4) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, completed=done)
            if total is not None:
                progress.update(task, completed=total)

    def counted(self, title: str, total: int) -> Iterator[int]:
        """Count from 0 to `total` - 1 and show it as a stage."""
        with self.stage(title, total) as done:
            for turn in range(total):
                yield turn
                done(turn + 1)

    def table(self, results: Sequence[Result]) -> None:
        """Show the results, one row a figure; lists are left to the JSON line."""
        table = Table(title="gateway bench")
        for heading in ("workload", "figure", "value", "target", "met"):
            table.add_column(heading, justify="right" if heading == "value" else "left", no_wrap=heading == "figure")
        for result in results:
            table.add_section()
            bounds = {target.value: target for target in result.targets}
            name = f"{result.workload}, {result.parameters.get('sessions', 0):,} sessions"
            for figure, value in _figures(result):
                target = bounds.get(figure)
                met = "" if target is None else "yes" if target.met_by(result.figure(target)) else "[red]no[/red]"
                table.add_row(name, figure, _shown(value), target.words() if target else "", met)
                name = ""
        self.console.print(table)
        for fault in (fault for result in results for fault in result.faults):
            self.console.print(f"broken: {fault}", style="red", highlight=False, soft_wrap=True)


def _figures(result: Result) -> Iterator[tuple[str, Any]]:
    yield from ((name, value) for name, value in result.values.items() if not isinstance(value, list))
    yield from ((f"floor: {name}", value) for name, value in (result.floor or {}).items())
    if result.ratio is not None:
        yield "ratio", result.ratio
    yield from ((f"cores used: {name}", value) for name, value in result.cpu.items())


def _shown(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
