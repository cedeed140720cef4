"""Access tokens issued and checked, without a look at the database: the keyring and the revocations are at hand."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from gateway.auth.keyring import Keyring
from gateway.auth.void_logins import VoidLogins
from gateway.config import AuthConfig
from gateway.core.access_token import MAX_TOKEN_LENGTH, NOT_VALID, Claims, sign, verify
from gateway.core.text import make_id
from gateway.errors import AuthFailed

VERDICTS = 10_000
"""How many good tokens are remembered: to verify one takes a fifth of a millisecond, to find it again microseconds."""
_ID_BYTES = 16


class AccessTokens:
    """Issues access tokens with the keyring's key and checks them. `wall` gives the time in milliseconds since 1970
    UTC; `verdicts` is how many good tokens are remembered."""

    def __init__(
        self,
        keyring: Keyring,
        revocations: VoidLogins,
        config: AuthConfig,
        wall: Callable[[], int],
        *,
        verdicts: int = VERDICTS,
    ) -> None:
        self._keyring = keyring
        self._revocations = revocations
        self._issuer = config.issuer
        self._audience = config.audience
        self.ttl_ms = config.access_ttl_s * 1000
        """How long the longest access token of this configuration lives, in milliseconds."""
        self._wall = wall
        self._most_verdicts = verdicts
        self._verdicts: OrderedDict[bytes, Claims] = OrderedDict()

    def issue(self, user: str, session: str, client: str = "gateway", until: int | None = None) -> tuple[str, int]:
        """A new access token for a login session, and the moment at which it ends: milliseconds since 1970 UTC, a whole
        second, and never after `until`, the end of the session.

        Raises `Unavailable` when no key of this node signs.
        """
        now = self._wall()
        key = self._keyring.signing_key(now)
        assert key.private is not None
        ends = [now + self.ttl_ms, *(end for end in (until, key.verifies_until) if end is not None)]
        expires_at = min(ends) // 1000 * 1000
        token_id = make_id("at_", secrets.token_bytes(_ID_BYTES))
        claims = Claims(user, session, expires_at, now // 1000 * 1000, token_id, client, key.kid)
        return sign(claims, key.private, issuer=self._issuer, audience=self._audience), expires_at

    def check(self, token: str) -> Claims:
        """What an access token says, when it is good now: signed by a key that still verifies, not ended, its session
        not revoked. Raises AuthFailed with the same sentence for everything else.

        The verdict on a good token is remembered, and void as soon as one of these changes. Bad tokens are not
        remembered, so that nobody who sends many of them makes good ones forgotten.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise AuthFailed(NOT_VALID)
        now = self._wall()
        mark = sha256(token.encode()).digest()
        claims = self._verdicts.get(mark)
        if claims is None:
            claims = self._verify(token, now)
            self._remember(mark, claims)
        elif claims.expires_at <= now or not self._keyring.known(claims.kid, now):
            del self._verdicts[mark]
            raise AuthFailed(NOT_VALID)
        else:
            self._verdicts.move_to_end(mark)
        if self._revocations.void(claims.user, claims.session):
            raise AuthFailed(NOT_VALID)
        return claims

    def _verify(self, token: str, now: int) -> Claims:
        keys = self._keyring.verifying(now)
        return verify(token, keys, issuer=self._issuer, audience=self._audience, now_ms=now)

    def _remember(self, mark: bytes, claims: Claims) -> None:
        self._verdicts[mark] = claims
        if len(self._verdicts) > self._most_verdicts:
            self._verdicts.popitem(last=False)
