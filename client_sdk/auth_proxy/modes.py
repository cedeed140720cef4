"""Moving an application over step by step: its own check, the gateway's, or both side by side."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Literal, NamedTuple, get_args

from client_sdk.auth_proxy.counters import Counters
from client_sdk.auth_proxy.decider import Decider
from client_sdk.auth_proxy.decision import Decision, Reason

logger = logging.getLogger("client_sdk.auth_proxy")

Scope = MutableMapping[str, Any]
Mode = Literal["remote", "local", "both"]
MODES: tuple[Mode, ...] = get_args(Mode)
OwnCheck = Callable[[str | None, Scope], Awaitable[Mapping[str, Any] | None]]
"""An application's own check: of the token (None without one) and the ASGI scope, the user as a document, with
``identity`` (at least its ``id``) and ``permissions``; None: refused."""

MOST_COMPARED = 100
"""Comparisons under way; what comes on top of that is not compared, and counted."""


class Difference(NamedTuple):
    """What the application's own check and the gateway disagree about.

    `what` is ``allowed``, ``user`` or ``permissions``; `own` and `gateway` are what each says of that. `path` is the
    request's, `token` the first digits of the token's SHA-256, to find its other differences by.
    """

    what: str
    own: Any
    gateway: Any
    user: str
    path: str
    token: str


def own_decision(document: Mapping[str, Any] | None, *, token: str | None) -> Decision:
    """The decision of an application's own check."""
    if document is None:
        return Decision(Reason.NO_TOKEN if token is None else Reason.INVALID)
    return Decision(None, document)


def differences(own: Decision, gateway: Decision, *, path: str, token: str) -> list[Difference]:
    """Everything that two decisions about one request disagree on."""
    mark = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    names = [str(decision.document.get("identity", {}).get("id", "")) for decision in (own, gateway)]
    user = names[0] or names[1]
    if own.allowed != gateway.allowed:
        told = [("yes" if decision.allowed else str(decision.reason)) for decision in (own, gateway)]
        return [Difference("allowed", told[0], told[1], user, path, mark)]
    if not own.allowed:
        return []
    found = []
    if names[0] != names[1]:
        found.append(Difference("user", names[0], names[1], user, path, mark))
    granted = [
        frozenset(name for name, held in decision.document.get("permissions", {}).items() if held is True)
        for decision in (own, gateway)
    ]
    if granted[0] != granted[1]:
        only = sorted(granted[0] - granted[1]), sorted(granted[1] - granted[0])
        found.append(Difference("permissions", only[0], only[1], user, path, mark))
    return found


class Comparison:
    """Asks the gateway what it would have said, beside the request, and reports where that differs."""

    def __init__(
        self, decider: Decider, counters: Counters, on_difference: Callable[[Difference], object] | None
    ) -> None:
        self._decider = decider
        self._counters = counters
        self._on_difference = on_difference
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, own: Decision, token: str | None, path: str) -> None:
        """Compare with the gateway's answer, when that comes. Nobody waits for it."""
        if token is None:
            if own.allowed:
                self._counters.add("uncompared", "no_token")
            return
        if len(self._tasks) >= MOST_COMPARED:
            self._counters.add("uncompared", "busy")
            return
        task = asyncio.ensure_future(self._compare(own, token, path))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for those under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _compare(self, own: Decision, token: str, path: str) -> None:
        gateway = await self._decider.decide(token)
        if gateway.reason is Reason.UNAVAILABLE:
            self._counters.add("uncompared", "unavailable")
            return
        self._counters.add("compared")
        for difference in differences(own, gateway, path=path, token=token):
            self._counters.add("differences", difference.what)
            logger.info("the own check and the gateway differ: %s", difference)
            if self._on_difference is not None:
                try:
                    self._on_difference(difference)
                except Exception:
                    logger.exception("a callback failed")
