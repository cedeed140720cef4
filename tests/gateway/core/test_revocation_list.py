"""A list that goes on says what one says that is made anew, and so does each patch on the way."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.document import Document, apply, canonical
from gateway.core.instance_documents import EVERYTHING, SPARE, STEP_MS, RevocationList, Revoked
from gateway.core.wide_document import MANY, WideDocument

NAMES = st.sampled_from(["a", "b", "c", "%s", "*", 'q"', "é", "\ue000", "\U0001f600", "z"])
VALUES = st.one_of(st.integers(0, 3), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2)))


def made(data: dict[str, Any]) -> WideDocument:
    return WideDocument((name, canonical(value)) for name, value in data.items())


@given(st.dictionaries(NAMES, VALUES), st.lists(st.dictionaries(NAMES, st.none() | VALUES), max_size=4))
def test_a_wide_document_that_was_changed_is_like_one_made_anew(
    data: dict[str, Any], steps: list[dict[str, Any]]
) -> None:
    held = first = made(data)
    for step in steps:
        before, known = held, dict(data)
        data = {name: value for name, value in (data | step).items() if value is not None}
        held = held.changed({name: None if value is None else canonical(value) for name, value in step.items()})
        anew = made(data)
        assert (held.rev, held.json(), held.size) == (anew.rev, anew.json(), anew.size)
        assert (held.names, held.contents, held.data()) == (anew.names, anew.contents, anew.data())
        plain = Document(zip(anew.names, anew.contents, strict=True))
        assert held.rev == plain.rev
        for old in (before, first, Document(before.sections), made(known)):
            patch = held.patch_from(old)
            assert canonical(json.loads(patch)) == patch
            assert apply(old.data(), json.loads(patch)) == data
        assert (held is before) == (data == known)


def test_many_changes_at_once() -> None:
    held = made({f"n{number:04}": 0 for number in range(500)})
    after = held.changed({f"n{number:04}": b"1" if number % 2 else None for number in range(MANY + 10)})
    patch = json.loads(after.patch_from(held))
    assert len(patch) == MANY + 10
    assert apply(held.data(), patch) == after.data()


MOST = 4
EVENTS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9_000), st.sampled_from([5_000, 15_000, 60_000])),
    max_size=25,
)


def whole(rows: dict[str, Revoked], now: int) -> RevocationList:
    """Of all that was noted, as it is read from a database."""
    ended = now - now % STEP_MS
    told = sorted((row for row in rows.values() if row.until > ended), key=lambda row: (row.noted_at, row.id))
    return RevocationList(told[::-1][: MOST + 1], MOST)


@given(EVENTS)
def test_a_list_that_goes_on_is_like_one_read_anew(events: list[tuple[str, int, int]]) -> None:
    rows: dict[str, Revoked] = {}
    now = 1_000_000
    held = whole(rows, now)
    for id, after, life in events:
        now += after
        rows[id] = Revoked(id, now, now - 2_000 + life)
        if not held.go_on([rows[id]], now):
            held = whole(rows, now)
        anew = whole(rows, now)
        assert held.document.data() == anew.document.data()
        assert held.document.rev == anew.document.rev
        if anew.changes_at is not None:
            assert held.changes_at is not None
            assert held.changes_at <= anew.changes_at, "it is looked at in time"


def test_what_has_ended_is_not_taken_in_and_ends_one_that_is_named() -> None:
    held = RevocationList([Revoked("a", 1, 20_000), Revoked("b", 1, 50_000)], MOST)
    document = held.document
    assert held.go_on([Revoked("gone", 15_000, 9_000)], 15_000)
    assert held.document is document
    assert held.go_on([Revoked("a", 15_001, 9_000)], 15_001)
    assert set(held.document.data()) == {"b"}


def test_what_is_noted_again_and_again_takes_no_more_room() -> None:
    held = RevocationList([], MOST)
    for now in range(1, 10 * SPARE):
        assert held.go_on([Revoked("abc"[now % 3], now, 1_000_000)], now)
    assert len(held._oldest) <= 2 * MOST + SPARE
    last = 10 * SPARE
    assert held.go_on([Revoked("d", last, 1_000_000), Revoked("e", last, 1_000_000)], last)
    oldest = "abc"[(last - 3) % 3]
    assert set(held.document.data()) == {EVERYTHING, *"abcde"} - {oldest}, "it is still known which to leave out"


def test_room_for_those_who_are_not_named_has_to_be_filled() -> None:
    held = RevocationList([Revoked("a", 3, 20_000), Revoked("b", 2, 50_000), Revoked("c", 1, 50_000)], 2)
    assert EVERYTHING in held.document.data()
    assert held.go_on([], 19_999)
    assert not held.go_on([], 20_000)
    held = RevocationList([Revoked("a", 3, 60_000), Revoked("b", 2, 50_000), Revoked("c", 1, 20_000)], 2)
    assert not held.go_on([], 20_000), "the last that is not named may have been the only one"
