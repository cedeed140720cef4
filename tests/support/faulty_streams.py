"""Streams to a real server whose network fails as a test says: requests that never go out, answers that are lost, and
requests that arrive late."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from gateway.errors import StoreUnavailable
from gateway.store.stream import Outcome, Server, Step, Stream, Unanswered

Fault: TypeAlias = Literal["works", "busy", "unreachable", "unanswered", "lost", "late"]
"""What becomes of one batch: it works; the database is locked; it can not be sent; it is lost on the way; it is done
and the answer is lost; nothing is heard of it, and it arrives when `FaultyServer.arrive` is called."""


class FaultyServer:
    """A server behind a bad network. The batches meet `faults` in order; when there are none left all work."""

    def __init__(self, server: Server, faults: Iterable[Fault] = ()) -> None:
        self._server = server
        self.faults = deque(faults)
        self.batches = 0
        self.open = 0
        self.singles = 0
        self.late: list[tuple[Stream, list[Step]]] = []

    def stream(self) -> FaultyStream:
        self.open += 1
        return FaultyStream(self, self._server.stream())

    async def once(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        self.singles += 1
        return await self._server.once(steps, timeout_s=timeout_s)

    async def close(self) -> None:
        await self._server.close()

    async def arrive(self) -> list[list[Outcome]]:
        """Let what is late arrive now; how the server answers it."""
        late, self.late = self.late, []
        outcomes = []
        for stream, steps in late:
            outcomes.append(await stream.batch(steps, timeout_s=5.0))
            await stream.close()
        return outcomes


class FaultyStream:
    def __init__(self, network: FaultyServer, stream: Stream) -> None:
        self._network = network
        self._stream = stream
        self._cut = False
        self.expired = False

    @property
    def broken(self) -> bool:
        return self._cut or self._stream.broken

    @broken.setter
    def broken(self, value: bool) -> None:
        self._cut = value

    async def batch(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        network = self._network
        network.batches += 1
        fault = network.faults.popleft() if network.faults else "works"
        if fault == "works":
            return await self._stream.batch(steps, timeout_s=timeout_s)
        if fault == "busy":
            return [Outcome([], 0, StoreUnavailable("locked"), True), *[Outcome([], 0, None, False)] * (len(steps) - 1)]
        self.broken = True
        if fault == "unreachable":
            await self._stream.close()
            raise StoreUnavailable("can not be reached")
        if fault == "lost":
            await self._stream.batch(steps, timeout_s=timeout_s)
        if fault == "late":
            # Late requests come on streams that nobody uses any more.
            network.late.append((self._stream, list(steps)))
        else:
            await self._stream.close()
        raise Unanswered("no answer came")

    async def close(self) -> None:
        if not self._cut:
            self._cut = True
            self._network.open -= 1
            await self._stream.close()
