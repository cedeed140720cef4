"""Every reply and every ending of the gateway: stable code, HTTP status, WebSocket close code, and whether coming
back helps.

A failed request raises a `GatewayError`; it becomes an ``error`` message on the channel and problem+json (RFC 9457)
over HTTP. The end of a connection is an `Ending`. Nothing is both. Messages are written for the client: no SQL, no
stack traces, no tokens, no other users' data.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple


class GatewayError(Exception):
    """A request that failed; the connection lives on.

    `message` is one sentence for the client. `retry_after_s` (seconds) says when trying again can help; `details`
    are additional fields of the answer, named by the code.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, retry_after_s: float | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.details: Mapping[str, Any] = details


class BadRequest(GatewayError):
    """The request is not understood: a field is missing, has the wrong type or a value outside its bounds."""

    code, status, title = "bad_request", 400, "Bad request"


class UnknownOp(GatewayError):
    """The channel message has an `op` that this gateway does not know."""

    code, status, title = "unknown_op", 400, "Unknown operation"


class AuthFailed(GatewayError):
    """The credential is missing or not valid."""

    code, status, title = "auth_failed", 401, "Authentication failed"


class Forbidden(GatewayError):
    """The principal is known and may not do this."""

    code, status, title = "forbidden", 403, "Forbidden"


class NotFound(GatewayError):
    """It does not exist, or the principal may not know that it does: the answer is the same."""

    code, status, title = "not_found", 404, "Not found"


class MethodNotAllowed(GatewayError):
    """The resource is there, but not for this HTTP method; the ``Allow`` field says for which (RFC 9110 §15.5.6)."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class Conflict(GatewayError):
    """The request contradicts what is stored already."""

    code, status, title = "conflict", 409, "Conflict"


class PreconditionFailed(GatewayError):
    """What ``If-Match`` or ``If-None-Match`` says of the resource is not so, as when somebody else changed it (RFC 9110
    §15.5.13)."""

    code, status, title = "precondition_failed", 412, "Precondition failed"


class TooLarge(GatewayError):
    """The body of the request is longer than the gateway reads (RFC 9110 §15.5.14)."""

    code, status, title = "too_large", 413, "Content too large"


class UnsupportedMediaType(GatewayError):
    """The body of the request is not of the kind that the resource reads (RFC 9110 §15.5.16)."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class Unprocessable(GatewayError):
    """The body can be read, and says something that it may not: an unknown field, a value outside its bounds (RFC 9110
    §15.5.21)."""

    code, status, title = "unprocessable", 422, "Unprocessable content"


class UpgradeRequired(GatewayError):
    """The resource is there for another protocol, which the ``Upgrade`` field names (RFC 9110 §15.5.22)."""

    code, status, title = "upgrade_required", 426, "Upgrade required"


class QuotaExceeded(GatewayError):
    """A hard limit does not leave the amount that was asked for."""

    code, status, title = "quota_exceeded", 409, "Quota exceeded"


class LeaseNotFound(GatewayError):
    """No lease of this principal has that name."""

    code, status, title = "lease_not_found", 404, "Lease not found"


class LeaseExpired(GatewayError):
    """The lease ended before the request came."""

    code, status, title = "lease_expired", 409, "Lease expired"


class TooManyDocuments(GatewayError):
    """The session watches as many documents as it may."""

    code, status, title = "too_many_documents", 409, "Too many documents"


class RateLimited(GatewayError):
    """Too many requests; `retry_after_s` says when to go on."""

    code, status, title = "rate_limited", 429, "Rate limited"


class Unavailable(GatewayError):
    """The gateway can not do this now: the database is away or the node is full or draining."""

    code, status, title = "unavailable", 503, "Unavailable"


class Uncertain(GatewayError):
    """The database did not say whether it made the change: look before you ask for it again."""

    code, status, title = "uncertain", 503, "Not known"


class Reconnect(enum.StrEnum):
    """What a client does after an end."""

    NOW = "now"
    LATER = "later"
    NEW_CREDENTIAL = "new_credential"
    NEVER = "never"


class EndingKind(NamedTuple):
    """One row of the table of ends: WebSocket close code (RFC 6455 §7.4), what the client does next, and the default
    sentence.
    """

    close: int
    reconnect: Reconnect
    message: str


class Ending(enum.Enum):
    """Why the gateway ends a connection; the member's lower-case name is the `code` of the ``ended`` message."""

    GOING_AWAY = EndingKind(1001, Reconnect.NOW, "This node is shutting down.")
    INTERNAL = EndingKind(4000, Reconnect.LATER, "The gateway failed; the fault is logged with the session's id.")
    TIMEOUT = EndingKind(4001, Reconnect.NOW, "No answer to a ping.")
    TOO_SLOW = EndingKind(4002, Reconnect.NOW, "Nothing was read for too long.")
    REPLACED = EndingKind(4003, Reconnect.LATER, "Too many sessions of this principal; the oldest was ended.")
    OVERLOADED = EndingKind(4004, Reconnect.LATER, "The gateway can not take this session now.")
    RATE_LIMITED = EndingKind(4005, Reconnect.LATER, "Too many messages.")
    TOKEN_EXPIRED = EndingKind(4100, Reconnect.NEW_CREDENTIAL, "The credential ended.")
    AUTH_TIMEOUT = EndingKind(4101, Reconnect.NOW, "No credential came in time.")
    AUTH_FAILED = EndingKind(4102, Reconnect.NEW_CREDENTIAL, "The credential is not valid.")
    REVOKED = EndingKind(4500, Reconnect.NEVER, "The credential was revoked.")
    PRINCIPAL_CHANGED = EndingKind(4501, Reconnect.NEVER, "The new credential belongs to somebody else.")
    BAD_FRAME = EndingKind(4502, Reconnect.NEVER, "The frame can not be read.")
    TOO_LARGE = EndingKind(4503, Reconnect.NEVER, "The frame is larger than max_frame_bytes.")
    NOT_AUTHENTICATED = EndingKind(4504, Reconnect.NEVER, "Only auth is understood before ready.")
    FORBIDDEN = EndingKind(4505, Reconnect.NEVER, "This is not allowed.")

    @property
    def code(self) -> str:
        """The stable word of the ``ended`` message."""
        return self.name.lower()

    @property
    def close(self) -> int:
        """The WebSocket close code."""
        return self.value.close

    @property
    def reconnect(self) -> Reconnect:
        """What the client does next."""
        return self.value.reconnect


class ConfigError(Exception):
    """A setting is unknown, missing or has a bad value; the text is one line that names it."""


class StoreError(Exception):
    """The database refused or failed; the text is for logs, never for clients."""


class StoreUnavailable(StoreError):
    """Busy, locked, unreachable, disk full or an I/O error: nothing was written, trying again can help."""


class SnapshotLost(StoreUnavailable):
    """What several reads were to see of one moment can not be seen any more, where it was begun; a new snapshot is
    read elsewhere."""


class StoreUncertain(StoreError):
    """The database did not say whether it made a write, or its answer was lost: look, or repeat what may be
    repeated."""


class StoreCorrupt(StoreError):
    """The file is damaged or not a database: an operator has to act."""


class StoreConflict(StoreError):
    """A constraint refused the write: `kind` is ``unique``, ``foreign_key``, ``check`` or ``not_null``, `what` names
    the column or constraint.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind
        self.what = what


class NoRowChanged(StoreError):
    """A statement that had to change a row changed none; the whole write was undone. `index` is its place in the
    write.
    """

    def __init__(self, index: int) -> None:
        super().__init__(f"statement {index} changed no row")
        self.index = index
