"""Users, plans, organizations and tokens, made as a foreign program makes them: by SQL, from another process."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from gateway.core.tokens import hash_token, new_api_token
from tests.support.foreign_writer import ForeignWriter

Limit = tuple[int | None, str]


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Token(NamedTuple):
    """An API token: its row's id and its text."""

    id: str
    text: str


class Person(NamedTuple):
    """A user with one API token."""

    id: str
    plan: str
    token_id: str
    token: str

    @property
    def doc(self) -> str:
        return f"user:{self.id}"


GROW = "UPDATE users SET attributes = ? WHERE id = ?"


def growth(person: Person, count: int) -> list[tuple[str, str]]:
    """Parameters for `GROW`: many states of a document, each of which takes a patch of 16 KB from the one before."""
    return [(f'{{"number":{number},"text":"{"x" * 16_000}{number}"}}', person.id) for number in range(count)]


class Seed:
    """Writes rows through `foreign`; every token's text is added to `secrets`. Each row is new: nothing is shared."""

    def __init__(self, foreign: ForeignWriter, secrets: list[str]) -> None:
        self.foreign = foreign
        self._secrets = secrets
        self._numbers = itertools.count(foreign.execute("SELECT count(*) FROM users")[0][0] + 1)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One commit for all that is written inside, or none of it when that fails."""
        self.foreign.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.foreign.execute("ROLLBACK")
            raise
        self.foreign.execute("COMMIT")

    def insert(self, table: str, **columns: Any) -> None:
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        self.foreign.execute(f"INSERT INTO {table}({names}) VALUES ({marks})", *columns.values())

    def plan(self, permissions: Iterable[str] = (), quotas: Mapping[str, Limit] | None = None) -> str:
        """A plan of its own; quotas are ``{name: (limit, period)}``."""
        plan = f"plan{next(self._numbers)}"
        with self.transaction():
            self.insert("plans", id=plan, name=plan.title())
            for permission in permissions:
                self.insert("plan_permissions", plan=plan, permission=permission)
            for quota, (limit, period) in (quotas or {}).items():
                self.insert("plan_quotas", plan=plan, quota=quota, limit_value=limit, period=period)
        return plan

    def role(self, permissions: Iterable[str] = ()) -> str:
        role = f"role{next(self._numbers)}"
        with self.transaction():
            self.insert("roles", id=role, name=role.title())
            for permission in permissions:
                self.insert("role_permissions", role=role, permission=permission)
        return role

    def organization(self, plan: str, members: Mapping[str, str] | None = None) -> str:
        """An organization with members ``{user id: role}``."""
        organization = f"o{next(self._numbers)}"
        with self.transaction():
            self.insert("organizations", id=organization, name=organization.title(), plan=plan)
            for user, role in (members or {}).items():
                self.insert("memberships", org_id=organization, user_id=user, role=role)
        return organization

    def person(self, plan: str | None = None, *, expires_at: int | None = None, **columns: Any) -> Person:
        """A user with a token (that ends at `expires_at`), on `plan` or on a plan of its own."""
        return self.people(1, plan, expires_at=expires_at, **columns)[0]

    def people(
        self, count: int, plan: str | None = None, *, expires_at: int | None = None, **columns: Any
    ) -> list[Person]:
        plan = plan or self.plan()
        people = []
        with self.transaction():
            for _ in range(count):
                user = f"u{next(self._numbers)}"
                self.insert("users", **{"id": user, "username": user, "name": user.title(), "plan": plan, **columns})
                token = self._token(user, expires_at, "{}")
                people.append(Person(user, plan, token.id, token.text))
        return people

    def token(self, user: str, *, expires_at: int | None = None, scopes: str = "{}") -> Token:
        """Another token of a user."""
        return self._token(user, expires_at, scopes)

    def _token(self, user: str, expires_at: int | None, scopes: str) -> Token:
        text = self.unknown_token()
        id = f"t{next(self._numbers)}"
        self.insert(
            "api_tokens", id=id, user_id=user, token_hash=hash_token(text), expires_at=expires_at, scopes=scopes
        )
        return Token(id, text)

    def unknown_token(self) -> str:
        """A token of the right form that was never issued."""
        text = new_api_token(os.urandom(32))
        self._secrets.append(text)
        return text

    def last_seq(self) -> int:
        """The newest position of the change log."""
        return int(self.foreign.execute("SELECT coalesce(max(seq), 0) FROM change_log")[0][0])
