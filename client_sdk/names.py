"""What a caller may name a document."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 256

_HALF = re.compile("[\ud800-\udfff]")  # has no UTF-8
_REVISION = re.compile(r"@[0-9a-f]{16}\Z")


def document_names(docs: str | Iterable[str]) -> tuple[str, ...]:
    """The names in order: ``self``, ``user:ID``, ``org:ID``.

    Raises ValueError for none at all, for what is no text of 1 to 256 characters, for halves of characters (lone
    surrogates: nothing can send them), and for a name with a revision: which one is held is the channel's business.
    """
    if not isinstance(docs, Iterable):
        raise ValueError("documents are named by texts")
    names = (docs,) if isinstance(docs, str) else tuple(docs)
    if not names:
        raise ValueError("name at least one document")
    for name in names:
        if not isinstance(name, str) or not 1 <= len(name) <= LONGEST:
            raise ValueError(f"the name of a document is a text of 1 to {LONGEST} characters")
        if _HALF.search(name):
            raise ValueError("the name of a document holds no halves of characters")
        if _REVISION.search(name):
            raise ValueError("name the document without a revision: the channel adds the one that it holds")
    return names
