"""Somebody who writes without pause, through one endpoint of a database or several, whatever happens to it.

Every commit puts one new number into several rows at once, so that a document tells by itself whether it is a state
that was: all numbers of a user's own rows are the same one, so are all numbers of the plan's rows, and neither goes
back. Each endpoint has a thread, and people of its own: what it was told to be committed is in `acknowledged`.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from tests.support.foreign_writer import ForeignError
from tests.support.plain_hrana import PlainHrana, Refused
from tests.support.seed import Person, Seed

PLAN_SHARE = 20
"""One commit in so many changes a plan, and with it the documents of everybody who is on it."""

AWAY_PAUSE_S = 0.02


class Endpoint(Protocol):
    """Where SQL is written: `PlainHrana`, `ForeignWriter`."""

    def script(self, sql: str) -> None: ...

    def close(self) -> None: ...


def patient(url: str) -> PlainHrana:
    """An endpoint of a server. A write that hangs is given up: the server may be frozen."""
    return PlainHrana(url, timeout_s=3.0)


def numbered_people(seed: Seed, count: int, *, on_one_plan: int = 10) -> list[Person]:
    """People whose rows bear the number 0. Not in one transaction: a server rolls back what takes longer than 5 s."""
    people: list[Person] = []
    while len(people) < count:
        plan = seed.plan(["plan number 0"], {"minutes": (0, "never")})
        some = seed.people(min(on_one_plan, count - len(people)), plan, name="number 0", attributes='{"number":0}')
        with seed.transaction():
            for person in some:
                seed.insert("user_permissions", user_id=person.id, permission="number 0")
        people += some
    return people


def own_numbers(data: dict[str, Any]) -> set[int]:
    """The numbers of the user's own rows in a document."""
    texts = [data["identity"]["name"], *data["permissions"]]
    found = {int(match[1]) for text in texts if (match := re.fullmatch(r"number (\d+)", text))}
    return found | {int(data["identity"]["attributes"]["number"])}


def plan_numbers(data: dict[str, Any]) -> set[int]:
    """The numbers of the plan's rows in a document."""
    found = {int(match[1]) for text in data["permissions"] if (match := re.fullmatch(r"plan number (\d+)", text))}
    return found | {int(data["quotas"]["minutes"]["limit"])}


def check_history(states: Sequence[dict[str, Any]]) -> None:
    """What one connection was shown: only states that were, in the order in which they were."""
    before = (0, 0)
    for data in states:
        own, plan = own_numbers(data), plan_numbers(data)
        assert len(own) == len(plan) == 1, f"parts of several commits: {data}"
        now = (own.pop(), plan.pop())
        assert now[0] >= before[0], f"{data['identity']['id']} went back from {before[0]} to {now[0]}"
        assert now[1] >= before[1], f"the plan of {data['identity']['id']} went back from {before[1]} to {now[1]}"
        before = now


class Noise:
    """Writes about `per_s` commits a second until `stop`; a context manager."""

    def __init__(self, people: Sequence[Person], endpoints: Sequence[Endpoint], *, per_s: float = 100.0) -> None:
        self.acknowledged: dict[str, int] = {}
        """The last number of each user that was committed for certain."""
        self.commits = 0
        self.failures = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        plans = sorted({person.plan for person in people})
        pause_s = len(endpoints) / per_s
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(endpoint, people[i :: len(endpoints)], plans[i :: len(endpoints)], pause_s, i),
                daemon=True,
            )
            for i, endpoint in enumerate(endpoints)
        ]

    def __enter__(self) -> Noise:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return when nobody writes any more. Raises what a writer did not expect."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _run(
        self, endpoint: Endpoint, people: Sequence[Person], plans: Sequence[str], pause_s: float, place: int
    ) -> None:
        chance = random.Random(place)
        number = 0
        try:
            while not self._stopping.is_set():
                number += 1
                if plans and number % PLAN_SHARE == 0:
                    sure = self._commit(endpoint, _plan_rows(chance.choice(plans), number))
                else:
                    person = chance.choice(people)
                    sure = self._commit(endpoint, _own_rows(person.id, number))
                    if sure:
                        self.acknowledged[person.id] = number
                self._stopping.wait(pause_s if sure else AWAY_PAUSE_S)
        except BaseException as error:
            self._error = error
        finally:
            endpoint.close()

    def _commit(self, endpoint: Endpoint, statements: str) -> bool:
        """Whether it was committed for certain. All in one request, so that no lock is held between two."""
        try:
            endpoint.script(f"BEGIN IMMEDIATE; {statements} COMMIT;")
        except (OSError, Refused, ForeignError):
            with self._lock:
                self.failures += 1
            return False
        with self._lock:
            self.commits += 1
        return True


def _own_rows(user: str, number: int) -> str:
    """A late request of which nobody knows any more never undoes a newer one."""
    return (
        f"UPDATE users SET name = 'number {number}', attributes = '{{\"number\":{number}}}' WHERE id = '{user}'"
        f" AND CAST(substr(name, 8) AS INTEGER) < {number};"
        f" UPDATE user_permissions SET permission = 'number {number}' WHERE user_id = '{user}'"
        f" AND CAST(substr(permission, 8) AS INTEGER) < {number};"
    )


def _plan_rows(plan: str, number: int) -> str:
    return (
        f"UPDATE plan_quotas SET limit_value = {number} WHERE plan = '{plan}' AND limit_value < {number};"
        f" UPDATE plan_permissions SET permission = 'plan number {number}' WHERE plan = '{plan}'"
        f" AND CAST(substr(permission, 13) AS INTEGER) < {number};"
    )
