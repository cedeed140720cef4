"""All load generators as one: sessions are dealt out to them by index, their notes are put together again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child
from gateway.bench.columns import read_columns
from gateway.bench.join import Receipts

OPEN_S = 300.0
"""How long opening all sessions may take, in seconds."""


class Opened(NamedTuple):
    """Sessions were opened: monotonic ns of the first's beginning and the last's document, and how long each took, in
    ns.
    """

    started: int
    finished: int
    times: list[int]

    @property
    def seconds(self) -> float:
        """From the first's beginning to the last's document."""
        return (self.finished - self.started) / 1e9


class Collected(NamedTuple):
    """What arrived: the updates, the bytes of their payloads, and what must not have happened, as words."""

    receipts: Receipts
    bytes: int
    faults: list[str]


class Renewed(NamedTuple):
    """Sessions were renewed: how long each took until there was an access token, and until the session's `ready`, in
    ns, and how often the gateway refused an exchange for later.
    """

    refreshes: list[int]
    renewals: list[int]
    refused: int


class Taken(NamedTuple):
    """Requests for units that were answered: when each was due and when the answer came, in monotonic ns, and one
    answer.
    """

    due: array[int]
    answered: array[int]
    reply: str

    def times(self) -> list[int]:
        """How long each took, in ns."""
        return [answered - due for due, answered in zip(self.due, self.answered, strict=True)]


class Dashboard(NamedTuple):
    """A session watched a balance for `seconds`: `taken` units, `frames` that it got, how old the last one was before
    the balance was the true one (ms after the last answer), and what must not have happened, as words.
    """

    seconds: float
    taken: int
    frames: int
    settled_ms: float
    faults: list[str]


class End(NamedTuple):
    """How a session ended: its code, and monotonic ns of `ended`, of the close frame and of the closing; 0: that did
    not come.
    """

    session: int
    code: str
    ended_at: int
    close_frame_at: int
    closed_at: int


class Fleet:
    """`concurrency` sessions are opened at a time, all load generators taken together."""

    def __init__(self, loads: Sequence[Child], concurrency: int) -> None:
        self._loads = loads
        self._concurrency = max(1, concurrency // len(loads))

    def pids(self) -> list[int]:
        """The load generators."""
        return [load.pid for load in self._loads]

    def open(
        self,
        target: str,
        ports: Sequence[int],
        indexes: Sequence[int],
        *,
        resume: bool = False,
        mute: bool = False,
        after_cut: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Opened:
        """Open a session for each index at ``gateway`` or ``floor``, its ports in turn; see `Load.open`."""
        how = {"concurrency": self._concurrency, "resume": resume, "mute": mute, "after_cut": after_cut}
        for load, share in zip(self._loads, self._deal(indexes), strict=True):
            load.send("open", target=target, ports=list(ports), indexes=share, **how)
        answers = self._answers(OPEN_S, on_progress)
        times = [time for answer in answers for time in read_columns(Path(answer["times"]), 1)[0]]
        if len(times) != len(indexes):
            raise BenchBroken(f"{len(times)} of {len(indexes)} sessions were opened")
        return Opened(min(a["started"] for a in answers), max(a["finished"] for a in answers), times)

    def probe(self, target: str, ports: Sequence[int], index: int, *, resume: bool = False) -> list[str]:
        """Open one session and return the frames that it got up to its document."""
        answer = self._of(index).call(
            "probe", target=target, port=ports[index % len(ports)], index=index, resume=resume
        )
        frames: list[str] = answer["frames"]
        return frames

    def exchange(
        self,
        ports: Sequence[int],
        refresh_tokens: str,
        indexes: Sequence[int],
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Get the access tokens that the sessions are opened with afterwards; see `Load.exchange`."""
        for load, share in zip(self._loads, self._deal(indexes), strict=True):
            load.send("exchange", ports=list(ports), refresh_tokens=refresh_tokens, indexes=share)
        self._answers(OPEN_S, on_progress)

    def begin_renewals(self, indexes: Sequence[int], seconds: float) -> None:
        """Renew these sessions, evenly spread over `seconds`; `end_renewals` has to be called next."""
        for load, share in zip(self._loads, self._deal(indexes), strict=True):
            load.send("renew", indexes=share, seconds=seconds)

    def end_renewals(self, within_s: float) -> Renewed:
        """Wait for the last of the renewals that were begun. What went wrong is told by `collect`."""
        refreshes, renewals, refused = array("q"), array("q"), 0
        for answer in self._answers(within_s):
            for column, part in zip((refreshes, renewals), read_columns(Path(answer["times"]), 2), strict=True):
                column.extend(part)
            refused += answer["refused"]
        return Renewed(refreshes.tolist(), renewals.tolist(), refused)

    def take(self, target: str, seconds: float, rate: float = 0.0) -> Taken:
        """All sessions take units, `rate` a second together; 0: each the next one when it has the last."""
        answers = self._tell("take", seconds + 60, target=target, seconds=seconds, rate=rate / len(self._loads))
        due, answered = array("q"), array("q")
        for answer in answers:
            for column, part in zip((due, answered), read_columns(Path(answer["times"]), 2), strict=True):
                column.extend(part)
        return Taken(due, answered, next(answer["reply"] for answer in answers))

    def dashboard(self, ports: Sequence[int], index: int, seconds: float, outstanding: int) -> Dashboard:
        """One session takes units as fast as it can while another watches its balance; see `Load.dashboard`."""
        answer = self._of(index).call(
            "dashboard",
            port=ports[index % len(ports)],
            index=index,
            seconds=seconds,
            outstanding=outstanding,
            within_s=seconds + 60,
        )
        words = [f"{count} {kind} at the watcher" for kind, count in answer.pop("faults").items()]
        return Dashboard(**answer, faults=words)

    def cut(self, target: str, indexes: Sequence[int] | None = None) -> None:
        """Drop sessions at the client, all of them without `indexes`."""
        for load, share in zip(self._loads, self._deal(indexes or ()), strict=True):
            load.send("cut", target=target, indexes=None if indexes is None else share)
        self._answers(60.0)

    def clear(self) -> None:
        """Forget what was received up to now."""
        self._tell("clear", 60.0)

    def await_one_each(self, indexes: Sequence[int], within_s: float) -> int:
        """Wait until as many updates have come as there are indexes; monotonic ns of the last. BenchBroken when they
        do not come.
        """
        for load, share in zip(self._loads, self._deal(indexes), strict=True):
            load.send("await_updates", count=len(share), within_s=within_s)
        answers = self._answers(within_s + 30)
        arrived = sum(answer["updates"] for answer in answers)
        if arrived < len(indexes):
            raise BenchBroken(f"{arrived} of {len(indexes)} updates arrived within {within_s:.0f} s")
        last: int = max(answer["last"] for answer in answers)
        return last

    def collect(self, quiet_s: float = 0.0) -> Collected:
        """All updates since `clear`, once none has come for `quiet_s` seconds."""
        answers = self._tell("collect", 60.0, quiet_s=quiet_s)
        columns = [array("q") for _ in Receipts._fields]
        faults: dict[str, int] = {}
        for answer in answers:
            for column, part in zip(columns, read_columns(Path(answer["updates"]), len(columns)), strict=True):
                column.extend(part)
            for kind, count in answer["faults"].items():
                faults[kind] = faults.get(kind, 0) + count
        words = [f"{count} {kind}" for kind, count in faults.items()]
        return Collected(Receipts(*columns), sum(answer["bytes"] for answer in answers), words)

    def last_update(self) -> str:
        """The text of the newest update of a session whose frames are kept."""
        update: str = self._of(0).call("last_update")["update"]
        if not update:
            raise BenchBroken("no update arrived that could be repeated")
        return update

    def ends(self, indexes: Sequence[int]) -> list[End]:
        """How these gateway sessions ended, or not."""
        for load, share in zip(self._loads, self._deal(indexes), strict=True):
            load.send("ends", indexes=share)
        return [End(*row) for answer in self._answers(60.0) for row in answer["ends"]]

    def _of(self, index: int) -> Child:
        return self._loads[index % len(self._loads)]

    def _deal(self, indexes: Sequence[int]) -> list[list[int]]:
        shares: list[list[int]] = [[] for _ in self._loads]
        for index in indexes:
            shares[index % len(shares)].append(index)
        return shares

    def _tell(self, command: str, within_s: float, **arguments: Any) -> list[dict[str, Any]]:
        for load in self._loads:
            load.send(command, **arguments)
        return self._answers(within_s)

    def _answers(self, within_s: float, on_progress: Callable[[int], None] | None = None) -> list[dict[str, Any]]:
        done = [0] * len(self._loads)

        def count(place: int, now: int) -> None:
            done[place] = now
            if on_progress is not None:
                on_progress(sum(done))

        return [
            load.answer(within_s=within_s, on_progress=partial(count, place)) for place, load in enumerate(self._loads)
        ]
