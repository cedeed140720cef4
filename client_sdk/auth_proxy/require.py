"""Asking for permissions in an application."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from client_sdk.auth_proxy.answers import (
    FORBIDDEN,
    FORBIDDEN_ANSWER,
    Problem,
    Receive,
    Scope,
    Send,
    answer_http,
    close_code,
    refusal,
    refuse_socket,
)
from client_sdk.auth_proxy.decision import User
from client_sdk.auth_proxy.facts import NO_TOKEN

F = TypeVar("F", bound=Callable[..., Any])


class _Refused(NamedTuple):
    """How somebody is refused: over HTTP, on a socket that can only be closed, and in words."""

    answer: Problem
    code: int
    detail: str


NOBODY = _Refused(refusal(NO_TOKEN), close_code(NO_TOKEN), "A token is needed.")
MAY_NOT = _Refused(FORBIDDEN_ANSWER, FORBIDDEN, "You may not do this.")


def _admit(scope: Scope, permissions: tuple[str, ...]) -> User | _Refused:
    """The user, if they have all of these permissions, or how they are refused."""
    user = scope.get("user")
    if not isinstance(user, User):
        return NOBODY
    return user if all(map(user.can, permissions)) else MAY_NOT


def user_of(connection: Any, *permissions: str) -> User:
    """The user of a request or socket of Starlette's or FastAPI's, or of an ASGI scope, who has all of these
    permissions.

    Raises Starlette's `HTTPException`: 401 without a user, 403 without a permission; for a socket whose server can only
    close it, `WebSocketException` with 4102 or 4505.
    """
    scope = connection if isinstance(connection, dict) else connection.scope
    admitted = _admit(scope, permissions)
    if isinstance(admitted, _Refused):
        raise _exception(scope, admitted)
    return admitted


def _exception(scope: Scope, refused: _Refused) -> Exception:
    from starlette.exceptions import HTTPException, WebSocketException

    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return WebSocketException(refused.code, refused.detail)
    status = refused.answer[0]
    return HTTPException(status, refused.detail, {"WWW-Authenticate": "Bearer"} if status == 401 else None)


def require(*permissions: str) -> Callable[[F], F]:
    """Let nobody in without all of these permissions; without any, nobody without a user.

    For an endpoint of Starlette's, a function of the request or the socket; and for any ASGI application. The answer is
    401 without a user, 403 without a permission; for a socket that can only be closed, 4102 or 4505.
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
        admitted = _admit(scope, self._permissions) if scope["type"] in ("http", "websocket") else None
        if not isinstance(admitted, _Refused):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await answer_http(send, admitted.answer)
        else:
            await refuse_socket(scope, send, admitted.answer, admitted.code)


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
