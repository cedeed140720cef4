"""The forms of stored password hashes. What they mean is tested where passwords are verified."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.password_hash import (
    MAX_ARGON2_WORK,
    MAX_LENGTH,
    MAX_PBKDF2_ITERATIONS,
    Argon2Hash,
    BcryptHash,
    Pbkdf2Hash,
    Policy,
    ScryptHash,
    check_policy,
    needs_rehash,
    parse_hash,
)

SALT, DIGEST = b"s" * 16, b"\xdd" * 32


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode().rstrip("=")


def argon2(kind: str = "argon2id", version: str = "v=19$", costs: str = "m=19456,t=2,p=1", salt: bytes = SALT) -> str:
    return f"${kind}${version}{costs}${b64(salt)}${b64(DIGEST)}"


BCRYPT = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
FORMS = {
    argon2(): Argon2Hash("argon2id", 19, 19456, 2, 1, SALT, DIGEST),
    argon2("argon2i", "v=16$"): Argon2Hash("argon2i", 16, 19456, 2, 1, SALT, DIGEST),
    argon2("argon2d", ""): Argon2Hash("argon2d", 16, 19456, 2, 1, SALT, DIGEST),
    "argon2" + argon2(): Argon2Hash("argon2id", 19, 19456, 2, 1, SALT, DIGEST),
    BCRYPT: BcryptHash("bcrypt", 12, BCRYPT),
    BCRYPT.replace("2b", "2a"): BcryptHash("bcrypt", 12, BCRYPT.replace("2b", "2a")),
    BCRYPT.replace("2b", "2y"): BcryptHash("bcrypt", 12, BCRYPT.replace("2b", "2y")),
    "bcrypt$" + BCRYPT: BcryptHash("bcrypt", 12, BCRYPT),
    f"$scrypt$ln=14,r=8,p=1${b64(SALT)}${b64(DIGEST)}": ScryptHash("scrypt", 16384, 8, 1, SALT, DIGEST),
    f"scrypt$16384$seasalt$8$5${base64.b64encode(DIGEST).decode()}": ScryptHash(
        "scrypt", 16384, 8, 5, b"seasalt", DIGEST
    ),
    f"scrypt:32768:8:1$seasalt${DIGEST.hex()}": ScryptHash("scrypt", 32768, 8, 1, b"seasalt", DIGEST),
    f"$pbkdf2$1000${b64(SALT)}${b64(DIGEST[:20])}": Pbkdf2Hash("pbkdf2", "sha1", 1000, SALT, DIGEST[:20]),
    f"$pbkdf2-sha256$1000${b64(bytes([251, 239, 190, 255]))[:-2].replace('+', '.')}ww${b64(DIGEST)}": Pbkdf2Hash(
        "pbkdf2", "sha256", 1000, base64.b64decode("++++ww=="), DIGEST
    ),
    f"pbkdf2_sha512$1000$sea:salt${base64.b64encode(DIGEST * 2).decode()}": Pbkdf2Hash(
        "pbkdf2", "sha512", 1000, b"sea:salt", DIGEST * 2
    ),
    f"pbkdf2:sha256:1000$seasalt${DIGEST.hex()}": Pbkdf2Hash("pbkdf2", "sha256", 1000, b"seasalt", DIGEST),
}


@pytest.mark.parametrize("text", FORMS)
def test_the_usual_forms_are_read(text: str) -> None:
    assert parse_hash(text) == FORMS[text]


FOREIGN = {
    "nothing": "",
    "unusable": "!vZ",
    "md5": "5f4dcc3b5aa765d61d8327deb882cf99",
    "md5crypt": "$1$5pZSV9va$azfrPr6af3Fc7dLblQXVa0",
    "sha512crypt": "$6$rounds=5000$usesomesillystri$D4IrlXatmP7rx3P3InaxBeoomnAihCKRVQAr/36eYQ",
    "ldap": "{SSHA}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr",
    "bcrypt of another variant": BCRYPT.replace("2b", "2x"),
    "bcrypt of sha-256": "bcrypt_sha256$" + BCRYPT,
    "bcrypt without rounds": BCRYPT.replace("$12$", "$"),
    "bcrypt with few rounds": BCRYPT.replace("$12$", "$03$"),
    "short bcrypt": BCRYPT[:-1],
    "line": argon2() + "\n",
    "argon2 with data": argon2(costs="m=19456,t=2,p=1,data=abc"),
    "argon2 with a sign": argon2(costs="m=+19456,t=2,p=1"),
    "argon2 with a leading zero": argon2(costs="m=019456,t=2,p=1"),
    "argon2 without passes": argon2(costs="m=19456,t=0,p=1"),
    "argon2 in other digits": argon2(costs="m=١٩٤٥٦,t=2,p=1"),
    "pbkdf2 of md5": f"pbkdf2_md5$1000$seasalt${base64.b64encode(DIGEST).decode()}",
    "pbkdf2 in capitals": f"pbkdf2:sha256:1000$seasalt${DIGEST.hex().upper()}",
    "long": argon2() + "A" * MAX_LENGTH,
}
MOST = MAX_PBKDF2_ITERATIONS["sha256"]
ABSURD = {
    "argon2 memory": argon2(costs="m=524289,t=1,p=1"),
    "argon2 by RFC 9106's first choice": argon2(costs="m=2097152,t=1,p=4"),
    "argon2 work": argon2(costs=f"m=65536,t={MAX_ARGON2_WORK // 65536 + 1},p=1"),
    "argon2 passes": argon2(costs="m=8,t=4294967295,p=1"),
    "argon2 passes over little memory": argon2(costs="m=8,t=257,p=1"),
    "argon2 lanes": argon2(costs="m=65536,t=1,p=17"),
    "bcrypt": BCRYPT.replace("$12$", "$15$"),
    "scrypt": f"$scrypt$ln=19,r=8,p=1${b64(SALT)}${b64(DIGEST)}",
    "scrypt p": f"scrypt:16384:8:17$seasalt${DIGEST.hex()}",
    "scrypt p without N": f"scrypt:2:1:1048576$seasalt${DIGEST.hex()}",
    "scrypt exponent": f"$scrypt$ln=9999999999,r=8,p=1${b64(SALT)}${b64(DIGEST)}",
    "pbkdf2": f"pbkdf2:sha256:{MOST + 1}$seasalt${DIGEST.hex()}",
    "pbkdf2 blocks": f"pbkdf2:sha256:{MOST}$seasalt${(DIGEST * 2).hex()}",
    "pbkdf2 of SHA-512": f"pbkdf2:sha512:1000001$seasalt${DIGEST.hex()}",
}
DEFAULTS = {
    "argon2-cffi": argon2(costs="m=65536,t=3,p=4"),
    "argon2 by RFC 9106's second choice": argon2(costs="m=65536,t=3,p=4"),
    "argon2 of Django": "argon2" + argon2(costs="m=102400,t=2,p=8"),
    "argon2 of passlib": argon2("argon2i", costs="m=102400,t=2,p=8"),
    "argon2 of PHP": argon2(costs="m=65536,t=4,p=1"),
    "argon2 of libsodium, moderate": argon2(costs="m=262144,t=3,p=1"),
    "bcrypt of Django": "bcrypt$" + BCRYPT,
    "bcrypt of Spring, Devise, PHP": BCRYPT.replace("$12$", "$10$"),
    "bcrypt of the careful": BCRYPT.replace("$12$", "$14$"),
    "scrypt of Werkzeug": f"scrypt:32768:8:1$seasalt${(DIGEST * 2).hex()}",
    "scrypt of Django": f"scrypt$16384$seasalt$8$5${base64.b64encode(DIGEST * 2).decode()}",
    "scrypt of passlib": f"$scrypt$ln=16,r=8,p=1${b64(SALT)}${b64(DIGEST)}",
    "scrypt by OWASP": f"$scrypt$ln=17,r=8,p=1${b64(SALT)}${b64(DIGEST)}",
    "pbkdf2 of Django 6": f"pbkdf2_sha256$1200000$seasalt${base64.b64encode(DIGEST).decode()}",
    "pbkdf2 of Django 7, it may be": f"pbkdf2_sha256$2000000$seasalt${base64.b64encode(DIGEST).decode()}",
    "pbkdf2 of Werkzeug": f"pbkdf2:sha256:1000000$seasalt${DIGEST.hex()}",
    "pbkdf2 of passlib": f"$pbkdf2-sha512$25000${b64(SALT)}${b64(DIGEST * 2)}",
    "pbkdf2 by OWASP": f"$pbkdf2-sha512$220000${b64(SALT)}${b64(DIGEST * 2)}",
}
DAMAGED = {
    "argon2 with less memory than lanes": argon2(costs="m=31,t=1,p=4"),
    "argon2 of the future": argon2(version="v=20$"),
    "short salt": argon2(salt=b"s" * 7),
    "long salt": argon2(salt=b"s" * 129),
    "stray bits": argon2()[:-1] + "9",
    "base64 of an impossible length": argon2()[:-2],
    "short digest": f"pbkdf2:sha256:1000$seasalt${DIGEST.hex()[:30]}",
    "half a byte": f"pbkdf2:sha256:1000$seasalt${DIGEST.hex()[:-1]}",
    "short Django salt": f"pbkdf2_sha256$1000$sea${base64.b64encode(DIGEST).decode()}",
    "no power of two": f"scrypt:16383:8:1$seasalt${DIGEST.hex()}",
    "N of one": f"scrypt:1:8:1$seasalt${DIGEST.hex()}",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_forms_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a hash of argon2, bcrypt, scrypt or PBKDF2"):
        parse_hash(FOREIGN[name])


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_cost_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^costs more than the gateway spends"):
        parse_hash(ABSURD[name])


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_others_make_by_default_is_accepted(name: str) -> None:
    parse_hash(DEFAULTS[name])


@pytest.mark.parametrize("name", DAMAGED)
def test_what_can_not_be_verified_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^has ") as refused:
        parse_hash(DAMAGED[name])
    assert "$" not in str(refused.value)


def test_stray_bits_of_bcrypt_are_dropped() -> None:
    """The 22nd character of the salt carries two bits, the 31st of the digest four."""
    stray = BCRYPT[:28] + "P" + BCRYPT[29:-1] + "X"
    parsed = parse_hash(stray)
    assert isinstance(parsed, BcryptHash)
    assert parsed.text == BCRYPT[:28] + "O" + BCRYPT[29:-1] + "W"


@given(
    st.text(max_size=200)
    | st.from_regex(re.compile(r"[$:]?(argon2id|scrypt|pbkdf2|2b)[$:,=a-z0-9]{0,80}"), fullmatch=True)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    refused = ""
    try:
        parse_hash(text)
    except ValueError as error:
        refused = str(error)
    assert len(refused) < 100


POLICY = Policy(19456, 2, 1)


def test_only_argon2id_at_the_present_cost_stays() -> None:
    assert not needs_rehash(parse_hash(argon2()), POLICY)
    others = [argon2("argon2i"), argon2(version="v=16$"), argon2(salt=b"s" * 8)]
    others += [argon2(costs=costs) for costs in ("m=19457,t=2,p=1", "m=19456,t=3,p=1", "m=19456,t=2,p=2")]
    others += [BCRYPT, f"scrypt:32768:8:1$seasalt${DIGEST.hex()}", f"pbkdf2:sha256:1000$seasalt${DIGEST.hex()}"]
    assert [text for text in others if not needs_rehash(parse_hash(text), POLICY)] == []


def test_a_policy_that_makes_what_is_refused_is_refused() -> None:
    check_policy(Policy(524_288, 2, 1))
    with pytest.raises(ValueError, match="costs more"):
        check_policy(Policy(524_288, 3, 1))
