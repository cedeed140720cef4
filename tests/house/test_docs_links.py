from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from tests.support.markdown import DOCS, Markdown

TREE = DOCS.parent
PATHS = [TREE / "README.md", TREE / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
DOCUMENTS = {path: Markdown(path) for path in PATHS}


class Link(NamedTuple):
    """A link of a document: where it is, where it leads to, and the heading that it names there."""

    document: Path
    target: Path
    anchor: str


def links() -> Iterator[Link]:
    """Every link that leads to a file or a heading of this project."""
    for path, document in DOCUMENTS.items():
        prose = "\n".join(line for line, code in document.lines if not code)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            file, _, anchor = target.partition("#")
            if "://" not in target:
                yield Link(path, (path.parent / file).resolve() if file else path, anchor)


def test_links_name_headings_that_are_there() -> None:
    wrong = [
        f"{link.document.name}: {link.target.name}#{link.anchor}"
        for link in links()
        if link.anchor and link.anchor not in (DOCUMENTS.get(link.target) or Markdown(link.target)).anchors
    ]
    assert wrong == []


def test_no_heading_occurs_twice_where_links_name_it() -> None:
    for path, document in DOCUMENTS.items():
        named = {link.anchor for link in links() if link.target == path}
        titles = [title for title in document.headings if Markdown.anchor(title) in named]
        assert len(titles) == len(set(titles)), path.name


def test_the_index_lists_every_document() -> None:
    listed = {link.target for link in links() if link.document == DOCS / "README.md"}
    assert {path for path in DOCS.glob("*.md") if path.name != "README.md"} - listed == set()


@pytest.mark.parametrize("path", [path for path in PATHS if path.parent == DOCS], ids=lambda path: path.name)
def test_the_contents_at_the_top_are_the_headings(path: Path) -> None:
    """Where a document begins with its contents, they are complete and in order."""
    document = DOCUMENTS[path]
    listed = re.findall(
        r"\[[^\]]+\]\(#([^)]+)\)", "\n".join(line for line in document.text.splitlines() if " · " in line)
    )
    ranks = [line for line, code in document.lines if not code and re.match(r"## ", line)]
    if listed:
        assert listed == [Markdown.anchor(line[3:]) for line in ranks]


def test_files_that_are_named_are_there() -> None:
    wrong = [
        f"{path.name} names {file}"
        for path, document in DOCUMENTS.items()
        for file in re.findall(r"\b(?:gateway|client_sdk|tests|docs)/[\w/*.-]*\w\.(?:py|md|jsonl|sql)\b", document.text)
        if not list(TREE.glob(file))
    ]
    assert wrong == []


def test_the_layers_are_those_that_imports_obey() -> None:
    rules = (TREE / "tests" / "house" / "test_rules.py").read_text(encoding="utf-8")
    found = re.search(r"^LAYERS = \[(.*)\]$", rules, re.MULTILINE)
    assert found is not None
    layers = " → ".join(re.findall(r'"(\w+)"', found[1]))
    assert DOCUMENTS[DOCS / "design.md"].section("Layers").count(f"\n{layers}\n") == 1


TOOLS = {"mypy", "pytest", "pytest-asyncio", "pytest-timeout", "ruff"}
"""What looks at the program from outside, and needs no reason."""


def test_every_library_has_its_reason() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    rows = DOCUMENTS[DOCS / "design.md"].rows("Libraries")
    explained = {name.strip() for row in rows for name in row[0].split(",")}
    assert explained == {Requirement(item).name for item in asked} - TOOLS
