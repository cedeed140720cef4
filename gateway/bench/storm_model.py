"""A model of a reconnect storm over many nodes, in virtual time: what happens to clients, nodes and database when a
node or a zone dies, when everybody is cut at once, and when the fleet is restarted node by node.

``python -m gateway.bench.storm_model --event zone --clients 1000000 --nodes 30`` prints one JSON line; ``--help`` lists
what can be set. No socket, no clock, no database: the unit costs are measured ones (docs/scaling.md), the rest is
arithmetic. Clients that wait for the same moment with as many failures behind them are one number, so that ten million
cost no more than ten thousand. Which node and which moment is chosen is drawn from the seed.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

import click
import msgspec

from gateway.bench.storm_scenario import Balance, Event, Outcome, Scenario

LEVELS = 8
"""Failures that are told apart: with 0.25 s doubled seven times the ceiling of the wait is reached."""
LATER_FAILURES = 3
READS_PER_CONNECT = 2
ROUNDS = 16
"""In how many portions a tick's clients are spread at most."""


class _Group:
    """Clients whose handshakes came in the same tick with as many failures behind them."""

    __slots__ = ("count", "gone", "level", "tick")

    def __init__(self, tick: int, level: int, count: int) -> None:
        self.tick, self.level, self.count = tick, level, count
        self.gone = False


class _Node:
    """One process with one core. `queue` holds what it has still to answer, the patient and those that are gone;
    `patient` those among them whose time-out is yet to come.
    """

    __slots__ = ("accepted", "budget_us", "draining", "offered", "patient", "queue", "seen", "sessions", "waiting")

    def __init__(self, sessions: int) -> None:
        self.sessions = sessions
        self.waiting = self.offered = self.accepted = 0
        self.budget_us = 0.0
        self.draining = False
        self.seen = True
        self.queue: deque[_Group] = deque()
        self.patient: deque[_Group] = deque()


def simulate(scenario: Scenario, seed: int = 1) -> Outcome:
    """Run the scenario to its end: everybody is back.

    Raises ValueError for a fleet whose remaining nodes can not hold everybody, RuntimeError when they are not back
    after `longest_s`.
    """
    return _Storm(scenario, random.Random(seed)).run()


class _Storm:
    """The fleet and its clients, tick by tick."""

    def __init__(self, scenario: Scenario, chance: random.Random) -> None:
        self.scenario, self.chance = scenario, chance
        self.nodes = [_Node(sessions) for sessions in _evenly(scenario.clients, scenario.nodes)]
        self.tick = 0
        self.due: dict[int, list[int]] = {}
        self.cut = self.away = self.attempts = self.refused = self.abandoned = 0
        self.away_ticks = self.reads = self.peak_reads = self.second_reads = 0
        self.peak_offered = self.peak_accepted = self.peak_waiting = 0
        self.returns: list[int] = []
        self.timeout_ticks = self._ticks(scenario.connect_timeout_s)
        self.second_ticks = self._ticks(1.0)
        self._survive()

    def _survive(self) -> None:
        dead = {"node": 1, "zone": math.ceil(len(self.nodes) / self.scenario.zones)}.get(self.scenario.event, 0)
        dead = min(self.scenario.together, len(self.nodes)) if self.scenario.event == "rolling" else dead
        if (len(self.nodes) - dead) * self.scenario.max_sessions < self.scenario.clients:
            raise ValueError(f"{len(self.nodes) - dead} nodes can not hold {self.scenario.clients} sessions")

    def _ticks(self, seconds: float) -> int:
        return max(1, round(seconds / self.scenario.tick_s))

    def run(self) -> Outcome:
        """Everything in turn, until everybody is back."""
        script = self._script()
        resume: int | None = 0
        while resume is not None or self.away:
            if self.tick * self.scenario.tick_s > self.scenario.longest_s:
                raise RuntimeError(f"{self.away} clients are not back after {self.scenario.longest_s:.0f} s")
            while resume is not None and self.tick >= resume:
                resume = next(script, None)
            self._arrive(self.due.pop(self.tick, None))
            before = self.away
            for node in self.nodes:
                if node.queue or node.budget_us < 0:
                    self._serve(node)
            self.returns.append(before - self.away)
            self.away_ticks += self.away
            self.tick += 1
            if self.tick % self.second_ticks == 0 or not self.away:
                self._turn_second()
        return self._outcome()

    def _outcome(self) -> Outcome:
        share_times = list(_when(self.returns, self.cut, (0.5, 0.99, 1.0)))
        tick_s, cut = self.scenario.tick_s, max(1, self.cut)
        times = [round(tick * tick_s, 2) for tick in share_times]
        counts = (self.attempts, self.refused, self.abandoned, self.peak_offered, self.peak_accepted, self.peak_waiting)
        away = round(self.away_ticks * tick_s / cut, 2)
        return Outcome(self.cut, times[0], times[1], times[2], away, *counts, self.reads, self.peak_reads)

    def _turn_second(self) -> None:
        for node in self.nodes:
            self.peak_offered = max(self.peak_offered, node.offered)
            self.peak_accepted = max(self.peak_accepted, node.accepted)
            node.offered = node.accepted = 0
        self.peak_reads = max(self.peak_reads, self.second_reads)
        self.second_reads = 0

    # --- what happens: generators that give the tick at which they go on ---

    def _script(self) -> Iterator[int]:
        scenario = self.scenario
        if scenario.event == "rolling":
            for first in range(0, len(self.nodes), scenario.together):
                yield from self._restart(self.nodes[first : first + scenario.together])
            return
        every = {"node": len(self.nodes), "zone": scenario.zones, "all": 1}[scenario.event]
        for node in self.nodes[::every]:
            self._end(node, node.sessions, scenario.notice_from_s, scenario.notice_to_s)
            node.budget_us = -scenario.cut_us * (self.cut if every == 1 else 0) / len(self.nodes)
            node.draining = every > 1
            node.seen = every == 1

    def _restart(self, nodes: Sequence[_Node]) -> Iterator[int]:
        """Drain, stop and start some nodes."""
        scenario = self.scenario
        unseen = self.tick + self._ticks(scenario.probe_s)
        batches = [node.sessions * scenario.tick_s / scenario.drain_s for node in nodes]
        for node in nodes:
            node.draining = True
        settled = self.tick + round(scenario.settle_s / scenario.tick_s)
        while any(node.sessions for node in nodes):
            for node, size in zip(nodes, batches, strict=True):
                node.seen = self.tick < unseen
                if self.tick >= settled:
                    self._end(node, min(node.sessions, math.ceil(size)), 0.0, scenario.drain_s)
            yield self.tick + 1
        for node in nodes:
            node.seen = False
            self._lose(node)
        yield self.tick + self._ticks(scenario.restart_s)
        for node in nodes:
            node.draining = False
        yield self.tick + self._ticks(scenario.probe_s)
        for node in nodes:
            node.seen = True

    def _end(self, node: _Node, count: int, from_s: float, to_s: float) -> None:
        """Sessions end; their clients wait from `from_s` to `to_s` and the first jitter."""
        node.sessions -= count
        self.cut += count
        self.away += count
        self._wait(count, 0, from_s, to_s)

    def _lose(self, node: _Node) -> None:
        """The process ends with what waits for it."""
        for group in node.queue:
            if not group.gone:
                self.abandoned += group.count
                self._wait(group.count, group.level + 1, 0.0, 0.0)
        node.queue.clear()
        node.patient.clear()
        node.waiting, node.budget_us = 0, 0.0

    # --- the clients ---

    def _wait(self, count: int, level: int, from_s: float, to_s: float) -> None:
        """Clients wait what they were told, drawn evenly, and the jitter of their failures (client_sdk/reconnect.py)
        on top.
        """
        level = min(level, LEVELS - 1)
        ceiling = min(self.scenario.cap_s, self.scenario.base_s * 2.0**level)
        floor = min(self.scenario.base_s / 10, ceiling)
        for told, some in self._spread(count, from_s, to_s):
            for jitter, few in self._spread(some, floor, ceiling):
                levels = self.due.setdefault(self.tick + max(1, told + jitter), [0] * LEVELS)
                levels[level] += few

    def _spread(self, count: int, from_s: float, to_s: float) -> Iterable[tuple[int, int]]:
        """The clients by the tick of a time drawn evenly from a range."""
        first = math.ceil(from_s / self.scenario.tick_s)
        shares = _shares(self.chance, count, [1] * max(1, round((to_s - from_s) / self.scenario.tick_s)))
        return ((first + bin, some) for bin, some in enumerate(shares) if some)

    def _arrive(self, levels: list[int] | None) -> None:
        """Clients whose wait is over come to the nodes that the proxy picks."""
        if levels is None:
            return
        seen = [node for node in self.nodes if node.seen]
        for level, count in enumerate(levels):
            if not count:
                continue
            self.attempts += count
            for node, some in zip(seen, self._pick(seen, count), strict=True):
                if some:
                    self._offer(node, level, some)

    def _pick(self, nodes: Sequence[_Node], count: int) -> list[int]:
        """How many of `count` handshakes the proxy gives to each of these nodes."""
        if self.scenario.balance == "random":
            return _shares(self.chance, count, [1] * len(nodes))
        loads = [node.sessions + node.waiting for node in nodes]
        if self.scenario.balance == "least_conn":
            return _level(loads, count)
        return self._better_of_two(loads, count)

    def _better_of_two(self, loads: list[int], count: int) -> list[int]:
        """Some after the others, as the loads change by them."""
        before, most = list(loads), len(loads) * (50 + sum(loads) // (50 * len(loads)))
        for some in _evenly(count, min(ROUNDS, math.ceil(count / most))):
            weights = [0] * len(loads)
            for rank, index in enumerate(sorted(range(len(loads)), key=loads.__getitem__, reverse=True)):
                weights[index] = 2 * rank + 1  # of all pairs of ranks, those in which this one is the better
            loads = [load + more for load, more in zip(loads, _shares(self.chance, some, weights), strict=True)]
        return [load - old for load, old in zip(loads, before, strict=True)]

    def _offer(self, node: _Node, level: int, count: int) -> None:
        node.offered += count
        limit = self.scenario.max_waiting
        room = 0 if node.draining else max(0, limit - node.waiting) if limit else count
        taken = min(count, room)
        if taken:
            group = _Group(self.tick, level, taken)
            node.queue.append(group)
            node.patient.append(group)
            node.waiting += taken
            self.peak_waiting = max(self.peak_waiting, node.waiting)
        if count > taken:
            node.budget_us -= (count - taken) * self.scenario.refused_us
            self._refuse(count - taken, level)

    def _refuse(self, count: int, level: int) -> None:
        scenario = self.scenario
        self.refused += count
        told_s = scenario.retry_after_s
        self._wait(count, max(level + 1, LATER_FAILURES), told_s, told_s + scenario.retry_spread_s)

    # --- the nodes ---

    def _serve(self, node: _Node) -> None:
        """One tick of a node's core, in the order of arrival."""
        scenario, queue = self.scenario, node.queue
        while node.patient and node.patient[0].tick + self.timeout_ticks <= self.tick:
            self._abandon(node, node.patient.popleft())
        node.budget_us += scenario.tick_s * 1e6 * scenario.spare
        while queue:
            group = queue[0]
            room = scenario.max_sessions - node.sessions
            opens = not group.gone and room > 0
            cost = scenario.abandoned_us if group.gone else scenario.connect_us if opens else scenario.refused_us
            count = min(group.count, max(0, int(node.budget_us // cost)))
            count = min(count, room) if opens else count
            if not count:
                return
            node.budget_us -= count * cost
            self._answer(node, group, count, opens=opens)
            if not group.count:
                queue.popleft()
        node.budget_us = min(node.budget_us, 0.0)

    def _answer(self, node: _Node, group: _Group, count: int, *, opens: bool) -> None:
        group.count -= count
        reads = READS_PER_CONNECT * count if opens else count if group.gone else 0
        self.reads += reads
        self.second_reads += reads
        if group.gone:
            return
        node.waiting -= count
        if opens:
            node.sessions += count
            node.accepted += count
            self.away -= count
        else:
            self._refuse(count, group.level)

    def _abandon(self, node: _Node, group: _Group) -> None:
        """The time-out of those who still wait: the node will find out when it comes to them."""
        if group.count:
            group.gone = True
            node.waiting -= group.count
            self.abandoned += group.count
            self._wait(group.count, group.level + 1, 0.0, 0.0)


def _evenly(count: int, bins: int) -> list[int]:
    return [count // bins + (number < count % bins) for number in range(bins)]


def _shares(chance: random.Random, count: int, weights: Sequence[int]) -> list[int]:
    """How many of `count` fall into each bin, by its weight: drawn one by one where they are few, else by the normal
    approximation of the binomial distribution, bin after bin.
    """
    if count < 8 * len(weights):
        shares = [0] * len(weights)
        for bin in chance.choices(range(len(weights)), weights, k=count):
            shares[bin] += 1
        return shares
    shares, left = [], sum(weights)
    for weight in weights[:-1]:
        share = weight / left
        some = round(chance.gauss(count * share, math.sqrt(count * share * (1 - share))))
        shares.append(min(count, max(0, some)))
        count -= shares[-1]
        left -= weight
    return [*shares, count]


def _level(loads: Sequence[int], count: int) -> list[int]:
    """Where `count` go when each goes to the least loaded: the lowest are filled up to one level."""
    order = sorted(range(len(loads)), key=loads.__getitem__)
    filled, total = 0, 0
    while filled < len(order) and loads[order[filled]] * filled - total <= count:
        total += loads[order[filled]]
        filled += 1
    shares = [0] * len(loads)
    for index, level in zip(order[:filled], _evenly(count + total, filled), strict=True):
        shares[index] = level - loads[index]
    return shares


def _when(returns: Sequence[int], total: int, wanted: Iterable[float]) -> Iterator[int]:
    """The ticks after which each share of the total had returned."""
    tick, back = 0, 0
    for share in wanted:
        while tick < len(returns) and back < share * total:
            back += returns[tick]
            tick += 1
        yield tick


def _options(command: click.Command) -> click.Command:
    """An option for each field of a scenario."""
    for field in reversed(msgspec.structs.fields(Scenario)):
        choices = get_args({"event": Event, "balance": Balance}.get(field.name))
        kind: Any = click.Choice(choices) if choices else type(field.default)
        name = "--" + field.name.replace("_", "-")
        command = click.option(name, type=kind, default=field.default, show_default=True)(command)
    return command


@click.command(help=Scenario.__doc__)
@click.option("--seed", type=int, default=1, show_default=True)
def main(seed: int, **fields: Any) -> None:
    """Print the outcome of one scenario as a JSON line."""
    try:
        outcome = simulate(msgspec.convert(fields, Scenario), seed)
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(msgspec.json.encode({"scenario": fields, "seed": seed, "outcome": outcome._asdict()}))


main = _options(main)

if __name__ == "__main__":
    main()
