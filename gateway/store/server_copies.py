"""Whole copies of a libSQL server's database, as local files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw

from gateway.store.copies import OWNER_ONLY, create_private, put_in_place
from gateway.store.http_streams import HttpServer

SILENCE_S = 60.0


async def copy_server(server: HttpServer, target: Path, *, overwrite: bool) -> None:
    """Copy the server's database to a file at `target`. Raises `FileExistsError`, `StoreUnavailable`."""
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already")
    script = b"".join([piece async for piece in server.dump(SILENCE_S)]).decode()
    await asyncio.to_thread(_load, script, target)


def _load(script: str, target: Path) -> None:
    path = target.with_name(f".{target.name}.tmp")
    create_private(path, OWNER_ONLY)
    connection = apsw.Connection(str(path))
    connection.execute(script).fetchall()
    connection.close()
    put_in_place(path, target)
