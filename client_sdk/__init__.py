"""The client SDK of the session gateway: identity, permissions and quotas that stay true over one WebSocket.

`Channel` is for asyncio, `SyncChannel` for programs without an event loop, `ServerClient` for single HTTP requests.
`Channel.consume`, `Channel.lease` and `Meter` spend quotas. `InstanceClient` is for an application's server; what lets
it trust the gateway is in `client_sdk.auth_proxy`.
"""

from __future__ import annotations

from client_sdk.channel import Channel
from client_sdk.config import ConfigError, ServerConfig, load_config, load_token
from client_sdk.errors import (
    AuthFailed,
    BadFrame,
    BadRequest,
    ChannelError,
    Conflict,
    Disconnected,
    EpochChanged,
    Forbidden,
    LeaseExpired,
    LeaseNotFound,
    LoginFailed,
    MalformedMessage,
    MeterStopped,
    NotAuthenticated,
    NotFound,
    PrincipalChanged,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    Revoked,
    TokenExpired,
    TokenUnavailable,
    TooLarge,
    TooManyDocuments,
    Unavailable,
    UnknownOp,
)
from client_sdk.events import Change, Watched
from client_sdk.freshness import Freshness, FreshnessState
from client_sdk.http import Authentication, Identity, Readiness, ServerClient
from client_sdk.instance import InstanceClient, Validation
from client_sdk.instance_key import (
    InstanceKey,
    InstanceKeys,
    InstanceSettings,
    instance_key,
    keys_of_file,
    load_instance,
)
from client_sdk.instance_spending import Reservation
from client_sdk.lease import Lease
from client_sdk.listeners import Changes
from client_sdk.login import LoginProvider, SignedIn
from client_sdk.meter import Meter
from client_sdk.provider import TokenProvider
from client_sdk.quota import Balance, Quota
from client_sdk.rate_limit import RateLimit
from client_sdk.sync import SyncChannel
from client_sdk.sync_spending import SyncLease, SyncMeter
from client_sdk.version import VERSION
from client_sdk.wire import ClientInfo

__all__ = [
    "VERSION",
    "AuthFailed",
    "Authentication",
    "BadFrame",
    "BadRequest",
    "Balance",
    "Change",
    "Changes",
    "Channel",
    "ChannelError",
    "ClientInfo",
    "ConfigError",
    "Conflict",
    "Disconnected",
    "EpochChanged",
    "Forbidden",
    "Freshness",
    "FreshnessState",
    "Identity",
    "InstanceClient",
    "InstanceKey",
    "InstanceKeys",
    "InstanceSettings",
    "Lease",
    "LeaseExpired",
    "LeaseNotFound",
    "LoginFailed",
    "LoginProvider",
    "MalformedMessage",
    "Meter",
    "MeterStopped",
    "NotAuthenticated",
    "NotFound",
    "PrincipalChanged",
    "Quota",
    "QuotaExceeded",
    "RateLimit",
    "RateLimited",
    "Readiness",
    "RequestTimeout",
    "Reservation",
    "Revoked",
    "ServerClient",
    "ServerConfig",
    "SignedIn",
    "SyncChannel",
    "SyncLease",
    "SyncMeter",
    "TokenExpired",
    "TokenProvider",
    "TokenUnavailable",
    "TooLarge",
    "TooManyDocuments",
    "Unavailable",
    "UnknownOp",
    "Validation",
    "Watched",
    "instance_key",
    "keys_of_file",
    "load_config",
    "load_instance",
    "load_token",
]
