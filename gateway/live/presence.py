"""Which users have so many sessions here that the other nodes have to know of them.

A node that knows of nobody else's sessions may let a user have its share of the maximum: with as many nodes as there
are, all of them together stay within it. Beyond its share it registers all sessions of that user, and so does every
node that hears of it. Until all of a user's sessions are closed again, new ones are registered as well.

Nothing here waits or reads: `live/rollcall.py` does what is on the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from gateway.errors import Ending
from gateway.live.entry import Entry, UserEntry

if TYPE_CHECKING:
    from gateway.live.connection import Connection


class Presence:
    """The lists of one node. Users are named by their ids."""

    def __init__(self, entries: Mapping[str, Entry], maximum: int) -> None:
        self.maximum = maximum
        self.share = maximum
        self.to_register: dict[str, None] = {}
        """Users whose sessions have to be written down."""
        self.to_count: dict[str, None] = {}
        """Users whose registered sessions have to be read."""
        self.to_remove: dict[str, None] = {}
        """Ids of sessions that are closed and were registered."""
        self.rows: dict[str, bool] = {}
        """Sessions of this node that are registered; False while that is not known to be committed."""
        self.elsewhere: set[str] = set()
        """Users of whom any node has registered sessions, and perhaps some of whom none has any more."""
        self.noted: set[str] = set()
        """Those of them that were heard of since this set was emptied."""
        self.wake: Callable[[], None] = lambda: None
        self._entries = entries

    def joined(self, entry: UserEntry) -> None:
        """A session was added to the entry. Ends the oldest one when there are too many on this node alone."""
        if len(entry.sessions) > self.maximum:
            next(iter(entry.sessions)).end(Ending.REPLACED)
        if len(entry.sessions) > self.share:
            self.register(entry.id)
        elif entry.id in self.elsewhere:
            self.count(entry.id)

    def left(self, session_id: str) -> None:
        """A session is closed."""
        if self.rows.pop(session_id, None) is not None:
            self.remove(session_id)

    def heard(self, user: str) -> None:
        """A node, perhaps this one, has registered sessions of this user."""
        self.elsewhere.add(user)
        self.noted.add(user)
        if self.sessions(user):
            self.count(user)

    def living(self, nodes: int) -> None:
        """So many nodes live, this one among them. When they have become more, shares are smaller than before."""
        before, self.share = self.share, max(1, self.maximum // max(1, nodes))
        if self.share < before:
            for entry in tuple(self._entries.values()):
                if isinstance(entry, UserEntry) and len(entry.sessions) > self.share:
                    self.register(entry.id)

    def lost(self) -> None:
        """This node was off the list for a while, or may have been: what it had registered is gone with it."""
        self.rows = dict.fromkeys(self.rows, False)
        for entry in tuple(self._entries.values()):
            if isinstance(entry, UserEntry) and any(session.session.id in self.rows for session in entry.sessions):
                self.register(entry.id)

    def register(self, user: str) -> None:
        """Have the user's sessions written down."""
        self.to_register[user] = None
        self.wake()

    def count(self, user: str) -> None:
        """Have the user's registered sessions read."""
        self.to_count[user] = None
        self.wake()

    def remove(self, session_id: str) -> None:
        """Have the row of a session deleted that is closed."""
        self.to_remove[session_id] = None
        self.wake()

    def sessions(self, user: str) -> dict[str, Connection]:
        """This node's own sessions of a user, by id, oldest first."""
        entry = self._entries.get(f"user:{user}")
        return {c.session.id: c for c in entry.sessions} if isinstance(entry, UserEntry) else {}


def take(wanted: dict[str, None], limit: int) -> list[str]:
    """The first names on a list, which leave it."""
    names = list(islice(wanted, limit))
    for name in names:
        del wanted[name]
    return names


def put_back(wanted: dict[str, None], names: Iterable[str]) -> None:
    """They could not be dealt with."""
    wanted |= dict.fromkeys(names)
