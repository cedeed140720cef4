"""How true the documents are that a channel holds."""

from __future__ import annotations

import enum
from typing import NamedTuple


class FreshnessState(enum.StrEnum):
    """How true the documents are that a channel holds."""

    LIVE = "live"
    STALE = "stale"
    OFFLINE = "offline"


class Freshness(NamedTuple):
    """`live`: connected, and every watched document is exact. `stale`: connected, but the gateway can not reach its
    database, or a document is still on its way or not what its revision says, or nothing was heard for so long that
    nobody knows. `offline`: not connected.

    `age_s` is how many seconds ago everything held was last known to be true; 0 when live, None when it never was.
    `reason` is a word for what is amiss: ``connecting``, ``store``, ``silence``, ``document``, ``unverified``, or the
    code of the last end.
    """

    state: FreshnessState
    age_s: float | None
    reason: str


class FreshnessMeter:
    """Remembers when everything held was last known to be true."""

    __slots__ = ("_exact_at", "_heard_at", "_reported", "store_is_stale")

    def __init__(self) -> None:
        self._exact_at: float | None = None
        self._heard_at: float | None = None
        self._reported = FreshnessState.OFFLINE
        self.store_is_stale = False

    def connected(self) -> None:
        """A session begins; the gateway says at once if its database is away."""
        self.store_is_stale = False

    def heard(self, now: float) -> None:
        """Something came from the gateway: what was true until now was true."""
        self._heard_at = now
        if self._reported is FreshnessState.LIVE:
            self._exact_at = now

    def stale(self, age_s: float, now: float) -> None:
        """The gateway says that something it sent may be this old."""
        known = now - max(0.0, age_s)
        self._exact_at = known if self._exact_at is None else min(self._exact_at, known)

    @property
    def known_at(self) -> float | None:
        """When documents that are exact on this connection were last known to be true; None when never."""
        return self._exact_at if self.store_is_stale else self._heard_at

    def store(self, *, is_stale: bool) -> None:
        """The gateway can not reach its database, or can again."""
        self.store_is_stale = is_stale

    def read(self, offline: str | None, amiss: str | None, now: float) -> Freshness:
        """How true everything is.

        `offline` is why there is no session, `amiss` why not every document is known to be a true copy.
        """
        if offline is not None:
            state, reason = FreshnessState.OFFLINE, offline
        elif self.store_is_stale:
            state, reason = FreshnessState.STALE, "store"
        elif amiss is not None:
            state, reason = FreshnessState.STALE, amiss
        else:
            return Freshness(FreshnessState.LIVE, 0.0, "")
        return Freshness(state, None if self._exact_at is None else max(0.0, now - self._exact_at), reason)

    def changed(self, freshness: Freshness, now: float) -> bool:
        """Whether this is another state than the last time."""
        if freshness.state is self._reported:
            return False
        self._reported = freshness.state
        if freshness.state is FreshnessState.LIVE:
            self._exact_at = now
        return True
