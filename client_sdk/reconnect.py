"""Why a connection ended, and how long to wait before the next one."""

from __future__ import annotations

import enum
from typing import NamedTuple

from client_sdk.errors import ChannelError, Disconnected, Unavailable, end_error
from client_sdk.wire import Ended, Problem


class Reconnect(enum.StrEnum):
    """What to do after an end."""

    NOW = "now"
    LATER = "later"
    NEW_CREDENTIAL = "new_credential"
    NEVER = "never"


class End(NamedTuple):
    """How a connection, or the attempt to make one, ended. `retry_after_s` (seconds) is the least time to wait."""

    code: str
    message: str
    reconnect: Reconnect
    retry_after_s: float = 0.0

    def error(self) -> ChannelError:
        """The error that an application sees."""
        return end_error(
            self.code,
            self.message,
            final=self.reconnect is Reconnect.NEVER,
            retry_after_s=self.retry_after_s or None,
        )

    def lost(self) -> Disconnected:
        """The error of a request that was under way."""
        error = self.error()
        return error if isinstance(error, Disconnected) else Disconnected(self.message, code=self.code)


CLOCK_OFF = "clock_off"
"""A signature is not taken, and the clock that dated it is further off than the gateway allows: no word on the key."""

# The table of ends: what a close code says when the message before it was lost (protocol §5; RFC 6455 §7.4.1 and the
# IANA registry for 1011 to 1014).
_CLOSE_CODES: dict[int, tuple[str, Reconnect]] = {
    1001: ("going_away", Reconnect.NOW),
    1011: ("internal", Reconnect.LATER),
    1012: ("going_away", Reconnect.NOW),
    1013: ("overloaded", Reconnect.LATER),
    1014: ("unavailable", Reconnect.LATER),
    4000: ("internal", Reconnect.LATER),
    4001: ("timeout", Reconnect.NOW),
    4002: ("too_slow", Reconnect.NOW),
    4003: ("replaced", Reconnect.LATER),
    4004: ("overloaded", Reconnect.LATER),
    4005: ("rate_limited", Reconnect.LATER),
    4100: ("token_expired", Reconnect.NEW_CREDENTIAL),
    4101: ("auth_timeout", Reconnect.NOW),
    4102: ("auth_failed", Reconnect.NEW_CREDENTIAL),
    4500: ("revoked", Reconnect.NEVER),
    4501: ("principal_changed", Reconnect.NEVER),
    4502: ("bad_frame", Reconnect.NEVER),
    4503: ("too_large", Reconnect.NEVER),
    4504: ("not_authenticated", Reconnect.NEVER),
    4505: ("forbidden", Reconnect.NEVER),
}
_RECONNECT_BY_CODE = dict(_CLOSE_CODES.values())


def end_of_message(message: Ended) -> End:
    """What an ``ended`` message says; a word for `reconnect` that this SDK does not know means later."""
    try:
        reconnect = Reconnect(message.reconnect)
    except ValueError:
        reconnect = Reconnect.LATER
    return End(message.code, message.message or message.code, reconnect, max(0.0, message.retry_after_s or 0.0))


def end_of_close(close_code: int | None, reason: str) -> End:
    """What a close without an ``ended`` message says; None: the connection was cut."""
    if close_code in _CLOSE_CODES:
        code, reconnect = _CLOSE_CODES[close_code]
        return End(code, reason or code, reconnect)
    if close_code is None or close_code in (1000, 1005, 1006):
        return End("disconnected", reason or "The connection was lost.", Reconnect.NOW)
    reconnect = Reconnect.NEVER if 4500 <= close_code <= 4999 else Reconnect.LATER
    return End("disconnected", reason or f"The connection was closed with code {close_code}.", reconnect)


def end_of_refusal(status: int, problem: Problem, retry_after_s: float | None) -> End:
    """What an HTTP answer other than 101 to the handshake says.

    Only the gateway's own problem+json can stop a channel for good: a bare 403 may come from a captive portal or a
    proxy, and passes.
    """
    is_known = problem.code in _RECONNECT_BY_CODE or problem.code in ("bad_request", CLOCK_OFF)
    code = problem.code if is_known else _code_of(status)
    reconnect = _RECONNECT_BY_CODE.get(code, Reconnect.NEVER if code == "bad_request" else Reconnect.LATER)
    message = problem.detail or problem.title or f"The handshake was answered with status {status}."
    return End(code, message, reconnect, max(0.0, retry_after_s or 0.0))


def _code_of(status: int) -> str:
    return {401: "auth_failed", 429: "rate_limited"}.get(status, "unavailable")


def malformed(message: str) -> End:
    """The gateway sent what is no message."""
    return End("malformed_message", message, Reconnect.LATER)


def silent() -> End:
    """The gateway sends nothing."""
    return End("disconnected", "The gateway did not answer in time.", Reconnect.NOW)


def somebody_else() -> End:
    """The provider's token leads to another principal: what is held is not theirs to see."""
    return End("principal_changed", "The token belongs to somebody else.", Reconnect.NEVER)


class Backoff:
    """Exponential waits with full jitter: a random time up to a ceiling that doubles with each failure, never a hot
    loop.

    A connection that lived for `stable_s` seconds clears the failures, except where the gateway says ``later``: then it
    must have lived for `cap_s`. The shortest wait is a tenth of `base_s`.
    """

    LATER_FAILURES = 3
    REFUSED_TOKEN_FAILURES = 4

    def __init__(self, base_s: float, cap_s: float, stable_s: float) -> None:
        self.base_s = base_s
        self.cap_s = cap_s
        self.stable_s = stable_s
        self.failures = 0

    def after(self, end: End, lived_s: float, chance: float) -> float:
        """Seconds to wait after `end`; the session was live for `lived_s`, `chance` is a random number in [0, 1)."""
        if end.reconnect is Reconnect.LATER:
            kept = 0 if lived_s >= self.cap_s else self.failures
            self.failures = max(kept + 1, self.LATER_FAILURES)
        elif lived_s >= self.stable_s:
            self.failures = 0
        else:
            self.failures += 1
        return end.retry_after_s + self._jitter(chance)

    def after_refused_token(self, chance: float) -> float:
        """Seconds to wait because the provider has nothing but the token that was just refused, or nothing at all."""
        self.failures = max(self.failures + 1, self.REFUSED_TOKEN_FAILURES)
        return self._jitter(chance)

    def after_no_token(self, cause: BaseException, chance: float) -> float:
        """Seconds to wait because the provider failed. Where the network or the gateway was away no connection could be
        made, and no token was refused."""
        if isinstance(cause, Disconnected | Unavailable):
            end = End(cause.code, cause.message, Reconnect.NOW, max(0.0, cause.retry_after_s or 0.0))
            return self.after(end, 0.0, chance)
        return self.after_refused_token(chance)

    def _jitter(self, chance: float) -> float:
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self.failures, 32))
        floor = min(self.base_s / 10, ceiling)
        return floor + chance * (ceiling - floor)
