"""How a command ends: exit codes, and the one line that an error becomes."""

from __future__ import annotations

import enum

import click

from gateway.cli.invocation import NotMigrated
from gateway.errors import (
    AuthFailed,
    BadRequest,
    ConfigError,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    StoreConflict,
    StoreCorrupt,
    StoreError,
    StoreUncertain,
    Unavailable,
    Uncertain,
)
from gateway.store.backup import DatabaseInUse, NotABackup
from gateway.store.copies import TargetNotReplaceable
from gateway.store.migrate import DatabaseTooNew, SchemaMismatch


class ExitCode(enum.IntEnum):
    """The exit codes of `gateway`; docs/cli.md lists them."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    CONFIG = 3
    NOT_FOUND = 4
    CONFLICT = 5
    BAD_VALUE = 6
    UNAVAILABLE = 7
    DAMAGED = 8
    REFUSED = 9
    UNCERTAIN = 10
    EXCEEDED = 11
    INTERNAL = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class Repeatable(StoreUncertain):
    """It is not known whether something was written, and writing it again is right in either case: the text says how
    to go on."""


_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (click.UsageError, ExitCode.USAGE),
    (ConfigError, ExitCode.CONFIG),
    (NotFound, ExitCode.NOT_FOUND),
    (Conflict, ExitCode.CONFLICT),
    (PreconditionFailed, ExitCode.CONFLICT),
    (StoreConflict, ExitCode.CONFLICT),
    (BadRequest, ExitCode.BAD_VALUE),
    (AuthFailed, ExitCode.REFUSED),
    (Forbidden, ExitCode.REFUSED),
    (QuotaExceeded, ExitCode.EXCEEDED),
    (Unavailable, ExitCode.UNAVAILABLE),
    (Uncertain, ExitCode.UNCERTAIN),
    (StoreCorrupt, ExitCode.DAMAGED),
    (UnicodeDecodeError, ExitCode.DAMAGED),
    (DatabaseInUse, ExitCode.CONFLICT),
    (TargetNotReplaceable, ExitCode.CONFLICT),
    (NotABackup, ExitCode.BAD_VALUE),
    (DatabaseTooNew, ExitCode.DAMAGED),
    (SchemaMismatch, ExitCode.DAMAGED),
    (NotMigrated, ExitCode.DAMAGED),
    (StoreUncertain, ExitCode.UNCERTAIN),
    (StoreError, ExitCode.UNAVAILABLE),
    (click.ClickException, ExitCode.USAGE),
    (FileExistsError, ExitCode.CONFLICT),
    (FileNotFoundError, ExitCode.NOT_FOUND),
    (OSError, ExitCode.UNAVAILABLE),
)


def exit_code(error: Exception) -> ExitCode:
    """The exit code for an error; whatever is not expected is a fault of the program."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.INTERNAL)


def sentence(error: Exception) -> str:
    """One printable line for an error."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text = f"{error.format_message()} (see {error.ctx.command_path} --help)"
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, StoreUncertain) and not isinstance(error, Repeatable):
        text = f"{error}; it may have been made: look before you repeat it"
    elif isinstance(error, Unavailable) and isinstance(error.__cause__, StoreError):
        text = f"{error} ({error.__cause__})"
    elif isinstance(error, UnicodeDecodeError):
        text = "a row holds a text that is not UTF-8: gateway doctor names it, and SQL mends it"
    elif exit_code(error) is ExitCode.INTERNAL:
        text = f"internal error: {type(error).__name__}: {error}"
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """`text` as it may go to a terminal: what is not printable is escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
