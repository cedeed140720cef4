"""The shell of the JavaScript SDK in Node, in a world of its own: no socket, no timer and no page is a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import run_node

HERE = Path(__file__).parent / "js"
FILES = ("channel", "channel_ends", "channel_noise", "environment", "lease", "meter")


@pytest.mark.parametrize("file", FILES)
def test_in_node(file: str) -> None:
    told = run_node("--test", "--test-reporter=tap", HERE / f"{file}.test.mjs").stdout
    assert "\n# fail 0\n" in told
    assert "\n# cancelled 0\n" in told
    assert "\n# pass 0\n" not in told
