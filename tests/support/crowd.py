"""Many users' programs, each with one session: they come back when it ends, as the protocol says, to the next node.

The oracle over all of them: whatever is done to nodes, network and database, no connection is shown a state that never
was or an earlier one than before, nothing comes after a revocation, and in the end everybody holds what the database
gives.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from websockets.exceptions import WebSocketException

from tests.support.client import Client, Refused
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.noise import check_history
from tests.support.oracle import user_document
from tests.support.replica import Held, Violation
from tests.support.seed import Person

AT_ONCE = 50
"""Handshakes under way: as many as a small machine makes without failing their deadlines."""

RETRY_S = (0.02, 0.2)
FOR_EVER_S = 3600.0


class Return(NamedTuple):
    """How a session was lost and found: seconds from its end to the new one's document, and of them those that the
    gateway had asked it to wait."""

    code: str
    seconds: float
    asked: float


class Lost(Exception):
    """A connection ended before its session was ready."""


class Visitor:
    """One user's program. `nodes` are tried one after the other, beginning with the first."""

    def __init__(self, person: Person, nodes: Sequence[GatewayProcess], gate: asyncio.Semaphore) -> None:
        self.person = person
        self.connections: list[Client] = []
        self.returns: list[Return] = []
        self.dismissed: str | None = None
        """Why it does not come back: what `ended` said, or ``401``."""
        self.moved = asyncio.Event()
        self._nodes = nodes
        self._next = 0
        self._gate = gate
        self.task = asyncio.create_task(self._run())

    @property
    def client(self) -> Client:
        """The present connection, or the last one."""
        return self.connections[-1]

    @property
    def live(self) -> bool:
        """Whether it has a session and its document."""
        client = self.connections[-1] if self.connections else None
        return client is not None and client.replica.close_code is None and bool(client.replica.ready and client.data)

    async def _run(self) -> None:
        held: dict[str, Held] | None = None
        lost: tuple[float, str, float] | None = None
        while True:
            client = await self._connect(held)
            if client is None:
                return
            self.connections.append(client)
            try:
                await client.until(lambda c=client: c.data or c.replica.close_code is not None, FOR_EVER_S)
                if lost is not None and client.data:
                    self.returns.append(Return(lost[1], time.monotonic() - lost[0], lost[2]))
                    lost = None
                await client.until(lambda c=client: c.replica.close_code is not None, FOR_EVER_S)
            finally:
                await client.close()
            ended = client.replica.ended or {"code": "cut", "reconnect": "now"}
            if ended["reconnect"] == "never":
                self.dismissed = ended["code"]
                return
            asked = float(ended.get("retry_after_s", 0.0))
            lost = lost or (time.monotonic(), ended["code"], asked)
            held = client.replica.documents
            self._next += 1
            await asyncio.sleep(asked)

    async def _connect(self, held: dict[str, Held] | None) -> Client | None:
        """A new session, tried until there is one; None when the token is refused."""
        pause_s, most_s = RETRY_S
        while True:
            node = self._nodes[self._next % len(self._nodes)]
            try:
                async with self._gate:
                    return await self._session(node, held)
            except Refused as refusal:
                if refusal.answer.status == 401:
                    self.dismissed = "401"
                    return None
                if refusal.answer.status != 503:
                    raise
            except (OSError, EOFError, WebSocketException, Lost):
                pass
            self._next += 1
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))
            pause_s = min(most_s, pause_s * 2)

    async def _session(self, node: GatewayProcess, held: dict[str, Held] | None) -> Client:
        """A session. Raises `Lost` when it ended before it was ready."""
        try:
            client = await Client.connect(node, self.person.token, held=held or None)
        except Violation:
            raise
        except AssertionError as error:
            raise Lost from error
        if client.replica.ready is None:
            await client.close()
            raise Lost
        return client


class Crowd:
    """Visitors, spread over the nodes. An asynchronous context manager; its end raises what the oracle found."""

    def __init__(self, people: Iterable[Person], nodes: Sequence[GatewayProcess]) -> None:
        self._people = list(people)
        self._nodes = list(nodes)
        self.visitors: list[Visitor] = []

    async def __aenter__(self) -> Crowd:
        gate = asyncio.Semaphore(AT_ONCE)
        for i, person in enumerate(self._people):
            first = i % len(self._nodes)
            nodes = self._nodes[first:] + self._nodes[:first]
            self.visitors.append(Visitor(person, nodes, gate))
        await self.until(lambda visitor: visitor.live)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for visitor in self.visitors:
            visitor.task.cancel()
        ended = await asyncio.gather(*(visitor.task for visitor in self.visitors), return_exceptions=True)
        for visitor in self.visitors:
            for client in visitor.connections:
                await client.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def at(self, node: GatewayProcess) -> list[Visitor]:
        """Those who are on this node now."""
        return [v for v in self.visitors if v.live and v.client.socket.remote_address[1] == node.port]

    @property
    def reconnects(self) -> int:
        """How often a session was opened again."""
        return sum(len(visitor.connections) - 1 for visitor in self.visitors if visitor.connections)

    @property
    def returns(self) -> list[Return]:
        return [found for visitor in self.visitors for found in visitor.returns]

    def of(self, person: Person) -> Visitor:
        return next(visitor for visitor in self.visitors if visitor.person == person)

    async def until(
        self, condition: Callable[[Visitor], object], timeout_s: float = 30.0, *, among: Sequence[Visitor] | None = None
    ) -> float:
        """Wait until `condition(visitor)` holds for all; the seconds it took. Raises what a visitor ended with."""
        began = time.monotonic()
        while True:
            for visitor in self.visitors:
                if visitor.task.done() and visitor.dismissed is None:
                    visitor.task.result()
            wanting = [v for v in (self.visitors if among is None else among) if not condition(v)]
            if not wanting:
                return time.monotonic() - began
            if time.monotonic() - began > timeout_s:
                who = wanting[0]
                last = who.client.messages()[-3:] if who.connections else "never connected"
                raise TimeoutError(
                    f"{len(wanting)} of {len(self.visitors)} not within {timeout_s} s; {who.person.id}: {last}"
                )
            await asyncio.sleep(0.01)

    async def told(self, store: str, marks: dict[Visitor, int], timeout_s: float) -> float:
        """Wait until everybody on its connection was told ``status`` `store` since its mark."""
        return await self.until(lambda v: v.client.messages("status", since=marks[v], store=store), timeout_s)

    def marks(self) -> dict[Visitor, int]:
        return {visitor: visitor.client.mark() for visitor in self.visitors}

    async def settle(
        self, writer: Callable[[], ForeignWriter], acknowledged: dict[str, int], timeout_s: float = 30.0
    ) -> float:
        """The noise has stopped: everybody ends at what the database gives, and that has all that was acknowledged.

        The seconds until the last one held it.
        """
        began = time.monotonic()
        staying = [visitor for visitor in self.visitors if visitor.dismissed is None]
        expected = {}
        with writer() as foreign:
            foreign.execute("BEGIN")  # one moment, and on a server one stream
            for visitor in staying:
                document = await asyncio.to_thread(user_document, foreign, visitor.person.id)
                number = document.data["identity"]["attributes"]["number"]
                assert number >= acknowledged.get(visitor.person.id, 0), f"lost: {document.data}"
                expected[visitor] = document[:2]
            foreign.execute("ROLLBACK")

        def agrees(visitor: Visitor) -> bool:
            held = visitor.client.held
            return visitor.live and held is not None and held[:2] == expected[visitor]

        await self.until(agrees, timeout_s, among=staying)
        self.check()
        return time.monotonic() - began

    def longest_stale(self) -> float:
        """The longest time for which anybody was told that the database can not be read; seconds."""
        longest = 0.0
        for client in (client for visitor in self.visitors for client in visitor.connections):
            since: float | None = None
            for message, at in client.replica.received:
                if message["op"] == "status" and "doc" not in message:
                    longest = max(longest, at - (since or at))
                    since = at if message["store"] == "stale" else None
            if since is not None:
                longest = max(longest, time.monotonic() - since)
        return longest

    def check(self) -> None:
        """What every connection was shown."""
        for visitor in self.visitors:
            for client in visitor.connections:
                check_history(client.states)

    def check_revoked(self, revoked: dict[Person, int]) -> None:
        """Those whose token was revoked at a position of the change log are gone, and were sent nothing of then."""
        for person, seq in revoked.items():
            visitor = self.of(person)
            assert visitor.dismissed in ("revoked", "401"), person
            for client in visitor.connections:
                late = [held.seq for held in client.replica.states if held.seq >= seq]
                assert not late, f"{person.id}: data of {late} after the revocation at {seq}"
