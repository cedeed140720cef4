"""Signed requests of server instances: the strict profile of RFC 9421 that is accepted, and nothing beside it.

    Signature-Input: gw=("@method" "@authority" "@path" "@query");created=1795288200;keyid="k_…";nonce="…";tag="gateway"
    Signature: gw=:…:

One signature, by HMAC with SHA-256 (§3.3.3), over at least these components in any order: `@method`, `@authority`,
`@path`, `@query`, `content-digest` where there is a body, `authorization` where there is that field; other fields of
the request may be covered too. The parameters are `created`, `keyid`, `nonce`, `tag`, and if the signer likes `alg`
and `expires`. What is written in another form than the one that RFC 9651 serializes is refused, so that the text which
came is the text that was signed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Sequence
from hashlib import sha256, sha512
from typing import NamedTuple

TAG = "gateway"
ALGORITHM = "hmac-sha256"
AGE_MS = 60_000
SKEW_MS = 30_000
"""How old a signature may be, and how far its maker's clock may be ahead."""
SECRET_BYTES = 32
MAX_FIELD = 2_048
"""Characters of the longest field that is looked at."""

SIGNATURE_INPUT = "signature-input"
SIGNATURE = "signature"
DIGEST = "content-digest"
AUTHORIZATION = "authorization"

_ALWAYS = ("@method", "@authority", "@path", "@query")
_LABEL = r"[a-z*][a-z0-9_.*-]{0,63}"
_NAMES = r'"[a-z@-]+"(?: "[a-z@-]+")*'
_STRING = r'"[ !#-\[\]-~]*"'
_INPUT = re.compile(rf"({_LABEL})=(\(({_NAMES})\)((?:;[a-z]+=(?:[0-9]{{1,15}}|{_STRING}))*))")
_PARAMETER = re.compile(rf";([a-z]+)=([0-9]{{1,15}}|{_STRING})")
_VALUES = {
    "created": re.compile(r"[1-9][0-9]{0,14}"),
    "expires": re.compile(r"[1-9][0-9]{0,14}"),
    "keyid": re.compile(r'"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"'),
    "nonce": re.compile(r'"[!#-\[\]-~]{1,128}"'),
    "alg": re.compile(rf'"{ALGORITHM}"'),
    "tag": re.compile(rf'"{TAG}"'),
}
_REQUIRED = {"created", "keyid", "nonce", "tag"}
_SIGNATURE = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]{{43}}=):")
_DIGEST = re.compile(r"sha-(256|512)=:([A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==):")
_HASHES = {"256": sha256, "512": sha512}


class SignatureRefused(ValueError):
    """The request is not signed in the way that is accepted; the text is one sentence for whoever signs."""


class Message(NamedTuple):
    """What a signature may cover of a request. `authority` and `path` are normalized (RFC 9421 §2.2.3, §2.2.6), `query`
    begins with its question mark; `fields` answers all lines of a field, by its name in lower case."""

    method: str
    authority: str
    path: str
    query: str
    fields: Callable[[str], Sequence[str]]


class Digest(NamedTuple):
    """What the body has to hash to: `size` is ``256`` or ``512``."""

    size: str
    value: bytes

    def matches(self, body: bytes) -> bool:
        """Whether it is this body's."""
        return hmac.compare_digest(_HASHES[self.size](body).digest(), self.value)


class Signature(NamedTuple):
    """A signature as it came, not verified. `created` and `expires` are in seconds since 1970 UTC; `base` is what was
    signed (§2.5); `digest` None: a request without a body."""

    keyid: str
    created: int
    expires: int | None
    nonce: str
    value: bytes
    base: bytes
    digest: Digest | None

    def made_by(self, secret: bytes) -> bool:
        """Whether this secret made it; takes the same time whether or not."""
        return hmac.compare_digest(hmac.digest(secret, self.base, "sha256"), self.value)

    def is_timely(self, now: int) -> bool:
        """Whether it is neither too old nor from the future at `now`, in milliseconds since 1970 UTC."""
        age = now - self.created * 1000
        return -SKEW_MS <= age <= AGE_MS and (self.expires is None or now < self.expires * 1000)


def read_signature(message: Message) -> Signature:
    """The signature of a request, with what it has to have signed. Raises `SignatureRefused`."""
    label, covered, parameters, written = _input(_only(message, SIGNATURE_INPUT))
    found = _SIGNATURE.fullmatch(_only(message, SIGNATURE))
    if found is None or found[1] != label:
        raise SignatureRefused("Signature has to be the one that Signature-Input describes, of 32 bytes.")
    digest = _digest(message) if message.fields(DIGEST) else None
    wanted = {*_ALWAYS, *([DIGEST] if digest else []), *([AUTHORIZATION] if message.fields(AUTHORIZATION) else [])}
    more = set(covered) - wanted
    if len(set(covered)) < len(covered) or not wanted <= set(covered) or any(name.startswith("@") for name in more):
        raise SignatureRefused(f"The signature has to cover {', '.join(sorted(wanted))}, each once, and fields alone.")
    expires = parameters.get("expires")
    return Signature(
        keyid=parameters["keyid"][1:-1],
        created=int(parameters["created"]),
        expires=None if expires is None else int(expires),
        nonce=parameters["nonce"][1:-1],
        value=_bytes(found[2]),
        base=_base(message, covered, written),
        digest=digest,
    )


def _only(message: Message, name: str) -> str:
    lines = message.fields(name)
    if len(lines) != 1 or len(lines[0]) > MAX_FIELD:
        raise SignatureRefused(f"There has to be one field {name}, of {MAX_FIELD} characters at most.")
    return lines[0].strip(" \t")


def _input(text: str) -> tuple[str, list[str], dict[str, str], str]:
    """Label, components, parameters, and components and parameters as they are written."""
    found = _INPUT.fullmatch(text)
    if found is None:
        raise SignatureRefused("Signature-Input has to describe one signature, in the form of RFC 9651.")
    pairs = _PARAMETER.findall(found[4])
    parameters = dict(pairs)
    if len(parameters) < len(pairs) or not _REQUIRED <= parameters.keys() <= _VALUES.keys():
        raise SignatureRefused("The parameters are created, keyid, nonce and tag, perhaps alg and expires, each once.")
    for name, value in pairs:
        if not _VALUES[name].fullmatch(value):
            raise SignatureRefused(f"The parameter {name} has no such value.")
    return found[1], [name[1:-1] for name in found[3].split()], parameters, found[2]


def _digest(message: Message) -> Digest:
    """RFC 9530 §2: of several hashes one would be enough for whoever sends another body, so there is one."""
    found = _DIGEST.fullmatch(_only(message, DIGEST))
    if found is None:
        raise SignatureRefused("Content-Digest has to be one sha-256 or sha-512.")
    digest = Digest(found[1], _bytes(found[2]))
    if len(digest.value) * 8 != int(digest.size):
        raise SignatureRefused("Content-Digest is not as long as its hash.")
    return digest


def _bytes(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error:
        decoded = b""
    if base64.b64encode(decoded).decode() != text:
        raise SignatureRefused("What is written in base64 has to be written in its one way.")
    return decoded


def _base(message: Message, covered: Sequence[str], written: str) -> bytes:
    """The signature base (§2.5)."""
    derived = {
        "@method": message.method,
        "@authority": message.authority,
        "@path": message.path,
        "@query": message.query,
    }
    lines = []
    for name in covered:
        value = derived[name] if name in derived else _field(message, name)
        if not value.isascii() or not value.isprintable():
            raise SignatureRefused(f"{name} has to be printable ASCII.")
        lines.append(f'"{name}": {value}')
    lines.append(f'"@signature-params": {written}')
    return "\n".join(lines).encode("ascii")


def _field(message: Message, name: str) -> str:
    lines = message.fields(name)
    if len(lines) != 1:
        raise SignatureRefused(f"There has to be one field {name}.")
    return lines[0].strip(" \t")
