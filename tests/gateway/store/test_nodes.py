from __future__ import annotations

import pytest

from gateway.errors import StoreConflict, StoreError
from gateway.store.changes import read_changes
from gateway.store.database import Database, Statement
from gateway.store.nodes import (
    NodeRecord,
    NodeSession,
    forget_writers,
    give_sign,
    list_nodes,
    register_sessions,
    registered,
    remove_node,
    sessions_of,
    unregister_sessions,
)
from tests.conftest import Place
from tests.support.flaky_store import FlakyStore
from tests.support.foreign_writer import ForeignWriter

N1 = NodeRecord("n1", "1.0", 5, "e1", 3, 2)
N2 = N1._replace(name="n2")


async def test_a_sign_of_life_counts_up_and_tells_who_is_there(database: Database) -> None:
    assert await give_sign(database, N1, 10) == (False, {"n1": 1}, 0)
    assert await give_sign(database, N2, 11) == (False, {"n1": 1, "n2": 1}, 0)
    await database.write(Statement("INSERT INTO plans(id) VALUES ('p')"))
    assert await give_sign(database, N1._replace(position=7, sessions=4), 12) == (True, {"n1": 2, "n2": 1}, 1)
    assert await database.read(Statement("SELECT * FROM nodes WHERE name = 'n1'")) == [
        [("n1", "1.0", 5, 12, 2, "e1", 7, 4)]
    ]


async def test_a_node_goes_with_its_sessions_and_no_others(database: Database) -> None:
    await give_sign(database, N1, 1)
    await give_sign(database, N2, 1)
    one, two = NodeSession("s1", "ada", "n1", 1), NodeSession("s2", "ada", "n2", 2)
    await register_sessions(database, [one, two])
    assert await remove_node(database, "n1") is True
    assert await sessions_of(database, ["ada"]) == ({"n2": 1}, {"ada": [two]})
    assert await remove_node(database, "n1") is False


async def test_a_node_that_gave_a_sign_meanwhile_stays(database: Database) -> None:
    await give_sign(database, N1, 1)
    await give_sign(database, N1, 2)
    assert await remove_node(database, "n1", 1) is False
    assert await remove_node(database, "n1", 2) is True


async def test_sessions_of_many_users_are_read_at_once(database: Database) -> None:
    await give_sign(database, N1, 1)
    sessions = [NodeSession(f"s{n}", f"u{n % 3}", "n1", n) for n in range(500)]
    await register_sessions(database, sessions)
    await register_sessions(database, [sessions[0]._replace(opened_at=9_999)])
    _, found = await sessions_of(database, ["u0", "u1", "nobody"])
    assert {user: sorted(rows) for user, rows in found.items()} == {
        "u0": sorted(s for s in sessions if s.user == "u0"),
        "u1": sorted(s for s in sessions if s.user == "u1"),
        "nobody": [],
    }
    await unregister_sessions(database, [*(s.id for s in sessions[1:]), "unknown"])
    assert await registered(database, "n1") == ({"u0"}, [sessions[0]])
    assert await registered(database, "n2") == ({"u0"}, [])


async def test_what_is_registered_is_read_in_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.nodes._PAGE", 3)
    await give_sign(database, N1, 1)
    await give_sign(database, N2, 1)
    sessions = [NodeSession(f"s{n}", f"u{n % 7}", f"n{1 + n % 2}", n) for n in range(14)]
    await register_sessions(database, sessions)
    store = FlakyStore(database)
    users, own = await registered(store, "n1")
    assert (users, sorted(own)) == ({f"u{n}" for n in range(7)}, sorted(s for s in sessions if s.node == "n1"))
    assert store.reads == 3 + 3


async def test_who_is_not_on_the_list_registers_nothing(database: Database) -> None:
    with pytest.raises(StoreError) as refused:
        await register_sessions(database, [NodeSession("s1", "ada", "n1", 1)])
    assert isinstance(refused.value, StoreConflict)
    assert await registered(database, "n1") == (set(), [])


async def test_a_new_session_is_logged_and_one_less_is_not(database: Database) -> None:
    await give_sign(database, N1, 1)
    await register_sessions(database, [NodeSession("s1", "ada", "n1", 1)])
    await unregister_sessions(database, ["s1"])
    await give_sign(database, N1, 2)
    await remove_node(database, "n1")
    assert [change[:3] for change in await read_changes(database, 0)] == [(1, "sessions:ada", "sessions")]


@pytest.mark.storages("file")
async def test_a_node_takes_its_sessions_along_whoever_deletes_it(database: Database, database_place: Place) -> None:
    await give_sign(database, N1, 1)
    await register_sessions(database, [NodeSession("s1", "ada", "n1", 1)])
    with ForeignWriter(database_place.url.removeprefix("file:")) as careless:
        careless.execute("DELETE FROM nodes")
    assert await registered(database, "n1") == (set(), [])


async def test_only_old_notes_of_writers_are_forgotten(database: Database) -> None:
    for id, at in (("here", 99), ("here too", 100), ("there", 200)):
        await database.write(Statement("INSERT INTO writers(id, batch, at) VALUES (?, 1, ?)", (id, at)))
    await forget_writers(database, 100)
    [left] = await database.read(Statement("SELECT id FROM writers WHERE id IN ('here', 'here too', 'there')"))
    assert {id for (id,) in left} == {"here too", "there"}


async def test_the_nodes_are_listed_with_their_last_signs(database: Database) -> None:
    assert await list_nodes(database) == ([], 0)
    await give_sign(database, N2, 10)
    await give_sign(database, N1, 11)
    await give_sign(database, N1._replace(position=9), 12)
    seq = (await database.write(Statement("INSERT INTO plans(id) VALUES ('p')"))).seq
    assert await list_nodes(database) == ([(N1._replace(position=9), 12), (N2, 10)], seq)
