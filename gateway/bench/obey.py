"""The child's side of the benchmark's control pipe: one JSON command a line on stdin, one JSON answer a line on
stdout.

A command is ``{"command": NAME, ...arguments}``; its answer ``{"answer": {...}}`` or ``{"error": TEXT}``, with any
number of ``{"progress": N}`` lines before it. The end of stdin ends the process: a child never outlives the process
that started it by more than the command it is working on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Answer = dict[str, Any]


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def progress(done: int) -> None:
    """Tell the parent how many units of the present command are done."""
    _say({"progress": done})


def _failure(error: Exception) -> Mapping[str, Any]:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return {"error": f"{type(error).__name__}: {error}"}


def obey(handlers: Mapping[str, Callable[..., Answer]]) -> None:
    """Answer commands with `handlers`, by name, until stdin ends."""
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            _say({"answer": handlers[arguments.pop("command")](**arguments)})
        except Exception as error:
            _say(_failure(error))


async def obey_async(handlers: Mapping[str, Callable[..., Awaitable[Answer]]]) -> None:
    """Answer commands with `handlers`, by name, one at a time, until stdin ends; the loop goes on with its sockets
    meanwhile.
    """
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        arguments = json.loads(line)
        try:
            _say({"answer": await handlers[arguments.pop("command")](**arguments)})
        except Exception as error:
            _say(_failure(error))
