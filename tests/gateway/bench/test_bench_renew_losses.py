from __future__ import annotations

from gateway.bench.fleet import End, Renewed
from gateway.bench.workloads.renew import losses

ALIVE = End(0, "", 0, 0, 0)


def test_sessions_that_live_on_and_were_renewed_are_no_loss() -> None:
    assert losses(2, Renewed([1, 1], [2, 2], 0), [ALIVE, ALIVE]) == []


def test_a_session_that_was_not_renewed_is_one() -> None:
    assert losses(3, Renewed([1, 1], [2], 0), [ALIVE] * 3) == ["2 sessions were not renewed"]


def test_a_session_that_ended_is_one_whether_it_was_told_or_not() -> None:
    told, cut = ALIVE._replace(ended_at=5, code="revoked"), ALIVE._replace(closed_at=6)
    assert losses(3, Renewed([1] * 3, [2] * 3, 0), [told, ALIVE, cut]) == ["2 sessions ended"]
