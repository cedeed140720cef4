"""That no request is carried out twice, and what can not be asked at all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, at_once, rows
from tests.support.spending_caller import CONSUME, spend, taken, written

MOST = 2**31


@pytest.fixture
def ada(site: Site) -> ApiCaller:
    """On the plan pro: 500 voice minutes a month, 1,000 messages, which may be passed."""
    return ApiCaller(site, "u_ada")


# --- keys ---


def test_the_same_key_and_request_is_one_request(site: Site, ada: ApiCaller) -> None:
    first = ada("POST", CONSUME, {"amount": 5, "key": "once"})
    spend(ada, 100)
    before = taken(site)
    for again in (
        ada("POST", CONSUME, {"amount": 5, "key": "once"}),
        ada("POST", CONSUME, {"amount": 5}, Idempotency_Key="once"),
        ada("POST", CONSUME, {"amount": 5}, idempotency_key='"once"'),
        ada("POST", CONSUME, {"amount": 5, "key": "once"}, idempotency_key="once"),
    ):
        assert again.status_code == 200
        assert (again.json(), again.headers["gateway-seq"]) == (first.json(), first.headers["gateway-seq"])
    assert taken(site) == before


def test_one_key_sent_many_times_at_once_is_carried_out_once(site: Site, ada: ApiCaller) -> None:
    answers = at_once(site, [ada.request("POST", CONSUME, {"amount": 9, "key": "retry"})] * 40)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert taken(site) == [("user:u_ada", "voice_minutes", 9, 0), (1,)]


def test_a_key_for_another_request_is_a_conflict(site: Site, ada: ApiCaller) -> None:
    ada.done("POST", CONSUME, {"amount": 5, "key": "mine"})
    before = taken(site)
    other = "/api/quotas/sms_messages/consume"
    for path, body in ((CONSUME, {"amount": 6}), (other, {"amount": 5}), (CONSUME, {"amount": 5, "org": "o_acme"})):
        assert ada.refused(409, "POST", path, body | {"key": "mine"})["code"] == "conflict"
        assert ada.refused(409, "POST", path, body, idempotency_key="mine")["code"] == "conflict"
    assert taken(site) == before


def test_a_key_of_somebody_else_is_another_one(site: Site, ada: ApiCaller) -> None:
    """Keys are their spender's: nobody learns of another's, nor spends by it."""
    ada.done("POST", CONSUME, {"amount": 5, "key": "k"})
    assert ApiCaller(site, "u_grace").done("POST", CONSUME, {"amount": 1, "key": "k"})["used"] == 1
    assert ApiCaller(site, "u_ada").done("POST", CONSUME, {"amount": 5, "key": "k"})["used"] == 5
    assert rows(site, "SELECT count(*) FROM quota_ledger") == [(2,)]


def test_without_a_key_nothing_is_taken(site: Site, ada: ApiCaller) -> None:
    assert ada.refused(400, "POST", CONSUME, {"amount": 1})["code"] == "bad_request"
    assert taken(site) == [(0,)]


BAD_HEADERS = [
    *("", '"', '""', "a" * 129, f'"{"a" * 129}"', "a\tb", "a\x7fb", "k\xe9y", '"a\\"b"', '"a"b"', '"a', '"a";p=1'),
    "a\x01b",
]


@pytest.mark.parametrize("value", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_a_header_that_is_no_key_is_refused(site: Site, ada: ApiCaller, value: str) -> None:
    for body in ({"amount": 1}, {"amount": 1, "key": "good"}):
        sent = [*ada.headers.items(), ("idempotency-key", value.encode("latin-1"))]
        answer = site.client.post(CONSUME, json=body, headers=sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert taken(site) == [(0,)]


def test_two_headers_are_no_key(site: Site, ada: ApiCaller) -> None:
    for second in ("a", "b"):
        sent = [*ada.headers.items(), ("idempotency-key", "a"), ("idempotency-key", second)]
        assert site.client.post(CONSUME, json={"amount": 1}, headers=sent).status_code == 400
    assert taken(site) == [(0,)]


def test_header_and_body_have_to_say_the_same_key(site: Site, ada: ApiCaller) -> None:
    for header in ("b", "A", "a b", '"b"'):
        problem = ada.refused(400, "POST", CONSUME, {"amount": 1, "key": "a"}, idempotency_key=header)
        assert problem["code"] == "bad_request"
    assert taken(site) == [(0,)]


BAD_KEYS: list[Any] = ["", "a" * 129, "é" * 129, "a\0b", "\0", "a\nb", "a\x7f", "\x85", 1, None, True, ["a"], {"a": 1}]


@pytest.mark.parametrize("key", BAD_KEYS, ids=range(len(BAD_KEYS)))
def test_a_key_of_the_body_that_can_be_none_is_refused(site: Site, ada: ApiCaller, key: Any) -> None:
    assert ada.refused(422, "POST", CONSUME, {"amount": 1, "key": key})["code"] == "unprocessable"
    assert ada.refused(422, "POST", CONSUME, {"amount": 1, "key": key}, idempotency_key="good")["status"] == 422
    assert taken(site) == [(0,)]


@pytest.mark.parametrize("key", ["a", "a" * 128, "é" * 128, "💥" * 128, " ", "'; --", "a/b", "..", "\u202e", "%00"])
def test_any_text_is_a_key(site: Site, ada: ApiCaller, key: str) -> None:
    first = ada.done("POST", CONSUME, {"amount": 1, "key": key})
    assert ada.done("POST", CONSUME, {"amount": 1, "key": key}) == first
    assert rows(site, "SELECT key FROM quota_ledger") == [(key,)]


@pytest.mark.parametrize("key", ["a", "a" * 128, "a b", "a'b", "{}", "0", 'a"b'])
def test_any_printable_header_is_a_key(site: Site, ada: ApiCaller, key: str) -> None:
    assert ada.done("POST", CONSUME, {"amount": 1}, idempotency_key=key)["used"] == 1
    if '"' not in key:
        assert ada.done("POST", CONSUME, {"amount": 1}, idempotency_key=f'"{key}"')["used"] == 1
    assert rows(site, "SELECT key FROM quota_ledger") == [(key,)]


# --- bodies ---


BAD_AMOUNTS = [
    *("0", "-0", "-1", "-2147483648", "1.5", "0.1", "1.0", "1e0", "1e3", "1e999", "-1e999", "2147483649"),
    *("9007199254740991", "9007199254740992", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("18446744073709551616", "1" + "0" * 400, '"1"', '"x"', '""', "null", "true", "false", "[1]", "[]", "{}"),
]


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_what_is_no_amount_is_refused(site: Site, ada: ApiCaller, amount: str) -> None:
    answer = written(ada, f'{{"amount": {amount}}}')
    assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
    assert taken(site) == [(0,)]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "01", "+1", "1_000", ".5", "1.", "1e", "--1", ""])
def test_what_is_no_json_is_refused(site: Site, ada: ApiCaller, text: str) -> None:
    answer = written(ada, f'{{"amount": {text}}}')
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert taken(site) == [(0,)]


BAD_BODIES = {
    "{}": 422,
    '{"amount": 1, "quota": "sms_messages"}': 422,
    '{"amount": 1, "spender": "user:u_grace"}': 422,
    '{"amount": 1, "owner": "user:u_grace"}': 422,
    '{"amount": 1, "user": "u_grace"}': 403,
    '{"Amount": 1}': 422,
    "[]": 422,
    "null": 422,
    "1": 422,
    "": 415,
    '{"amount": 1': 400,
    '{"amount": 1, "key": "\\ud800"}': 400,
    '{"amount": 1} {"amount": 2}': 400,
    '{"amount": 1, "amount": 0}': 422,
}


@pytest.mark.parametrize("text", BAD_BODIES)
def test_other_bodies_are_refused(site: Site, ada: ApiCaller, text: str) -> None:
    answer = written(ada, text, **({} if text else {"content-type": ""}))
    assert answer.status_code == BAD_BODIES[text], answer.text
    assert taken(site) == [(0,)]


def test_other_media_types_are_refused(site: Site, ada: ApiCaller) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/merge-patch+json"):
        assert written(ada, '{"amount": 1}', **{"content-type": kind}).status_code == 415
    assert taken(site) == [(0,)]


def test_the_greatest_amount_is_taken_where_there_is_room(site: Site, ada: ApiCaller) -> None:
    site.run("UPDATE plan_quotas SET limit_value = ? WHERE quota = 'voice_minutes'", 2**53 - 1)
    assert spend(ada, MOST)["used"] == MOST
    assert spend(ada, 1)["remaining"] == 2**53 - 2 - MOST
