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

    def table(self, results: Sequence[Result]) -> None:
        """Show the results, one row a target and the other figures below."""
        table = Table(title="gateway bench", show_lines=True)
        for heading in ("workload", "figures", "floor", "ratio", "target", "met", "cpu (cores)"):
            table.add_column(heading, overflow="fold")
        for result in results:
            table.add_row(
                f"{result.workload}\n{_lines(result.parameters)}",
                _lines(result.values),
                _lines(result.floor or {}),
                "" if result.ratio is None else f"{result.ratio:.2f}",
                "\n".join(target.words() for target in result.targets),
                "\n".join("yes" if target.met_by(result.figure(target)) else "NO" for target in result.targets),
                _lines(result.cpu),
            )
        self.console.print(table)
        for fault in (fault for result in results for fault in result.faults):
            self.console.print(f"broken: {fault}", style="red")


def _lines(figures: Any) -> str:
    return "\n".join(f"{name} {_figure(value)}" for name, value in figures.items() if not isinstance(value, list))


def _figure(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
