"""No child outlives the tests: a process of its own kills what they leave behind, however they end.

The watcher reads process ids from a pipe and reaches its end when the process of the tests is gone, killed or not.
(``PR_SET_PDEATHSIG`` would do it too, but it is bound to the thread that starts the child, and tests use many.)
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import threading

_PROGRAM = r"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
alive = set()
for line in sys.stdin:
    sign, pid = line[0], int(line[1:])
    (alive.add if sign == "+" else alive.discard)(pid)
for pid in alive:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""

_lock = threading.Lock()
_watcher: subprocess.Popen[str] | None = None


def hold(pid: int) -> None:
    """Kill `pid` when this process has ended, unless it was let `go` before."""
    _tell(f"+{pid}")


def go(pid: int) -> None:
    """`pid` has ended: the number may belong to another process soon."""
    _tell(f"-{pid}")


def _tell(line: str) -> None:
    global _watcher
    with _lock:
        if _watcher is None:
            _watcher = subprocess.Popen(
                [sys.executable, "-S", "-c", _PROGRAM], stdin=subprocess.PIPE, text=True, start_new_session=True
            )
            atexit.register(_let_it_end, _watcher)
        assert _watcher.stdin is not None
        _watcher.stdin.write(line + "\n")
        _watcher.stdin.flush()


def _let_it_end(watcher: subprocess.Popen[str]) -> None:
    watcher.communicate()
