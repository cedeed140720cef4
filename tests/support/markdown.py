"""Reads a document of ``docs/``: its sections, tables and code blocks, so that tests can hold it to the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
_HEADING = re.compile(r"^(#+) (.+)$")
_FENCE = re.compile(r"^```(.*)$")


class Block(NamedTuple):
    """A fenced block: what stands behind the fence (``json``, ``text log``), its content, and the heading above it."""

    language: str
    text: str
    section: str


class Markdown:
    """One document, by its name in ``docs/`` or by its path."""

    def __init__(self, name: str | Path) -> None:
        self.path = DOCS / name
        self.text = self.path.read_text(encoding="utf-8")

    @cached_property
    def lines(self) -> list[tuple[str, bool]]:
        """Every line, and whether it stands inside a fenced block, the fences included."""
        lines, inside = [], False
        for line in self.text.splitlines():
            fence = _FENCE.match(line) is not None
            lines.append((line, inside or fence))
            inside = inside is not fence
        assert not inside, f"{self.path.name}: a fenced block does not end"
        return lines

    @cached_property
    def headings(self) -> list[str]:
        """The titles of all headings, marks of code included."""
        return [found[2] for line, code in self.lines if not code and (found := _HEADING.match(line))]

    @cached_property
    def anchors(self) -> set[str]:
        """What a link may name behind ``#``: the headings as GitHub spells them there."""
        return set(map(self.anchor, self.headings))

    @staticmethod
    def anchor(title: str) -> str:
        """A heading as links name it."""
        return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")

    def section(self, title: str) -> str:
        """What stands below the heading, its subsections included."""
        rank: int = 0
        found: list[str] | None = None
        for line, code in self.lines:
            heading = None if code else _HEADING.match(line)
            if found is not None:
                if heading and len(heading[1]) <= rank:
                    break
                found.append(line)
            elif heading and heading[2] == title:
                rank, found = len(heading[1]), []
        assert found is not None, f"{self.path.name} has no section {title}"
        return "\n".join(found)

    def rows(self, title: str) -> list[list[str]]:
        """The cells of the tables below the heading, heads and rules left out."""
        tables = [line for line in self.section(title).splitlines() if line.startswith("|")]
        rules = {number for number, line in enumerate(tables) if set(line) <= set("|- ")}
        return [
            [cell.strip() for cell in line.strip("|").split("|")]
            for number, line in enumerate(tables)
            if not {number, number + 1} & rules
        ]

    def prose(self, title: str) -> str:
        """What stands below the heading, without its fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.section(title), flags=re.MULTILINE | re.DOTALL)

    @cached_property
    def blocks(self) -> list[Block]:
        """All fenced blocks in order."""
        found: list[Block] = []
        section, language, content = "", None, list[str]()
        for line, code in self.lines:
            if not code:
                heading = _HEADING.match(line)
                section = heading[2] if heading else section
            elif fence := _FENCE.match(line):
                if language is None:
                    language, content = fence[1], []
                else:
                    found.append(Block(language, "\n".join(content) + "\n", section))
                    language = None
            else:
                content.append(line)
        return found

    def blocks_of(self, language: str) -> list[Block]:
        """The fenced blocks of one language."""
        return [block for block in self.blocks if block.language == language]

    def json_values(self) -> Iterator[Any]:
        """Every value of the JSON blocks; a block may hold several."""
        for block in self.blocks_of("json"):
            rest = block.text.strip()
            while rest:
                value, end = json.JSONDecoder().raw_decode(rest)
                yield value
                rest = rest[end:].strip()
