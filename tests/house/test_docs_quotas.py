"""docs/quotas.md against the code: its tables and the figures in its text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from gateway.config import QuotasConfig
from gateway.core.quotas import CRITICAL_PERCENT, LOW_PERCENT, PERIODS, Limit, Usage, balance, level, period_bounds
from gateway.core.spending import KEY_LENGTH, LEASE_TTL_S, MOST
from gateway.errors import GatewayError
from gateway.store.migrate import schema_text
from tests.support.markdown import Markdown

QUOTAS = Markdown("quotas.md")


def moment(text: str) -> int:
    """``9 March, 12:00`` in milliseconds since 1970 UTC."""
    return round(datetime.strptime(f"2026 {text}", "%Y %d %B, %H:%M").replace(tzinfo=UTC).timestamp() * 1000)


def test_a_change_of_the_plan_does_what_its_table_says() -> None:
    rows = [row for row in QUOTAS.rows("When the plan changes") if len(row) == 5]
    assert len(rows) == 8
    booked: dict[int, int] = {}
    for when, period, taken, into, shown in rows:
        now = moment(when)
        start, _ = period_bounds(period.strip("`"), None, "UTC", now)
        if int(taken):
            assert start == moment(f"{into}, 00:00"), when
            booked[start] = booked.get(start, 0) + int(taken)
        usages = [Usage(start, used, 0) for start, used in booked.items()]
        entry, _ = balance(Limit(500, period.strip("`"), True), usages, None, "UTC", now)
        assert entry["used"] == int(shown), when


def test_levels_are_as_told() -> None:
    rows = dict(QUOTAS.rows("What a quota is")[3:])
    assert list(rows) == [f"`{level(100, taken)}`" for taken in (0, LOW_PERCENT, CRITICAL_PERCENT, 100)]
    assert str(LOW_PERCENT) in rows["`low`"]
    assert str(CRITICAL_PERCENT) in rows["`critical`"]
    assert level(0, 0) == "exhausted"


def test_every_kind_of_period_and_of_entry_is_named() -> None:
    assert all(f"`{period}`" in QUOTAS.section("Periods") for period in PERIODS)
    [kinds] = re.findall(
        r"CREATE TABLE quota_ledger\(.*?kind TEXT NOT NULL CHECK \((.*?)\),\n", schema_text(), re.DOTALL
    )
    told = "".join(row[0] for row in QUOTAS.rows("The ledger"))
    assert set(re.findall(r"`(\w+)`", told)) == set(re.findall(r"'(\w+)'", kinds))


def test_the_bounds_are_those_of_the_code() -> None:
    default, least = QuotasConfig().keep_s // 86_400, 367
    for text in (
        f"1 to {KEY_LENGTH} characters",
        "1 to 2³¹",
        f"1 to {LEASE_TTL_S:,} seconds",
        f"{default} days; {least} at",
    ):
        assert text in QUOTAS.text
    assert MOST == 2**31


def test_every_refusal_is_a_code_that_there_is() -> None:
    def codes(kind: type[GatewayError]) -> set[str]:
        return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))

    told = {code for row in QUOTAS.rows("Taking") for code in re.findall(r"`([a-z_]+)`", row[0])}
    assert "quota_exceeded" in told
    assert told <= codes(GatewayError)
