"""Requests that server instances sign (RFC 9421): what a signature covers, and what an answer tells them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.requests import HTTPConnection

from gateway.auth.instances import BY_SIGNATURE, Instances, Signed
from gateway.core.networks import Networks
from gateway.core.rate import WINDOW_S, Allowed
from gateway.core.signatures import SIGNATURE, SIGNATURE_INPUT, Message
from gateway.errors import AuthFailed
from gateway.web.peer import public_scheme

RATE_LIMIT, RATE_LIMIT_POLICY = "RateLimit", "RateLimit-Policy"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Signing:
    """Finds out which instance signed a request; `proxies` are those whose forwarding headers count."""

    def __init__(self, instances: Instances, proxies: Networks) -> None:
        self._instances = instances
        self._proxies = proxies

    def is_signed(self, connection: HTTPConnection) -> bool:
        """Whether there is a signature, good or not."""
        return SIGNATURE in connection.headers or SIGNATURE_INPUT in connection.headers

    async def signer(
        self,
        connection: HTTPConnection,
        address: str,
        body: Callable[[], Awaitable[bytes]],
        told: Callable[[Allowed], None],
        *,
        handshake: bool = False,
    ) -> Signed:
        """The instance, and the body that it signed. Raises as `Instances.verify`."""
        try:
            message = signed_message(connection, self._proxies)
            return await self._instances.verify(message, address, body, told, handshake=handshake)
        except AuthFailed as refused:
            raise AuthFailed(refused.message, credential=BY_SIGNATURE) from None


def signed_message(connection: HTTPConnection, proxies: Networks) -> Message:
    """What a signature may cover of a request, as the client sent it: a proxy has to pass on ``Host`` and the path."""
    scope = connection.scope
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return Message(
        method=scope.get("method", "GET"),
        authority=_authority(connection, proxies),
        path=raw_path.decode("latin-1") or "/",
        query="?" + scope["query_string"].decode("latin-1"),
        fields=connection.headers.getlist,
    )


def rate_fields(allowed: Allowed) -> dict[str, str]:
    """The fields that say how much an instance may still ask (draft-ietf-httpapi-ratelimit-headers-10 §3, §4)."""
    return {
        RATE_LIMIT_POLICY: f'"default";q={allowed.limit};w={WINDOW_S}',
        RATE_LIMIT: f'"default";r={allowed.remaining};t={allowed.reset_s}',
    }


def _authority(connection: HTTPConnection, proxies: Networks) -> str:
    """RFC 9421 §2.2.3: in lower case, without the scheme's own port. What has no one Host has none: nothing verifies
    against that, for there is no such authority."""
    hosts = connection.headers.getlist("host")
    if len(hosts) != 1:
        return "\x00"
    host = hosts[0].strip().lower()
    return host.removesuffix(_DEFAULT_PORTS.get(public_scheme(connection, proxies), "\x00"))
