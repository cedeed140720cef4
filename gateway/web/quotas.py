"""Quotas spent over HTTP: the operations of the channel, under the same rules and with the same answers.

Spending hangs on no guard: orders of everybody are one write. That the user is active, and a member where the pool of
an organization is asked for, is decided there; that the credential is good, when the request comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.core.access import SPEND, may_spend
from gateway.core.quotas import Period
from gateway.core.spending import (
    LEASE_TTL_S,
    MOST,
    Balance,
    Order,
    balance_fields,
    lease_fields,
    name_of_instance,
    owner_of,
)
from gateway.core.text import check_id, check_quota
from gateway.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    LeaseExpired,
    LeaseNotFound,
    QuotaExceeded,
    Uncertain,
    Unprocessable,
)
from gateway.store.leases import Held
from gateway.store.plans import MAX_LIMIT
from gateway.store.quotas import Quotas
from gateway.web.answer import answer
from gateway.web.fields import checked, path_name
from gateway.web.idempotency import Key, request_key, required_key
from gateway.web.operation import LEASE_SEGMENT, Call, Operation, Who

Amount = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
LeaseState: TypeAlias = Literal["open", "committed", "released", "expired"]
TtlS = Annotated[float, msgspec.Meta(ge=1, le=LEASE_TTL_S, description="Seconds")]


class Consumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units to take, from a pool of the organization `org` or the own quota; `key` as in ``Idempotency-Key``. `user`
    (an id) is for instances that show no user's token: who spends.
    """

    amount: Amount
    key: Key | UnsetType = UNSET
    org: str | None = None
    user: str | None = None


class Reservation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units to hold for `ttl_s` seconds under the name `lease` (or that in ``Idempotency-Key``), from a pool of the
    organization `org` or the own quota. `user` as in a consumption.
    """

    amount: Amount
    ttl_s: TtlS
    lease: Key | UnsetType = UNSET
    org: str | None = None
    user: str | None = None


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to hold on from now, and how many units to hold besides; those need a `key`, or ``Idempotency-Key``.
    `user` as in a consumption.
    """

    ttl_s: TtlS
    amount: Annotated[int, msgspec.Meta(ge=0, le=MOST)] = 0
    key: Key | UnsetType = UNSET
    user: str | None = None


class Commitment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of the units that are held were used. `user` as in a consumption."""

    amount: Annotated[int, msgspec.Meta(ge=0, le=MAX_LIMIT)]
    user: str | None = None


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing was used. `user` as in a consumption."""

    user: str | None = None


class LeaseOf(msgspec.Struct, frozen=True):
    """Whose lease it is, for instances that show no user's token: the `user`'s (an id)."""

    user: str | None = None


class BalanceShown(msgspec.Struct, frozen=True, kw_only=True):
    """How a quota stands, as documents tell it, at the position `seq` of the change log; `org` says whose pool it is.
    Without `limit`, `reserved`, `remaining` and `hard` it is unlimited, without `resets_at` its period has no end.
    """

    quota: str
    org: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    used: int
    reserved: int | UnsetType = UNSET
    remaining: int | UnsetType = UNSET
    period: Period
    hard: bool | UnsetType = UNSET
    resets_at: str | UnsetType = UNSET
    level: Literal["ok", "low", "critical", "exhausted"]
    cap: int | UnsetType = UNSET
    cap_remaining: int | UnsetType = UNSET
    seq: int


class LeaseShown(BalanceShown, frozen=True, kw_only=True):
    """A lease and how its quota stands; `committed` once it is. `expires_at` is RFC 3339."""

    lease: str
    held: int
    expires_at: str
    state: LeaseState
    committed: int | UnsetType = UNSET


class Spending:
    """The routes below ``api_base`` that spend."""

    def __init__(self, quotas: Quotas, api_base: str) -> None:
        self._quotas = quotas
        self._api_base = api_base

    def operations(self) -> list[Operation]:
        """All of them."""
        quota = f"{self._api_base}/quotas/{{quota}}"
        return [
            Operation(
                *("POST", f"{quota}/consume", self.consume),
                "Take units from a quota, all of them or none; once for each key",
                {200: BalanceShown},
                who=Who.USER_OR_INSTANCE,
                body=Consumption,
                check=_spenders,
                errors=(QuotaExceeded, Conflict),
                writes=True,
                keyed=True,
            ),
            Operation(
                *("POST", f"{quota}/leases", self.reserve),
                "Hold units for work whose cost is not known yet; 200 for a lease that is held already",
                {200: LeaseShown, 201: LeaseShown},
                who=Who.USER_OR_INSTANCE,
                body=Reservation,
                check=_spenders,
                errors=(QuotaExceeded, LeaseExpired, Conflict),
                writes=True,
                keyed=True,
            ),
            *self._of_a_lease(f"{quota}/leases/{{lease}}"),
        ]

    def _of_a_lease(self, lease: str) -> list[Operation]:
        ended = (LeaseNotFound, LeaseExpired, Conflict)
        write: dict[str, Any] = {"answers": {200: LeaseShown}, "who": Who.USER_OR_INSTANCE}
        write |= {"writes": True, "check": self._check}
        return [
            Operation(
                *("GET", lease, self.find),
                "A lease of the caller's, over or not",
                {200: LeaseShown},
                query=LeaseOf,
                who=Who.USER_OR_INSTANCE,
                errors=(LeaseNotFound, Forbidden, Uncertain),
            ),
            Operation(
                *("POST", f"{lease}/extend", self.extend),
                "Hold a lease for longer, and more units with it",
                body=Extension,
                errors=(*ended, QuotaExceeded),
                keyed=True,
                **write,
            ),
            Operation(
                *("POST", f"{lease}/commit", self.commit),
                "Say what was used of a lease; the rest is given back",
                body=Commitment,
                errors=ended,
                **write,
            ),
            Operation(
                *("POST", f"{lease}/release", self.release),
                "Give a lease back",
                body=Release,
                errors=(LeaseNotFound, Conflict),
                **write,
            ),
        ]

    async def consume(self, call: Call) -> Response:
        """All of the amount, or nothing."""
        asked: Consumption = call.body
        quota, spender = path_name(check_quota, call.path["quota"]), _spender(call, asked.user)
        owner, key = _owner(spender, asked.org), _name(call, required_key(call.request, asked.key))
        spent = await self._quotas.spender.consume(Order(spender, owner, quota, asked.amount, key))
        return answer(balance_shown(owner, quota, spent.balance, spent.seq), seq=spent.seq)

    async def reserve(self, call: Call) -> Response:
        """A new lease, or one that is held already."""
        asked: Reservation = call.body
        quota, spender = path_name(check_quota, call.path["quota"]), _spender(call, asked.user)
        owner, lease = _owner(spender, asked.org), required_key(call.request, asked.lease, "the name of a lease")
        if not LEASE_SEGMENT.fullmatch(lease):
            raise Unprocessable("The name of a lease that is used over HTTP stands in paths: it has no / in it.")
        if lease in (".", ".."):
            raise Unprocessable("The name of a lease that is used over HTTP stands in paths: it is not . or ..")
        held = await self._quotas.leases.reserve(spender, owner, quota, asked.amount, _name(call, lease), asked.ttl_s)
        place = f"{self._api_base}/quotas/{quote(quota, safe='')}/leases/{quote(lease, safe='')}"
        status, headers = (201, {"Location": place}) if held.new else (200, {})
        return answer(_lease_shown(held), status=status, seq=held.seq, headers=headers)

    async def find(self, call: Call) -> Response:
        """As it stands."""
        return answer(_lease_shown(await self._named(call, _spender(call, call.query.user))))

    async def extend(self, call: Call) -> Response:
        """For longer, and more."""
        asked: Extension = call.body
        key = (required_key if asked.amount else request_key)(call.request, asked.key)
        return await self._change(
            call,
            lambda spender, lease: self._quotas.leases.extend(
                spender, lease, asked.ttl_s, amount=asked.amount, key=_name(call, key) if key and asked.amount else None
            ),
        )

    async def commit(self, call: Call) -> Response:
        """What was used."""
        amount = call.body.amount
        return await self._change(call, lambda spender, lease: self._quotas.leases.commit(spender, lease, amount))

    async def release(self, call: Call) -> Response:
        """Nothing was."""
        return await self._change(call, self._quotas.leases.release)

    async def _change(self, call: Call, change: Callable[[str, str], Awaitable[Held]]) -> Response:
        """Which quota a lease is of never changes: what was looked at before is so in the write."""
        spender = _spender(call, call.body.user)
        found = await self._named(call, spender)
        held = await change(spender, found.lease.id)
        return answer(_lease_shown(held), seq=held.seq)

    async def _check(self, call: Call) -> None:
        """What a user is refused with; an instance says in the body whose lease it is."""
        if call.user is not None:
            await self._named(call, _spender(call, None))

    async def _named(self, call: Call, spender: str) -> Held:
        """The lease that the path names. Raises LeaseNotFound, also for one of another quota."""
        held = await self._quotas.leases.find(spender, _name(call, call.path["lease"]))
        if held.lease.quota != call.path["quota"]:
            raise LeaseNotFound("No such lease.")
        return held


def balance_shown(owner: str, quota: str, balance: Balance, seq: int) -> BalanceShown:
    """A balance as clients see it."""
    return BalanceShown(**balance_fields(owner, quota, balance), seq=seq)


def _lease_shown(held: Held) -> LeaseShown:
    return LeaseShown(**lease_fields(held.lease, held.balance), seq=held.seq)


def _name(call: Call, name: str) -> str:
    """A key, or the name of a lease, as it is stored: an instance's are its own."""
    return name if call.instance is None else name_of_instance(call.instance.id, name)


async def _spenders(call: Call) -> None:
    """Raises Forbidden for a credential that is narrowed to something else."""
    if call.user is not None:
        _spender(call, None)


def _spender(call: Call, named: str | None) -> str:
    """Who spends: whose token is shown, or whom an instance names that shows none.

    Raises Forbidden for a credential that is narrowed to something else, and whoever names somebody else.
    """
    if call.user is None:
        if named is None:
            raise BadRequest("Whose quota it is has to be said: by the user's token, or by user.")
        return f"user:{checked(check_id, named)}"
    if named is not None and named != call.caller.principal.id:
        raise Forbidden("Only an instance that shows no user's token names a user.")
    if not may_spend(call.caller.principal):
        raise Forbidden(f"This needs the permission {SPEND}.")
    return call.caller.principal.document


def _owner(spender: str, org: str | None) -> str:
    """Whose quota it is."""
    return owner_of(spender, None if org is None else checked(lambda value: check_id(value, "org"), org))
