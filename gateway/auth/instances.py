"""Signed requests of server instances: who asks, by which key, and that it is asked for the first time.

    parse ─▶ key ─▶ signature ─▶ instance, address ─▶ sent before? ─▶ rate ─▶ body ─▶ nonce ─▶ Principal

What is not signed learns nothing: an unknown key is answered like a wrong signature, in the same time. Once the
signature is verified it is the instance's doing: its name may stand in the log, and its rate is charged, unless it is a
request of its that somebody sends again. The nonce is last, since it is used up by that; the write that uses it up
looks once more whether the key is in force.
"""

from __future__ import annotations

import base64
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from gateway.core.instant import Instant
from gateway.core.networks import lets_in
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.rate import Allowed, Rates
from gateway.core.sealing import NONCE_BYTES, Sealer
from gateway.core.signatures import AGE_MS, SECRET_BYTES, SKEW_MS, Message, Signature, SignatureRefused, read_signature
from gateway.core.text import make_id
from gateway.errors import AuthFailed, Forbidden, GatewayError, RateLimited, StoreError, Unavailable
from gateway.store.database import Database, Statement
from gateway.store.instances import SealedKey, SigningInstance, find_signing, list_sealed, reseal_key
from gateway.store.nonces import Nonce, Use, prune_nonces, use_nonce

log = logging.getLogger("gateway.auth")

NONCE_LIFE_MS = AGE_MS + SKEW_MS + 60_000
"""How long after its making a nonce is remembered: while any node takes it, the clocks of two being a minute apart."""
SURE_S = 60.0
"""So long a clock has to have said that nonces ended before they are forgotten: a wrong moment does not count."""
RETRY_AFTER_S = 1.0
FULL_RETRY_AFTER_S = 10.0
TOLD_PER_MINUTE = 6
"""How often the log is told that an instance's key is used from a foreign address, or can not be opened."""
BY_SIGNATURE, BY_BEARER = "signature", "bearer"
"""Which of the two credentials of a signed request was not good: the member `credential` of the problem."""
_KID_BYTES = 10
_NOT_VALID = "The signature is not valid."
_USED_BEFORE = "The nonce was used before."


class NewKey(NamedTuple):
    """A key as it is made: `secret` is for its instance alone and shown once, `sealed` is what is stored."""

    kid: str
    secret: str
    sealed: SealedKey

    def __repr__(self) -> str:
        """Without the secret: it stands in tracebacks and logs."""
        return f"NewKey({self.kid!r})"


class Signed(NamedTuple):
    """A request that an instance signed, with the body that it signed."""

    principal: Principal
    body: bytes


def new_key(sealer: Sealer) -> NewKey:
    """A key of 32 random bytes (base64url, RFC 4648 §5, without padding)."""
    kid, secret = make_id("k_", secrets.token_bytes(_KID_BYTES)), secrets.token_bytes(SECRET_BYTES)
    text = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    return NewKey(kid, text, _seal(sealer, kid, secret))


def open_secret(sealer: Sealer, kid: str, sealed: bytes) -> bytes | None:
    """The secret of a key; None where none of the master keys opens it."""
    try:
        return sealer.open(sealed, _context(kid))
    except ValueError:
        return None


def resealed(sealer: Sealer, keys: Iterable[SealedKey]) -> list[Statement]:
    """What puts the secrets under the newest master key that are under an older one."""
    statements = []
    for key in keys:
        plain = None if sealer.is_newest(key.secret) else open_secret(sealer, key.id, key.secret)
        if plain is not None:
            statements.append(reseal_key(key, _seal(sealer, key.id, plain).secret))
    return statements


async def unopened(sealer: Sealer, db: Database) -> list[str]:
    """The keys that none of the master keys opens. Raises `StoreError`."""
    return [key.id for key in await list_sealed(db) if open_secret(sealer, key.id, key.secret) is None]


class Instances:
    """Verifies signed requests. `wall` gives the time in milliseconds since 1970 UTC, `mono` seconds of a clock that
    never goes back. `outcomes` counts what came of the requests. The rates are this process's own.
    """

    def __init__(
        self, database: Database, sealer: Sealer, wall: Callable[[], int], mono: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._wall = wall
        self._mono = mono
        self._rates = Rates()
        self._handshakes = Rates()
        self._told = Rates()
        self._looked: list[Instant] = []
        self._nobody = new_key(sealer).sealed
        self.outcomes: Counter[str] = Counter()

    def new_key(self) -> NewKey:
        """A key for an instance."""
        return new_key(self._sealer)

    async def verify(
        self,
        message: Message,
        address: str,
        body: Callable[[], Awaitable[bytes]],
        told: Callable[[Allowed], None],
        *,
        handshake: bool = False,
    ) -> Signed:
        """Who signed a request that comes from `address`. `body` reads what follows the head, of whoever may send one;
        `told` hears how much the instance may still ask, also when that is nothing or the request is refused. A
        `handshake` is charged apart, by the same rate: whatever an instance is made to ask, it gets its channel.

        Raises `AuthFailed`, `Forbidden` from a foreign address, `RateLimited`, `Unavailable` when it can not be found
        out, and whatever `body` does.
        """
        try:
            signed = await self._verified(message, address, body, told, self._handshakes if handshake else self._rates)
        except _Refused as refused:
            self.outcomes[refused.outcome] += 1
            raise refused.error from None
        except StoreError:
            self.outcomes["unavailable"] += 1
            raise Unavailable("The signature can not be checked now.", retry_after_s=RETRY_AFTER_S) from None
        self.outcomes["accepted"] += 1
        return signed

    async def _verified(
        self,
        message: Message,
        address: str,
        body: Callable[[], Awaitable[bytes]],
        told: Callable[[Allowed], None],
        rates: Rates,
    ) -> Signed:
        try:
            signature = read_signature(message)
        except SignatureRefused as refused:
            raise _Refused("malformed", AuthFailed(str(refused))) from None
        self._require_timely(signature)
        signing = await self._signing(signature)
        told(rates.left(signing.instance.id, signing.instance.requests_per_minute, self._mono()))
        self._require_allowed(signing, signature, address)
        if signing.again:
            raise _Refused("replayed", AuthFailed(_USED_BEFORE))
        self._charge(signing, rates, told)
        content = await body()
        if content and signature.digest is None:
            raise _Refused("digest", AuthFailed("A body has to have its Content-Digest."))
        if signature.digest is not None and not signature.digest.matches(content):
            raise _Refused("digest", AuthFailed("The body is not the one that was signed."))
        self._require_timely(signature)
        await self._use(signature, signing)
        return Signed(_principal(signing, signature.keyid), content)

    async def _signing(self, signature: Signature) -> SigningInstance:
        """Who signed it. The same work is done for a key that nobody has."""
        found = await find_signing(self._database, signature.keyid, signature.nonce)
        kid, sealed = (signature.keyid, found.secret) if found is not None else self._nobody[:2]
        secret = open_secret(self._sealer, kid, sealed)
        if secret is None and self._told.charge(f"key {kid}", TOLD_PER_MINUTE, self._mono()).retry_after_s is None:
            # Whose fault it is has to be seen by whoever runs this gateway, not by whoever asks.
            log.warning("an instance's key can not be opened with this master key", extra={"kid": kid})
        if not signature.made_by(secret or bytes(SECRET_BYTES)) or found is None or secret is None:
            raise _Refused("signature", AuthFailed(_NOT_VALID))
        return found

    def _require_timely(self, signature: Signature) -> None:
        if not signature.is_timely(self._wall()):
            raise _Refused("time", AuthFailed("The signature is too old, from the future, or has ended."))

    def _require_allowed(self, signing: SigningInstance, signature: Signature, address: str) -> None:
        instance = signing.instance
        if instance.status != "active":
            raise _Refused("disabled", AuthFailed("The instance is disabled."))
        if signing.expires_at is not None and signing.expires_at <= self._wall():
            raise _Refused("key_ended", AuthFailed("The key has ended."))
        if not lets_in(instance.networks, address):
            if self._told.charge(instance.id, TOLD_PER_MINUTE, self._mono()).retry_after_s is None:
                told = {"instance": instance.id, "kid": signature.keyid, "address": address}
                log.warning("an instance's key was used from a foreign address", extra=told)
            raise _Refused("address", Forbidden("The instance may not ask from this address."))

    def _charge(self, signing: SigningInstance, rates: Rates, told: Callable[[Allowed], None]) -> None:
        instance = signing.instance
        allowed = rates.charge(instance.id, instance.requests_per_minute, self._mono())
        told(allowed)
        if allowed.retry_after_s is not None:
            error = RateLimited("The instance asks too often.", retry_after_s=round(allowed.retry_after_s, 3))
            raise _Refused("rate_limited", error)

    async def _use(self, signature: Signature, signing: SigningInstance) -> None:
        nonce = Nonce(signature.keyid, signature.nonce, signature.created * 1000 + NONCE_LIFE_MS)
        use = await use_nonce(self._database, nonce, signing.instance.id, self._wall())
        if use is Use.AGAIN:
            raise _Refused("replayed", AuthFailed(_USED_BEFORE))
        if use is Use.NO_KEY:
            raise _Refused("signature", AuthFailed(_NOT_VALID))
        if use is Use.TOO_OLD:
            raise _Refused("time", AuthFailed("The signature is of a time whose nonces are forgotten."))
        if use is Use.FULL:
            text = "The key was used so often that no more nonces can be remembered for it."
            raise _Refused("nonces_full", RateLimited(text, retry_after_s=FULL_RETRY_AFTER_S))

    async def keep_house(self, at: Instant) -> None:
        """Forget nonces that no node takes any more by their age. One node does it. Raises `StoreError`."""
        before = [each for each in self._looked if each.mono <= at.mono - SURE_S]
        self._looked = [*before[-1:], *(each for each in self._looked if each not in before), at]
        if before:
            await prune_nonces(self._database, min(each.wall for each in self._looked), NONCE_LIFE_MS)


class _Refused(Exception):
    """A request that is not let in: what is counted, and what is answered."""

    def __init__(self, outcome: str, error: GatewayError) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.error = error


def _principal(signing: SigningInstance, kid: str) -> Principal:
    return Principal(PrincipalKind.INSTANCE, signing.instance.id, CredentialKind.INSTANCE_KEY, kid, signing.expires_at)


def _seal(sealer: Sealer, kid: str, secret: bytes) -> SealedKey:
    return SealedKey(kid, sealer.seal(secret, _context(kid), secrets.token_bytes(NONCE_BYTES)))


def _context(kid: str) -> str:
    """What a sealed secret is bound to: in another key's row it does not open."""
    return f"instance_keys.secret:{kid}"
