from __future__ import annotations

import itertools
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.follower import Follower, differences
from gateway.core.document import canonical, diff, revision

DOC = "user:u_1"

values = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["identity", "permissions", "quotas"]), values, max_size=3)


def rev(data: dict[str, Any]) -> str:
    return revision(canonical(data))


def snapshot(data: dict[str, Any]) -> dict[str, Any]:
    return {"op": "snapshot", "doc": DOC, "rev": rev(data), "seq": 1, "data": data}


def update(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    message = {"op": "update", "doc": DOC, "from": rev(before), "rev": rev(after), "seq": 2, "causes": ["plan"]}
    return msgspec.json.decode(msgspec.json.encode(message | {"patch": diff(before, after)}))  # type: ignore[no-any-return]


@given(states=st.lists(documents, min_size=1, max_size=5))
def test_it_holds_what_the_gateway_holds(states: list[dict[str, Any]]) -> None:
    follower = Follower()
    assert follower.receive(snapshot(states[0])) is not None
    for before, after in itertools.pairwise(states):
        step = follower.receive(update(before, after))
        assert step is not None
        assert follower.held[DOC].data == after
        assert bool(step.lines) == (before != after)
        assert step.causes == ("plan",)


@given(states=st.tuples(documents, documents, documents))
def test_a_step_that_does_not_fit_is_asked_for_again(
    states: tuple[dict[str, Any], dict[str, Any], dict[str, Any]],
) -> None:
    first, second, third = states
    follower = Follower()
    follower.receive(snapshot(first))
    step = follower.receive(update(second, third))
    if rev(first) == rev(second):
        assert step is not None
    else:
        assert step is None
        assert DOC not in follower.held
    assert follower.receive(snapshot(third)) is not None
    assert follower.held[DOC].data == third


def test_a_patch_that_leads_elsewhere_is_noticed() -> None:
    follower = Follower()
    follower.receive(snapshot({"identity": {"plan": "pro"}}))
    message = update({"identity": {"plan": "pro"}}, {"identity": {"plan": "free"}})
    assert follower.receive(message | {"patch": {"identity": {"plan": "gold"}}}) is None
    assert follower.receive({"op": "current", "doc": DOC, "rev": rev({}), "seq": 1}) is None


def test_what_is_held_is_resumed() -> None:
    follower = Follower()
    assert follower.names(("self", "org:o_1"), "") == ["self", "org:o_1"]
    data = {"identity": {"plan": "pro"}}
    follower.receive(snapshot(data))
    assert follower.names(("self", "org:o_1"), DOC) == [f"{DOC}@{rev(data)}", "org:o_1"]
    step = follower.receive({"op": "current", "doc": DOC, "rev": rev(data), "seq": 4})
    assert step is not None
    assert (step.kind, step.lines) == ("current", ())
    assert follower.receive({"op": "gone", "doc": DOC, "reason": "deleted"}) is not None
    assert follower.names(("self",), DOC) == [DOC]


def test_differences_are_told_value_by_value() -> None:
    before = {
        "identity": {"plan": "pro", "name": "Ada"},
        "permissions": {"a": True, "b": True},
        "quotas": {"x": {"used": 1}},
    }
    after = {
        "identity": {"plan": "free", "name": "Ada"},
        "permissions": {"a": True, "c": True},
        "quotas": {"y": {"used": 1}},
    }
    assert list(differences(before, after)) == [
        'identity.plan: "pro" → "free"',
        "permissions.b: true → gone",
        "permissions.c: true",
        'quotas.x: {"used":1} → gone',
        "quotas.y.used: 1",
    ]
    assert list(differences({"a": 1}, {"a": True})) == ["a: 1 → true"]
