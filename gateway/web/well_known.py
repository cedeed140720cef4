"""``/.well-known/``: the keys that verify access tokens (RFC 7517), and where OAuth's clients find what (RFC 8414)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.responses import Response

from gateway.auth.keyring import Keyring
from gateway.web.operation import Call, Operation, Who
from gateway.web.published import published

JWKS_PATH = "/.well-known/jwks.json"
METADATA_PATH = "/.well-known/oauth-authorization-server"
INTROSPECTION_PATH = "/oauth/introspect"
REVOCATION_PATH = "/oauth/revoke"


class KeySet(msgspec.Struct, frozen=True):
    """A JSON Web Key set: the public keys that verify access tokens, by their `kid`; also one that is yet to sign."""

    keys: list[dict[str, Any]]


class Metadata(msgspec.Struct, frozen=True):
    """What OAuth's clients have to know of this authorization server (RFC 8414 §2).

    Tokens are not given by OAuth's endpoints, so there is neither an authorization nor a token endpoint, and the lists
    that would default to something else are there and empty.
    """

    issuer: str
    jwks_uri: str
    introspection_endpoint: str
    introspection_endpoint_auth_methods_supported: list[str]
    revocation_endpoint: str
    revocation_endpoint_auth_methods_supported: list[str]
    response_types_supported: list[str]
    grant_types_supported: list[str]


class WellKnown:
    """What everybody may know. `issuer` is the gateway's public address, `wall` gives milliseconds since 1970 UTC."""

    def __init__(self, keyring: Keyring, issuer: str, wall: Callable[[], int]) -> None:
        self._keyring = keyring
        self._issuer = issuer
        self._wall = wall

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation(
                *("GET", JWKS_PATH, self.key_set),
                summary="The public keys of access tokens",
                answers={200: KeySet, 304: None},
                who=Who.ALL,
            ),
            Operation(
                *("GET", METADATA_PATH, self.metadata),
                summary="Where OAuth's clients find what",
                answers={200: Metadata, 304: None},
                who=Who.ALL,
            ),
        ]

    async def key_set(self, call: Call) -> Response:
        """The keys as this node knows them. They may be kept for less time than a new key is published before it
        signs."""
        return published(msgspec.json.encode(self._keyring.jwks(self._wall())))

    async def metadata(self, call: Call) -> Response:
        """Made of the configured issuer alone: what a request says of its host is anybody's word."""
        return published(msgspec.json.encode(metadata(self._issuer)))


def metadata(issuer: str) -> Metadata:
    """The metadata of the authorization server with this issuer."""
    root = issuer.rstrip("/")
    return Metadata(
        issuer=issuer,
        jwks_uri=root + JWKS_PATH,
        introspection_endpoint=root + INTROSPECTION_PATH,
        introspection_endpoint_auth_methods_supported=["Bearer"],
        revocation_endpoint=root + REVOCATION_PATH,
        revocation_endpoint_auth_methods_supported=["Bearer"],
        response_types_supported=[],
        grant_types_supported=[],
    )
