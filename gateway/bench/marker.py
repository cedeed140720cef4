"""The number of a commit, where a client can see it: in the user's name.

A row can not hold the time after its own commit, so the writer numbers its commits and notes the times; the load
generator finds the number in the patch without decoding it, and the two notes are joined afterwards.
"""

from __future__ import annotations

PREFIX = b"bench "
DIGITS = 10


def marked_name(number: int) -> str:
    """The user name that commit `number` writes."""
    return f"{PREFIX.decode()}{number:0{DIGITS}}"


def marked_number(payload: bytes) -> int:
    """The number of the commit that a frame carries, or -1 when it carries none."""
    at = payload.find(PREFIX)
    if at < 0:
        return -1
    digits = payload[at + len(PREFIX) : at + len(PREFIX) + DIGITS]
    return int(digits) if len(digits) == DIGITS and digits.isdigit() else -1
