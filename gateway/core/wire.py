"""The messages of the channel protocol, and one codec for each subprotocol.

A frame holds one message: a map with `op`. Structs are encoded without their empty fields, so that null and absent
stay the same thing on the wire. Documents and patches reach a codec as canonical JSON and are embedded as they are
(JSON) or transcoded (MessagePack).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.core.document import MAX_INTEGER
from gateway.core.spending import KEY_LENGTH, LEASE_TTL_S, MOST
from gateway.errors import BadRequest, GatewayError, UnknownOp

PROTOCOL_VERSION = 1
FEATURES = ("resume", "conflation", "msgpack", "consume", "leases")

Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
RequestId = Annotated[str, Meta(min_length=1, max_length=64)]
DocumentNames = Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=10_000)]

Amount = Annotated[int, Meta(ge=1, le=MOST)]
AmountOrNone = Annotated[int, Meta(ge=0, le=MOST)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Key = Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH)]
Ttl = Annotated[float, Meta(ge=1, le=LEASE_TTL_S)]


class BadFrame(Exception):
    """The frame is not a message at all: not JSON or MessagePack, not a map, or nested too deeply."""


# --- from the client -------------------------------------------------------------------------------------------------


class ClientInfo(Struct, frozen=True):
    """What the client says of itself; for administrators to read, and nothing depends on it."""

    name: Annotated[str, Meta(max_length=64)] | None = None
    version: Annotated[str, Meta(max_length=64)] | None = None


class Auth(Struct, tag_field="op", tag="auth", frozen=True):
    """Opens the session, or renews its credential. Without `token` the credential of the handshake counts."""

    token: str | None = None
    watch: DocumentNames | None = None
    id: RequestId | None = None
    client: ClientInfo | None = None
    last_end: Annotated[str, Meta(max_length=64)] | None = None


class Watch(Struct, tag_field="op", tag="watch", frozen=True):
    """Watch documents, each `DOC` or `DOC@REV`."""

    id: RequestId
    docs: DocumentNames


class Unwatch(Struct, tag_field="op", tag="unwatch", frozen=True):
    """Stop watching documents."""

    id: RequestId
    docs: DocumentNames


class Sync(Struct, tag_field="op", tag="sync", frozen=True):
    """Send one watched document whole again."""

    id: RequestId
    doc: Annotated[str, Meta(min_length=1, max_length=256)]


class Ping(Struct, tag_field="op", tag="ping", frozen=True):
    """An application-level ping; `t` is repeated in the answer."""

    id: RequestId | None = None
    t: int | Finite | Annotated[str, Meta(max_length=64)] | None = None


class Consume(Struct, tag_field="op", tag="consume", frozen=True):
    """Take units from a quota of the principal, or with `org` from the pool of an organization. The same request under
    the same `key` is carried out once.
    """

    id: RequestId
    quota: Name
    amount: Amount
    key: Key
    org: Name | None = None


class Reserve(Struct, tag_field="op", tag="reserve", frozen=True):
    """Hold units for `ttl_s` seconds, under the name `lease`."""

    id: RequestId
    lease: Key
    quota: Name
    amount: Amount
    ttl_s: Ttl
    org: Name | None = None


class Extend(Struct, tag_field="op", tag="extend", frozen=True):
    """Hold a lease for `ttl_s` seconds from now, and `amount` more units in it: those once for each `key`."""

    id: RequestId
    lease: Key
    ttl_s: Ttl
    amount: AmountOrNone = 0
    key: Key | None = None


class Commit(Struct, tag_field="op", tag="commit", frozen=True):
    """End a lease: so much of it was used, the rest is given back. It may hold more than one request can ask for."""

    id: RequestId
    lease: Key
    amount: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


class Release(Struct, tag_field="op", tag="release", frozen=True):
    """End a lease of which nothing was used."""

    id: RequestId
    lease: Key


LeaseMessage = Reserve | Extend | Commit | Release
ClientMessage = Auth | Watch | Unwatch | Sync | Ping | Consume | LeaseMessage
CLIENT_OPS = frozenset(
    ("auth", "watch", "unwatch", "sync", "ping", "consume", "reserve", "extend", "commit", "release")
)


class _Header(Struct, frozen=True):
    op: Any = None
    id: Any = None


# --- from the server -------------------------------------------------------------------------------------------------


class ServerMessage(Struct, tag_field="op", omit_defaults=True, frozen=True):
    """What the gateway sends; fields at their default are left out."""


class Hello(ServerMessage, tag="hello", frozen=True, kw_only=True):
    """The first message, always."""

    protocol: int
    node: str
    epoch: str
    server_time: str
    heartbeat_s: float
    auth_timeout_s: float
    max_frame_bytes: int
    features: Sequence[str]


class Ready(ServerMessage, tag="ready", frozen=True):
    """Authenticated. `expires_at` is absent for a credential without end."""

    session: str
    principal: str
    expires_at: str | UnsetType = UNSET
    id: str | UnsetType = UNSET


class Snapshot(ServerMessage, tag="snapshot", frozen=True):
    """A whole document."""

    doc: str
    rev: str
    seq: int
    data: Any


class Update(ServerMessage, tag="update", frozen=True):
    """A merge patch (RFC 7396) from revision `from` to `rev`."""

    doc: str
    from_: str = msgspec.field(name="from")
    rev: str
    seq: int
    patch: Any
    causes: Sequence[str]


class Current(ServerMessage, tag="current", frozen=True):
    """The revision that the client named is still the right one."""

    doc: str
    rev: str
    seq: int


class Gone(ServerMessage, tag="gone", frozen=True):
    """The document is no longer watched: `reason` is ``deleted`` or ``forbidden``."""

    doc: str
    reason: str


class Reply(ServerMessage, tag="reply", frozen=True):
    """A request succeeded. To `consume` and to what leases are asked, it tells the balance of the quota at `seq`."""

    id: str
    docs: Sequence[str] | UnsetType = UNSET
    doc: str | UnsetType = UNSET
    lease: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    held: int | UnsetType = UNSET
    committed: int | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    quota: str | UnsetType = UNSET
    org: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    used: int | UnsetType = UNSET
    reserved: int | UnsetType = UNSET
    remaining: int | UnsetType = UNSET
    period: str | UnsetType = UNSET
    hard: bool | UnsetType = UNSET
    resets_at: str | UnsetType = UNSET
    level: str | UnsetType = UNSET
    cap: int | UnsetType = UNSET
    cap_remaining: int | UnsetType = UNSET
    seq: int | UnsetType = UNSET


class Error(ServerMessage, tag="error", frozen=True):
    """A request failed; the connection lives on."""

    code: str
    message: str
    id: str | UnsetType = UNSET
    doc: str | UnsetType = UNSET
    retry_after_s: float | UnsetType = UNSET
    quota: str | UnsetType = UNSET
    remaining: int | UnsetType = UNSET
    resets_at: str | UnsetType = UNSET


def error_message(error: GatewayError, request_id: str | None, doc: str | None) -> Error:
    """What is said of a request that failed; `doc` is the document that was refused."""
    details = error.details
    return Error(
        error.code,
        error.message,
        UNSET if request_id is None else request_id,
        UNSET if doc is None else doc,
        UNSET if error.retry_after_s is None else error.retry_after_s,
        details.get("quota", UNSET),
        details.get("remaining", UNSET),
        details.get("resets_at", UNSET),
    )


class Expiring(ServerMessage, tag="expiring", frozen=True):
    """The credential ends soon."""

    expires_at: str


class Status(ServerMessage, tag="status", frozen=True):
    """What the client holds may be old (`stale`), or is true again (`fresh`); with `doc` it speaks of that document
    alone.
    """

    store: str
    since: str
    age_s: float
    doc: str | UnsetType = UNSET


class Pong(ServerMessage, tag="pong", frozen=True):
    """The answer to a ping; `revs` lets a client find a silent divergence."""

    server_time: str
    revs: dict[str, str]
    id: str | UnsetType = UNSET
    t: int | float | str | UnsetType = UNSET


class Ended(ServerMessage, tag="ended", frozen=True):
    """The last message before a close that the gateway decides."""

    code: str
    message: str
    reconnect: str
    retry_after_s: float | UnsetType = UNSET


# --- codecs ----------------------------------------------------------------------------------------------------------


class RequestRefused(Exception):
    """A message that is a map but no valid request; `error` becomes the reply, `id` names the request if it had a
    usable one. `op` is the operation that it would have been, None for none that is known.
    """

    def __init__(self, error: GatewayError, request_id: str | None, op: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.id = request_id
        self.op = op


def _refused(header: Any, decode_error: msgspec.ValidationError) -> RequestRefused:
    request_id = header.id if isinstance(header.id, str) and 1 <= len(header.id) <= 64 else None
    if isinstance(header.op, str) and header.op not in CLIENT_OPS:
        return RequestRefused(UnknownOp("This operation is not known."), request_id)
    if not isinstance(header.op, str):
        return RequestRefused(BadRequest("A message needs an op."), request_id)
    return RequestRefused(BadRequest(f"Not a valid {header.op}: {decode_error}."), request_id, header.op)


class Codec:
    """How one subprotocol writes and reads messages.

    `embed` turns canonical JSON into what the encoder puts into a message as it stands.
    """

    def __init__(
        self,
        subprotocol: str,
        *,
        binary: bool,
        decode: Callable[[bytes], ClientMessage],
        decode_header: Callable[[bytes], _Header],
        encode: Callable[[ServerMessage], bytes],
        embed: Callable[[bytes], Any],
    ) -> None:
        self.subprotocol = subprotocol
        self.binary = binary
        self.encode = encode
        """Write any message that carries no document."""
        self._decode = decode
        self._decode_header = decode_header
        self._embed = embed

    def decode(self, frame: bytes) -> ClientMessage:
        """Read a client's frame; raises `BadFrame` or `RequestRefused`."""
        try:
            return self._decode(frame)
        except msgspec.ValidationError as exc:
            try:
                header = self._decode_header(frame)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise BadFrame from exc
            raise _refused(header, exc) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise BadFrame from exc

    def snapshot(self, doc: str, rev: str, seq: int, document: bytes) -> bytes:
        """Write a `Snapshot`; `document` is canonical JSON."""
        return self.encode(Snapshot(doc, rev, seq, self._embed(document)))

    def update(self, doc: str, from_: str, rev: str, seq: int, patch: bytes, causes: Sequence[str]) -> bytes:
        """Write an `Update`; `patch` is JSON."""
        return self.encode(Update(doc, from_, rev, seq, self._embed(patch), causes))


JSON = Codec(
    "gateway.v1+json",
    binary=False,
    decode=msgspec.json.Decoder(ClientMessage).decode,
    decode_header=msgspec.json.Decoder(_Header).decode,
    encode=msgspec.json.Encoder().encode,
    embed=msgspec.Raw,
)
MESSAGEPACK = Codec(
    "gateway.v1+msgpack",
    binary=True,
    decode=msgspec.msgpack.Decoder(ClientMessage).decode,
    decode_header=msgspec.msgpack.Decoder(_Header).decode,
    encode=msgspec.msgpack.Encoder().encode,
    embed=msgspec.json.Decoder().decode,
)
CODECS = {codec.subprotocol: codec for codec in (JSON, MESSAGEPACK)}
