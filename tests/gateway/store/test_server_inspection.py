"""What doctor asks of a libSQL server, over a network that loses answers."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.address import ServerAddress
from gateway.store.http_streams import HttpServer
from gateway.store.inspection import Finding
from gateway.store.server_inspection import inspect_server
from gateway.store.stream import Outcome, Step, Stream, Unanswered
from tests.conftest import StartServer


class Losing(HttpServer):
    """Does what it is asked; its answers to what writes are lost, and the connection with them."""

    def __init__(self, url: str, token: str | None) -> None:
        super().__init__(url, token)
        self.writes: list[str] = []

    async def once(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        return self.answered(steps, await super().once(steps, timeout_s=timeout_s))

    def stream(self) -> Stream:  # type: ignore[override]
        return LosingStream(self, super().stream())

    def answered(self, steps: Sequence[Step], outcomes: list[Outcome]) -> list[Outcome]:
        writes = [step.sql for step in steps if step.sql.startswith(("INSERT", "DELETE"))]
        self.writes += writes
        if writes:
            raise Unanswered("the wire was cut")
        return outcomes


class LosingStream:
    def __init__(self, server: Losing, stream: Stream) -> None:
        self._server = server
        self._stream = stream
        self.broken = False
        self.expired = False

    async def batch(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        return self._server.answered(steps, await self._stream.batch(steps, timeout_s=timeout_s))

    async def close(self) -> None:
        await self._stream.close()


async def test_a_write_whose_answer_is_lost_is_not_repeated(start_server: StartServer) -> None:
    sqld = start_server()
    made: list[Losing] = []

    def connect(url: str, token: str | None) -> HttpServer:
        made.append(Losing(url, token))
        return made[-1]

    address = ServerAddress("http", sqld.url, None)
    told = [each async for each in inspect_server(address, None, None, connect=connect)]
    assert told[-1] == Finding("writes", "the server does not write: the wire was cut")
    assert len(made[0].writes) == 1
