"""The token in use, the one that was refused, and where a renewal stands."""

from __future__ import annotations

import enum

NEVER = float("inf")


class Renewal(enum.Enum):
    """Where the renewal of the credential of a live session stands.

    SETTLED ──expiring──▶ ASKING ──token──▶ SENT ──ready──▶ SETTLED
                            │  ▲              │
         failed, same token │  │ due_at       │ error, no answer
                            ▼  │              │
                            DUE ◀─────────────┘
    """

    SETTLED = enum.auto()
    DUE = enum.auto()
    ASKING = enum.auto()
    SENT = enum.auto()


class Credential:
    """What the session knows of its tokens.

    `due_at` is when a renewal has to go on, or the provider has taken too long for it; `request` is the id of the one
    that was sent.
    """

    RETRY_S = 5.0

    __slots__ = ("_sent", "_sent_at", "_timeout_s", "due_at", "expires_at", "refused", "renewal", "request", "token")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.token: str | None = None
        self.refused: str | None = None
        self.expires_at: str | None = None
        self.renewal = Renewal.SETTLED
        self.request: str | None = None
        self.due_at = NEVER
        self._sent: str | None = None
        self._sent_at = -NEVER

    def accepted(self, expires_at: str | None) -> None:
        """The gateway said ready."""
        if self.renewal is Renewal.SENT:
            self.token = self._sent
        self.refused = None
        self.expires_at = expires_at
        self.settle()

    def refuse(self) -> None:
        """The token in use is not taken any more."""
        self.refused = self.token

    def settle(self) -> None:
        """No renewal is under way."""
        self.renewal = Renewal.SETTLED
        self.due_at = NEVER
        self._sent = self.request = None

    def expiring(self, now: float) -> bool:
        """Whether to ask the provider now. Tokens that hardly live may not make the session ask all the time."""
        if self.renewal is not Renewal.SETTLED:
            return False
        if now < self._sent_at + self.RETRY_S:
            self.renewal = Renewal.DUE
            self.due_at = self._sent_at + self.RETRY_S
            return False
        self.ask(now)
        return True

    def ask(self, now: float) -> None:
        """The provider is asked."""
        self.renewal = Renewal.ASKING
        self.due_at = now + self._timeout_s

    def send(self, token: str, request: str, now: float) -> None:
        """The renewal is sent."""
        self.renewal = Renewal.SENT
        self.request = request
        self.due_at = now + self.RETRY_S
        self._sent = token
        self._sent_at = now

    def postpone(self, now: float) -> None:
        """It did not work; the old token holds until its end, so there is time to try again."""
        self.renewal = Renewal.DUE
        self.request = None
        self.due_at = now + self.RETRY_S
