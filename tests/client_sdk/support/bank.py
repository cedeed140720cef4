"""What a gateway does with quotas as the protocol describes it: one user's, without input or output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Held:
    """A lease."""

    quota: str
    reserved: int
    held: int
    expires_at: float
    state: str = "open"
    committed: int | None = None
    added: set[str] = field(default_factory=set)


@dataclass
class Bank:
    """Hard limits by quota (None: unlimited), what was charged by key, and leases by name.

    `received` is every message that asked for something, in order. `refusals` are errors for the next ones, one each.
    """

    limits: dict[str, int | None]
    clock: Callable[[], float] = lambda: 0.0
    seq: int = 100
    charges: dict[str, tuple[str, int]] = field(default_factory=dict)
    leases: dict[str, Held] = field(default_factory=dict)
    received: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)

    def sent(self, op: str) -> list[dict[str, Any]]:
        """The messages of this kind that came."""
        return [message for message in self.received if message["op"] == op]

    def used(self, quota: str) -> int:
        """Charged and committed."""
        charged = sum(amount for name, amount in self.charges.values() if name == quota)
        return charged + sum(lease.committed or 0 for lease in self.leases.values() if lease.quota == quota)

    def reserved(self, quota: str) -> int:
        """Held by leases."""
        self._end_due()
        return sum(lease.held for lease in self.leases.values() if lease.quota == quota and lease.state == "open")

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The reply or the error."""
        self.received.append(message)
        if self.refusals:
            return {"op": "error", "id": message["id"], "message": "Not now.", **self.refusals.pop(0)}
        self._end_due()
        answer: dict[str, Any] = getattr(self, f"_{message['op']}")(message)
        return {"id": message["id"], **answer}

    # --- operations ---

    def _consume(self, message: dict[str, Any]) -> dict[str, Any]:
        key, quota, amount = message["key"], message["quota"], message["amount"]
        if key in self.charges:
            if self.charges[key] != (quota, amount):
                return _error("conflict")
        elif refusal := self._refusal(quota, amount):
            return refusal
        else:
            self.charges[key] = (quota, amount)
            self.seq += 1
        return self._balance(quota)

    def _reserve(self, message: dict[str, Any]) -> dict[str, Any]:
        name, quota, amount = message["lease"], message["quota"], message["amount"]
        lease = self.leases.get(name)
        if lease is None:
            if refusal := self._refusal(quota, amount):
                return refusal
            self.leases[name] = Held(quota, amount, amount, self.clock() + message["ttl_s"])
            self.seq += 1
        elif lease.state != "open":
            return _error("lease_expired" if lease.state == "expired" else "conflict")
        elif (lease.quota, lease.reserved) != (quota, amount):
            return _error("conflict")
        return self._told(name)

    def _extend(self, message: dict[str, Any]) -> dict[str, Any]:
        lease = self.leases.get(message["lease"])
        if lease is None:
            return _error("lease_not_found")
        if lease.state != "open":
            return _error("lease_expired" if lease.state == "expired" else "conflict")
        amount = message.get("amount", 0)
        if amount and message["key"] not in lease.added:
            if refusal := self._refusal(lease.quota, amount):
                return refusal
            lease.added.add(message["key"])
            lease.held += amount
        lease.expires_at = max(lease.expires_at, self.clock() + message["ttl_s"])
        self.seq += 1
        return self._told(message["lease"])

    def _commit(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._settle(message["lease"], "committed", message["amount"])

    def _release(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._settle(message["lease"], "released", None)

    def _settle(self, name: str, state: str, committed: int | None) -> dict[str, Any]:
        lease = self.leases.get(name)
        if lease is None:
            return _error("lease_not_found")
        if lease.state == "expired" and state != "released":
            return _error("lease_expired")
        if lease.state in ("committed", "released") and (lease.state, lease.committed) != (state, committed):
            return _error("conflict")
        if lease.state == "open":
            lease.state, lease.committed = state, committed
            self.seq += 1
        return self._told(name)

    # --- answers ---

    def _refusal(self, quota: str, amount: int) -> dict[str, Any] | None:
        if quota not in self.limits:
            return {**_error("not_found"), "message": "No such quota."}
        limit = self.limits[quota]
        remaining = None if limit is None else limit - self.used(quota) - self.reserved(quota)
        if remaining is None or amount <= remaining:
            return None
        return {**_error("quota_exceeded"), "quota": quota, "remaining": max(0, remaining), "resets_at": "2026-12-01"}

    def _balance(self, quota: str) -> dict[str, Any]:
        used, reserved, limit = self.used(quota), self.reserved(quota), self.limits[quota]
        told = {"op": "reply", "quota": quota, "used": used, "period": "month", "level": "ok", "seq": self.seq}
        if limit is None:
            return told
        taken = used + reserved
        level = "exhausted" if taken >= limit else "low" if taken * 5 >= limit * 4 else "ok"
        limited = {"limit": limit, "reserved": reserved, "remaining": max(0, limit - taken), "hard": True}
        return {**told, **limited, "level": level}

    def _told(self, name: str) -> dict[str, Any]:
        lease = self.leases[name]
        told = {"lease": name, "state": lease.state, "held": lease.held, "expires_at": f"at {lease.expires_at}"}
        if lease.committed is not None:
            told["committed"] = lease.committed
        return {**self._balance(lease.quota), **told}

    def _end_due(self) -> None:
        for lease in self.leases.values():
            if lease.state == "open" and lease.expires_at <= self.clock():
                lease.state = "expired"


def _error(code: str) -> dict[str, Any]:
    return {"op": "error", "code": code, "message": code}
