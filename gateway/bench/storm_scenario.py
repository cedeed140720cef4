"""What a reconnect storm of the model is made of, and what comes of it."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec

Event = Literal["node", "zone", "all", "rolling"]
Balance = Literal["two", "least_conn", "random"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Micros = Annotated[float, msgspec.Meta(gt=0)]


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to which fleet. Times in seconds, costs in µs of a node's core.

    `event`: ``node`` and ``zone`` die and stay dead, ``all`` cuts every session of nodes that live on, ``rolling``
    drains and restarts `together` nodes at a time. Clients notice their cut at a time drawn evenly from `notice_from_s`
    to `notice_to_s`. `balance`: the proxy takes the node with the fewest connections, any, or the better of two drawn.
    `spare` is the share of its core that a node has for connects. `max_waiting`: a node refuses further handshakes
    while so many wait (0: it never does). A refusal tells `retry_after_s` and up to `retry_spread_s` more, drawn
    evenly. `probe_s`: how long the proxy takes to see that a node's readiness changed; `settle_s`: how long a node that
    drains waits before it ends the first session. `longest_s`: when to give up.
    """

    event: Event = "all"
    clients: Count = 100_000
    nodes: Count = 3
    zones: Count = 3
    balance: Balance = "two"
    max_sessions: Count = 50_000
    connect_us: Micros = 750.0
    refused_us: Micros = 530.0
    abandoned_us: Micros = 560.0
    cut_us: Annotated[float, msgspec.Meta(ge=0)] = 50.0
    spare: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    base_s: Annotated[float, msgspec.Meta(gt=0)] = 0.25
    cap_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    connect_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    retry_after_s: Seconds = 2.0
    retry_spread_s: Seconds = 0.0
    max_waiting: Annotated[int, msgspec.Meta(ge=0)] = 0
    notice_from_s: Seconds = 0.0
    notice_to_s: Seconds = 0.0
    drain_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    settle_s: Seconds = 0.0
    restart_s: Seconds = 5.0
    probe_s: Seconds = 2.0
    together: Count = 1
    longest_s: Annotated[float, msgspec.Meta(gt=0, le=36_000)] = 900.0
    tick_s: Annotated[float, msgspec.Meta(gt=0, le=0.25)] = 0.05


class Outcome(NamedTuple):
    """What came of it.

    `back_50_s`, `back_99_s`, `back_all_s`: when that share of the sessions that were cut was open again, from the
    event on. `mean_away_s`: how long a cut session was away. `peak_offered`, `peak_accepted`: connects in one second
    at the node that had most. `peak_waiting`: handshakes waiting at one node. `attempts` were `refused` or `abandoned`
    (the client's time-out came first) or led to a session. Reads are those of the whole fleet: one look-up of the
    token and one document a connect, whatever the batches.
    """

    cut: int
    back_50_s: float
    back_99_s: float
    back_all_s: float
    mean_away_s: float
    attempts: int
    refused: int
    abandoned: int
    peak_offered: int
    peak_accepted: int
    peak_waiting: int
    reads: int
    peak_reads: int
