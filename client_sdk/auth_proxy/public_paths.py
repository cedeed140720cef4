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
        if "\\" in path or not {"", ".", ".."}.isdisjoint(path.removesuffix("/").split("/")[1:]):
            return False  # what is behind this may take it for another path
        return path.startswith(self._above)
