from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.passwords import MAX_CHARACTERS, check_new_password, normalize

GOOD = "a lamp for eleven otters"


def check(password: str, *, min_length: int = 15, names: tuple[str, ...] = (), blocked: tuple[str, ...] = ()) -> str:
    return check_new_password(password, min_length=min_length, names=names, blocked=blocked)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50))
def test_every_spelling_of_a_password_is_the_same(password: str) -> None:
    normal = normalize(password)
    assert normal == normalize(normal) == normalize(unicodedata.normalize("NFD", password))


def test_twins() -> None:
    assert normalize("Zoe\u0308 \ufb01ne \uff21") == normalize("Zo\u00eb fine A") == "Zo\u00eb fine A"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "empty"),
        ("x" * (MAX_CHARACTERS + 1), "at most 1024"),
        ("x" * 10_000_000, "at most 1024"),
        ("\ufdfa" * 60, "at most 1024"),  # one character becomes 18
        ("admin\0x", "NUL"),
        ("a\ud800", "surrogates"),
        ("\udfffa", "surrogates"),
    ],
)
def test_what_nobody_can_have_as_a_password(password: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        normalize(password)
    assert len(str(refused.value)) < 100


def test_the_longest_password() -> None:
    assert len(normalize("x" * MAX_CHARACTERS)) == MAX_CHARACTERS


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "Kx7#qv!92mLpZ@4",
        "817236459031746",
        "надежный пароль из слов",
        "鯨の背中で眠る十一匹の川獺たちの夢",
        "😀🐋🦦🌊🪔🎲🧭🪁🥁🎻🪗🧩🎈🪄🛶",
        "password" + "kvmzqwhnrtxb",
        "acme" + "kvmzqwhnrtxb",
    ],
)
def test_length_is_enough(password: str) -> None:
    assert check(password, names=("ada", "ada@example.org"), blocked=("acme",)) == normalize(password)


def test_it_is_given_back_in_its_one_spelling() -> None:
    assert check("a lamp for Zoe\u0308 and otters") == "a lamp for Zo\u00eb and otters"


@pytest.mark.parametrize("length", [8, 15, 40])
def test_it_must_be_long_enough(length: int) -> None:
    text = "kvmzqwhnrtxbjfgydlspcoaeiu7193628504kvmzq"
    assert check(text[:length], min_length=length)
    with pytest.raises(ValueError, match=f"at least {length} characters"):
        check(text[: length - 1], min_length=length)


def test_the_length_is_that_of_the_one_spelling() -> None:
    decomposed = unicodedata.normalize("NFD", "ëüöäéàèùçñôîûâ")
    assert len(decomposed) == 28
    with pytest.raises(ValueError, match="at least 15"):
        check(decomposed)


@pytest.mark.parametrize(
    "password",
    [
        "a" * 40,
        "abcabcabcabcabcabc",
        "123456789012345",
        "abcdefghijklmnop",
        "qwertyuiopasdfghjkl",
        "zyxwvutsrqponmlk",
        "aaaabbbbccccdddd",
        "1q2w3e4r5t6y7u8i",
        "hunter2hunter2hunter2",
        "x" * MAX_CHARACTERS,
    ],
)
def test_repetitions_and_sequences_do_not_count(password: str) -> None:
    with pytest.raises(ValueError, match="repetitions and sequences"):
        check(password)


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword!",
        "Password1234567890",
        "P@ssw0rd!P@ssw0rd!!",
        "!!!Welcome-2026-Summer!!!",
        "correct horse battery staple",
        "".join(chr(ord(sign) + 0xFEE0) for sign in "PASSWORD*83617294"),  # full width
        "Lovelace-8172364590",
        "ada.lovelace+8172364590",
        "ada@example.org-8172",
        "AcmeCorp#8172364590",
        "acmecorp-the-9172!",
        "@cm3c0rp-81723645",
    ],
)
def test_words_that_everybody_tries_do_not_count(password: str) -> None:
    names = ("ada.lovelace", "ada@example.org", "Ada Lovelace")
    with pytest.raises(ValueError, match="common word or a name") as refused:
        check(password, names=names, blocked=("AcmeCorp",))
    assert password not in str(refused.value)


def test_a_short_name_is_no_word() -> None:
    assert check(GOOD, names=("a", "lo", ""), blocked=("", "x"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_any_text_is_taken_or_refused_with_a_sentence(text: str) -> None:
    taken, refused = None, ""
    try:
        taken = check(text, min_length=8, names=(text[:5],), blocked=(text[5:9],))
    except ValueError as error:
        refused = str(error)
    assert refused.endswith(".") if taken is None else taken == unicodedata.normalize("NFKC", text)
