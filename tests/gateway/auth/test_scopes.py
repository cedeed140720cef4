from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.tokens import hash_token, new_api_token
from gateway.store.database import Database, Statement
from tests.support.services import authenticator

TOKEN = new_api_token(bytes(32))


@pytest.fixture
def wall() -> Callable[[], int]:
    return lambda: 1_795_288_200_000


@pytest.mark.parametrize(
    ("scopes", "permissions"),
    [
        ("{}", None),
        ('{"permissions":["users.read"]}', frozenset(("users.read",))),
        ('{"permissions":[]}', frozenset()),
        ('{"permission":["users.read"]}', frozenset()),
        ('{"permissions":null}', frozenset()),
        ('{"permissions":["a"],"more":1}', frozenset()),
        ('{"permissions":"users.read"}', frozenset()),
        ('{"x":1}', frozenset()),
    ],
)
async def test_scopes_that_can_not_be_understood_give_nothing(
    database: Database, wall: Callable[[], int], scopes: str, permissions: frozenset[str] | None
) -> None:
    await database.write(
        Statement("INSERT INTO plans(id, name) VALUES ('free', 'Free')"),
        Statement("INSERT INTO users(id, username, plan) VALUES ('ada', 'ada', 'free')"),
        Statement(
            "INSERT INTO api_tokens(id, user_id, token_hash, scopes) VALUES ('t', 'ada', ?, ?)",
            (hash_token(TOKEN), scopes),
        ),
    )
    principal = await authenticator(database, wall).authenticate(TOKEN)
    assert principal.permissions == permissions
