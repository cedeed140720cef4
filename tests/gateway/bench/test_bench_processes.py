from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gateway.bench import processes
from gateway.bench.broken import BenchBroken

BUSY = "print('x', flush=True)\nwhile True: pass"
RESTING = "import sys; print('x', flush=True); sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {RESTING!r}])"


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("started", [PARENT], indirect=True)
def test_a_tree_has_the_children_too(started: subprocess.Popen[bytes]) -> None:
    found = processes.tree(started.pid)
    assert found[0] == started.pid
    assert len(found) == 2
    assert set(found) < set(processes.tree(os.getpid()))
    assert started.stdin is not None
    started.stdin.close()  # the child reads it too: both end by themselves


@pytest.mark.parametrize("started", [RESTING], indirect=True)
def test_memory_of_a_process_is_counted_in_kib(started: subprocess.Popen[bytes]) -> None:
    found = processes.memory([started.pid])
    assert 2_000 < found.uss <= found.pss <= found.rss < 200_000
    assert processes.memory([started.pid, started.pid]).rss == pytest.approx(2 * found.rss, rel=0.05)
    assert processes.rss_kib([started.pid]) == pytest.approx(found.rss, rel=0.1)


@pytest.mark.parametrize("started", [RESTING], indirect=True)
def test_a_resting_process_settles(started: subprocess.Popen[bytes]) -> None:
    assert processes.settle([started.pid], quiet_s=0.1)


@pytest.mark.parametrize("started", [BUSY], indirect=True)
def test_a_busy_process_does_not_settle_and_uses_cpu(started: subprocess.Popen[bytes]) -> None:
    before, since = processes.cpu_seconds([started.pid]), time.monotonic()
    assert not processes.settle([started.pid], share=0.02, quiet_s=0.5, within_s=1)
    used = processes.cpu_seconds([started.pid]) - before
    assert 0.02 < used <= time.monotonic() - since + 0.05


def test_a_process_that_is_gone_breaks_the_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for look in (processes.cpu_seconds, processes.memory, processes.rss_kib):
        with pytest.raises(BenchBroken, match=f"process {process.pid} is gone"):
            look([process.pid])
