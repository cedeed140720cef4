"""A group of writes as one batch for a libSQL server: each operation whole or not at all, each with an answer of its
own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from gateway.errors import NoRowChanged, StoreError, StoreUnavailable
from gateway.store.driver import Row, Statement, Written
from gateway.store.stream import IN_TRANSACTION, Condition, Outcome, Step, both, succeeded

_SEQ = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0)"
_GUARD = "SELECT json(iif(changes() = 0, 'no row changed', '0'))"
"""Refused by the server when the statement before it changed no row."""


class Operation(NamedTuple):
    """What is committed whole or not at all; `size` is about how many bytes it takes on its way."""

    future: asyncio.Future[Written]
    statements: Sequence[Statement]
    size: int


class Group:
    """A group as the steps of one batch: step 0 begins, 1 and 2 are the group's number, then come the operations, and
    the last three are the position, ``COMMIT``, and ``ROLLBACK`` where that was not possible."""

    def __init__(self, group: list[Operation]) -> None:
        self._group = group
        self._places: list[range] = []
        self._steps: list[Step] = []
        for operation in group:
            first = len(self._steps) + 3
            if len(operation.statements) == 1:
                self._single(operation.statements[0])
            else:
                self._savepoint(operation.statements)
            self._places.append(range(first, len(self._steps) + 3))

    def steps(self, number: Step) -> list[Step]:
        """The whole batch."""
        position = len(self._steps) + 3
        return [
            Step("BEGIN IMMEDIATE"),
            number,
            Step(_GUARD, (), succeeded(1)),
            *self._steps,
            Step(_SEQ, (), _STARTED),
            Step("COMMIT", (), both(succeeded(position), IN_TRANSACTION)),
            Step("ROLLBACK", (), both(succeeded(0), IN_TRANSACTION)),
        ]

    def refusal(self, outcomes: list[Outcome]) -> StoreError | None:
        """Why the group was not committed; None when it was."""
        if outcomes[-2].ok:
            return None
        errors = [outcome.error for outcome in outcomes[:3] if outcome.error]
        errors += [outcome.error for outcome in outcomes if isinstance(outcome.error, StoreUnavailable)]
        return errors[0] if errors else StoreUnavailable("the server ended the transaction")

    def results(self, outcomes: list[Outcome]) -> list[Written | Exception]:
        """Each operation's result, of a group that was committed."""
        seq = int(outcomes[-3].rows[0][0]) if outcomes[-3].ok else 0
        return [
            self._result(operation.statements, [outcomes[i] for i in place], seq)
            for operation, place in zip(self._group, self._places, strict=True)
        ]

    def _single(self, statement: Statement) -> None:
        """One statement that fails undoes itself."""
        self._steps.append(Step(statement.sql, statement.args, _STARTED))

    def _savepoint(self, statements: Sequence[Statement]) -> None:
        """Each step is run when the one before succeeded; when one did not, all of them are undone."""
        self._steps.append(Step("SAVEPOINT operation", (), _STARTED))
        first = before = len(self._steps) + 2
        for statement in statements:
            self._steps.append(Step(statement.sql, statement.args, succeeded(before)))
            before += 1
            if statement.must_change:
                self._steps.append(Step(_GUARD, (), succeeded(before)))
                before += 1
        undone: Condition = both(succeeded(first), {"type": "not", "cond": succeeded(before)}, IN_TRANSACTION)
        self._steps.append(Step("ROLLBACK TO operation", (), undone))
        self._steps.append(Step("RELEASE operation", (), both(succeeded(first), IN_TRANSACTION)))

    @staticmethod
    def _result(statements: Sequence[Statement], outcomes: list[Outcome], seq: int) -> Written | Exception:
        if len(statements) == 1:
            outcome = outcomes[0]
            if outcome.error is not None:
                return outcome.error
            if statements[0].must_change and not outcome.changed and not outcome.rows:
                return NoRowChanged(0)
            return Written(seq, [outcome.rows])
        rows: list[list[Row]] = []
        following = iter(outcomes[1:])
        for index, statement in enumerate(statements):
            outcome = next(following)
            if outcome.error is not None:
                return outcome.error
            rows.append(outcome.rows)
            if statement.must_change and next(following).error is not None:
                return NoRowChanged(index)
        return Written(seq, rows)


_STARTED: Condition = both(succeeded(2), IN_TRANSACTION)
