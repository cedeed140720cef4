"""Master keys: what they seal, and what is derived from them."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sealing import KEY_BYTES, NONCE_BYTES, Sealer, parse_master_keys

OLD, NEW, OTHER = (bytes([value]) * KEY_BYTES for value in (1, 2, 3))
NONCE = bytes(NONCE_BYTES)
keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


@given(keys, st.binary(max_size=200), st.text(max_size=50), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_what_is_sealed_opens_again(key: bytes, plain: bytes, context: str, nonce: bytes) -> None:
    sealed = Sealer([key]).seal(plain, context, nonce)
    assert Sealer([key]).open(sealed, context) == plain
    assert len(sealed) == 1 + 4 + NONCE_BYTES + len(plain) + 16


def test_the_text_is_not_in_it() -> None:
    sealed = Sealer([NEW]).seal(b"a private key", "context", NONCE)
    assert b"private" not in sealed
    assert sealed[5:17] == NONCE


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed(place: int, change: int) -> None:
    sealed = bytearray(Sealer([NEW]).seal(b"a private key", "context", NONCE))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(ValueError, match=r"sealed here|no master key"):
        Sealer([NEW]).open(bytes(sealed), "context")


@given(st.binary(max_size=60))
def test_what_was_never_sealed_does_not_open(noise: bytes) -> None:
    with pytest.raises(ValueError, match=r"sealed here|no master key"):
        Sealer([NEW]).open(noise, "context")


@pytest.mark.parametrize("length", range(33))
def test_what_was_cut_does_not_open(length: int) -> None:
    with pytest.raises(ValueError, match=r"sealed here|no master key"):
        Sealer([NEW]).open(Sealer([NEW]).seal(b"", "context", NONCE)[:length], "context")


def test_it_opens_for_its_own_context_only() -> None:
    sealed = Sealer([NEW]).seal(b"plain", "key:a", NONCE)
    with pytest.raises(ValueError, match="no master key opens this"):
        Sealer([NEW]).open(sealed, "key:b")


def test_another_master_key_does_not_open_it() -> None:
    sealed = Sealer([NEW]).seal(b"plain", "context", NONCE)
    with pytest.raises(ValueError, match="no master key opens this"):
        Sealer([OTHER, OLD]).open(sealed, "context")


def test_the_newest_key_seals_and_every_key_opens() -> None:
    before, after = Sealer([OLD]), Sealer([NEW, OLD])
    old = before.seal(b"plain", "context", NONCE)
    new = after.seal(b"plain", "context", NONCE)
    assert after.open(old, "context") == after.open(new, "context") == b"plain"
    assert not after.is_newest(old)
    assert after.is_newest(new)
    assert before.is_newest(old)
    with pytest.raises(ValueError, match="no master key"):
        before.open(new, "context")


def test_two_keys_with_one_id_are_both_tried() -> None:
    sealer, other = Sealer([NEW, OLD]), Sealer([OLD])
    disguised = other.seal(b"plain", "context", NONCE)
    # What an equal id of 4 bytes would look like: the newer key's id before what the older one sealed.
    assert sealer.open(disguised, "context") == b"plain"
    twins = Sealer([NEW, OLD])
    twins._seals = tuple((b"same", cipher) for _, cipher in twins._seals)
    assert twins.open(b"\x01same" + disguised[5:], "context") == b"plain"


@pytest.mark.parametrize("length", [0, 11, 13, 16])
def test_a_nonce_has_12_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        Sealer([NEW]).seal(b"plain", "context", bytes(length))


def test_derived_keys_are_hkdf_and_differ_by_purpose_and_master() -> None:
    sealer = Sealer([NEW, OLD])
    derived = {key for purpose in ("signed", "other", "") for key in sealer.derived(purpose)}
    assert len(derived) == 6
    assert not derived & {NEW, OLD}
    assert sealer.derived("signed") == (*Sealer([NEW]).derived("signed"), *Sealer([OLD]).derived("signed"))
    # RFC 5869 §2.2 and §2.3 written out, with an empty salt.
    extracted = hmac.digest(bytes(32), NEW, hashlib.sha256)
    assert sealer.derived("signed")[0] == hmac.digest(extracted, b"gateway.derived.signed\x01", hashlib.sha256)


def test_it_shows_no_key() -> None:
    for shown in (repr(Sealer([NEW, OLD])), str(Sealer([NEW, OLD]))):
        assert shown == "Sealer(2 keys)"


@pytest.mark.parametrize("wrong", [[], [b""], [NEW, b"short"], [NEW + b"x"]])
def test_a_master_key_has_32_bytes(wrong: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(wrong)


@given(st.lists(keys, min_size=1, max_size=4, unique=True), st.sampled_from([",", "\n", "\r\n", " , ", "\n\n", ",\n"]))
def test_keys_are_read_in_every_usual_spelling(masters: list[bytes], separator: str) -> None:
    for spell in (base64.b64encode, base64.urlsafe_b64encode):
        texts = [spell(key).decode() for key in masters]
        assert parse_master_keys(separator.join(texts)) == tuple(masters)
        assert parse_master_keys(separator.join(text.rstrip("=") for text in texts) + "\n") == tuple(masters)


def test_the_same_key_twice_is_one() -> None:
    text = base64.b64encode(NEW).decode()
    assert parse_master_keys(f"{text}\n{text}") == (NEW,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n,,\n",
        "hunter2",
        base64.b64encode(b"x" * 31).decode(),
        base64.b64encode(b"x" * 33).decode(),
        NEW.hex(),
        base64.b64encode(NEW).decode() + ",hunter2",
        base64.b64encode(NEW).decode() + "=",
        base64.b64encode(NEW).decode()[:20] + "é" + base64.b64encode(NEW).decode()[21:],
        "\0",
    ],
)
def test_anything_else_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(every key must|there is no key)") as caught:
        parse_master_keys(text)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
