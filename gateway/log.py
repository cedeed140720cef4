"""Structured logs on the standard library: a line for people (``console``) or a JSON object (``json``) each.

Fields are given by `extra` (``logger.info("Session ended.", extra={"session": id, "reason": code})``). Values are data:
control characters in them are escaped, so that nobody writes a line of their own, and whatever looks like a credential
is cut out of messages, fields and tracebacks alike, should it ever get so far. The loggers of uvicorn end in the same
place, their paths without query strings.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from gateway.config import LoggingConfig

# Control characters (C0, DEL, C1), line and paragraph separators, and the marks that turn the direction of text.
_UNPRINTABLE = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNPRINTABLE}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}

# Opaque tokens, tickets, access tokens, and whatever else has three parts and a long signature: what cookies hold. From
# the beginning of a word only, so that the time of the search grows with the text and not with its square.
_TOKEN = re.compile(
    r"(g[wr]_)[0-9A-Za-z]+|(gt_)[\w.-]+|(?<![\w-])(?:(eyJ)[\w-]+\.[\w-]+\.[\w-]+|()[\w-]+\.[\w-]+\.[\w-]{40,})"
)
_BEARER = re.compile(r"(?i)(bearer)(?:[\s:=+]|%20)+[^\s\"',;]+")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# uvicorn and websockets give these for formatters of their own.
_FOREIGN = frozenset({"color_message", "websocket"})
_DEEPEST = 4
# Below these levels they write whole frames, handshakes and addresses: credentials, cut in odd places.
_QUIET = dict.fromkeys(("uvicorn", "websockets", "asyncio"), logging.INFO)
_QUIET |= dict.fromkeys(("httpx2", "httpcore2"), logging.WARNING)


def _shortened(token: re.Match[str]) -> str:
    """What kind of credential stood there, and nothing else of it."""
    return f"{token[token.lastindex or 0]}…"


def clean(text: str) -> str:
    """`text` on one line, printable, as UTF-8 can hold it, and without credentials."""
    if not text.isprintable():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = _BEARER.sub(r"\1 …", _TOKEN.sub(_shortened, text))
    return text if text.isprintable() else text.translate(_ESCAPES)


class ConsoleFormatter(logging.Formatter):
    """``2026-11-21T19:10:00.000Z INFO    gateway.live.hub: Session ended. session=s_1 reason=revoked``.

    The lines of a traceback follow, indented: no other line begins with a space.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text for people."""
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{_at(record)} {record.levelname:<7} {clean(record.name)}: {clean(_message(record))}{fields}"
        return line + "".join(f"\n    {clean(row)}" for row in _traceback(record).splitlines())


class JsonFormatter(logging.Formatter):
    """``{"at":"2026-11-21T19:10:00.000Z","level":"info","logger":"gateway.live.hub","message":"…"}`` and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object; a field never replaces one of the record's own."""
        line = _fields(record) | {"at": _at(record), "level": record.levelname.lower(), "logger": clean(record.name)}
        line["message"] = clean(_message(record))
        text = _traceback(record)
        if text:
            line["traceback"] = [clean(row) for row in text.splitlines()]
        return msgspec.json.encode(line, order="sorted").decode()


def configure_logging(config: LoggingConfig, stream: TextIO | None = None) -> None:
    """Send all that this process logs to `stream` (standard error), as configured."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def _at(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    """The message; when the arguments do not fit it, still a line, and no report of `logging` that shows them."""
    if record.name.startswith("uvicorn") and isinstance(record.args, tuple):
        record = logging.makeLogRecord(vars(record) | {"args": tuple(_without_query(item) for item in record.args)})
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} (its arguments do not fit)"


def _without_query(value: object) -> object:
    """An argument of uvicorn's up to its first ``?``, whatever form of request target (RFC 9112 §3.2) it holds."""
    return value.partition("?")[0] if isinstance(value, str) else value


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        clean(name): _plain(value)
        for name, value in vars(record).items()
        if name not in _STANDARD and name not in _FOREIGN
    }


def _plain(value: object, depth: int = 0) -> Any:
    """`value` as JSON can hold it, every text in it clean."""
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {clean(str(name)): _plain(item, depth + 1) for name, item in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth + 1) for item in value]
    try:
        return clean(str(value))
    except Exception:
        return f"<{type(value).__name__}>"


def _quoted(value: Any) -> str:
    """A field's value in a console line: bare when nobody could take it for something else."""
    if isinstance(value, str) and re.fullmatch(r"[^\s\"=\[\]{}]+", value):
        return value
    return msgspec.json.encode(value).decode()


def _traceback(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append("".join(traceback.format_exception(record.exc_info[1])))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)
