"""What a figure was measured on."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = ("uvicorn", "websockets", "uvloop", "msgspec", "starlette", "apsw", "picows")


@functools.cache
def machine() -> dict[str, Any]:
    """CPU model, cores that may be used, memory in MiB, kernel."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int((_field(Path("/proc/meminfo"), "MemTotal") or "0 kB").split()[0]) // 1024,
        "kernel": platform.release(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Python, the libraries that count, and the two SQLite libraries: the gateway's (apsw's) and the foreign writer's
    (Python's).
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    # Asked in other processes: two SQLite libraries never meet in one.
    found["sqlite_gateway"] = _printed("import apsw; print(apsw.sqlite_lib_version())")
    found["sqlite_writer"] = _printed("import sqlite3; print(sqlite3.sqlite_version)")
    return found


def _field(path: Path, name: str) -> str | None:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _printed(code: str) -> str:
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - our own interpreter
    return run.stdout.strip() or "absent"
