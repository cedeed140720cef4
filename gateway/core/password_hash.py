"""Stored password hashes: the usual forms of argon2, bcrypt, scrypt and PBKDF2, read and bounded.

Nothing is computed here. What one verification may cost is bounded before anybody begins it: about a second of a core,
and 512 MiB of memory, so that no hash from outside can stop the logins of everybody else.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

MAX_LENGTH = 1024
"""Characters; those in use have 60 to 200."""

MAX_ARGON2_MEMORY_KIB = 524_288
MAX_ARGON2_WORK = 1_048_576
"""KiB times passes: 64 MiB 16 times, 512 MiB twice. RFC 9106's second choice takes a fifth of it, its first twice."""
MAX_ARGON2_PASSES = 256
"""Each begins its lanes anew, four times: with little memory that is most of the work."""
MAX_ARGON2_LANES = 16
MAX_BCRYPT_ROUNDS = 14
"""2^14 rounds."""
MAX_SCRYPT_BYTES = 1 << 28
"""128 · N · r · p: memory and work in one. N counts as 16 at least, for there is work that it does not multiply."""
MAX_PBKDF2_ITERATIONS = {"sha1": 3_000_000, "sha256": 3_000_000, "sha512": 1_000_000}
"""Times the blocks of the output."""

_MIN_SALT, _MAX_SALT = 4, 128
_MIN_DIGEST, _MAX_DIGEST = 16, 64
OWN_SALT_BYTES = 16
OWN_DIGEST_BYTES = 32
ARGON2_VERSION = 19


class Policy(NamedTuple):
    """What a new hash costs: argon2id with `memory_kib` KiB, `time` passes, `parallelism` lanes."""

    memory_kib: int
    time: int
    parallelism: int


class Argon2Hash(NamedTuple):
    """RFC 9106; `version` is 19 (1.3) or 16 (1.0)."""

    kind: Literal["argon2id", "argon2i", "argon2d"]
    version: int
    memory_kib: int
    time: int
    parallelism: int
    salt: bytes
    digest: bytes


class BcryptHash(NamedTuple):
    """`text` in canonical form, of which the first 29 characters are the setting; 2^`rounds` rounds."""

    kind: Literal["bcrypt"]
    rounds: int
    text: str


class ScryptHash(NamedTuple):
    """RFC 7914."""

    kind: Literal["scrypt"]
    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes


class Pbkdf2Hash(NamedTuple):
    """RFC 8018 §5.2 with HMAC of `algorithm`."""

    kind: Literal["pbkdf2"]
    algorithm: Literal["sha1", "sha256", "sha512"]
    iterations: int
    salt: bytes
    digest: bytes


PasswordHash: TypeAlias = Argon2Hash | BcryptHash | ScryptHash | Pbkdf2Hash

_NUMBER = r"([1-9][0-9]{0,9})"
_B64 = r"([A-Za-z0-9+/]+)"
_AB64 = r"([A-Za-z0-9./]+)"
_PADDED = r"([A-Za-z0-9+/]+={0,2})"
_PLAIN_SALT = r"([\x21-\x23\x25-\x7e]+)"  # without $
_BCRYPT64 = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SHA_BYTES = {"sha1": 20, "sha256": 32, "sha512": 64}


def parse_hash(text: str) -> PasswordHash:
    """The parameters, salt and digest of a stored hash.

    Forms: PHC strings of argon2 (`$argon2id$v=19$m=,t=,p=$salt$digest`, also with Django's ``argon2`` before it),
    bcrypt (`$2a$`, `$2b$`, `$2y$`, also with Django's ``bcrypt$`` before it), scrypt as passlib (`$scrypt$ln=,r=,p=$`),
    Django (`scrypt$N$salt$r$p$`) and Werkzeug (`scrypt:N:r:p$`) write it, and PBKDF2 as they do
    (`$pbkdf2-sha256$`, `pbkdf2_sha256$`, `pbkdf2:sha256:`; SHA-1, SHA-256, SHA-512).

    Raises ValueError with one sentence, which never repeats the text: another form, a field that is too short or too
    long, a cost beyond the bounds above.
    """
    if len(text) <= MAX_LENGTH:
        for pattern, parse in _FORMS.items():
            if found := pattern.fullmatch(text):
                return parse(*found.groups(default=""))
    raise ValueError("must be a hash of argon2, bcrypt, scrypt or PBKDF2 in one of their usual forms")


def needs_rehash(stored: PasswordHash, policy: Policy) -> bool:
    """Whether a password whose hash this is should be hashed anew: another kind, or other costs than `policy`'s."""
    if not isinstance(stored, Argon2Hash) or (stored.kind, stored.version) != ("argon2id", ARGON2_VERSION):
        return True
    costs = (stored.memory_kib, stored.time, stored.parallelism)
    return costs != policy or len(stored.salt) < OWN_SALT_BYTES or len(stored.digest) < OWN_DIGEST_BYTES


def check_policy(policy: Policy) -> None:
    """ValueError with one sentence when `parse_hash` would refuse what this policy makes."""
    _check_argon2(*policy)


def _argon2(kind: str, version: str, memory: str, time: str, lanes: str, salt: str, digest: str) -> PasswordHash:
    costs = (int(memory), int(time), int(lanes))
    _check_argon2(*costs)
    fields = _fields(_unpadded(salt), _unpadded(digest))
    if len(fields[0]) < 8:
        raise ValueError("has a salt or digest that is too short or too long")
    number = int(version or "16")
    if number not in (16, ARGON2_VERSION):
        raise ValueError("has an unknown version of argon2")
    return Argon2Hash(kind, number, *costs, *fields)  # type: ignore[arg-type]


def _check_argon2(memory_kib: int, time: int, lanes: int) -> None:
    if memory_kib < 8 * lanes:
        raise ValueError("has less memory than argon2 needs")
    too_much = memory_kib > MAX_ARGON2_MEMORY_KIB or memory_kib * time > MAX_ARGON2_WORK
    if too_much or time > MAX_ARGON2_PASSES or lanes > MAX_ARGON2_LANES:
        raise ValueError("costs more than the gateway spends on one password")


def _bcrypt(variant: str, rounds: str, salt: str, digest: str) -> PasswordHash:
    if int(rounds) > MAX_BCRYPT_ROUNDS:
        raise ValueError("costs more than the gateway spends on one password")
    # Some programs leave stray bits in the last character of salt and digest, which the library refuses.
    text = f"${variant}${rounds}${_masked(salt, 0x30)}{_masked(digest, 0x3C)}"
    return BcryptHash("bcrypt", int(rounds), text)


def _masked(text: str, bits: int) -> str:
    return text[:-1] + _BCRYPT64[_BCRYPT64.index(text[-1]) & bits]


def _scrypt(n: int, r: str, p: str, salt: bytes, digest: bytes) -> PasswordHash:
    if n < 2 or n & (n - 1):
        raise ValueError("has an N of scrypt that is no power of two")
    if 128 * max(n, 16) * int(r) * int(p) > MAX_SCRYPT_BYTES:
        raise ValueError("costs more than the gateway spends on one password")
    return ScryptHash("scrypt", n, int(r), int(p), *_fields(salt, digest))


def _scrypt_passlib(exponent: str, r: str, p: str, salt: str, digest: str) -> PasswordHash:
    return _scrypt(1 << min(int(exponent), 64), r, p, _unpadded(salt), _unpadded(digest))


def _scrypt_django(n: str, salt: str, r: str, p: str, digest: str) -> PasswordHash:
    return _scrypt(int(n), r, p, salt.encode(), _padded(digest))


def _scrypt_werkzeug(n: str, r: str, p: str, salt: str, digest: str) -> PasswordHash:
    return _scrypt(int(n), r, p, salt.encode(), _hex(digest))


def _pbkdf2(algorithm: str, iterations: str, salt: bytes, digest: bytes) -> PasswordHash:
    blocks = -(-len(digest) // _SHA_BYTES[algorithm])
    if int(iterations) * blocks > MAX_PBKDF2_ITERATIONS[algorithm]:
        raise ValueError("costs more than the gateway spends on one password")
    return Pbkdf2Hash("pbkdf2", algorithm, int(iterations), *_fields(salt, digest))  # type: ignore[arg-type]


def _pbkdf2_passlib(algorithm: str, iterations: str, salt: str, digest: str) -> PasswordHash:
    return _pbkdf2(
        algorithm or "sha1", iterations, _unpadded(salt.replace(".", "+")), _unpadded(digest.replace(".", "+"))
    )


def _pbkdf2_django(algorithm: str, iterations: str, salt: str, digest: str) -> PasswordHash:
    return _pbkdf2(algorithm, iterations, salt.encode(), _padded(digest))


def _pbkdf2_werkzeug(algorithm: str, iterations: str, salt: str, digest: str) -> PasswordHash:
    return _pbkdf2(algorithm, iterations, salt.encode(), _hex(digest))


def _fields(salt: bytes, digest: bytes) -> tuple[bytes, bytes]:
    if not (_MIN_SALT <= len(salt) <= _MAX_SALT and _MIN_DIGEST <= len(digest) <= _MAX_DIGEST):
        raise ValueError("has a salt or digest that is too short or too long")
    return salt, digest


def _unpadded(text: str) -> bytes:
    return _padded(text + "=" * (-len(text) % 4))


def _padded(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("has a salt or digest that is not base64") from None
    if base64.b64encode(decoded).decode() != text:
        raise ValueError("has a salt or digest that is not base64")
    return decoded


def _hex(text: str) -> bytes:
    if len(text) % 2:
        raise ValueError("has a digest that is not hexadecimal")
    return bytes.fromhex(text)


_FORMS: Mapping[re.Pattern[str], Callable[..., PasswordHash]] = {
    re.compile(rf"(?:argon2)?\$(argon2id|argon2i|argon2d)\$(?:v={_NUMBER}\$)?m={_NUMBER},t={_NUMBER},p={_NUMBER}"
               rf"\${_B64}\${_B64}"): _argon2,
    re.compile(r"(?:bcrypt\$)?\$(2[aby])\$(0[4-9]|[12][0-9]|3[01])\$([./A-Za-z0-9]{22})([./A-Za-z0-9]{31})"): _bcrypt,
    re.compile(rf"\$scrypt\$ln={_NUMBER},r={_NUMBER},p={_NUMBER}\${_B64}\${_B64}"): _scrypt_passlib,
    re.compile(rf"scrypt\${_NUMBER}\${_PLAIN_SALT}\${_NUMBER}\${_NUMBER}\${_PADDED}"): _scrypt_django,
    re.compile(rf"scrypt:{_NUMBER}:{_NUMBER}:{_NUMBER}\${_PLAIN_SALT}\$([0-9a-f]+)"): _scrypt_werkzeug,
    re.compile(rf"\$pbkdf2(?:-(sha1|sha256|sha512))?\${_NUMBER}\${_AB64}\${_AB64}"): _pbkdf2_passlib,
    re.compile(rf"pbkdf2_(sha1|sha256|sha512)\${_NUMBER}\${_PLAIN_SALT}\${_PADDED}"): _pbkdf2_django,
    re.compile(rf"pbkdf2:(sha1|sha256|sha512):{_NUMBER}\${_PLAIN_SALT}\$([0-9a-f]+)"): _pbkdf2_werkzeug,
}  # fmt: skip
"""By form; the groups of each are the arguments."""
