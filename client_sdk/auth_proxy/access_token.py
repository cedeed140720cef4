"""Tokens of the gateway, checked without asking it: access tokens (RFC 9068, Ed25519), and the form of API tokens.

Only what the gateway writes is read: one algorithm, one type, three header members, every claim present and of its own
type, one spelling of base64url. joserfc alone is more liberal, so the text is looked at before it gets there.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry, decode

LONGEST = 4096
"""Characters; anything longer is refused before it is worked on."""
SKEW_MS = 60_000
"""How far ahead a token's beginning may be. Its end has no such leeway."""

LONGEST_LIFE_S = 86_400
"""No gateway makes a token for longer; whoever has a key of it could."""

_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_FORM = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_API_TOKEN = re.compile(r"gw_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LATEST_S = 253_402_300_799  # the end of the year 9999
_TEXTS = ("sub", "sid", "jti", "client_id")


class BadToken(ValueError):
    """It is not an access token that one of the keys signed for this audience, or has ended (`expired`), or all is well
    with it but its issuer or audience (`foreign`).
    """

    def __init__(self, text: str, *, expired: bool = False, foreign: bool = False) -> None:
        super().__init__(text)
        self.expired = expired
        self.foreign = foreign


class Claims(NamedTuple):
    """Whose a token is, by which login session, until when (milliseconds since 1970 UTC), and which key signed it."""

    user: str
    session: str
    expires_at: int
    kid: str


class _Registry(JWSRegistry):
    """joserfc's registry with one algorithm, for whose name it would warn at every token."""

    def get_alg(self, name: str) -> Any:
        if name != _ALGORITHM:
            raise UnsupportedAlgorithmError(_ALGORITHM)
        return self.algorithms[_ALGORITHM]


class _StrictDecoder(json.JSONDecoder):
    """JSON in which no name occurs twice and every number is one."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_members, parse_constant=_no_number)


REGISTRY = _Registry(algorithms=[_ALGORITHM])
"""For joserfc: the one algorithm that a token may have."""


def is_access_token(text: str) -> bool:
    """Whether it has the form of one."""
    return len(text) <= LONGEST and _FORM.fullmatch(text) is not None


def is_api_token(text: str) -> bool:
    """Whether it has the form of one, and the right checksum: a mistyped one is not worth a question."""
    match = _API_TOKEN.fullmatch(text)
    if match is None:
        return False
    secret, checksum = match.groups()
    number = zlib.crc32(secret.encode())
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits == checksum


def read_keys(document: Mapping[str, Any]) -> dict[str, OKPKey]:
    """The keys of the document ``keys``, by `kid`; what is no public Ed25519 key is left out."""
    keys = {}
    for kid, jwk in document.items():
        if isinstance(jwk, dict) and (jwk.get("kty"), jwk.get("crv")) == ("OKP", "Ed25519"):
            try:
                keys[kid] = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": jwk["x"]})
            except (JoseError, KeyError, TypeError, ValueError):
                continue
    return keys


def key_id(token: str) -> str:
    """The `kid` of a token that has the form of one. Raises `BadToken` for a header that no gateway writes."""
    try:
        header = json.loads(_segment(token.partition(".")[0]).decode(), cls=_StrictDecoder)
        if isinstance(header, dict) and header.keys() == {"alg", "typ", "kid"}:
            kid = header["kid"]
            if (header["alg"], header["typ"]) == (_ALGORITHM, _TYPE) and isinstance(kid, str):
                return kid
    except (ValueError, RecursionError):
        pass
    raise BadToken("the header is another")


def verify(token: str, kid: str, key: OKPKey, *, issuer: str, audience: str, now_ms: int) -> Claims:
    """What a token says, when `key` signed it for this issuer and audience, and it has not ended.

    Raises `BadToken`, and nothing else. It ends at ``exp`` to the second.
    """
    try:
        payload = decode(token, key, registry=REGISTRY, decoder_cls=_StrictDecoder).claims
        _check(payload, issuer, audience, now_ms)
    except (JoseError, KeyError, TypeError, ValueError, RecursionError) as exc:
        raise exc if isinstance(exc, BadToken) else BadToken("it is not valid") from None
    return Claims(payload["sub"], payload["sid"], payload["exp"] * 1000, kid)


def _check(payload: dict[str, Any], issuer: str, audience: str, now_ms: int) -> None:
    for name in ("exp", "iat"):
        if type(payload[name]) is not int or not 0 <= payload[name] <= _LATEST_S:
            raise BadToken("a moment is no whole number of seconds")
    if payload["exp"] - payload["iat"] > LONGEST_LIFE_S:
        raise BadToken("it lasts for longer than any")
    for name in _TEXTS:
        if not isinstance(payload[name], str) or not payload[name]:
            raise BadToken("an identifier is no text")
        payload[name].encode()  # a lone surrogate is a ValueError
    if payload["aud"] != audience or payload["iss"] != issuer:
        raise BadToken("the issuer or the audience is another, or an array", foreign=True)
    rules: dict[str, Any] = {name: {"essential": True} for name in ("aud", "iat", *_TEXTS)}
    rules["iss"] = {"essential": True, "value": issuer}
    # The end is compared below, to the millisecond; whether it has come is told apart from every other fault.
    claims = {name: value for name, value in payload.items() if name != "exp"}
    JWTClaimsRegistry(now=now_ms // 1000, leeway=SKEW_MS // 1000, **rules).validate(claims)
    if payload["exp"] * 1000 <= now_ms:
        raise BadToken("it has ended", expired=True)


def _segment(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise BadToken("this is not how base64url is written")
    return data


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadToken("a name occurs twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise BadToken("this is not a number")
