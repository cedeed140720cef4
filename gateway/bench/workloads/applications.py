"""How long copies of an application go on letting somebody in whose token was revoked: from the commit to the refused
request and to the closed socket, at every copy, without any of them asking the gateway.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gateway.auth.passwords import hash_now
from gateway.bench.copies import Copies
from gateway.bench.percentiles import Spread
from gateway.bench.result import Result, Target
from gateway.bench.rig import Rig
from gateway.config import AuthConfig

TARGETS = (
    Target("commit_to_refused_by_all_p99_ms", at_most=100),
    Target("commit_to_closed_by_all_p99_ms", at_most=100),
    Target("logout_refused_by_all_p99_ms", at_most=100),
    Target("password_refused_by_all_p99_ms", at_most=100),
    Target("asked", at_most=0),
)
BY_SQL = ("revoke", "disable")
"""A row of the login's or of the user's, written by another program: counted from its commit."""
BY_HTTP = ("logout", "password")
"""A request to the gateway: nobody sees its commit, so that a logout is counted from its being sent. A change of the
password, which takes its time to hash, is counted from its answer.
"""
WAYS = BY_SQL + BY_HTTP
CLOSED_WITH = 4500
NODES = 2


def applications(rig: Rig, *, copies: int, revocations: int, rate: float, spacing_ms: float) -> Iterator[Result]:
    """Everybody is signed in and has a socket at each of so many copies; `revocations` users lose their login, `rate` a
    second, in each of `WAYS` in turn, while each copy is asked with that user's token every `spacing_ms`.
    """
    ends = _Ends(rig, Copies(rig, copies), spacing_ms)
    ends.begin()
    users = list(rig.all)[:revocations]
    logins = ends.log_in_again([user for place, user in enumerate(users) if WAYS[place % len(WAYS)] == "password"])
    rig.settle()
    asked, validations = ends.copies.asked(), ends.copies.counted("validations")
    meter = rig.meter(copies=ends.copies.pids(), clients=[ends.copies.clients.pid])
    started = time.monotonic()
    with meter.running():
        for place in rig.display.counted("revocations", len(users)):
            time.sleep(max(0.0, started + place / rate - time.monotonic()))
            ends.end(WAYS[place % len(WAYS)], users[place], logins)
    if ends.copies.counted("validations") != validations:
        ends.faults["questions about tokens that the copies counted"] += 1
    yield Result(
        workload="applications",
        parameters={
            **rig.size.parameters(),
            "nodes": len(rig.servers),
            "copies": copies,
            "revocations": len(users),
            "rate": rate,
            "spacing_ms": spacing_ms,
        },
        values={**ends.values(), "asked": round(ends.copies.asked() - asked)},
        targets=TARGETS,
        cpu=meter.shares(),
        faults=[f"{count} {kind}" for kind, count in ends.faults.items() if count],
    )


class _Ends:
    """What the revocations came to: times in ns, by name."""

    def __init__(self, rig: Rig, copies: Copies, spacing_ms: float) -> None:
        self._rig = rig
        self.copies = copies
        self._spacing_ms = spacing_ms
        self._password = secrets.token_urlsafe(24)
        self.faults: Counter[str] = Counter()
        self._times: dict[str, list[int]] = {}

    def begin(self) -> None:
        """Sign everybody in and let them be known."""
        self.copies.sign_in(hash_now(self._password, AuthConfig()))
        self.copies.meet(sockets=True)

    def log_in_again(self, users: list[int]) -> dict[int, str]:
        """One more login of these users, by which they are to change their passwords."""
        tokens: dict[int, str] = {}
        with self._rig.display.stage("more logins", len(users)) as done:
            for user in users:
                tokens[user] = self.copies.clients.call("log_in", user=user, password=self._password)["token"]
                done(len(tokens))
        return tokens

    def end(self, way: str, user: int, logins: dict[int, str]) -> None:
        """End one user's login, and see what becomes of it."""
        clients = self.copies.clients
        clients.call("probe", user=user, spacing_ms=self._spacing_ms)
        if way == "logout":
            told = clients.call("log_out", user=user)
            before, after = told["before"], told["after"]
        elif way == "password":
            new = secrets.token_urlsafe(24)
            told = clients.call("change_password", token=logins[user], old=self._password, new=new)
            before, after = told["before"], told["after"]
        else:
            _, commits = self._rig.commits(self._rig.writer.call("change", how=way, users=[user]))
            before, after = commits.before[0], commits.after[0]
        seen = clients.call("verdict", user=user)
        self.faults.update(seen["faults"])
        self.faults["sockets were closed with another code"] += sum(code != CLOSED_WITH for code in seen["codes"])
        _, _, refused, closed = zip(*seen["rows"], strict=True)
        for what, moments in (("refused", refused), ("closed", closed)):
            for at in moments:
                self._note(way, what, before, after, at)
            self._note(way, f"{what}_by_all", before, after, max(moments))
        self._times.setdefault("resolution", []).extend(asked_at - yes_at for yes_at, asked_at, _, _ in seen["rows"])

    def _note(self, way: str, what: str, before: int, after: int, at: int) -> None:
        if way in BY_SQL:
            self._times.setdefault(f"commit_to_{what}", []).append(at - after)
            self._times.setdefault(f"start_to_{what}", []).append(at - before)
            self._times.setdefault(f"{way}_{what}", []).append(at - after)
        else:
            self._times.setdefault(f"{way}_{what}", []).append(at - (before if way == "logout" else after))

    def values(self) -> dict[str, Any]:
        """The figures."""
        values: dict[str, Any] = {}
        for name in sorted(self._times, key=lambda name: (not name.startswith(("commit", "start")), name)):
            values |= Spread.of(self._times[name]).named(name)
        return values
