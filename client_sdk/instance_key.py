"""The keys of an instance: which one signs, and how another one takes its place while the program runs."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import secrets
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

from client_sdk.config import ConfigError
from client_sdk.settings import checked_settings, seconds_from_0
from client_sdk.signatures import NONCE_BYTES, nonce_of, sign

logger = logging.getLogger("client_sdk.instance")
SECRET_BYTES = 32
SKEW_S = 25.0
"""A clock that is further off than this is named in an error."""
AHEAD_S, BEHIND_S = 25.0, 55.0
"""One that is further off than this may be why a signature is not taken: the gateway takes 30 s, and 60 s of age."""
VARIABLES = {
    "url": "GATEWAY_URL",
    "instance": "GATEWAY_INSTANCE",
    "kid": "GATEWAY_INSTANCE_KID",
    "secret": "GATEWAY_INSTANCE_SECRET",
}
"""Settings of an instance, and the variables of the environment that count more."""


class InstanceKey(NamedTuple):
    """One key: its public id, and 32 bytes that only this program and the gateway know."""

    kid: str
    secret: bytes

    def __repr__(self) -> str:
        """Without the secret: it stands in tracebacks and logs."""
        return f"InstanceKey({self.kid!r})"


def instance_key(kid: str, secret: str) -> InstanceKey:
    """A key as the gateway shows it: `secret` is base64url of 32 bytes. Raises `ConfigError`."""
    if not kid or not all("!" <= character <= "~" and character not in '"\\' for character in kid):
        raise ConfigError("kid: the id of a key is visible ASCII without quotes")
    try:
        raw = base64.b64decode(secret + "=" * (-len(secret) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != SECRET_BYTES:
        raise ConfigError("secret: a key's secret is 32 bytes in base64url")
    return InstanceKey(kid, raw)


KeySource = InstanceKey | Iterable[InstanceKey] | Callable[[], InstanceKey | Iterable[InstanceKey]]
"""One key, several (the first that the gateway takes is used), or a function that is asked for them again."""


class InstanceKeys:
    """The keys of one instance, and the one that signs.

    `source` may be a function: it is asked again by `reload`, and when the gateway does not take any key that is known,
    at most once in `reload_every_s` seconds; it must not block for long. Where it fails then, the keys stay as they are
    and a line is logged; `reload` raises. `wall` gives seconds since 1970 UTC, `clock`
    is monotonic.
    """

    def __init__(
        self,
        source: KeySource,
        *,
        reload_every_s: float = 1.0,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        checked_settings({"reload_every_s": seconds_from_0}, reload_every_s=reload_every_s)
        self._source = source
        self._reload_every_s = reload_every_s
        self._wall = wall
        self._clock = clock
        self._entropy = entropy
        self._is_broken = False
        self._refused: dict[str, bytes] = {}
        self._reloaded_at = clock()
        self._keys = self._ask()

    @property
    def present(self) -> InstanceKey:
        """The key that signs now: the first that was not refused, or the first of all."""
        return next((key for key in self._keys.values() if key.kid not in self._refused), self._first)

    @property
    def _first(self) -> InstanceKey:
        return next(iter(self._keys.values()))

    def reload(self) -> InstanceKey:
        """Ask the source again, forget what was refused, and return the key that signs from now on."""
        self._keys = self._ask()
        self._refused.clear()
        self._reloaded_at = self._clock()
        return self.present

    def refuse(self, kid: str) -> bool:
        """The gateway does not take this key; whether there is another one now to try."""
        if kid in self._keys:
            self._refused[kid] = self._keys[kid].secret
        if any(key not in self._refused for key in self._keys):
            return True
        if self._clock() - self._reloaded_at >= self._reload_every_s:
            self._reload_if_possible()
        for known, secret in list(self._refused.items()):
            if known not in self._keys or self._keys[known].secret != secret:
                del self._refused[known]
        another = any(key not in self._refused for key in self._keys)
        if not another:
            self._refused.clear()
        return another

    def _reload_if_possible(self) -> None:
        """Keep what is known where the source fails: a file may be half written."""
        self._reloaded_at = self._clock()
        try:
            self._keys = self._ask()
        except Exception as error:
            if not self._is_broken:
                logger.warning("the keys of this instance can not be read again: %s", error)
            self._is_broken = True
        else:
            self._is_broken = False

    def headers(
        self, method: str, url: str, *, authorization: str | None = None, body: bytes = b"", kid: str | None = None
    ) -> dict[str, str]:
        """The header fields that sign this request now, once; with the key `kid` when it is still known."""
        key = self.present if kid is None else self._keys.get(kid, self.present)
        return sign(
            method,
            url,
            kid=key.kid,
            secret=key.secret,
            created=int(self._wall()),
            nonce=nonce_of(self._entropy(NONCE_BYTES)),
            authorization=authorization,
            body=body,
        )

    def sign_handshake(self, kid: str, url: str) -> dict[str, str]:
        """The header fields of one handshake of a channel."""
        return self.headers("GET", url, kid=kid)

    def clock_off(self, date: str | None) -> str | None:
        """What to say of the clock here, of the Date of an answer (RFC 9110 §6.6.1), when no signature is taken that it
        dates; None when it is true enough."""
        return None if (off_s := clock_ahead_s(date, self._wall())) is None or not dates_wrong(off_s) else told(off_s)

    async def __call__(self) -> str:
        """The id of the key that signs: what stands for a token where a channel asks for one."""
        return self.present.kid

    def discard(self, token: str) -> None:
        """As `refuse`: a channel says so of the key that the gateway did not take."""
        self.refuse(token)

    def _ask(self) -> dict[str, InstanceKey]:
        given = self._source() if callable(self._source) else self._source
        keys = {key.kid: key for key in ([given] if isinstance(given, InstanceKey) else given)}
        if not keys:
            raise ConfigError("an instance needs at least one key")
        return keys


def clock_ahead_s(date: str | None, wall: float) -> float | None:
    """How many seconds `wall` (since 1970 UTC) is ahead of the Date of an answer; None without one."""
    try:
        return None if date is None else wall - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def dates_wrong(off_s: float) -> bool:
    """Whether the gateway takes no signature that is dated so far ahead."""
    return not -BEHIND_S <= off_s <= AHEAD_S


def told(off_s: float) -> str:
    """A sentence about a clock that is so far ahead."""
    return f"The clock here is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the gateway's."


class InstanceSettings(NamedTuple):
    """What an instance needs to know: the gateway's address, its own id, and its keys, the preferred one first.

    `source` is for `InstanceKeys`: where the keys came from, so that they are read again when the gateway takes none of
    them. Empty: `keys` are all there is.
    """

    url: str
    instance: str
    keys: tuple[InstanceKey, ...]
    source: KeySource = ()


def load_instance(path: str | None = None, environ: Mapping[str, str] = os.environ) -> InstanceSettings:
    """Read section ``[gateway]`` of a TOML file, as ``gateway instance add`` prints it: ``url``, ``instance``, ``kid``
    and ``secret``; another key, to go over to, may stand in ``[[gateway.keys]]`` with a ``kid`` and a ``secret``.

    The variables of the environment count more, as they are now also when `source` reads the file again. Raises
    `ConfigError` for what is missing or can not be.
    """
    settings = _read(path)
    more = settings.pop("keys", [])
    for name, variable in VARIABLES.items():
        if variable in environ:
            settings[name] = environ[variable]
    for name, variable in VARIABLES.items():
        if not isinstance(settings.get(name), str) or not settings[name]:
            raise ConfigError(f"gateway.{name}: is missing; it may stand in {variable}")
    keys = [instance_key(settings["kid"], settings["secret"])]
    try:
        keys += [instance_key(entry["kid"], entry["secret"]) for entry in more]
    except (TypeError, KeyError, AttributeError):
        raise ConfigError("gateway.keys: each has a kid and a secret") from None
    given = {variable: environ[variable] for variable in VARIABLES.values() if variable in environ}
    source = () if path is None else keys_of_file(path, given)
    return InstanceSettings(settings["url"], settings["instance"], tuple(keys), source)


def keys_of_file(path: str, environ: Mapping[str, str] = os.environ) -> Callable[[], tuple[InstanceKey, ...]]:
    """A source for `InstanceKeys` that reads the file again whenever it is asked, so that a key is replaced by writing
    the file.
    """
    place = os.path.abspath(path)  # the program may go to another directory; a link is followed each time
    return lambda: load_instance(place, environ).keys


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        section = tomllib.loads(Path(path).read_text(encoding="utf-8-sig")).get("gateway", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: gateway is no section")
    return dict(section)
