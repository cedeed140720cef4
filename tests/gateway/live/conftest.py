from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store.database import Database
from tests.support.node_rig import Rig
from tests.support.people import add_plan, add_token, add_user, insert, token_text


@pytest.fixture
async def cast(database: Database) -> Database:
    """Ada and Bob on the free plan, Eve on pro, Root who may see everybody; Ada owns Acme and Bob is a member of it.

    Each has the API token `token_text(NAME)` in the row ``t_NAME``.
    """
    await database.write(
        *add_plan("free", ["a"], minutes=10),
        *add_plan("pro", ["a", "b"], minutes=500),
        insert("roles", id="r1"),
        insert("role_permissions", role="r1", permission="c"),
        add_user("ada"),
        add_user("bob"),
        add_user("eve", "pro"),
        add_user("root", is_admin=1),
        *(add_token(user, token_text(user)) for user in ("ada", "bob", "eve", "root")),
        insert("organizations", id="acme", name="Acme", plan="pro"),
        insert("org_role_permissions", role="owner", permission="manage_members"),
        insert("memberships", org_id="acme", user_id="ada", role="owner"),
        insert("memberships", org_id="acme", user_id="bob", role="member"),
    )
    return database


@pytest.fixture
async def rig(cast: Database) -> AsyncIterator[Rig]:
    """A node over the cast."""
    async with Rig(cast) as made:
        yield made
