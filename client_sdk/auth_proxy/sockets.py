"""The open sockets of an application, by the user and the credential that opened them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from client_sdk.auth_proxy.decision import Decision


class Socket:
    """One socket: the token that opened it, and what ends it. `end` is called once at most."""

    __slots__ = ("asking", "ended", "on_end", "session", "timer", "token", "user")

    def __init__(self, token: str, user: str, session: str, on_end: Callable[[Decision], None]) -> None:
        self.token = token
        self.user = user
        self.session = session
        self.on_end = on_end
        self.ended = False
        self.asking = False
        self.timer: asyncio.TimerHandle | None = None

    def end(self, decision: Decision) -> None:
        """Its token is not good any more."""
        if not self.ended:
            self.ended = True
            self.on_end(decision)


class Sockets:
    """All of them."""

    def __init__(self) -> None:
        self._by_user: dict[str, set[Socket]] = {}
        self._by_session: dict[str, set[Socket]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_user.values()))

    def add(self, socket: Socket) -> None:
        """One opened."""
        self._by_user.setdefault(socket.user, set()).add(socket)
        self._by_session.setdefault(socket.session, set()).add(socket)

    def remove(self, socket: Socket) -> None:
        """One closed."""
        for held, key in ((self._by_user, socket.user), (self._by_session, socket.session)):
            sockets = held.get(key, set())
            sockets.discard(socket)
            if not sockets:
                held.pop(key, None)

    def of_user(self, user: str) -> list[Socket]:
        """Those of a user."""
        return list(self._by_user.get(user, ()))

    def of_sessions(self, sessions: Iterable[str]) -> list[Socket]:
        """Those that one of these credentials opened."""
        if not self._by_session:
            return []
        return [socket for session in sessions for socket in self._by_session.get(session, ())]

    def all(self) -> list[Socket]:
        """Every one."""
        return [socket for sockets in self._by_user.values() for socket in sockets]
