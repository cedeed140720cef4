"""Programs of the documents that ran to their end."""

from __future__ import annotations

import subprocess


def finished(process: subprocess.Popen[str]) -> list[str]:
    """What a program printed, when it ended well."""
    printed, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, "")
    return printed.splitlines()
