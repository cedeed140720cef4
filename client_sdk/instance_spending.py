"""Quotas of users, spent by an application's server in their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from client_sdk.errors import ChannelError, Disconnected, MalformedMessage, Unavailable
from client_sdk.http import parse_answer
from client_sdk.keys import LONGEST_KEY, checked_amount, checked_key, checked_name, checked_ttl, new_key
from client_sdk.quota import Balance
from client_sdk.spending import UNDECIDED

T = TypeVar("T", bound=Balance)


class Reservation(Balance, frozen=True, kw_only=True):
    """Units of a user's quota that are held, or were, and what the quota stands at. `lease` is its name, `held` how
    many units, `expires_at` (RFC 3339, UTC) when the gateway gives them back by itself.

    `state` is ``open``, ``committed``, ``released`` or ``expired``.

    A `Lease` lives in one program, and extends and settles itself. This is a value: it may be stored, and whichever
    copy of the application has it then goes on.
    """

    lease: str = ""
    held: int = 0
    expires_at: str | None = None
    state: str = "open"
    user: str = ""


class Posts(Protocol):
    """Who signs requests with a JSON body."""

    _api: str

    async def _json(self, path: str, fields: Mapping[str, Any]) -> httpx2.Response:
        """The answer. Raises `ChannelError`."""


class InstanceSpending:
    """What an instance spends for the users whom it serves. Keys and the names of leases are its own: no user and no
    other instance has the same.

    Whatever fails with `key` set in the error may have been carried out: ask again with that key or name, which charges
    once.
    """

    async def consume(
        self: Posts, quota_name: str, amount: int = 1, *, user: str, key: str | None = None, org: str | None = None
    ) -> Balance:
        """Take `amount` units of a user's quota, or of the pool of the organization `org` in that user's name: all of
        them, or none. The same `key` is the same request, charged once; give one to ask again after an error.

        Raises `QuotaExceeded`, `NotFound`, `Conflict`, and with the `key` set in it an error that says nothing of
        whether the units were taken.
        """
        fields = {"amount": checked_amount(amount), "key": checked_key(key), **_whose(user, org)}
        return await _asked(self, quota_name, "/consume", fields, fields["key"], Balance)

    async def reserve(
        self: Posts,
        quota_name: str,
        amount: int,
        *,
        user: str,
        ttl_s: float = 60.0,
        name: str | None = None,
        org: str | None = None,
    ) -> Reservation:
        """Hold `amount` units for `ttl_s` (1 to 3600 seconds), for work whose cost is known only afterwards; then
        `commit` or `release` what this returns, and `extend` it meanwhile. With the `name` (1 to 128 characters without
        ``/``) of one that was reserved so already, that one.

        Raises what `consume` raises.
        """
        lease = new_key() if name is None else checked_name("the name of a lease", name, LONGEST_KEY)
        if "/" in lease or lease in (".", ".."):
            raise ValueError("the name of a lease stands in paths: it has no / in it, and is not . or ..")
        fields = {"amount": checked_amount(amount), "ttl_s": checked_ttl(ttl_s), "lease": lease, **_whose(user, org)}
        return _of(user, await _asked(self, quota_name, "/leases", fields, lease, Reservation))

    async def extend(
        self: Posts, reservation: Reservation, *, ttl_s: float = 60.0, amount: int = 0, key: str | None = None
    ) -> Reservation:
        """Hold it for `ttl_s` from now, and `amount` units more; with the same `key` these are added once.

        Raises `LeaseExpired`, `LeaseNotFound`, and what `consume` raises.
        """
        fields: dict[str, Any] = {"ttl_s": checked_ttl(ttl_s), "user": reservation.user}
        if amount:
            fields |= {"amount": checked_amount(amount), "key": checked_key(key)}
        return await _changed(self, reservation, "extend", fields)

    async def commit(self: Posts, reservation: Reservation, amount: int) -> Reservation:
        """Say that `amount` units of it were used; the rest is given back. A second time it is answered as it stands.

        Raises `LeaseExpired` when its time was over before, `Conflict` when it ended otherwise.
        """
        used = 0 if amount == 0 else checked_amount(amount)
        return await _changed(self, reservation, "commit", {"amount": used, "user": reservation.user})

    async def release(self: Posts, reservation: Reservation) -> Reservation:
        """Give all of it back."""
        return await _changed(self, reservation, "release", {"user": reservation.user})


def _whose(user: str, org: str | None) -> dict[str, str]:
    whose = {"user": checked_name("a user", user)}
    return whose if org is None else {**whose, "org": checked_name("an organization", org)}


async def _asked(client: Posts, quota_name: str, path: str, fields: Mapping[str, Any], key: Any, kind: type[T]) -> T:
    """The answer; an error that leaves open whether it was carried out has the key."""
    place = f"{client._api}/quotas/{quote(checked_name('a quota', quota_name), safe='')}{path}"
    try:
        return parse_answer(await client._json(place, fields), kind)
    except ChannelError as error:
        if isinstance(error, Disconnected | Unavailable | MalformedMessage) or error.code in UNDECIDED:
            error.key = str(key)
        raise


async def _changed(client: Posts, reservation: Reservation, what: str, fields: Mapping[str, Any]) -> Reservation:
    path = f"/leases/{quote(reservation.lease, safe='')}/{what}"
    key = fields.get("key", reservation.lease)
    return _of(reservation.user, await _asked(client, reservation.quota, path, fields, key, Reservation))


def _of(user: str, reservation: Reservation) -> Reservation:
    return msgspec.structs.replace(reservation, user=user)
