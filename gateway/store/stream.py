"""What the transports to a libSQL server have in common: a stream runs batches of statements, one after the other.

The words are Hrana's (the protocol of libSQL servers, version 3): a batch is a list of steps, each of which may depend
on how earlier ones went, and is run in one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.driver import Row, Value

Condition: TypeAlias = dict[str, Any]
"""As Hrana writes it."""

IN_TRANSACTION: Condition = {"type": "not", "cond": {"type": "is_autocommit"}}
"""The batch's transaction is still open; in a batch whose step 0 is the ``BEGIN``."""


def succeeded(step: int) -> Condition:
    """That step was run, without an error."""
    return {"type": "ok", "step": step}


def failed(step: int) -> Condition:
    """That step was run and refused."""
    return {"type": "error", "step": step}


def both(*conditions: Condition) -> Condition:
    """All of the conditions."""
    return {"type": "and", "conds": list(conditions)}


class Step(NamedTuple):
    """One statement of a batch; without a condition it is run whatever happened before."""

    sql: str
    args: tuple[Value, ...] = ()
    condition: Condition | None = None


class Outcome(NamedTuple):
    """How a step went: its rows and how many rows it changed, the error that refused it, or neither: it was not run."""

    rows: list[Row]
    changed: int
    error: StoreError | None
    ran: bool

    @property
    def ok(self) -> bool:
        """Whether it was run without an error."""
        return self.ran and self.error is None


class Unanswered(StoreUnavailable):
    """The server was asked and no answer came: it may have done what it was asked to, or do so yet."""


class TimedOut(Unanswered):
    """No answer came in time: asking again would only wait again."""


def not_text() -> UnicodeDecodeError:
    """The server met a text that is not UTF-8 among the rows: as reading a local file does, and the stream is lost."""
    return UnicodeDecodeError("utf-8", b"?", 0, 1, "the server found a text that is not UTF-8")


class Stream(Protocol):
    """One connection of the server's to its database. Not for two callers at once.

    After an exception of `batch` it is `broken`: its transaction, if there was one,
    is lost, and another stream has to be used.
    """

    broken: bool

    @property
    def expired(self) -> bool:
        """Whether the server may have forgotten the stream, for it was idle for too long."""

    async def batch(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        """Run a batch; one outcome for each step.

        Raises `TimedOut` when no answer came within `timeout_s` seconds, `Unanswered` when the connection broke,
        `StoreUnavailable` when the server was not reached at all, `StoreError` when it refused the batch as a whole,
        `UnicodeDecodeError` when rows hold a text that is none.
        """

    async def close(self) -> None:
        """End the stream, and its transaction with it. Never raises for a server that can not be reached."""


class Server(Protocol):
    """A libSQL server at one address."""

    def stream(self) -> Stream:
        """A new stream; the server hears of it with its first batch."""

    async def once(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        """Run a batch on a stream of its own, which ends with it. Raises as `Stream.batch` does."""

    async def close(self) -> None:
        """Let go of every connection."""
