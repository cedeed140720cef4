"""What a session asks of its connection: the values that `gateway.core.session` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.spending import Order
from gateway.core.wire import LeaseMessage, Ping
from gateway.errors import Ending


class DocumentRequest(NamedTuple):
    """A document that the client wants, by the name it used, and the revision that it still holds."""

    name: str
    rev: str | None


class Send(NamedTuple):
    """Send this frame."""

    payload: bytes


class SendPing(NamedTuple):
    """Send a WebSocket ping."""


class Authenticate(NamedTuple):
    """Check this token and answer with `authenticated` or `rejected`."""

    token: str


class Subscribe(NamedTuple):
    """Start watching; `request_id` wants a reply when all of it is decided. The first of a session may be empty."""

    documents: tuple[DocumentRequest, ...]
    request_id: str | None


class Unsubscribe(NamedTuple):
    """Stop watching and reply."""

    names: tuple[str, ...]
    request_id: str


class Resend(NamedTuple):
    """Send a document whole again and reply."""

    name: str
    request_id: str


class Report(NamedTuple):
    """Answer a ping with the revisions that were sent."""

    ping: Ping


class Spend(NamedTuple):
    """Carry out this order and answer with its outcome."""

    order: Order
    request_id: str


class UseLease(NamedTuple):
    """Do this with a lease of the spender (``user:ID``) and answer with the outcome."""

    spender: str
    request: LeaseMessage


class Close(NamedTuple):
    """Send the last frame and close; nothing may be sent after it."""

    payload: bytes
    ending: Ending


Effect = Send | SendPing | Authenticate | Subscribe | Unsubscribe | Resend | Report | Spend | UseLease | Close

SELF = (DocumentRequest("self", None),)


def parse_document_name(text: str) -> DocumentRequest:
    """Split `DOC@REV`: the last ``@`` counts, and only before 16 hexadecimal digits."""
    name, at, rev = text.rpartition("@")
    if at and len(rev) == 16 and all(c in "0123456789abcdef" for c in rev):
        return DocumentRequest(name, rev)
    return DocumentRequest(text, None)


def parse_document_names(texts: Sequence[str]) -> tuple[DocumentRequest, ...]:
    """Parse each, keeping the last word on a document that is named twice, in the order of first mention."""
    requests = {request.name: request for request in map(parse_document_name, texts)}
    return tuple(requests.values())
