"""A storm of logins: a process of its own (``python -m gateway.bench.logins DIRECTORY``), so that it takes no time from
the clients that measure the channel. It obeys commands on stdin, the public methods of `Logins`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from gateway.bench.columns import write_columns
from gateway.bench.http_client import OK, HttpClient
from gateway.bench.obey import obey_async, progress
from gateway.bench.population import username

LOGIN = "/auth/login"


class Logins:
    """Clients that have nothing but a name and a password. Their times are handed over in files in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def log_in(self, ports: list[int], users: list[int], password: str, connections: int) -> dict[str, Any]:
        """Log each of these users in, `connections` at a time.

        A login that is refused with 503 is tried again, and its time counts from the first try. Answers monotonic ns
        of the beginning and the end, the file of each one's time in ns, how many refusals there were, and faults.
        """
        http = HttpClient(ports, connections)
        storm = _Storm(password)
        waiting = iter(users)
        started = time.monotonic_ns()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(connections, len(users))):
                group.create_task(storm.work(http, waiting))
        finished = time.monotonic_ns()
        http.close()
        path = self._directory / f"logins-{finished}"
        write_columns(path, [storm.times])
        answer = {"started": started, "finished": finished, "times": str(path)}
        return {**answer, "refused": storm.refused, "faults": storm.faults}


class _Storm:
    def __init__(self, password: str) -> None:
        self._password = password
        self.times = array("q")
        self.refused = 0
        self.faults: dict[str, int] = {}

    async def work(self, http: HttpClient, waiting: Iterator[int]) -> None:
        for user in waiting:
            started = time.monotonic_ns()
            answer, refused = await http.served(LOGIN, {"username": username(user), "password": self._password})
            self.refused += refused
            if answer.status == OK and answer.json()["access_token"]:
                self.times.append(time.monotonic_ns() - started)
                progress(len(self.times))
            else:
                kind = f"logins were answered {answer.status}"
                self.faults[kind] = self.faults.get(kind, 0) + 1


def main() -> None:
    """Obey on uvloop until stdin ends."""
    (directory,) = sys.argv[1:]
    logins = Logins(Path(directory))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(obey_async({"log_in": logins.log_in}))


if __name__ == "__main__":
    main()
