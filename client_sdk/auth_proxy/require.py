"""Asking for permissions in an application."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from client_sdk.auth_proxy.answers import (
    CLOSE_REASONS,
    FORBIDDEN,
    Problem,
    Receive,
    Scope,
    Send,
    answer_http,
    close_code,
    forbidden,
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


def _admit(scope: Scope, permissions: tuple[str, ...]) -> User | _Refused:
    """The user, if they have all of these permissions, or how they are refused."""
    user = scope.get("user")
    if not isinstance(user, User):
        return NOBODY
    missing = [permission for permission in permissions if not user.can(permission)]
    if not missing:
        return user
    detail = f"This needs the permission{'s' if len(missing) > 1 else ''} {', '.join(missing)}."
    return _Refused(forbidden(detail), FORBIDDEN, detail)


def user_of(connection: Any, *permissions: str) -> User:
    """The user of a request or socket of Starlette's or FastAPI's, or of an ASGI scope, who has all of these
    permissions.

    Raises Starlette's `HTTPException`, of which the application makes the answer: 401 without a user, 403 without a
    permission, which its `detail` names; for a socket whose server can only close it, `WebSocketException` with 4102 or
    4505.
    """
    scope = connection if isinstance(connection, dict) else connection.scope
    admitted = _admit(scope, permissions)
    if isinstance(admitted, _Refused):
        raise _exception(scope, admitted)
    return admitted


def _can_only_close(scope: Scope) -> bool:
    return scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {})


def _exception(scope: Scope, refused: _Refused) -> Exception:
    from starlette.exceptions import HTTPException, WebSocketException

    if _can_only_close(scope):
        return WebSocketException(refused.code, CLOSE_REASONS[refused.code])
    status = refused.answer[0]
    return HTTPException(status, refused.detail, {"WWW-Authenticate": "Bearer"} if status == 401 else None)


def _answer(refused: _Refused) -> Any:
    """The same as a `Response` of Starlette's."""
    from starlette.responses import Response

    status, headers, body = refused.answer
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


def require(*permissions: str) -> Callable[[F], F]:
    """Let nobody in without all of these permissions; without any, nobody without a user.

    For an endpoint of Starlette's, a function of the request or the socket; and for any ASGI application. The answer is
    problem+json (RFC 9457): 401 without a user, 403 without a permission, which it names; for a socket that can only be
    closed, 4102 or 4505.
    """

    def decorate(endpoint: F) -> F:
        if not _takes_connection(endpoint):
            return _Required(endpoint, permissions)  # type: ignore[return-value]
        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def guarded(*arguments: Any, **named: Any) -> Any:
                connection = _connection(arguments, named)
                refused = _admit(connection.scope, permissions)
                if not isinstance(refused, _Refused):
                    return await endpoint(*arguments, **named)
                if connection.scope["type"] == "http":
                    return _answer(refused)
                if _can_only_close(connection.scope):
                    raise _exception(connection.scope, refused)
                await connection.send_denial_response(_answer(refused))
                return None

        else:

            @functools.wraps(endpoint)
            def guarded(*arguments: Any, **named: Any) -> Any:
                refused = _admit(_connection(arguments, named).scope, permissions)
                return _answer(refused) if isinstance(refused, _Refused) else endpoint(*arguments, **named)

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
