"""Asking for permissions in an application."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from client_sdk.auth_proxy.answers import (
    CLOSE_CODES,
    FORBIDDEN,
    FORBIDDEN_ANSWER,
    Receive,
    Scope,
    Send,
    answer_http,
    refusal,
    refuse_socket,
)
from client_sdk.auth_proxy.decision import Reason, User
from client_sdk.auth_proxy.facts import NO_TOKEN

F = TypeVar("F", bound=Callable[..., Any])


def user_of(connection: Any, *permissions: str) -> User:
    """The user of a request or socket of Starlette's or FastAPI's, or of an ASGI scope, who has all of these
    permissions.

    Raises Starlette's `HTTPException`: 401 without a user, 403 without a permission; for a socket whose server can only
    close it, `WebSocketException` with 4102 or 4505.
    """
    scope = connection if isinstance(connection, dict) else connection.scope
    user = scope.get("user")
    if not isinstance(user, User):
        raise _refused(scope, 401, CLOSE_CODES[Reason.NO_TOKEN], "A token is needed.", {"WWW-Authenticate": "Bearer"})
    if not all(map(user.can, permissions)):
        raise _refused(scope, 403, FORBIDDEN, "You may not do this.")
    return user


def _refused(scope: Scope, status: int, code: int, detail: str, headers: dict[str, str] | None = None) -> Exception:
    from starlette.exceptions import HTTPException, WebSocketException

    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return WebSocketException(code, detail)
    return HTTPException(status, detail, headers)


def require(*permissions: str) -> Callable[[F], F]:
    """Let nobody in without all of these permissions; without any, nobody without a user.

    For an endpoint of Starlette's, a function of the request or the socket; and for any ASGI application.
    """

    def decorate(endpoint: F) -> F:
        if not _takes_connection(endpoint):
            return _Required(endpoint, permissions)  # type: ignore[return-value]
        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def guarded(*arguments: Any, **named: Any) -> Any:
                user_of(_connection(arguments, named), *permissions)
                return await endpoint(*arguments, **named)

        else:

            @functools.wraps(endpoint)
            def guarded(*arguments: Any, **named: Any) -> Any:
                user_of(_connection(arguments, named), *permissions)
                return endpoint(*arguments, **named)

        return guarded  # type: ignore[return-value]

    return decorate


class _Required:
    """An ASGI application behind a requirement."""

    def __init__(self, app: Any, permissions: tuple[str, ...]) -> None:
        self._app = app
        self._permissions = permissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        if scope["type"] not in ("http", "websocket") or (
            isinstance(user, User) and all(map(user.can, self._permissions))
        ):
            await self._app(scope, receive, send)
            return
        answer = FORBIDDEN_ANSWER if isinstance(user, User) else refusal(NO_TOKEN)
        if scope["type"] == "http":
            await answer_http(send, answer)
        else:
            await refuse_socket(scope, send, answer, FORBIDDEN)


def _connection(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The request or socket; FastAPI gives it by its name."""
    found = next((value for value in (*arguments, *named.values()) if hasattr(value, "scope")), None)
    if found is None:
        raise TypeError("an endpoint that requires something takes the request or the socket")
    return found


def _takes_connection(endpoint: Callable[..., Any]) -> bool:
    """Whether it is a function of one connection, rather than of scope, receive and send."""
    if not inspect.isfunction(endpoint) and not inspect.ismethod(endpoint):
        return False
    return list(inspect.signature(endpoint).parameters)[:3] != ["scope", "receive", "send"]
