"""What a database driver does, and the values that cross its border. `Database` is the only caller; nothing here
assumes a local file."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Any, ...]
"""One row: its values in the order of the statement's columns."""


class Statement(NamedTuple):
    """One SQL statement and its parameters (``?``).

    Inside a write, `must_change` fails the whole write with `NoRowChanged` when the statement neither changed a row nor
    returned one.
    """

    sql: str
    args: tuple[Value, ...] = ()
    must_change: bool = False


class Written(NamedTuple):
    """A durable write: the change log's last `seq` after its commit, and per statement the rows that it returned."""

    seq: int
    rows: list[list[Row]]


class Reader(Protocol):
    """Anything that answers reads: a `Database`, where each call is a snapshot of its own, or one `Snapshot`."""

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement, all of one moment."""


class Snapshot(Reader, Protocol):
    """Several reads of one moment: commits made after the first read are not seen."""


class Sizes(list[int]):
    """How many groups had up to 1, 2, 4, ..., 1,024 members; the last number is of all larger ones too."""

    def __init__(self) -> None:
        super().__init__([0] * 11)

    def add(self, members: int) -> None:
        """Count one group, of one member at least."""
        self[min((members - 1).bit_length(), len(self) - 1)] += 1


@dataclass(slots=True)
class StoreCounts:
    """What the driver did since it was opened: plain numbers for whoever publishes metrics."""

    groups: int = 0
    """Transactions that were tried."""
    operations: int = 0
    """Writes that were answered."""
    failed: int = 0
    """Writes that were answered with an error."""
    seconds: float = 0.0
    """Time spent in transactions, waiting for locks and syncing included."""
    past_replica: int = 0
    """Near reads that the primary had to answer because the replica was behind or away."""
    sizes: Sizes = field(default_factory=Sizes)
    """Of the transactions, by operations."""

    def add(self, operations: int, failed: int, seconds: float) -> None:
        """Count one group."""
        self.groups += 1
        self.operations += operations
        self.failed += failed
        self.seconds += seconds
        self.sizes.add(operations)


def violated(message: str) -> str:
    """What SQLite's message says was violated: 'UNIQUE constraint failed: users.email', 'cannot store TEXT value in
    INTEGER column users.is_admin'."""
    if message.startswith("cannot store "):
        return message.rpartition(" ")[2]
    return message.partition(" failed: ")[2] or message


class Driver(Protocol):
    """One opened database. Every method raises the `StoreError` family and nothing of the library underneath."""

    counts: StoreCounts
    lags: bool

    async def read(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """Short, indexed reads in one snapshot."""

    async def read_near(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """See `Database.near`."""

    def seen(self, seq: int) -> None:
        """See `Database.seen`."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Reads over several calls in one snapshot; ends with the block."""

    async def scan(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """Long reads in one snapshot; the event loop stays free."""

    async def write(self, statements: tuple[Statement, ...]) -> Written:
        """All of the statements or none, durable on return."""

    async def script(self, sql: str, statements: tuple[Statement, ...]) -> None:
        """A script of any statements, then `statements`, in one transaction."""

    def calm_s(self) -> float:
        """See `Database.calm_s`."""

    async def wait_for_change(self) -> None:
        """See `Database.wait_for_change`."""

    async def backup(self, path: Path, *, overwrite: bool) -> None:
        """A consistent copy of the running database in a new file at `path`."""

    async def close(self) -> None:
        """Finish the writes that were accepted and let go of everything; a second call does nothing."""
