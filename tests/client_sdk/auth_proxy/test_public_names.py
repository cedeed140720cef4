"""What applications may build on."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

import pytest

from client_sdk import auth_proxy
from client_sdk.auth_proxy import AuthProxy, Batch, Rules, Storage
from client_sdk.auth_proxy.facts import RuleOptions
from tests.client_sdk.support.scripted_gateway import KEY, own_app


def named(hint: Any) -> set[str]:
    """The classes of this package in a type."""
    inner = {name for argument in get_args(hint) for name in named(argument)}
    return inner | {hint.__name__} if getattr(hint, "__module__", "").startswith("client_sdk") else inner


def test_whoever_writes_a_storage_has_all_that_it_takes_and_gives() -> None:
    methods = [value for name, value in vars(Storage).items() if inspect.isfunction(value) and not name.startswith("_")]
    hints = [hint for owner in (*methods, Batch) for hint in get_type_hints(owner).values()]
    assert {name for hint in hints for name in named(hint)} == {"Batch", "StoredFact", "StoredToken"}
    assert {"Batch", "StoredFact", "StoredToken"} <= set(auth_proxy.__all__)


def test_every_rule_is_a_keyword() -> None:
    assert get_type_hints(RuleOptions) == get_type_hints(Rules)


def test_what_is_no_setting_is_refused() -> None:
    for name in ("max_stale", "decider", "wall"):
        with pytest.raises(TypeError, match=name):
            AuthProxy(own_app, "http://127.0.0.1:1", KEY, **{name: 1})  # type: ignore[misc]
