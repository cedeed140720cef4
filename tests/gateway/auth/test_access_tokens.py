"""Access tokens issued and checked by one process: verdicts that are remembered, and what makes them void."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from gateway.auth.access_tokens import VERDICTS, AccessTokens
from gateway.auth.keyring import Keyring
from gateway.auth.signed import SignedValues
from gateway.auth.void_logins import VoidLogins
from gateway.config import AuthConfig
from gateway.core.access_token import MAX_TOKEN_LENGTH, key_id, looks_like, private_key
from gateway.core.clock import CLOCK_SKEW_MS
from gateway.core.sealing import Sealer
from gateway.core.tokens import new_api_token
from gateway.errors import AuthFailed, Unavailable
from gateway.store.database import Database, Statement
from tests.support.forged_token import AUDIENCE, ISSUER, NOW, forged

SEALER = Sealer([bytes(range(32))])
CONFIG = AuthConfig(issuer=ISSUER, audience=AUDIENCE)
TTL_MS = CONFIG.access_ttl_s * 1000


class CountedKeyring(Keyring):
    """Counts how often somebody wants the keys, to look at a signature."""

    verified = 0

    def verifying(self, now: int) -> dict[str, OKPKey]:
        self.verified += 1
        return super().verifying(now)


class Rig:
    def __init__(
        self, ring: CountedKeyring, database: Database, config: AuthConfig = CONFIG, verdicts: int = VERDICTS
    ) -> None:
        self.keyring, self.database = ring, database
        self.now = NOW
        self.revoked = VoidLogins(lambda: self.now, config.access_ttl_s)
        self.tokens = AccessTokens(ring, self.revoked, config, lambda: self.now, verdicts=verdicts)

    def issue(self, session: str = "s_1", **options: Any) -> str:
        return self.tokens.issue("u_ada", session, **options)[0]

    def good(self, token: str) -> bool:
        try:
            self.tokens.check(token)
        except AuthFailed as error:
            if str(error) != "The token is not valid.":
                raise
            return False
        return True


@pytest.fixture
async def rig(database: Database) -> Rig:
    ring = CountedKeyring(SEALER, CONFIG.access_ttl_s)
    await ring.ensure(database, NOW)
    return Rig(ring, database)


async def test_a_token_is_good_from_its_issue_to_its_end(rig: Rig) -> None:
    token, expires_at = rig.tokens.issue("u_ada", "s_1")
    assert expires_at == NOW + TTL_MS
    claims = rig.tokens.check(token)
    assert (claims.user, claims.session, claims.client) == ("u_ada", "s_1", "gateway")
    assert (claims.issued_at, claims.expires_at) == (NOW, expires_at)
    assert claims.kid == rig.keyring.signing_key(NOW).kid
    assert looks_like(token)
    rig.now = expires_at - 1
    assert rig.good(token)
    rig.now = expires_at
    assert not rig.good(token)
    assert not rig.good(token)


async def test_no_two_tokens_are_the_same(rig: Rig) -> None:
    assert rig.tokens.check(rig.issue()).id != rig.tokens.check(rig.issue()).id


@pytest.mark.parametrize(("until", "ends"), [(5500, 5000), (TTL_MS + 1, TTL_MS), (0, 0), (-1, -1000), (999, 0)])
async def test_a_token_does_not_outlive_its_session(rig: Rig, until: int, ends: int) -> None:
    token, expires_at = rig.tokens.issue("u_ada", "s_1", until=NOW + until)
    assert expires_at == NOW + ends
    assert rig.good(token) == (ends > 0)


async def test_moments_are_whole_seconds_and_never_later(rig: Rig) -> None:
    rig.now = NOW + 999
    token, expires_at = rig.tokens.issue("u_ada", "s_1")
    assert expires_at == NOW + TTL_MS
    assert rig.tokens.check(token).issued_at == NOW


async def test_a_neighbours_token_is_good_although_its_clock_is_ahead(rig: Rig) -> None:
    token = rig.issue()
    rig.now = NOW - CLOCK_SKEW_MS
    assert rig.good(token)


async def test_another_deployments_settings_do_not_fit(rig: Rig) -> None:
    token = rig.issue()
    for other in (AuthConfig(issuer=ISSUER, audience="other"), AuthConfig(issuer="https://x", audience=AUDIENCE)):
        assert not Rig(rig.keyring, rig.database, other).good(token)


async def test_no_key_no_token(rig: Rig) -> None:
    rig.tokens = AccessTokens(Keyring(SEALER, 900), rig.revoked, CONFIG, lambda: rig.now)
    with pytest.raises(Unavailable):
        rig.issue()
    assert not rig.good(forged(private_key(bytes(32))))


# --- remembered verdicts ---


async def test_a_signature_is_looked_at_once(rig: Rig) -> None:
    token = rig.issue()
    assert [rig.tokens.check(token) for _ in range(5)] == [rig.tokens.check(token)] * 5
    assert rig.keyring.verified == 1


async def test_revocation_overrides_a_remembered_verdict(rig: Rig) -> None:
    token, other = rig.issue("s_1"), rig.issue("s_2")
    assert rig.good(token)
    rig.revoked.note(1, sessions=[("u_ada", "s_1")])
    assert not rig.good(token)
    assert rig.good(other)
    assert not rig.good(rig.issue("s_1"))
    await rig.revoked.load(rig.database, anew=True)
    assert rig.good(token)


async def test_an_old_key_after_rotation(rig: Rig) -> None:
    """Its tokens are good until the key has ended, remembered or not, and then neither is."""
    remembered, unseen = rig.issue(), rig.issue()
    assert rig.good(remembered)
    await rig.keyring.rotate(rig.database, NOW, lead_ms=0)
    new = rig.issue()
    assert rig.good(remembered)
    assert rig.good(new)
    assert rig.tokens.check(new).kid != rig.tokens.check(remembered).kid
    await rig.database.write(
        Statement("UPDATE signing_keys SET verifies_until = ? WHERE verifies_until > 0", (NOW + 1,))
    )
    await rig.keyring.load(rig.database)
    assert rig.good(remembered)
    rig.now = NOW + 1
    assert not rig.good(remembered)
    assert not rig.good(unseen)
    assert rig.good(new)


async def test_a_discarded_key_is_void_at_once(rig: Rig) -> None:
    remembered, unseen = rig.issue(), rig.issue()
    assert rig.good(remembered)
    await rig.keyring.rotate(rig.database, NOW, discard=True)
    assert not rig.good(remembered)
    assert not rig.good(unseen)
    assert rig.good(rig.issue())


async def test_a_token_ends_with_its_key(rig: Rig) -> None:
    """Where a node can not open the newer key, it says honestly how long the older one lasts."""
    await rig.database.write(Statement("UPDATE signing_keys SET verifies_until = ?", (NOW + 60_500,)))
    await rig.keyring.load(rig.database)
    assert rig.tokens.issue("u_ada", "s_1")[1] == NOW + 60_000


async def test_bad_tokens_make_no_good_one_forgotten(rig: Rig) -> None:
    rig = Rig(rig.keyring, rig.database, verdicts=3)
    good = [rig.issue() for _ in range(3)]
    assert all(map(rig.good, good))
    head, _, signature = good[0].rpartition(".")
    for number in range(20):
        assert not rig.good(f"{head}.{signature[:-2]}{number:02}")
        assert not rig.good(forged(private_key(bytes([number] * 32))))
    before = rig.keyring.verified
    assert all(map(rig.good, good))
    assert rig.keyring.verified == before


async def test_the_token_that_was_not_shown_for_longest_is_forgotten(rig: Rig) -> None:
    rig = Rig(rig.keyring, rig.database, verdicts=2)
    first, second, third = (rig.issue() for _ in range(3))
    for token in (first, second, first, third):
        assert rig.good(token)
    assert rig.keyring.verified == 3
    assert rig.good(first)
    assert rig.keyring.verified == 3
    assert rig.good(second)
    assert rig.keyring.verified == 4


# --- what is no access token ---


class Unread(str):
    __slots__ = ()

    def encode(self, *arguments: Any) -> bytes:
        raise AssertionError("it was worked on")


async def test_a_megabyte_is_refused_before_it_is_hashed(rig: Rig) -> None:
    assert not rig.good(Unread("A" * 1_000_000))
    assert not rig.good(Unread(rig.issue() + "A" * MAX_TOKEN_LENGTH))
    with pytest.raises(AssertionError, match="worked on"):
        rig.good(Unread(rig.issue()))


async def test_a_token_of_another_gateway_with_our_kid(rig: Rig) -> None:
    kid = rig.keyring.signing_key(NOW).kid
    assert not rig.good(forged(private_key(b"\x05" * 32), header={"kid": kid}))


async def test_an_honest_token_of_another_issue_of_ours(rig: Rig) -> None:
    """The same test as for the forged ones, so that these fail for what was changed about them."""
    key = rig.keyring.signing_key(NOW).private
    assert key is not None
    assert key_id(key) == rig.keyring.signing_key(NOW).kid
    assert rig.good(forged(key))
    assert not rig.good(forged(key, aud=[AUDIENCE]))


async def test_a_ticket_a_cookie_or_another_token_in_its_place(rig: Rig) -> None:
    signed = SignedValues(SEALER, lambda: rig.now)
    ticket = signed.dumps("ticket", {"sub": "u_ada", "sid": "s_1"})
    for text in (ticket, "gt_" + ticket, signed.dumps("cookie.access", rig.issue()), new_api_token(bytes(32))):
        assert not rig.good(text)
        assert not looks_like(text)
    assert not rig.good("gr_" + new_api_token(bytes(32))[3:])


class Fixed:
    """The rig of the fuzzers: one key, no database."""

    def __init__(self) -> None:
        self.keyring = Keyring(SEALER, CONFIG.access_ttl_s)
        row = self.keyring._new_row(NOW, signs_from=NOW)
        self.keyring._take([row])
        self.tokens = AccessTokens(self.keyring, VoidLogins(lambda: NOW, 900), CONFIG, lambda: NOW)
        self.token = self.tokens.issue("u_ada", "s_1")[0]
        self.tokens.check(self.token)

    def refuses(self, text: str) -> None:
        with pytest.raises(AuthFailed, match=r"^The token is not valid\.$"):
            self.tokens.check(text)


FIXED = Fixed()


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    FIXED.refuses(text)


@given(st.integers(min_value=0), st.text(string.printable + "é\0\ud800", min_size=0, max_size=3))
def test_a_changed_token_is_refused(place: int, text: str) -> None:
    place %= len(FIXED.token)
    for changed in (
        FIXED.token[:place] + text + FIXED.token[place + 1 :],
        FIXED.token[:place] + text + FIXED.token[place:],
    ):
        if changed != FIXED.token:
            FIXED.refuses(changed)
