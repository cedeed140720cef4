from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
import pytest
from httpx2 import Response
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.routing import Route

from gateway.errors import Conflict, GatewayError, LeaseExpired, PreconditionFailed, RateLimited
from gateway.web.openapi import openapi
from gateway.web.operation import SEGMENT, Call, Operation, Who
from tests.gateway.web.conftest import Json, Site
from tests.support.described import Description, answer_faults, schemas


@pytest.fixture
def description(site: Site) -> Description:
    return Description(site.client.get("/openapi.json").json())


def described(description: Description) -> list[tuple[str, str, Json]]:
    """Method, path and description of every operation."""
    return [
        (method.upper(), path, operation)
        for path, item in description.document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


# --- the document ---


def test_it_is_an_openapi_document(description: Description) -> None:
    """By the specification's own schema, and every schema in it by JSON Schema's."""
    assert description.document["openapi"] == "3.1.0"
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(description.document)] == []
    found = list(schemas(description.document))
    assert len(found) > 20
    for schema in found:
        Draft202012Validator.check_schema(schema)
    for reference in description.references():
        assert description.at(reference)


NO_OPERATIONS = {("GET", "/ws"), ("GET", "/dashboard"), ("GET", "/dashboard/")}
"""Where another protocol is spoken, and what leads to the dashboard."""


def test_it_describes_what_is_routed_and_nothing_else(site: Site, description: Description) -> None:
    routed = {
        (method, route.path.replace(":path}", "}"))
        for route in site.client.app.router.routes  # type: ignore[attr-defined]
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(method, path) for method, path, _ in described(description)} == routed - NO_OPERATIONS
    assert ("GET", "/openapi.json") in routed


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(description: Description) -> None:
    operations = described(description)
    assert {
        name: times for name, times in Counter(one["operationId"] for *_, one in operations).items() if times > 1
    } == {}
    for _, path, operation in operations:
        assert operation["summary"]
        assert re.fullmatch(r"[a-z][A-Za-z0-9_]*", operation["operationId"])
        item = description.document["paths"][path]
        assert [parameter["name"] for parameter in item.get("parameters", ())] == re.findall(r"{(\w+)}", path)


def test_every_failure_names_its_codes(description: Description) -> None:
    """A status of a failure has the codes of the classes with this status, and of no other."""
    known: dict[str, set[str]] = {}
    kinds: list[type[GatewayError]] = [GatewayError, *subclasses(GatewayError)]
    for kind in kinds:
        known.setdefault(str(kind.status), set()).add(kind.code)
    for _, path, operation in described(description):
        for status, response in operation["responses"].items():
            if "$ref" in response:
                codes = description.at(response["$ref"])["content"]["application/problem+json"]["schema"]["allOf"][1]
                assert set(codes["properties"]["code"]["enum"]) <= known[status], path
        assert "internal" in operation["responses"]["500"]["$ref"]


def subclasses(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind for one in kind.__subclasses__() for kind in (one, *subclasses(one))]


def test_everybody_may_read_and_keep_it(site: Site) -> None:
    answer = site.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    again = site.client.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
    assert site.client.get("/openapi.json", headers={"if-none-match": '"other"'}).status_code == 200


# --- what follows from an operation's kind ---


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked."""

    name: Annotated[str, msgspec.Meta(max_length=3)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=9)] = 5
    cursor: str | None = None


class Sketch(msgspec.Struct):
    """What may be left out."""

    cookie: bool = False


async def nothing(call: Call) -> Response:  # type: ignore[empty-body]
    """Never called."""


def one(method: str = "GET", path: str = "/things", **fields: Any) -> Json:
    """The description of a table with one operation."""
    operation = Operation(method, path, nothing, "Thing", fields.pop("answers", {200: Question}), **fields)  # type: ignore[arg-type]
    described = openapi([operation])
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(described)] == []
    found = described["paths"][path][method.lower()]
    assert isinstance(found, dict)
    return found


def statuses(**fields: Any) -> list[int]:
    return [int(status) for status in one(**fields)["responses"]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"who": Who.ALL}, [200, 500]),
        ({"who": Who.ALL, "method": "POST"}, [200, 500]),
        ({"who": Who.ALL, "method": "POST", "writes": True}, [200, 500, 503]),
        ({"who": Who.ALL, "query": Question}, [200, 400, 500]),
        ({"who": Who.ALL, "path": "/things/{id}"}, [200, 404, 500]),
        ({"who": Who.ALL, "method": "POST", "body": Question}, [200, 400, 413, 415, 422, 500, 503]),
        ({"who": Who.ALL, "method": "POST", "body": Question, "form": True}, [200, 400, 413, 415, 500, 503]),
        ({}, [200, 401, 500, 503]),
        ({"method": "DELETE"}, [200, 401, 403, 500, 503]),
        ({"errors": (Conflict, RateLimited)}, [200, 401, 409, 429, 500, 503]),
        ({"answers": {200: Question, 304: None, 503: Question}}, [200, 304, 401, 412, 500, 503]),
    ],
)
def test_how_it_may_fail(fields: Json, expected: list[int]) -> None:
    assert statuses(**fields) == expected


def test_failures_with_one_status_are_told_apart() -> None:
    described = openapi([Operation("GET", "/x", nothing, "X", {200: None}, Who.ALL, errors=(Conflict, LeaseExpired))])  # type: ignore[arg-type]
    reference = described["paths"]["/x"]["get"]["responses"]["409"]["$ref"]
    schema = Description(described).at(reference)["content"]["application/problem+json"]["schema"]
    assert schema["allOf"][1]["properties"] == {
        "status": {"const": 409},
        "code": {"enum": ["conflict", "lease_expired"]},
    }


def test_credentials() -> None:
    assert one(who=Who.ALL)["security"] == []
    assert one()["security"] == [{"bearer": []}, {"cookie": []}]
    assert one(who=Who.INSTANCE)["security"] == [{"signature": [], "bearer": []}]
    assert one(who=Who.USER_OR_INSTANCE)["security"] == [{"bearer": []}, {"cookie": []}, {"signature": []}]
    assert one(who=Who.ALL_OR_INSTANCE)["security"] == [{}, {"signature": []}]
    assert one("PUT")["security"] == [{"bearer": []}, {"cookie": [], "csrf": []}]


def test_parameters_are_never_null_and_have_their_bounds() -> None:
    assert one(query=Question)["parameters"] == [
        {"name": "name", "in": "query", "required": True, "schema": {"type": "string", "maxLength": 3}},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5}},
        {"name": "cursor", "in": "query", "schema": {"type": "string"}},
    ]
    item = openapi([Operation("GET", "/a/{id}/b/{other}", nothing, "X", {200: None})])["paths"]["/a/{id}/b/{other}"]  # type: ignore[arg-type]
    [first, second] = item["parameters"]
    assert (first["name"], second["name"], first["required"]) == ("id", "other", True)
    pattern = re.compile(first["schema"]["pattern"])
    assert pattern.search("u_ada")
    assert not any(map(pattern.search, ["", " u_ada", "a/b", "u" * 65, "ü"]))


def test_bodies() -> None:
    assert one("POST", body=Question)["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
    }
    assert one("POST", body=Sketch)["requestBody"]["required"] is False
    assert one("POST", body=Sketch, bodied=True)["requestBody"]["required"] is True
    assert list(one("POST", body=Sketch, form=True)["requestBody"]["content"]) == ["application/x-www-form-urlencoded"]
    assert "application/merge-patch+json" in one("PATCH", body=Sketch)["requestBody"]["content"]


def test_headers_that_name_states() -> None:
    write = one("PUT", writes=True, tagged=True, errors=(PreconditionFailed,))
    assert [parameter["name"] for parameter in write["parameters"]] == ["If-Match", "If-None-Match"]
    assert set(write["responses"]["200"]["headers"]) == {"Gateway-Seq", "ETag"}
    gone = one("DELETE", writes=True, errors=(PreconditionFailed,))
    assert [parameter["name"] for parameter in gone["parameters"]] == ["If-Match", "If-None-Match"]
    assert set(gone["responses"]["200"]["headers"]) == {"Gateway-Seq"}
    assert "412" in write["responses"]
    read = one(answers={200: Question, 304: None})
    assert [parameter["name"] for parameter in read["parameters"]] == ["If-Match", "If-None-Match"]
    assert ["304" in of["parameters"][1]["description"] for of in (write, gone, read)] == [False, False, True]
    assert "412" in read["responses"]
    assert all(set(read["responses"][status]["headers"]) == {"ETag"} for status in ("200", "304"))
    assert "content" not in read["responses"]["304"]
    assert "headers" not in one()["responses"]["200"]
    assert set(one(tagged=True)["responses"]["200"]["headers"]) == {"ETag"}
    assert "parameters" not in one(tagged=True)
    made = one("POST", writes=True, answers={201: Question})
    assert set(made["responses"]["201"]["headers"]) == {"Gateway-Seq", "Location"}


# --- answers are as described ---

NO_SUCH = {"authorization": "Bearer gw_no"}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
HOSTILE: dict[str, Json] = {
    "nobody": {},
    "a bad token": {"headers": NO_SUCH},
    "two tokens": {"headers": [("authorization", "Bearer gw_a"), ("authorization", "Bearer gw_b")]},
    "another scheme": {"headers": {"authorization": "Digest x"}},
    "a forged cookie": {"headers": {"cookie": "__Host-gateway_access=x.y.z; __Host-gateway_refresh=x.y.z"}},
    "no body": {"known": True},
    "text": {"known": True, "content": b"hello", "headers": {"content-type": "text/plain"}},
    "no media type": {"known": True, "content": b"{}"},
    "broken JSON": {"known": True, "content": b'{"a":', "headers": JSON},
    "deep JSON": {"known": True, "content": b"[" * 30_000, "headers": JSON},
    "a deep object": {"known": True, "content": b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "headers": JSON},
    "no number": {"known": True, "content": b'{"limit": NaN}', "headers": JSON},
    "too great a number": {"known": True, "content": b'{"limit": 1e999, "expires_at": 1e999}', "headers": JSON},
    "a byte order mark": {"known": True, "content": b"\xef\xbb\xbf{}", "headers": JSON},
    "UTF-16": {"known": True, "content": '{"a": 1}'.encode("utf-16"), "headers": JSON},
    "a lone surrogate": {"known": True, "content": rb'{"name": "\ud800", "username": "\ud800"}', "headers": JSON},
    "not UTF-8": {"known": True, "content": b'{"name": "\xff"}', "headers": JSON},
    "another type": {"known": True, "content": b"[]", "headers": JSON},
    "null": {"known": True, "content": b"null", "headers": JSON},
    "an unknown field": {"known": True, "content": b'{"is_root": true}', "headers": JSON},
    "a huge body": {"known": True, "content": b" " * 70_000, "headers": JSON},
    "a huge form": {"known": True, "content": b"token=" + b"x" * 70_000, "headers": FORM},
    "a form of bytes": {"known": True, "content": b"token=\xff", "headers": FORM},
    "a form with a broken escape": {"known": True, "content": b"token=%ff%zz", "headers": FORM},
    "a form with one name twice": {"known": True, "content": b"token=a&token=b", "headers": FORM},
    "a form of many": {"known": True, "content": b"&".join(b"a%d=1" % n for n in range(40)), "headers": FORM},
    "an empty form": {"known": True, "content": b"token=", "headers": FORM},
    "a stranger's query": {"known": True, "params": {"limit": "9" * 30, "cursor": "\0", "user": "\ud7ff", "x": "'--"}},
    "a query twice": {"known": True, "params": [("limit", "1"), ("limit", "2"), ("cursor", "a"), ("cursor", "b")]},
    "any entity tag": {"known": True, "headers": {"if-match": '"x", W/', "if-none-match": "\x7f"}},
    "forged addresses": {"headers": {"x-forwarded-for": "::, \x7f", "x-forwarded-proto": "gopher", "host": "e@vil"}},
}
PARTS = ("u_nobody", "a" * 64, "a" * 65, "%00", "..%2f..", "%f0%9f%98%80", "%ff", "1;--", "u_ada%20")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_requests_are_answered_as_described(site: Site, description: Description, kind: str) -> None:
    """By every operation, whether it has a use for what is sent or not."""
    request = dict(HOSTILE[kind])
    headers = list(dict(request.pop("headers", {})).items()) if kind != "two tokens" else request.pop("headers")
    known = request.pop("known", False)
    for method, path, _ in described(description):
        sent = [*headers, *(site.bearer("u_admin").items() if known else ())]
        answer = site.client.request(method, re.sub(r"{\w+}", "u_nobody", path), headers=sent, **request)
        assert faults(description, method, path, answer) == [], (method, path, answer.text)


@pytest.mark.parametrize("part", PARTS)
def test_what_names_nothing_is_answered_as_described(site: Site, description: Description, part: str) -> None:
    bearer = site.bearer("u_admin")
    for method, path, _ in described(description):
        if "{" in path:
            answer = site.client.request(method, re.sub(r"{\w+}", part, path), headers=bearer | JSON, content=b"{}")
            assert faults(description, method, path, answer) == [], (method, path, answer.text)
            if not SEGMENT.fullmatch(unquote(part, errors="replace")):
                assert answer.status_code == 404, (method, path)


TEXTS = [
    "\0",
    "a\0b",
    "\x1b[2J",
    "a\nb",
    "x" * 20_000,
    "' OR 1=1 --",
    "../../etc/passwd",
    "\u202eevil",
    "\ufeff",
    "💥" * 99,
]
GOOD: Json = {
    "plan": "free",
    "username": "newcomer",
    "password": "quiet-lantern-over-mossy-harbour",
    "old_password": "quiet-lantern-over-mossy-harbour",
    "new_password": "another-lantern-over-mossy-harbour",
    "at": "2001-01-01T00:00:00.000Z",
    "id": "newcomer",
}
"""What fields that are needed hold while others are looked at."""


def good(name: str, schema: Json) -> Any:
    """A value for a field that has to be there."""
    kinds = {"array": [], "object": {}, "boolean": False, "integer": 1, "number": 1, "string": "x"}
    schema = schema.get("anyOf", [schema])[0]
    return GOOD.get(name, schema["enum"][0] if "enum" in schema else kinds[schema["type"]])


NAMED = {
    **{"users": "u_alan", "members": "u_alan", "plans": "pro", "roles": "support", "orgs": "o_acme"},
    **{"quotas": "voice_minutes", "leases": "call"},
}


def existing(path: str) -> str:
    """The path of something that there is."""
    return re.sub(r"(\w+)/{\w+}", lambda found: f"{found[1]}/{NAMED.get(found[1], 'x')}", path)


def takes_text(schema: Json) -> bool:
    return "string" in (schema.get("type"), *(kind.get("type") for kind in schema.get("anyOf", ())))


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_hostile_texts_in_every_field_are_answered_as_described(
    site: Site, description: Description, text: str
) -> None:
    """In each field that takes a text, in lists of them and as names of what is listed, of every body."""
    site.run("INSERT INTO roles(id) VALUES ('support')")
    lease = {"lease": "call", "amount": 1, "ttl_s": 3600}
    site.client.post("/api/quotas/voice_minutes/leases", json=lease, headers=site.bearer("u_admin"))
    looked_at = 0
    for method, path, operation in described(description):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        schema = description.resolved(content["schema"])
        needed = {name: good(name, schema["properties"][name]) for name in schema.get("required", ())}
        for name, kind in schema["properties"].items():
            values = [text] if takes_text(kind) else [[text], [[text]]] if kind.get("type") == "array" else []
            values += [{text: text}, {"a": {"b": [text]}}] if kind.get("type") == "object" else []
            for value in values:
                looked_at += 1
                sent = site.bearer("u_admin") | {"if-match": "*"}
                answer = site.client.request(method, existing(path), headers=sent, json=needed | {name: value})
                assert faults(description, method, path, answer) == [], (method, path, name, answer.text)
    assert looked_at > 50


def faults(description: Description, method: str, path: str, answer: Response) -> list[str]:
    assert answer.status_code < 500 or path == "/ready"
    body = answer.json() if "json" in answer.headers.get("content-type", "") else None
    return answer_faults(description, method, path, answer.status_code, answer.headers, body)


def test_an_answer_that_is_not_as_described_is_noticed(description: Description) -> None:
    problem = {"type": "t", "title": "t", "status": 401, "detail": "d", "code": "auth_failed"}
    headers = {"content-type": "application/problem+json", "www-authenticate": "Bearer"}
    wrong = [
        (401, headers, problem | {"code": "other"}),
        (401, headers, problem | {"status": 400}),
        (401, {"content-type": "application/problem+json"}, problem),
        (401, headers | {"content-type": "application/json"}, problem),
        (418, headers, problem),
        (200, {"content-type": "application/json", "etag": "x"}, []),
    ]
    assert answer_faults(description, "GET", "/api/identity", 401, headers, problem) == []
    for answer in wrong:
        assert answer_faults(description, "GET", "/api/identity", *answer) != []
