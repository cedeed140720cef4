"""Other servers trust the gateway: ASGI middleware that knows who sends a request, without asking each time."""

from __future__ import annotations

from client_sdk.auth_proxy.counters import Counters, PrometheusCollector
from client_sdk.auth_proxy.decision import Decision, Reason, Source, User
from client_sdk.auth_proxy.facts import Rules
from client_sdk.auth_proxy.middleware import AuthProxy, token_of
from client_sdk.auth_proxy.modes import Difference, Mode, OwnCheck
from client_sdk.auth_proxy.redis_storage import RedisStorage
from client_sdk.auth_proxy.require import require, user_of
from client_sdk.auth_proxy.storage import Batch, MemoryStorage, Storage, StorageUnavailable, StoredFact, StoredToken
from client_sdk.instance_key import (
    InstanceKey,
    InstanceKeys,
    InstanceSettings,
    instance_key,
    keys_of_file,
    load_instance,
)

__all__ = [
    "AuthProxy",
    "Batch",
    "Counters",
    "Decision",
    "Difference",
    "InstanceKey",
    "InstanceKeys",
    "InstanceSettings",
    "MemoryStorage",
    "Mode",
    "OwnCheck",
    "PrometheusCollector",
    "Reason",
    "RedisStorage",
    "Rules",
    "Source",
    "Storage",
    "StorageUnavailable",
    "StoredFact",
    "StoredToken",
    "User",
    "instance_key",
    "keys_of_file",
    "load_instance",
    "require",
    "token_of",
    "user_of",
]
