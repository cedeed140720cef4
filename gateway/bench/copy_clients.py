"""The users of an application of which there are several copies: a process of its own (``python -m
gateway.bench.copy_clients PORT ...``). It obeys commands on stdin, the public methods of `CopyClients`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import picows
import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from gateway.bench.client import Recording
from gateway.bench.http_client import HOST, OK, UNAVAILABLE, Answer, HttpClient
from gateway.bench.obey import obey_async, progress
from gateway.bench.population import PERMISSIONS, username
from gateway.bench.renewal import Renewals

ME, STATS, SOCKET = "/me", "/stats", "/live"
CONNECTIONS = 8
"""Requests under way at each copy while everybody asks it."""
TRIES = 5
AGAIN_S = 1.0
"""A copy that is asked for the first time may find the machine too busy to get an answer from the gateway in time."""
REFUSED = 401
HANDSHAKE_S = 30.0
WITHIN_S = 20.0
"""How long a revocation may take to show."""
LIVE = "live"


class Line(WSListener):
    """A socket of one user at one copy. `closed_at` is monotonic ns, 0 while it is open; `code` is what it was closed
    with."""

    def __init__(self) -> None:
        self.greeted = asyncio.Event()
        self.closed = asyncio.Event()
        self.closed_at = self.code = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Note what a frame says."""
        if frame.msg_type == WSMsgType.CLOSE:
            self.code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big")
            transport.send_close(WSCloseCode.OK)
        else:
            self.greeted.set()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note that the connection is closed."""
        self.closed_at = time.monotonic_ns()
        self.closed.set()
        self.greeted.set()


class Probe:
    """Asks one copy again and again with one token, `spacing_s` apart, until it is refused. Moments are monotonic ns:
    `yes_at` is when the last request that was let in was sent, `asked_at` when the one that was refused was.
    """

    def __init__(self, http: HttpClient, token: str, spacing_s: float) -> None:
        self._http = http
        self._token = token
        self._spacing_s = spacing_s
        self.begun = asyncio.Event()
        self.faults: Counter[str] = Counter()
        self.yes_at = self.asked_at = self.refused_at = 0

    async def run(self) -> None:
        """Ask."""
        while not self.refused_at:
            asked_at = time.monotonic_ns()
            answer = await self._http.get(ME, self._token)
            now = time.monotonic_ns()
            if answer.status == OK:
                self._let_in(answer, asked_at)
            elif answer.status == REFUSED and self.yes_at:
                self.asked_at, self.refused_at = asked_at, now
            else:
                self.faults[f"requests were answered {answer.status}"] += 1
                self.refused_at = -1
            self.begun.set()
            await asyncio.sleep(max(0.0, self._spacing_s - (time.monotonic_ns() - asked_at) / 1e9))

    def _let_in(self, answer: Answer, asked_at: int) -> None:
        if not self.yes_at and answer.json()["source"] != LIVE:
            self.faults["users of whom a copy was not sure"] += 1
        self.yes_at = asked_at


class CopyClients:
    """Everybody's access tokens, and a socket of each at each copy."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._tokens: dict[int, str] = {}
        self._lines: dict[tuple[int, int], Line] = {}
        self._one = [HttpClient([port], 1) for port in ports]
        self._gateway = HttpClient([0], 1)
        self._probes: list[Probe] = []
        self._probing: list[asyncio.Task[None]] = []
        self._done = 0

    # --- beginning ---

    async def sign_in(self, ports: list[int], refresh_tokens: str, users: list[int]) -> dict[str, Any]:
        """Exchange everybody's refresh token at the gateway's nodes."""
        self._gateway = HttpClient(ports, len(ports))
        renewals = Renewals(ports, Path(refresh_tokens), Recording.apart())
        await renewals.exchange(users, self._tokens.__setitem__)
        return {}

    async def meet(self, users: list[int], sockets: bool) -> dict[str, Any]:
        """Each user asks each copy once, and opens a socket there. Raises RuntimeError when one is not let in."""
        self._done = 0
        async with asyncio.TaskGroup() as group:
            for place, port in enumerate(self._ports):
                waiting = iter(users)
                http = HttpClient([port], CONNECTIONS)
                for _ in range(CONNECTIONS):
                    group.create_task(self._meet_each(place, http, waiting, sockets))
        return {}

    async def _meet_each(self, place: int, http: HttpClient, waiting: Iterator[int], sockets: bool) -> None:
        for user in waiting:
            for _ in range(TRIES):
                answer = await http.get(ME, self._tokens[user])
                if answer.status != UNAVAILABLE:
                    break
                await asyncio.sleep(AGAIN_S)
            if answer.status != OK:
                raise RuntimeError(f"user {user} was answered {answer.status} by copy {place}: {answer.body.decode()}")
            if sockets:
                await self._open(place, user)
            self._done += 1
            if self._done % 100 == 0:
                progress(self._done)

    async def _open(self, place: int, user: int) -> None:
        line = Line()
        await picows.ws_connect(
            lambda: line,
            f"ws://{HOST}:{self._ports[place]}{SOCKET}",
            extra_headers={"Authorization": f"Bearer {self._tokens[user]}"},
            websocket_handshake_timeout=HANDSHAKE_S,
        )
        await asyncio.wait_for(line.greeted.wait(), HANDSHAKE_S)
        if line.closed_at:
            raise RuntimeError(f"the socket of user {user} at copy {place} was closed with {line.code}")
        self._lines[place, user] = line

    # --- one user's end ---

    async def probe(self, user: int, spacing_ms: float) -> dict[str, Any]:
        """Ask every copy with this user's token from now on; returns when each has let it in."""
        self._probes = [Probe(http, self._tokens[user], spacing_ms / 1e3) for http in self._one]
        self._probing = [asyncio.ensure_future(probe.run()) for probe in self._probes]
        for probe in self._probes:
            await asyncio.wait_for(probe.begun.wait(), WITHIN_S)
        return {}

    async def verdict(self, user: int) -> dict[str, Any]:
        """Wait until every copy has refused this user's token and closed the socket: a row for each copy with the
        moments of the last request let in, of the one that was refused and of its answer, and of the socket's end.
        """
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*self._probing)
            lines = [self._lines.pop((place, user)) for place in range(len(self._ports))]
            for line in lines:
                await line.closed.wait()
        faults = sum((probe.faults for probe in self._probes), Counter[str]())
        rows = [
            [probe.yes_at, probe.asked_at, probe.refused_at, line.closed_at]
            for probe, line in zip(self._probes, lines, strict=True)
        ]
        return {"rows": rows, "codes": [line.code for line in lines], "faults": dict(faults)}

    async def log_out(self, user: int) -> dict[str, Any]:
        """Log out at the gateway: when that was asked for, and when it was answered."""
        return await self._timed("/auth/logout", {}, self._tokens[user])

    async def log_in(self, user: int, password: str) -> dict[str, Any]:
        """One more login of this user: its access token."""
        answer, _ = await self._gateway.served("/auth/login", {"username": username(user), "password": password})
        if answer.status != OK:
            raise RuntimeError(f"a login was answered {answer.status}")
        return {"token": answer.json()["access_token"]}

    async def change_password(self, token: str, old: str, new: str) -> dict[str, Any]:
        """Change the password by that login, as `log_out`."""
        return await self._timed("/auth/password", {"old_password": old, "new_password": new}, token)

    async def _timed(self, path: str, body: dict[str, str], token: str) -> dict[str, Any]:
        before = time.monotonic_ns()
        answer = await self._gateway.post(path, body, token)
        after = time.monotonic_ns()
        if answer.status != OK:
            raise RuntimeError(f"{path} was answered {answer.status}")
        return {"before": before, "after": after}

    # --- what is true ---

    async def truth(
        self, gone: list[int], denied: list[int], same: list[int], spacing_ms: float, at_once: int, within_s: float
    ) -> dict[str, Any]:
        """Ask every copy, `at_once` requests at a time, until it refuses those who are `gone` and lets in the others
        with the source `live` and all of `PERMISSIONS`, but for the last of them where it was `denied`. For each copy
        the moment at which the last user was answered truly, and how many requests that took.
        """
        wants: list[tuple[int, Callable[[Answer], bool]]] = []
        wants += [(user, lambda answer: answer.status == REFUSED) for user in gone]
        wants += [(user, partial(_is_live, permissions=PERMISSIONS[:-1])) for user in denied]
        wants += [(user, partial(_is_live, permissions=PERMISSIONS)) for user in same]
        deadline = time.monotonic() + within_s
        rows = await asyncio.gather(
            *(self._ask_until_true(port, wants, spacing_ms / 1e3, at_once, deadline) for port in self._ports)
        )
        return {"rows": rows}

    async def _ask_until_true(
        self,
        port: int,
        wants: Sequence[tuple[int, Callable[[Answer], bool]]],
        spacing_s: float,
        at_once: int,
        deadline: float,
    ) -> list[int]:
        http, waiting, told = HttpClient([port], at_once), iter(wants), [0, 0]

        async def ask() -> None:
            for user, is_true in waiting:
                answer = await http.get(ME, self._tokens[user])
                told[1] += 1
                while not is_true(answer):
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"user {user} is still answered {answer.status} {answer.body.decode()}")
                    await asyncio.sleep(spacing_s)
                    answer = await http.get(ME, self._tokens[user])
                    told[1] += 1
                told[0] = max(told[0], time.monotonic_ns())

        await asyncio.gather(*(ask() for _ in range(at_once)))
        http.close()
        return told

    async def counted(self, name: str) -> dict[str, Any]:
        """A counter of the copies', summed over them, by label."""
        total: Counter[str] = Counter()
        for http in self._one:
            total.update((await http.get(STATS)).json()["counters"][name])
        return dict(total)


def _is_live(answer: Answer, permissions: Sequence[str]) -> bool:
    if answer.status != OK:
        return False
    told: dict[str, object] = answer.json()
    return told["source"] == LIVE and told["permissions"] == sorted(permissions)


def main() -> None:
    """Obey on uvloop until stdin ends."""
    clients = CopyClients([int(port) for port in sys.argv[1:]])
    names = ("sign_in", "meet", "probe", "verdict", "log_out", "log_in", "change_password", "truth", "counted")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(obey_async({name: getattr(clients, name) for name in names}))


if __name__ == "__main__":
    main()
