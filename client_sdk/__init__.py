"""The client SDK of the session gateway: identity, permissions and quotas that stay true over one WebSocket.

`Channel` is for asyncio, `SyncChannel` for programs without an event loop, `ServerClient` for single HTTP requests.
"""

from __future__ import annotations

from client_sdk.channel import Channel
from client_sdk.config import ConfigError, ServerConfig, load_config, load_token
from client_sdk.errors import (
    AuthFailed,
    BadFrame,
    BadRequest,
    ChannelError,
    Disconnected,
    EpochChanged,
    Forbidden,
    MalformedMessage,
    NotAuthenticated,
    NotFound,
    PrincipalChanged,
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
from client_sdk.listeners import Changes
from client_sdk.login import LoginProvider
from client_sdk.provider import TokenProvider
from client_sdk.quota import Quota
from client_sdk.sync import SyncChannel
from client_sdk.version import VERSION
from client_sdk.wire import ClientInfo

__all__ = [
    "VERSION",
    "AuthFailed",
    "Authentication",
    "BadFrame",
    "BadRequest",
    "Change",
    "Changes",
    "Channel",
    "ChannelError",
    "ClientInfo",
    "ConfigError",
    "Disconnected",
    "EpochChanged",
    "Forbidden",
    "Freshness",
    "FreshnessState",
    "Identity",
    "LoginProvider",
    "MalformedMessage",
    "NotAuthenticated",
    "NotFound",
    "PrincipalChanged",
    "Quota",
    "RateLimited",
    "Readiness",
    "RequestTimeout",
    "Revoked",
    "ServerClient",
    "ServerConfig",
    "SyncChannel",
    "TokenExpired",
    "TokenProvider",
    "TokenUnavailable",
    "TooLarge",
    "TooManyDocuments",
    "Unavailable",
    "UnknownOp",
    "Watched",
    "load_config",
    "load_token",
]
