"""The parent's side of the benchmark's control pipe: one process, commanded by JSON lines (see ``obey``)."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gateway
from gateway.bench.broken import BenchBroken

STOP_S = 5.0
"""How long a process may take to end by itself before it is killed, in seconds."""

TICK_S = 0.25
"""How often a waiting parent looks around, in seconds."""


def environment(**settings: str) -> dict[str, str]:
    """The environment of a child: this one without any ``GATEWAY_`` setting, so that a run is the same everywhere,
    plus `settings`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    root = str(Path(gateway.__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, inherited.get("PYTHONPATH", "")) if part)
    return inherited | {"PYTHONPATH": path} | settings


def last_words(log: Path) -> str:
    """The last line that a process wrote to its error log, or nothing."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f": {lines[-1]}" if lines else ""


def stop(process: subprocess.Popen[bytes]) -> None:
    """End `process` and reap it: SIGTERM, and SIGKILL when it has not ended after `STOP_S`."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


class Child:
    """One process of the benchmark; `close` ends it. It gets no ^C of its own: the parent decides when it ends."""

    def __init__(
        self, module: str, *arguments: str, directory: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.name = module.rpartition(".")[2]
        self._log = directory / f"{self.name}-{os.urandom(4).hex()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=directory,
                env=environment(**settings or {}),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands = self._process.stdin
        self._answers = self._process.stdout
        self._partial = b""
        self._lines: list[bytes] = []
        self._working = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(
        self,
        command: str,
        *,
        within_s: float = 60.0,
        on_progress: Callable[[int], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Send a command and wait for its answer, at most `within_s` seconds; BenchBroken when the child dies, fails
        or is late.
        """
        self.send(command, **arguments)
        return self.answer(within_s=within_s, on_progress=on_progress, on_tick=on_tick)

    def send(self, command: str, **arguments: Any) -> None:
        """Send a command; `answer` has to be called for it before the next one."""
        self._working = True
        try:
            self._commands.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            self._commands.flush()
        except OSError as error:
            raise BenchBroken(f"{self.name} is gone{last_words(self._log)}") from error

    def answered(self, on_progress: Callable[[int], None] | None = None) -> bool:
        """Whether `answer` would return at once. Raises BenchBroken when the child has died."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if selector.select(0):
                self._read()
        while self._lines and "progress" in (message := json.loads(self._lines[0])):
            del self._lines[0]
            if on_progress is not None:
                on_progress(message["progress"])
        return bool(self._lines)

    def answer(
        self,
        *,
        within_s: float,
        on_progress: Callable[[int], None] | None = None,
        on_tick: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """The answer to the command sent last; `on_tick` is called about every `TICK_S` seconds while waiting."""
        deadline = time.monotonic() + within_s
        while True:
            message = self._message(deadline, on_tick)
            if "progress" in message:
                if on_progress is not None:
                    on_progress(message["progress"])
            elif "error" in message:
                raise BenchBroken(f"{self.name}: {message['error']}")
            else:
                answer: dict[str, Any] = message["answer"]
                return answer

    def _message(self, deadline: float, on_tick: Callable[[], None] | None) -> Mapping[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while not self._lines:
                if time.monotonic() > deadline:
                    raise BenchBroken(f"{self.name} did not answer in time")
                if selector.select(TICK_S):
                    self._read()
                if on_tick is not None:
                    on_tick()
        message: Mapping[str, Any] = json.loads(self._lines.pop(0))
        self._working = "progress" in message
        return message

    def _read(self) -> None:
        data = os.read(self._answers.fileno(), 65536)
        if not data:
            self._process.wait(STOP_S)
            raise BenchBroken(f"{self.name} ended with status {self._process.returncode}{last_words(self._log)}")
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines += lines

    def close(self) -> None:
        """End the process: by the end of its stdin, or at once when it is in the middle of a command."""
        if self._working:
            self._process.kill()
        try:
            with suppress(OSError, subprocess.TimeoutExpired):
                self._commands.close()
                self._process.wait(STOP_S)
        finally:
            stop(self._process)
            self._answers.close()
