"""What the writer committed against what the load generator received: latencies, and whether every change arrived
where it belongs.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from typing import NamedTuple


class Commits(NamedTuple):
    """The writer's notes, one row a commit and user: its number, the user's index, and CLOCK_MONOTONIC before and
    after, in nanoseconds.
    """

    numbers: array[int]
    users: array[int]
    before: array[int]
    after: array[int]

    def between(self, started: int, finished: int) -> Commits:
        """Those that were begun, and had returned, in that time."""
        rows = [row for row in zip(*self, strict=True) if started <= row[2] and row[3] <= finished]
        return Commits(*(array("q", [row[place] for row in rows]) for place in range(len(self))))


class Receipts(NamedTuple):
    """The load generator's notes, one row an update: commit number (-1: none in it), session's index, CLOCK_MONOTONIC
    in nanoseconds.
    """

    numbers: array[int]
    sessions: array[int]
    times: array[int]


class Joined(NamedTuple):
    """`from_commit` and `from_start` are nanoseconds from the commit's return, and from its start, to the frame at
    the client.

    `conflated` changes never had a frame of their own because a newer one of the same user took their place. `lost`
    ones never arrived nor did a newer one; `misdirected` frames came to somebody else's session, `repeated` ones came
    twice: these three have to be 0.
    """

    from_commit: list[int]
    from_start: list[int]
    conflated: int
    lost: int
    misdirected: int
    repeated: int

    def faults(self) -> list[str]:
        """What makes the run worthless, as words; none is the rule."""
        counts = {"lost": self.lost, "misdirected": self.misdirected, "repeated": self.repeated}
        return [f"{count} updates {what}" for what, count in counts.items() if count]


def join(commits: Commits, receipts: Receipts, ignored: Collection[int] = ()) -> Joined:
    """Join commits and receipts by number; users in `ignored` (not connected, or revoked on the way) are left out on
    both sides.
    """
    users = dict(zip(commits.numbers, commits.users, strict=True))
    arrived: dict[int, int] = {}
    newest: dict[int, int] = {}
    misdirected = repeated = 0
    for number, session, time in zip(*receipts, strict=True):
        if number not in users or session in ignored:
            continue
        misdirected += users[number] != session
        repeated += number in arrived
        arrived[number] = time
        newest[session] = max(number, newest.get(session, -1))
    from_commit, from_start, missing = [], [], []
    for number, user, before, after in _rows(commits, ignored):
        if number in arrived:
            from_commit.append(arrived[number] - after)
            from_start.append(arrived[number] - before)
        else:
            missing.append(newest.get(user, -1) < number)
    lost = sum(missing)
    return Joined(from_commit, from_start, len(missing) - lost, lost, misdirected, repeated)


def _rows(commits: Commits, ignored: Collection[int]) -> Iterator[tuple[int, int, int, int]]:
    return (row for row in zip(*commits, strict=True) if row[1] not in ignored)
