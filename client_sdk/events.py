"""What goes into a `Session` (events) and what comes out of it (effects, for the channel to perform)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from client_sdk.document import diff
from client_sdk.errors import ChannelError
from client_sdk.freshness import Freshness
from client_sdk.wire import Frame, Problem, SpendingMessage

NOTHING: Mapping[str, Any] = MappingProxyType({})


# --- events ----------------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """Begin; the first event."""


class Stop(NamedTuple):
    """The application closes the channel."""


class TokenGiven(NamedTuple):
    """The provider's answer to `AskToken`."""

    token: str


class TokenFailed(NamedTuple):
    """The provider failed."""

    cause: BaseException


class Opened(NamedTuple):
    """The handshake is done; `subprotocol` is what the gateway chose."""

    subprotocol: str | None


class Refused(NamedTuple):
    """The handshake was answered with another status than 101."""

    status: int
    problem: Problem
    retry_after_s: float | None


class Received(NamedTuple):
    """A frame came."""

    frame: Frame


class Lost(NamedTuple):
    """The connection is gone or could not be made; `code` is the close code, None where there was none."""

    code: int | None
    reason: str


class Tick(NamedTuple):
    """The deadline has come."""


class WatchDocuments(NamedTuple):
    """The application wants these documents from now on."""

    id: str
    docs: tuple[str, ...]


class UnwatchDocuments(NamedTuple):
    """The application does not want these documents any more."""

    id: str
    docs: tuple[str, ...]


class SyncDocument(NamedTuple):
    """The application wants this document sent whole again."""

    id: str
    doc: str


class MeasurePing(NamedTuple):
    """The application wants to know how long a ping takes."""

    id: str


class AwaitSeq(NamedTuple):
    """The application waits until its own document is exact up to this position of the change log."""

    id: str
    seq: int


class Spend(NamedTuple):
    """The application spends. `message` is sent until it is answered, over any number of connections, for at most
    `timeout_s` seconds; the result is the gateway's reply.
    """

    id: str
    message: SpendingMessage
    timeout_s: float


class Forget(NamedTuple):
    """The application does not wait for this request any more."""

    id: str


Request = WatchDocuments | UnwatchDocuments | SyncDocument | MeasurePing | AwaitSeq | Spend
Event = Start | Stop | TokenGiven | TokenFailed | Opened | Refused | Received | Lost | Tick | Forget | Request


# --- effects ---------------------------------------------------------------------------------------------------------


class AskToken(NamedTuple):
    """Ask the provider and answer with `TokenGiven` or `TokenFailed`; an answer that is still awaited is void.

    `refused` is the token that the gateway just did not take.
    """

    refused: str | None = None


class Connect(NamedTuple):
    """Open a socket and answer with `Opened`, `Refused` or `Lost`.

    `token` goes into the Authorization header unless it is None, or names the key that signs; `watch` goes into the
    query.
    """

    token: str | None
    watch: tuple[str, ...]


class Send(NamedTuple):
    """Send this frame."""

    frame: Frame


class Close(NamedTuple):
    """Close the socket, or give up making one; nothing that it does from now on is an event."""

    code: int
    reason: str


class Change(NamedTuple):
    """A document that the application watches is another one now.

    `before` and `data` are the whole document (empty where there is none); treat them as immutable. `seq` is the
    position in the change log up to which `data` is exact.
    """

    doc: str
    kind: Literal["snapshot", "update", "gone"]
    before: Mapping[str, Any]
    data: Mapping[str, Any]
    rev: str
    seq: int
    causes: tuple[str, ...]

    @property
    def patch(self) -> dict[str, Any]:
        """The merge patch (RFC 7396) that leads from `before` to `data`, made when it is asked for."""
        return diff(self.before, self.data)


class FreshnessChanged(NamedTuple):
    """Another state of freshness begins."""

    freshness: Freshness


class Resolve(NamedTuple):
    """The request `id` succeeded."""

    id: str
    value: Any


class Reject(NamedTuple):
    """The request `id` failed."""

    id: str
    error: ChannelError


class Trouble(NamedTuple):
    """Something went wrong that the session deals with by itself: it waits, asks again, reconnects."""

    error: ChannelError


class Stopped(NamedTuple):
    """It is over for good; `error` is None when the application wanted so."""

    error: ChannelError | None


Effect = AskToken | Connect | Send | Close | Change | FreshnessChanged | Resolve | Reject | Trouble | Stopped


class Watched(NamedTuple):
    """What became of a request to watch: `docs` are watched and held now, `refused` tells why the others are not."""

    docs: tuple[str, ...]
    refused: Mapping[str, ChannelError]
