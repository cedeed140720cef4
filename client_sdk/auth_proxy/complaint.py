"""What goes wrong for long is said in the log, and not over and over."""

from __future__ import annotations

import logging

logger = logging.getLogger("client_sdk.auth_proxy")
PATIENCE_S = 10.0
"""What passes by itself sooner is nobody's business."""
EVERY_S = 30.0


class Complaint:
    """Says `what` is amiss, or happened, and why: a line of level WARNING at most every `EVERY_S` seconds. Times are
    seconds of a monotonic clock.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._since: float | None = None
        self._said_at = -float("inf")

    def well(self) -> None:
        """It is not amiss, or not any more."""
        self._since = None

    def amiss(self, why: str, now: float, *, patience_s: float = PATIENCE_S) -> bool:
        """It is amiss, and this is why; whether that was said now. Before `patience_s` have passed nothing is."""
        if self._since is None:
            self._since = now
        lasted_s = now - self._since
        if lasted_s < patience_s or now - self._said_at < EVERY_S:
            return False
        self._said_at = now
        logger.warning("%s, for %.0f s: %s", self._what, lasted_s, why)
        return True

    def happened(self, why: str, now: float) -> bool:
        """It happened, and is over, and this is why; whether that was said now."""
        if now - self._said_at < EVERY_S:
            return False
        self._said_at = now
        logger.warning("%s: %s", self._what, why)
        return True
