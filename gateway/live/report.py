"""A node's own figures as metric families."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.auth.services import Accounts
from gateway.core.session import Condition
from gateway.live.node import Node


def node_metrics(node: Node, accounts: Accounts) -> Iterator[Metric]:
    """Sessions, ends, the feed, the hub and the passwords in work, as they stand now."""
    kinds = Counter(
        session.session.principal.kind.value if session.session.principal else "none"
        for session in node.sessions
        if session.session.condition is not Condition.ENDED
    )
    yield _labelled_gauge("gateway_sessions", "Sessions connected now, by kind of principal.", "kind", kinds)
    yield _labelled("gateway_handshakes", "WebSocket handshakes, by outcome.", "outcome", node.handshakes)
    yield _labelled("gateway_sessions_ended", "Sessions that ended, by the code of their end.", "code", node.ended_by)
    text = "Requests that somebody signed as an instance, by outcome."
    yield _labelled("gateway_signed_requests", text, "outcome", accounts.instances.outcomes)
    yield from _counters(node)
    yield from _spending(node)
    yield from _levels(node, accounts)


def _counters(node: Node) -> Iterator[Metric]:
    counters, feed, store = node.hub.counters, node.feed, node.database.counts
    for name, text, value in (
        ("gateway_documents_built", "Documents built from facts.", counters.built),
        ("gateway_documents_suppressed", "Documents built that nobody could tell from before.", counters.suppressed),
        ("gateway_updates_conflated", "Publications a session skipped: its socket was full.", counters.conflated),
        ("gateway_updates_sent", "Frames with a document or a patch that were handed to a socket.", counters.pushed),
        ("gateway_documents_failed", "Attempts to build a document that failed.", counters.faults),
        ("gateway_drift_found", "Changes found by the sweep that the log did not have.", counters.drift),
        ("gateway_feed_rounds", "Rounds of the feed.", feed.rounds),
        ("gateway_feed_failures", "Rounds that the database refused.", feed.failures),
        ("gateway_feed_resyncs", "Times every watched document was read again.", feed.resyncs),
        ("gateway_documents_read", "Documents read from the database.", feed.documents_read),
        ("gateway_credentials_read", "Bearer tokens looked up in the database.", node.authenticator.looked_up),
        ("gateway_store_writes", "Writes that were answered.", store.operations),
        ("gateway_store_write_failures", "Writes that were answered with an error.", store.failed),
        ("gateway_store_commits", "Transactions in which writes were committed together.", store.groups),
        ("gateway_store_reads_past_replica", "Reads that the replica was too late or away for.", store.past_replica),
        ("gateway_store_commit_seconds", "Time spent in these transactions.", store.seconds),
    ):
        yield CounterMetricFamily(name, text, value=value)

    text = "Writes that were committed together."
    yield _sizes("gateway_store_commit_size", text, store.sizes, store.operations)


def _spending(node: Node) -> Iterator[Metric]:
    spender = node.quotas.spender
    text = "Consumptions that were carried out together."
    yield _sizes("gateway_consume_group_size", text, spender.sizes, spender.attempts)
    for name, text, value in (
        ("gateway_consumes", "Consumptions that were asked for.", spender.orders),
        ("gateway_consumes_refused", "Consumptions that were refused.", spender.refused),
        ("gateway_leases_expired", "Leases that this node ended because their time was over.", node.reaper.ended),
    ):
        yield CounterMetricFamily(name, text, value=value)


def _sizes(name: str, text: str, counts: Sequence[int], total: int) -> Metric:
    """A histogram of sizes; `counts` are those up to 1, 2, 4, ..., the last one of all beyond."""
    buckets = [(str(2**power), float(count)) for power, count in enumerate(itertools.accumulate(counts))]
    buckets[-1] = ("+Inf", buckets[-1][1])
    return HistogramMetricFamily(name, text, buckets, sum_value=total)


def _levels(node: Node, accounts: Accounts) -> Iterator[Metric]:
    feed = node.feed
    held = len(node.hub.entries) - len(node.hub.resting)
    for name, text, level in (
        ("gateway_documents", "Documents held because somebody watches them.", held),
        ("gateway_feed_position", "The seq of the change log that is published.", feed.position),
        ("gateway_feed_pending", "Documents waiting to be read or built.", len(node.hub.work.users)),
        ("gateway_feed_paced", "Documents whose balances wait for their turn to be shown.", len(node.hub.work.pacing)),
        ("gateway_spending_open", "Requests of sessions about quotas that are not answered yet.", node.spending.open),
        ("gateway_feed_lag", "Rows of the log at this node's last sign of life, not published yet.", _lag(node)),
        ("gateway_nodes", "Nodes that this one sees, itself among them.", node.neighbours.living),
        ("gateway_node_sessions", "Sessions that other nodes are told of.", len(node.hub.presence.rows)),
        ("gateway_sign_of_life_seconds", "How long the last write of it took.", node.neighbours.write_s),
        ("gateway_store_stale", "1 while the database can not be read.", int(feed.stale)),
        ("gateway_store_stalled", "1 while the database takes no writes.", int(node.neighbours.stalled)),
        ("gateway_passwords_checked_now", "Passwords being hashed.", accounts.passwords.running),
        ("gateway_passwords_waiting", "Logins that wait for a thread to hash on.", accounts.passwords.waiting),
        ("gateway_revocations_held", "Void login sessions held in memory.", len(accounts.revocations)),
        ("gateway_draining", "1 while this node takes no more sessions.", int(node.draining)),
    ):
        yield GaugeMetricFamily(name, text, value=level)


def _lag(node: Node) -> int:
    return max(0, node.neighbours.newest - node.feed.position)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _labelled_gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
