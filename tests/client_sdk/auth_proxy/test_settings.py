"""Settings of an AuthProxy that can not be are refused when it is made, by their names."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from msgspec.structs import fields

from client_sdk import ConfigError
from client_sdk.auth_proxy import AuthProxy, MemoryStorage, Rules
from client_sdk.auth_proxy.settings import SETTINGS
from client_sdk.instance_key import InstanceSettings
from tests.client_sdk.support.asgi import fields as header_fields
from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.asgi import request_of as answer_to
from tests.client_sdk.support.scripted_gateway import KEY, ScriptedGateway, own_app, proxy_to
from tests.client_sdk.support.tokens import access_token, soon

NAN, INFINITE = math.nan, math.inf
TIMES = ("fetch_s", "idle_s", "recheck_s", "max_stale_s", "negative_s")
COUNTS = ("max_users", "max_socket_users", "max_tokens", "max_negatives")


async def own_check(token: str | None, scope: Any) -> None:
    return None


def proxy_with(**settings: Any) -> AuthProxy:
    return AuthProxy(own_app, InstanceSettings("http://127.0.0.1:1", "app", (KEY,)), **settings)


def refused(**settings: Any) -> str:
    """The error of these settings."""
    with pytest.raises(ConfigError) as error:
        proxy_with(**settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_setting_is_looked_at() -> None:
    arguments = inspect.signature(AuthProxy).parameters.values()
    named = {argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY}
    assert set(SETTINGS) == named | {field.name for field in fields(Rules)}
    for name in SETTINGS:
        assert refused(**{name: object()}).startswith(f"{name}: ")


@pytest.mark.parametrize("mode", ["Local", "locl", "REMOTE", "remote ", "", None, 5])
def test_a_mode_that_is_none_is_refused_with_and_without_an_own_check(mode: Any) -> None:
    for given in ({}, {"own_check": own_check}):
        assert refused(mode=mode, **given) == f"mode: {mode!r} is none of remote, local, both"


def test_each_mode_is_taken() -> None:
    for mode in ("remote", "local", "both"):
        proxy_with(mode=mode, own_check=own_check)


@pytest.mark.parametrize("public", ["/login", "login", "", b"/login", 5, None])
def test_public_paths_are_no_text(public: Any) -> None:
    """The characters of a text would be paths, and one of them is everything."""
    assert refused(public=public) == f"public: {public!r} is no list: give a list of paths"


@pytest.mark.parametrize("path", ["login", "", 5, b"/login", None, "/login?next=/", "/login#top", "http://shop/login"])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    assert refused(public=["/health", path]) == f"public: {path!r} is no path: it begins with /, and has no ? and no #"


async def test_a_slash_is_the_front_page_alone(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway, public=iter(["/", "/open/"])) as proxy:
        statuses = {path: (await request(proxy, path=path)).status for path in ("/", "/open/door", "/me", "/open")}
    assert statuses == {"/": 200, "/open/door": 200, "/me": 401, "/open": 401}


@pytest.mark.parametrize("origins", ["https://shop.example.org", "*", None])
def test_origins_are_no_text(origins: Any) -> None:
    assert refused(origins=origins) == f"origins: {origins!r} is no list: give a list of origins"


@pytest.mark.parametrize(
    "origin",
    [
        "shop.example.org",
        "https://shop.example.org/",
        "https://shop.example.org/pages",
        "https://ada@shop.example.org",
        "https://shop.example.org:0",
        "https://shop.example.org:65536",
        "https://münchen.example",
        "https://\u212aelvin.example",  # becomes a K in lower case
        "https://",
        "null",
        "*",
        5,
        b"https://shop.example.org",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: Any) -> None:
    assert refused(origins=["https://own.example", origin]).startswith(f"origins: {origin!r} is no origin: scheme://")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://Own.Example", "https://own.example"),
        ("HTTPS://own.example:443", "https://own.example"),
        ("http://own.example:80", "http://own.example"),
        ("https://own.example:80", "https://own.example:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("moz-extension://3f0c", "moz-extension://3f0c"),
    ],
)
async def test_an_origin_is_compared_as_browsers_send_it(gateway: ScriptedGateway, given: str, sent: str) -> None:
    async with proxy_to(gateway, cookie="session", origins=[given]) as proxy:
        crumb = f"session={access_token('u_ada', 's_1', soon())}"
        for origin, status in ((sent, 200), (f"{sent}.evil.example", 403)):
            named = header_fields(None, {"host": "shop.example", "cookie": crumb, "origin": origin})
            scope = {"type": "http", "method": "POST", "path": "/", "scheme": "https", "query_string": b""}
            assert (await answer_to(proxy, {**scope, "headers": named})).status == status


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [-1, -0.001, NAN, INFINITE, "300", None, True])
def test_a_time_that_is_none_is_refused(name: str, value: Any) -> None:
    assert refused(**{name: value}).startswith(f"{name}: {value!r} is no finite number of seconds")


def test_some_times_may_be_nothing() -> None:
    for name in TIMES:
        if name in ("max_stale_s", "negative_s"):
            proxy_with(**{name: 0})
        else:
            assert refused(**{name: 0}) == f"{name}: 0 is no finite number of seconds above 0"


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "9000", None, True, INFINITE])
def test_a_number_that_is_none_is_refused(name: str, value: Any) -> None:
    assert refused(**{name: value}).startswith(f"{name}: {value!r} is no whole number from 1")


def test_no_more_users_than_the_gateway_takes() -> None:
    for name in ("max_users", "max_socket_users"):
        proxy_with(**{name: 9_900})
        assert refused(**{name: 9_901}) == f"{name}: 9901 is no whole number from 1 to 9900"


@pytest.mark.parametrize("name", ["issuer", "audience", "cookie"])
@pytest.mark.parametrize("value", ["", " ", 5])
def test_a_text_says_something(name: str, value: Any) -> None:
    assert refused(**{name: value}).startswith(f"{name}: {value!r} is no ")


def test_what_is_called_can_be_called() -> None:
    for name in ("own_check", "on_difference", "token"):
        assert refused(**{name: "gw_secret"}) == f"{name}: give a function, not a value of the type str"


def test_a_storage_has_the_methods_of_one() -> None:
    class Half:
        read = read_token = read_revoked = own_check

    proxy_with(storage=MemoryStorage())
    assert refused(storage=Half()) == "storage: give a Storage, not a Half without write, close"
    assert refused(storage=MemoryStorage) == "storage: give a Storage, not the class MemoryStorage"
    assert "secret" not in refused(storage="redis://:secret@127.0.0.1")


def test_a_cookie_has_a_name() -> None:
    for name in ("__Host-session", "session.id"):
        proxy_with(cookie=name)
    for name in ("a b", "a;b", "a=b", "sé"):
        assert refused(cookie=name) == f"cookie: {name!r} is no name of a cookie"


def test_what_a_storage_of_this_package_is_told_is_looked_at_too() -> None:
    with pytest.raises(ConfigError, match="most: 0 is no whole number"):
        MemoryStorage(0)


def test_an_error_is_one_line_of_bounded_length() -> None:
    assert len(refused(mode="x" * 10_000)) < 200
