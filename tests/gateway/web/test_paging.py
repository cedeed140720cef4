"""Cursors: what was written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.web.paging import page, read_cursor, write_cursor

NAMES = st.text(st.characters(codec="utf-8"), max_size=300)


@given(st.text(max_size=10, alphabet="abc"), NAMES | st.integers(-(2**63), 2**63 - 1))
def test_what_was_written_is_read(of: str, position: str | int) -> None:
    cursor = write_cursor(of, position)
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    kind: type = type(position)
    assert read_cursor(of, cursor, kind) == position


@given(NAMES, st.integers(0, 500), st.characters(codec="utf-8"))
def test_one_wrong_character_is_noticed(position: str, place: int, character: str) -> None:
    cursor = write_cursor("users", position)
    place %= len(cursor)
    if cursor[place] == character:
        return
    with pytest.raises(BadRequest):
        read_cursor("users", cursor[:place] + character + cursor[place + 1 :], str)


@given(st.text(st.characters(), max_size=100) | st.binary(max_size=60).map(lambda raw: raw.hex()))
def test_what_nobody_wrote_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequest):
        read_cursor("users", text, str)


def test_a_cursor_is_good_for_its_own_list_and_kind_alone() -> None:
    with pytest.raises(BadRequest):
        read_cursor("plans", write_cursor("users", "ada"), str)
    with pytest.raises(BadRequest):
        read_cursor("users", write_cursor("users", 5), str)
    with pytest.raises(BadRequest):
        read_cursor("audit", write_cursor("audit", "5"), int)


@given(st.lists(st.integers(0, 10_000), unique=True, max_size=40).map(sorted), st.integers(1, 9))
def test_pages_together_are_the_list(numbers: list[int], limit: int) -> None:
    seen: list[str] = []
    after = -1
    while True:
        found = [number for number in numbers if number > after][: limit + 1]
        part = page("numbers", found, limit, position=lambda number: number, shown=str)
        assert len(part.items) <= limit
        seen += part.items
        if part.next is None:
            break
        after = read_cursor("numbers", part.next, int)
    assert seen == [str(number) for number in numbers]
