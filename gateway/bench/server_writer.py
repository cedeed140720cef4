"""The foreign writer on a libSQL server: a process of its own (``python -m gateway.bench.server_writer DIRECTORY URL
[URL ...]``) that commits through the addresses given, as anybody may. The token is GATEWAY_DATABASE_AUTH_TOKEN.

A commit takes a round trip of a millisecond or more, so several are on their way at once; the changes of one user go
through the same stream, in order. It obeys commands on stdin, the public methods of `ServerWriter`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.bench.board import Board
from gateway.bench.broken import BenchBroken
from gateway.bench.login_population import login_insertions
from gateway.bench.marker import marked_name
from gateway.bench.notes import Notes
from gateway.bench.obey import obey_async, progress
from gateway.bench.population import (
    CHUNK,
    DROP_INSTANCE,
    INSTANCE,
    INSTANCE_KEY,
    LIMIT,
    MARK,
    MARK_AND_PAD,
    PERMISSIONS,
    PLAN,
    QUOTAS,
    REVOKE,
    change_of,
    new_tokens,
    token_id,
    user_id,
    username,
)
from gateway.core.tokens import hash_token
from gateway.errors import StoreUnavailable
from gateway.store.http_streams import HttpServer
from gateway.store.stream import IN_TRANSACTION, Step, Stream, both, succeeded

STREAMS = 3
"""Commits on their way at once. A libSQL server stops taking writes when many writers compete."""

TOGETHER = 20
"""Changes in one transaction, at the most, where a server is too slow to commit each alone."""

TIMEOUT_S = 10.0
COMMANDS = ("populate", "add_logins", "add_instance", "change", "mark", "limit", "pace", "batches")
STALLED_S = 1.0
BUSY_RETRIES = 5
"""A server refuses a commit now and then while it tidies its log; nothing was done then."""

_USERS = (
    "INSERT INTO users (id, username, name, plan) SELECT value ->> 0, value ->> 1, value ->> 2, ? FROM json_each(?)"
)
_TOKENS = (
    "INSERT INTO api_tokens (id, user_id, name, token_hash)"
    " SELECT value ->> 0, value ->> 1, 'bench', value ->> 2 FROM json_each(?)"
)


class Commit(NamedTuple):
    """One statement to commit: its number (0: a revocation), the user, and when it was due (monotonic ns)."""

    number: int
    user: int
    due: int
    step: Step


class ServerWriter:
    """Some streams to the server, and the notes of what they committed."""

    def __init__(self, directory: Path, urls: Sequence[str], token: str | None) -> None:
        self._directory = directory
        self._notes = Notes(directory)
        self._servers = [HttpServer(url, token) for url in urls]
        self._streams: list[Stream] = [self._servers[i % len(urls)].stream() for i in range(STREAMS)]
        self._late = self._transactions = 0

    async def populate(self, count: int) -> dict[str, Any]:
        """Insert `count` users in place of an earlier run's; the answer's `tokens` is the file of their API tokens."""
        if await self._rows("SELECT 1 FROM users WHERE plan <> ? LIMIT 1", PLAN):
            raise BenchBroken("the database has users that are not the benchmark's: name an empty one")
        if await self._rows("SELECT 1 FROM plans WHERE id = ?", PLAN):
            while await self._rows("DELETE FROM users WHERE id IN (SELECT id FROM users LIMIT ?) RETURNING 1", CHUNK):
                pass
            await self._rows("DELETE FROM plans WHERE id = ?", PLAN)
        tokens = self._directory / "tokens"
        secrets = new_tokens(count, tokens)
        await self._all(
            Step("INSERT INTO plans (id, name) VALUES (?, ?)", (PLAN, "Bench")),
            *(Step("INSERT INTO plan_permissions (plan, permission) VALUES (?, ?)", (PLAN, p)) for p in PERMISSIONS),
            *(
                Step(
                    "INSERT INTO plan_quotas (plan, quota, limit_value, period, hard) VALUES (?, ?, ?, 'month', 1)", row
                )
                for row in ((PLAN, quota, limit) for quota, limit in QUOTAS)
            ),
        )
        for start in range(0, count, CHUNK):
            chunk = range(start, min(start + CHUNK, count))
            users = [(user_id(i), username(i), f"User {i:06}") for i in chunk]
            hashes = [(token_id(i), user_id(i), hash_token(secrets[i])) for i in chunk]
            await self._all(Step(_USERS, (PLAN, json.dumps(users))), Step(_TOKENS, (json.dumps(hashes),)))
            progress(chunk.stop)
        return {"tokens": str(tokens)}

    async def add_logins(self, count: int, password_hash: str) -> dict[str, Any]:
        """Give `count` users a password, a login session and a refresh token, as `Writer.add_logins` does."""
        tokens = self._directory / "refresh-tokens"
        for done, statements in login_insertions(count, password_hash, time.time_ns() // 1_000_000, tokens):
            await self._all(*(Step(sql, arguments) for sql, arguments in statements))
            progress(done)
        return {"refresh_tokens": str(tokens)}

    async def add_instance(self, instance: str, kid: str, secret: str) -> dict[str, Any]:
        """Insert a server instance with one key, in place of an earlier run's, as `Writer.add_instance` does."""
        await self._all(
            Step(DROP_INSTANCE, (instance,)),
            Step(INSTANCE, (instance,)),
            Step(INSTANCE_KEY, (kid, instance, bytes.fromhex(secret))),
        )
        return {}

    async def change(self, how: str, users: list[int]) -> dict[str, Any]:
        """Change these users as `change_of` says, a commit each."""
        for user in users:
            step = Step(*change_of(how, user, time.time_ns() // 1_000_000))
            await self._commit(self._streams[0], [Commit(0, user, time.monotonic_ns(), step)])
        return self._notes.collect()

    async def mark(self, user: int) -> dict[str, Any]:
        """Commit one marked change of one user."""
        await self._commit(self._streams[0], [self._marked(user, "", time.monotonic_ns())])
        return self._notes.collect()

    async def limit(self, value: int) -> dict[str, Any]:
        """Commit a new limit of the plan's first quota. Answers monotonic ns."""
        before = time.monotonic_ns()
        await self._rows(LIMIT, value, PLAN, QUOTAS[0][0])
        return {"before": before, "after": time.monotonic_ns()}

    async def pace(
        self, rate: float, users: list[int], revoked: list[int], pad: list[int], pad_bytes: int
    ) -> dict[str, Any]:
        """Commit one row at a time, `rate` a second, as `Writer.pace` does."""
        padded = frozenset(pad)
        spacing = len(users) / (len(revoked) + 1)
        revocations = [(round(spacing * (k + 1)), user) for k, user in enumerate(revoked)]
        started = time.monotonic_ns()
        self._late = self._transactions = 0
        queues: list[asyncio.Queue[Commit | None]] = [asyncio.Queue() for _ in self._streams]
        async with asyncio.TaskGroup() as group:
            for stream, queue in zip(self._streams, queues, strict=True):
                group.create_task(self._work(stream, queue))
            for position, user in enumerate(users):
                due = started + round(position * 1e9 / rate)
                await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
                text = f"{self._notes.number:016}" * (pad_bytes // 16) if user in padded else ""
                queues[user % STREAMS].put_nowait(self._marked(user, text, due))
                while revocations and revocations[0][0] <= position:
                    _, gone = revocations.pop(0)
                    step = Step(REVOKE, (time.time_ns() // 1_000_000, token_id(gone)))
                    queues[gone % STREAMS].put_nowait(Commit(0, gone, due, step))
                if position % 256 == 0:
                    progress(position)
            for queue in queues:
                queue.put_nowait(None)
        return {**self._notes.collect(), "late_ms": self._late / 1e6, "transactions": self._transactions}

    async def batches(self, seconds: float, batch: int, window: int, sessions: int, board: str) -> dict[str, Any]:
        """Change all users again and again, `batch` of them a transaction, as `Writer.batches` does."""
        seen = Board(Path(board))
        deadline = time.monotonic() + seconds
        user = done = 0
        while time.monotonic() < deadline:
            users = [(user + k) % sessions for k in range(batch)]
            user = (user + batch) % sessions
            commits = [self._marked(one, "", 0) for one in users]
            before = time.monotonic_ns()
            await self._all(*(commit.step for commit in commits))
            after = time.monotonic_ns()
            for commit in commits:
                self._notes.add(commit.number, commit.user, before, after)
            done += batch
            progress(done)
            stalled = min(deadline, time.monotonic() + STALLED_S)
            # The board is another process's: there is nothing to wait for but time.
            while self._notes.number - seen.least() > window and time.monotonic() < stalled:  # noqa: ASYNC110
                await asyncio.sleep(0.0005)
        return self._notes.collect()

    def _marked(self, user: int, pad: str, due: int) -> Commit:
        number = self._notes.take()
        name = marked_name(number)
        step = Step(MARK_AND_PAD, (name, pad, user_id(user))) if pad else Step(MARK, (name, user_id(user)))
        return Commit(number, user, due, step)

    async def _work(self, stream: Stream, queue: asyncio.Queue[Commit | None]) -> None:
        """Commit what is due; what became due while the last commit was on its way goes together."""
        ended = False
        while not ended:
            taken = [await queue.get()]
            while not queue.empty() and len(taken) < TOGETHER:
                taken.append(queue.get_nowait())
            ended = taken[-1] is None
            if commits := [commit for commit in taken if commit is not None]:
                self._late = max(self._late, time.monotonic_ns() - commits[0].due)
                await self._commit(stream, commits)

    async def _commit(self, stream: Stream, commits: Sequence[Commit]) -> None:
        steps = [commit.step for commit in commits]
        if len(steps) > 1:
            chained = [step._replace(condition=succeeded(place)) for place, step in enumerate(steps)]
            end = [Step("COMMIT", (), succeeded(len(steps))), Step("ROLLBACK", (), IN_TRANSACTION)]
            steps = [Step("BEGIN IMMEDIATE"), *chained, *end]
        for _ in range(BUSY_RETRIES):
            before = time.monotonic_ns()
            outcomes = await stream.batch(steps, timeout_s=TIMEOUT_S)
            after = time.monotonic_ns()
            refused = next((outcome.error for outcome in outcomes if outcome.error), None)
            if not isinstance(refused, StoreUnavailable):
                break
        if refused is not None:
            raise refused
        if sum(outcome.changed for outcome in outcomes) != len(commits):
            raise BenchBroken("not each commit changed one row")
        self._transactions += 1
        for commit in commits:
            self._notes.add(commit.number, commit.user, before, after)

    async def _rows(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        stream = self._servers[0].stream()
        [outcome] = await stream.batch([Step(sql, args)], timeout_s=TIMEOUT_S)
        await stream.close()
        if outcome.error is not None:
            raise outcome.error
        return outcome.rows

    async def _all(self, *steps: Step) -> None:
        """All of the steps in one transaction."""
        stream = self._servers[0].stream()
        chained = [step._replace(condition=succeeded(i)) for i, step in enumerate(steps)]
        commit = Step("COMMIT", (), both(succeeded(len(steps)), IN_TRANSACTION))
        outcomes = await stream.batch([Step("BEGIN IMMEDIATE"), *chained, commit], timeout_s=TIMEOUT_S)
        await stream.close()
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error


async def main() -> None:
    """Obey until stdin ends."""
    directory, *urls = sys.argv[1:]
    writer = ServerWriter(Path(directory), urls, os.environ.get("GATEWAY_DATABASE_AUTH_TOKEN"))
    await obey_async({name: getattr(writer, name) for name in COMMANDS})


if __name__ == "__main__":
    asyncio.run(main())
