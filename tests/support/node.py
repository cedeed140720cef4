"""Node and the programs in JavaScript that tests run. Each skips the test when it is missing, and fails it where
everything is required."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import playwright

from tests.support.gateway_process import ROOT
from tests.support.required import missing

OLDEST = 20
"""The first major version of Node that the SDK promises to run on."""
TOOLS = ROOT / ".venv" / "node-tools"
"""Where `make test` puts what npm fetches."""
BUNDLED = Path(playwright.__file__).parent / "driver" / "node"
"""Playwright brings a Node of its own."""


def find_node() -> str:
    """The Node to run: the installed one if it is new enough, else Playwright's."""
    found = _node()
    return found if found is not None else missing("Node 20 or newer is not installed (on Debian: apt install nodejs)")


def new_node() -> str:
    """A Node that has a global `WebSocket` (22 or newer): the installed one or Playwright's."""
    for candidate in _candidates():
        if _major(candidate) >= 22:
            return candidate
    return missing("Node 22 or newer is not installed")


def run_node(
    *arguments: str | Path, timeout_s: float = 50.0, cwd: Path = ROOT, told: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Node to its end, with `told` as its input; `AssertionError` with all it wrote when it fails."""
    command = [find_node(), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, input=told, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


def npm() -> str:
    """The program that makes and installs packages of Node's."""
    return shutil.which("npm") or missing("npm is not installed (on Debian: apt install npm)")


def typescript() -> Path:
    """The TypeScript compiler, a program for Node."""
    return _tool("typescript/lib/tsc.js")


def axe() -> Path:
    """The script that finds what is not accessible in a page that runs it."""
    return _tool("axe-core/axe.min.js")


def message_signatures() -> Path:
    """The library that signs requests as RFC 9421 says, a module for Node."""
    return _tool("http-message-signatures/lib/index.js")


def _tool(name: str) -> Path:
    path = TOOLS / "node_modules" / name
    if not path.is_file():
        missing(f"{name.split('/')[0]} is not here, and make test could not fetch it (npm is needed)")
    return path


@functools.cache
def _node() -> str | None:
    return next((candidate for candidate in _candidates() if _major(candidate) >= OLDEST), None)


def _candidates() -> Iterator[str]:
    installed = shutil.which("node") or shutil.which("nodejs")
    if installed is not None:
        yield installed
    if BUNDLED.is_file():
        yield str(BUNDLED)


@functools.cache
def _major(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20).stdout
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0
