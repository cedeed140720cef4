"""The messages of the channel protocol as the client sees them, and one codec for each subprotocol.

A frame holds one message: a map with `op`. Fields without a value are absent, never null. What the gateway may add
later, operations and fields alike, is ignored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from client_sdk.errors import ChannelError, MalformedMessage, QuotaExceeded, request_error

Subprotocol = Literal["gateway.v1+json", "gateway.v1+msgpack"]
Frame = str | bytes


# --- to the gateway --------------------------------------------------------------------------------------------------


class ClientMessage(Struct, tag_field="op", omit_defaults=True, frozen=True):
    """What the client sends; fields at their default are left out."""


class ClientInfo(Struct, frozen=True):
    """What the client says of itself; for the gateway's logs only."""

    name: str
    version: str


class Auth(ClientMessage, tag="auth", frozen=True, kw_only=True):
    """Opens the session as the first message, or renews its credential later."""

    token: str | UnsetType = UNSET
    watch: Sequence[str] | UnsetType = UNSET
    id: str | UnsetType = UNSET
    client: ClientInfo | UnsetType = UNSET
    last_end: str | UnsetType = UNSET


class Watch(ClientMessage, tag="watch", frozen=True):
    """Watch documents, each ``DOC`` or ``DOC@REV``."""

    id: str
    docs: Sequence[str]


class Unwatch(ClientMessage, tag="unwatch", frozen=True):
    """Stop watching documents."""

    id: str
    docs: Sequence[str]


class Sync(ClientMessage, tag="sync", frozen=True):
    """Ask for one watched document whole."""

    id: str
    doc: str


class Ping(ClientMessage, tag="ping", frozen=True):
    """Ask for a sign of life and the revisions that the gateway sent last."""

    id: str


class Consume(ClientMessage, tag="consume", frozen=True, kw_only=True):
    """Take `amount` units of a quota, all or none; `key` makes it one request however often it is sent."""

    id: str
    quota: str
    amount: int
    key: str
    org: str | None = None


class Reserve(ClientMessage, tag="reserve", frozen=True, kw_only=True):
    """Hold units for `ttl_s` seconds, in a lease whose name the client chooses."""

    id: str
    lease: str
    quota: str
    amount: int
    ttl_s: float
    org: str | None = None


class Extend(ClientMessage, tag="extend", frozen=True, kw_only=True):
    """Hold a lease for `ttl_s` seconds from now, and add `amount` units; adding takes a key."""

    id: str
    lease: str
    ttl_s: float
    amount: int = 0
    key: str | None = None


class Commit(ClientMessage, tag="commit", frozen=True, kw_only=True):
    """Count `amount` units of a lease as used and give back the rest."""

    id: str
    lease: str
    amount: int


class Release(ClientMessage, tag="release", frozen=True, kw_only=True):
    """Give back all that a lease holds."""

    id: str
    lease: str


SpendingMessage = Consume | Reserve | Extend | Commit | Release
"""What may be sent any number of times and is carried out once."""


# --- from the gateway ------------------------------------------------------------------------------------------------


class ServerMessage(Struct, tag_field="op", frozen=True):
    """What the gateway sends."""


class Hello(ServerMessage, tag="hello", frozen=True, kw_only=True):
    """The first message, always. Times in seconds."""

    protocol: int
    node: str
    epoch: str
    server_time: str
    heartbeat_s: float
    auth_timeout_s: float
    max_frame_bytes: int
    features: tuple[str, ...] = ()


class Ready(ServerMessage, tag="ready", frozen=True):
    """Authenticated. `expires_at` is None for a credential without end."""

    session: str
    principal: str
    expires_at: str | None = None
    id: str | None = None


class Snapshot(ServerMessage, tag="snapshot", frozen=True):
    """A whole document, exact up to position `seq` of the change log."""

    doc: str
    rev: str
    seq: int
    data: dict[str, Any]


class Update(ServerMessage, tag="update", frozen=True, kw_only=True):
    """A merge patch (RFC 7396) from revision `from` to `rev`."""

    doc: str
    from_: str = msgspec.field(name="from")
    rev: str
    seq: int
    patch: dict[str, Any]
    causes: tuple[str, ...] = ()


class Current(ServerMessage, tag="current", frozen=True):
    """The revision that the client named is still the right one."""

    doc: str
    rev: str
    seq: int


class Gone(ServerMessage, tag="gone", frozen=True):
    """The document is no longer watched: ``deleted`` or ``forbidden``."""

    doc: str
    reason: str = ""


class Reply(ServerMessage, tag="reply", frozen=True):
    """A request succeeded. `docs` and `doc` tell of documents, `quota` to `seq` of the balance that spending left, the
    others of a lease.
    """

    id: str
    docs: tuple[str, ...] = ()
    doc: str | None = None
    quota: str = ""
    org: str | None = None
    limit: int | None = None
    used: int = 0
    reserved: int = 0
    remaining: int | None = None
    period: str = ""
    hard: bool = False
    resets_at: str | None = None
    level: str = "ok"
    cap: int | None = None
    cap_remaining: int | None = None
    seq: int = 0
    lease: str | None = None
    held: int = 0
    expires_at: str | None = None
    state: str | None = None
    committed: int | None = None


class Error(ServerMessage, tag="error", frozen=True):
    """A request failed; the connection lives on."""

    code: str
    message: str = ""
    id: str | None = None
    doc: str | None = None
    retry_after_s: float | None = None
    quota: str | None = None
    remaining: int | None = None
    resets_at: str | None = None


class Expiring(ServerMessage, tag="expiring", frozen=True):
    """The credential ends soon."""

    expires_at: str


class Status(ServerMessage, tag="status", frozen=True):
    """What the client holds may be old (``stale``), or is true again (``fresh``); with `doc` it speaks of that document
    alone.
    """

    store: str
    since: str = ""
    age_s: float = 0.0
    doc: str | None = None


class Pong(ServerMessage, tag="pong", frozen=True, kw_only=True):
    """The answer to a ping, with the revisions that the gateway sent last."""

    id: str | None = None
    server_time: str = ""
    revs: dict[str, str] = {}


class Ended(ServerMessage, tag="ended", frozen=True):
    """The last message before a close that the gateway decides."""

    code: str
    message: str = ""
    reconnect: str = "later"
    retry_after_s: float | None = None


AnyServerMessage = Hello | Ready | Snapshot | Update | Current | Gone | Reply | Error | Expiring | Status | Pong | Ended


def error_of(message: Error) -> ChannelError:
    """What an application is told of a failed request."""
    if message.code == QuotaExceeded.default_code:
        return QuotaExceeded(
            message.message, quota=message.quota or "", remaining=message.remaining or 0, resets_at=message.resets_at
        )
    return request_error(message.code, message.message, retry_after_s=message.retry_after_s, doc=message.doc)


# --- codecs ----------------------------------------------------------------------------------------------------------


class _Operation(Struct):
    op: str


_KNOWN = frozenset(str(kind.__struct_config__.tag) for kind in ServerMessage.__subclasses__())


class Codec:
    """How one subprotocol writes and reads messages."""

    def __init__(
        self,
        subprotocol: Subprotocol,
        encode: Callable[[ClientMessage], Frame],
        decode: Callable[[bytes], AnyServerMessage],
        decode_operation: Callable[[bytes], _Operation],
        frame_type: type[str] | type[bytes],
    ) -> None:
        self.subprotocol: Subprotocol = subprotocol
        self.encode = encode
        self._decode = decode
        self._decode_operation = decode_operation
        self._frame_type = frame_type

    def decode(self, frame: Frame) -> AnyServerMessage | None:
        """Read a frame of the gateway; None for an operation that this SDK does not know. Raises `MalformedMessage`."""
        if not isinstance(frame, self._frame_type):
            raise MalformedMessage(f"not a frame of {self.subprotocol}")
        content = frame.encode() if isinstance(frame, str) else frame
        try:
            return self._decode(content)
        except msgspec.ValidationError as exc:
            if self._is_unknown(content):
                return None
            raise MalformedMessage(f"not a valid message: {exc}") from exc
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            raise MalformedMessage("the frame can not be read") from exc

    def _is_unknown(self, content: bytes) -> bool:
        try:
            return self._decode_operation(content).op not in _KNOWN
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False


_json_encoder = msgspec.json.Encoder()

CODECS: dict[str, Codec] = {
    codec.subprotocol: codec
    for codec in (
        Codec(
            "gateway.v1+json",
            lambda message: _json_encoder.encode(message).decode(),
            msgspec.json.Decoder(AnyServerMessage).decode,
            msgspec.json.Decoder(_Operation).decode,
            str,
        ),
        Codec(
            "gateway.v1+msgpack",
            msgspec.msgpack.Encoder().encode,
            msgspec.msgpack.Decoder(AnyServerMessage).decode,
            msgspec.msgpack.Decoder(_Operation).decode,
            bytes,
        ),
    )
}


class Problem(Struct, frozen=True):
    """The body of a refused HTTP request, problem+json (RFC 9457); it has the members of an `Error` besides."""

    code: str = ""
    title: str = ""
    detail: str = ""
    credential: str = ""
    doc: str | None = None
    retry_after_s: float | None = None
    quota: str | None = None
    remaining: int | None = None
    resets_at: str | None = None


_MEMBERS = [(field.name, field.type) for field in msgspec.structs.fields(Problem)]


def parse_problem(body: bytes) -> Problem:
    """Read a refusal's body; one that is no problem+json (a proxy's page) is an empty `Problem`. A member of another
    type is as if it were not there (RFC 9457 §3.1), and so is a number that is none to wait for.
    """
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Problem()
    read: dict[str, Any] = {}
    for name, kind in _MEMBERS:
        with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            if name in members:
                read[name] = msgspec.json.decode(members[name], type=kind)
    if read.get("retry_after_s") is not None:
        read["retry_after_s"] = max(0.0, read["retry_after_s"])
    return Problem(**read)


def wait_of(problem: Problem, retry_after_s: float | None) -> float | None:
    """How many seconds to wait: what the problem says, exactly, else what the field Retry-After does."""
    return retry_after_s if problem.retry_after_s is None else problem.retry_after_s


def error_of_problem(problem: Problem, code: str, message: str, retry_after_s: float | None) -> ChannelError:
    """What an application is told of a request that failed over HTTP, as if it were one of the channel; `code` and
    `message` are for a problem that has none, `retry_after_s` is the field's.
    """
    return error_of(
        Error(
            problem.code or code,
            problem.detail or problem.title or message,
            doc=problem.doc,
            retry_after_s=wait_of(problem, retry_after_s),
            quota=problem.quota,
            remaining=problem.remaining,
            resets_at=problem.resets_at,
        )
    )
