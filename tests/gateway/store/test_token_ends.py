from __future__ import annotations

import pytest

from gateway.errors import NotFound
from gateway.store.credentials import set_token_end
from gateway.store.database import Database, Statement
from tests.support.people import add_plan, add_token, add_user, token_text


async def test_a_token_ends_when_it_is_told(database: Database) -> None:
    await database.write(*add_plan("free"), add_user("ada"), add_token("ada", token_text("ada")))
    for end in (1_795_288_200_000, None):
        before = (await database.write(Statement("SELECT 1"))).seq
        seq = await set_token_end(database, "t_ada", end)
        assert await database.read(Statement("SELECT expires_at FROM api_tokens WHERE id = 't_ada'")) == [[(end,)]]
        logged = await database.read(Statement("SELECT seq, doc, cause FROM change_log WHERE seq > ?", (before,)))
        assert logged == [[(seq, "user:ada", "revocation")]]


async def test_a_token_that_is_not_there_has_no_end(database: Database) -> None:
    with pytest.raises(NotFound, match="t_nobody"):
        await set_token_end(database, "t_nobody", None)
