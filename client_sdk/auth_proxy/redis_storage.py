"""Redis as the storage of several workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from client_sdk.auth_proxy.storage import Batch, StorageUnavailable, StoredFact, StoredToken
from client_sdk.settings import checked_settings, seconds, seconds_from_0

T = TypeVar("T")
Command = tuple[str | bytes | int, ...]

_FACT = msgspec.json.Decoder(StoredFact)
_TOKEN = msgspec.json.Decoder(StoredToken)
_SET_NEWER = """
local held = redis.call('GET', KEYS[1])
if held then
  local ok, fact = pcall(cjson.decode, held)
  if ok and fact.gateway == ARGV[4] and fact.known_at > tonumber(ARGV[3]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1"""
CHUNK = 500
"""Commands sent together."""


class RedisStorage:
    """A `Storage` in Redis, which has to be the application's own: who can write to it can let anybody in, and it
    holds users' documents. It holds hashes of tokens, never tokens.

    `url` is ``redis://…``, ``rediss://…`` or ``unix://…``; `prefix` begins every key. What takes longer than
    `timeout_s` fails; after a failure nothing is asked for `pause_s`. It needs the package redis.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "auth_proxy:",
        timeout_s: float = 0.25,
        pause_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        checked_settings({"timeout_s": seconds, "pause_s": seconds_from_0}, timeout_s=timeout_s, pause_s=pause_s)
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        self._errors: tuple[type[BaseException], ...] = (RedisError, OSError, TimeoutError)
        self._redis = Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._clock = clock
        self._silent_until = 0.0

    async def read(self, docs: Iterable[str]) -> dict[str, StoredFact]:
        """The documents of these names that are stored."""
        names = list(docs)
        values = await self._do(lambda: self._redis.mget([self._key("doc", doc) for doc in names]))
        found = ((doc, _decoded(_FACT, value)) for doc, value in zip(names, values, strict=True))
        return {doc: fact for doc, fact in found if fact is not None and not fact.gone}

    async def read_token(self, mark: bytes) -> StoredToken | None:
        """What is stored of a token."""
        return _decoded(_TOKEN, await self._do(lambda: self._redis.get(self._key("token", mark.hex()))))

    async def read_revoked(self, now: int) -> set[str]:
        """Every id that is revoked, and may be alive yet at `now`."""
        key = self._key("revoked")
        ids = await self._do(lambda: self._redis.zrangebyscore(key, f"({now}", "+inf"))
        return {cast("bytes", id).decode() for id in ids}

    async def write(self, batch: Batch, *, fact_ttl_s: float, token_ttl_s: float) -> None:
        """Store these for so long at most."""
        fact_ms, token_ms = int(fact_ttl_s * 1000), int(token_ttl_s * 1000)
        revoked, now = self._key("revoked"), int(time.time() * 1000)
        # What forbids goes first.
        commands: list[Command] = [("ZREMRANGEBYSCORE", revoked, "-inf", now)] if batch.revoked else []
        commands += [("ZADD", revoked, "GT", until, id) for id, until in batch.revoked.items()]
        for doc, fact in sorted(batch.facts.items(), key=lambda entry: not entry[1].gone):
            key, value = self._key("doc", doc), msgspec.json.encode(fact)
            commands += [("EVAL", _SET_NEWER, 1, key, value, fact_ms, fact.known_at, fact.gateway)]
        for mark, token in batch.tokens.items():
            commands += [("SET", self._key("token", mark.hex()), msgspec.json.encode(token), "PX", token_ms)]
        for start in range(0, len(commands), CHUNK):
            await self._do(partial(self._pipe, commands[start : start + CHUNK]))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    async def _pipe(self, commands: Iterable[Command]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            await pipe.execute()

    async def _do(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._clock() < self._silent_until:
            raise StorageUnavailable("Redis did not answer a moment ago.")
        try:
            async with asyncio.timeout(self._timeout_s * 2):
                return await work()
        except self._errors as error:
            self._silent_until = self._clock() + self._pause_s
            raise StorageUnavailable(f"Redis does not answer: {error or type(error).__name__}") from error

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}{kind}:{name}" if name else f"{self._prefix}{kind}"


def _decoded(decoder: msgspec.json.Decoder[T], value: Any) -> T | None:
    """What was stored; None for nothing, and for what no version of this wrote."""
    try:
        return None if value is None else decoder.decode(cast("bytes", value))
    except (msgspec.DecodeError, UnicodeError):
        return None
