"""That the oracles of the fault tests find what they look for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.interrupted_writer import check_rows
from tests.support.noise import check_history


def document(
    name: int, *, attribute: int | None = None, permission: int | None = None, plan: int = 0
) -> dict[str, Any]:
    return {
        "identity": {
            "id": "u1",
            "name": f"number {name}",
            "attributes": {"number": name if attribute is None else attribute},
        },
        "permissions": {f"number {name if permission is None else permission}": True, f"plan number {plan}": True},
        "quotas": {"minutes": {"limit": plan}},
    }


def test_a_history_that_was() -> None:
    check_history([document(1), document(1, plan=20), document(7, plan=20)])


@pytest.mark.parametrize(
    "states",
    [
        [document(2, attribute=1)],
        [document(2, permission=1)],
        [document(2), document(1)],
        [document(2, plan=20), document(3, plan=0)],
        [document(2) | {"quotas": {"minutes": {"limit": 20}}}],
    ],
    ids=["half a row", "one table of two", "back", "the plan back", "half of the plan"],
)
def test_histories_that_never_were(states: list[dict[str, Any]]) -> None:
    with pytest.raises(AssertionError):
        check_history(states)


def test_rows_of_which_all_was_told() -> None:
    told = {"made": ["a"], "not_made": ["b"], "unknown": ["c", "d"]}
    assert check_rows([("a", 0), ("a", 1), ("c", 0), ("c", 1), ("killed", 1), ("killed", 0)], told) == 2


@pytest.mark.parametrize(
    "rows",
    [[], [("a", 0)], [("a", 0), ("a", 1)] * 2, [("a", 0), ("a", 1), ("b", 0), ("b", 1)]],
    ids=["lost", "half", "twice", "made all the same"],
)
def test_rows_that_are_not_as_it_was_told(rows: list[tuple[str, int]]) -> None:
    with pytest.raises(AssertionError):
        check_rows(rows, {"made": ["a"], "not_made": ["b"], "unknown": []})
