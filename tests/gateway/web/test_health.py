from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site, StartSite


def test_alive(site: Site) -> None:
    answer = site.client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "node": site.node.name})


def test_ready(site: Site) -> None:
    answer = site.client.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "node": site.node.name})


def test_not_ready_says_why_and_health_does_not_mind(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = start_site(channel={"max_sessions": 1})
    with site.connect(site.bearer()) as socket:
        assert socket.receive_json()["op"] == "hello"
        assert site.client.get("/ready").json()["reasons"] == ["full"]
        monkeypatch.setattr(site.node, "draining", True)
        monkeypatch.setattr(site.node.feed, "stale", True)
        answer = site.client.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
        assert answer.json()["reasons"] == ["draining", "database_unreachable", "full"]
        assert site.client.get("/health").status_code == 200


def test_metrics_in_prometheus_text_format(site: Site) -> None:
    site.client.get("/api/identity")
    answer = site.client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    [line] = [line for line in answer.text.splitlines() if "_count" in line and "/api/identity" in line]
    assert '"401"' in line
    assert float(line.rpartition(" ")[2]) == 1


PROXIED = {"server": {"trusted_proxies": ("10.0.0.0/8",)}, "admin": {"metrics_networks": ("192.0.2.0/24",)}}


@pytest.mark.parametrize(
    ("settings", "address", "forwarded", "status"),
    [
        ({}, "127.0.0.1", None, 200),
        ({}, "127.1.2.3", None, 200),
        ({}, "::1", None, 200),
        ({}, "::ffff:127.0.0.1", None, 200),
        ({}, "128.0.0.1", None, 403),
        ({}, "::ffff:192.0.2.1", None, 403),
        ({}, "", None, 403),
        ({}, "192.0.2.1", "127.0.0.1", 403),
        ({"admin": {"metrics_networks": ()}}, "127.0.0.1", None, 403),
        (PROXIED, "192.0.2.7", None, 200),
        (PROXIED, "10.1.1.1", "192.0.2.7", 200),
        (PROXIED, "10.1.1.1", "192.0.2.7, 203.0.113.5", 403),
        (PROXIED, "203.0.113.5", "192.0.2.7", 403),
    ],
)
def test_metrics_are_for_the_configured_networks(
    start_site: StartSite, settings: dict[str, Any], address: str, forwarded: str | None, status: int
) -> None:
    site = start_site(address=address, **settings)
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    answer = site.client.get("/metrics", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "forbidden"
        assert "gateway_" not in answer.text.replace("gateway:problem", "")
