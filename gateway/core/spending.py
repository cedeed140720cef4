"""What is asked of a quota, and the balance that it leaves."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from gateway.core.clock import rfc3339
from gateway.core.quotas import Limit, period_bounds, quota_entry

MOST = 2**31
"""The most units in one request."""
KEY_LENGTH = 128
"""Characters in a key or in the name of a lease, at the most."""
LEASE_TTL_S = 3600
"""The longest time, in seconds, that a lease is held without being extended."""
_INSTANCE, _ENDS = "instance:", "\x1f"


def owner_of(spender: str, organization: str | None) -> str:
    """Whose quota is asked for: the spender's own, or the pool of an organization."""
    return spender if organization is None else f"org:{organization}"


def name_of_instance(instance: str, name: str) -> str:
    """A key or the name of a lease as it is stored where an instance asks, for whomever: who is metered neither takes
    nor ends what the instance named. U+001F is in no name that is taken from anybody."""
    return f"{_INSTANCE}{instance}{_ENDS}{name}"


def split_name(stored: str) -> tuple[str | None, str]:
    """The instance that asked, None for a user's own asking, and the name as it was given."""
    instance, ends, name = stored.partition(_ENDS)
    return (instance.removeprefix(_INSTANCE), name) if ends and instance.startswith(_INSTANCE) else (None, stored)


class Order(NamedTuple):
    """Units to take from a quota. `spender` asks (``user:ID``), `owner` has the quota (``user:ID`` or ``org:ID``);
    `key` is the spender's name for this request: shown again, it is this one.
    """

    spender: str
    owner: str
    quota: str
    amount: int
    key: str


class Basis(NamedTuple):
    """What a period is worked out from: see `period_bounds`."""

    timezone: str
    anchor_at: int | None
    period: str

    def bounds(self, now_ms: int) -> tuple[int, int | None]:
        """The period around `now_ms`, milliseconds since 1970 UTC. Raises ValueError as `period_bounds` does."""
        return period_bounds(self.period, self.anchor_at, self.timezone, now_ms)


class Balance(NamedTuple):
    """How a quota stands in the period that ends at `period_end` (None: never). Of a pool `cap` is how much the member
    may take of it (None: no cap), and `member_taken` what the member has taken.
    """

    limit: Limit
    used: int
    reserved: int
    period_end: int | None
    cap: int | None = None
    member_taken: int = 0

    def entry(self) -> dict[str, Any]:
        """As documents tell it: `quota_entry`, with `cap` and `cap_remaining` where there is a cap."""
        entry = quota_entry(self.limit, self.used, self.reserved, self.period_end)
        if self.cap is not None:
            entry["cap"] = self.cap
            entry["cap_remaining"] = max(0, self.cap - self.member_taken)
        return entry

    def leaves(self) -> int | None:
        """How much more may be taken; None: any amount."""
        limit = self.limit
        left = None if limit.limit is None or not limit.hard else max(0, limit.limit - self.used - self.reserved)
        if self.cap is None:
            return left
        left_of_cap = max(0, self.cap - self.member_taken)
        return left_of_cap if left is None else min(left, left_of_cap)


class Spent(NamedTuple):
    """An order that was carried out: the balance that it left, at the position `seq` of the change log."""

    balance: Balance
    seq: int


class LeaseFacts(Protocol):
    """What is told of a lease; `expires_at` in milliseconds since 1970 UTC."""

    @property
    def id(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def quota(self) -> str: ...
    @property
    def held(self) -> int: ...
    @property
    def committed(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def expires_at(self) -> int: ...


def balance_fields(owner: str, quota: str, balance: Balance) -> dict[str, Any]:
    """A balance as clients see it, by whatever way they ask; `org` says whose pool it is."""
    fields = {"quota": quota, **balance.entry()}
    if owner.startswith("org:"):
        fields["org"] = owner[4:]
    return fields


def lease_fields(lease: LeaseFacts, balance: Balance) -> dict[str, Any]:
    """A lease and how its quota stands, as clients see them; `committed` once it is."""
    fields = balance_fields(lease.owner, lease.quota, balance)
    if lease.state == "committed":
        fields["committed"] = lease.committed
    return fields | {
        "lease": split_name(lease.id)[1],
        "state": lease.state,
        "held": lease.held,
        "expires_at": rfc3339(lease.expires_at),
    }
