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
    permission, which its `detail` names; for a socket that can only be closed, as its server knows no other way or it
    is accepted already, `WebSocketException` with 4102 or 4505.
    """
    admitted = _admit(_scope(connection), permissions)
    if isinstance(admitted, _Refused):
        raise _exception(connection, admitted)
    return admitted


def _scope(connection: Any) -> Scope:
    return connection if isinstance(connection, dict) else connection.scope


def _can_only_close(connection: Any) -> bool:
    from starlette.websockets import WebSocketState

    scope = _scope(connection)
    if scope["type"] != "websocket":
        return False
    accepted = getattr(connection, "application_state", WebSocketState.CONNECTING) is not WebSocketState.CONNECTING
    return accepted or "websocket.http.response" not in scope.get("extensions", {})


def _exception(connection: Any, refused: _Refused) -> Exception:
    from starlette.exceptions import HTTPException, WebSocketException

    if _can_only_close(connection):
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
    closed, 4102 or 4505. A function that is not itself what the router calls, as one that an endpoint calls, a
    dependency, a method, or what another decorator is around, raises what `user_of` does: nobody has to look at what it
    returns.
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
                answer = _answer_by(guarded, connection, refused)
                return answer if connection.scope["type"] == "http" else await connection.send_denial_response(answer)

        else:

            @functools.wraps(endpoint)
            def guarded(*arguments: Any, **named: Any) -> Any:
                connection = _connection(arguments, named)
                refused = _admit(connection.scope, permissions)
                if not isinstance(refused, _Refused):
                    return endpoint(*arguments, **named)
                return _answer_by(guarded, connection, refused)

        return guarded  # type: ignore[return-value]

    return decorate


def _answer_by(guarded: Callable[..., Any], connection: Any, refused: _Refused) -> Any:
    """The answer, if the router calls this function and sends what it returns; raises elsewhere, for whoever calls it
    may drop that.
    """
    endpoint = connection.scope.get("endpoint")
    if getattr(endpoint, "__func__", endpoint) is not guarded or _can_only_close(connection):
        raise _exception(connection, refused)
    return _answer(refused)


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
