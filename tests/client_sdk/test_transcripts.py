from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from client_sdk.document import apply
from tests.client_sdk.support.driver import revision_of
from tests.client_sdk.support.replay import PLACEHOLDER, Replay, read

DIRECTORY = Path(__file__).parents[1] / "transcripts"
FILES = sorted(DIRECTORY.glob("*.jsonl"))
DIRECTIVES = {
    "connect",
    "refuse",
    "close",
    "lose",
    "bye",
    "write",
    "store",
    "drain",
    "provider",
    "holds",
    "told",
    "stopped",
}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def messages(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line["message"] for line in lines if line.get("from") == "server"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_session_plays_its_part(path: Path) -> None:
    header, lines = read(path)
    if "sdk" in header["replay"]:
        Replay(header, lines).run()
    else:
        assert any(line.get("by") == "raw" for line in lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_line_is_of_the_documented_form(path: Path) -> None:
    header, lines = read(path)
    assert set(header) == {"about", "replay", "clock", "tokens"}
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    for line in lines:
        if "do" in line:
            assert line["do"] in DIRECTIVES
        else:
            assert line["from"] in ("client", "server")
            assert isinstance(line["message"]["op"], str)
            assert line.get("by", "sdk") in ("sdk", "app", "raw")
    for text in texts(lines):
        assert not re.match(r"<[a-z]", text) or PLACEHOLDER.fullmatch(text), text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_revision_is_that_of_its_document(path: Path) -> None:
    held: dict[str, Any] = {}
    _, lines = read(path)
    if path.stem == "sdk_wrong_revision":  # that is its point
        return
    for message in messages(lines):
        doc = message.get("doc", "")
        if message["op"] == "snapshot":
            held[doc] = message["data"]
            assert message["rev"] == revision_of(held[doc])
        elif message["op"] == "update" and message["from"] == revision_of(held[doc]):
            held[doc] = apply(held[doc], message["patch"])
            assert message["rev"] == revision_of(held[doc])
        elif message["op"] == "current":
            assert message["rev"] == revision_of(held[doc])


def test_the_example_of_the_data_model_has_the_revision_that_everybody_computes() -> None:
    _, lines = read(DIRECTORY / "connect_header.jsonl")
    [snapshot] = [message for message in messages(lines) if message["op"] == "snapshot"]
    assert rfc8785.dumps(snapshot["data"])[:60] == b'{"identity":{"attributes":{"persona":"boss","wake_word":"hey'
    assert snapshot["rev"] == "2287efb0d9523f39"


def test_every_message_and_every_directive_occurs() -> None:
    everything = [line for path in FILES for line in read(path)[1]]
    assert {line["do"] for line in everything if "do" in line} == DIRECTIVES
    ops = {(line["from"], line["message"]["op"]) for line in everything if "from" in line and line.get("by") != "raw"}
    server = {"hello", "ready", "snapshot", "update", "current", "gone", "reply", "error", "expiring", "status", "pong"}
    client = ["auth", "watch", "unwatch", "sync", "ping", "consume", "reserve", "extend", "commit", "release"]
    assert ops >= {("server", op) for op in server | {"ended"}} | {("client", op) for op in client}
