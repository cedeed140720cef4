"""Every error that the SDK raises, by the gateway's stable code.

A request that fails raises the class of its ``error.code``; a channel that stopped for good raises the class of its
end. Codes that this version does not know become a plain `ChannelError`, with the code in `code`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

StopReason = Literal["exhausted", "forbidden", "offline", "stopped"]


class ChannelError(Exception):
    """A request that failed or a connection that ended.

    `code` is the gateway's stable word, `message` one sentence, `retry_after_s` (seconds) says when trying again can
    help, `doc` names the document that the error is about. `key` is set for a request to spend of which it is not known
    whether it was carried out, or will be, and only then: asking again with this key (the lease's name, for a lease)
    charges nothing twice.
    """

    default_code: ClassVar[str] = "internal"
    key: str | None = None

    def __init__(
        self, message: str, *, code: str | None = None, retry_after_s: float | None = None, doc: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.retry_after_s = retry_after_s
        self.doc = doc


class BadRequest(ChannelError):
    """The gateway did not understand the request."""

    default_code = "bad_request"


class UnknownOp(ChannelError):
    """The gateway does not know this operation: it is older than this SDK."""

    default_code = "unknown_op"


class NotFound(ChannelError):
    """The document does not exist, or this principal may not know that it does."""

    default_code = "not_found"


class Forbidden(ChannelError):
    """The principal is known and may not do this; a channel that ended so does not come back."""

    default_code = "forbidden"


class RateLimited(ChannelError):
    """Too many requests; `retry_after_s` says when to go on."""

    default_code = "rate_limited"


class Unavailable(ChannelError):
    """The gateway can not do this now; trying again helps."""

    default_code = "unavailable"


class QuotaExceeded(ChannelError):
    """A hard limit does not leave the amount that was asked for: nothing was taken. With a `key` an earlier attempt was
    lost, which may be carried out yet: do without, and try again with no other key than that.

    `quota` is its name, `remaining` how many units it still leaves (for this member, of a pool), `resets_at` (RFC 3339,
    UTC) when its period ends, None for one that never does.
    """

    default_code = "quota_exceeded"

    def __init__(
        self,
        message: str,
        *,
        quota: str = "",
        remaining: int = 0,
        resets_at: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        doc: str | None = None,
    ) -> None:
        super().__init__(message, code=code, retry_after_s=retry_after_s, doc=doc)
        self.quota = quota
        self.remaining = remaining
        self.resets_at = resets_at


class Conflict(ChannelError):
    """The key or the lease stands for another request, or the lease is settled already."""

    default_code = "conflict"


class LeaseNotFound(ChannelError):
    """The gateway knows no lease of this name."""

    default_code = "lease_not_found"


class LeaseExpired(ChannelError):
    """The lease ended before it was extended or settled: its units were given back."""

    default_code = "lease_expired"


class MeterStopped(ChannelError):
    """A `Meter` stopped what it metered.

    `reason`: ``exhausted`` (no unit is left), ``forbidden`` (the permission or the quota is gone), ``offline`` (the
    gateway could not be asked for too long) or ``stopped`` (the channel ended for good). The `__cause__` is the error
    behind it, if there is one.
    """

    default_code = "meter_stopped"

    def __init__(self, reason: StopReason, cause: BaseException | None = None) -> None:
        super().__init__(f"The meter stopped: {reason}.")
        self.reason: StopReason = reason
        self.__cause__ = cause


class TooManyDocuments(ChannelError):
    """The session watches as many documents as it may."""

    default_code = "too_many_documents"


class AuthFailed(ChannelError):
    """The credential is not valid."""

    default_code = "auth_failed"


class LoginFailed(AuthFailed):
    """The user name or the password is wrong, the account can not be used now, or the refresh token is not good."""


class TokenExpired(ChannelError):
    """The credential ended before the provider gave another one."""

    default_code = "token_expired"


class TokenUnavailable(ChannelError):
    """The token provider failed; its exception is the `__cause__`."""

    default_code = "token_unavailable"


class Disconnected(ChannelError):
    """There is no connection: it was lost, refused for now, ended by the gateway for now, or closed by the application.

    `code` says which: ``disconnected``, ``closed``, or the code of the end (``going_away``, ``overloaded``, …).
    """

    default_code = "disconnected"


class RequestTimeout(ChannelError):
    """The gateway did not answer this request in time; it may have been carried out. `key` is what to ask again with
    when it was to spend.
    """

    default_code = "request_timeout"


class EpochChanged(ChannelError):
    """The database was restored: positions from before mean nothing now."""

    default_code = "epoch_changed"


class MalformedMessage(ChannelError):
    """The other side sent something that is no message of the protocol."""

    default_code = "malformed_message"


class Revoked(ChannelError):
    """The credential was revoked, or the user disabled or deleted: the channel does not come back."""

    default_code = "revoked"


class PrincipalChanged(ChannelError):
    """A new credential belonged to somebody else: the channel does not come back."""

    default_code = "principal_changed"


class BadFrame(ChannelError):
    """The gateway could not read what this SDK sent."""

    default_code = "bad_frame"


class TooLarge(ChannelError):
    """A message is larger than the gateway's `max_frame_bytes`."""

    default_code = "too_large"


class NotAuthenticated(ChannelError):
    """Something else than a credential was sent first."""

    default_code = "not_authenticated"


_REQUEST_ERRORS: dict[str, type[ChannelError]] = {
    error.default_code: error
    for error in (
        BadRequest,
        UnknownOp,
        NotFound,
        Forbidden,
        RateLimited,
        Unavailable,
        QuotaExceeded,
        Conflict,
        LeaseNotFound,
        LeaseExpired,
        TooManyDocuments,
        AuthFailed,
    )
}

_ENDS: dict[str, type[ChannelError]] = {
    error.default_code: error
    for error in (
        BadRequest,
        AuthFailed,
        TokenExpired,
        Revoked,
        PrincipalChanged,
        BadFrame,
        TooLarge,
        NotAuthenticated,
        Forbidden,
    )
}


def passes(error: ChannelError) -> bool:
    """Whether asking again, some other time, can help: the gateway was away, or could not."""
    passing = isinstance(error, Disconnected | RequestTimeout | Unavailable | RateLimited)
    return passing and error.code != "closed"


def request_error(
    code: str, message: str, *, retry_after_s: float | None = None, doc: str | None = None
) -> ChannelError:
    """The error of a failed request."""
    return _REQUEST_ERRORS.get(code, ChannelError)(message, code=code, retry_after_s=retry_after_s, doc=doc)


def end_error(code: str, message: str, *, final: bool, retry_after_s: float | None = None) -> ChannelError:
    """The error of an ended connection; ends that this SDK comes back from by itself are `Disconnected`."""
    kind = _ENDS.get(code, ChannelError if final else Disconnected)
    return kind(message, code=code, retry_after_s=retry_after_s)
