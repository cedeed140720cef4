"""Signed values: each for its use, its time and its deployment alone."""

from __future__ import annotations

import base64
import hashlib
import json
import string
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer

from gateway.auth.signed import MAX_LENGTH, SignedValues, Use
from gateway.core.clock import CLOCK_SKEW_MS
from gateway.core.sealing import Sealer

OLD, NEW = (bytes([value]) * 32 for value in (1, 2))
USES: tuple[Use, ...] = get_args(Use)
NOW = 1_764_000_000_000


class Rig(SignedValues):
    def __init__(self, *keys: bytes) -> None:
        self.now = NOW
        super().__init__(Sealer(keys or (OLD,)), lambda: self.now)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(USES), values)
def test_a_value_comes_back(use: Use, value: Any) -> None:
    rig = Rig()
    text = rig.dumps(use, value)
    assert rig.loads(use, text, 30) == value
    assert set(text) <= set(string.ascii_letters + string.digits + "-_.")


@pytest.mark.parametrize("made_for", USES)
@pytest.mark.parametrize("read_as", USES)
def test_a_value_is_good_for_its_own_use_only(made_for: Use, read_as: Use) -> None:
    rig = Rig()
    found = rig.loads(read_as, rig.dumps(made_for, {"id": 1}), 30)
    assert found == ({"id": 1} if made_for == read_as else None)


def test_a_value_ends_with_its_time() -> None:
    rig = Rig()
    text = rig.dumps("ticket", "x")
    rig.now = NOW + 29_999
    assert rig.loads("ticket", text, 30) == "x"
    rig.now = NOW + 30_000
    assert rig.loads("ticket", text, 30) is None
    assert rig.loads("ticket", text, 60) == "x"


@given(st.integers(0, 10_000_000), st.integers(1, 100), st.integers(0, 110_000))
def test_a_value_is_never_read_for_longer_than_it_may(shift: int, max_age_s: int, later: int) -> None:
    rig = Rig()
    rig.now = NOW + shift
    text = rig.dumps("ticket", "x")
    rig.now += later
    read = rig.loads("ticket", text, max_age_s) == "x"
    assert not (read and later >= max_age_s * 1000)
    assert read or later > (max_age_s - 1) * 1000


def test_the_signers_clock_may_be_a_minute_ahead() -> None:
    rig = Rig()
    text = rig.dumps("ticket", "x")
    rig.now = NOW - CLOCK_SKEW_MS
    assert rig.loads("ticket", text, 30) == "x"
    rig.now -= 1
    assert rig.loads("ticket", text, 30) is None


def test_another_deployment_reads_nothing() -> None:
    assert Rig(NEW).loads("ticket", Rig(OLD).dumps("ticket", "x"), 30) is None


def test_an_old_master_key_still_reads_and_the_new_one_signs() -> None:
    before, during, after = Rig(OLD), Rig(NEW, OLD), Rig(NEW)
    old, new = before.dumps("device", "x"), during.dumps("device", "x")
    assert during.loads("device", old, 30) == during.loads("device", new, 30) == "x"
    assert after.loads("device", new, 30) == "x"
    assert after.loads("device", old, 30) is None
    assert before.loads("device", new, 30) is None


def test_it_is_sha_256_throughout() -> None:
    """The library's defaults are SHA-1 and a plain concatenation of salt and key."""
    rig = Rig()
    text = rig.dumps("csrf", "x")
    key = Sealer([OLD]).derived("signed")[0]
    named = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    assert URLSafeTimedSerializer(key, salt="gateway.csrf", signer_kwargs=named).loads(text) == "x"
    assert len(base64.urlsafe_b64decode(text.rpartition(".")[2] + "=")) == 32
    for options in ({}, {"key_derivation": "hmac"}, {"digest_method": hashlib.sha256}):
        foreign = URLSafeTimedSerializer(key, salt="gateway.csrf", signer_kwargs=options).dumps("x")
        assert rig.loads("csrf", str(foreign), 10**9) is None


def test_a_value_is_written_in_one_way_only() -> None:
    """The signature's last character carries two bits that mean nothing."""
    rig = Rig()
    text = rig.dumps("ticket", "x")
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    good = [letter for letter in alphabet if rig.loads("ticket", text[:-1] + letter, 30) is not None]
    assert good == [text[-1]]
    head, _, signature = text.rpartition(".")
    for other in (
        signature + "=",
        signature.replace("-", "+").replace("_", "/") + "=",
        f"{signature[:9]}!{signature[9:]}",
    ):
        assert rig.loads("ticket", f"{head}.{other}", 30) is None


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_json_can_not_hold_is_not_signed(value: Any) -> None:
    with pytest.raises(TypeError):
        Rig().dumps("ticket", value)


def test_a_value_too_long_to_be_read_is_not_signed() -> None:
    rig = Rig()
    noise = base64.b64encode(hashlib.shake_256(b"seed").digest(MAX_LENGTH)).decode()
    with pytest.raises(ValueError, match="at most 8192 characters"):
        rig.dumps("ticket", noise)
    assert rig.loads("ticket", rig.dumps("ticket", noise[:5000]), 30) == noise[:5000]
    key = Sealer([OLD]).derived("signed")[0]
    named = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    signer = URLSafeTimedSerializer(key, salt="gateway.ticket", signer_kwargs=named)
    rig.now = time.time_ns() // 1_000_000
    assert rig.loads("ticket", str(signer.dumps(noise[:5000])), 30) == noise[:5000]
    assert rig.loads("ticket", str(signer.dumps(noise)), 30) is None


TEXT = Rig().dumps("ticket", {"id": "x"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "x",
        "x.y.z",
        TEXT[:-1],
        TEXT + "A",
        " " + TEXT,
        TEXT + "\n",
        TEXT.replace(".", ".."),
        "." + TEXT,
        TEXT + "\0",
        TEXT[:5] + "\ud800" + TEXT[5:],
        TEXT[:5] + "é" + TEXT[5:],
        TEXT * 200,
        "A" * 1_000_000,
        "." * 1000,
        "AAAA.AAAAAAAAAAAAAAAAAAAA.AAAA",
        json.dumps({"id": "x"}),
    ],
    ids=lambda text: repr(text[:12]),
)
@pytest.mark.parametrize("use", USES)
def test_any_other_text_is_no_value(use: Use, text: str) -> None:
    assert Rig().loads(use, text, 30) is None


@given(st.text(max_size=100) | st.text(string.ascii_letters + string.digits + "-_.", max_size=100))
def test_no_text_is_an_error(text: str) -> None:
    assert Rig().loads("ticket", text, 30) is None


@given(st.integers(min_value=0), st.sampled_from(string.printable + "é\0\ud800"))
def test_a_changed_value_is_no_value(place: int, character: str) -> None:
    place %= len(TEXT)
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    assert Rig().loads("ticket", changed, 30) == ({"id": "x"} if changed == TEXT else None)
