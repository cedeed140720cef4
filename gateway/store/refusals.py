"""What the database refused, said in the caller's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gateway.errors import BadRequest, Conflict, NoRowChanged, NotFound, StoreConflict


@contextlib.contextmanager
def refusals(*, missing: str = "There is no such row.", taken: str = "It exists already.") -> Iterator[None]:
    """Around one write: `missing` says what its `must_change` statements and references name, `taken` what exists
    already.

    Raises NotFound for a row that is not there or a reference to one, Conflict for one that is, BadRequest for a value
    that a check refuses. Failures of the database itself pass.
    """
    try:
        yield
    except NoRowChanged:
        raise NotFound(missing) from None
    except StoreConflict as refused:
        if refused.kind == "unique":
            raise Conflict(taken) from None
        if refused.kind == "foreign_key":
            raise NotFound(missing) from None
        raise BadRequest(f"A value is not allowed here: {refused.what}.") from None
