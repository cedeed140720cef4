"""Nothing is public that is another path to whoever reads it again."""

from __future__ import annotations

import pytest

from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to

DECODED_AGAIN = ["%2e%2e/me", "%2E./me", "a/%2e%2e/%2e%2e/me", "..%2fme", "a%5c..", "%252e/me"]
WITHOUT_PARAMETERS = ["..;/me", "..;a=b/me", ".;/me", ";/me", "a/..;", "a/..;/"]


@pytest.mark.parametrize("path", [*DECODED_AGAIN, *WITHOUT_PARAMETERS])
async def test_a_path_is_not_public_that_stands_for_another_one(gateway: ScriptedGateway, path: str) -> None:
    """It comes decoded once; an application may hand it on to a server that decodes it too, or that drops what follows
    a semicolon.
    """
    async with proxy_to(gateway, public=["/open/", "/open/100%"]) as proxy:
        assert (await request(proxy, path=f"/open/{path}")).status == 401


@pytest.mark.parametrize("path", ["a;b=..", "..a", "a/...;b", "100%"])
async def test_a_path_is_public_that_only_looks_like_that(gateway: ScriptedGateway, path: str) -> None:
    """And one that is named exactly."""
    async with proxy_to(gateway, public=["/open/", "/open/100%"]) as proxy:
        assert (await request(proxy, path=f"/open/{path}")).status == 200
