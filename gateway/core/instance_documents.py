"""What server instances watch beside users and organizations: their own document, what is revoked, and the public keys.

The last two have a section for each credential or key: a change of one compares the others and decodes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.core.clock import rfc3339
from gateway.core.document import Document, WideDocument, canonical

EVERYTHING = "*"
"""Stands for those that are not named, where too many were revoked."""
STEP_MS = 10_000
"""Moments at which entries leave are whole multiples of this: they leave together."""


class Revoked(NamedTuple):
    """A credential that was revoked: when that became known, and until when somebody may believe it (milliseconds since
    1970 UTC)."""

    id: str
    noted_at: int
    until: int


class KeyFacts(NamedTuple):
    """A key of an instance; times in milliseconds since 1970 UTC, `expires_at` None: no end."""

    kid: str
    created_at: int
    expires_at: int | None


class InstanceFacts(NamedTuple):
    """What an instance's document is made of. `networks` None: the list can not be read."""

    id: str
    name: str
    status: str
    networks: list[str] | None
    requests_per_minute: int
    created_at: int
    updated_at: int
    keys: tuple[KeyFacts, ...]

    @property
    def active(self) -> bool:
        """Whether it may do anything."""
        return self.status == "active"


class Timed(NamedTuple):
    """A document, and when it changes by the clock (milliseconds since 1970 UTC; None: never)."""

    document: Document
    changes_at: int | None = None


def instance_document(facts: InstanceFacts) -> Timed:
    """An instance's own document. Raises ValueError for a moment that RFC 3339 has no words for."""
    identity = {
        "id": facts.id,
        "name": facts.name,
        "status": facts.status,
        "created_at": rfc3339(facts.created_at),
        "updated_at": rfc3339(facts.updated_at),
    }
    limits: dict[str, Any] = {"requests_per_minute": facts.requests_per_minute}
    if facts.networks is not None:
        limits["networks"] = facts.networks
    keys = {key.kid: _key(key) for key in facts.keys}
    sections = (("identity", identity), ("keys", keys), ("limits", limits))
    return Timed(Document((name, canonical(value)) for name, value in sections))


def revocations_document(revoked: Sequence[Revoked], most: int) -> Timed:
    """What is revoked, of the newest first: by the id of each credential, until when somebody may believe it.

    Where there are more than `most`, the newest `most` are named, and `EVERYTHING` is the moment from which on
    everything that was revoked is named.
    """
    entries = {each.id: -(-each.until // STEP_MS) * STEP_MS for each in revoked[:most]}
    moments = [*entries.values()]
    if len(revoked) > most:
        moments.append(-(-revoked[most].until // STEP_MS) * STEP_MS)
        entries[EVERYTHING] = revoked[most].noted_at + 1
    document = WideDocument((credential, b'"%b"' % rfc3339(moment).encode()) for credential, moment in entries.items())
    return Timed(document, min(moments, default=None))


def keys_document(jwks: Mapping[str, Any], changes_at: int | None) -> Timed:
    """The public keys that verify access tokens, of a key set (RFC 7517), each by its `kid`."""
    return Timed(WideDocument((key["kid"], canonical(key)) for key in jwks["keys"]), changes_at)


def _key(key: KeyFacts) -> dict[str, str]:
    dates = {"created_at": rfc3339(key.created_at)}
    return dates if key.expires_at is None else {**dates, "expires_at": rfc3339(key.expires_at)}
