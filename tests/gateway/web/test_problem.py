from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from gateway import errors
from gateway.errors import AuthFailed, GatewayError, QuotaExceeded, RateLimited
from gateway.web.problem import bearer_token, problem

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_failure_has_the_form_of_rfc_9457(kind: type[GatewayError]) -> None:
    answer = problem(kind("One sentence."))
    assert answer.status_code == kind.status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(bytes(answer.body)) == {
        "type": f"urn:gateway:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "One sentence.",
        "code": kind.code,
    }
    assert ("www-authenticate" in answer.headers) is (kind is AuthFailed)


def test_codes_are_told_apart() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_when_to_come_back_is_in_header_and_body() -> None:
    answer = problem(RateLimited("Later.", retry_after_s=1.25))
    assert answer.headers["retry-after"] == "2"
    assert json.loads(bytes(answer.body))["retry_after_s"] == 1.25


def test_details_by_code_stand_beside_the_rest() -> None:
    body = json.loads(bytes(problem(QuotaExceeded("Too much.", quota="sms", remaining=3)).body))
    assert (body["quota"], body["remaining"], body["status"]) == ("sms", 3, 409)


def request(*values: str) -> Request:
    headers = [(b"authorization", value.encode("latin-1")) for value in values]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer   abc  ", "abc"),
        ("BEARER a.b-c_d~e+f/g==", "a.b-c_d~e+f/g=="),
        ("Bearer \xff", "\xff"),
    ],
)
def test_a_bearer_token_is_taken_as_it_is(value: str, token: str) -> None:
    assert bearer_token(request(value)) == token


@pytest.mark.parametrize(
    "values", [("",), ("Bearer",), ("Bearer  ",), ("Basic abc",), ("abc",), ("Bearer a", "Bearer a")]
)
def test_anything_else_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(AuthFailed):
        bearer_token(request(*values))


def test_nothing_is_nothing() -> None:
    assert bearer_token(request()) is None
