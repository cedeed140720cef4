from __future__ import annotations

from typing import Any

import pytest

from gateway.store.instances import Instance, add_instance
from tests.support.signing import Key, sign

Json = dict[str, Any]
URL = "http://testserver"


class Deployment:
    """An instance of the running application, and what it asks."""

    def __init__(self, site: Any, **columns: Any) -> None:
        self.site = site
        made = site.accounts.instances.new_key()
        self.key = Key(made.kid, made.secret)
        site.call(add_instance, site.node.database, Instance(id="i_shop", name="Shop", **columns), made.sealed)

    def ask(self, method: str, path: str, *, body: bytes = b"", headers: Json | None = None, **how: Any) -> Any:
        sent = sign(self.key, method, URL + path, body, headers or {}, **how)
        return self.site.client.request(method, path, content=body, headers=sent)


@pytest.fixture
def shop(site: Any) -> Deployment:
    return Deployment(site)


def test_a_token_is_validated_for_an_instance(site: Any, shop: Deployment) -> None:
    answer = shop.ask("GET", "/auth/validate", headers=site.bearer("u_ada"))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    own = site.client.get("/api/document", headers=site.bearer("u_ada")).json()
    assert told["active"] is True
    assert (told["doc"], told["document"], told["rev"]) == (own["doc"], own["data"], own["rev"])
    assert told["kind"] == "api_token"
    assert answer.headers["ratelimit-policy"] == '"default";q=6000;w=60'
    assert answer.headers["ratelimit"] == '"default";r=5999;t=1'
