from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client_sdk.testing import RunningGateway
from gateway.cli.demo import demo_statements
from tests.support.finished import finished
from tests.support.markdown import Block, Markdown
from tests.support.node import find_node, run_node

SDK = Markdown("sdk-js.md")
PACKAGE = Path(__file__).parents[2] / "client_sdk" / "js"
PROSE = re.sub(r"^```.*?^```$", "", SDK.text, flags=re.MULTILINE | re.DOTALL)
NAMED = set(re.findall(r"\b[A-Za-z_]+\b", " ".join(re.findall(r"`([^`]+)`", PROSE))))

# What the code says of itself: the names of the package, the members of its classes, its options and its errors.
ASKING = """
const [entry, options, environment] = process.argv.slice(1);
const sdk = await import(entry);
const { makeOptions } = await import(options);
const { makeEnvironment } = await import(environment);
const classes = Object.entries(sdk).filter(([, value]) => typeof value === "function");
const isError = ([, kind]) => kind.prototype instanceof Error;
const members = ([name, kind]) => [name, Object.getOwnPropertyNames(kind.prototype)];
process.stdout.write(JSON.stringify({
  names: Object.keys(sdk),
  members: Object.fromEntries(classes.map(members)),
  errors: Object.fromEntries(classes.filter(isError).map(([name, kind]) => [name, kind.defaultCode])),
  options: makeOptions(),
  environment: Object.keys(makeEnvironment()),
}));
"""


@pytest.fixture(scope="module")
def code() -> Any:
    files = [(PACKAGE / name).as_uri() for name in ("gateway.js", "options.js", "environment.js")]
    return json.loads(run_node("--input-type=module", "--eval", ASKING, *files).stdout)


def own_options() -> dict[str, str]:
    """What `Channel` takes besides, from the types of its sources: the names and what stands behind them."""
    source = (PACKAGE / "channel.js").read_text(encoding="utf-8")
    typedef = source[
        source.index("@typedef {object} OwnOptions") : source.index("@typedef {SessionOptions & OwnOptions}")
    ]
    return dict(re.findall(r"@property \{[^}]+\}\S* \[(\w+)\] (.*)", typedef))


# --- names -----------------------------------------------------------------------------------------------------------


def test_every_public_name_is_mentioned(code: Any) -> None:
    assert set(code["names"]) - set(re.findall(r"\w+", SDK.text)) == set()


def test_every_method_and_property_is_described(code: Any) -> None:
    for kind in ("Channel", "Lease", "Meter"):
        members = {name for name in code["members"][kind] if not name.startswith("constructor")}
        assert members - NAMED - {"begin"} == set(), kind


def typedef_fields(file: str, name: str) -> set[str]:
    source = (PACKAGE / file).read_text(encoding="utf-8")
    comments = re.findall(r"/\*\*.*?\*/", source, re.DOTALL)
    [comment] = [text for text in comments if re.search(rf"@typedef \{{object\}} {name}\b", text)]
    fields = set(re.findall(r"@property \{.*\}+ \[?(\w+)\]?", comment))
    assert fields
    return fields


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("events.js", "Change"),
        ("events.js", "Watched"),
        ("quota.js", "Quota"),
        ("freshness.js", "Freshness"),
    ],
)
def test_every_field_is_described(file: str, name: str) -> None:
    assert typedef_fields(file, name) - {"type"} - NAMED == set()


def test_everything_there_is_to_listen_to_is_described() -> None:
    source = (PACKAGE / "listeners.js").read_text(encoding="utf-8")
    typedef = source[source.index("@typedef {object} News") : source.index("@typedef {object} Waiter")]
    kinds = re.findall(r"@property \{[^}]+\} (\w+)", typedef)
    assert [row[0] for row in SDK.rows("What happens")[: len(kinds)]] == [f"`{kind}`" for kind in kinds]


def test_every_state_of_freshness_is_described() -> None:
    source = (PACKAGE / "freshness.js").read_text(encoding="utf-8")
    [states] = re.findall(r"@typedef \{(.*)\} FreshnessState", source)
    assert [row[0].strip("`") for row in SDK.rows("How true it is")] == re.findall(r'"(\w+)"', states)


def test_every_reason_of_a_meter_is_described() -> None:
    source = (PACKAGE / "errors.js").read_text(encoding="utf-8")
    [reasons] = re.findall(r"@typedef \{(.*)\} StopReason", source)
    assert set(re.findall(r'"(\w+)"', reasons)) <= {row[0].strip("`") for row in SDK.rows("Metering a call")}


def test_every_option_is_described_with_its_default(code: Any) -> None:
    described = {row[0].strip("`"): row[1].strip("`") for row in SDK.rows("Options")}
    own = own_options()
    assert {"openTimeoutMs", "closeTimeoutMs", "WebSocket", "environment"} == own.keys()
    assert described.keys() == code["options"].keys() | own.keys()
    assert {name: json.loads(described[name]) for name in code["options"]} == code["options"]
    for name in ("openTimeoutMs", "closeTimeoutMs"):
        assert f"{int(described[name]):,} when not given" in own[name]
    [environment] = [row[2] for row in SDK.rows("Options") if row[0] == "`environment`"]
    assert re.findall(r"`(\w+)`", environment) != []
    assert set(re.findall(r"`(\w+)`", environment)) == set(code["environment"])


@pytest.mark.parametrize(
    ("file", "name", "section"),
    [("channel.js", "ConsumeOptions", "Spending"), ("meter.js", "MeterOptions", "Metering a call")],
)
def test_every_argument_of_what_spends_is_described(file: str, name: str, section: str) -> None:
    rows = [set(re.findall(r"`(\w+)`", row[0])) for row in SDK.rows(section)]
    assert typedef_fields(file, name) <= set().union(*rows)


def test_every_argument_of_a_lease_is_described() -> None:
    assert typedef_fields("lease.js", "LeaseOptions") - NAMED == set()


def test_every_error_is_described_with_its_code(code: Any) -> None:
    described = {row[0].strip("`"): row[1].strip("`") for row in SDK.rows("Errors")}
    assert described == {name: code for name, code in code["errors"].items() if name != "ChannelError"}


def test_every_event_of_a_page_is_described() -> None:
    source = (PACKAGE / "environment.js").read_text(encoding="utf-8")
    events = set(re.findall(r'\[(?:document|window), "(\w+)"', source))
    assert len(events) == 6
    assert events == set(re.findall(r"\(`(\w+)`\)", SDK.section("Pages that sleep")))


# --- programs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path / "gateway.db") as running:
        for statement in demo_statements("admin"):
            running.sql(statement.sql, *statement.args)
        yield running


def program(section: str) -> Block:
    [block] = [block for block in SDK.blocks_of("js") if block.section == section]
    return block


def start(section: str, directory: Path, gateway: RunningGateway) -> subprocess.Popen[str]:
    """A program of the document, as Ada's, in a process of its own, with the package installed."""
    (directory / "node_modules").mkdir(exist_ok=True)
    installed = directory / "node_modules" / "session-gateway-client"
    if not installed.exists():
        installed.symlink_to(PACKAGE, target_is_directory=True)
    text = program(section).text
    assert "http://127.0.0.1:8787" in text
    (directory / "main.mjs").write_text(text.replace("http://127.0.0.1:8787", gateway.url), encoding="utf-8")
    return subprocess.Popen(
        [find_node(), "--no-warnings", "--experimental-websocket", "main.mjs"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "GATEWAY_AUTH_TOKEN": gateway.token("u_ada")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_program_has_a_test() -> None:
    tried = set(re.findall(r'start\("([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {block.section for block in SDK.blocks_of("js")} == tried


def test_what_is_for_a_page_can_be_read(tmp_path: Path) -> None:
    pieces = [block.text for block in SDK.blocks_of("js page")]
    pieces += [re.sub(r"</?script.*?>", "", block.text) for block in SDK.blocks_of("html")]
    assert len(pieces) == 4
    for number, piece in enumerate(pieces):
        file = tmp_path / f"piece{number}.mjs"
        file.write_text(piece, encoding="utf-8")
        run_node("--check", file)


def test_the_first_program_follows_changes(tmp_path: Path, demo: RunningGateway) -> None:
    process = start("In short", tmp_path, demo)
    assert process.stdout is not None
    first = [process.stdout.readline() for _ in range(3)]
    assert first[:2] == ["user:u_ada may speak: true\n", "500 minutes left\n"]
    assert first[2].startswith('user:u_ada snapshot  {"identity"')
    demo.set_plan("u_ada", "free")
    [change] = finished(process)
    assert change.startswith("user:u_ada update plan {")
    assert '"can_use_voice":null' in change


def test_a_program_spends(tmp_path: Path, demo: RunningGateway) -> None:
    taken, told, refused = finished(start("Spending", tmp_path, demo))
    assert (taken, told) == ("498 of 500 minutes left", "2 used, says the document")
    assert re.fullmatch(r"only 498 left until 20\d\d-\d\d-01T00:00:00\.000Z", refused)


def test_a_program_holds_what_it_may_need(tmp_path: Path, demo: RunningGateway) -> None:
    assert finished(start("Leases", tmp_path, demo)) == ["2 given back"]
    [(used, reserved)] = demo.sql("SELECT used, reserved FROM quota_usage WHERE owner = 'user:u_ada'")
    assert (used, reserved) == (4, 0)


def test_a_program_meters_a_call(tmp_path: Path, demo: RunningGateway) -> None:
    assert finished(start("Metering a call", tmp_path, demo)) == ["hung up in minute 1"]
    demo.set_quota("u_ada", "voice_minutes", 1)
    assert finished(start("Metering a call", tmp_path, demo)) == ["the call ended: exhausted"]
