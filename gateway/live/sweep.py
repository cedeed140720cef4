"""Reads every document again within a time, whatever the log says: a share of them at each tick."""

from __future__ import annotations

from gateway.live.feed import Feed


class Sweep:
    """`every_s`: how long it takes to go through all documents once."""

    def __init__(self, feed: Feed, every_s: float) -> None:
        self._feed = feed
        self._every_s = every_s
        self._queue: list[str] = []
        self._share = self._rate = 0.0

    def go_on(self, elapsed_s: float) -> None:
        """Take this moment's share of the documents, so that each one is read again within `every_s`."""
        if not self._queue:
            self._queue = self._feed.to_sweep()
            self._rate = len(self._queue) / self._every_s
            if self._queue:
                self._feed.sweep_catalog()
        self._share = min(self._share + elapsed_s * self._rate, len(self._queue))
        share = int(self._share)
        if share:
            self._share -= share
            docs, self._queue = self._queue[:share], self._queue[share:]
            self._feed.sweep(docs)
