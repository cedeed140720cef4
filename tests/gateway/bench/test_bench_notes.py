from __future__ import annotations

from array import array
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.bench.board import Board, create_board
from gateway.bench.columns import read_columns, write_columns
from gateway.bench.marker import marked_name, marked_number


def test_columns_come_back_as_they_were_and_the_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "columns"
    columns = [array("q", [1, -2, 2**62]), array("q", [4, 5, 6])]
    write_columns(path, columns)
    assert read_columns(path, 2) == columns
    assert not path.exists()


def test_empty_columns_come_back_empty(tmp_path: Path) -> None:
    path = tmp_path / "columns"
    write_columns(path, [array("q"), array("q")])
    assert read_columns(path, 2) == [array("q"), array("q")]


@given(st.integers(0, 10**10 - 1))
def test_a_commit_number_is_found_in_the_frame_that_carries_it(number: int) -> None:
    frame = f'{{"op":"update","patch":{{"identity":{{"name":"{marked_name(number)}"}}}},"causes":["profile"]}}'
    assert marked_number(frame.encode()) == number


def test_a_frame_without_a_commit_number_has_none() -> None:
    assert marked_number(b'{"op":"update","patch":{"quotas":{"voice_minutes":{"limit":501}}}}') == -1
    assert marked_number(b'{"name":"bench press"}') == -1
    assert marked_number(b'{"name":"bench 123"}') == -1


def test_one_process_reads_on_the_board_what_another_wrote(tmp_path: Path) -> None:
    path = tmp_path / "board"
    create_board(path, 2)
    writing, reading = Board(path), Board(path)
    assert reading.least() == 0
    writing.slots[0], writing.slots[1] = 12, 7
    assert reading.least() == 7
