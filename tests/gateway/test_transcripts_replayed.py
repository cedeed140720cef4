from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.store.database import Database
from tests.support.gateway_replay import DIRECTORY, ON_SIDE_OF_THE_CLIENT, GatewayReplay, read

FILES = sorted(path for path in DIRECTORY.glob("*.jsonl") if not path.stem.startswith("sdk_"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_the_gateway_plays_its_part(path: Path, database: Database) -> None:
    header, lines = read(path)
    async with GatewayReplay(database, header, lines) as replay:
        await replay.run()
        assert replay.replayed == sum(line.get("do") not in ON_SIDE_OF_THE_CLIENT for line in lines)
        assert replay.replayed >= 4


def test_nearly_all_transcripts_are_the_gateways_contract() -> None:
    """Those for SDKs alone, and no others, say so in their name and in their first line."""
    of_the_gateway = [path.stem for path in DIRECTORY.glob("*.jsonl") if "gateway" in read(path)[0]["replay"]]
    assert sorted(of_the_gateway) == [path.stem for path in FILES]
    assert len(FILES) >= 26
    assert sum(len(read(path)[1]) for path in FILES) >= 250


# --- what the replay notices ---


def line(lines: list[dict[str, Any]], op: str) -> dict[str, Any]:
    """The first line with this message."""
    return next(one for one in lines if one.get("message", {}).get("op") == op)


def say_more(lines: list[dict[str, Any]]) -> None:
    lines.remove(line(lines, "update"))


def say_less(lines: list[dict[str, Any]]) -> None:
    lines.insert(4, line(lines, "update"))


def say_it_earlier(lines: list[dict[str, Any]]) -> None:
    write = next(one for one in lines if one.get("do") == "write")
    write["at"] -= 500


def say_something_else(lines: list[dict[str, Any]]) -> None:
    line(lines, "update")["message"]["patch"]["quotas"]["voice_minutes"]["used"] = 14


def say_a_number_for_a_truth(lines: list[dict[str, Any]]) -> None:
    line(lines, "snapshot")["message"]["data"]["permissions"]["can_use_voice"] = 1


def say_a_field_less(lines: list[dict[str, Any]]) -> None:
    del line(lines, "ready")["message"]["principal"]


def say_it_later(lines: list[dict[str, Any]]) -> None:
    line(lines, "update")["at"] += 1


def say_another_name(lines: list[dict[str, Any]]) -> None:
    line(lines, "ready")["message"]["session"] = "<text:node>"


def go_back(lines: list[dict[str, Any]]) -> None:
    line(lines, "snapshot")["message"]["seq"] = "<seq:3>"


@pytest.mark.parametrize(
    "alter",
    [
        say_more,
        say_less,
        say_it_earlier,
        say_something_else,
        say_a_number_for_a_truth,
        say_a_field_less,
        say_it_later,
        say_another_name,
        go_back,
    ],
    ids=lambda alter: alter.__name__,
)
async def test_a_gateway_that_says_something_else_is_found(
    database: Database, alter: Callable[[list[dict[str, Any]]], None]
) -> None:
    header, lines = read(DIRECTORY / "msgpack.jsonl")
    alter(lines)
    async with GatewayReplay(database, header, lines) as replay:
        with pytest.raises(AssertionError, match=r"not expected|not sent|came before"):
            await replay.run()


async def test_an_order_that_is_not_allowed_is_found(database: Database) -> None:
    header, lines = read(DIRECTORY / "sync.jsonl")
    reply = line(lines, "reply")
    lines.remove(reply)
    lines.insert(6, reply)
    assert lines[5]["message"]["op"] == "snapshot"
    async with GatewayReplay(database, header, lines) as replay:
        with pytest.raises(AssertionError, match="came before"):
            await replay.run()


@pytest.mark.parametrize(
    ("transcript", "directive", "field", "value"),
    [("revoked", "close", "code", 4501), ("handshake_refused", "refuse", "status", 403)],
)
async def test_a_gateway_that_ends_otherwise_is_found(
    database: Database, transcript: str, directive: str, field: str, value: int
) -> None:
    header, lines = read(DIRECTORY / f"{transcript}.jsonl")
    next(one for one in lines if one.get("do") == directive)[field] = value
    async with GatewayReplay(database, header, lines) as replay:
        with pytest.raises(AssertionError):
            await replay.run()
