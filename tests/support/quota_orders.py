"""What may be asked of quotas."""

from __future__ import annotations

from typing import NamedTuple


class Consume(NamedTuple):
    spender: str
    owner: str
    quota: str
    amount: int
    key: str


class Reserve(NamedTuple):
    spender: str
    owner: str
    quota: str
    amount: int
    lease: str
    ttl_s: int


class Extend(NamedTuple):
    """With a key it adds `amount`, without it asks for time alone."""

    spender: str
    lease: str
    ttl_s: int
    amount: int
    key: str | None


class Commit(NamedTuple):
    spender: str
    lease: str
    amount: int


class Release(NamedTuple):
    spender: str
    lease: str


class Look(NamedTuple):
    """How is the lease?"""

    spender: str
    lease: str


class EndDue(NamedTuple):
    """End what is past its time."""


class Adjust(NamedTuple):
    """A correction by an administrator: so much more, or (`absolute`) so much in all."""

    actor: str
    owner: str
    quota: str
    amount: int
    absolute: bool
    reason: str
    key: str


Order = Consume | Reserve | Extend | Commit | Release | Look | EndDue | Adjust
