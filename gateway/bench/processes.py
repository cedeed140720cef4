"""Memory and CPU time of processes, read from Linux's ``/proc`` (proc(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from gateway.bench.broken import BenchBroken

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
Progress = Callable[[float], None]


class Memory(NamedTuple):
    """Memory of some processes in KiB: resident, proportional (shared pages divided among their users), unique."""

    rss: int
    pss: int
    uss: int


def _read(pid: int, file: str) -> str:
    try:
        return (PROC / str(pid) / file).read_text()
    except OSError as error:
        raise BenchBroken(f"process {pid} is gone") from error


def _stat(pid: int) -> list[str]:
    # The command's name is in brackets and may hold anything; after the last bracket comes the third field, the state.
    return _read(pid, "stat").rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except BenchBroken:
                continue  # it ended between the two looks
    found = [pid]
    for parent in found:
        found += parents.get(parent, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of the processes since they started, user and system, to a tick of 10 ms."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def busy_seconds() -> float:
    """CPU time that all cores together spent on anything since the machine started, time taken by the hypervisor
    included.
    """
    user, nice, system, _idle, _iowait, *rest = map(int, (PROC / "stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / _TICKS_PER_S


def memory(pids: Iterable[int]) -> Memory:
    """What the processes hold in memory now, summed."""
    sums = dict.fromkeys(("Rss", "Pss", "Private_Clean", "Private_Dirty"), 0)
    for pid in pids:
        for line in _read(pid, "smaps_rollup").splitlines()[1:]:
            name, value = line.split(":")
            if name in sums:
                sums[name] += int(value.split()[0])
    return Memory(sums["Rss"], sums["Pss"], sums["Private_Clean"] + sums["Private_Dirty"])


def rss_kib(pids: Iterable[int]) -> int:
    """Resident memory of the processes in KiB: cheaper than `memory`, for sampling."""
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    return sum(int(_read(pid, "statm").split()[1]) for pid in pids) * page_kib


def settle(pids: Collection[int], *, share: float = 0.1, quiet_s: float = 0.25, within_s: float = 15.0) -> bool:
    """Wait until the processes use at most `share` of a core over `quiet_s` seconds; False when they were still busy
    after `within_s`.
    """
    deadline = time.monotonic() + within_s
    used = cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(quiet_s)
        used, before = cpu_seconds(pids), used
        if used - before <= share * quiet_s + 1 / _TICKS_PER_S:
            return True
    return False
