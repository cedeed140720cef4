"""What is known beside users and tokens: what is revoked, which keys are in force, and how old that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from joserfc.jwk import OKPKey

from client_sdk.auth_proxy.access_token import read_keys
from client_sdk.auth_proxy.facts import (
    EVERYTHING,
    INFINITE,
    KEYS,
    NOTHING,
    REVOCATIONS,
    Fact,
    VerifiedToken,
    World,
    milliseconds,
)
from client_sdk.replica import Held

LONGEST_WORD_S = 12 * 3600.0
"""For so long the gateway's word on an API token is believed; its list of revocations has them for twice as long."""
APART_S = 60.0
"""How far the gateway's clock and this one may be apart."""


class Evidence:
    """The channel's copies, and facts of an earlier time. Times are as those of a `DecisionCache`."""

    def __init__(self, world: World) -> None:
        self.enter(world)
        self._facts: dict[str, Fact] = {}
        self._revoked: Mapping[str, Any] = NOTHING
        self._unnamed = ("", -INFINITE)
        self._keys: dict[str, OKPKey] = {}
        self._keys_read: Mapping[str, Any] = NOTHING

    def enter(self, world: World) -> None:
        """From now on this is what the channel holds."""
        self.world = world
        self._copies = world.copies

    def remember(self, doc: str, fact: Fact) -> None:
        """``keys`` or ``revocations`` as they were known earlier."""
        earlier = self._facts.get(doc)
        if earlier is None or earlier.known_at <= fact.known_at:
            self._facts[doc] = fact

    def revoke(self, ids: Iterable[str]) -> None:
        """These are known to be revoked, until the channel's own list is exact and vouched for."""
        self._revoked = {**self._revoked, **dict.fromkeys(ids)}

    def caught_up(self) -> None:
        """The channel's list is exact and vouched for: what was known beside it is of an earlier time."""
        self._revoked = NOTHING

    def _is_revoked(self, verified: VerifiedToken, revocations: Held | None, now: float) -> bool:
        """The channel's word counts alone while the gateway vouches for it; else whatever is known beside it."""
        if revocations is not None:
            if verified.session in revocations.data:
                return True
            if revocations.exact and self.world.known_at(now) == now:
                return False
        return verified.session in self._revoked

    def _believed_since(self, revocations: Held | None, verified: VerifiedToken, now: float, wall: int) -> float:
        """How old the gateway's own word on a token may be: no older than what the list does not name; and an API
        token's is asked for before the gateway forgets that it was revoked.
        """
        since = -INFINITE if verified.kid is not None else now - LONGEST_WORD_S
        if revocations is not None and revocations.rev is not None:
            told = revocations.data.get(EVERYTHING)
            if told is not None:
                if self._unnamed[0] != told:
                    self._unnamed = (told, now)
                since = max(since, _covered_since(told, self._unnamed[1], now, wall))
            if revocations.exact and self.world.known_at(now) == now:
                return since
        fact = self._facts.get(REVOCATIONS)
        if fact is not None and (told := fact.data.get(EVERYTHING)) is not None:
            since = max(since, _covered_since(told, fact.known_at, now, wall))
        return since

    def _token_age(self, verified: VerifiedToken, revocations: Held | None, now: float) -> float:
        """How long ago it was known that the token is not revoked, and its key in force."""
        age = self._age(REVOCATIONS, now, revocations)
        if verified.kid is not None:
            age = max(age, self._age(KEYS, now))
        return min(age, now - verified.good_at) if age > 0 else 0.0

    def _age(self, doc: str, now: float, held: Held | None = None) -> float:
        held = held or self._copies.get(doc)
        age = INFINITE if held is None or held.rev is None else self._age_of(held, now)
        fact = self._facts.get(doc)
        return age if fact is None else max(0.0, min(age, now - fact.known_at))

    def _age_of(self, held: Held, now: float) -> float:
        known_at = self.world.known_at(now) if held.exact else held.known_at
        return INFINITE if known_at is None else max(0.0, now - known_at)

    def _read_keys(self) -> Mapping[str, OKPKey]:
        held = self._copies.get(KEYS)
        if held is not None and held.rev is not None:
            data = held.data
        else:
            fact = self._facts.get(KEYS)
            data = NOTHING if fact is None else fact.data
        if data is not self._keys_read:
            self._keys, self._keys_read = read_keys(data), data
        return self._keys


def _covered_since(told: Any, seen_at: float, now: float, wall: int) -> float:
    """Since when a revocation has a name in the list, where `told` is the moment before which it may have none. What
    the gateway said after that was seen is true in any case, however far apart the clocks are.
    """
    moment = milliseconds(told) if isinstance(told, str) else None
    return seen_at if moment is None else min(seen_at, now - (wall - moment) / 1000 + APART_S)
