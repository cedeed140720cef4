"""What a client asks for, judged as far as that needs no database."""

from __future__ import annotations

from gateway.core.access import SPEND, may_spend
from gateway.core.effects import Effect, Report, Resend, Spend, Subscribe, Unsubscribe, UseLease, parse_document_names
from gateway.core.principal import Principal, PrincipalKind
from gateway.core.spending import Order, owner_of
from gateway.core.text import is_plain
from gateway.core.wire import Consume, Extend, LeaseMessage, Ping, Reserve, Sync, Unwatch, Watch
from gateway.errors import BadRequest, Forbidden


def look(request: Ping | Watch | Unwatch | Sync) -> Effect:
    """What a request about documents comes to. A revision behind a name counts where one begins to watch."""
    match request:
        case Ping():
            return Report(request)
        case Watch(id=request_id, docs=docs):
            return Subscribe(parse_document_names(docs), request_id)
        case Unwatch(id=request_id, docs=docs):
            return Unsubscribe(tuple(document.name for document in parse_document_names(docs)), request_id)
        case Sync(id=request_id, doc=doc):
            return Resend(parse_document_names((doc,))[0].name, request_id)


def ask(principal: Principal, request: Consume | LeaseMessage) -> Spend | UseLease:
    """What a request about quotas comes to. Raises `Forbidden` and `BadRequest`."""
    if principal.kind is not PrincipalKind.USER:
        raise Forbidden("An instance spends by signed requests, for the users it names.")
    if not may_spend(principal):
        raise Forbidden(f"The credential is narrowed to scopes without {SPEND}.")
    if isinstance(request, Consume):
        quota, key, org = request.quota, request.key, request.org
        _check(f"{quota}{key}{org}")
        spender = principal.document
        return Spend(Order(spender, owner_of(spender, org), quota, request.amount, key), request.id)
    _check(request.lease)
    if isinstance(request, Reserve):
        _check(f"{request.quota}{request.org}")
    elif isinstance(request, Extend):
        if request.amount and request.key is None:
            raise BadRequest("What adds units to a lease needs a key.")
        _check(request.key or "")
    return UseLease(principal.document, request)


def _check(text: str) -> None:
    if not is_plain(text):
        raise BadRequest("Names and keys must not contain control characters.")
