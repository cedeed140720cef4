"""docs/auth-proxy.md says what there is, and what it says is so."""

from __future__ import annotations

import inspect
import re

import msgspec

import client_sdk.auth_proxy
from client_sdk.auth_proxy import AuthProxy, Decision, Difference, Reason, Rules, Source, User
from client_sdk.auth_proxy.answers import CLOSE_CODES, FORBIDDEN, TRY_AGAIN
from client_sdk.auth_proxy.counters import NAMES
from client_sdk.auth_proxy.speed import measure
from client_sdk.instance_key import VARIABLES
from tests.support.markdown import Markdown

DOC = Markdown("auth-proxy.md")
WORDS = set(re.findall(r"\w+", DOC.text))
PROSE = re.sub(r"^```.*?^```$", "", DOC.text, flags=re.MULTILINE | re.DOTALL)
NAMED = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", PROSE))))


def test_every_public_name_is_mentioned() -> None:
    parts = {"Counters", "PrometheusCollector", "Reason", "Source", "Mode", "OwnCheck", "token_of", "InstanceKey"}
    parts |= {"InstanceSettings", "Rules", "instance_key"}
    assert set(client_sdk.auth_proxy.__all__) - parts - WORDS == set()


def test_every_rule_and_argument_is_described_with_its_default() -> None:
    settings = {row[0]: row[1].strip("`") for row in DOC.rows("Settings")}
    for field in msgspec.structs.fields(Rules):
        assert settings[f"`{field.name}`"] == str(field.default)
    arguments = [p for p in inspect.signature(AuthProxy).parameters.values() if p.kind is p.KEYWORD_ONLY]
    described = {name for key in settings for name in re.findall(r"\w+", key)}
    assert {argument.name for argument in arguments} <= described
    for argument in arguments:
        if f"`{argument.name}`" in settings:
            assert settings[f"`{argument.name}`"] == str(argument.default)


def test_every_counter_reason_source_and_field_is_described() -> None:
    rows = " ".join(" ".join(row) for row in DOC.rows("What is counted"))
    assert set(NAMES) - set(re.findall(r"\w+", rows)) == set()
    assert {str(reason) for reason in Reason} - set(re.findall(r"\w+", rows)) == set()
    assert {str(source) for source in Source} - NAMED == set()
    assert set(Difference._fields) - NAMED == set()
    assert {name for name in vars(User) if not name.startswith("_")} - NAMED == set()
    assert {"session", "expires_at", "scopes"} <= set(Decision.__struct_fields__) & NAMED


def test_every_close_code_is_described() -> None:
    codes = {int(row[0]) for row in DOC.rows("Sockets") if row[0].isdigit()}
    assert codes == {*CLOSE_CODES.values(), FORBIDDEN, TRY_AGAIN}


def test_the_variables_are_described() -> None:
    assert set(VARIABLES.values()) <= WORDS


def test_the_program_is_one() -> None:
    [block] = DOC.blocks_of("python")
    compile(block.text, "auth-proxy.md", "exec")


async def test_the_measurement_measures() -> None:
    told = await measure(0.05, 50)
    assert told["decisions"] >= 50
    assert told["requests"] >= 50
    assert told["decisions_per_cpu_s"] > told["requests_per_cpu_s"] > 0
