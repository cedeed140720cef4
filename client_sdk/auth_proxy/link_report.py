"""What is said of the channel to the gateway, in the log and by the counters."""

from __future__ import annotations

import logging

from client_sdk.auth_proxy.complaint import Complaint
from client_sdk.auth_proxy.counters import Counters
from client_sdk.auth_proxy.facts import Rules
from client_sdk.auth_proxy.link import Link
from client_sdk.errors import ChannelError
from client_sdk.freshness import Freshness, FreshnessState

logger = logging.getLogger("client_sdk.auth_proxy")
INSTANCE = "instance:"


class LinkReport:
    """`instance` is the id that the settings give to this instance, where they give one. Times are seconds of a
    monotonic clock.
    """

    def __init__(self, counters: Counters, rules: Rules, instance: str | None) -> None:
        self._counters = counters
        self._rules = rules
        self._instance = instance
        self._counted: FreshnessState | None = None
        self._taken_for: str | None = None
        self._is_foreign = False
        self._refusal = Complaint("the gateway does not take this instance")
        self._absence = Complaint("there is no channel to the gateway")

    def freshness(self, freshness: Freshness) -> None:
        """How true all that is held is. A document that is on its way, as with each new user, makes none of it old."""
        if freshness.reason != "document" and freshness.state is not self._counted:
            self._counted = freshness.state
            self._counters.add("links", freshness.state)

    def connected(self, principal: str | None) -> None:
        """The gateway takes this instance, for this one."""
        self._refusal.well()
        if principal is None or principal == self._taken_for:
            return
        self._taken_for = principal
        if self._instance is not None and principal != INSTANCE + self._instance:
            logger.warning(
                "the gateway takes this instance for %r by its key, and the settings say that it is %r: were two files "
                "mixed up?",
                principal.removeprefix(INSTANCE),
                self._instance,
            )

    def refused(self, error: ChannelError, now: float) -> None:
        """The gateway takes this instance for none of its own."""
        self._refusal.amiss(f"{error.code}: {error.message}", now, patience_s=0.0)

    def look(self, link: Link, now: float) -> None:
        """How it is by now."""
        self.freshness(link.freshness)
        if link.live:
            self._absence.well()
        elif self._absence.amiss(f"{link.address}: {link.trouble or 'no answer'}", now):
            self._counters.add("links", "missing")

    def foreign(self) -> None:
        """A token that the gateway signed is for somebody else by the rules; said once."""
        if not self._is_foreign:
            self._is_foreign = True
            logger.warning(
                "a token that the gateway signed is not for issuer %r and audience %r: do they stand in its "
                "auth.issuer and auth.audience?",
                self._rules.issuer,
                self._rules.audience,
            )
