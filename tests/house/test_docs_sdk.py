from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

import client_sdk
from client_sdk import (
    Balance,
    Change,
    Channel,
    ChannelError,
    Freshness,
    FreshnessState,
    InstanceClient,
    Lease,
    Meter,
    Quota,
    ServerClient,
    SyncChannel,
    SyncLease,
    SyncMeter,
    Validation,
    Watched,
)
from client_sdk.config import TOKEN_VARIABLES
from client_sdk.errors import StopReason
from client_sdk.http import Authentication, Readiness
from client_sdk.options import Options
from client_sdk.testing import RunningGateway
from gateway.cli.demo import demo_statements
from tests.support.finished import finished
from tests.support.markdown import Block, Markdown
from tests.support.signed_in import cheap_hash

SDK = Markdown("sdk.md")
ROOT = Path(__file__).parents[2]
PROSE = re.sub(r"^```.*?^```$", "", SDK.text, flags=re.MULTILINE | re.DOTALL)
NAMED = set(re.findall(r"\b[A-Za-z_]+\b", " ".join(re.findall(r"`([^`]+)`", PROSE))))

# --- names -----------------------------------------------------------------------------------------------------------


def test_every_public_name_is_mentioned() -> None:
    exported = set(client_sdk.__all__)
    assert {name for name in exported if name not in re.findall(r"\w+", SDK.text)} == set()


def public(kind: type) -> set[str]:
    return {
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }


@pytest.mark.parametrize(
    "kind", [Channel, SyncChannel, ServerClient, InstanceClient, Lease, SyncLease, Meter, SyncMeter]
)
def test_every_method_and_property_is_described(kind: type) -> None:
    assert public(kind) - {"open", "close"} - NAMED == set()


def test_the_blocking_channel_has_the_same_names() -> None:
    assert public(SyncChannel) == public(Channel)


@pytest.mark.parametrize("kind", [Change, Freshness, Watched, Readiness])
def test_every_field_of_a_tuple_is_described(kind: Any) -> None:
    assert set(kind._fields) - NAMED == set()


@pytest.mark.parametrize("kind", [Quota, Balance, Authentication, Validation])
def test_every_field_of_a_struct_is_described(kind: type[msgspec.Struct]) -> None:
    assert set(kind.__struct_fields__) - NAMED == set()


def test_every_state_of_freshness_is_described() -> None:
    assert [row[0] for row in SDK.rows("How true it is")] == [f"`{state}`" for state in FreshnessState]


def test_every_kind_of_change_is_described() -> None:
    [row] = [row for row in SDK.rows("What happens") if row[0] == "`kind`"]
    assert set(re.findall(r"`(\w+)`", row[1])) == set(get_args(get_type_hints(Change)["kind"]))


def test_every_option_is_described_with_its_default() -> None:
    described = {row[0].strip("`"): row[1].strip("`") for row in SDK.rows("Options")}
    options = {field.name: str(field.default) for field in msgspec.structs.fields(Options)}
    parameters = inspect.signature(Channel).parameters.values()
    arguments = {p.name: str(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    clock_and_chance = {"clock", "chance"}
    assert described.pop("clock`, `chance") == ""
    assert described == options | {name: text for name, text in arguments.items() if name not in clock_and_chance}


def arguments_of(function: Any) -> dict[str, Any]:
    given = (p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY)
    return {p.name: p.default for p in given}


def test_every_argument_of_what_spends_is_described() -> None:
    assert {name for kind in (Channel.consume, Channel.lease, Meter) for name in arguments_of(kind)} - NAMED == set()
    consume = {row[0]: row[1] for row in SDK.rows("Spending")}
    assert {name: str(default) for name, default in arguments_of(Channel.consume).items()} == {
        name: consume[f"`{name}`"].strip("`") for name in arguments_of(Channel.consume)
    }
    meter = {row[0]: row[1] for row in SDK.rows("Metering a call")}
    for name in ("permission", "grace_s", "on_low", "key", "org"):
        assert str(arguments_of(Meter)[name]) == meter[f"`{name}`"].strip("`")


def test_every_reason_of_a_meter_is_described() -> None:
    assert set(get_args(StopReason)) <= {row[0].strip("`") for row in SDK.rows("Metering a call")}


def errors() -> list[type[ChannelError]]:
    found = (getattr(client_sdk, name) for name in client_sdk.__all__)
    return [
        kind for kind in found if isinstance(kind, type) and issubclass(kind, ChannelError) and kind is not ChannelError
    ]


def test_every_error_is_described_with_its_code() -> None:
    described = {(row[0], row[1]) for row in SDK.rows("Errors")}
    assert described == {(f"`{kind.__name__}`", f"`{kind.default_code}`") for kind in errors()}


def test_the_variables_of_the_environment_are_described() -> None:
    settings = {f"GATEWAY_SERVER_{name.upper()}" for name in client_sdk.ServerConfig.__struct_fields__}
    assert {*settings, *TOKEN_VARIABLES, "GATEWAY_CONFIG"} - set(re.findall(r"[A-Z_]{5,}", SDK.text)) == set()


# --- programs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway on the demo database, at ``data/gateway.db`` of a directory of its own."""
    (tmp_path / "data").mkdir()
    with RunningGateway(tmp_path / "data" / "gateway.db") as running:
        for statement in demo_statements("admin"):
            running.sql(statement.sql, *statement.args)
        yield running


def program(section: str) -> Block:
    [block] = [block for block in SDK.blocks_of("python") if block.section == section]
    return block


def start(block: Block, directory: Path, gateway: RunningGateway, **environment: str) -> subprocess.Popen[str]:
    """A program of the document, as Ada's, in a process of its own."""
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "GATEWAY_SERVER_PORT": gateway.url.rpartition(":")[2],
        "GATEWAY_AUTH_TOKEN": gateway.token("u_ada"),
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-u", "-c", block.text],
        cwd=directory,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(section: str, directory: Path, gateway: RunningGateway, **environment: str) -> list[str]:
    return finished(start(program(section), directory, gateway, **environment))


def test_every_program_has_a_test() -> None:
    tried = set(re.findall(r'(?:run|program)\("([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {block.section for block in SDK.blocks_of("python")} == tried


def test_the_first_program_follows_changes(tmp_path: Path, demo: RunningGateway) -> None:
    process = start(program("In short"), tmp_path, demo)
    assert process.stdout is not None
    first = [process.stdout.readline() for _ in range(3)]
    assert first[:2] == ["user:u_ada may speak: True\n", "500 minutes left\n"]
    assert first[2].startswith("user:u_ada snapshot {'identity'")
    demo.set_plan("u_ada", "free")
    [change] = finished(process)
    assert change.startswith("user:u_ada update plan {")
    assert "'can_use_voice': None" in change


def test_a_program_waits_for_its_own_write(tmp_path: Path, demo: RunningGateway) -> None:
    assert run("What you can ask", tmp_path, demo) == ["Ada King"]


def test_a_program_spends(tmp_path: Path, demo: RunningGateway) -> None:
    taken, told, refused = run("Spending", tmp_path, demo)
    assert (taken, told) == ("498 of 500 minutes left", "2 used, says the document")
    assert re.fullmatch(r"only 498 left until 20\d\d-\d\d-01T00:00:00\.000Z", refused)


def test_a_program_holds_what_it_may_need(tmp_path: Path, demo: RunningGateway) -> None:
    assert run("Leases", tmp_path, demo) == ["4 used, 2 given back, 496 left"]


def test_a_program_meters_a_call(tmp_path: Path, demo: RunningGateway) -> None:
    assert run("Metering a call", tmp_path, demo) == ["hung up in minute 1"]
    demo.set_quota("u_ada", "voice_minutes", 1)
    assert run("Metering a call", tmp_path, demo) == ["the call ended: exhausted"]


def test_a_program_decides_by_freshness(tmp_path: Path, demo: RunningGateway) -> None:
    assert run("How true it is", tmp_path, demo) == ["live: True - may call: True", "now offline closed"]
    demo.set_quota("u_ada", "voice_minutes", 0)
    assert run("How true it is", tmp_path, demo)[0] == "live: True - may call: False"


def test_a_program_takes_its_token_from_a_file(tmp_path: Path, demo: RunningGateway) -> None:
    (tmp_path / "data" / "token").write_text(demo.token("u_grace") + "\n")
    assert run("Tokens", tmp_path, demo, GATEWAY_AUTH_TOKEN="") == ["user:u_grace until revoked"]


def test_a_program_signs_in_once_and_goes_on_without_the_password(tmp_path: Path, demo: RunningGateway) -> None:
    demo.sql("UPDATE users SET password_hash = ? WHERE id = 'u_ada'", cheap_hash("a password of hers"))
    first = run("Signing in", tmp_path, demo, GATEWAY_AUTH_TOKEN="")
    kept = (tmp_path / "data" / "refresh_token").read_text()
    demo.sql("UPDATE users SET password_hash = NULL WHERE id = 'u_ada'")
    second = run("Signing in", tmp_path, demo, GATEWAY_AUTH_TOKEN="")
    assert all(line.startswith("user:u_ada until 20") for [line] in (first, second))
    assert (tmp_path / "data" / "refresh_token").read_text() != kept


def test_a_program_without_an_event_loop(tmp_path: Path, demo: RunningGateway) -> None:
    assert run("Without an event loop", tmp_path, demo) == [
        "500 minutes left",
        "watched: org:o_acme - refused: user:u_grace",
        "user:u_ada snapshot",
        "org:o_acme snapshot",
    ]


def test_a_program_asks_over_http(tmp_path: Path, demo: RunningGateway) -> None:
    ready, identity, refusal = run("Over HTTP", tmp_path, demo)
    assert ready == "ready: True"
    assert re.fullmatch(r"ada True 500 [0-9a-f]{16}", identity)
    assert refusal == "auth_failed The token is not valid."


def test_a_program_of_an_applications_server(tmp_path: Path, demo: RunningGateway) -> None:
    added = subprocess.run(
        [sys.executable, "-m", "gateway", "instance", "add", "shop"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "GATEWAY_DATABASE_URL": (tmp_path / "data" / "gateway.db").as_uri(),
            "GATEWAY_AUTH_ISSUER": demo.url,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert added.returncode == 0, added.stderr
    (tmp_path / "gateway.toml").write_text(added.stdout)
    (tmp_path / "data" / "token").write_text(demo.token("u_ada"))
    assert run("An application's server", tmp_path, demo) == [
        "True ada True",
        "498 minutes left",
        "['revocations', 'user:u_ada']",
    ]


def test_a_test_with_a_gateway_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q -p no:cacheprovider\nasyncio_mode = auto\n")
    (tmp_path / "test_of_the_document.py").write_text(program("Testing").text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
