from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.options import Options
from client_sdk.reconnect import Backoff, End, Reconnect
from gateway.bench import storm_model
from gateway.bench.storm_model import simulate
from gateway.bench.storm_scenario import Scenario
from gateway.config import ChannelConfig, ServerConfig
from gateway.web import channel

MEASURED_STORM_S = (4.3, 4.4, 4.9)
"""``gateway bench storm``: 5,000 sessions of one node cut at once, until all are back. Runs of docs/performance.md."""
TOLERANCE = 0.2


def test_the_model_agrees_with_the_measured_storm() -> None:
    came = simulate(Scenario(clients=5000, nodes=1))
    for measured in MEASURED_STORM_S:
        assert came.back_all_s == pytest.approx(measured, rel=TOLERANCE)
    assert came.reads == 2 * 5000
    assert came.attempts == 5000


SCENARIOS = st.builds(
    Scenario,
    event=st.sampled_from(["node", "zone", "all", "rolling"]),
    clients=st.integers(1, 4000),
    nodes=st.integers(3, 9),
    balance=st.sampled_from(["two", "random", "least_conn"]),
    max_sessions=st.integers(2500, 6000),
    connect_us=st.floats(200, 3000),
    refused_us=st.floats(20, 500),
    spare=st.floats(0.3, 1),
    retry_spread_s=st.floats(0, 10),
    max_waiting=st.sampled_from([0, 0, 500, 2000]),
    notice_to_s=st.floats(0, 20),
    drain_s=st.floats(0.5, 10),
    settle_s=st.floats(0, 3),
    tick_s=st.sampled_from([0.05, 0.1, 0.25]),
)


@settings(max_examples=60, deadline=None)
@given(SCENARIOS, st.integers(0, 2**32))
def test_nobody_is_lost_and_no_node_does_more_than_it_can(scenario: Scenario, seed: int) -> None:
    storm = storm_model._Storm(scenario, random.Random(seed))
    came = storm.run()
    assert sum(node.sessions for node in storm.nodes) == scenario.clients
    assert not any(storm.due.values())
    assert all(node.waiting == 0 and node.sessions <= scenario.max_sessions for node in storm.nodes)
    assert sum(storm.returns) == came.cut
    assert came.attempts == came.cut + came.refused + came.abandoned
    assert came.peak_accepted <= 1e6 / scenario.connect_us * scenario.spare + 1
    assert 2 * came.cut <= came.reads <= 2 * came.cut + came.abandoned
    assert came.peak_reads <= came.reads
    assert 0 <= came.back_50_s <= came.back_99_s <= came.back_all_s
    assert came.mean_away_s <= came.back_all_s + scenario.tick_s


@settings(max_examples=20, deadline=None)
@given(SCENARIOS, st.integers(0, 2**32))
def test_a_seed_gives_the_same_storm_again(scenario: Scenario, seed: int) -> None:
    assert simulate(scenario, seed) == simulate(scenario, seed)


def test_seeds_differ() -> None:
    scenario = Scenario(clients=30_000, nodes=3, balance="random")
    assert len({simulate(scenario, seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(("event", "survivors"), [("node", 8), ("zone", 6)])
def test_the_dead_get_no_sessions(event: Any, survivors: int) -> None:
    storm = storm_model._Storm(Scenario(event=event, clients=9000, nodes=9), random.Random(1))
    assert storm.run().cut == (9 - survivors) * 1000
    assert sum(node.sessions > 0 for node in storm.nodes) == survivors


def test_a_rolling_restart_ends_every_first_session_once_at_least() -> None:
    storm = storm_model._Storm(Scenario(event="rolling", clients=6000, nodes=3), random.Random(1))
    came = storm.run()
    assert came.cut >= 6000
    assert came.back_all_s > 3 * (2000 / 500 + 5 + 2)
    assert all(node.seen and not node.draining for node in storm.nodes)


def test_a_part_of_a_fleet_fares_as_the_whole() -> None:
    part, whole = (simulate(Scenario(clients=20_000 * nodes, nodes=nodes, tick_s=0.1)) for nodes in (6, 18))
    assert part.back_50_s == pytest.approx(whole.back_50_s, rel=0.1)
    assert part.back_all_s == pytest.approx(whole.back_all_s, rel=0.1)
    assert part.attempts * 3 == pytest.approx(whole.attempts, rel=0.05)


def test_silence_spreads_a_storm() -> None:
    cut = Scenario(event="zone", clients=60_000, nodes=6)
    silent = msgspec.structs.replace(cut, notice_from_s=10.0, notice_to_s=35.0)
    assert simulate(silent).peak_offered < simulate(cut).peak_offered / 10


def test_more_than_a_timeout_of_work_is_done_again_and_again() -> None:
    """The finding behind the advice on sessions a node: ten seconds of connects are what a node can take at once."""
    few, many = (simulate(Scenario(clients=each, nodes=1)) for each in (10_000, 30_000))
    assert few.abandoned == 0
    assert many.abandoned > many.cut
    told = simulate(Scenario(clients=30_000, nodes=1, notice_to_s=30.0))
    assert told.abandoned == 0
    assert told.back_all_s < many.back_all_s / 2


def test_a_fleet_that_can_not_hold_everybody_is_refused() -> None:
    with pytest.raises(ValueError, match="2 nodes can not hold 9000 sessions"):
        simulate(Scenario(event="node", clients=9000, nodes=3, max_sessions=4000))


def test_who_does_not_come_back_in_time_is_said() -> None:
    with pytest.raises(RuntimeError, match="are not back after 3 s"):
        simulate(Scenario(clients=20_000, nodes=1, longest_s=3.0))


# --- what the model knows of the gateway and of its clients ----------------------------------------------------------


def test_the_figures_are_those_of_the_gateway_and_the_sdk() -> None:
    model, client, server = Scenario(), Options(), ServerConfig()
    assert (model.base_s, model.cap_s) == (client.backoff_base_s, client.backoff_cap_s)
    assert model.connect_timeout_s == client.connect_timeout_s
    assert model.max_sessions == ChannelConfig().max_sessions
    assert model.drain_s == server.drain_s
    assert model.retry_after_s == channel.RETRY_AFTER_S
    assert storm_model.LATER_FAILURES == Backoff.LATER_FAILURES


@pytest.mark.parametrize("failures", range(10))
def test_clients_wait_as_those_of_the_sdk(failures: int) -> None:
    scenario = Scenario(clients=1, nodes=1)
    storm = storm_model._Storm(scenario, random.Random(1))
    storm._wait(50_000, failures, 0.0, 0.0)
    backoff = Backoff(scenario.base_s, scenario.cap_s, 5.0)
    backoff.failures = max(0, failures - 1)
    end = End("disconnected", "", Reconnect.NOW)
    lived_s = 5.0 if failures == 0 else 0.0
    [least, most] = [Backoff.after(_copy(backoff), end, lived_s, chance) for chance in (0.0, 1.0)]
    ticks = storm.due.keys()
    assert min(ticks) * scenario.tick_s == pytest.approx(least, abs=scenario.tick_s)
    assert max(ticks) * scenario.tick_s == pytest.approx(most, abs=scenario.tick_s)
    mean = sum(tick * sum(levels) for tick, levels in storm.due.items()) / 50_000 * scenario.tick_s
    assert mean == pytest.approx((least + most) / 2, abs=1.5 * scenario.tick_s)


def _copy(backoff: Backoff) -> Backoff:
    copy = Backoff(backoff.base_s, backoff.cap_s, backoff.stable_s)
    copy.failures = backoff.failures
    return copy


# --- arithmetic ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 100_000), st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 2**32))
def test_shares_are_whole_and_fair(count: int, weights: list[int], seed: int) -> None:
    shares = storm_model._shares(random.Random(seed), count, weights)
    assert len(shares) == len(weights)
    assert sum(shares) == count
    assert all(share >= 0 for share in shares)
    for share, weight in zip(shares, weights, strict=True):
        mean = count * weight / sum(weights)
        assert abs(share - mean) <= 9 * (mean + 1) ** 0.5 + 5


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50), st.integers(0, 100_000))
def test_the_least_loaded_are_filled_up_to_one_level(loads: list[int], count: int) -> None:
    shares = storm_model._level(loads, count)
    assert sum(shares) == count
    assert all(share >= 0 for share in shares)
    after = [load + share for load, share in zip(loads, shares, strict=True)]
    filled = [total for total, share in zip(after, shares, strict=True) if share]
    if filled:
        assert max(filled) - min(filled) <= 1
        assert min(after) >= max(filled) - 1


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_line() -> None:
    done = CliRunner().invoke(storm_model.main, ["--event", "node", "--clients", "3000", "--nodes", "3", "--seed", "7"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.output)
    assert printed["outcome"] == simulate(Scenario(event="node", clients=3000, nodes=3), 7)._asdict()
    assert printed["scenario"]["clients"] == 3000


@pytest.mark.parametrize("arguments", [["--clients", "0"], ["--clients", "200000"], ["--event", "flood"]])
def test_the_command_says_what_can_not_be(arguments: list[str]) -> None:
    done = CliRunner().invoke(storm_model.main, [*arguments, "--nodes", "1"])
    assert done.exit_code != 0
    assert "Error" in done.output
