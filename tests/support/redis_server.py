"""A real Redis of a test's own, which may be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.support.gateway_process import free_port
from tests.support.required import missing

FETCHED = Path(__file__).parents[2] / ".venv" / "redis" / "usr"
"""Where `make test` puts one when there is none."""


def redis_program() -> str:
    """The program; skips the test where there is none, or fails it where nothing may be missing."""
    found = shutil.which("redis-server") or shutil.which(FETCHED / "bin" / "redis-server")
    if found is None:
        missing("redis-server is not here: apt install redis-server")
    return found


class RedisServer:
    """On a port of its own, keeping nothing on disk."""

    def __init__(self) -> None:
        self._program = redis_program()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def runs(self) -> bool:
        """Whether there is a process, even one that stands still."""
        return self._process is not None

    def start(self) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        libraries = ":".join(map(str, (FETCHED / "lib").glob("*-linux-gnu")))
        own = {"LD_LIBRARY_PATH": libraries} if self._program.startswith(str(FETCHED)) else {}
        self._process = subprocess.Popen(
            [self._program, *words], env={**os.environ, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def kill(self) -> None:
        """As kill -9; all that it held is lost."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        """It takes connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on, with what came meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
