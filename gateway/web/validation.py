"""``GET /auth/validate``: what a user's token stands for, told to a server instance that was shown it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.core.clock import rfc3339
from gateway.core.principal import CredentialKind
from gateway.errors import AuthFailed, BadRequest, NotFound
from gateway.live.node import Node
from gateway.web.answer import answer
from gateway.web.operation import Call, Operation, Who
from gateway.web.problem import bearer_token

PATH = "/auth/validate"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a token stands for; only `active`, false, for one that stands for nothing.

    `session` is the id of the credential, as `revocations` names it, and `kind` what it is; `expires_at` (RFC 3339) is
    null where it has no end. `scopes` is there for a token that is narrowed: the permissions that it leaves. `doc` is
    the user's document as the channel sends it, `document` what it holds at the revision `rev`, exact up to the
    position `seq` of the change log.
    """

    active: bool
    session: str | UnsetType = UNSET
    kind: CredentialKind | UnsetType = UNSET
    expires_at: str | UnsetType | None = UNSET
    scopes: list[str] | UnsetType = UNSET
    doc: str | UnsetType = UNSET
    document: dict[str, Any] | UnsetType = UNSET
    rev: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET


INACTIVE = Standing(active=False)


class Validation:
    """The route by which instances ask about tokens."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> list[Operation]:
        """The one."""
        return [
            Operation(
                *("GET", PATH, self.validate),
                "What a user's token stands for; for server instances, which show it as their bearer token",
                {200: Standing},
                who=Who.INSTANCE,
                errors=(BadRequest,),
            )
        ]

    async def validate(self, call: Call) -> Response:
        """The token's standing. A token is used by this."""
        try:
            token = bearer_token(call.request)
        except AuthFailed as refused:
            raise BadRequest(refused.message) from None
        if token is None:
            raise BadRequest("The user's token is needed, in Authorization.")
        try:
            principal = await self._node.authenticator.authenticate(token)
            entry = await self._node.user(principal.id)
        except (AuthFailed, NotFound):
            return answer(INACTIVE)
        if entry.facts is None or not entry.facts.active or entry.publication is None:
            return answer(INACTIVE)
        publication, granted = entry.publication, principal.permissions
        told: dict[str, Any] = {
            "active": True,
            "session": principal.credential_id,
            "kind": principal.credential_kind.value,
            "expires_at": None if principal.expires_at is None else rfc3339(principal.expires_at),
            "doc": publication.name,
            "document": msgspec.Raw(publication.document.json()),
            "rev": publication.document.rev,
            "seq": publication.seq,
        }
        if granted is not None:
            told["scopes"] = sorted(granted)
        return answer(told)
