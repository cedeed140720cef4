"""The edge for text: what the gateway accepts from outside, before it reaches a row, a log line or a document.

Each check returns the text to be used from then on and raises ValueError with one sentence for whoever sent it, which
never repeats the input.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gateway.core.clock import zone
from gateway.core.document import canonical, plain_object

MAX_USERNAME = 64
MAX_EMAIL = 254
MAX_LABEL = 200
MAX_ATTRIBUTE_KEY = 64
MAX_ATTRIBUTES_BYTES = 16_384
MAX_ATTRIBUTES_DEPTH = 8

# C0, DEL, C1 and surrogates. NUL ends the text for some drivers, the others forge log lines and terminals, a lone
# surrogate has no UTF-8.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
_ATTRIBUTE_KEY = re.compile(rf"[\x20-\x7e]{{1,{MAX_ATTRIBUTE_KEY}}}")
# The letters and marks that have no ink (Unicode's Default_Ignorable_Code_Point among L and M, after NFKC).
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_USERNAME_SIGNS = frozenset("._-+")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}")
_ID_PREFIX = re.compile(r"[a-z]{1,8}_")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: nothing to misread or to misspell
_MIN_ID_BYTES = 5


def check_text(value: str, what: str, longest: int, *, shortest: int = 0) -> str:
    """`value`, when it has `shortest` to `longest` characters, none of them a control character or a lone surrogate.

    `what` names it in the error.
    """
    if not shortest <= len(value) <= longest:
        bounds = f"{shortest} to {longest}" if shortest else f"at most {longest}"
        raise ValueError(f"{what} must have {bounds} characters")
    if _FORBIDDEN.search(value):
        raise ValueError(f"{what} must not contain control characters or lone surrogates")
    return value


def is_plain(value: str) -> bool:
    """Whether there are no control characters and no lone surrogates in it."""
    return _FORBIDDEN.search(value) is None


def check_username(value: str) -> str:
    """The user name in NFKC, so that two ways to write the same characters make one name.

    It has 1 to 64 letters, marks, digits and the signs ``. _ - +``, and begins with a letter or digit. White space and
    invisible characters would let one name pass for another; an ``@`` would let one user's name be another's e-mail
    address at login, where either is taken.
    """
    check_text(value, "the user name", MAX_USERNAME, shortest=1)
    name = unicodedata.normalize("NFKC", value)
    check_text(name, "the user name", MAX_USERNAME, shortest=1)
    kinds = [unicodedata.category(character)[0] for character in name]
    if kinds[0] not in "LN":
        raise ValueError("the user name must begin with a letter or a digit")
    if any(kind not in "LMN" and sign not in _USERNAME_SIGNS for kind, sign in zip(kinds, name, strict=True)):
        raise ValueError("the user name must consist of letters, digits and . _ - +")
    if _INVISIBLE.search(name):
        raise ValueError("the user name must not contain invisible characters")
    return name


def check_email(value: str) -> str:
    """The e-mail address, in the form that every mail system takes (RFC 5321 §4.1.2, no quoting, no literals).

    ASCII only, a domain of two labels or more (an international one in its ``xn--`` form), 254 characters at most, 64
    before the ``@``.
    """
    if len(value) > MAX_EMAIL or _EMAIL.fullmatch(value) is None:
        raise ValueError("the e-mail address must have the form name@example.org")
    return value


def check_id(value: str, what: str = "the id") -> str:
    """An id such as ``u_7f3k``: 1 to 64 ASCII letters, digits and ``. _ -``, beginning with a letter or digit.

    It stands in document names (``user:ID@REV``), URL paths and logs, where no other character could pass unescaped.
    """
    if _ID.fullmatch(value) is None:
        raise ValueError(f"{what} must have 1 to 64 letters, digits and . _ -, and begin with a letter or digit")
    return value


def check_name(value: str, what: str) -> str:
    """The name of a permission, quota, role or plan: 1 to 64 ASCII letters, digits and ``. _ : -``, a letter first.

    ASCII, because it is a key of documents, whose order must not depend on an alphabet; without slash, space or leading
    dash, because it is a part of URL paths and a word on the command line; beginning with a letter, because `GET
    /api/identity` shows it as a field of its own.
    """
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{what} must have 1 to 64 letters, digits and . _ : -, and begin with a letter")
    return value


def check_permission(value: str) -> str:
    """The name of a permission: see `check_name`."""
    return check_name(value, "the permission")


def check_quota(value: str) -> str:
    """The name of a quota: see `check_name`."""
    return check_name(value, "the quota")


def check_timezone(value: str) -> str:
    """The name of a time zone that the IANA database knows."""
    try:
        zone(value)
    except ValueError:
        raise ValueError("the time zone must be a name of the IANA database, such as Europe/Berlin") from None
    return value


TEXT_CHECKS: Mapping[str, Callable[[str], str]] = {
    "id": check_id,
    "username": check_username,
    "email": check_email,
    "name": partial(check_text, what="the name", longest=MAX_LABEL),
    "plan": partial(check_name, what="the plan"),
    "role": partial(check_name, what="the role"),
    "permission": check_permission,
    "quota": check_quota,
    "timezone": check_timezone,
}
"""The check of each kind of text, by the field that holds it: the same for whoever fills the field."""


def check_attributes(value: Any) -> dict[str, Any]:
    """The attributes of a user or organization, as a document may hold them: a new object without nulls.

    At most 16 KiB as canonical JSON and 8 levels deep, keys of 1 to 64 printable ASCII characters, texts without
    control characters.
    """
    _check_depth(value, MAX_ATTRIBUTES_DEPTH)
    try:
        attributes = plain_object(value)
    except UnicodeEncodeError:
        raise ValueError("attributes must not contain control characters or lone surrogates") from None
    _check_attribute(attributes)
    if len(canonical(attributes)) > MAX_ATTRIBUTES_BYTES:
        raise ValueError(f"attributes must have at most {MAX_ATTRIBUTES_BYTES} bytes as JSON")
    return attributes


def _check_depth(value: Any, levels: int) -> None:
    """ValueError when `value` nests objects and arrays deeper than `levels`."""
    if isinstance(value, dict | list):
        if levels == 0:
            raise ValueError(f"attributes must be at most {MAX_ATTRIBUTES_DEPTH} levels deep")
        for member in value.values() if isinstance(value, dict) else value:
            _check_depth(member, levels - 1)


def _check_attribute(value: Any) -> None:
    """The keys and texts within one attribute."""
    if isinstance(value, str):
        check_text(value, "an attribute", MAX_ATTRIBUTES_BYTES)
    elif isinstance(value, list):
        for item in value:
            _check_attribute(item)
    elif isinstance(value, dict):
        for key, member in value.items():
            if _ATTRIBUTE_KEY.fullmatch(key) is None:
                raise ValueError(f"an attribute's name must have 1 to {MAX_ATTRIBUTE_KEY} printable ASCII characters")
            _check_attribute(member)


def make_id(prefix: str, entropy: bytes) -> str:
    """An id: `prefix` and the random bytes `entropy` in Crockford's base 32, lower case.

    The prefixes are ``u_`` (user), ``o_`` (organization), ``s_`` (login session) and ``t_`` (API token). 5 bytes give 8
    characters; with 10 bytes two of 10 million ids are equal with a chance below 10^-9. Raises ValueError for fewer
    than 5 bytes and for a prefix of another form.
    """
    if _ID_PREFIX.fullmatch(prefix) is None:
        raise ValueError("the prefix of an id is a few lower-case letters and _")
    if len(entropy) < _MIN_ID_BYTES:
        raise ValueError(f"an id is made of {_MIN_ID_BYTES} bytes or more")
    number = int.from_bytes(entropy, "big")
    length = -(-len(entropy) * 8 // 5)
    return prefix + "".join(_CROCKFORD[number >> 5 * place & 31] for place in reversed(range(length)))
