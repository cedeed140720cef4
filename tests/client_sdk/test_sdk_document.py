from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.document import apply, canonical, diff, revision

SAFE = 2**53 - 1
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.booleans()
    | st.integers(-SAFE, SAFE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.sampled_from(["\ue000", "\U00010000", "\x7f\u2028"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=20
)
documents = st.dictionaries(text, values, max_size=5)


@given(values)
def test_canonical_json_is_that_of_an_independent_implementation(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_survives_its_canonical_form(number: float) -> None:
    written = canonical(number)
    assert float(written) == number
    assert written == rfc8785.dumps(number)


@pytest.mark.parametrize(
    ("number", "written"),
    [  # RFC 8785, appendix B
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (-5e-324, "-5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (1.0000000000000001e23, "1.0000000000000001e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (333333333.3333332, "333333333.3333332"),
        (333333333.33333325, "333333333.33333325"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_the_rfc_says(number: float, written: str) -> None:
    assert canonical(number).decode() == written


def test_integers_beyond_the_safe_range_are_doubles() -> None:
    assert canonical({"n": 10**20}) == b'{"n":100000000000000000000}'
    assert canonical(2**53 + 1) == b"9007199254740992"


def test_names_sort_as_utf16() -> None:
    assert canonical({"\ue000": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ue000":1}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"a": "\ud800"}, {1: 2}, {"a": b"x"}, 10**400])
def test_what_json_can_not_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical(value)


def test_the_revision_is_sixteen_digits_of_sha256() -> None:
    assert revision({"b": 1.0, "a": {}}) == hashlib.sha256(b'{"a":{},"b":1}').hexdigest()[:16]


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [  # RFC 7396, appendix A, as far as it concerns objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": 1}, {"a": 1}, {"e": 1, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_patches_apply_as_the_rfc_says(document: Any, patch: Any, result: Any) -> None:
    before = msgspec.json.encode(document)
    assert apply(document, patch) == result
    assert msgspec.json.encode(document) == before


@given(documents, documents)
def test_a_difference_leads_from_one_document_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = diff(before, after)
    assert canonical(apply(before, patch)) == canonical(after)
    assert bool(patch) == (canonical(before) != canonical(after))
