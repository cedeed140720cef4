"""A user may choose the own time zone, and with it when days and months begin; not how much of a quota there is."""

from __future__ import annotations

from zoneinfo import available_timezones

from gateway.core.quotas import period_bounds
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller
from tests.support.spending_caller import CONSUME, next_key, spend


def test_moving_about_gives_no_second_month(site: Site) -> None:
    ada = ApiCaller(site, "u_ada")
    now = site.node.clock.now().wall
    starts = {period_bounds("month", None, zone, now)[0]: zone for zone in available_timezones() - {"localtime"}}
    zones = [starts[start] for start in sorted(starts)]
    ada.done("PATCH", "/users/u_ada", {"timezone": zones[0]})
    spend(ada, 500)
    for zone in zones[1::6]:
        changed = ada.done("PATCH", "/users/u_ada", {"timezone": zone})
        assert changed["timezone"] == zone
        refused = ada("POST", CONSUME, {"amount": 1, "key": next_key()})
        assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
        assert ada.done("GET", "/api/document")["data"]["quotas"]["voice_minutes"]["used"] == 500
