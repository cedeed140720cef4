"""Asking for permissions in an application."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from client_sdk.auth_proxy.answers import (
    FORBIDDEN,
    FORBIDDEN_ANSWER,
    Receive,
    Scope,
    Send,
    answer_http,
    refusal,
    refuse_socket,
)
from client_sdk.auth_proxy.decision import User
from client_sdk.auth_proxy.known import NO_TOKEN

F = TypeVar("F", bound=Callable[..., Any])


def user_of(connection: Any, *permissions: str) -> User:
    """The user of a request or socket of Starlette's or FastAPI's, or of an ASGI scope, who has all of these
    permissions.

    Raises Starlette's `HTTPException`: 401 without a user, 403 without a permission.
    """
    from starlette.exceptions import HTTPException

    scope = connection if isinstance(connection, dict) else connection.scope
    user = scope.get("user")
    if not isinstance(user, User):
        raise HTTPException(401, "A token is needed.", {"WWW-Authenticate": "Bearer"})
    if not all(map(user.can, permissions)):
        raise HTTPException(403, "You may not do this.")
    return user


def require(*permissions: str) -> Callable[[F], F]:
    """Let nobody in without all of these permissions; without any, nobody without a user.

    For an endpoint of Starlette's, a function of the request or the socket; and for any ASGI application.
    """

    def decorate(endpoint: F) -> F:
        if not _takes_connection(endpoint):
            return _Required(endpoint, permissions)  # type: ignore[return-value]
        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def guarded(connection: Any, *arguments: Any, **named: Any) -> Any:
                user_of(connection, *permissions)
                return await endpoint(connection, *arguments, **named)

        else:

            @functools.wraps(endpoint)
            def guarded(connection: Any, *arguments: Any, **named: Any) -> Any:
                user_of(connection, *permissions)
                return endpoint(connection, *arguments, **named)

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


def _takes_connection(endpoint: Callable[..., Any]) -> bool:
    """Whether it is a function of one connection, rather than of scope, receive and send."""
    if not inspect.isfunction(endpoint) and not inspect.ismethod(endpoint):
        return False
    return list(inspect.signature(endpoint).parameters)[:3] != ["scope", "receive", "send"]
