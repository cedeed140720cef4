"""What a decision cache works with: what the channel holds, the rules, what is remembered, what is wanted."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, TypedDict

import msgspec

from client_sdk.auth_proxy.decision import Decision, Reason
from client_sdk.replica import Held

INFINITE = float("inf")
NOTHING: Mapping[str, Any] = {}
REVOCATIONS, KEYS = "revocations", "keys"
EVERYTHING = "*"
"""Stands in the list of revocations for those that are too many to be named, with the moment before which that is so:
what the gateway said of a token before then has to be asked for again.
"""


def mark_of(token: str) -> bytes:
    """What a token is known by: its SHA-256."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def milliseconds(text: str | None) -> int | None:
    """The milliseconds since 1970 of a moment as the gateway writes it (RFC 3339); None for none, and for what is no
    moment.
    """
    if text is None:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def unnamed(revocations: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the document ``revocations`` what is no id of a credential."""
    return {EVERYTHING: revocations[EVERYTHING]} if EVERYTHING in revocations else NOTHING


class World(Protocol):
    """What the channel holds, as it is at this moment."""

    @property
    def live(self) -> bool:
        """Whether there is a session."""

    def known_at(self, now: float) -> float | None:
        """Until when what is held exactly was known to be true: `now` while the gateway vouches for it."""

    @property
    def copies(self) -> Mapping[str, Held]:
        """The documents that are watched; one object as long as the world is the same."""


class _Nowhere:
    """The world before there is a channel, and while nothing that came on it may be believed."""

    live = False

    def known_at(self, now: float) -> float | None:
        return None

    @property
    def copies(self) -> Mapping[str, Held]:
        return {}


NOWHERE: World = _Nowhere()


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How to decide, and how much to remember. Times in seconds."""

    issuer: str = "http://127.0.0.1:8787"
    audience: str = "gateway"
    max_stale_s: float = 300.0
    negative_s: float = 5.0
    recheck_s: float = 60.0
    max_users: int = 9_000
    max_socket_users: int = 9_900
    max_tokens: int = 20_000
    max_negatives: int = 10_000


class RuleOptions(TypedDict, total=False):
    """The fields of `Rules` as keyword arguments."""

    issuer: str
    audience: str
    max_stale_s: float
    negative_s: float
    recheck_s: float
    max_users: int
    max_socket_users: int
    max_tokens: int
    max_negatives: int


class Need(enum.Enum):
    """What has to be fetched."""

    VALIDATE = enum.auto()
    WATCH = enum.auto()


class Want(NamedTuple):
    """What has to be fetched: the gateway's word on a token (`mark` is its hash), or the document of `user`."""

    need: Need
    mark: bytes
    user: str | None


EXPIRED, REVOKED, INVALID = Decision(Reason.EXPIRED), Decision(Reason.REVOKED), Decision(Reason.INVALID)
NO_TOKEN, UNAVAILABLE = Decision(Reason.NO_TOKEN), Decision(Reason.UNAVAILABLE)


class Fact(NamedTuple):
    """A document as it was at a time of the monotonic clock."""

    data: Mapping[str, Any]
    known_at: float


class VerifiedToken(msgspec.Struct):
    """A verified token: whose, by which credential, until when. `kid` is the key that signed an access token.

    `good_at` is when the gateway itself last said that it is good, `recheck_at` when to ask it again. The last fields
    are the last live decision, what it rests on, and until when it need not be looked at again.
    """

    user: str
    doc: str
    session: str
    expires_at: int | None
    kid: str | None = None
    scopes: frozenset[str] | None = None
    good_at: float = -INFINITE
    recheck_at: float = INFINITE
    decision: Decision = REVOKED
    document: Mapping[str, Any] | None = None
    revoked: Mapping[str, Any] | None = None
    keys: Mapping[str, Any] | None = None
    good_until: float = -INFINITE
    look_at: float = -INFINITE
