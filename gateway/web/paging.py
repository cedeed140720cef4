"""Lists in pages, and the opaque cursors that lead from one page to the next.

A cursor is a position in an order and grants nothing: whoever makes one up skips a part of a list that was open
anyway. The check in it finds those that were cut off, mistyped or belong to another list.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

import msgspec

from gateway.errors import BadRequest

MAX_LIMIT = 200
Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT, description="How many at the most")]
Cursor = Annotated[str, msgspec.Meta(description="`next` of the page before")]
DEFAULT_LIMIT = 50

_CHECK_BYTES = 6

Item = TypeVar("Item")
Found = TypeVar("Found")
Position = TypeVar("Position", int, str)


class Paged(msgspec.Struct, frozen=True):
    """Which page."""

    cursor: Cursor | None = None
    limit: Limit = DEFAULT_LIMIT


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """A part of a list; `next` leads to the following one (null: this is the last)."""

    items: list[Item]
    next: str | None


def page(
    of: str,
    found: Sequence[Found],
    limit: int,
    *,
    position: Callable[[Found], int | str],
    shown: Callable[[Found], Item],
) -> Page[Item]:
    """The page of `limit` items, when up to one more was looked for and `found`; `of` names the list."""
    there = found[:limit]
    following = write_cursor(of, position(there[-1])) if len(found) > limit else None
    return Page([shown(one) for one in there], following)


def write_cursor(of: str, position: int | str) -> str:
    """The cursor that leads behind this position of a list."""
    content = msgspec.json.encode(position)
    return base64.urlsafe_b64encode(_check(of, content) + content).rstrip(b"=").decode()


def read_cursor(of: str, cursor: str, kind: type[Position]) -> Position:
    """The position that a cursor of this list names. Raises BadRequest for anything that `write_cursor` did not
    write."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, content = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        position = msgspec.json.decode(content, type=kind)
    except ValueError:
        raise BadRequest("There is no such cursor.") from None
    if check != _check(of, content) or write_cursor(of, position) != cursor:
        raise BadRequest("There is no such cursor.")
    return position


def _check(of: str, content: bytes) -> bytes:
    return hashlib.sha256(of.encode() + b"\0" + content).digest()[:_CHECK_BYTES]
