from __future__ import annotations

from array import array

from gateway.bench.join import Commits, Receipts, join


def commits(*rows: tuple[int, int, int, int]) -> Commits:
    return Commits(*(array("q", [row[place] for row in rows]) for place in range(4)))


def receipts(*rows: tuple[int, int, int]) -> Receipts:
    return Receipts(*(array("q", [row[place] for row in rows]) for place in range(3)))


def test_latencies_run_from_the_commit_and_from_its_start() -> None:
    joined = join(commits((1, 7, 100, 150), (2, 8, 200, 260)), receipts((2, 8, 300), (1, 7, 190)))
    assert joined.from_commit == [40, 40]
    assert joined.from_start == [90, 100]
    assert joined.faults() == []


def test_a_change_whose_user_saw_a_newer_one_was_conflated() -> None:
    joined = join(commits((1, 7, 0, 1), (2, 7, 2, 3)), receipts((2, 7, 9)))
    assert (joined.conflated, joined.lost) == (1, 0)
    assert joined.from_commit == [6]


def test_a_change_that_never_came_is_lost() -> None:
    joined = join(commits((1, 7, 0, 1), (2, 7, 2, 3)), receipts((1, 7, 9)))
    assert (joined.conflated, joined.lost) == (0, 1)
    assert joined.faults() == ["1 updates lost"]


def test_a_newer_change_of_somebody_else_does_not_excuse_a_lost_one() -> None:
    assert join(commits((1, 7, 0, 1), (2, 8, 2, 3)), receipts((2, 8, 9))).lost == 1


def test_a_frame_at_the_wrong_session_is_misdirected() -> None:
    assert join(commits((1, 7, 0, 1)), receipts((1, 8, 9))).misdirected == 1


def test_a_frame_that_came_twice_is_repeated() -> None:
    assert join(commits((1, 7, 0, 1)), receipts((1, 7, 9), (1, 7, 10))).repeated == 1


def test_ignored_users_count_on_neither_side() -> None:
    joined = join(commits((1, 7, 0, 1), (2, 8, 0, 1)), receipts((2, 8, 5), (1, 7, 6)), ignored={7})
    assert joined.from_commit == [4]
    assert joined.faults() == []


def test_updates_without_a_commit_number_are_no_receipts() -> None:
    joined = join(commits((1, 7, 0, 1)), receipts((-1, 7, 5), (1, 7, 6)))
    assert joined.from_commit == [5]
    assert joined.faults() == []


def test_the_commits_of_a_time_are_those_that_began_and_returned_in_it() -> None:
    all_of_them = commits((1, 7, 99, 120), (2, 8, 100, 110), (3, 7, 150, 200), (4, 9, 190, 201))
    assert all_of_them.between(100, 200) == commits((2, 8, 100, 110), (3, 7, 150, 200))
