"""Canonical JSON, revisions, merge patches, documents."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.document import (
    MAX_DEPTH,
    MAX_INTEGER,
    Document,
    apply,
    canonical,
    diff,
    parse_object,
    patch_between,
    plain_object,
    revision,
)

integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
floats = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(st.booleans(), integers, floats, texts)
# What a document holds: a float has a fraction.
held = st.one_of(st.booleans(), integers, floats.filter(lambda value: not value.is_integer()), texts)
few_keys = st.one_of(st.sampled_from(["a", "b", "c", "é", "\U00010000", "\uffff"]), texts)


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str] = few_keys) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=12,
    )


values = nested(st.one_of(st.none(), scalars))
documents = st.dictionaries(few_keys, nested(held), max_size=4)
# Few different leaves and keys, so that two objects often have something in common.
alike = st.dictionaries(
    st.sampled_from("abc"),
    nested(st.sampled_from([True, False, 0, 1, 1.0, 1.5, "", "x"]), st.sampled_from("abc")),
    max_size=3,
)


# canonical JSON


@given(values)
@settings(max_examples=300)
@example('\x7f\x80\u2028\u2029é€\x00\x01\x1f\b\t\n\f\r"\\/</script>')
@example({"\uffff": 1, "\U00010000": 2, "é": 3, "z": 4, "\ue000": 5, "😂": {"\ufb33": 1, "\U0001f600": 2}})
@example({"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "ö": 7})  # RFC 8785 §3.2.3
@example([1e16, 1e20, 1e21, -0.0, 1.0, 1e-6, 1e-7, 5e-324, 1.7976931348623157e308, 9007199254740993.0])
def test_canonical_json_is_that_of_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=500)
def test_every_double_is_printed_as_ecmascript_does(bits: int) -> None:
    (value,) = struct.unpack(">d", bits.to_bytes(8, "big"))
    if math.isfinite(value):
        assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),  # RFC 8785, appendix B
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_the_numbers_of_rfc_8785_appendix_b(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value) == text.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (1.0, "1"),
        (-0.0, "0"),
        (123.456, "123.456"),
        (True, "true"),
        (None, "null"),
        (MAX_INTEGER, "9007199254740991"),
        (-MAX_INTEGER, "-9007199254740991"),
        ((1, (2,)), "[1,[2]]"),
        ([], "[]"),
        ({}, "{}"),
        ({"b": {"d": 1, "c": [{"f": 2, "e": 3}]}, "a": 1.5}, '{"a":1.5,"b":{"c":[{"e":3,"f":2}],"d":1}}'),
    ],
)
def test_canonical_json_by_example(value: Any, text: str) -> None:
    assert canonical(value) == text.encode()


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        2**70,
        "\ud800",
        {"\udfff": 1},
        {"a": [{"b": math.nan}]},
        {"a": 1.5, "\ud800": 1},
        [1.5, "\udead"],
    ],
)
def test_what_json_readers_would_not_agree_on_is_refused(value: Any) -> None:
    for inside in (value, [value], {"member": value}):
        with pytest.raises(ValueError, match=r"."):
            canonical(inside)


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, {"a": {1.5: 1}}, b"bytes", {1, 2}, object(), 1j])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"JSON|str keys"):
        canonical(value)


@given(documents)
def test_canonical_json_says_the_same(value: Any) -> None:
    assert json.loads(canonical(value)) == value


def test_the_revision_is_the_start_of_sha_256() -> None:
    assert revision(b"{}") == hashlib.sha256(b"{}").hexdigest()[:16] == "44136fa355b3678a"


# JSON columns


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' {"a": 1} ', {"a": 1}),
        ('{"a":null,"b":{"c":null},"d":[1,null,[null],{"e":null}]}', {"b": {}, "d": [1, [], {}]}),
        ('{"a":1.0,"b":-0.0,"c":1e2,"d":[5.0],"e":0.5}', {"a": 1, "b": 0, "c": 100, "d": [5], "e": 0.5}),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"a":1,"a":null}', {}),
        ('{"a":"\\ud83d\\ude00\\u0000"}', {"a": "😀\0"}),
        ('{"a":true,"b":9007199254740991,"c":-9007199254740991}', {"a": True, "b": MAX_INTEGER, "c": -MAX_INTEGER}),
        ('{"a":9007199254740991.0}', {"a": MAX_INTEGER}),
    ],
)
def test_a_column_is_read_as_a_document_may_hold_it(text: str, value: dict[str, Any]) -> None:
    result = parse_object(text)
    assert result == value
    assert canonical(result) == canonical(value)
    assert not any(isinstance(member, float) and member.is_integer() for member in result.values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "1",
        '"a"',
        "{",
        '{"a":}',
        "{'a':1}",
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":Infinity}',
        '{"a":9007199254740992}',
        '{"a":[-9007199254740992]}',
        '{"a":9007199254740992.0}',
        '{"a":1e300}',
        '{"a":123456789012345678901234567890}',
        '{"a":"\\ud800"}',
        '{"\\udc00":1}',
        '{"a":"\\udc00\\ud800"}',
        '{"a":"\ud800"}',
        '{"a":1} {}',
        "\ufeff{}",
        '{"a":' * 100_000,
        '{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}",
    ],
)
def test_a_column_that_no_document_may_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(text)


def test_nesting_is_bounded() -> None:
    deep = '{"a":' * (MAX_DEPTH - 1) + "{}" + "}" * (MAX_DEPTH - 1)
    assert canonical(parse_object(deep)) == deep.encode()
    with pytest.raises(ValueError, match="deep"):
        parse_object('{"a":' + deep + "}")


def test_an_object_that_was_not_json_is_refused() -> None:
    for value in (math.nan, math.inf, "\ud800", b"", {1}, [object()]):
        with pytest.raises(ValueError, match=r"."):
            plain_object({"a": value})
    with pytest.raises(ValueError, match="object"):
        plain_object(["a"])


@given(st.dictionaries(texts, values, max_size=4))
def test_reading_a_column_leaves_it_alone_the_second_time(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    try:
        once = parse_object(text)
    except ValueError:
        return
    assert canonical(parse_object(canonical(once).decode())) == canonical(once)
    assert not holds_null(once)
    assert plain_object(value) == once


def holds_null(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(holds_null, value.values() if isinstance(value, dict) else value))
    return value is None


# merge patches


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),  # RFC 7396, appendix A; what is not an object stands in a member "r"
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"r": ["a", "b"]}, {"r": ["c", "d"]}, {"r": ["c", "d"]}),
        ({"r": {"a": "b"}}, {"r": ["c"]}, {"r": ["c"]}),
        ({"r": {"a": "foo"}}, {"r": None}, {}),
        ({"r": {"a": "foo"}}, {"r": "bar"}, {"r": "bar"}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"r": [1, 2]}, {"r": {"a": "b", "c": None}}, {"r": {"a": "b"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # RFC 7396 §3
        (
            {
                "title": "Goodbye!",
                "author": {"givenName": "John", "familyName": "Doe"},
                "tags": ["example", "sample"],
                "content": "This will be unchanged",
            },
            {
                "title": "Hello!",
                "phoneNumber": "+01-123-456-7890",
                "author": {"familyName": None},
                "tags": ["example"],
            },
            {
                "title": "Hello!",
                "author": {"givenName": "John"},
                "tags": ["example"],
                "content": "This will be unchanged",
                "phoneNumber": "+01-123-456-7890",
            },
        ),
    ],
)
def test_the_examples_of_rfc_7396(target: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]) -> None:
    before = copy.deepcopy((target, patch))
    assert apply(target, patch) == result
    assert (target, patch) == before


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1.0}, {}),
        ({"a": 0}, {"a": False}, {"a": False}),
        ({"a": 1}, {"a": True}, {"a": True}),
        ({"a": [0, {"b": 1}]}, {"a": [0, {"b": True}]}, {"a": [0, {"b": True}]}),
        ({"a": [1]}, {"a": [1.0]}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {}}, {"a": {"b": None, "c": None}}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": None, "c": 2}}),
        ({"a": 1}, {"a": {}}, {"a": {}}),
        ({"a": [1]}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
        ({"a": {"b": 1}}, {}, {"a": None}),
        ({}, {"a": {}}, {"a": {}}),
        ({"a": {}}, {"a": {}}, {}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1, "d": 3}}}, {"a": {"b": {"d": 3}}}),
    ],
)
def test_the_smallest_patch_is_found(old: dict[str, Any], new: dict[str, Any], patch: dict[str, Any]) -> None:
    assert canonical(diff(old, new)) == canonical(patch)
    assert canonical(apply(old, patch)) == canonical(new)
    assert patch_between(document(old), document(new)) == canonical(patch)


@given(alike, alike)
@settings(max_examples=500)
def test_a_patch_leads_from_old_to_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy((old, new))
    patch = diff(old, new)
    # Canonical bytes, for Python's == takes True for 1.
    assert canonical(apply(old, patch)) == canonical(new)
    assert (patch == {}) == (canonical(old) == canonical(new))
    assert canonical((old, new)) == canonical(before)


@given(documents, documents)
def test_a_patch_between_documents_is_that_between_their_data(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = patch_between(document(old), document(new))
    assert patch == canonical(diff(old, new))
    assert canonical(apply(old, json.loads(patch))) == canonical(new)


@given(alike, alike)
@settings(max_examples=500)
def test_a_patch_between_similar_documents(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert patch_between(document(old), document(new)) == canonical(diff(old, new))


# documents


def document(data: dict[str, Any]) -> Document:
    return Document((name, canonical(value)) for name, value in data.items())


@given(documents)
def test_a_document_is_its_canonical_json(data: dict[str, Any]) -> None:
    made = document(data)
    assert made.json() == canonical(data) == rfc8785.dumps(data)
    assert made.rev == revision(canonical(data))
    assert made.size == len(canonical(data))
    assert Document.of(made.names, made.contents).sections == made.sections
    assert canonical(made.data()) == canonical(data)
    assert {name: made.section(name) for name in data} == {name: canonical(value) for name, value in data.items()}
    assert made.section("no such section") is None
    assert made.section("ñ") is None


def test_equality_goes_by_revision() -> None:
    one = Document([("b", b"1"), ("a", b"{}")])
    other = Document([("a", b"{}"), ("b", b"1")])
    assert one == other
    assert hash(one) == hash(other)
    assert one.sections == (("a", b"{}"), ("b", b"1"))
    assert one != Document([("a", b"{}"), ("b", b"2")])
    assert one != one.rev
    assert one.rev in repr(one)
    assert patch_between(one, other) == b"{}"


def test_a_name_that_occurs_twice_is_refused() -> None:
    for name in ("a", "é"):
        with pytest.raises(ValueError, match="two members"):
            Document([(name, b"1"), ("b", b"2"), (name, b"3")])


def test_data_is_the_callers_own() -> None:
    made = document({"a": {"b": 1}})
    made.data()["a"]["b"] = 2
    assert made.data() == {"a": {"b": 1}}


def test_equal_sections_are_not_decoded() -> None:
    broken = ("broken", b"not JSON, so decoding it would fail")
    old, new = Document([broken, ("a", b"1")]), Document([broken, ("a", b"2")])
    assert patch_between(old, new) == b'{"a":2}'
