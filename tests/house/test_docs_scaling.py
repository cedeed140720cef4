from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
import pytest

from gateway.bench.storm_model import simulate
from gateway.bench.storm_scenario import Outcome, Scenario
from gateway.config import ChannelConfig, ServerConfig
from gateway.live.neighbours import BEAT_S
from tests.support.markdown import Markdown

SCALING = Markdown("scaling.md")
GIVEN = {row[0].strip("`"): float(row[1].replace(",", "")) for row in SCALING.rows("What is put in")}
FLEETS = (10_000, 100_000, 1_000_000, 10_000_000)
ZONES = 3
SLICE = 12
"""Nodes of the part of a fleet that is simulated where all nodes fare alike."""
ROLLED = 8


def nodes_for(clients: int) -> int:
    return ZONES * math.ceil(clients / ((ZONES - 1) * GIVEN["full"]))


def replicas_for(nodes: int) -> int:
    return math.ceil(nodes / 3)


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def fleet_rows() -> Iterable[list[str]]:
    for clients in FLEETS:
        nodes = nodes_for(clients)
        each = clients / nodes
        memory = each * GIVEN["session_kib"] * 1024 / 1e9 + GIVEN["process_mb"] / 1e3
        yield [
            number(clients),
            number(nodes),
            number(each),
            number(clients / (nodes * (ZONES - 1) / ZONES)),
            number(memory, 2),
            number(memory * nodes, 1),
            number(each * GIVEN["idle_us"] / 1e4, 1) + " %",
            number(nodes * 1e6 / GIVEN["connect_us"]),
            number(clients / GIVEN["heartbeat_s"]),
        ]


def scenario(event: str, clients: int, **fields: Any) -> tuple[Scenario, int]:
    """The scenario of a fleet, and how many times a part of it stands for the whole."""
    nodes = nodes_for(clients)
    if event == "all" and nodes > SLICE:
        clients, nodes, times = round(clients * SLICE / nodes), SLICE, nodes // SLICE
    else:
        times = 1
    costs = {name: GIVEN[name] for name in ("connect_us", "refused_us", "abandoned_us", "cut_us")}
    given = {"event": event, "tick_s": 0.1, "clients": clients, "nodes": nodes, "zones": ZONES, **costs, **fields}
    return msgspec.convert(given, Scenario), times


@cache
def outcome_of(scenario: Scenario) -> Outcome:
    return simulate(scenario)


EVENTS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("a node dies", "node", {}),
    ("a zone dies, clients are cut", "zone", {}),
    ("a zone falls silent", "zone", {"notice_from_s": 10.0, "notice_to_s": 35.0}),
    ("all are cut", "all", {}),
)


def storm_rows() -> Iterable[list[str]]:
    for clients in FLEETS:
        for title, event, fields in EVENTS:
            asked, times = scenario(event, clients, **fields)
            came = outcome_of(asked)
            yield [
                number(clients),
                title,
                number(clients if event == "all" else came.cut),
                number(came.back_50_s, 1),
                number(came.back_99_s, 1),
                number(came.back_all_s, 1),
                number(came.peak_offered),
                number(came.peak_accepted),
                number(came.attempts / came.cut, 2),
                number(came.peak_reads * times),
            ]


BALANCES = ("two", "random", "least_conn")


def knee_rows() -> Iterable[list[str]]:
    for each in (3_000, 10_000, 15_000, 20_000, 30_000, 45_000):
        yield [number(each), *(cell for balance in BALANCES for cell in back(all_cut(each, balance=balance))[1:])]


def all_cut(each: int, **fields: Any) -> Scenario:
    """Three nodes with so many sessions each, all of them cut."""
    asked, _ = scenario("all", 10_000, longest_s=180.0, tick_s=0.25)
    return msgspec.structs.replace(asked, clients=3 * each, **fields)


def back(asked: Scenario) -> list[str]:
    """Times and attempts of a storm, or that it does not end."""
    try:
        came = outcome_of(asked)
    except RuntimeError:
        return ["> 180", "> 180", "-"]
    return [number(came.back_50_s, 1), number(came.back_all_s, 1), number(came.attempts / came.cut, 2)]


REMEDIES: tuple[tuple[str, dict[str, float]], ...] = (
    ("as it is", {}),
    ("`backoff_base_s` 5", {"base_s": 5.0}),
    ("`connect_timeout_s` 60", {"connect_timeout_s": 60.0}),
    ("the first wait drawn over sessions ÷ 1,000 s", {"notice_to_s": -1.0}),
    ("abandoned handshakes are noticed early, 200 µs", {"abandoned_us": 200.0}),
    ("503 beyond 10,000 waiting, `retry_after_s` 2", {"max_waiting": 10_000}),
    ("the same at 50 µs a refusal", {"max_waiting": 10_000, "refused_us": 50.0}),
    (
        "the same, told 2 s and up to sessions ÷ 1,000 s more",
        {"max_waiting": 10_000, "refused_us": 50.0, "retry_spread_s": -1.0},
    ),
)
"""Changes by themselves; a negative value stands for the sessions of a node divided by 1,000."""


def remedy_rows() -> Iterable[list[str]]:
    for title, fields in REMEDIES:
        cells = [title]
        for each in (30_000, 45_000):
            changed = {name: each / 1000 if value < 0 else value for name, value in fields.items()}
            cells += back(all_cut(each, **changed))
        yield cells


def rolling_rows() -> Iterable[list[str]]:
    for balance in BALANCES:
        for drain_s in (10.0, 30.0):
            asked, _ = scenario("rolling", 30_000 * ROLLED, balance=balance, drain_s=drain_s, tick_s=0.25)
            came = outcome_of(msgspec.structs.replace(asked, nodes=ROLLED, clients=30_000 * ROLLED))
            yield [
                f"`{balance}`",
                number(drain_s),
                number(came.back_all_s),
                number(came.mean_away_s, 1),
                number(came.cut / (30_000 * ROLLED), 2),
                number(came.refused / came.cut * 100, 1) + " %",
                number(came.abandoned / came.cut * 100, 1) + " %",
                number(came.peak_offered),
                number(came.peak_waiting),
            ]


def reach_rows() -> Iterable[list[str]]:
    for clients in FLEETS:
        nodes = nodes_for(clients)
        replicas = replicas_for(nodes)
        link = GIVEN["link_mb"] * 1e6 / (GIVEN["frame_bytes"] * replicas)
        alone, grouped = link / GIVEN["frames_alone"], link / GIVEN["frames_grouped"]
        first = "the link" if grouped < GIVEN["writes"] else "the writer"
        without = 1e6 / GIVEN["look_us"] / nodes
        yield [
            number(clients),
            number(nodes),
            number(replicas),
            number(without, 1),
            number(alone),
            number(grouped),
            number(min(grouped, GIVEN["writes"])),
            first,
        ]


def log_rows() -> Iterable[list[str]]:
    for changes in (10, 100, 1_000, 10_000):
        looks = min(changes, 1000 / GIVEN["turn_ms"])
        server = looks * GIVEN["look_us"] / 1e6
        yield [
            number(changes),
            number(looks),
            number((changes * GIVEN["row_us"] + looks * GIVEN["wake_us"]) / 1e4, 1) + " %",
            number(changes * GIVEN["row_bytes"] / 1e6, 3),
            number(server * 100, 1) + " %",
            *(number(server * nodes_for(clients), 1) for clients in FLEETS[1:]),
        ]


def write_rows() -> Iterable[list[str]]:
    for clients in FLEETS:
        nodes = nodes_for(clients)
        beats, spent = nodes / GIVEN["beat_s"], clients / GIVEN["spend_s"]
        yield [
            number(clients),
            number(beats, 1),
            number(beats * nodes),
            number(spent),
            number(spent * GIVEN["op_us"] / 1e6, 2),
            number(clients / GIVEN["writes"]),
        ]


def fanout_rows() -> Iterable[list[str]]:
    for clients in FLEETS:
        nodes = nodes_for(clients)
        yield [number(clients), number(nodes), number(nodes), number(clients / nodes * GIVEN["fanout_us"] / 1e6, 2)]


def session_limit_rows() -> Iterable[list[str]]:
    most = ChannelConfig().max_sessions_per_user
    for nodes in (1, 2, 3, 6, 10, 20, 36, 336):
        unnoticed = max(1, most // nodes)
        yield [number(nodes), number(unnoticed), number(max(most, unnoticed * nodes))]


TABLES = {
    "Nodes": fleet_rows,
    "What comes of it": storm_rows,
    "How many sessions a node": knee_rows,
    "What would help": remedy_rows,
    "Rolling restarts": rolling_rows,
    "How much is written": write_rows,
    "The log on every node": log_rows,
    "Where it ends": reach_rows,
    "One row, a million subscribers": fanout_rows,
    "Sessions of one user": session_limit_rows,
}


@pytest.mark.parametrize("title", TABLES)
def test_a_table_is_what_its_formula_or_the_model_gives(title: str) -> None:
    assert SCALING.rows(title) == list(TABLES[title]())


def test_what_is_put_in_is_what_the_model_and_the_settings_have() -> None:
    model, channel = Scenario(), ChannelConfig()
    assert {name: GIVEN[name] for name in ("connect_us", "refused_us", "abandoned_us", "cut_us")} == {
        "connect_us": model.connect_us,
        "refused_us": model.refused_us,
        "abandoned_us": model.abandoned_us,
        "cut_us": model.cut_us,
    }
    assert model.max_sessions == channel.max_sessions
    assert model.drain_s == ServerConfig().drain_s
    assert GIVEN["heartbeat_s"] == channel.heartbeat_s
    assert GIVEN["beat_s"] == BEAT_S
    assert GIVEN["full"] == channel.max_sessions * 0.9


ALL = msgspec.structs.asdict(Scenario())


def test_every_option_of_the_model_is_described_with_its_default() -> None:
    described = {row[0].strip("`"): row[1].replace(",", "") for row in SCALING.rows("What can be set")}
    defaults = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in ALL.items()}
    assert described == defaults | {"seed": "1"}
