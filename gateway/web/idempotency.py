"""The key by which a client says that two requests are one, however often it had to send it.

It comes in the field ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header), in the body, or in both: in
whatever way, it is the same key, also to the channel.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request

from gateway.core.spending import KEY_LENGTH
from gateway.core.text import check_text
from gateway.errors import BadRequest
from gateway.web.fields import checked

KEY_HEADER = "Idempotency-Key"
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_LENGTH)]

# A string of structured fields (RFC 9651 §3.3.3) that needs no escapes, as the draft has it, or the bare characters, as
# most clients send them.
KEY_PATTERN = rf'"[ !#-\[\]-~]{{1,{KEY_LENGTH}}}"|[!#-~]([ -~]{{0,{KEY_LENGTH - 2}}}[!-~])?'
_KEY = re.compile(KEY_PATTERN)


def checked_key(text: str, what: str = "the key") -> str:
    """A key of a body, or another name of that form. Raises `Unprocessable`."""
    return checked(lambda value: check_text(value, what, KEY_LENGTH, shortest=1), text)


def request_key(request: Request, told: str | UnsetType = UNSET, what: str = "the key") -> str | None:
    """The key of a request whose body `told` that one; None without any. Raises `BadRequest` for a header that can not
    be read or says another one, `Unprocessable` for a key of the body that can be none.
    """
    fields = request.headers.getlist(KEY_HEADER)
    if not fields:
        return None if told is UNSET else checked_key(told, what)
    if len(fields) > 1 or not _KEY.fullmatch(fields[0]):
        raise BadRequest(f"{KEY_HEADER} has to be one key of 1 to {KEY_LENGTH} printable ASCII characters.")
    key = fields[0][1:-1] if fields[0].startswith('"') else fields[0]
    if told is not UNSET and checked_key(told, what) != key:
        raise BadRequest(f"{KEY_HEADER} and the body do not say the same key.")
    return key


def required_key(request: Request, told: str | UnsetType = UNSET, what: str = "the key") -> str:
    """As `request_key`, where there has to be one."""
    key = request_key(request, told, what)
    if key is None:
        raise BadRequest(f"A key is needed, in {KEY_HEADER} or in the body.")
    return key
