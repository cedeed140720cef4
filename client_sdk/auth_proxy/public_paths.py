"""Paths of an application where nobody needs a token."""

from __future__ import annotations

from collections.abc import Iterable


class PublicPaths:
    """Each exactly, and all below one that ends with ``/``; ``/`` itself is the front page alone."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._above = tuple(path for path in self._paths if path.endswith("/") and path != "/")

    def __contains__(self, path: str) -> bool:
        if path in self._paths:
            return True
        # What is behind this may take such a path for another one: decode it once more, or drop a segment's parameters.
        segments = (segment.partition(";")[0] for segment in path.removesuffix("/").split("/")[1:])
        if "\\" in path or "%" in path or not {"", ".", ".."}.isdisjoint(segments):
            return False
        return path.startswith(self._above)
