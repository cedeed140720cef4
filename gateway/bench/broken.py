"""What ends a benchmark without a figure."""

from __future__ import annotations


class BenchBroken(Exception):
    """The run can not be trusted or could not go on: a process died, a session was refused, a deadline passed. The
    text is one line.
    """
