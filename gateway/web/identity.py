"""What a user may ask about itself: the document, its flat form, why it is so, and whether the token still holds."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.access import Access, access_to_user
from gateway.core.clock import rfc3339
from gateway.core.explanations import why_permission, why_quota
from gateway.core.facts import Catalog
from gateway.core.principal import Principal
from gateway.errors import AuthFailed, BadRequest, NotFound
from gateway.live.entry import UserEntry
from gateway.live.node import Node
from gateway.web.answer import answer
from gateway.web.problem import bearer_token

MOMENTS = frozenset(("changes_at", "starts_at", "expires_at", "period_start"))


class Identity:
    """The routes below ``api_base``."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def _principal(self, request: Request) -> Principal:
        token = bearer_token(request)
        if token is None:
            raise AuthFailed("A bearer token is needed.")
        return await self._node.authenticator.authenticate(token)

    async def _entry(self, principal: Principal) -> UserEntry:
        try:
            return await self._node.user(principal.id)
        except NotFound:
            raise AuthFailed("The token is not valid.") from None

    async def identity(self, request: Request) -> Response:
        """The flat form; 304 when the client holds the present revision."""
        entry = await self._entry(await self._principal(request))
        assert entry.publication is not None
        document = entry.publication.document
        etag = f'"{document.rev}"'
        headers = {"ETag": etag}
        if matches(request.headers.getlist("if-none-match"), etag):
            return Response(status_code=304, headers={"Cache-Control": "no-store", **headers})
        return answer(flatten(document.data(), self._node.hub.catalog), headers=headers)

    async def document(self, request: Request) -> Response:
        """The document as the channel sends it."""
        entry = await self._entry(await self._principal(request))
        assert entry.publication is not None
        publication = entry.publication
        body = {
            "doc": publication.name,
            "rev": publication.document.rev,
            "seq": publication.seq,
            "data": msgspec.Raw(publication.document.json()),
        }
        return answer(body, headers={"ETag": f'"{publication.document.rev}"'})

    async def validate(self, request: Request) -> Response:
        """Whether the token holds, and whose it is."""
        principal = await self._principal(request)
        body: dict[str, Any] = {"valid": True, "user_id": principal.id, "session": principal.credential_id}
        body["expires_at"] = None if principal.expires_at is None else rfc3339(principal.expires_at)
        return answer(body)

    async def explain(self, request: Request) -> Response:
        """Why a permission or quota is as it is; ``user`` asks about somebody else."""
        principal = await self._principal(request)
        own = await self._entry(principal)
        user = request.query_params.get("user", principal.id)
        if own.facts is None or access_to_user(principal, own.facts, own.permissions, user) is Access.NONE:
            raise NotFound("No such user.")
        entry = own if user == principal.id else await self._node.user(user)
        permission = request.query_params.get("permission")
        quota = request.query_params.get("quota")
        if (permission is None) == (quota is None):
            raise BadRequest("Ask for one of permission and quota.")
        assert entry.facts is not None
        catalog, now = self._node.hub.catalog, self._node.clock.now().wall
        if permission is not None:
            return answer(dated(why_permission(entry.id, entry.facts, catalog, permission, now)))
        return answer(dated(why_quota(entry.id, entry.facts, catalog, quota or "", now)))


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


def matches(if_none_match: list[str], etag: str) -> bool:
    """Whether an ``If-None-Match`` field (RFC 9110 §13.1.2) names this entity tag, by weak comparison."""
    names = [name.strip().removeprefix("W/") for value in if_none_match for name in value.split(",")]
    return etag in names or "*" in names
