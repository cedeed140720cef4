"""Documents of very many members, of which few change at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

import msgspec

from gateway.core.document import Document, in_order, member_changes, revision, section_patch

_encode = msgspec.json.Encoder().encode
MANY = 100
"""With more changes than these a wide document is made anew."""


class WideDocument(Document):
    """A document of very many members, whose names are not those of others: nothing is kept of their form.

    The next one is made of it for the price of what differs, but for a hash over all of it.
    """

    __slots__ = ("_members", "_patch", "_plain", "_since")

    def __init__(self, sections: Iterable[tuple[str, bytes]]) -> None:
        held = list(sections)
        known = dict(held)
        self._plain = all(map(str.isascii, known))
        quick = self._plain and len(known) == len(held)  # sorting pairs is far slower
        names = sorted(known) if quick else [name for name, _ in in_order(held)]
        self._hold(names, [known[name] for name in names], [_key(name) + known[name] for name in names])

    def _hold(self, names: list[str], contents: list[bytes], members: list[bytes]) -> None:
        self.names, self.contents, self._members = tuple(names), tuple(contents), tuple(members)
        self._since, self._patch = "", b""
        whole = self.json()
        self.rev = revision(whole)
        self.size = len(whole)

    def json(self) -> bytes:
        """The canonical JSON of the whole."""
        return b"{" + b",".join(self._members) + b"}"

    def changed(self, changes: Mapping[str, bytes | None]) -> WideDocument:
        """The document with these members in the place of its own, None: without; itself where nothing differs."""
        if not self._plain or len(changes) > MANY or not all(map(str.isascii, changes)):
            after: dict[str, bytes | None] = {**dict(self.sections), **changes}
            made = WideDocument((name, content) for name, content in after.items() if content is not None)
            return self if made.rev == self.rev else made
        names, contents, members = list(self.names), list(self.contents), list(self._members)
        patch: list[bytes] = []
        for name, content in sorted(changes.items()):
            place = bisect_left(names, name)
            before = contents[place] if place < len(names) and names[place] == name else None
            if content == before:
                continue
            key, end = _key(name), place + (before is not None)
            held = [] if content is None else [content]
            names[place:end] = [name for _ in held]
            contents[place:end] = held
            members[place:end] = [key + content for content in held]
            if content is None:
                patch.append(key + b"null")
            else:
                patch.append(key + (content if before is None else section_patch(before, content)))
        if not patch:
            return self
        made = WideDocument.__new__(WideDocument)
        made._hold(names, contents, members)
        made._plain, made._since, made._patch = True, self.rev, b"{" + b",".join(patch) + b"}"
        return made

    def patch_from(self, old: Document) -> bytes:
        """As of any document; at hand where this one was made of `old`."""
        if not isinstance(old, WideDocument):
            return super().patch_from(old)
        if old.rev == self._since:
            return self._patch
        gone, come = set(old._members).difference(self._members), set(self._members).difference(old._members)
        return member_changes(old._among(gone), self._among(come), section_patch)

    def _among(self, members: set[bytes]) -> dict[str, bytes]:
        each = zip(self.names, self.contents, self._members, strict=True)
        return {name: content for name, content, member in each if member in members}


def _key(name: str) -> bytes:
    return _encode(name) + b":"
