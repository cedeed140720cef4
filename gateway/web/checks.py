"""What a caller needs for an operation whatever its body says: for `Operation.check`."""

from __future__ import annotations

from gateway.web.operation import Call, Check


async def administrators(call: Call) -> None:
    """Raises Forbidden for everybody else."""
    (await call.rights()).require_admin()


async def whole(call: Call) -> None:
    """Raises Forbidden for a credential that is narrowed by scopes."""
    call.caller.require_whole()


def holders(permission: str) -> Check:
    """Raises Forbidden for whoever does not hold this permission."""

    async def check(call: Call) -> None:
        (await call.rights()).require(permission)

    return check
