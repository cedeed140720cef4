"""Feed, hub, sessions and the SDK's session against a plain model, under random writers and every kind of noise.

The database is a real file; sockets are in memory, time is moved by hand, and nothing arrives unless a rule lets it. At
every quiet point each client holds what the model works out from the rows; in between nobody is shown what never was.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from client_sdk import events
from client_sdk.errors import Revoked
from client_sdk.freshness import FreshnessState
from gateway.config import Config
from gateway.core.tokens import hash_token
from gateway.live.node import Node
from gateway.metrics import Metrics
from gateway.store.database import Database, Snapshot, Statement
from gateway.store.migrate import migrate
from gateway.store.quotas import Quotas
from gateway.web.routes import channel
from tests.support.document_model import Row, Tables
from tests.support.flaky_store import FlakyStore
from tests.support.model_history import BAD_ATTRIBUTES, BAD_TIMEZONE, History
from tests.support.node_rig import ManualClock
from tests.support.people import token_text
from tests.support.services import accounts
from tests.support.simulated_client import DATA, Message, SimulatedClient
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.worlds import (
    HOUR,
    NOW,
    ORGANIZATIONS,
    PERMISSIONS,
    PLANS,
    QUOTAS,
    ROLES,
    USERS,
    World,
    amounts,
    anchors,
    changes,
    limit_columns,
    maybe_moments,
    owners,
    periods,
    statuses,
    timezones,
    worlds,
)

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "100"))
STEPS = 40
PHASES = [Phase.explicit, Phase.reuse, Phase.generate] + ([Phase.shrink] if "MODEL_SHRINK" in os.environ else [])
"""Shrinking takes minutes: asked for by MODEL_SHRINK, with a time limit to match."""
REST_S = 0.25
PATIENCE = 100
DOCS = [f"user:{user}" for user in USERS] + [f"org:{organization}" for organization in ORGANIZATIONS]
CLIENTS: list[tuple[str, dict[str, Any]]] = [
    ("u1", {"watch": ("self", "org:o1", "user:u2")}),
    (
        "u2",
        {"watch": ("self", "user:u1", "user:u3"), "subprotocol": "gateway.v1+msgpack", "credential": "message"},
    ),
    ("u1", {"watch": ("self",)}),
    ("u3", {"watch": ("org:o1", "self")}),
]
"""Nobody begins to watch the other organization: its members are shown it all the same."""

clients = st.sampled_from(range(len(CLIENTS)))
documents = st.sampled_from([*DOCS, "self", "user:nobody", "org:nowhere"])
seconds = st.sampled_from([0.2, 2, 11, 30, 61, 3_600, 7 * 3_600, 24 * 3_600, 20 * 24 * 3_600])
Ask = Callable[[str], events.Request]
asks: st.SearchStrategy[Ask] = st.one_of(
    st.lists(documents, min_size=1, max_size=3).map(lambda docs: lambda id: events.WatchDocuments(id, tuple(docs))),
    st.sampled_from(DOCS).map(lambda doc: lambda id: events.UnwatchDocuments(id, (doc,))),
    documents.map(lambda doc: lambda id: events.SyncDocument(id, doc)),
    st.just(events.MeasurePing),
)
existing = st.sampled_from(
    [("users", user) for user in USERS]
    + [("organizations", organization) for organization in ORGANIZATIONS]
    + [("roles", role) for role in ROLES]
)
spoils = st.sampled_from([("attributes", BAD_ATTRIBUTES), ("timezone", BAD_TIMEZONE)])
RICH: Tables = {
    "plans": [{"id": plan} for plan in PLANS],
    "roles": [{"id": role} for role in ROLES],
    "users": [
        {"id": user, "username": user, "plan": plan, "created_at": NOW, "updated_at": NOW}
        for user, plan in zip(USERS, ("p1", "p2", "p1"), strict=True)
    ],
    "organizations": [
        {"id": organization, "name": "Acme", "plan": plan, "created_at": NOW, "updated_at": NOW}
        for organization, plan in zip(ORGANIZATIONS, PLANS, strict=True)
    ],
    "plan_permissions": [{"plan": "p1", "permission": "a"}, {"plan": "p2", "permission": "users.read"}],
    "plan_quotas": [
        {"plan": plan, "quota": quota, "limit_value": 10, "period": period, "hard": 1}
        for plan in PLANS
        for quota, period in zip(QUOTAS, ("day", "month"), strict=True)
    ],
    "role_permissions": [{"role": "r1", "permission": "b"}, {"role": "r2", "permission": "orgs.read"}],
    "user_roles": [{"user_id": user, "role": "r1"} for user in USERS],
    "quota_usage": [
        {"owner": owner, "quota": "q1", "period_start": NOW - 7 * HOUR, "used": 3, "reserved": 1}
        for owner in ("user:u1", "org:o1")
    ],
    "memberships": [
        {"org_id": "o1", "user_id": "u1", "role": "owner", "created_at": NOW},
        {"org_id": "o1", "user_id": "u2", "role": "member", "created_at": NOW},
        {"org_id": "o2", "user_id": "u3", "role": "admin", "created_at": NOW},
    ],
    "org_role_permissions": [{"role": "owner", "permission": "manage_members"}],
    "member_caps": [
        {"org_id": "o1", "user_id": user, "quota": "q1", "limit_value": limit}
        for user, limit in (("u1", 20), ("u2", 5))
    ],
    "member_usage": [
        {"org_id": "o1", "user_id": "u2", "quota": "q1", "period_start": NOW - 7 * HOUR, "used": 1, "reserved": 1}
    ],
}
"""A small world in which every row counts for somebody."""


paces = st.lists(st.integers(0, 9), min_size=1, max_size=4)
permissions = st.sampled_from(PERMISSIONS)
users, organizations = st.sampled_from(USERS), st.sampled_from(ORGANIZATIONS)
quotas = st.sampled_from(QUOTAS)
limits = st.fixed_dictionaries(limit_columns)
dates = st.fixed_dictionaries({"starts_at": maybe_moments, "expires_at": maybe_moments})
user_settings: dict[str, st.SearchStrategy[Any]] = {
    "plan": st.sampled_from(PLANS),
    "is_admin": st.sampled_from([0, 0, 0, 1]),
    "timezone": timezones,
    "anchor_at": anchors,
}
positions = st.sampled_from(["owner", "admin", "member"])


def rows(table: str, others: st.SearchStrategy[Row] | None = None, **key: st.SearchStrategy[Any]) -> Any:
    """Any row of a table: its key, and the columns that it is given or that are changed."""
    return st.tuples(
        st.just(table), st.fixed_dictionaries(key), st.just({}) if others is None else st.just({}) | others
    )


toggles: st.SearchStrategy[tuple[str, Row, Row]] = st.one_of(
    rows("plan_permissions", plan=st.sampled_from(PLANS), permission=permissions),
    rows("role_permissions", role=st.sampled_from(ROLES), permission=permissions),
    rows("org_role_permissions", role=positions, permission=permissions),
    rows(
        "user_roles",
        st.fixed_dictionaries({"expires_at": maybe_moments}),
        user_id=users,
        role=st.sampled_from(ROLES),
    ),
    rows("user_permissions", dates, user_id=users, permission=permissions, effect=st.sampled_from(["allow", "deny"])),
    rows("user_quotas", st.builds(lambda one, other: one | other, limits, dates), user_id=users, quota=quotas),
    rows("plan_quotas", limits, plan=st.sampled_from(PLANS), quota=quotas),
    rows(
        "quota_usage",
        st.fixed_dictionaries({"used": amounts, "reserved": amounts}),
        owner=st.sampled_from(owners),
        quota=quotas,
        period_start=st.sampled_from(periods),
    ),
    rows(
        "organizations",
        st.fixed_dictionaries(
            {"plan": st.sampled_from(PLANS), "name": st.sampled_from(["Acme", "Emca"]), "status": statuses}
        ),
        id=organizations,
    ),
    users.flatmap(
        lambda user: rows("users", st.fixed_dictionaries({"username": st.just(user)} | user_settings), id=st.just(user))
    ),
    rows("memberships", st.fixed_dictionaries({"role": positions}), org_id=organizations, user_id=users),
    rows(
        "member_caps",
        st.fixed_dictionaries({"limit_value": amounts}),
        org_id=organizations,
        user_id=users,
        quota=quotas,
    ),
    rows(
        "member_usage",
        st.fixed_dictionaries({"used": amounts, "reserved": amounts}),
        org_id=organizations,
        user_id=users,
        quota=quotas,
        period_start=st.sampled_from(periods),
    ),
)


class UnsteadyStore(FlakyStore):
    """`pace`: how many turns of others each access waits for, before and after it reads. `fails_after`: after so many
    more accesses it goes away.

    `open` counts the snapshots that somebody reads from.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.pace: Iterator[int] = itertools.repeat(0)
        self.fails_after: int | None = None
        self.open = 0
        self.gate = self._begin_access

    def recover(self) -> None:
        super().recover()
        self.fails_after = None

    async def read(self, *statements: Statement) -> list[list[Row]]:
        rows = await super().read(*statements)
        await self.wait()
        return rows

    async def wait(self) -> None:
        for _ in range(next(self.pace)):
            await asyncio.sleep(0)

    async def _begin_access(self) -> None:
        await self.wait()
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                self.fail()

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Snapshot]:
        self.open += 1
        try:
            async with super()._snapshot() as snapshot:
                yield UnsteadySnapshot(self, snapshot)
        finally:
            self.open -= 1


class UnsteadySnapshot:
    """Its answers take as long as those of its store."""

    def __init__(self, store: UnsteadyStore, snapshot: Snapshot) -> None:
        self._store = store
        self._snapshot = snapshot

    async def read(self, *statements: Statement) -> list[list[Row]]:
        rows = await self._snapshot.read(*statements)
        await self._store.wait()
        return rows


class Failures(logging.Handler):
    """What the gateway logged of faults of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


class GatewayAgainstModel(RuleBasedStateMachine):
    """`empty` is the file of a migrated database without rows."""

    def __init__(self, empty: Path, failures: Failures) -> None:
        super().__init__()
        self.path = empty.with_name("model.db")
        for leftover in empty.parent.glob("model.db*"):
            leftover.unlink()
        shutil.copyfile(empty, self.path)
        self.failures = failures
        self.failures.found.clear()
        self.loop = VirtualTimeLoop()
        self.loop.set_exception_handler(lambda _, context: self.failures.found.append(str(context)))
        self.database: Database | None = None
        self.world: World | None = None

    @initialize(tables=st.just(RICH) | st.just(RICH) | worlds)
    def begin(self, tables: Tables) -> None:
        self.world = World(self.path)
        self.world.fill(tables)
        self.clock = ManualClock()
        self.tokens = itertools.count()
        self.spoiled: set[str] = set()
        self.blind = False
        self.history = History(USERS, DOCS)
        self.database = self.loop.run_until_complete(Database.open(str(self.path)))
        self.store = UnsteadyStore(self.database)
        self.start_node()
        self.clients: list[SimulatedClient] = []
        for user, options in CLIENTS:
            self.clients.append(self.new_client(user, options))
        self.committed()
        self.come_to_rest()

    def teardown(self) -> None:
        if self.database is not None:
            self.stop(asyncio.all_tasks(self.loop))
            self.loop.run_until_complete(self.database.close())
        if self.world is not None:
            self.world.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    # --- the gateway ---

    def start_node(self) -> None:
        config = Config()
        services = accounts(self.store, self.clock)
        settings = (config.channel, config.changes)
        quotas = Quotas(self.store, lambda: self.clock.wall)  # type: ignore[arg-type]
        rest = (Metrics(), services.keep_house, quotas)
        self.node = Node("n", self.store, services.authenticator, self.clock, *settings, *rest)  # type: ignore[arg-type]
        self.loop.run_until_complete(self.node.feed.start())
        self.application = channel(self.node, services, config)
        self.tasks = [self.loop.create_task(work) for work in (self.node.feed.run(), self.node.tick())]

    def stop(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))

    # --- the clients ---

    def new_client(self, user: str, options: dict[str, Any]) -> SimulatedClient:
        client = SimulatedClient(user, self.new_token(user), self.clock, self.heard, **options)
        client.begin(self.loop, self.connect)
        return client

    async def connect(self, scope: Any, receive: Any, send: Any) -> None:
        await self.application(scope, receive, send)

    def new_token(self, user: str) -> str:
        token = token_text(next(self.tokens))
        with self.transaction():
            self.sql(
                "INSERT INTO api_tokens(id, user_id, token_hash) SELECT ?1, id, ?2 FROM users WHERE id = ?3",
                *(hash_token(token)[:8], hash_token(token), user),
            )
        return token

    def heard(self, client: SimulatedClient, message: Message) -> None:
        """No client is shown what never was, and none is refused what was there for it all the time."""
        op, doc = message["op"], message.get("doc")
        if op in DATA:
            fits = self.history.was_shown(client.user, doc, message["rev"], message["seq"])
            assert fits, f"{client.user} was shown {message}\n{self.history.describe(client.user, doc)}"
        elif op == "gone" or (
            op == "error" and message["code"] == "not_found" and message.get("id") in client.watching
        ):
            name = client.doc if doc == "self" else doc
            assert name not in DOCS or self.history.was_withheld(client.user, name), f"{client.user} lost {message}"

    # --- rows and time ---

    def sql(self, statement: str, *arguments: Any) -> list[Any]:
        assert self.world is not None
        return self.world.execute(statement, *arguments)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One commit; rows that the schema refuses leave everything as it was."""
        self.sql("BEGIN IMMEDIATE")
        try:
            yield
        except apsw.ConstraintError:
            self.sql("ROLLBACK")
        else:
            self.sql("COMMIT")
        self.committed()

    def committed(self) -> None:
        assert self.world is not None
        self.history.committed(self.world.tables(), self.last_seq(), self.clock.wall)
        for client in self.clients:
            self.spoiled.update(token for token in client.tokens if not self.holds(token, expired_too=True))

    def last_seq(self) -> int:
        [(seq,)] = self.sql("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0)")
        return int(seq)

    def holds(self, token: str, *, expired_too: bool = False) -> bool:
        """Whether a token lets somebody in now; `expired_too`: whether it would if it had not ended by itself."""
        [(count,)] = self.sql(
            "SELECT count(*) FROM api_tokens AS t JOIN users AS u ON u.id = t.user_id WHERE t.token_hash = ?"
            " AND t.revoked_at IS NULL AND u.status = 'active' AND (? OR coalesce(t.expires_at > ?, 1))",
            *(hash_token(token), expired_too, self.clock.wall),
        )
        return bool(count)

    def let_time_pass(self, by: float) -> None:
        self.clock.advance(by)
        self.history.moved(self.clock.wall, blind=self.blind)
        for client in self.clients:
            client.tick()

    def toggle(self, table: str, key: Row, others: Row) -> None:
        """A row that is there goes away or changes, one that is not comes."""
        where = " AND ".join(f"{name} = ?" for name in key)
        names, marks = ", ".join(key | others), ", ".join("?" * len(key | others))
        if others:
            changed = ", ".join(f"{name} = excluded.{name}" for name in others)
            upsert = (
                f"INSERT INTO {table}({names}) VALUES ({marks}) ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"
            )
            self.sql(upsert, *(key | others).values())
        elif self.sql(f"DELETE FROM {table} WHERE {where} RETURNING 1", *key.values()) == []:
            self.sql(f"INSERT INTO {table}({names}) VALUES ({marks})", *key.values())

    # --- rules: writers ---

    @rule(some=st.lists(toggles, min_size=1, max_size=4))
    def write(self, some: list[tuple[str, Row, Row]]) -> None:
        """A few rows in one commit."""
        with self.transaction():
            for table, key, others in some:
                self.toggle(table, key, others)

    @rule(some=st.lists(changes, min_size=1, max_size=2))
    def rewrite(self, some: list[Any]) -> None:
        """Whole tables, or a column of a user or an organization, in one commit."""
        assert self.world is not None
        with self.transaction():
            for table, change in some:
                self.world.change(table, change)

    @rule(row=st.none() | existing)
    def delete(self, row: tuple[str, str] | None) -> None:
        """Something goes away with all that depends on it; None: everything is there again, but empty."""
        with self.transaction():
            if row is not None:
                self.sql(f"DELETE FROM {row[0]} WHERE id = ?", row[1])
                return
            for user in USERS:
                self.sql("INSERT INTO users(id, username, plan) VALUES (?1, ?1, 'p1') ON CONFLICT DO NOTHING", user)
            for organization in ORGANIZATIONS:
                self.sql("INSERT INTO organizations(id, plan) VALUES (?, 'p2') ON CONFLICT DO NOTHING", organization)
            for role in ROLES:
                self.sql("INSERT INTO roles(id) VALUES (?) ON CONFLICT DO NOTHING", role)

    @rule(user=users, how=st.sampled_from(["deny", "leave", "step down"]))
    def lose_a_right(self, user: str, how: str) -> None:
        """In the same commit everything that was to be seen by it changes."""
        with self.transaction():
            if how == "deny":
                for permission in ("users.read", "orgs.read"):
                    self.toggle("user_permissions", {"user_id": user, "permission": permission, "effect": "deny"}, {})
            elif how == "leave":
                self.sql("DELETE FROM memberships WHERE user_id = ?", user)
            else:
                self.sql("UPDATE memberships SET role = 'member' WHERE user_id = ?", user)
            self.sql("UPDATE users SET name = name || 'x'")
            self.sql("UPDATE organizations SET name = name || 'x'")

    @rule(user=users, how=st.none() | spoils)
    def spoil(self, user: str, how: tuple[str, str] | None) -> None:
        """A row that no document can be made of; None: there is none any more."""
        with self.transaction():
            if how is not None:
                self.sql(f"UPDATE users SET {how[0]} = ? WHERE id = ?", how[1], user)
                return
            self.sql("UPDATE users SET attributes = '{}' WHERE attributes = ?", BAD_ATTRIBUTES)
            self.sql("UPDATE users SET timezone = 'UTC' WHERE timezone = ?", BAD_TIMEZONE)

    # --- rules: credentials ---

    @rule(client=clients)
    def renew(self, client: int) -> None:
        """The provider has another token from now on."""
        self.clients[client].give(self.new_token(self.clients[client].user))

    @rule(client=clients, ends_in=st.sampled_from([None, -1, 1, 30, 59, 3_600]))
    def end_token(self, client: int, ends_in: int | None) -> None:
        """It ends in so many seconds; None: it is revoked."""
        column = "revoked_at" if ends_in is None else "expires_at"
        with self.transaction():
            self.sql(
                f"UPDATE api_tokens SET {column} = ? WHERE token_hash = ?",
                *(self.clock.wall + (ends_in or 0) * 1000, hash_token(self.clients[client].token)),
            )

    @precondition(lambda self: self.store.open == 0)
    @rule(client=clients)
    def write_at_the_end(self, client: int) -> None:
        """A token ends, and before anybody looks at the clock rows of its user change."""
        self.end_token(client, 1)
        self.loop.pass_time(REST_S)
        self.clients[client].deliver()
        if self.store.open == 0:
            self.let_time_pass(1.0)
        self.write(
            [("user_permissions", {"user_id": self.clients[client].user, "permission": "c", "effect": "allow"}, {})]
        )
        self.loop.turn(30)

    @precondition(lambda self: self.store.open == 0)
    @rule(client=clients, slow=st.integers(0, 3), before=st.integers(0, 12), after=st.integers(0, 30))
    def revoke_while_connecting(self, client: int, slow: int, before: int, after: int) -> None:
        """A token is revoked between its being shown and its client's being let in; one access is slow."""
        self.clients[client].cut()
        if self.clients[client].is_stopped:
            return
        self.let_time_pass(max(0.0, self.clients[client].session.deadline - self.clock.mono))
        self.store.pace = itertools.chain([0] * slow, [40], itertools.repeat(0))
        self.loop.turn(before)
        self.end_token(client, None)
        self.loop.turn(after)

    # --- rules: time, network, faults ---

    @precondition(lambda self: self.store.open == 0)
    @rule(by=seconds)
    def wait(self, by: float) -> None:
        self.let_time_pass(by)

    @rule(by=st.integers(1, 20) | st.sampled_from([0.01, 0.12, 1.0]))
    def work(self, by: float) -> None:
        """The gateway does so many steps of what it has to do, or all of it for some time."""
        if isinstance(by, int):
            self.loop.turn(by)
        else:
            self.loop.pass_time(by)

    @rule(client=st.none() | clients, count=st.integers(1, 6))
    def deliver(self, client: int | None, count: int) -> None:
        """A client reads and sends so much; None: all of them everything."""
        if client is not None:
            self.clients[client].deliver(count)
            return
        for one in self.clients:
            one.deliver()

    @rule(client=clients)
    def cut(self, client: int) -> None:
        self.clients[client].cut()

    @rule(client=clients, ask=asks)
    def ask(self, client: int, ask: Ask) -> None:
        self.clients[client].ask(ask)

    @rule(pace=paces)
    def slow_down(self, pace: list[int]) -> None:
        """Accesses to the database let others go first, in turn as often as that."""
        self.store.pace = itertools.cycle(pace)

    @rule(after=st.none() | st.integers(0, 12))
    def lose_the_store(self, after: int | None) -> None:
        """After so many more accesses it is away; None: it is there again."""
        if after is None:
            self.store.recover()
            return
        self.store.fails_after = after
        self.blind = True
        self.history.moved(self.clock.wall, blind=True)

    @precondition(lambda self: self.store.open == 0)
    @rule(after=st.integers(0, 12), some=st.lists(toggles, min_size=2, max_size=4), by=seconds)
    def lose_the_store_meanwhile(self, after: int, some: list[tuple[str, Row, Row]], by: float) -> None:
        """Rows and time change, and the database goes away while the gateway looks at both."""
        self.write(some)
        self.let_time_pass(by)
        self.lose_the_store(after)
        self.loop.pass_time(REST_S)
        self.deliver(None, 0)

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        self.store.recover()
        if crash:
            for client in self.clients:
                client.forsake()
        else:
            self.node.stop()
        self.stop(self.tasks)
        self.start_node()

    # --- rest ---

    @rule()
    def rest(self) -> None:
        """As `come_to_rest`: it comes twice as often as anything else."""
        self.come_to_rest()

    @rule()
    def come_to_rest(self) -> None:
        """The noise stops: in the end every client holds the truth, and says so."""
        self.settle()
        assert self.failures.found == []
        for client in self.clients:
            self.check_session(client)
            if client.is_live:
                self.check_documents(client)
        self.check_readers()
        self.blind = False
        self.history.begin_anew()
        for number, client in enumerate(self.clients):
            if client.is_stopped and self.history.now.is_active(client.user):
                self.clients[number] = self.new_client(client.user, CLIENTS[number][1])

    def settle(self) -> None:
        self.store.recover()
        self.store.pace = itertools.repeat(0)
        for _ in range(PATIENCE):
            self.loop.pass_time(REST_S)
            moved = [client.deliver() for client in self.clients]
            if any(moved) or not self.is_idle():
                continue
            away = [client for client in self.clients if self.could_be_live(client)]
            if not away:
                return
            now = self.clock.mono
            self.let_time_pass(max(0.001, min(client.session.deadline for client in away) - now))
        raise AssertionError("it never comes to rest")

    def is_idle(self) -> bool:
        feed = self.node.feed
        return feed.position == self.last_seq() and not (
            feed.stale or self.node.hub.work or self.node.hub.work.pacing or self.node._tasks
        )

    def could_be_live(self, client: SimulatedClient) -> bool:
        return not client.is_stopped and not client.is_live and self.holds(client.token)

    def check_session(self, client: SimulatedClient) -> None:
        if client.is_stopped:
            assert isinstance(client.error, Revoked), repr(client.error)
            assert self.spoiled.intersection(client.tokens), "stopped without a reason"
        elif client.is_live:
            assert client.socket is not None
            assert client.socket.receiver is not None
            assert client.socket.watches.open == {}, "a request to watch has no answer"
            principal = client.socket.receiver.session.principal
            assert principal is not None
            assert any(
                self.holds(token) for token in client.tokens if hash_token(token)[:8] == principal.credential_id
            ), "a session without a credential"

    def check_documents(self, client: SimulatedClient) -> None:
        replica, state = client.session.replica, self.history.now
        shown = {doc: state.shown(client.user, doc) for doc in replica}
        uncertain = state.is_bad(client.user)  # its rights are those from before
        for doc, expected in shown.items():
            held = replica.get(doc)
            assert held is not None
            if expected.is_bad or (uncertain and doc != client.doc):
                continue
            assert expected.data is not None, f"{client.user} holds {doc}"
            assert (held.data, held.rev) == (expected.data, expected.rev), f"{client.user}: {doc}"
        freshness = client.session.freshness(self.clock.mono)
        if any(expected.is_bad for expected in shown.values()):
            assert freshness.state is FreshnessState.STALE, freshness
        else:
            assert uncertain or freshness.state is FreshnessState.LIVE, freshness

    def check_readers(self) -> None:
        """Who reads without a session is given the same."""
        for user in USERS:
            shown = self.history.now.shown(user, f"user:{user}")
            if shown.rev is not None:
                publication = self.loop.run_until_complete(self.node.user(user)).publication
                assert publication is not None
                assert publication.document.rev == shown.rev


@pytest.fixture
def failures() -> Iterator[Failures]:
    """The gateway's log, as far as it tells of faults of its own."""
    found = Failures()
    log = logging.getLogger("gateway")
    log.addHandler(found)
    propagates, log.propagate = log.propagate, False
    yield found
    log.propagate = propagates
    log.removeHandler(found)


@pytest.mark.timeout(60 + 2 * EXAMPLES)
def test_when_the_noise_stops_every_client_holds_the_truth(tmp_path: Path, failures: Failures) -> None:
    empty = tmp_path / "empty.db"

    async def make() -> None:
        async with await Database.open(str(empty)) as database:
            await migrate(database)

    asyncio.run(make())
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: GatewayAgainstModel(empty, failures),
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, phases=PHASES, report_multiple_bugs=False),
    )
