"""Everything a workload needs, started in order and ended in reverse: database, foreign writer, gateway, load
generators, floor.
"""

from __future__ import annotations

import math
import os
import resource
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gateway.bench import processes
from gateway.bench.board import create_board
from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child
from gateway.bench.columns import read_columns
from gateway.bench.display import Display
from gateway.bench.fleet import Fleet, Opened
from gateway.bench.join import Commits
from gateway.bench.server import Place, Server, free_port

FD_RESERVE = 500
"""Open files that a process needs besides its sessions."""
WARM_SESSIONS = 100


@dataclass(frozen=True)
class Size:
    """How large a run is: sessions, processes of the gateway, load generators (at least), sessions opened at a time."""

    sessions: int
    workers: int
    loaders: int
    concurrency: int

    def parameters(self) -> dict[str, int]:
        """The size as parameters of a result."""
        return {"sessions": self.sessions, "workers": self.workers}


class Meter:
    """CPU time of the benchmark's processes over a stretch of time, as shares of one core.

    ``others`` is what the rest of the machine used: near 0 on a quiet one, and a warning where it is not.
    """

    def __init__(self, pids: dict[str, list[int]]) -> None:
        self._pids = pids
        self.seconds = 0.0
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count while the block runs; several blocks add up."""
        before = self._read()
        started = time.monotonic()
        yield
        self.seconds += time.monotonic() - started
        for name, used in self._read().items():
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + used - before[name]

    def _read(self) -> dict[str, float]:
        used = {name: processes.cpu_seconds(pids) for name, pids in self._pids.items()}
        return {**used, "others": processes.busy_seconds() - sum(used.values())}

    def shares(self) -> dict[str, float]:
        """CPU seconds per second, by process."""
        return {name: round(used / self.seconds, 3) for name, used in self.cpu_seconds.items()} if self.seconds else {}

    def us_per(self, name: str, count: int) -> float:
        """CPU time of the named processes for each of `count` things, in µs."""
        return round(self.cpu_seconds[name] * 1e6 / count, 1)


class Rig:
    """A running gateway with `size.sessions` users and what it takes to measure it; a context manager.

    Session `i` is that of user `i`. `both` says that the sessions of gateway and floor are open at the same time. With
    a replica there are two nodes, one that reads the primary and one that reads the replica, each with every other
    session; without one there are `nodes`. `settings` are the gateway's, by the name of the environment variable.
    """

    def __init__(
        self,
        size: Size,
        display: Display,
        place: Place,
        *,
        both: bool = False,
        nodes: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.size = size
        self._nodes = nodes
        self._settings = dict(settings or {})
        self.place = place
        self.display = display
        self.all = range(size.sessions)
        self._sockets = size.sessions * (2 if both else 1)
        self._stack = ExitStack()

    def __enter__(self) -> Rig:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        limit = _raise_file_limit()
        if self.size.sessions > (limit - FD_RESERVE) * self.size.workers:
            raise BenchBroken(f"a process may open {limit} files: too few for {self.size.sessions} sessions")
        self.directory = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-", ignore_cleanup_errors=True))
        )
        database = self.directory / "bench.db"
        url = self.place.url or f"file:{database}"
        self.servers = [
            Server(self.directory, self.size.workers, url, settings=self._settings)
            for _ in range(1 if self.place.replica else self._nodes)
        ]
        if self.place.replica:
            self.servers.append(
                Server(self.directory, self.size.workers, url, self.place.replica, settings=self._settings)
            )
        for server in self.servers:
            self._stack.callback(server.close)
        self.servers[0].migrate()
        if self.place.url:
            self.writer = self.child("gateway.bench.server_writer", str(self.directory), *self.place.addresses)
        else:
            self.writer = self.child("gateway.bench.writer", str(database), str(self.directory))
        with self.display.stage("users", self.size.sessions) as done:
            tokens = self.writer.call("populate", count=self.size.sessions, within_s=300, on_progress=done)["tokens"]
        for server in self.servers:
            server.start()
        self.board = self.directory / "board"
        count = max(self.size.loaders, math.ceil(self._sockets / (limit - FD_RESERVE)))
        create_board(self.board, count)
        loads = [
            self.child("gateway.bench.load", str(self.directory), tokens, str(self.board), str(slot))
            for slot in range(count)
        ]
        self.fleet = Fleet(loads, self.size.concurrency)
        self.floor_port = free_port()
        self.floor = self.child("gateway.bench.floor", str(self.floor_port))
        self.settle()  # all workers have started, not only the one that was asked

    @property
    def server_pids(self) -> list[int]:
        """The gateway's processes that live now."""
        return [pid for server in self.servers for pid in server.pids()]

    def child(self, module: str, *arguments: str) -> Child:
        """Start a process of the benchmark; it ends with the rig."""
        token = {name: value for name, value in os.environ.items() if name == "GATEWAY_DATABASE_AUTH_TOKEN"}
        child = Child(module, *arguments, directory=self.directory, settings=token)
        self._stack.callback(child.close)
        return child

    def ends_with(self, close: Callable[[], None]) -> None:
        """Call this when the rig ends, before what was there earlier."""
        self._stack.callback(close)

    def meter(self, **others: list[int]) -> Meter:
        """A meter of all processes, the gateway's being ``server``, and of a workload's own, by name."""
        return Meter(
            {
                "server": self.server_pids,
                "load": self.fleet.pids(),
                "writer": [self.writer.pid],
                "floor": [self.floor.pid],
                **others,
            },
        )

    def ports(self, target: str) -> list[int]:
        """The ports of the ``gateway``'s nodes, or of the ``floor``."""
        return [server.port for server in self.servers] if target == "gateway" else [self.floor_port]

    def open(self, target: str = "gateway", indexes: Sequence[int] | None = None, **how: bool) -> Opened:
        """Open the sessions of all users, or of some, with progress."""
        chosen = self.all if indexes is None else indexes
        with self.display.stage(f"sessions at the {target}", len(chosen)) as done:
            return self.fleet.open(target, self.ports(target), chosen, on_progress=done, **how)

    def metric(self, name: str) -> float | None:
        """The sum of a metric over the nodes; None when one of them does not have it."""
        counts = [server.metric(name) for server in self.servers]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def drop(self, target: str) -> None:
        """Cut all sessions and wait until the server is done with them."""
        self.fleet.cut(target)
        self.settle(target)

    def settle(self, target: str = "gateway") -> None:
        """Wait until a server has nothing to do."""
        processes.settle(self.server_pids if target == "gateway" else [self.floor.pid])

    def warm(self, sessions: int = WARM_SESSIONS) -> None:
        """Let both servers meet a few sessions, so that neither is measured loading its code; the floor learns the
        greeting to repeat.
        """
        self.floor.call("greet", frames=self.fleet.probe("gateway", self.ports("gateway"), 0))
        self.fleet.cut("gateway")
        for target in ("gateway", "floor"):
            self.open(target, range(min(sessions, self.size.sessions)))
            self.drop(target)

    def commits(self, answer: dict[str, Any]) -> tuple[Commits, Commits]:
        """The writer's notes out of its answer: marked changes, and revocations."""
        columns = read_columns(Path(answer["commits"]), len(Commits._fields))
        rows = list(zip(*columns, strict=True))
        return _commits([row for row in rows if row[0]]), _commits([row for row in rows if not row[0]])


def _raise_file_limit() -> int:
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return limit


def _commits(rows: list[tuple[int, ...]]) -> Commits:
    return Commits(*(array("q", [row[place] for row in rows]) for place in range(len(Commits._fields))))
