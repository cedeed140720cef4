from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.config import AuthConfig
from gateway.store.database import Statement
from gateway.web.openapi import openapi
from gateway.web.well_known import metadata
from tests.gateway.web.conftest import Site

JWKS = "/.well-known/jwks.json"
SERVER = "/.well-known/oauth-authorization-server"


def test_the_key_set_has_public_keys_alone(site: Site) -> None:
    answer = site.client.get(JWKS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    [key] = answer.json()["keys"]
    assert {name: key[name] for name in ("kty", "crv", "use", "alg")} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
    }
    assert set(key) == {"kty", "crv", "x", "use", "alg", "kid"}
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", key["x"])
    assert key == site.accounts.keyring.jwks(site.node.clock.now().wall)["keys"][0]


@pytest.mark.parametrize("path", [JWKS, SERVER])
def test_everybody_may_read_and_keep_it(site: Site, path: str) -> None:
    answer = site.client.get(path)
    assert answer.headers["cache-control"] == "public, max-age=300"
    again = site.client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content, again.headers["cache-control"]) == (304, b"", "public, max-age=300")


def test_a_new_key_is_another_set(site: Site) -> None:
    before = site.client.get(JWKS)

    async def rotate() -> None:
        node = site.node
        await site.accounts.keyring.rotate(node.database, node.clock.now().wall)
        await site.accounts.keyring.load(node.database)

    site.call(rotate)
    after = site.client.get(JWKS, headers={"if-none-match": before.headers["etag"]})
    assert (after.status_code, len(after.json()["keys"])) == (200, 2)
    assert after.headers["etag"] != before.headers["etag"]
    assert before.json()["keys"][0] in after.json()["keys"]


def test_a_key_is_published_longer_before_it_signs_than_it_may_be_kept() -> None:
    from gateway.auth.keyring import LEAD_MS
    from gateway.web.published import MAX_AGE_S

    assert MAX_AGE_S * 1000 < LEAD_MS


def test_the_metadata_is_made_of_the_issuer_alone(site: Site) -> None:
    hosts: list[dict[str, str]] = [{}, {"host": "evil.example"}, {"x-forwarded-host": "evil.example"}]
    bodies = [site.client.get(SERVER, headers=headers).json() for headers in hosts]
    assert bodies == [bodies[0]] * len(hosts)
    assert bodies[0]["issuer"] == AuthConfig().issuer
    assert "evil" not in str(bodies)


def test_the_metadata_has_what_is_required_and_says_the_truth(site: Site) -> None:
    """RFC 8414 §2: `issuer` and `response_types_supported`; the two endpoints that are required besides belong to
    grants that there are not, which is what `grant_types_supported` says."""
    body = site.client.get(SERVER).json()
    assert {"issuer", "response_types_supported", "grant_types_supported"} <= set(body)
    assert (body["response_types_supported"], body["grant_types_supported"]) == ([], [])
    assert not {"authorization_endpoint", "token_endpoint"} & set(body)
    assert body["introspection_endpoint_auth_methods_supported"] == ["Bearer"]
    assert body["revocation_endpoint_auth_methods_supported"] == ["Bearer"]


@pytest.mark.parametrize("name", ["jwks_uri", "introspection_endpoint", "revocation_endpoint"])
def test_every_endpoint_of_the_metadata_is_one(site: Site, name: str) -> None:
    body: dict[str, Any] = site.client.get(SERVER).json()
    path = body[name].removeprefix(body["issuer"])
    paths = site.client.get("/openapi.json").json()["paths"]
    assert path in paths
    secured = next(iter(paths[path].values()))["security"]
    assert (bool(secured) and {} not in secured) == (name != "jwks_uri")


@pytest.mark.parametrize("issuer", ["https://id.example.org", "https://id.example.org/"])
def test_the_issuer_stands_as_it_is_configured(issuer: str) -> None:
    told = metadata(issuer)
    assert (told.issuer, told.jwks_uri) == (issuer, f"https://id.example.org{JWKS}")


def test_what_is_not_there_any_more_is_not_published(site: Site) -> None:
    site.write(Statement("UPDATE signing_keys SET verifies_until = 1"))
    site.call(lambda: site.accounts.keyring.load(site.node.database))
    assert site.client.get(JWKS).json() == {"keys": []}


def test_its_types_are_described() -> None:
    from gateway.web.well_known import WellKnown

    described = openapi(WellKnown(None, "", lambda: 0).operations())  # type: ignore[arg-type]
    assert {"KeySet", "Metadata"} <= set(described["components"]["schemas"])
