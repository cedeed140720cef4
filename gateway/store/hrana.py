"""Hrana 3 in its JSON encoding: requests, answers, and the server's refusals in our words.

Source: the Hrana 3 specification of libSQL. Integers travel as decimal strings, so that 64 bits survive; blobs as
base64 without padding.
"""

from __future__ import annotations

import binascii
import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from gateway.errors import StoreConflict, StoreCorrupt, StoreError, StoreUnavailable
from gateway.store.driver import Row, Value, violated
from gateway.store.stream import Outcome, Step, Unanswered


class _Integer(msgspec.Struct, tag="integer", tag_field="type"):
    value: str

    def decoded(self) -> Value:
        return int(self.value)


class _Float(msgspec.Struct, tag="float", tag_field="type"):
    value: float | None

    def decoded(self) -> Value:
        return math.inf if self.value is None else self.value


class _Text(msgspec.Struct, tag="text", tag_field="type"):
    value: str

    def decoded(self) -> Value:
        return self.value


class _Blob(msgspec.Struct, tag="blob", tag_field="type"):
    base64: str

    def decoded(self) -> Value:
        return binascii.a2b_base64(self.base64 + "=" * (-len(self.base64) % 4))


class _Null(msgspec.Struct, tag="null", tag_field="type"):
    def decoded(self) -> Value:
        return None


class _Error(msgspec.Struct):
    message: str
    code: str | None = None


class _StatementResult(msgspec.Struct):
    rows: list[list[_Integer | _Float | _Text | _Blob | _Null]]
    affected_row_count: int = 0


class _BatchResult(msgspec.Struct):
    step_results: list[_StatementResult | None]
    step_errors: list[_Error | None]


class _Response(msgspec.Struct):
    type: str
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Result(msgspec.Struct):
    type: str
    response: _Response | None = None
    error: _Error | None = None


class Answer(msgspec.Struct):
    """The answer to a pipeline: a `baton` goes on with the stream, `base_url` is where, when it moved."""

    results: list[_Result]
    baton: str | None = None
    base_url: str | None = None


_encoder = msgspec.json.Encoder()
_answers = msgspec.json.Decoder(Answer)
_batches = msgspec.json.Decoder(_BatchResult)
_NULL = {"type": "null"}


class Request:
    """The requests that a pipeline is made of, as JSON values."""

    CLOSE: ClassVar[dict[str, Any]] = {"type": "close"}

    @staticmethod
    def batch(steps: Iterable[Step]) -> dict[str, Any]:
        """Run these steps. Raises `TypeError`, `ValueError` or `OverflowError` for a value that no column holds."""
        return {"type": "batch", "batch": {"steps": [_step(step) for step in steps]}}


def value_size(value: Value) -> int:
    """About how many bytes a value takes. Raises `TypeError`, `ValueError` or `OverflowError` for one that no column
    holds."""
    _value(value)
    return len(value) if isinstance(value, str | bytes) else 8


def encode_pipeline(baton: str | None, requests: Sequence[dict[str, Any]]) -> bytes:
    """The body of ``POST /v3/pipeline``."""
    return _encoder.encode({"baton": baton, "requests": requests})


def decode_answer(body: bytes) -> Answer:
    """Raises `Unanswered` for what is no answer to a pipeline."""
    with _understood():
        return _answers.decode(body)


def outcomes(result: _Result, count: int) -> list[Outcome]:
    """The outcomes of a batch of `count` steps. Raises what the server refused the whole batch with, `Unanswered` for
    what is no answer to it."""
    response = _checked(result)
    with _understood():
        return _outcomes(_batches.decode(response.result), count)


def decoded_outcomes(result: Any, count: int) -> list[Outcome]:
    """As `outcomes`, of a batch's result whose JSON was decoded already."""
    with _understood():
        return _outcomes(msgspec.convert(result, _BatchResult), count)


def refusal(code: str | None, message: str) -> StoreError:
    """A refusal of the server as one of our errors. Through a replica only the text is left of it."""
    text = message.removeprefix("SQLite error: ")
    for start, kind in _CONFLICTS.items():
        if start in text:
            return StoreConflict(kind, violated(text))
    if "too big" in text:
        return StoreConflict("check", text)
    if any(mark in text for mark in _DAMAGED):
        return StoreCorrupt(text)
    if code in _PASSING or any(mark in text for mark in _PASSING_TEXTS):
        return StoreUnavailable(f"{code}: {text}")
    return StoreError(f"{code or 'refused'}: {text}")


def _checked(result: _Result) -> _Response:
    if result.error is not None:
        raise refusal(result.error.code, result.error.message)
    if result.response is None:
        raise Unanswered(f"the server's answer is not Hrana: a result of type {result.type[:20]!r}")
    return result.response


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Around the reading of an answer: one that makes no sense is as good as none."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unanswered(f"the server's answer is not Hrana: {error}") from None


def _outcomes(batch: _BatchResult, count: int) -> list[Outcome]:
    if len(batch.step_results) != count:
        raise ValueError(f"{len(batch.step_results)} results of {count} steps")
    return [_outcome(*pair) for pair in zip(batch.step_results, batch.step_errors, strict=True)]


def _outcome(result: _StatementResult | None, error: _Error | None) -> Outcome:
    if error is not None:
        return Outcome([], 0, refusal(error.code, error.message), True)
    if result is None:
        return Outcome([], 0, None, False)
    rows: list[Row] = [tuple([value.decoded() for value in row]) for row in result.rows]
    return Outcome(rows, result.affected_row_count, None, True)


def _step(step: Step) -> dict[str, Any]:
    statement: dict[str, Any] = {"sql": step.sql, "want_rows": True}
    if step.args:
        statement["args"] = [_value(value) for value in step.args]
    return {"stmt": statement} if step.condition is None else {"stmt": statement, "condition": step.condition}


def _value(value: Value) -> dict[str, Any]:
    match value:
        case None:
            return _NULL
        case str():
            if not value.isascii():
                value.encode()  # raises for lone surrogates, which JSON can not carry
            return {"type": "text", "value": value}
        case int():
            if not -(2**63) <= value < 2**63:
                raise OverflowError("an integer that does not fit into 64 bits can not be stored")
            return {"type": "integer", "value": str(int(value))}
        case float():
            if not math.isfinite(value):
                raise ValueError("a number that is not finite can not be stored")
            return {"type": "float", "value": value}
        case bytes():
            return {"type": "blob", "base64": binascii.b2a_base64(value, newline=False).decode().rstrip("=")}
    raise TypeError(f"a value of type {type(value).__name__} can not be stored")


_CONFLICTS = {
    "UNIQUE constraint failed": "unique",
    "PRIMARY KEY constraint failed": "unique",
    "FOREIGN KEY constraint failed": "foreign_key",
    "NOT NULL constraint failed": "not_null",
    "CHECK constraint failed": "check",
    "cannot store ": "check",
    "constraint failed": "check",
}
_DAMAGED = ("database disk image is malformed", "file is not a database")
_PASSING = frozenset(
    f"SQLITE_{name}"
    for name in ("BUSY", "LOCKED", "FULL", "IOERR", "NOMEM", "CANTOPEN", "READONLY", "PERM", "PROTOCOL", "INTERRUPT")
) | {"TRANSACTION_TIMEOUT", "STREAM_EXPIRED", "BLOCKED", "TRANSACTION_BUSY"}
_PASSING_TEXTS = ("database is locked", "database is busy", "disk I/O error", "database or disk is full", "timed-out")
