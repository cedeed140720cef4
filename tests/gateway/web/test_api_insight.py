"""What administrators see of the gateway at work: nodes, live sessions, figures."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway import __version__
from gateway.core.clock import parse_rfc3339
from gateway.core.instant import Instant
from gateway.core.session import Condition
from gateway.live.clock import Clock
from gateway.store.instances import Instance, add_instance
from gateway.store.nodes import NodeRecord, give_sign
from gateway.web import insight
from gateway.web.paging import write_cursor
from tests.gateway.web.conftest import Json, Site, StartSite, one, opened
from tests.support.api_caller import ApiCaller
from tests.support.signing import Key, sign


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


# --- nodes ---


def test_the_only_node_shows_itself_as_it_is_now(site: Site, admin: ApiCaller) -> None:
    seq = site.run("UPDATE users SET name = 'G' WHERE id = 'u_grace'")
    site.call(site.node.user, "u_grace")
    with site.connect(site.bearer()) as socket:
        opened(socket)
        answered = admin.done("GET", "/admin/nodes")
    [node] = answered["nodes"]
    assert (node["name"], node["version"], node["this"]) == (site.node.name, __version__, True)
    assert (node["sessions"], node["position"], answered["newest"]) == (1, site.node.hub.position, node["position"])
    assert node["position"] >= seq
    assert parse_rfc3339(node["started_at"]) <= parse_rfc3339(node["seen_at"])


def test_other_nodes_are_shown_as_they_last_told(site: Site, admin: ApiCaller) -> None:
    for name in ("zz", "a"):
        site.call(give_sign, site.node.database, NodeRecord(name, "0.9", 5_000, "e", 3, 17), 7_000)
    site.call(site.node.neighbours.beat)
    nodes = admin.done("GET", "/admin/nodes")["nodes"]
    assert [node["name"] for node in nodes] == sorted(["zz", "a", site.node.name])
    [other] = [node for node in nodes if node["name"] == "a"]
    assert other == {
        **{"name": "a", "version": "0.9", "sessions": 17, "position": 3, "this": False},
        **{"started_at": "1970-01-01T00:00:05.000Z", "seen_at": "1970-01-01T00:00:07.000Z"},
    }
    assert [node["name"] for node in nodes if node["this"]] == [site.node.name]


# --- sessions ---


def sessions(admin: ApiCaller, query: str = "") -> list[Json]:
    items: list[Json] = admin.done("GET", f"/admin/sessions{query}")["items"]
    return items


def test_a_session_says_whose_it_is_and_how_it_came(site: Site, admin: ApiCaller) -> None:
    before = site.node.clock.now().wall
    with site.connect() as socket:
        hello = one(socket, "hello")
        assert sessions(admin) == []
        client = {"name": "voice", "version": "2.1"}
        socket.send_json({"op": "auth", "token": site.token(id="t_shown"), "watch": ["self"], "client": client})
        assert [socket.receive_json()["op"] for _ in range(2)] == ["ready", "snapshot"]
        [shown] = sessions(admin)
    assert shown | {"id": "", "opened_at": ""} == {
        **{"id": "", "opened_at": "", "principal": "user:u_ada", "address": "127.0.0.1", "watches": 1},
        **{"credential": {"kind": "api_token", "id": "t_shown"}, "client": client},
    }
    assert shown["id"].startswith("s_")
    assert before - 1_000 <= parse_rfc3339(shown["opened_at"]) <= site.node.clock.now().wall
    assert hello["node"] == admin.done("GET", "/admin/sessions")["node"] == site.node.name


def test_who_said_nothing_of_itself_is_shown_without(site: Site, admin: ApiCaller) -> None:
    with site.connect(site.bearer(), path="/ws?watch=self&watch=user:u_ada") as socket:
        opened(socket)
        [shown] = sessions(admin)
        assert shown["client"] is None


def test_no_secret_is_shown(site: Site, admin: ApiCaller) -> None:
    token = site.token()
    with site.connect({"authorization": f"Bearer {token}"}) as socket:
        opened(socket)
        text = admin("GET", "/admin/sessions").text
    assert token not in text
    assert token[3:20] not in text


def test_the_newest_come_first_and_pages_miss_none(
    site: Site, admin: ApiCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight, "LOOK_AT", 2)
    with ExitStack() as stack:
        ids = []
        for number in range(7):
            socket = stack.enter_context(site.connect(site.bearer("u_ada" if number % 2 else "u_grace")))
            one(socket, "hello")
            ids.append(one(socket, "ready")["session"])
        for limit in (1, 3, 7, 200):
            told: list[str] = []
            cursor: str | None = ""
            while cursor is not None:
                query = f"?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
                answered = admin.done("GET", f"/admin/sessions{query}")
                told += [row["id"] for row in answered["items"]]
                cursor = answered["next"]
            assert told == ids[::-1]
        assert [row["id"] for row in sessions(admin, "?user=u_ada")] == ids[1::2][::-1]
        assert sessions(admin, "?user=u_nobody") == []


def test_those_of_an_instance(site: Site, admin: ApiCaller) -> None:
    keys = {}
    for id in ("i_shop", "u_ada"):
        made = site.accounts.instances.new_key()
        site.call(add_instance, site.node.database, Instance(id=id), made.sealed)
        keys[id] = Key(made.kid, made.secret)
    with ExitStack() as stack:
        ids = []
        for id in ("i_shop", "u_ada", "i_shop"):
            socket = stack.enter_context(site.connect(sign(keys[id], "GET", "https://testserver/ws")))
            one(socket, "hello")
            ids.append(one(socket, "ready")["session"])
        user = stack.enter_context(site.connect(site.bearer("u_ada")))
        one(user, "hello")
        its = one(user, "ready")["session"]
        shown = sessions(admin, "?instance=i_shop")
        assert [row["id"] for row in shown] == [ids[2], ids[0]]
        assert {row["principal"] for row in shown} == {"instance:i_shop"}
        assert shown[0]["credential"] == {"kind": "instance_key", "id": keys["i_shop"].kid}
        first = admin.done("GET", "/admin/sessions?instance=i_shop&limit=1")
        assert sessions(admin, f"?instance=i_shop&cursor={first['next']}") == [shown[1]]
        assert [row["id"] for row in sessions(admin, "?user=u_ada")] == [its]
        assert [row["id"] for row in sessions(admin, "?instance=u_ada")] == [ids[1]]
        assert sessions(admin, "?instance=i_nowhere") == []


def test_a_cursor_of_another_node_is_refused_with_the_name_of_that_node(
    site: Site, admin: ApiCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.connect(site.bearer()) as one_socket, site.connect(site.bearer()) as other_socket:
        opened(one_socket)
        opened(other_socket)
        cursor = admin.done("GET", "/admin/sessions?limit=1")["next"]
        assert len(sessions(admin, f"?cursor={cursor}")) == 1
        first = site.node.name
        monkeypatch.setattr(site.node, "name", "another")
        refused = admin.refused(400, "GET", f"/admin/sessions?cursor={cursor}")
    assert refused["code"] == "bad_request"
    assert refused["detail"] == (f"This cursor is of the node {first}; another answers: begin anew.")


@pytest.mark.parametrize(
    "place", ["", " 5", "n", "n ", "n x", "n -5", "n \u0665", f"n {10**15}", "a\nb 5", f"{'n' * 81} 5"]
)
def test_a_cursor_that_somebody_made_up_is_refused_without_repeating_it(admin: ApiCaller, place: str) -> None:
    cursor = write_cursor(insight.SESSIONS, place)
    assert admin.refused(400, "GET", f"/admin/sessions?cursor={cursor}")["detail"] == "There is no such cursor."


class ClockThatIsSet:
    """A wall clock that somebody sets, an hour ahead or back."""

    def __init__(self, clock: Clock, by_ms: int) -> None:
        self._clock = clock
        self._by_ms = by_ms

    def now(self) -> Instant:
        mono, wall = self._clock.now()
        return Instant(mono, wall + self._by_ms)


def test_when_a_session_was_opened_does_not_change(
    site: Site, admin: ApiCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.connect(site.bearer()) as socket:
        opened(socket)
        clock, told = site.node.clock, set()
        for by_ms in (0, 3_600_000, -3_600_000, 1):
            monkeypatch.setattr(site.node, "clock", ClockThatIsSet(clock, by_ms))
            told |= {row["opened_at"] for row in sessions(admin)}
    assert len(told) == 1


class Looked:
    """One of many connections, and how many of them were looked at; the first hundred are of Ada."""

    at = 0

    def __init__(self, number: int, live: bool) -> None:
        self.number = number
        self.address, self.opened_wall, self.watchers = "192.0.2.1", 5, ()
        owner = "user:u_ada" if number <= 100 else "user:u_grace"
        principal = SimpleNamespace(document=owner, credential_kind="api_token", credential_id="t")
        condition = Condition.LIVE if live else Condition.ENDED
        self._session = SimpleNamespace(id=f"s_{number}", condition=condition, principal=principal, client=None)

    @property
    def session(self) -> Any:
        Looked.at += 1
        return self._session


async def test_a_page_costs_what_it_shows_and_not_what_is_there() -> None:
    """Of 15,000 sessions, every third of which has ended: the first page, one in the middle, and those of one user."""
    there = [Looked(number, live=number % 3 != 0) for number in range(1, 15_001)]
    presence = SimpleNamespace(sessions=lambda user: {str(one.number): one for one in there[:100][::-1]})
    node = SimpleNamespace(name="n", sessions=dict.fromkeys(there), hub=SimpleNamespace(presence=presence))

    async def shown(**query: Any) -> list[int]:
        async def rights() -> Any:
            return SimpleNamespace(require_admin=lambda: None)

        call: Any = SimpleNamespace(rights=rights, query=insight.SessionSearch(limit=10, **query))
        Looked.at = 0
        response = await insight.Insight(node).sessions(call)  # type: ignore[arg-type]
        assert Looked.at < 60
        return [int(item["id"][2:]) for item in msgspec.json.decode(response.body)["items"]]

    assert await shown() == [n for n in range(15_000, 0, -1) if n % 3][:10]
    middle = write_cursor(insight.SESSIONS, "n 7000")
    assert await shown(cursor=middle) == [n for n in range(6_999, 0, -1) if n % 3][:10]
    assert await shown(user="u_ada") == [n for n in range(100, 0, -1) if n % 3][:10]


def test_a_session_that_ended_is_not_shown(site: Site, admin: ApiCaller) -> None:
    with site.connect(site.bearer(id="t_ends")) as socket:
        opened(socket)
        site.run("UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_ends'")
        assert one(socket, "ended")["code"] == "revoked"
        assert sessions(admin) == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "cursor=x", "cursor=", "user=%00", "limit=1&limit=2", "user=a&instance=b"]
)
def test_what_can_not_be_meant_is_a_bad_request(admin: ApiCaller, query: str) -> None:
    assert admin.refused(400, "GET", f"/admin/sessions?{query}")["code"] == "bad_request"


# --- figures ---


def test_an_administrator_reads_the_figures_from_anywhere(start_site: StartSite) -> None:
    site = start_site(address="203.0.113.9", admin={"metrics_networks": ()})
    assert site.client.get("/metrics").status_code == 403
    answer = ApiCaller(site, "u_admin")("GET", "/admin/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "gateway_http_request_seconds_count" in answer.text


def test_all_who_ask_within_a_second_get_the_same_figures(
    site: Site, admin: ApiCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.node.metrics, "_monotonic", lambda: 1_000.0)
    first, second = (admin("GET", "/admin/metrics").text for _ in range(2))
    assert first == second
    monkeypatch.setattr(site.node.metrics, "_monotonic", lambda: 1_001.5)
    assert admin("GET", "/admin/metrics").text != first
