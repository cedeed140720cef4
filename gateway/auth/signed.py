"""Values that the gateway hands out and knows again: tickets, CSRF tokens, cookies.

Each is signed with HMAC-SHA-256 under a key of its use alone, so that a value of one use never passes for one of
another. A signature proves origin and age; that something works once is the database's to say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from gateway.core.clock import CLOCK_SKEW_MS
from gateway.core.sealing import Sealer

Use: TypeAlias = Literal["ticket", "csrf", "cookie.access", "cookie.refresh", "device"]
MAX_LENGTH = 8192
"""Characters of the longest value: more than an access token takes, less than servers allow a header field."""

_FORM = re.compile(r"[A-Za-z0-9_.-]+")


class _Signer(TimestampSigner):
    """itsdangerous with this process's clock."""

    def __init__(self, *arguments: Any, wall: Callable[[], int], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._wall = wall

    def get_timestamp(self) -> int:
        return self._wall() // 1000


class SignedValues:
    """Signs with the key of the newest master key, reads with those of all of them. `wall` gives the time in
    milliseconds since 1970 UTC."""

    def __init__(self, sealer: Sealer, wall: Callable[[], int]) -> None:
        self._wall = wall
        # itsdangerous wants the newest key last.
        keys = sealer.derived("signed")[::-1]
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256, "wall": wall}
        self._serializers = {
            use: URLSafeTimedSerializer(keys, salt=f"gateway.{use}", signer=_Signer, signer_kwargs=options)
            for use in get_args(Use)
        }

    def dumps(self, use: Use, value: Any) -> str:
        """`value`, which JSON can hold, signed for `use` now: letters, digits and ``- _ .`` only. Anybody can read it.

        ValueError when it would be too long to be read again.
        """
        text = str(self._serializers[use].dumps(value))
        if len(text) > MAX_LENGTH:
            raise ValueError(f"a signed value has at most {MAX_LENGTH} characters")
        return text

    def loads(self, use: Use, text: str, max_age_s: int) -> Any | None:
        """The value that was signed for `use` less than `max_age_s` seconds ago; None for every other text.

        A value is written in one way only. It is never read for longer than `max_age_s`, and for up to a second less:
        whole seconds count. The clock of the node that signed it may be up to a minute ahead (`CLOCK_SKEW_MS`).
        """
        if len(text) > MAX_LENGTH or _FORM.fullmatch(text) is None:
            return None
        try:
            value, signed_at = self._serializers[use].loads(text, return_timestamp=True)
            signature = text.rpartition(".")[2]
            if base64_encode(base64_decode(signature)).decode() != signature:
                return None
        except BadData:
            return None
        age_s = self._wall() // 1000 - int(signed_at.timestamp())
        return value if -CLOCK_SKEW_MS // 1000 <= age_s < max_age_s else None
