"""Where the master key comes from: the environment, a file, or a file beside the database that is made when needed."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import secrets
import stat
from pathlib import Path

from gateway.config import Config
from gateway.core.sealing import KEY_BYTES, Sealer, parse_master_keys
from gateway.errors import ConfigError
from gateway.store.address import ServerAddress, parse_address
from gateway.store.copies import create_private, sync

log = logging.getLogger("gateway.auth")

_LONGEST = 16_384
"""Bytes; what is longer is no file of keys."""
_PLATFORM = Path("/run/secrets")
"""Where containers find their secrets. Who reads there is the platform's to say, not the file's mode."""
_LOST = (
    "auth.master_key: {file} is not there, but this database has signing keys that were sealed with one; bring it back,"
    " or replace them, which ends every login's access token: gateway keys rotate --discard"
)


def load_sealer(config: Config, *, make: bool) -> Sealer:
    """The sealer with this deployment's master keys.

    They are those of ``GATEWAY_AUTH_MASTER_KEY``, else of the file that `auth.master_key_file` names, else of the file
    beside a database file, ``.key`` behind its name. That one is made here when it is not there and `make` says that
    nothing is sealed yet: otherwise it is lost, and another one in its place would open nothing. Raises `ConfigError`
    of one line that names the setting and never repeats a key.
    """
    settings = config.auth
    if settings.master_key:
        return _sealer(settings.master_key, "auth.master_key")
    if settings.master_key_file:
        return _sealer(_read(Path(settings.master_key_file), "auth.master_key_file"), "auth.master_key_file")
    address = parse_address(config.database.url)
    if isinstance(address, ServerAddress):
        raise ConfigError(
            "auth.master_key: a libSQL server needs one; set GATEWAY_AUTH_MASTER_KEY or auth.master_key_file"
        )
    file = master_key_file(address.path)
    if not file.exists():
        if not make:
            raise ConfigError(_LOST.format(file=file))
        _make(file)
    return _sealer(_read(file, "auth.master_key"), f"auth.master_key: {file}")


def master_key_file(database: Path) -> Path:
    """The file with the master key that belongs to a database file unless the configuration names another."""
    return database.with_name(f"{database.name}.key")


def _sealer(text: str, setting: str) -> Sealer:
    try:
        return Sealer(parse_master_keys(text))
    except ValueError as error:
        raise ConfigError(f"{setting}: {error}") from None


def _read(file: Path, setting: str) -> str:
    try:
        with file.open("rb") as stream:
            found = os.fstat(stream.fileno())
            content = stream.read(_LONGEST + 1)
        text = content.decode("ascii")
    except OSError as error:
        raise ConfigError(f"{setting}: {file} can not be read: {error.strerror or 'it fails'}") from None
    except ValueError:
        raise ConfigError(f"{setting}: {file} holds no key") from None
    if len(content) > _LONGEST:
        raise ConfigError(f"{setting}: {file} holds no key")
    if stat.S_IMODE(found.st_mode) & stat.S_IRWXO and _PLATFORM not in file.parents:
        log.warning("the file with the master key can be read by everybody on this machine", extra=_of(file))
    return text


def _of(file: Path) -> dict[str, str]:
    return {"file": str(file)}


def _make(file: Path) -> None:
    """Make the file whole, for its owner alone. Where several processes do so at once one of them wins, and all of them
    go on with what is then there."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            create_private(new)
            with new.open("wb") as stream:
                stream.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(new, file)
                log.info("a master key was made: without it no token can be issued", extra=_of(file))
        finally:
            new.unlink(missing_ok=True)
        sync(file.parent)  # what was sealed under a lost key is lost
    except OSError as error:
        raise ConfigError(
            f"auth.master_key: {file} can not be made: {error.strerror or 'it fails'};"
            " set GATEWAY_AUTH_MASTER_KEY or auth.master_key_file"
        ) from None
