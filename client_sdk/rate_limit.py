"""How much an instance may still ask, as the gateway's answers say (draft-ietf-httpapi-ratelimit-headers-10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_POLICY = re.compile(r'"default"(?:;\w+=\d+)*?;q=(\d{1,9})(?:;\w+=\d+)*?;w=(\d{1,9})')
_LIMIT = re.compile(r'"default"(?:;\w+=\d+)*?;r=(\d{1,9})')


class RateLimit(NamedTuple):
    """`limit` requests in `window_s` seconds, evenly refilled, of which `remaining` are left."""

    limit: int
    window_s: int
    remaining: int


def read_rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """What an answer says of the rate ``default``; None where it says nothing that can be understood."""
    policy = _POLICY.search(headers.get("RateLimit-Policy", ""))
    left = _LIMIT.search(headers.get("RateLimit", ""))
    if policy is None or left is None or not int(policy[1]) or not int(policy[2]):
        return None
    return RateLimit(int(policy[1]), int(policy[2]), int(left[1]))
