"""How a session behaves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal, TypedDict

import msgspec

from client_sdk.keys import checked_name
from client_sdk.names import document_names
from client_sdk.wire import ClientInfo, Subprotocol

# Characters of what a client says of itself, at the most.
LONGEST_CLIENT = 64
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a session behaves. Times in seconds.

    `watch`: the documents to watch from the start. `credential`: the token travels in the handshake's Authorization
    header, or in the first message; ``signature``: it is the id of the key that signs the handshake, and nothing
    renews it but another handshake, when the key has ended. `client`: what to say of oneself in the first message.
    `verify`: compute the revision of every copy. `backoff_base_s` and `backoff_cap_s`: see `Backoff`; `stable_s`:
    how long a session must have been live to count as healthy. `ping_interval_s`: None means as often as the
    gateway's own heartbeat.
    """

    watch: tuple[str, ...] = ("self",)
    subprotocol: Subprotocol = "gateway.v1+json"
    credential: Literal["header", "message", "signature"] = "header"
    client: ClientInfo | None = None
    verify: bool = True
    backoff_base_s: Seconds = 0.25
    backoff_cap_s: Seconds = 30.0
    stable_s: Seconds = 5.0
    token_timeout_s: Seconds = 30.0
    connect_timeout_s: Seconds = 10.0
    greeting_timeout_s: Seconds = 10.0
    ping_interval_s: Seconds | None = None
    pong_timeout_s: Seconds = 10.0
    request_timeout_s: Seconds = 10.0


class SessionOptions(TypedDict, total=False):
    """The fields of `Options` as keyword arguments."""

    watch: str | Iterable[str]
    subprotocol: Subprotocol
    credential: Literal["header", "message"]
    client: ClientInfo | None
    verify: bool
    backoff_base_s: float
    backoff_cap_s: float
    stable_s: float
    token_timeout_s: float
    connect_timeout_s: float
    greeting_timeout_s: float
    ping_interval_s: float | None
    pong_timeout_s: float
    request_timeout_s: float


def make_options(fields: SessionOptions) -> Options:
    """Check the keyword arguments; raises ValueError for one that is unknown or has a bad value."""
    given: dict[str, object] = dict(fields)
    try:
        if "watch" in given:
            given["watch"] = document_names(fields["watch"])
        options = msgspec.convert(given, Options)
        if options.client is not None:
            checked_name("the name of a client", options.client.name, LONGEST_CLIENT)
            checked_name("the version of a client", options.client.version, LONGEST_CLIENT)
    except (ValueError, msgspec.ValidationError) as exc:
        raise ValueError(f"a channel's options: {exc}") from exc
    for name in Options.__struct_fields__:
        if getattr(options, name) == math.inf:
            raise ValueError(f"a channel's options: {name}: times are finite")
    return options
