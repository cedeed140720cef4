"""A storage in memory that notes what is written to it, and that can fail."""

from __future__ import annotations

from collections.abc import Iterable

from client_sdk.auth_proxy import Batch, MemoryStorage, StoredFact, StoredToken


class NotingStorage:
    """`written` is all that it was told since it knew nothing. While it does not `works` it fails as no protocol says.
    `asked` counts questions about what is revoked, `looks` those about nothing: whether it is back.
    """

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.asked = 0
        self.looks = 0
        self.lose_everything()

    def lose_everything(self) -> None:
        self._held = MemoryStorage()
        self.written = Batch()

    def lose_revoked(self, *lost: str) -> None:
        """Keep documents and tokens, and of what is revoked all but these, or nothing."""
        held, self.written.revoked = self.written.revoked, {}
        self._held._revoked = {id: until for id, until in held.items() if lost and id not in lost}

    async def read(self, docs: Iterable[str]) -> dict[str, StoredFact]:
        names = list(docs)
        self.looks += not names
        self._try()
        return await self._held.read(names)

    async def read_token(self, mark: bytes) -> StoredToken | None:
        self._try()
        return await self._held.read_token(mark)

    async def read_revoked(self, now: int) -> set[str]:
        self.asked += 1
        self._try()
        return await self._held.read_revoked(now)

    async def write(self, batch: Batch, *, fact_ttl_s: float, token_ttl_s: float) -> None:
        self._try()
        await self._held.write(batch, fact_ttl_s=fact_ttl_s, token_ttl_s=token_ttl_s)
        self.written.facts |= batch.facts
        self.written.tokens |= batch.tokens
        self.written.revoked |= batch.revoked

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _try(self) -> None:
        if not self.works:
            raise RuntimeError("this is no StorageUnavailable")
