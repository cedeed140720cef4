"""Whether a connection still is one: a ping now and then, and a time by which it is answered."""

from __future__ import annotations

from collections.abc import Callable

from client_sdk.options import Options

NEVER = float("inf")
# A connection that is in doubt answers sooner than one that is not.
PROBE_S = 2.5


class Pulse:
    """The pings of one session after the other. Times in monotonic seconds.

    A connection of which nothing was heard for longer than a living one may be silent is in doubt: what comes then may
    have been under way for long. Only the pong of a ping that was sent since, the probe, shows that it lives.
    """

    __slots__ = ("_doubted", "_heard_at", "_heartbeat_s", "_options", "_ping", "_ping_at", "_pong_by", "_probe")

    def __init__(self, options: Options, ping: Callable[[], str]) -> None:
        """`ping` sends a ping and returns its id."""
        self._options = options
        self._ping = ping
        self._heartbeat_s = 25.0
        self._ping_at = NEVER
        self._pong_by = NEVER
        self._heard_at = 0.0
        self._probe: str | None = None
        self._doubted = False

    def greeted(self, heartbeat_s: float) -> None:
        """The gateway says how often it wants to hear something."""
        self._heartbeat_s = max(1.0, heartbeat_s)

    def begin(self, now: float, chance: float) -> None:
        """A session is live; `chance` is a random number in [0, 1)."""
        self.stop()
        self._heard_at = now
        self._schedule(now, chance)

    def tick(self, now: float, chance: float) -> None:
        """Send what is due."""
        self.check(now, chance)
        if now >= self._ping_at:
            self._ping()
            self._await(now, self._options.pong_timeout_s)
            self._schedule(now, chance)

    def check(self, now: float, chance: float) -> None:
        """After a long silence see whether the connection still is one."""
        if self.is_unheard(now):
            self._doubted = True
            if self._probe is None:
                self.probe(now, chance)

    def probe(self, now: float, chance: float) -> None:
        """Send a ping whose pong alone shows that the connection lives."""
        self._probe = self._ping()
        self._await(now, self._patience_s)
        self._schedule(now, chance)

    def heard(self, now: float) -> None:
        """Something came: the pong may be behind it."""
        self._heard_at = now
        if self._pong_by != NEVER:
            self._pong_by = now + self._patience_s

    def answered(self, id: str | None) -> None:
        """A pong came."""
        if self._probe is None or id == self._probe:
            self._probe = None
            self._doubted = False
            self._pong_by = NEVER

    def stop(self) -> None:
        """There is no connection."""
        self._pong_by = self._ping_at = NEVER
        self._probe = None
        self._doubted = False

    def doubts(self, now: float) -> bool:
        """Whether it has yet to be shown that the connection still is one."""
        return self._doubted or self.is_unheard(now)

    def is_unheard(self, now: float) -> bool:
        """Whether nothing was heard for longer than a living connection is silent: two pings and an answer."""
        interval_s = max(self._heartbeat_s, self._options.ping_interval_s or 0.0)
        return now - self._heard_at > 2 * interval_s + self._options.pong_timeout_s

    def is_silent(self, now: float) -> bool:
        """Whether the connection is none any more."""
        return now >= self._pong_by

    @property
    def deadline(self) -> float:
        """When there is something to do; infinite when there is not."""
        return min(self._ping_at, self._pong_by)

    @property
    def _patience_s(self) -> float:
        """How long an answer may take."""
        timeout_s = self._options.pong_timeout_s
        return timeout_s if self._probe is None else min(timeout_s, PROBE_S)

    def _await(self, now: float, seconds: float) -> None:
        self._pong_by = min(self._pong_by, now + seconds)

    def _schedule(self, now: float, chance: float) -> None:
        interval_s = self._options.ping_interval_s or self._heartbeat_s
        self._ping_at = now + interval_s * (0.9 + 0.2 * chance)
