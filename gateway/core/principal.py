"""Who is on the other side of a connection or a request, and by which credential."""

from __future__ import annotations

import enum

import msgspec


class PrincipalKind(enum.StrEnum):
    """What sort of party a principal is."""

    USER = "user"
    INSTANCE = "instance"


class CredentialKind(enum.StrEnum):
    """What was shown to become a principal; decides where its revocation is looked up."""

    API_TOKEN = "api_token"  # noqa: S105 - the name of a kind, not a secret
    LOGIN_SESSION = "login_session"
    INSTANCE_KEY = "instance_key"


class Principal(msgspec.Struct, frozen=True):
    """An authenticated party. Only `gateway.auth` makes one; whatever requires one can rely on the check having
    happened.

    `credential_id` names the row of the credential, never its secret. `expires_at` is in milliseconds since 1970 UTC
    (None: no end). `permissions` narrows what the credential may do beside its own document (None: all that its
    owner may). `credential_mark` is the whole hash of an API token's secret, or the `kid` of the key that signed an
    access token, also that which made a ticket: another one in the same row is another credential.
    """

    kind: PrincipalKind
    id: str
    credential_kind: CredentialKind
    credential_id: str
    expires_at: int | None = None
    permissions: frozenset[str] | None = None
    credential_mark: str = ""

    @property
    def document(self) -> str:
        """The name of the principal's own document, as frames and ``ready`` write it: ``user:ID``, ``instance:ID``."""
        return f"{self.kind.value}:{self.id}"

    def same_credential(self, other: Principal) -> bool:
        """Whether both were made from one credential of one party, whatever was changed about it in between."""
        return (self.document, self.credential_id, self.credential_mark) == (
            other.document,
            other.credential_id,
            other.credential_mark,
        )
