"""What commands print: tables and lists for people, JSON for programs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway.cli.exits import printable
from gateway.cli.invocation import invocation
from gateway.core.clock import rfc3339


class _Console(Console):
    """A console that leaves a closed pipe to the program's own handling."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Standard output. A pipe has no width: lines are as long as they have to be."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error; it is told how much more is done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda size: bar.advance(task, size)


def plain(value: Any) -> Any:
    """A record as JSON shows it: moments (``at``, ``..._at``, ``since``) as RFC 3339 if they can be, sets in order."""
    value = msgspec.to_builtins(value, order="deterministic")
    return _with_moments(value) if isinstance(value, (dict, list)) else value


def _with_moments(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: shown_moment(item) if _is_moment(name, item) else _with_moments(item) for name, item in value.items()
        }
    return [_with_moments(item) for item in value] if isinstance(value, (list, tuple)) else value


def shown_moment(ms: int) -> str | int:
    """Milliseconds since 1970 UTC as RFC 3339; the number itself where that has no words for it."""
    try:
        return rfc3339(ms)
    except ValueError:
        return ms


def _is_moment(name: str, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (name.endswith("_at") or name in ("at", "since"))


def show_json(value: Any) -> None:
    """Print one JSON value."""
    print(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2).decode())


def show_line(value: Any) -> None:
    """Print one JSON value on a line of its own, at once: for what goes on without end."""
    print(msgspec.json.encode(plain(value)).decode(), flush=True)


def show_table(rows: Iterable[Any], columns: Sequence[str]) -> None:
    """Print records one on a line, the named fields of each; with ``--json`` an array of whole records."""
    records = [plain(row) for row in rows]
    if invocation().as_json:
        show_json(records)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for record in records:
        table.add_row(*(_cell(record.get(column)) for column in columns))
    console().print(table)


def show_record(record: Any, **more: Any) -> None:
    """Print one record, a field on each line, empty ones left out; with ``--json`` an object."""
    fields = plain(record) | plain(more)
    if invocation().as_json:
        show_json(fields)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", [], {}, ()):
            table.add_row(name, _cell(value))
    console().print(table)


def show_done(sentence: str, **fields: Any) -> None:
    """Say what was done; with ``--json`` the fields alone."""
    if invocation().as_json:
        show_json(fields)
    else:
        print(printable(sentence))


def show_sentences(lines: Iterable[str]) -> None:
    """Print lines for people, at once."""
    print("\n".join(map(printable, lines)), flush=True)


def _cell(value: Any) -> Text:
    return Text("\n".join(printable(line) for line in _words(value)))


def _words(value: Any) -> list[str]:
    if value is None:
        return [""]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, Mapping):
        return [f"{name}: {' '.join(_words(item))}" for name, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [" ".join(map(str, item.values())) if isinstance(item, Mapping) else str(item) for item in value]
    return [str(value)]
