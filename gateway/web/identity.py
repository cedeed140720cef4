"""What a user may ask about itself: the document, its flat form, why it is so, and whether the token still holds."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gateway.core.access import Access, access_to_user
from gateway.core.clock import rfc3339
from gateway.core.explanations import why_permission, why_quota
from gateway.core.facts import Catalog
from gateway.errors import BadRequest, NotFound
from gateway.live.node import Node
from gateway.web.answer import answer
from gateway.web.caller import Callers
from gateway.web.operation import Call, Operation

MOMENTS = frozenset(("changes_at", "starts_at", "expires_at", "period_start"))


class About(msgspec.Struct, frozen=True):
    """What `explain` is asked: about one permission or one quota, of the caller or of `user`."""

    permission: str | None = None
    quota: str | None = None
    user: str | None = None


class Validated(msgspec.Struct, frozen=True):
    """That a token is good, and until when (RFC 3339; null: no end). `session` is the id of the credential."""

    valid: bool
    user_id: str
    session: str
    expires_at: str | None


class HeldDocument(msgspec.Struct, frozen=True):
    """A document as the channel sends it."""

    doc: str
    rev: str
    seq: int
    data: dict[str, Any]


class Identity:
    """The routes below ``api_base``."""

    def __init__(self, node: Node, callers: Callers, api_base: str) -> None:
        self._node = node
        self._callers = callers
        self._api_base = api_base

    def operations(self) -> list[Operation]:
        """All of them."""
        api = self._api_base
        return [
            Operation(
                *("GET", f"{api}/identity", self.identity),
                summary="The caller's document in one level; 304 while `If-None-Match` names its revision",
                answers={200: dict[str, Any], 304: None},
            ),
            Operation(
                *("GET", f"{api}/document", self.document),
                summary="The caller's document as the channel sends it; 304 while `If-None-Match` names its revision",
                answers={200: HeldDocument, 304: None},
            ),
            Operation(
                *("GET", f"{api}/explain", self.explain),
                summary="Why a permission or a quota is as it is",
                answers={200: dict[str, Any]},
                query=About,
                errors=(BadRequest, NotFound),
            ),
            Operation(
                *("POST", f"{api}/auth/validate", self.validate),
                summary="Whether the token holds, and whose it is",
                answers={200: Validated},
            ),
        ]

    async def identity(self, call: Call) -> Response:
        """The flat form."""
        entry = await self._callers.document(call.caller)
        assert entry.publication is not None
        document = entry.publication.document
        return answer(flatten(document.data(), self._node.hub.catalog), etag=f'"{document.rev}"')

    async def document(self, call: Call) -> Response:
        """The document as the channel sends it."""
        entry = await self._callers.document(call.caller)
        assert entry.publication is not None
        publication = entry.publication
        body = {
            "doc": publication.name,
            "rev": publication.document.rev,
            "seq": publication.seq,
            "data": msgspec.Raw(publication.document.json()),
        }
        return answer(body, etag=f'"{publication.document.rev}"')

    async def validate(self, call: Call) -> Response:
        """Whether the token holds, and whose it is."""
        principal = call.caller.principal
        end = None if principal.expires_at is None else rfc3339(principal.expires_at)
        return answer(Validated(True, principal.id, principal.credential_id, end))

    async def explain(self, call: Call) -> Response:
        """Why a permission or quota is as it is; ``user`` asks about somebody else."""
        asked: About = call.query
        own = await self._callers.document(call.caller)
        user = call.caller.principal.id if asked.user is None else asked.user
        if own.facts is None or access_to_user(call.caller.principal, own.facts, own.permissions, user) is Access.NONE:
            raise NotFound("No such user.")
        entry = own if user == call.caller.principal.id else await self._node.user(user)
        if (asked.permission is None) == (asked.quota is None):
            raise BadRequest("Ask for one of permission and quota.")
        assert entry.facts is not None
        catalog, now = self._node.hub.catalog, self._node.clock.now().wall
        if asked.permission is not None:
            return answer(dated(why_permission(entry.id, entry.facts, catalog, asked.permission, now)))
        return answer(dated(why_quota(entry.id, entry.facts, catalog, asked.quota or "", now)))


def dated(explanation: msgspec.Struct) -> Any:
    """An explanation in plain values, its moments written as the channel writes them (RFC 3339)."""

    def written(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: written(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [written(inner) for inner in value]
        return rfc3339(value) if isinstance(value, int) and key in MOMENTS else value

    return written(msgspec.to_builtins(explanation))


def flatten(document: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    """The flat form: identity, attributes, each permission as true or false, each quota as ``NAME_remaining`` (null:
    unlimited).

    Where names meet, identity wins over permissions, those over quotas, and all of them over attributes, which users
    may set themselves.
    """
    identity = dict(document["identity"])
    flat: dict[str, Any] = identity.pop("attributes")
    for quota, balance in document["quotas"].items():
        flat[f"{quota}_remaining"] = balance.get("remaining")
    for permission in catalog.known_permissions():
        flat[permission] = False
    flat.update(document["permissions"])
    return {**flat, "email": None, **identity, "subscription_tier": identity["plan"]}
