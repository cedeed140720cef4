"""The keys that sign access tokens: which one signs now, which verify, how they are replaced.

A key's life: it is published (`jwks`) before it signs, so that whoever verifies tokens has it in time; it signs until a
newer one does; it verifies until the last token that it signed has ended. Rows say all of that; every node reads them
again when the change log tells of ``keys``.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from joserfc.jwk import OKPKey

from gateway.core.access_token import (
    SEED_BYTES,
    check_library,
    key_id,
    private_key,
    public_jwk,
    public_key,
)
from gateway.core.clock import CLOCK_SKEW_MS
from gateway.core.sealing import NONCE_BYTES, Sealer
from gateway.errors import ConfigError, Unavailable
from gateway.store.audit import Store
from gateway.store.driver import Reader, Statement
from gateway.store.keys import (
    SigningKeyRow,
    add_first_key,
    add_key,
    delete_ended,
    delete_keys,
    end_keys,
    list_keys,
    reseal,
)

log = logging.getLogger("gateway.auth")

LEAD_MS = 600_000
"""How long a new key is published before it signs, unless somebody wants it otherwise: longer than others keep a key
set that they have fetched."""

_NOT_OPENED = (
    "auth.master_key: does not open the signing keys of this database; bring the key that sealed them,"
    " or replace them, which ends every login's access token: gateway keys rotate --discard"
)


class SigningKey(NamedTuple):
    """One key: `private` is None where the master key does not open it. Times in milliseconds since 1970 UTC."""

    kid: str
    public: OKPKey
    private: OKPKey | None
    signs_from: int
    verifies_until: int | None

    def __repr__(self) -> str:
        """Without the keys: it stands in tracebacks and logs."""
        return f"SigningKey({self.kid!r}, signs_from={self.signs_from}, verifies_until={self.verifies_until})"


class Rotated(NamedTuple):
    """A new key: it signs from `signs_from` on; `seq` is that of the commit."""

    kid: str
    signs_from: int
    seq: int


Key = TypeVar("Key", SigningKey, SigningKeyRow)


def in_force(key: SigningKey | SigningKeyRow, now: int) -> bool:
    """Whether the key verifies at `now`, or will once it signs."""
    return key.verifies_until is None or key.verifies_until > now


def signer(keys: Iterable[Key], now: int) -> Key | None:
    """The key that signs at `now`: of those whose time has come the one that verifies longest, which is the newest;
    where none has begun (clocks differ) the first that will. None when no key is in force."""
    alive = [key for key in keys if in_force(key, now)]
    begun = [key for key in alive if key.signs_from <= now]
    if begun:
        return max(begun, key=lambda key: (key.verifies_until or math.inf, key.signs_from, key.kid))
    return min(alive, key=lambda key: (key.signs_from, key.kid), default=None)


def open_key(sealer: Sealer, row: SigningKeyRow) -> OKPKey | None:
    """The private part of a key; None where none of the master keys opens it."""
    try:
        return private_key(sealer.open(row.private_key, _context(row.kid)))
    except ValueError:
        return None


class Keyring:
    """The keys as this process knows them, opened with `sealer`. `load` or `ensure` fills it; what it answers is as old
    as the last of these calls.

    A token lasts up to `access_ttl_s` seconds, and so long an old key goes on verifying. Raises `ConfigError` where
    the installed joserfc is too old to be trusted.
    """

    def __init__(self, sealer: Sealer, access_ttl_s: int) -> None:
        check_library()
        self._sealer = sealer
        self._access_ttl_ms = access_ttl_s * 1000
        self._keys: Mapping[str, SigningKey] = {}

    def __repr__(self) -> str:
        """Without the keys: it stands in tracebacks and logs."""
        return f"Keyring({', '.join(self._keys)})"

    # --- what it answers ---

    def signing_key(self, now: int) -> SigningKey:
        """The key that signs at `now`, its private part opened. Raises `Unavailable` when there is none: the master
        key of this node does not open the newer ones, which an operator has to mend."""
        found = signer((key for key in self._keys.values() if key.private is not None), now)
        if found is None:
            raise Unavailable("No token can be issued now.")
        return found

    def verifying(self, now: int) -> dict[str, OKPKey]:
        """The public keys that verify tokens at `now`, by their `kid`: also one that does not sign yet, which another
        node's clock may already let sign."""
        return {kid: key.public for kid, key in self._keys.items() if in_force(key, now)}

    def known(self, kid: str, now: int) -> bool:
        """Whether tokens signed by this key are good at `now`. A `kid` never stands for another key."""
        key = self._keys.get(kid)
        return key is not None and in_force(key, now)

    def jwks(self, now: int) -> dict[str, Any]:
        """The key set (RFC 7517 §5) with every key that verifies at `now` or is going to sign; public parts only."""
        return {"keys": [public_jwk(key.public) for key in self._keys.values() if in_force(key, now)]}

    def next_end(self, now: int) -> int | None:
        """When the next of these keys ends; None where none does."""
        ends = (key.verifies_until for key in self._keys.values() if in_force(key, now))
        return min((end for end in ends if end is not None), default=None)

    # --- rows ---

    async def load(self, reader: Reader) -> None:
        """Read the keys anew. One that was open stays open, whatever it is sealed with now; those that can not be
        opened go on verifying; rows that are no keys are left out. The last two are logged. Raises `StoreError`, and
        what was known stays."""
        self._take(await list_keys(reader))
        self._tell_of_closed()

    async def ensure(self, db: Store, now: int) -> None:
        """Read the keys at the start of a node, after making the first one where there is none; several nodes that
        start together agree on one.

        Raises `ConfigError` when the master key does not open the key that signs or one that is going to, `StoreError`.
        """
        rows = await list_keys(db)
        if signer(rows, now) is None:
            await db.write(add_first_key(self._new_row(now, signs_from=now), now))
            rows = await list_keys(db)
        self._take(rows)
        self.require_opened(now)
        self._tell_of_closed()

    async def rotate(
        self, db: Store, now: int, *, lead_ms: int = LEAD_MS, discard: bool = False, also: Iterable[Statement] = ()
    ) -> Rotated:
        """Make a new key, which signs after `lead_ms`. The older ones verify until all they signed has ended, their
        private parts are sealed under the newest master key, and those that have ended are removed. `also` is a part
        of the same write.

        With `discard` the older ones are removed at once, and every access token with them: the new key signs from now
        on. Without it ConfigError when the master key does not open the present keys, for then it would not be the one
        that the nodes have. Raises `StoreError`.
        """
        rows = await list_keys(db)
        self._take(rows)
        at_once = discard or signer(rows, now) is None
        if not at_once:
            self.require_opened(now)
        row = self._new_row(now, signs_from=now if at_once else now + lead_ms)
        if discard:
            older = [delete_keys(row.kid)]
        else:
            last_end = row.signs_from + self._access_ttl_ms + CLOCK_SKEW_MS
            older = [delete_ended(now), end_keys(row.kid, last_end), *self._resealed(rows)]
        written = await db.write(add_key(row), *older, *also)
        await self.load(db)
        return Rotated(row.kid, row.signs_from, written.seq)

    def _take(self, rows: Iterable[SigningKeyRow]) -> None:
        keys = {}
        for row in rows:
            try:
                public = public_key(row.public_key)
                if key_id(public) != row.kid:
                    raise ValueError("the kid belongs to another key")
            except ValueError as error:
                log.warning("a signing key can not be used", extra={"kid": row.kid, "reason": str(error)})
                continue
            known = self._keys.get(row.kid)
            private = (known and known.private) or open_key(self._sealer, row)
            keys[row.kid] = SigningKey(row.kid, public, private, row.signs_from, row.verifies_until)
        self._keys = keys

    def _tell_of_closed(self) -> None:
        for key in self._keys.values():
            if key.private is None:
                log.warning("a signing key can not be opened with this master key", extra={"kid": key.kid})

    def require_opened(self, now: int) -> None:
        """Raises ConfigError unless the key that signs now and all that follow it are open here."""
        present = signer(self._keys.values(), now)
        following = [key for key in self._keys.values() if in_force(key, now) and key.signs_from > now]
        if present is None or any(key.private is None for key in (present, *following)):
            raise ConfigError(_NOT_OPENED)

    def _new_row(self, now: int, *, signs_from: int) -> SigningKeyRow:
        seed = secrets.token_bytes(SEED_BYTES)
        key = private_key(seed)
        kid = key_id(key)
        sealed = self._sealer.seal(seed, _context(kid), secrets.token_bytes(NONCE_BYTES))
        return SigningKeyRow(kid, msgspec.json.encode(public_jwk(key)).decode(), sealed, now, signs_from)

    def _resealed(self, rows: Iterable[SigningKeyRow]) -> Iterable[Statement]:
        """What puts private parts under the newest master key that are under an older one."""
        for row in rows:
            if not self._sealer.is_newest(row.private_key) and open_key(self._sealer, row) is not None:
                plain = self._sealer.open(row.private_key, _context(row.kid))
                yield reseal(row, self._sealer.seal(plain, _context(row.kid), secrets.token_bytes(NONCE_BYTES)))


def _context(kid: str) -> str:
    """What a sealed private part is bound to: in another key's row it does not open."""
    return f"signing_keys.private_key:{kid}"
