"""What names a request to spend, and the bounds of what may be asked."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable

MOST = 2**31
"""The most units in one request."""
LONGEST_KEY = 128
"""Characters of a key or of a lease's name, at the most."""
LONGEST_NAME = 256
LONGEST_TTL_S = 3600.0

_STAMP = re.compile("[0-9a-f]{12}")


def new_key(wall_clock: Callable[[], float] = time.time) -> str:
    """A key that nobody else makes. It begins with the time, in milliseconds since 1970 and 12 hexadecimal digits.

    Keys grow with time: the gateway's index of them then grows at its end.
    """
    return f"{int(wall_clock() * 1000):012x}{secrets.token_hex(8)}"


def made_at(key: str) -> float | None:
    """The time that a key begins with, in seconds since 1970; None for one that begins with none."""
    stamp = _STAMP.match(key)
    return None if stamp is None else int(stamp[0], 16) / 1000


def checked_name(what: str, name: str, longest: int = LONGEST_NAME) -> str:
    """The name of a quota, an organization, a request or a lease. Raises ValueError for what can not be one."""
    if not isinstance(name, str) or not 1 <= len(name) <= longest:
        raise ValueError(f"{what} is a text of 1 to {longest} characters")
    if any(character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"{what} holds no control characters and no halves of characters")
    return name


def checked_key(key: str | None) -> str:
    """The key of a request, or a new one. Raises ValueError."""
    return new_key() if key is None else checked_name("a key", key, LONGEST_KEY)


def checked_amount(amount: int) -> int:
    """Units to take. Raises ValueError for what is no integer from 1 to 2^31."""
    if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= MOST:
        raise ValueError("an amount is a whole number from 1 to 2147483648")
    return amount


def checked_seconds(what: str, seconds: float, longest: float = math.inf) -> float:
    """A length of time, positive and finite. Raises ValueError."""
    if not isinstance(seconds, int | float) or not 0 < seconds <= longest or seconds == math.inf:
        raise ValueError(
            f"{what} is a positive number of seconds" + (f" up to {longest:g}" if longest < math.inf else "")
        )
    return seconds


def checked_ttl(ttl_s: float) -> float:
    """How long a lease is held without being extended. Raises ValueError."""
    if not isinstance(ttl_s, int | float) or not 1 <= ttl_s <= LONGEST_TTL_S:
        raise ValueError("a lease is held for 1 to 3600 seconds")
    return ttl_s
