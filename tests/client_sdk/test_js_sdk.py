"""The pure half of the JavaScript SDK in Node: each file of tests is a case here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import run_node

HERE = Path(__file__).parent
FILES = (
    "document",
    "parts",
    "intake",
    "session_credentials",
    "session_doubt",
    "session_life",
    "session_proof",
    "session_requests",
    "transcripts",
)


def run_tests(path: Path) -> None:
    told = run_node("--test", "--test-reporter=tap", path).stdout
    assert "\n# fail 0\n" in told
    assert "\n# cancelled 0\n" in told
    assert "\n# pass 0\n" not in told


@pytest.mark.parametrize("file", FILES)
def test_in_node(file: str) -> None:
    run_tests(HERE / "js" / f"{file}.test.mjs")


def test_every_file_of_tests_is_a_case() -> None:
    """Those of this module, and those that another one names."""
    modules = [path.read_text(encoding="utf-8") for path in HERE.glob("test_js_*.py")]
    names = [path.name.removesuffix(".test.mjs") for path in (HERE / "js").glob("*.test.mjs")]
    assert [name for name in names if not any(f'"{name}"' in module for module in modules)] == []


def test_a_test_that_fails_in_node_fails_here(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.test.mjs"
    wrong.write_text('import { test } from "node:test";\ntest("it fails", () => { throw new Error("so it does"); });\n')
    with pytest.raises(AssertionError, match="so it does"):
        run_tests(wrong)
