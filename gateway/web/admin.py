"""``POST /admin/revoke-before``: everything issued before a moment is void."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.auth.revoker import IssuedBefore, Revoker
from gateway.core.clock import CLOCK_SKEW_MS
from gateway.core.text import TEXT_CHECKS
from gateway.errors import Forbidden, NotFound, Unprocessable
from gateway.store.audit import Entry
from gateway.web.answer import answer
from gateway.web.checks import administrators
from gateway.web.fields import checked, moment, stored_moment
from gateway.web.operation import Call, Operation


class RevokeBefore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The moment (RFC 3339; absent: now, by the gateway's clock), and whose sessions and tokens: a user's, those made
    through one instance, or all."""

    at: str | UnsetType = UNSET
    user: str | None = None
    instance: str | None = None


class RevokedBefore(msgspec.Struct, frozen=True):
    """How many sessions and tokens were revoked, and the position of the (last) commit."""

    seq: int
    revoked: int


class Administration:
    """The routes below ``/admin``. `wall`: milliseconds since 1970 UTC."""

    def __init__(self, revoker: Revoker, wall: Callable[[], int]) -> None:
        self._revoker = revoker
        self._wall = wall

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation(
                *("POST", "/admin/revoke-before", self.revoke_before),
                "Void all that was issued before a moment, the caller's own session too; for administrators",
                {200: RevokedBefore},
                body=RevokeBefore,
                check=administrators,
                errors=(Forbidden, NotFound),
                writes=True,
            )
        ]

    async def revoke_before(self, call: Call) -> Response:
        """Revoke them."""
        (await call.rights()).require_admin()
        body: RevokeBefore = call.body
        # Without a moment whatever there is counts, also what a node made whose clock is ahead.
        at = None if body.at is UNSET else stored_moment(body.at, "at")
        now = self._wall()
        if at is not None and at > now + CLOCK_SKEW_MS:
            raise Unprocessable("at must not lie in the future.")
        if body.user is not None and body.instance is not None:
            raise Unprocessable("Name a user or an instance, not both.")
        target = "all"
        for kind, name in (("user", body.user), ("instance", body.instance)):
            if name is not None:
                target = f"{kind}:{checked(TEXT_CHECKS['id'], name)}"
        entry = Entry(
            call.caller.actor, "revoke.before", target, call.address, after={"at": moment(now if at is None else at)}
        )
        revoked = await self._revoker.revoke(IssuedBefore(at, body.user, body.instance), entry=entry)
        return answer(RevokedBefore(revoked.seq, revoked.count), seq=revoked.seq)
