"""The edge for text."""

from __future__ import annotations

import unicodedata
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.text import (
    MAX_ATTRIBUTES_BYTES,
    MAX_ATTRIBUTES_DEPTH,
    check_attributes,
    check_email,
    check_id,
    check_name,
    check_permission,
    check_quota,
    check_text,
    check_timezone,
    check_username,
    make_id,
)

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDBFF, 0xDC00, 0xDFFF)]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
def test_ordinary_text_passes_as_it_is(value: str) -> None:
    assert check_text(value, "the name", 20) == value


@pytest.mark.parametrize("character", CONTROLS)
def test_control_characters_and_lone_surrogates_are_refused(character: str) -> None:
    for value in (character, f"a{character}b", "a" + character):
        with pytest.raises(ValueError, match="the name must not contain"):
            check_text(value, "the name", 20)


def test_length_is_counted_in_characters() -> None:
    assert check_text("😀" * 20, "the name", 20, shortest=20) == "😀" * 20
    for value in ("a" * 21, "😀" * 21):
        with pytest.raises(ValueError, match="the name must have at most 20 characters"):
            check_text(value, "the name", 20)
    with pytest.raises(ValueError, match="the name must have 1 to 20 characters"):
        check_text("", "the name", 20, shortest=1)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("ada", "ada"),
        ("Ada.Lovelace_1-2+3", "Ada.Lovelace_1-2+3"),
        ("a" * 64, "a" * 64),
        ("7up", "7up"),
        ("Zoe\u0308", "Zoë"),
        ("\uff41\uff44\uff41", "ada"),
        ("ﬁona", "fiona"),
        ("हिन्दी", "हिन्दी"),
        ("李明", "李明"),
        ("Å", "Å"),
    ],
)
def test_user_names_are_normalized(value: str, name: str) -> None:
    assert check_username(value) == name == unicodedata.normalize("NFKC", name)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a" * 65,
        "a" * 1_000_000,
        "ﷺ",  # three words and their spaces in NFKC
        "a\0",
        "admin\u200b",
        "admin\u202e",
        "admin\ufeff",
        "admin\ufe0f",
        "admin\u3164",
        "admin\U000e0100",
        "ada lovelace",
        "ada\u00a0lovelace",
        "ada@example.org",
        "ada\uff20example.org",
        ".ada",
        "-ada",
        "\u0301ada",
        "a/b",
        "a:b",
        "😀",
        "a\ud800",
        "\ue000",
    ],
)
def test_user_names_that_could_pass_for_another_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the user name must"):
        check_username(value)


@given(st.text(max_size=20))
def test_a_user_name_that_passed_passes_unchanged(value: str) -> None:
    try:
        name = check_username(value)
    except ValueError:
        return
    assert check_username(name) == name
    assert name.isprintable()


@pytest.mark.parametrize(
    "value",
    [
        "ada@example.org",
        "Ada.Lovelace+tag@mail.example.co.uk",
        "a@b.xn--p1ai",
        "o'neil!#$%&*/=?^_`{|}~-@example.org",
        "a" * 64 + "@example.org",
        "a@" + ".".join(["b" * 63] * 3) + "." + "c" * 60,
        "1@1.1a",
    ],
)
def test_e_mail_addresses(value: str) -> None:
    assert check_email(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@localhost",
        "ada@@example.org",
        "a@b@example.org",
        ".ada@example.org",
        "ada.@example.org",
        "a..da@example.org",
        "ada@-example.org",
        "ada@example-.org",
        "ada@example..org",
        "ada@.example.org",
        "ada@example.org.",
        "ada@127.0.0.1",
        "ada@[127.0.0.1]",
        '"ada"@example.org',
        "ada lovelace@example.org",
        "ada@exam ple.org",
        "ada@example.org\n",
        "ada@example.org\r\nBcc: x@example.org",
        "zoë@example.org",
        "ada@exämple.org",
        "ada\0@example.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 64 + ".org",
        "a@" + ".".join(["b" * 63] * 4),
        "a." * 100_000 + "@example.org",
    ],
)
def test_what_is_no_plain_e_mail_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"name@example\.org"):
        check_email(value)


@pytest.mark.parametrize("value", ["u_7f3k", "a", "7", "A.b-c_d", "550e8400-e29b-41d4-a716-446655440000", "a" * 64])
def test_ids(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize(
    "value", ["", "a" * 65, "_a", "-a", ".", "..", ".a", "a/b", "a@b", "a:b", "a b", "é", "a\n", "a\0", "%41", "٣"]
)
def test_what_is_no_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the organization must have"):
        check_id(value, "the organization")


@pytest.mark.parametrize("value", ["can_use_voice", "users.read", "a", "Z:9-b", "a" * 64])
def test_names(value: str) -> None:
    assert check_name(value, "the role") == check_permission(value) == check_quota(value) == value


@pytest.mark.parametrize(
    "value", ["", "a" * 65, "1a", "_a", "-a", "--json", ".a", ":a", "a b", "a/b", "a@b", "é", "aé", "a\n", "a\0"]
)
def test_what_is_no_name_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the role must have"):
        check_name(value, "the role")
    with pytest.raises(ValueError, match="the permission must have"):
        check_permission(value)
    with pytest.raises(ValueError, match="the quota must have"):
        check_quota(value)


def test_time_zones() -> None:
    for name in available_timezones() - {"localtime"}:
        assert check_timezone(name) == name


@pytest.mark.parametrize("value", ["", "Mars/Olympus", "localtime", "../../etc/passwd", "UTC\0", "CEST", "+02:00"])
def test_an_unknown_time_zone_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the time zone must be"):
        check_timezone(value)


@pytest.mark.parametrize(
    ("value", "attributes"),
    [
        ({}, {}),
        ({"persona": "boss", "wake word": "hey boss 😀"}, {"persona": "boss", "wake word": "hey boss 😀"}),
        ({"a": None, "b": [1, None, {"c": None}], "d": 2.0}, {"b": [1, {}], "d": 2}),
        ({"~!": True, " ": 0.5}, {"~!": True, " ": 0.5}),
    ],
)
def test_attributes_are_taken_as_a_document_may_hold_them(value: Any, attributes: dict[str, Any]) -> None:
    assert check_attributes(value) == attributes


def nest(levels: int) -> Any:
    value: Any = "leaf"
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return {"a": value}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "object"),
        ("text", "object"),
        (None, "object"),
        ({"é": 1}, "printable ASCII"),
        ({"": 1}, "printable ASCII"),
        ({"a\n": 1}, "printable ASCII"),
        ({"a" * 65: 1}, "printable ASCII"),
        ({"a": [{"\x7f": 1}]}, "printable ASCII"),
        ({"a": "b\0"}, "control characters"),
        ({"a": {"b": ["\n"]}}, "control characters"),
        ({"a": "\ud800"}, "surrogates"),
        ({"\ud800": 1}, "surrogates"),
        ({"a": 2**53}, r"2\^53"),
        ({"a": float("nan")}, "finite"),
        ({"a": "b" * MAX_ATTRIBUTES_BYTES}, "bytes"),
        ({"a": ["é" * 8192]}, "bytes"),
        (nest(MAX_ATTRIBUTES_DEPTH), "levels"),
        (nest(900), "levels"),
    ],
)
def test_attributes_that_no_document_should_hold_are_refused(value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_attributes(value)


def test_attributes_up_to_the_bounds() -> None:
    for value in (nest(MAX_ATTRIBUTES_DEPTH - 1), {"a": "b" * (MAX_ATTRIBUTES_BYTES - 8)}):
        assert check_attributes(value) == value


def test_errors_do_not_repeat_the_input() -> None:
    checks = (check_username, check_email, check_id, check_permission, check_quota, check_timezone)
    for check in checks:
        with pytest.raises(ValueError, match=r".") as caught:
            check("secret\r\ninput")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "entropy", "made"),
    [
        ("u_", bytes(5), "u_00000000"),
        ("o_", b"\xff" * 5, "o_zzzzzzzz"),
        ("s_", bytes.fromhex("0102030405"), "s_04106105"),
        ("t_", b"\x80" + bytes(9), "t_g000000000000000"),
        ("u_", b"\xff" * 6, "u_7zzzzzzzzz"),
    ],
)
def test_ids_are_written_in_crockfords_base_32(prefix: str, entropy: bytes, made: str) -> None:
    assert make_id(prefix, entropy) == made


@given(st.binary(min_size=5, max_size=40))
def test_an_id_carries_its_entropy_and_passes_as_an_id(entropy: bytes) -> None:
    made = make_id("u_", entropy)
    digits = made.removeprefix("u_")
    number = 0
    for digit in digits:
        number = number * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(digit)
    assert number.to_bytes(len(entropy), "big") == entropy
    assert len(digits) == -(-len(entropy) * 8 // 5)
    if len(made) <= 64:
        assert check_id(made) == made


@pytest.mark.parametrize(("prefix", "entropy"), [("u_", bytes(4)), ("", bytes(10)), ("u", bytes(10)), ("U_", bytes(9))])
def test_too_little_entropy_and_other_prefixes_are_refused(prefix: str, entropy: bytes) -> None:
    with pytest.raises(ValueError, match="id is"):
        make_id(prefix, entropy)
