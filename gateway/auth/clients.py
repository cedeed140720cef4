"""Who signs in, beside the account, and what the audit trail says of attempts that failed."""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.principal import Principal
from gateway.store.audit import Entry
from gateway.store.logins import AccountRow


class Client(NamedTuple):
    """From where somebody signs in, with what, in a browser that is known (`device`) or not, and by which server
    instance."""

    address: str
    user_agent: str
    device: str | None
    instance: Principal | None

    @property
    def signed_by(self) -> str | None:
        """The id of the instance."""
        return None if self.instance is None else self.instance.id

    @property
    def audited(self) -> dict[str, str]:
        """What the trail says of it beside the address."""
        return {} if self.instance is None else {"instance": self.instance.id}


def login_failed(account: AccountRow | None, client: Client) -> Entry:
    """Names a user, never what was typed: people type their password where the name goes."""
    target = "unknown" if account is None else f"user:{account.id}"
    after = client.audited or None
    return Entry("stranger", "session.login_failed", target, client.address, outcome(account), after=after)


def outcome(account: AccountRow | None) -> str:
    """Why a password opened nothing."""
    if account is None:
        return "unknown"
    if not account.active:
        return "disabled"
    return "wrong_password" if account.password_hash is not None else "no_password"
