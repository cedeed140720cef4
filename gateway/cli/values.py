"""The kinds of value that commands take, checked before anything is done with them."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import click
import msgspec

from gateway.core.clock import parse_rfc3339
from gateway.core.document import MAX_INTEGER
from gateway.core.spending import KEY_LENGTH, MOST
from gateway.core.text import MAX_EMAIL, MAX_LABEL, TEXT_CHECKS, check_attributes, check_text, make_id
from gateway.store.database import wall_clock

_WHOLE = re.compile(r"[+-]?[0-9]{1,16}")
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
UNLIMITED = "unlimited"
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class _Checked(click.ParamType[str]):
    """Text that `check` (ValueError) lets through, in the form that it gives it."""

    def __init__(self, name: str, check: Callable[[str], str]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text, or a usage error."""
        try:
            return self._check(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Moment(click.ParamType[int]):
    """A moment to come: RFC 3339, a date (midnight UTC), or from now on 30m, 12h, 7d, 4w; milliseconds since 1970
    UTC. `past`: one that has passed, and as long ago.
    """

    name = "when"

    def __init__(self, *, past: bool = False) -> None:
        self._past = past

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The moment, or a usage error."""
        now = wall_clock()
        duration = _DURATION.fullmatch(value)
        try:
            if duration:
                length_ms = int(duration[1]) * _UNIT_MS[duration[2]]
                moment = now - length_ms if self._past else now + length_ms
            else:
                moment = parse_rfc3339(value if "T" in value.upper() else f"{value}T00:00:00Z")
        except ValueError:
            lengths = "so long ago" if self._past else "from now on"
            self.fail(f"write 2026-12-31, 2026-12-31T18:00:00Z, or {lengths} 30m, 12h, 7d, 4w", param, ctx)
        if (moment > now) if self._past else (moment <= now):
            self.fail("this moment is yet to come" if self._past else "this moment has passed", param, ctx)
        return moment


class _Limit(click.ParamType[int | str]):
    """A quota's limit: a whole number, or ``unlimited``, which stays a word."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The limit, or a usage error."""
        if value == UNLIMITED:
            return value
        if not re.fullmatch(r"[0-9]{1,16}", value) or int(value) > 2**53 - 1:
            self.fail("write a whole number up to 2^53 - 1, or unlimited", param, ctx)
        return int(value)


class _Amount(click.ParamType[int]):
    """Units of a quota: a whole number from `least` to `most`, with a sign where it may be negative."""

    name = "amount"

    def __init__(self, least: int, most: int, bounds: str) -> None:
        self._least = least
        self._most = most
        self._bounds = bounds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        if isinstance(value, int):
            return value
        if not _WHOLE.fullmatch(value) or not self._least <= int(value) <= self._most:
            self.fail(f"write a whole number from {self._bounds}", param, ctx)
        return int(value)


class _Attribute(click.ParamType[tuple[str, Any]]):
    """``KEY=VALUE``: the value is JSON where it is JSON, else text."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The pair, or a usage error."""
        key, equals, text = value.partition("=")
        if not equals:
            self.fail("write KEY=VALUE", param, ctx)
        try:
            return key, msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return key, text


def new_id(prefix: str) -> str:
    """An id that nobody has."""
    return make_id(prefix, secrets.token_bytes(10))


def checked_attributes(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The attributes given as KEY=VALUE; usage error for what a document can not hold."""
    try:
        return check_attributes(dict(pairs))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def limit_value(limit: int | str) -> int | None:
    """What the database holds for a limit: None for ``unlimited``."""
    return limit if isinstance(limit, int) else None


USERNAME = _Checked("username", TEXT_CHECKS["username"])
EMAIL = _Checked("email", TEXT_CHECKS["email"])
ID = _Checked("id", TEXT_CHECKS["id"])
PERMISSION = _Checked("permission", TEXT_CHECKS["permission"])
QUOTA = _Checked("quota", TEXT_CHECKS["quota"])
TIMEZONE = _Checked("zone", TEXT_CHECKS["timezone"])
NAME = _Checked("name", TEXT_CHECKS["name"])
PLAN = _Checked("plan", TEXT_CHECKS["plan"])
WHO = _Checked("user", lambda value: check_text(unicodedata.normalize("NFKC", value), "the user", MAX_EMAIL))
KEY = _Checked("key", partial(check_text, what="the key", longest=KEY_LENGTH, shortest=1))
REASON = _Checked("reason", partial(check_text, what="the reason", longest=MAX_LABEL, shortest=1))
AMOUNT = _Amount(1, MOST, "1 to 2^31")
DIFFERENCE = _Amount(-MOST, MOST, "-2^31 to 2^31")
TOTAL = _Amount(0, MAX_INTEGER, "0 to 2^53 - 1")
MOMENT = _Moment()
PAST = _Moment(past=True)
LIMIT = _Limit()
ATTRIBUTE = _Attribute()
PERIOD = click.Choice(["hour", "day", "week", "month", "year", "never"])
