"""What is decided about a request, and the user as an application finds them."""

from __future__ import annotations

import copy
import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from client_sdk.quota import Quota, quotas_of


class Source(enum.StrEnum):
    """How a decision knows what it says."""

    LIVE = "live"
    """The channel keeps it true at this moment."""
    CACHE = "cache"
    """It is held, and the gateway is connected but does not vouch for it at this moment."""
    OFFLINE = "offline"
    """There is no connection to the gateway: the last that was known."""


class Reason(enum.StrEnum):
    """Why a request is refused."""

    NO_TOKEN = "no_token"  # noqa: S105 - a word for its absence
    INVALID = "invalid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNAVAILABLE = "unavailable"


_STATUS = {Reason.UNAVAILABLE: 503}


class Decision(msgspec.Struct, frozen=True):
    """Whether a token is good, whose it is, and how sure that is.

    `reason` is None for yes. `age_s` is how many seconds ago everything that the decision rests on was last known to
    be true: 0 for ``live``. `session` is the id of the login session or API token, `expires_at` its end in
    milliseconds since 1970 UTC (None: none). `scopes` narrow what the token may do (None: they do not).
    """

    reason: Reason | None
    document: Mapping[str, Any] = msgspec.field(default_factory=dict)
    source: Source | None = None
    age_s: float = 0.0
    session: str | None = None
    expires_at: int | None = None
    scopes: frozenset[str] | None = None

    @property
    def allowed(self) -> bool:
        """Whether the answer is yes."""
        return self.reason is None

    @property
    def status(self) -> int:
        """The status of the answer over HTTP: 200, 401, or 503 when the gateway would have to be asked and can not."""
        return 200 if self.reason is None else _STATUS.get(self.reason, 401)


class User:
    """Who sends a request: ``scope["user"]``. Its `document` is this request's own: whoever changes it changes nobody
    else's.
    """

    __slots__ = ("_document", "decision")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self._document: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"User({self.id!r}, source={self.source!s})"

    @property
    def document(self) -> Mapping[str, Any]:
        """The user's whole document."""
        if self._document is None:
            self._document = copy.deepcopy(self.decision.document)
        return self._document

    @property
    def identity(self) -> Mapping[str, Any]:
        """Id, user name, name, e-mail, plan, attributes."""
        identity: Mapping[str, Any] = self.document.get("identity", {})
        return identity

    @property
    def id(self) -> str:
        """The user's id."""
        return str(self.decision.document.get("identity", {}).get("id", ""))

    @property
    def permissions(self) -> frozenset[str]:
        """What the user may do with this token."""
        granted = frozenset(
            name for name, held in self.decision.document.get("permissions", {}).items() if held is True
        )
        return granted if self.decision.scopes is None else granted & self.decision.scopes

    def can(self, permission: str) -> bool:
        """Whether the user may do this with this token."""
        if self.decision.document.get("permissions", {}).get(permission) is not True:
            return False
        return self.decision.scopes is None or permission in self.decision.scopes

    @property
    def quotas(self) -> dict[str, Quota]:
        """The user's quotas by name."""
        return quotas_of(self.decision.document)

    @property
    def source(self) -> Source | None:
        """How the decision knows: ``live``, ``cache`` or ``offline``; None for an application's own."""
        return self.decision.source

    @property
    def age_s(self) -> float:
        """How old what is known may be."""
        return self.decision.age_s

    @property
    def is_authenticated(self) -> bool:
        """True: this is somebody (a name of Starlette's)."""
        return True

    @property
    def display_name(self) -> str:
        """The user name (a name of Starlette's)."""
        return str(self.identity.get("username", self.id))
