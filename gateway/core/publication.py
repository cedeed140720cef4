"""What watchers of a document are sent: conflation, resume, and frames that are encoded once.

A `Publication` is one state of a document as all its watchers share it. A `View` is one session's side: which state
was sent last. There is no queue of updates: `next_frame` goes from what was sent straight to the publication of now.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from gateway.core.document import Document
from gateway.core.wire import Codec, Current


@lru_cache(maxsize=1024)
def _listed(causes: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(causes))


class Publication:
    """A document's present state. `seq` is the position in the change log up to which it is exact; `causes` tell why
    it differs from the state before.
    """

    __slots__ = ("_frames", "causes", "document", "name", "seq")

    def __init__(self, name: str, document: Document, seq: int, causes: Iterable[str] = ()) -> None:
        self.name = name
        self.document = document
        self.seq = seq
        self.causes = frozenset(causes)
        self._frames: dict[tuple[str, str, frozenset[str]], bytes] | None = None

    def update_frame(self, codec: Codec, from_: Document, causes: frozenset[str]) -> bytes:
        """The frame that leads from `from_` here: a patch, or the whole document where that is smaller."""
        document = self.document
        patch = document.patch_from(from_)
        if len(patch) > document.size:
            return self.snapshot_frame(codec)
        return codec.update(self.name, from_.rev, document.rev, self.seq, patch, _listed(causes))

    def shared_frame(self, codec: Codec, from_: Document, causes: frozenset[str]) -> bytes:
        """The same, kept for the next watcher."""
        if self._frames is None:
            self._frames = {}
        key = (codec.subprotocol, from_.rev, causes)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self.update_frame(codec, from_, causes)
        return frame

    def snapshot_frame(self, codec: Codec) -> bytes:
        """The frame with the whole document."""
        return codec.snapshot(self.name, self.document.rev, self.seq, self.document.json())

    def forget_frames(self) -> None:
        """Free the frames kept for sharing; they are made again if somebody who lagged needs one."""
        self._frames = None


class View:
    """One session's view of one document: the state sent last, and the causes of what it has not been sent yet.

    `held` is the revision that the client named when it began to watch, until the first answer.
    """

    __slots__ = ("causes", "held", "sent")

    def __init__(self, held: str | None = None) -> None:
        self.held = held
        self.sent: Document | None = None
        self.causes: frozenset[str] = frozenset()

    def skip(self, causes: frozenset[str]) -> None:
        """The session could not take this publication: remember why it will differ."""
        self.causes = causes if not self.causes else self.causes | causes

    def reset(self, held: str | None = None) -> None:
        """Begin again: the document is sent whole next time, or confirmed if the client holds the right revision."""
        self.sent = None
        self.held = held
        self.causes = frozenset()

    def next_frame(self, publication: Publication, codec: Codec, *, shared: bool = False) -> bytes | None:
        """What to send so that the client holds `publication`; None when it holds that already. The caller sends it,
        or the view is wrong.
        """
        document = publication.document
        before = self.sent
        if before is None:
            self.sent = document
            self.causes = frozenset()
            if self.held == document.rev:
                return codec.encode(Current(publication.name, document.rev, publication.seq))
            return publication.snapshot_frame(codec)
        causes = publication.causes
        if self.causes:
            causes, self.causes = causes | self.causes, frozenset()
        if before.rev == document.rev:
            return None
        self.sent = document
        if shared:
            return publication.shared_frame(codec, before, causes)
        return publication.update_frame(codec, before, causes)
