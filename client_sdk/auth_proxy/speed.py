"""How many decisions a second one core takes from memory.

python -m client_sdk.auth_proxy.speed [--seconds 2] [--users 1000]

Prints one line of JSON. A decider is filled with users, each with a document and an access token, and a channel that
holds them all; then it is asked about one after the other, alone and as an `AuthProxy` before an application that does
nothing. Meanwhile something is revoked ten times a second. No network is used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from joserfc.jwk import OKPKey
from joserfc.jwt import encode

from client_sdk.auth_proxy.access_token import REGISTRY
from client_sdk.auth_proxy.answers import Receive, Scope, Send
from client_sdk.auth_proxy.decider import Decider
from client_sdk.auth_proxy.decision import Source
from client_sdk.auth_proxy.facts import KEYS, REVOCATIONS, Rules
from client_sdk.auth_proxy.middleware import AuthProxy
from client_sdk.instance_key import InstanceKey
from client_sdk.replica import Held, Replica
from client_sdk.wire import Snapshot, Update

GATEWAY = "http://127.0.0.1:9"
KEY, KID = InstanceKey("k_speed", bytes(32)), "k_signs"
HOUR_S = 3_600
REVOKED = 1000
REVOKED_EVERY_S = 0.1
LATER = "2100-01-01T00:00:00.000Z"
FIELDS = {
    "host": "shop.example.org",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept": "application/json",
    "accept-language": "en",
    "accept-encoding": "gzip, deflate, br",
    "connection": "keep-alive",
}
"""Of a request, beside the token."""


class HeldWorld:
    """A channel that is live and holds everything."""

    live = True

    def __init__(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        self._replica = Replica(verify=False)
        self._revision = 0
        for doc, data in documents.items():
            self._replica.expect(doc)
            self._replica.snapshot(Snapshot(doc=doc, rev=_revision(0), seq=1, data=dict(data)))

    @property
    def copies(self) -> Mapping[str, Held]:
        """The documents."""
        return self._replica.copies

    def known_at(self, now: float) -> float | None:
        """All of it is true now."""
        return now

    def revoke(self) -> None:
        """One more is revoked, which is nobody's here, and the oldest is not named any more."""
        before, self._revision = self._revision, self._revision + 1
        patch = {_void(before): None, _void(before + REVOKED): LATER}
        self._replica.update(
            Update(
                doc=REVOCATIONS,
                from_=_revision(before),
                rev=_revision(self._revision),
                seq=1 + self._revision,
                patch=patch,
                causes=("revocation",),
            )
        )


def _revision(number: int) -> str:
    return f"{number:016x}"


def _void(number: int) -> str:
    return f"s_void_{number}"


def document(user: str) -> dict[str, Any]:
    """A user."""
    return {
        "identity": {"id": user, "username": user, "plan": "pro", "status": "active"},
        "permissions": {"can_use_voice": True, "can_use_sms": True},
        "quotas": {"voice_minutes": {"limit": 500, "used": 12, "remaining": 488, "level": "ok"}},
        "organizations": {},
    }


class FilledDecider(Decider):
    """One that knows so many users, each by one of `tokens`, and needs no gateway."""

    def __init__(self, users: int) -> None:
        super().__init__(GATEWAY, KEY, Rules(issuer=GATEWAY, max_users=users, max_tokens=users))
        names = [f"u_{number}" for number in range(users)]
        signing = OKPKey.generate_key("Ed25519", {"kid": KID})
        documents: dict[str, Mapping[str, Any]] = {f"user:{name}": document(name) for name in names}
        documents[REVOCATIONS] = {_void(number): LATER for number in range(REVOKED)}
        documents[KEYS] = {KID: signing.as_dict(private=False)}
        self.world = HeldWorld(documents)
        self.cache.enter(self.world)
        self.tokens = [_access_token(name, signing) for name in names]

    async def start(self) -> None:
        """There is nothing to connect to."""


def _access_token(user: str, signing: OKPKey) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {"iss": GATEWAY, "aud": "gateway", "sub": user, "sid": f"s_{user}", "client_id": "gateway"}
    claims |= {"jti": secrets.token_hex(8), "iat": now, "exp": now + HOUR_S}
    return encode({"alg": "EdDSA", "typ": "at+jwt", "kid": KID}, claims, signing, registry=REGISTRY)


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    """Looks who it is, and that is all."""
    if scope["user"].source is not Source.LIVE:
        raise AssertionError("every one of these is known")


def _proxy_of(decider: Decider) -> AuthProxy:
    class Filled(AuthProxy):
        _new_decider = staticmethod(lambda *settings, **options: decider)

    return Filled(_application, GATEWAY, KEY)


async def _nothing(*arguments: Any) -> Any:
    """Nobody calls it."""


def _scope(token: str) -> Scope:
    fields = {**FIELDS, "authorization": f"Bearer {token}"}
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    return {"type": "http", "method": "GET", "path": "/me", "query_string": b"", "headers": headers}


async def _rate(decider: FilledDecider, seconds: float, one_round: Callable[[], Awaitable[None]]) -> tuple[int, float]:
    """Rounds in so many seconds of the processor, and those seconds. The first round, which verifies every token, is
    not counted.
    """
    await one_round()
    rounds, begun = 0, time.process_time()
    revoke_at = begun + REVOKED_EVERY_S
    while (now := time.process_time()) - begun < seconds:
        if now >= revoke_at:
            revoke_at += REVOKED_EVERY_S
            decider.world.revoke()
        await one_round()
        rounds += 1
    return rounds, now - begun


async def measure(seconds: float, users: int) -> dict[str, Any]:
    """Decide for so long, and let through for so long; what came of it. Seconds are those of the processor: what else
    the machine does costs nothing.
    """
    began = time.monotonic()
    decider = FilledDecider(users)
    proxy = _proxy_of(decider)
    scopes = [_scope(token) for token in decider.tokens]

    async def decisions() -> None:
        for token in decider.tokens:
            if (await decider.decide(token)).source is not Source.LIVE:
                raise AssertionError("every one of these is known")

    async def requests() -> None:
        for scope in scopes:
            await proxy(scope, _nothing, _nothing)

    decided, spent = await _rate(decider, seconds, decisions)
    let_through, spent_on_requests = await _rate(decider, seconds, requests)
    await decider.stop()
    return {
        "workload": "validate",
        "users": users,
        "decisions": decided * users,
        "cpu_s": round(spent, 3),
        "decisions_per_cpu_s": round(decided * users / spent),
        "requests": let_through * users,
        "requests_cpu_s": round(spent_on_requests, 3),
        "requests_per_cpu_s": round(let_through * users / spent_on_requests),
        "wall_s": round(time.monotonic() - began, 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m client_sdk.auth_proxy.speed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of the processor's time, for each figure")
    parser.add_argument("--users", type=int, default=1000)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.seconds, arguments.users))))


if __name__ == "__main__":
    main()
