"""Users who came, or came back, after the moment that a round of the feed reads: within it, a session of theirs may
have joined already."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import StoreError
from gateway.store.database import Reader
from gateway.store.documents import BadDocument, LoadedUser, statuses


async def newer_than_read(database: Reader, users: Mapping[str, LoadedUser | BadDocument | None]) -> set[str]:
    """Of the users that were read as deleted or disabled, those that the database has, or has as active, by now."""
    deleted = [user for user, loaded in users.items() if loaded is None]
    disabled = [user for user, loaded in users.items() if isinstance(loaded, LoadedUser) and not loaded.facts.active]
    if not deleted and not disabled:
        return set()
    try:
        status = await statuses(database, (*deleted, *disabled))
    except StoreError:  # a database that can not be asked saves nobody
        return set()
    return {user for user in deleted if user in status} | {user for user in disabled if status.get(user) == "active"}
