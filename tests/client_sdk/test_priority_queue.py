from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client_sdk.priority_queue import SPARE, PriorityQueue

IDS = st.sampled_from("abcde")
STEPS = st.lists(
    st.tuples(st.just("put"), IDS, st.integers(0, 5))
    | st.tuples(st.just("remove"), IDS, st.just(0))
    | st.tuples(st.just("take"), st.just(""), st.integers(0, 5))
    | st.tuples(st.just("clear"), st.just(""), st.just(0)),
    max_size=200,
)


@given(STEPS)
def test_it_is_a_list_that_is_sorted(steps: list[tuple[str, str, int]]) -> None:
    queue = PriorityQueue()
    model: list[tuple[int, str]] = []
    for op, id, number in steps:
        known = [entry for entry in model if entry[1] == id]
        if op == "put":
            queue.put(id, number)
            model = sorted([*(entry for entry in model if entry[1] != id), (number, id)], key=lambda entry: entry[0])
        elif op == "remove":
            assert queue.remove(id) == bool(known)
            model = [entry for entry in model if entry[1] != id]
        elif op == "take":
            expected = model.pop(0)[1] if model and model[0][0] <= number else None
            assert queue.take(number) == expected
        else:
            queue.clear()
            model.clear()
        assert queue.first() == (model[0][0] if model else float("inf"))
        assert (len(queue), set(queue)) == (len(model), {id for _, id in model})
        assert ("a" in queue) == ("a" in {id for _, id in model})
    assert [queue.take() for _ in range(len(model) + 1)] == [*(id for _, id in model), None]


def test_what_does_not_count_any_more_takes_no_room() -> None:
    queue = PriorityQueue()
    queue.put("first", 0.0)
    for number in range(10_000):
        queue.put("moved", number)
        queue.put(str(number), number)
        queue.remove(str(number))
    assert len(queue._heap) <= 4 + SPARE
