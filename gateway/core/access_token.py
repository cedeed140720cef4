"""Access tokens: JSON Web Tokens by the profile of RFC 9068, signed with Ed25519 (RFC 8037).

Only what this gateway writes itself is read: one algorithm, one type, three header members, every claim present and of
its own type, one spelling of base64url. joserfc alone is more liberal (arrays for audiences, fractions for moments,
other header members, the last of two equal names), so the text is looked at before it gets there.

The algorithm is called ``EdDSA``, as every verifier knows it. RFC 9864 prefers ``Ed25519``, because ``EdDSA`` leaves
the curve open; here the `kid` fixes it, and no key of another curve gets in.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import joserfc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry, decode, encode

from gateway.core.clock import CLOCK_SKEW_MS
from gateway.errors import AuthFailed, ConfigError

MAX_TOKEN_LENGTH = 4096
"""No access token is longer: anything above is refused before it is worked on."""
SEED_BYTES = 32
ALGORITHM = "EdDSA"
TYPE = "at+jwt"
NOT_VALID = "The token is not valid."
"""The one sentence for every token that is refused: why, is nobody's business."""

_FORM = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_LAST_MOMENT_S = 253_402_300_799
"""The end of the year 9999; RFC 3339 has no words for anything later."""
_TEXTS = ("sub", "sid", "jti", "client_id")
_OLDEST_LIBRARY = (1, 8)


class Claims(NamedTuple):
    """What a token says: whose it is, by which login session, for which client, and which key signed it. Times in
    milliseconds since 1970 UTC, whole seconds in the token."""

    user: str
    session: str
    expires_at: int
    issued_at: int
    id: str
    client: str
    kid: str


class _Algorithm(JWSRegistry):
    """joserfc's registry with one algorithm, for whose name it would warn at every token (see above)."""

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(ALGORITHM)
        return self.algorithms[ALGORITHM]


class _StrictDecoder(json.JSONDecoder):
    """JSON in which no name occurs twice and every number is one."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_members, parse_constant=_no_number)


_REGISTRY = _Algorithm(algorithms=[ALGORITHM])


def check_library(version: str = joserfc.__version__) -> None:
    """Refuse to work with a joserfc that has known holes: ConfigError for anything before 1.8."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < _OLDEST_LIBRARY:
        raise ConfigError(
            f"joserfc {version} is installed, and access tokens need 1.8 or newer: pip install -U joserfc"
        )


def private_key(seed: bytes) -> OKPKey:
    """The Ed25519 key of 32 bytes from the system's random generator (RFC 8032 §5.1.5); ValueError for another number
    of bytes."""
    return OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(seed))


def public_key(jwk: str) -> OKPKey:
    """The public key in a JSON Web Key (RFC 8037 §2); ValueError for all that is no Ed25519 key."""
    try:
        fields = json.loads(jwk, cls=_StrictDecoder)
        if not isinstance(fields, dict) or (fields.get("kty"), fields.get("crv")) != ("OKP", "Ed25519"):
            raise ValueError("it is not an Ed25519 key")
        return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": fields["x"]})
    except (JoseError, KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("this is no public Ed25519 key") from None


def key_id(key: OKPKey) -> str:
    """The `kid` of a key, from its thumbprint (RFC 7638): 22 of its characters, 132 bits. It stands for that key alone,
    tells nothing of its private part, and may be written anywhere."""
    return "k_" + key.thumbprint()[:22]


def public_jwk(key: OKPKey) -> dict[str, str]:
    """The public part of a key as a JSON Web Key set holds it (RFC 7517 §4, RFC 8037 §2)."""
    fields = {name: str(value) for name, value in key.as_dict(private=False).items() if name in ("kty", "crv", "x")}
    return fields | {"kid": key_id(key), "use": "sig", "alg": ALGORITHM}


def looks_like(text: str) -> bool:
    """Whether `text` has the form of an access token: two JSON objects and a signature in base64url. It says nothing of
    whether one was ever issued."""
    return len(text) <= MAX_TOKEN_LENGTH and _FORM.fullmatch(text) is not None


def sign(claims: Claims, key: OKPKey, *, issuer: str, audience: str) -> str:
    """The token with these claims; `key` is the private one that `claims.kid` names. ValueError when it would be longer
    than a token may be."""
    payload = {
        "iss": issuer,
        "aud": audience,
        "sub": claims.user,
        "iat": claims.issued_at // 1000,
        "exp": claims.expires_at // 1000,
        "jti": claims.id,
        "client_id": claims.client,
        "sid": claims.session,
    }
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": claims.kid}
    token = encode(header, payload, key, registry=_REGISTRY)
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError(f"an access token has at most {MAX_TOKEN_LENGTH} characters")
    return token


def verify(token: str, keys: Mapping[str, OKPKey], *, issuer: str, audience: str, now_ms: int) -> Claims:
    """What `token` says, when one of `keys` signed it for this issuer and audience and it has not ended.

    It ends at `exp` to the second; `iat` may be up to a minute ahead (`CLOCK_SKEW_MS`), so that a token is good
    everywhere as soon as it is given; the end has no such leeway, which would only lengthen it. Raises AuthFailed, with
    the same sentence for every reason, and nothing else.
    """
    if not looks_like(token):
        raise AuthFailed(NOT_VALID)
    try:
        kid = _kid(token.partition(".")[0])
        payload = decode(token, keys[kid], registry=_REGISTRY, decoder_cls=_StrictDecoder).claims
        _check(payload, issuer, audience, now_ms)
    except (JoseError, KeyError, TypeError, ValueError, RecursionError):
        raise AuthFailed(NOT_VALID) from None
    return Claims(
        user=payload["sub"],
        session=payload["sid"],
        expires_at=payload["exp"] * 1000,
        issued_at=payload["iat"] * 1000,
        id=payload["jti"],
        client=payload["client_id"],
        kid=kid,
    )


def _kid(segment: str) -> str:
    """The `kid` of a header that holds it, the algorithm, the type, and nothing more; ValueError for any other."""
    header = json.loads(_segment(segment).decode(), cls=_StrictDecoder)
    if not isinstance(header, dict) or header.keys() != {"alg", "typ", "kid"}:
        raise ValueError("the header has other members")
    kid = header["kid"]
    if (header["alg"], header["typ"]) != (ALGORITHM, TYPE) or not isinstance(kid, str):
        raise ValueError("the header names another algorithm or type")
    return kid


def _check(payload: dict[str, Any], issuer: str, audience: str, now_ms: int) -> None:
    """JoseError or ValueError for claims that are missing, wrong, or of a type that joserfc lets pass."""
    rules: dict[str, Any] = {name: {"essential": True} for name in ("aud", "exp", "iat", *_TEXTS)}
    rules["iss"] = {"essential": True, "value": issuer}
    # The leeway here is for iat alone: exp is compared to the millisecond below.
    JWTClaimsRegistry(now=now_ms // 1000, leeway=CLOCK_SKEW_MS // 1000, **rules).validate(payload)
    if payload["aud"] != audience:
        raise ValueError("the audience is another, or an array")
    for name in ("exp", "iat"):
        if type(payload[name]) is not int or not 0 <= payload[name] <= _LAST_MOMENT_S:
            raise ValueError("a moment is no whole number of seconds")
    if payload["exp"] * 1000 <= now_ms:
        raise ValueError("it has ended")
    for name in _TEXTS:
        if not isinstance(payload[name], str):
            raise ValueError("an identifier is no text")
        payload[name].encode()  # a lone surrogate is a ValueError


def _segment(text: str) -> bytes:
    """Base64url (RFC 7515 §2) in its one spelling; ValueError for any other of the same bytes."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError("this is not how base64url is written")
    return data


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError("this is not a number")
