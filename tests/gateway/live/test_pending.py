from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.live.pending import PendingWork, RecentChanges
from gateway.live.task import NO_CAUSES, READ_AGAIN, Task, causes_of
from gateway.store.documents import Part

causes = st.frozensets(st.sampled_from(["profile", "plan", "clock"]))
tasks = st.builds(Task, st.integers(0, Part.ALL), causes, st.none() | st.integers(0, 99), st.booleans())
docs = st.sampled_from(["user:a", "user:b", "user:c", "user:d"])


@given(one=tasks, other=tasks, third=tasks)
def test_reasons_join_in_any_order(one: Task, other: Task, third: Task) -> None:
    joined = one.join(other)
    assert joined == other.join(one)
    assert joined.join(third) == one.join(other.join(third))
    assert one.join(one) == one
    assert (joined.parts, joined.causes) == (one.parts | other.parts, one.causes | other.causes)
    assert joined.since == min((since for since in (one.since, other.since) if since is not None), default=None)
    assert joined.swept is (one.swept or other.swept)


def test_everything_again_needs_no_reason() -> None:
    assert (READ_AGAIN.parts, READ_AGAIN.causes) == (Part.ALL, NO_CAUSES)
    assert causes_of("plan") is causes_of("plan")


def test_the_list_keeps_the_order_of_arrival_and_wakes_whoever_works_on_it() -> None:
    work, rung = PendingWork(lambda: False), list[str]()
    work.wake = lambda: rung.append("ring")
    work.user("user:b", Task(1, NO_CAUSES))
    work.user("user:a", Task(2, NO_CAUSES))
    work.user("user:b", Task(4, NO_CAUSES))
    work.all_of(["user:a", "user:c"], Task(8, NO_CAUSES))
    assert len(rung) == 4
    assert work.take_users(2) == [("user:b", Task(5, NO_CAUSES)), ("user:a", Task(10, NO_CAUSES))]
    assert work.take_users(2) == [("user:c", Task(8, NO_CAUSES))]
    assert work.take_users(2) == []


def test_what_is_on_its_way_is_known() -> None:
    work = PendingWork(lambda: False)
    assert not work
    work.user("user:a", READ_AGAIN)
    work.organization("o", READ_AGAIN)
    assert (work.concerns("user:a"), work.concerns("org:o"), work.concerns("user:o")) == (True, True, False)
    work.take_users(10)
    work.take_organizations()
    assert not work
    assert (work.concerns("user:a"), work.concerns("org:o")) == (True, True)
    work.taken.clear()
    assert (work.concerns("user:a"), work.concerns("org:o")) == (False, False)


def test_any_kind_of_work_is_work() -> None:
    for put in (
        lambda work: work.user("user:a", READ_AGAIN),
        lambda work: work.organization("o", READ_AGAIN),
        lambda work: work.plan_or_role("plan:p", READ_AGAIN),
        lambda work: work.credentials.setdefault("user:a", None),
    ):
        work = PendingWork(lambda: False)
        put(work)
        assert work


@settings(max_examples=60)
@given(course=st.lists(st.tuples(docs, tasks) | st.integers(1, 3) | st.just("fail"), max_size=20))
def test_nothing_is_lost_however_often_reading_fails(course: list[Any]) -> None:
    """What was put on the list and not read successfully is still on it, with all of its reasons."""
    work, expected = PendingWork(lambda: False), dict[str, Task]()
    for step in course:
        if isinstance(step, tuple):
            doc, task = step
            work.user(doc, task)
            expected[doc] = expected[doc].join(task) if doc in expected else task
        elif step == "fail":
            taken = work.take_users(2)
            work.put_back(taken, [])
            work.taken.clear()
        else:
            for doc, task in work.take_users(step):
                assert expected.pop(doc) == task
        assert dict(work.users) == expected


def test_organizations_are_put_back_too() -> None:
    work = PendingWork(lambda: False)
    work.organization("o", Task(1, causes_of("plan")))
    taken = work.take_organizations()
    work.organization("o", Task(2, causes_of("clock")))
    work.put_back([], taken)
    assert work.organizations == {"o": Task(3, frozenset(("plan", "clock")))}


@given(moments=st.lists(st.tuples(st.integers(0, 50), docs)), now=st.integers(0, 50), limit=st.integers(0, 9))
def test_what_is_due_comes_in_order_and_never_early(moments: list[tuple[int, str]], now: int, limit: int) -> None:
    work = PendingWork(lambda: False)
    for at, doc in moments:
        work.due(doc, at)
    due = sorted(moment for moment in moments if moment[0] <= now)
    assert work.take_due(now, limit) == due[:limit]
    assert work.take_due(now, 100) == due[limit:]
    assert work.due_count() == len(moments) - len(due)


def test_who_is_forgotten_is_not_on_the_list() -> None:
    work = PendingWork(lambda: False)
    work.user("user:a", READ_AGAIN)
    work.forget("user:a")
    work.forget("user:b")
    assert not work


def test_a_recent_change_is_known_for_one_to_two_turns() -> None:
    recent = RecentChanges()
    recent.add("user:a")
    recent.turn()
    recent.add("user:b")
    assert ("user:a" in recent, "user:b" in recent, "user:c" in recent) == (True, True, False)
    recent.turn()
    assert ("user:a" in recent, "user:b" in recent) == (False, True)
