from __future__ import annotations

import ast
import configparser
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from client_sdk import Channel, ServerClient
from client_sdk.testing import RunningGateway
from gateway.cli.program import gateway as program
from gateway.config import Config
from gateway.live.node import Node
from gateway.log import ConsoleFormatter, JsonFormatter
from gateway.serve import BACKLOG, STOP_GRACE_S
from tests.support.markdown import Markdown

OPERATIONS = Markdown("operations.md")
TREE = Path(__file__).parents[2]
SOURCES = [path for path in sorted((TREE / "gateway").rglob("*.py")) if "bench" not in path.parts]


def nodes() -> Iterator[ast.AST]:
    for path in SOURCES:
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


# --- metrics ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def families(tmp_path: Path) -> dict[str, str]:
    """What a gateway that was used shows: each metric's name as it is scraped, with its type and labels."""
    with RunningGateway(tmp_path / "gateway.db") as gateway:
        token = gateway.token(gateway.add_user("ada"))
        async with Channel(gateway.url, token), ServerClient(gateway.url, token) as server:
            await server.identity()
        async with Channel(gateway.url, token), ServerClient(gateway.url, token) as server:
            await server._http.get("/auth/validate", headers={"Signature": "none"})
            text = (await server._send("GET", "/metrics")).text
    found = {}
    for family in text_string_to_metric_families(text):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.endswith("_created"):
            found[f"`{name}`"] = ", ".join([family.type, *(f"`{label}`" for label in sorted(labels))])
    return found


def test_the_table_of_metrics_is_what_is_scraped(families: dict[str, str]) -> None:
    assert {row[0]: row[1] for row in OPERATIONS.rows("Metrics")} == families


def test_no_metric_is_named_that_does_not_exist(families: dict[str, str]) -> None:
    known = {name.strip("`") for name in families}
    known |= {f"{name}{end}" for name in known for end in ("_bucket", "_count", "_sum")}
    for path in OPERATIONS.path.parent.glob("*.md"):
        named = set(re.findall(r"(?<!-)\bgateway_[a-z_]+[a-z]\b", path.read_text(encoding="utf-8")))
        assert named - known == set(), path.name


# --- what is said to operators ---------------------------------------------------------------------------------------


def test_every_reason_not_to_be_ready_is_described() -> None:
    source = next(
        node for node in nodes() if isinstance(node, ast.FunctionDef) and node.name == Node.not_ready.__name__
    )
    reasons = {
        node.args[0].value
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "reasons.append"
        and isinstance(node.args[0], ast.Constant)
    }
    assert {row[0].strip("`") for row in OPERATIONS.rows("Watching it")} == reasons
    [example] = [json.loads(block.text) for block in OPERATIONS.blocks_of("json") if block.section == "Watching it"]
    assert set(example["reasons"]) <= reasons


def messages() -> set[tuple[str, str]]:
    """Every message that the gateway logs: its level, and its fixed parts."""
    found = set()
    for node in nodes():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "log"
        ):
            [text] = [node.args[0]]
            assert isinstance(text, ast.Constant), "a message is a fixed text; what varies goes into fields"
            level = {"exception": "error"}.get(node.func.attr, node.func.attr)
            found.add((level, re.sub(r"%\w", "…", str(text.value))))
    return found


def test_every_message_of_the_log_is_described() -> None:
    described = {(row[0], re.sub(r"\b[A-Z]+\b", "…", row[1].strip("`"))) for row in OPERATIONS.rows("Logs")}
    assert described == messages()


def test_the_examples_of_log_lines_are_what_is_written() -> None:
    [line] = re.findall(r"^    (2026-.* session ended .*)$", OPERATIONS.text, re.MULTILINE)
    [example] = [json.loads(block.text) for block in OPERATIONS.blocks_of("json") if block.section == "Logs"]
    fields = {name: example[name] for name in ("session", "principal", "reason", "seconds", "address")}
    record = logging.makeLogRecord({"name": example["logger"], "levelno": logging.INFO, "levelname": "INFO", **fields})
    record.msg = example["message"]
    record.created = 1_795_302_638.022
    assert ConsoleFormatter().format(record) == line
    assert json.loads(JsonFormatter().format(record)) == example
    source = next(node for node in nodes() if isinstance(node, ast.Constant) and node.value == "session ended")
    assert isinstance(source, ast.Constant)
    written = {
        key.value
        for node in nodes()
        if isinstance(node, ast.Call)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == source.value
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Dict)
        for key in keyword.value.keys
        if isinstance(key, ast.Constant)
    }
    assert written == fields.keys()


# --- examples --------------------------------------------------------------------------------------------------------


def test_the_unit_starts_a_command_and_leaves_it_time_to_stop() -> None:
    [unit] = OPERATIONS.blocks_of("ini")
    parsed = configparser.ConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit.text)
    service = parsed["Service"]
    command, *arguments = shlex.split(service["ExecStart"])
    assert Path(command).name == "gateway"
    assert_understood(arguments)
    config = Config()
    assert float(service["TimeoutStopSec"]) > config.server.drain_s + 2 * STOP_GRACE_S
    assert int(service["LimitNOFILE"]) > config.channel.max_sessions + 200
    assert service["KillMode"] == "mixed"


def assert_understood(arguments: list[str]) -> None:
    """These are a command of `gateway` and its options; nothing is run."""
    context = click.Context(program)
    name, command, rest = program.resolve_command(context, arguments)
    assert command is not None
    command.make_parser(click.Context(command, info_name=name)).parse_args(list(rest))


def test_the_commands_exist() -> None:
    lines = re.findall(r"^    (?:PYTHONTZPATH= )?gateway (.+?)(?:\s+#.*)?$", OPERATIONS.text, re.MULTILINE)
    inline = re.findall(r"`(?:[A-Z_]+=\S+ )?gateway ([a-z]+[^`]*)`", OPERATIONS.text)
    assert len(lines) >= 4
    for line in [*lines, *inline]:
        assert_understood(shlex.split(line.replace("$(date +%F)", "today").replace("$PORT", "8787")))


def test_the_proxy_outlasts_a_heartbeat() -> None:
    [nginx] = OPERATIONS.blocks_of("nginx")
    timeouts = [int(seconds) for seconds in re.findall(r"_timeout (\d+)s;", nginx.text)]
    assert len(timeouts) == 2
    assert min(timeouts) > 2 * 1.1 * Config().channel.heartbeat_s


def test_the_backlog_is_what_the_kernel_is_asked_for() -> None:
    [row] = [row for row in OPERATIONS.rows("The kernel") if row[0] == "`net.core.somaxconn`"]
    assert row[1].startswith(f"{BACKLOG} or more")


def test_the_time_zones_of_the_package_are_taken() -> None:
    [code] = re.findall(r'`python -c "(import importlib[^"]+)"`', OPERATIONS.text)
    check = f"{code}; import zoneinfo; print(zoneinfo.TZPATH, zoneinfo.ZoneInfo('Europe/Berlin'))"
    environment = {"PATH": os.environ["PATH"], "PYTHONTZPATH": ""}
    printed = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert re.fullmatch(r"\d{4}\.\d+\n\(\) Europe/Berlin\n", printed)


def test_how_a_node_is_stopped_is_said_in_the_same_words_to_operators_and_to_clients() -> None:
    [stopping] = re.findall(
        r"SIGTERM ends the sessions .*? ends the process\.", (TREE / "docs/operations.md").read_text(), re.S
    )
    assert stopping in (TREE / "docs/protocol.md").read_text()
