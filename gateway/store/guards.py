"""Conditions that a write hangs on: whichever fails first says why nothing was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.errors import GatewayError, NoRowChanged
from gateway.store.audit import Store
from gateway.store.driver import Statement, Value, Written


class Guard(NamedTuple):
    """An UPDATE that touches a row, and changes nothing, where the condition holds; `refusal` is raised where not.

    Not a SELECT: a server tells only what a statement changed, not what it found.
    """

    statement: Statement
    refusal: GatewayError


def guard(table: str, condition: str, args: tuple[Value, ...], refusal: GatewayError) -> Guard:
    """A guard that holds where a row of `table`, which has a column `name`, meets the condition. Both are the
    program's own."""
    sql = f"UPDATE {table} SET name = name WHERE {condition}"  # noqa: S608
    return Guard(Statement(sql, args, must_change=True), refusal)


async def guarded_write(db: Store, guards: Sequence[Guard], *statements: Statement) -> Written:
    """One atomic write of `statements`, when all guards hold; `Written.rows` has theirs alone.

    Raises the refusal of the first guard that does not hold, `NoRowChanged` as if there were no guards, and whatever
    `Database.write` raises.
    """
    try:
        written = await db.write(*(guard.statement for guard in guards), *statements)
    except NoRowChanged as refused:
        if refused.index < len(guards):
            raise guards[refused.index].refusal from None
        raise NoRowChanged(refused.index - len(guards)) from None
    return Written(written.seq, written.rows[len(guards) :])
