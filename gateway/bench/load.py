"""The load generator: many sessions of the channel protocol in a process of its own.

It runs as ``python -m gateway.bench.load DIRECTORY TOKENS BOARD SLOT`` and obeys the commands of `main` on stdin. It
is frugal, because it shares the machine with what it measures: callbacks instead of tasks, byte scans instead of
decoding; one session in `VERIFY_EVERY` is decoded in full and its revisions recomputed.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import picows
import uvloop

from gateway.bench.board import Board
from gateway.bench.client import Client, Recording
from gateway.bench.columns import write_columns
from gateway.bench.obey import obey_async, progress
from gateway.bench.orders import Orders, watch_balance
from gateway.bench.population import read_tokens
from gateway.bench.renewal import RenewableClient, Renewals
from gateway.bench.sock_diag import SocketStates

HOST = "127.0.0.1"
SOURCES = 8
"""Loopback addresses that sessions come from, in turn: one alone has 28,000 ports, and closed connections keep theirs
for a while.
"""
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: choose the port at connect, by the whole four-tuple
VERIFY_EVERY = 128
MUTE_BUFFER_BYTES = 4096
MUTE_POLL_S = 0.01
HANDSHAKE_TIMEOUT_S = 60.0
COMMANDS = (
    "exchange",
    "open",
    "probe",
    "cut",
    "clear",
    "renew",
    "await_updates",
    "collect",
    "last_update",
    "ends",
    "take",
    "dashboard",
)


class Load:
    """The sessions of this process, by target: ``gateway`` and ``floor`` may both be open at once."""

    def __init__(self, directory: Path, tokens: list[str], board: Board, slot: int) -> None:
        self._directory = directory
        self._tokens = tokens
        self._slot = slot
        self._recording = Recording(board.slots, slot)
        self._clients: dict[str, dict[int, Client]] = {"gateway": {}, "floor": {}}
        self._revisions: dict[tuple[str, int], bytes] = {}
        self._mute: dict[int, Client] = {}
        self._states = SocketStates()
        self._files = 0
        self._renewals: Renewals | None = None
        self._orders: dict[str, Orders] = {}

    async def exchange(self, ports: list[int], refresh_tokens: str, indexes: list[int]) -> dict[str, Any]:
        """Exchange the refresh tokens of these users: sessions opened from now on have access tokens, and can be
        renewed.
        """
        self._renewals = Renewals(ports, Path(refresh_tokens), self._recording)
        await self._renewals.exchange(indexes, self._tokens.__setitem__)
        return {}

    async def open(
        self,
        target: str,
        ports: list[int],
        indexes: list[int],
        concurrency: int,
        resume: bool,
        mute: bool,
        after_cut: bool,
    ) -> dict[str, Any]:
        """Open a session each, `concurrency` at a time, and wait for each one's document.

        `resume` names the revision held before. `mute` sessions stop reading once their document is there and have a
        small receive buffer. `after_cut` drops all sessions of the target first, and the time counts. Answers when
        the first began and the last was done, and the file of each one's time to its document, in ns.
        """
        waiting = iter(indexes)
        taken = array("q")
        started = time.monotonic_ns()
        if after_cut:
            await self.cut(target)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(indexes))):
                group.create_task(self._open_each(waiting, taken, target, ports, resume, mute))
        finished = time.monotonic_ns()
        gc.collect()
        gc.freeze()  # the sessions stay: later collections need not look at them, and do not pause a measurement
        return {"started": started, "finished": finished, "opened": len(taken), "times": self._write([taken])}

    async def probe(self, target: str, port: int, index: int, resume: bool) -> dict[str, Any]:
        """Open one session, keep it, and answer the frames it got until its document was there."""
        client = await self._open_one(target, port, index, resume, mute=False, keep_frames=True)
        frames, client.frames = client.frames, None
        return {"frames": frames}

    async def cut(self, target: str, indexes: list[int] | None = None) -> dict[str, Any]:
        """Drop these sessions (all of them without `indexes`) without a word."""
        clients = self._clients[target]
        for index in list(clients) if indexes is None else indexes:
            client = clients.pop(index)
            self._mute.pop(index, None)
            client.cut = True
            self._revisions[target, index] = client.rev
            if client.transport is not None:
                client.transport.disconnect(graceful=False)
        gc.unfreeze()
        return {}

    async def clear(self) -> dict[str, Any]:
        """Forget what was received up to now."""
        self._recording.clear()
        return {}

    async def await_updates(self, count: int, within_s: float) -> dict[str, Any]:
        """Wait until `count` updates have arrived since `clear`; answers how many did and when the last came, in
        monotonic ns.
        """
        await self._recording.wait_for(count, within_s)
        times = self._recording.times
        return {"updates": len(times), "last": times[-1] if times else 0}

    async def collect(self, quiet_s: float = 0.0, within_s: float = 30.0) -> dict[str, Any]:
        """Wait until no update has come for `quiet_s` seconds, then answer the file of all since `clear`, their
        bytes, and faults.
        """
        recording = self._recording
        deadline = time.monotonic() + within_s
        while quiet_s and time.monotonic() < deadline:
            count = len(recording.times)
            if not await recording.wait_for(count + 1, quiet_s):
                break
            await asyncio.sleep(quiet_s / 4)
        path = self._write([recording.numbers, recording.sessions, recording.times])
        answer = {"updates": path, "count": len(recording.times), "bytes": recording.bytes, "faults": recording.faults}
        recording.clear()
        return answer

    async def last_update(self) -> dict[str, Any]:
        """The text of the newest update of the first verified session, or nothing."""
        return {"update": next((c.last_update for c in self._clients["gateway"].values() if c.last_update), "")}

    async def renew(self, indexes: list[int], seconds: float) -> dict[str, Any]:
        """Renew each of these sessions once, evenly spread over `seconds`. Answers the file of their times, see
        `Renewals.spread`, and how often an exchange was refused.
        """
        assert self._renewals is not None, "exchange comes first"
        held = self._clients["gateway"]
        clients = {index: client for index in indexes if isinstance(client := held[index], RenewableClient)}
        before = self._renewals.refused
        columns = await self._renewals.spread(clients, indexes, seconds)
        return {"times": self._write(columns), "refused": self._renewals.refused - before}

    async def take(self, target: str, seconds: float, rate: float) -> dict[str, Any]:
        """All sessions take units, `rate` a second together, or 0: each the next one when it has the last. Answers the
        file of when each was due and when answered, in monotonic ns, and the first answer of all.
        """
        orders, clients = self._orders_at(target), list(self._clients[target].values())
        if not clients:
            return {"times": self._write([array("q"), array("q")]), "reply": ""}
        ways = orders.paced(clients, seconds, rate) if rate else orders.closed_loop(clients, seconds, 1)
        return {"times": self._write(await ways), "reply": orders.last_reply}

    async def dashboard(self, port: int, index: int, seconds: float, outstanding: int) -> dict[str, Any]:
        """One session takes units, `outstanding` requests on their way at a time, while another one watches that
        balance; see `watch_balance`.
        """
        client = self._clients["gateway"][index]
        watcher = await self._open_one("gateway", port, index, resume=False, mute=False, recording=Recording.apart())
        self._clients["gateway"][index] = client
        found = await watch_balance(self._orders_at("gateway"), client, watcher, seconds, outstanding)
        return {**found, "faults": watcher.recording.faults}

    def _orders_at(self, target: str) -> Orders:
        if target not in self._orders:
            self._orders[target] = Orders(self._recording, checked=target == "gateway")
        return self._orders[target]

    async def ends(self, indexes: list[int]) -> dict[str, Any]:
        """How these gateway sessions ended: rows of index, code, and monotonic ns of `ended`, of the close frame and
        of the closing (0: did not).
        """
        clients = (self._clients["gateway"][index] for index in indexes)
        return {"ends": [[c.index, c.code, c.ended_at, c.close_frame_at, c.closed_at] for c in clients]}

    async def _open_each(
        self, waiting: Iterator[int], taken: array[int], target: str, ports: list[int], resume: bool, mute: bool
    ) -> None:
        for index in waiting:
            started = time.monotonic_ns()
            await self._open_one(target, ports[index % len(ports)], index, resume, mute)
            taken.append(time.monotonic_ns() - started)
            if len(taken) % 100 == 0:
                progress(len(taken))

    async def _open_one(
        self,
        target: str,
        port: int,
        index: int,
        resume: bool,
        mute: bool,
        keep_frames: bool = False,
        recording: Recording | None = None,
    ) -> Client:
        """`recording`: of a session that is apart from the others, and decoded in full."""
        real = target == "gateway"
        settled = asyncio.get_running_loop().create_future()
        kind = RenewableClient if real and self._renewals is not None else Client
        verified = real and not resume and (recording is not None or index % VERIFY_EVERY == 0)
        client = kind(index, recording or self._recording, settled, checked=real, verified=verified)
        if keep_frames:
            client.frames = []
        watch = f"?watch={quote('self@' + self._revisions[target, index].decode())}" if resume else ""
        await picows.ws_connect(
            lambda: client,
            f"ws://{HOST}:{port}/ws{watch}",
            extra_headers={"Authorization": f"Bearer {self._tokens[index]}"},
            websocket_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            socket_factory=lambda _url: _socket(index, mute),
            read_buffer_init_size=2048,
        )
        await asyncio.wait_for(settled, HANDSHAKE_TIMEOUT_S)
        self._clients[target][index] = client
        if mute:
            self._silence(client)
        return client

    def _silence(self, client: Client) -> None:
        assert client.transport is not None
        client.transport.underlying_transport.pause_reading()
        client.mute = True
        self._mute[client.index] = client
        if len(self._mute) == 1:
            self._look_at_mute()

    def _look_at_mute(self) -> None:
        for index, client in list(self._mute.items()):
            assert client.transport is not None
            transport = client.transport.underlying_transport
            far, near = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
            if not self._states.established(far, near):
                client.closed_at = time.monotonic_ns()
                del self._mute[index]
        if self._mute:
            asyncio.get_running_loop().call_later(MUTE_POLL_S, self._look_at_mute)

    def _write(self, columns: list[array[int]]) -> str:
        self._files += 1
        path = self._directory / f"load-{self._slot}-{self._files}"
        write_columns(path, columns)
        return str(path)


def _socket(index: int, mute: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if mute:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MUTE_BUFFER_BYTES)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.0.{2 + index % SOURCES}", 0))
    except OSError:
        sock.close()
        raise
    return sock


def main() -> None:
    """Obey on uvloop until stdin ends."""
    directory, tokens, board, slot = sys.argv[1:]
    load = Load(Path(directory), read_tokens(Path(tokens)), Board(Path(board)), int(slot))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(obey_async({name: getattr(load, name) for name in COMMANDS}))


if __name__ == "__main__":
    main()
