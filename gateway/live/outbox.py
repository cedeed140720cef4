"""Frames that one round of the feed made, sent together at its end.

Building and sending in turns costs a wake-up of the receiving side for each frame, and the processor's caches; first
all of one, then all of the other, costs far less. Nothing is held back beyond the round: whatever else is sent to
anybody flushes first, so that order is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.live.connection import Connection


class Outbox:
    """Collects while `open`; empty otherwise."""

    __slots__ = ("frames", "open")

    def __init__(self) -> None:
        self.frames: list[tuple[Connection, bytes]] = []
        self.open = False

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect what is delivered in this block, and send it at the end, whatever happens. The block must not
        await.
        """
        self.open = True
        try:
            yield
        finally:
            self.open = False
            self.flush()

    def flush(self) -> None:
        """Send what was collected so far."""
        if self.frames:
            frames, self.frames = self.frames, []
            for connection, frame in frames:
                try:
                    connection.send_frame(frame)
                except Exception:
                    connection.failed()
