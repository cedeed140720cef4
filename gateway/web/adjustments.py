"""Balances put right by hand, with a reason: of a user by holders of ``users.write``, of an organization's pool by
those of ``orgs.write``. Nobody corrects what is one's own by managing it: an organization's managers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.core.administration import WRITE_ORGANIZATIONS
from gateway.core.spending import MOST, Spent
from gateway.core.text import MAX_LABEL, check_quota, check_text
from gateway.errors import Conflict, Forbidden, PreconditionFailed, QuotaExceeded, Unprocessable
from gateway.store import accounts
from gateway.store.accounts import User
from gateway.store.adjustments import Adjustment, adjust
from gateway.store.audit import Entry
from gateway.store.bases import Bases
from gateway.store.database import Database
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.store.plans import MAX_LIMIT
from gateway.web.answer import answer, require_match
from gateway.web.caller import Rights
from gateway.web.fields import checked, path_name
from gateway.web.grants import writable
from gateway.web.idempotency import Key, request_key
from gateway.web.operation import Call, Operation
from gateway.web.organizations import standing
from gateway.web.quotas import BalanceShown, balance_shown
from gateway.web.turns import Turns


class Correction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be added to what was used in the present period (`amount`, below zero: taken away), or what that is to
    be (`used`); one of the two. `key` as in ``Idempotency-Key``.
    """

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LABEL)]
    amount: Annotated[int, msgspec.Meta(ge=-MOST, le=MOST)] | UnsetType = UNSET
    used: Annotated[int, msgspec.Meta(ge=0, le=MAX_LIMIT)] | UnsetType = UNSET
    key: Key | UnsetType = UNSET


class Adjustments:
    """The routes that correct balances. `wall`: milliseconds since 1970 UTC."""

    def __init__(self, database: Database, bases: Bases, turns: Turns, wall: Callable[[], int]) -> None:
        self._database = database
        self._bases = bases
        self._turns = turns
        self._wall = wall

    def operations(self) -> list[Operation]:
        """All of them."""
        write: dict[str, Any] = {
            "answers": {200: BalanceShown},
            "body": Correction,
            "errors": (Forbidden, Conflict, PreconditionFailed, QuotaExceeded),
            "writes": True,
            "keyed": True,
        }
        return [
            Operation(
                *("POST", "/users/{id}/quotas/{quota}/adjust", self.adjust_user),
                "Correct what a user has used of a quota",
                check=self._check_user,
                **write,
            ),
            Operation(
                *("POST", "/orgs/{id}/quotas/{quota}/adjust", self.adjust_organization),
                "Correct what was used of an organization's pool",
                check=self._check_organization,
                **write,
            ),
        ]

    async def adjust_user(self, call: Call) -> Response:
        """A user's own balance."""
        adjustment = _adjustment(call, f"user:{call.path['id']}")

        async def attempt() -> Spent:
            rights, user = await self._check_user(call)
            require_match(call.request, None)
            guards = () if rights.is_admin else (accounts.still_on(user.id, user.plan),)
            return await self._adjust(call, adjustment, guards)

        spent = await self._turns.change(adjustment.owner, call.request, attempt)
        return _answered(adjustment, spent)

    async def adjust_organization(self, call: Call) -> Response:
        """A pool."""
        adjustment = _adjustment(call, f"org:{call.path['id']}")
        await self._check_organization(call)
        require_match(call.request, None)
        return _answered(adjustment, await self._adjust(call, adjustment, ()))

    async def _check_user(self, call: Call) -> tuple[Rights, User]:
        rights = await call.rights()
        return rights, await writable(self._database, call, rights)

    async def _check_organization(self, call: Call) -> None:
        rights = await call.rights()
        await standing(self._database, rights, call.path["id"])
        rights.require(WRITE_ORGANIZATIONS)

    async def _adjust(self, call: Call, adjustment: Adjustment, guards: Sequence[Guard]) -> Spent:
        entry = Entry(adjustment.actor, "quota.adjust", adjustment.owner, call.address)
        db = Guarded(call.writing(self._database), guards)
        return await adjust(db, adjustment, now=self._wall(), bases=self._bases, entry=entry)


def _adjustment(call: Call, owner: str) -> Adjustment:
    """What is asked. Raises `Unprocessable`, and as `request_key`."""
    asked: Correction = call.body
    quota = path_name(check_quota, call.path["quota"])
    reason = checked(lambda value: check_text(value, "the reason", MAX_LABEL, shortest=1), asked.reason)
    key = request_key(call.request, asked.key)
    if isinstance(asked.used, int) and asked.amount is UNSET:
        return Adjustment(call.caller.actor, owner, quota, asked.used, True, reason, key)
    if isinstance(asked.amount, int) and asked.used is UNSET:
        return Adjustment(call.caller.actor, owner, quota, asked.amount, False, reason, key)
    raise Unprocessable("One of amount and used is needed, and not both.")


def _answered(adjustment: Adjustment, spent: Spent) -> Response:
    shown = balance_shown(adjustment.owner, adjustment.quota, spent.balance, spent.seq)
    return answer(shown, seq=spent.seq)
