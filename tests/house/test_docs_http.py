from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from client_sdk.testing import RunningGateway
from gateway.cli.demo import demo_statements
from gateway.core.permissions import Reason
from gateway.core.quotas import QuotaReason
from gateway.store.audit import ACTIONS
from gateway.web.problem import MEDIA_TYPE
from tests.support.markdown import Markdown

HTTP = Markdown("http.md")
CREATED_MS = 1_795_288_200_000
"""2026-11-21T19:10:00Z, as in the examples."""


def example(section: str) -> Any:
    [block] = [block for block in HTTP.blocks_of("json") if block.section == section]
    return json.loads(block.text)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway on the demo database, in which Ada was made when the examples say so."""
    with RunningGateway(tmp_path / "gateway.db") as running:
        for statement in demo_statements("admin"):
            running.sql(statement.sql, *statement.args)
        running.sql("UPDATE users SET created_at = ?1, updated_at = ?1 WHERE id = 'u_ada'", CREATED_MS)
        yield running


@pytest.fixture
async def ada(demo: RunningGateway) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=demo.url, headers={"Authorization": f"Bearer {demo.token('u_ada')}"})


async def test_the_routes_are_those_of_the_program(demo: RunningGateway) -> None:
    """Each method of each path has a row of its own; the channel is there beside the operations."""
    async with httpx2.AsyncClient(base_url=demo.url) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    described = {
        f"`{method.upper()} {path}`" for path, item in paths.items() for method in item.keys() - {"parameters"}
    }
    listed = re.findall(r"^\| (`(?:GET|POST|PUT|DELETE|PATCH) \S+`) \|", HTTP.text, re.MULTILINE)
    assert sorted(listed) == sorted({*described, "`GET /ws`"})


async def test_every_failure_that_there_is_has_its_row(demo: RunningGateway) -> None:
    async with httpx2.AsyncClient(base_url=demo.url) as client:
        responses = (await client.get("/openapi.json")).json()["components"]["responses"]
    told = [response["content"][MEDIA_TYPE]["schema"]["allOf"][1]["properties"] for response in responses.values()]
    possible = {(str(one["status"]["const"]), f"`{code}`") for one in told for code in one["code"]["enum"]}
    beside = {("405", "`method_not_allowed`"), ("426", "`upgrade_required`")}
    assert {(row[0], row[1]) for row in HTTP.rows("Failures")} == possible | beside


async def test_the_example_of_an_identity_is_what_is_answered(ada: httpx2.AsyncClient) -> None:
    async with ada:
        answer = await ada.get("/api/identity")
        assert answer.json() == example("Identity")
        unchanged = await ada.get("/api/identity", headers={"If-None-Match": answer.headers["ETag"]})
        document = await ada.get("/api/document")
    assert unchanged.status_code == 304
    assert document.headers["ETag"] == answer.headers["ETag"] == f'"{document.json()["rev"]}"'
    assert set(document.json()) == set(re.findall(r"`(\w+)`", HTTP.prose("Document"))) - {"snapshot", "ETag"}


async def test_the_example_of_an_explanation_is_what_is_answered(ada: httpx2.AsyncClient) -> None:
    async with ada:
        answer = await ada.get("/api/explain", params={"permission": "can_use_voice"})
        assert answer.json() == example("Explain")
        quota = (await ada.get("/api/explain", params={"quota": "voice_minutes"})).json()
    assert [reason["source"] for reason in quota["reasons"]] == ["plan"]
    assert quota["balance"]["limit"] == 500


def test_every_source_of_a_reason_is_explained() -> None:
    explained = {source for row in HTTP.rows("Explain") for source in re.findall(r"`(\w+)`", row[0])}
    named = {source for kind in (Reason, QuotaReason) for source in re.findall(r"``(\w+)``", kind.__doc__ or "")}
    assert explained == named


async def test_the_example_of_a_validation_has_the_fields_of_the_answer(ada: httpx2.AsyncClient) -> None:
    async with ada:
        answer = (await ada.post("/api/auth/validate")).json()
    assert {**answer, "session": ""} == {**example("Validate"), "session": ""}


MOVING = {"seq": 0, "resets_at": "", "expires_at": ""}
"""What differs from one day to the other."""


async def test_the_examples_of_spending_are_what_is_answered(ada: httpx2.AsyncClient) -> None:
    """That of a lease is of a month in which nothing else was used."""
    [command] = re.findall(r"curl .*?consume$", HTTP.section("Spending"), re.MULTILINE | re.DOTALL)
    [key], [body] = re.findall(r"Idempotency-Key: (\S+)'", command), re.findall(r"--json '(.+?)'", command)
    path = "/api/quotas/voice_minutes"
    async with ada:
        held = await ada.post(f"{path}/leases", json={"lease": "call-81", "amount": 10, "ttl_s": 60})
        assert held.json() | MOVING == example("Leases") | MOVING
        for action in [row[0].strip("`") for row in HTTP.rows("Leases")]:
            said = {"extend": {"ttl_s": 60}, "commit": {"amount": 0}, "release": {}}[action]
            assert (await ada.post(f"{held.headers['Location']}/{action}", json=said)).status_code != 404
        for amount, name in ((6, "the first"), (json.loads(body)["amount"], key)):
            spent = await ada.post(f"{path}/consume", json={"amount": amount}, headers={"Idempotency-Key": name})
    assert spent.json() | MOVING == example("Spending") | MOVING
    assert list(spent.json()) == list(example("Spending"))
    assert list(held.json()) == list(example("Leases"))


async def test_the_examples_of_corrections_are_done(demo: RunningGateway) -> None:
    demo.sql("UPDATE users SET is_admin = 1 WHERE id = 'u_ada'")
    headers = {"Authorization": f"Bearer {demo.token('u_ada')}"}
    given_back, counted = map(json.loads, re.findall(r"`(\{.+?\})`", HTTP.section("Corrections")))
    async with httpx2.AsyncClient(base_url=demo.url, headers=headers) as admin:
        for owner in ("users/u_ada", "orgs/o_acme"):
            path = f"/{owner}/quotas/voice_minutes/adjust"
            for body, used in (({"used": 100, "reason": "x"}, 100), (given_back, 70), (counted, 4)):
                assert (await admin.post(path, json=body)).json()["used"] == used


async def test_failures_are_as_described(demo: RunningGateway, ada: httpx2.AsyncClient) -> None:
    async with ada:
        wrong = await ada.get("/api/identity", headers={"Authorization": "Bearer gw_mistyped"})
        asked = await ada.get("/api/explain")
        nobody = await ada.get("/api/explain", params={"permission": "x", "user": "u_nobody"})
        nowhere = await ada.get("/nowhere")
    assert wrong.json() == example("Failures")
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer")
    assert nowhere.status_code == 404
    described = {(row[0], row[1].strip("`")) for row in HTTP.rows("Failures")}
    for answer in (wrong, asked, nobody):
        assert answer.headers["Content-Type"] == MEDIA_TYPE
        assert (str(answer.status_code), msgspec.json.decode(answer.content)["code"]) in described


def test_every_audited_action_is_named() -> None:
    assert set(re.findall(r"`([a-z]+\.[a-z_]+|import)`", HTTP.prose("Audit"))) == set(ACTIONS)
