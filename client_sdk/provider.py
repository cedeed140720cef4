"""Where tokens come from: a string, or a function that is asked for one whenever one is needed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from client_sdk.config import ConfigError

TokenProvider = Callable[[], str | Awaitable[str]]


@runtime_checkable
class Discarding(Protocol):
    """A provider that keeps tokens, and wants to know which of them is not good any more."""

    def discard(self, token: str) -> None:
        """The gateway does not take this token."""


async def provide(source: str | TokenProvider, refused: str | None = None) -> str:
    """Get a token. A function that is not a coroutine function runs in a thread, so it may block. A provider with a
    method `discard` is told first which token the gateway `refused`.

    Raises what the function raises, and ValueError for what can not travel in a header (RFC 6750 §2.1).
    """
    if isinstance(source, str):
        return checked(source)
    keeper: object = source
    if refused is not None and isinstance(keeper, Discarding):
        keeper.discard(refused)
    given = source() if _is_async(source) else await asyncio.to_thread(source)
    return checked(await given if inspect.isawaitable(given) else given)


def usable(source: str | TokenProvider) -> str | TokenProvider:
    """The same; ConfigError for a string that can never be a token, and for what is neither string nor function."""
    if callable(source):
        return source
    try:
        return checked(source)
    except ValueError as exc:
        raise ConfigError(f"token: {exc}") from None


def checked(token: object) -> str:
    """The token if it is one; the error does not repeat it."""
    if not isinstance(token, str) or not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("a token is a string of visible ASCII characters without spaces")
    return token


def _is_async(function: TokenProvider) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )
